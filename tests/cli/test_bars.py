"""The live bars of `rxupload send` on a terminal."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
from pathlib import Path

import pytest
from support.command_line import (
    PROCESS_PATIENCE,
    command,
    on_a_terminal,
    posix_only,
    pseudo_terminal,
    screens,
    started,
)
from support.scripted_server import PATIENCE, Server

from rxupload.testing import Connection


@posix_only
def test_a_terminal_gets_a_live_bar(server, tmp_path):
    """On a terminal a bar runs from 0 % to 100 % on one line, and the response stays below it."""
    file = tmp_path / "large.bin"
    file.write_bytes(bytes(5_000_000))
    status, drawn = on_a_terminal(command("send", server.url, file))

    first, *_, last = drawn.removeprefix("\r").split("\r")
    assert status == 0
    assert first.startswith("large.bin:   0%|")
    assert re.fullmatch(
        rf"large\.bin: 100%\|.*5\.00M/5\.00M.*\n{re.escape(str(file))}: 200 OK\nstored\n", last
    )


@posix_only
@pytest.mark.parametrize(("rows", "columns"), [(24, 100), (24, 40), (4, 40)])
def test_each_running_file_has_a_bar_above_the_one_for_all(server, tmp_path, rows, columns):
    """Each running file has a bar on a line of its own; the lines, the total and the summary stay."""
    files = [tmp_path / f"{number}.bin" for number in range(5)]
    for file in files:
        file.write_bytes(bytes(1_000_000))
    missing = tmp_path / "missing"
    meeting = threading.Barrier(2, timeout=PATIENCE)
    server.answer = lambda number: (200, b"stored") if number > 2 or meeting.wait() >= 0 else None
    args = command("send", server.url, *files, missing, "--concurrency", 2)
    status, drawn = on_a_terminal(args, rows, columns)

    assert status == 1
    *_, last = seen = list(screens(drawn))
    titles = [f"{number}.bin:" for number in range(5)]
    bars = [[line.split()[0] for line in screen if line.startswith(tuple(titles))] for screen in seen]
    assert max(map(len, bars)) == (2 if rows == 24 else 1)
    assert all(len(set(each)) == len(each) for each in bars)
    assert all(sum(line.startswith("6 files:") for line in screen) <= 1 for screen in seen)
    for screen in seen:
        kinds = ["6 files:" if line.startswith("6 files:") else line.split()[0] for line in screen]
        if "6 files:" in kinds:
            assert not set(titles) & set(kinds[kinds.index("6 files:") :]), "the total is not at the bottom"
    *outcomes, total, summary, failed = last
    assert sorted(outcomes) == sorted(
        [*(f"{file}: 200 OK" for file in files), f"{missing}: No such file or directory"]
    )
    assert re.match(r"6 files: 100%\|.*5\.00M/5\.00M", total)
    assert re.fullmatch(r"5 of 6 files sent, 5\.0 MB in .* s", summary)
    assert failed == f"failed: {missing}"


@posix_only
def test_with_a_size_unknown_the_bar_for_all_counts_files(server, photo, tmp_path):
    """As long as the size of a pipe is unknown, the bar for all counts files, and then bytes."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    server.answer = lambda number: (
        pipe.write_bytes(b"from a pipe") and (200, b"") if number == 1 else (200, b"")
    )
    args = command("send", server.url, pipe, photo, "--concurrency", 2)
    status, drawn = on_a_terminal(args)

    assert status == 0
    *_, last = seen = list(screens(drawn))
    assert any(re.search(r"2 files: .* 0/2 ", line) for screen in seen for line in screen)
    assert any(re.match(r"2 files: 100%\|.* 3\d\d/3\d\d ", line) for line in last)


@posix_only
@pytest.mark.parametrize("rows", [0, 2])
def test_a_terminal_without_room_gets_plain_lines(server, photo, rows):
    """Without room for bars, or with an unknown size of the terminal, plain lines are printed."""
    status, drawn = on_a_terminal(command("send", server.url, photo), rows)

    assert status == 0
    assert drawn == f"{photo}: 181 bytes (100 %)\n{photo}: 200 OK\nstored\n"


@posix_only
def test_three_rows_have_room_for_one_bar(server, photo):
    """On a terminal with three rows the files share one bar."""
    status, drawn = on_a_terminal(command("send", server.url, photo, photo), rows=3)

    assert status == 0
    assert "2 files: 100%|" in drawn
    assert "beach.jpg:  " not in drawn


@posix_only
def test_a_long_name_leaves_room_for_its_bar(server, tmp_path):
    """A name is shortened in the middle before its bar, and complete in the line that stays."""
    file = tmp_path / f"{'x' * 100}.tar.gz"
    file.write_bytes(b"data")
    _, drawn = on_a_terminal(command("send", server.url, file))

    assert "\rxxxxxxxxxxx..xxxx.tar.gz: 100%|█" in drawn
    assert f"{file}: 200 OK\n" in drawn


@posix_only
def test_a_retry_restarts_the_bar(server, tmp_path):
    """The bytes that a new attempt sends again are taken off the bar."""
    server.answer = lambda number: (503 if number == 1 else 200, b"")
    file = tmp_path / "large.bin"
    file.write_bytes(bytes(2_000_000))
    code = """
import functools, sys
from rxupload._cli import main, send
send.retry_backoff = functools.partial(send.retry_backoff, wait_initial=0.2, wait_jitter=0)
sys.exit(main())
"""
    args = [sys.executable, "-c", code, "send", server.url, str(file), str(file), "--retries", "1"]
    status, drawn = on_a_terminal([*args, "--concurrency", "1"])

    assert status == 0
    again = drawn.partition(f"{file}: 503 Service Unavailable (attempt 1 of 2)")[2].partition(
        f"{file}: 200 OK"
    )[0]
    assert "large.bin:   0%|" in again
    assert "2 files:   0%|" in again
    assert "4.00M/4.00M" in drawn


@posix_only
def test_ctrl_c_leaves_the_bar_for_all():
    """Ctrl-C removes the bars of the files, and nothing is drawn below the last lines."""
    have_begun = threading.Barrier(3, timeout=PROCESS_PATIENCE)

    def receive(connection: Connection) -> None:
        connection.read_head()
        connection.read(1)
        have_begun.wait()
        connection.wait_for_end()

    file = Path(__file__)
    with (
        Server(receive) as server,
        pseudo_terminal() as (terminal, drawn),
        started("send", server.url, file, file, stdout=terminal, stderr=terminal) as process,
    ):
        have_begun.wait()
        process.send_signal(signal.SIGINT)
        assert process.wait(PROCESS_PATIENCE) == 130

    *_, last = screens(drawn.decode().replace("\r\n", "\n"))
    assert [line[:8] for line in last] == ["2 files:", "0 of 2 f", "aborted"]


@posix_only
def test_a_bar_of_unknown_size_counts_bytes(server):
    """The size of standard input is unknown, so the bar counts bytes."""
    args = command("send", server.url, "-")
    status, drawn = on_a_terminal(["sh", "-c", 'printf hello | "$@"', "sh", *args])

    assert status == 0
    assert re.search(r"\r-: [0-9]+B \[", drawn)


@posix_only
def test_a_terminal_without_tqdm_gets_plain_lines(server, photo):
    """tqdm is optional: without it a terminal gets plain lines."""
    status, drawn = on_a_terminal(command("send", server.url, photo, without="tqdm"))

    assert status == 0
    assert drawn == f"{photo}: 181 bytes (100 %)\n{photo}: 200 OK\nstored\n"


@posix_only
def test_json_draws_no_bar(server, photo):
    """With --json only JSON lines are printed, on a terminal too."""
    status, drawn = on_a_terminal(command("send", server.url, photo, "--json"))

    assert status == 0
    events = [json.loads(line)["event"] for line in drawn.splitlines()]
    assert events == ["progress", "progress", "response", "summary"]
