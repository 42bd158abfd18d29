"""`rxupload demo --resume` kills the process that uploads, and goes on in another one."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.command_line import command, in_own_process, interrupt, on_a_terminal, posix_only, started

from rxupload import receiver

PROCESSES = r"""Process   (\d+) killed after ([0-9.]+) MB
Process   (\d+) went on at ([0-9.]+) MB, and sent ([0-9.]+) MB
Response  204 No Content
SHA-256   ([0-9a-f]{64}) sent
          ([0-9a-f]{64}) received
OK        every byte has arrived, and 0 bytes were sent twice
"""


def test_the_second_process_goes_on_where_the_first_one_was_killed(cli, state):
    """The sums are equal, no byte goes twice, and nothing stays."""
    result = cli("demo", "--resume", "--size", "8MB")

    assert result.status == 0
    found = re.search(PROCESSES, result.out)
    first, killed, second, start, sent, sum_sent, sum_received = found.groups()
    assert first != second
    assert 4.0 <= float(killed) <= float(start) < 8.0
    assert float(start) + float(sent) == pytest.approx(8.0, abs=0.2)
    assert sum_sent == sum_received
    path = re.search(r"^File      (.*), 8\.0 MB of random bytes", result.out, re.MULTILINE)[1]
    assert not Path(path).parent.exists()
    assert not state.exists()


def test_a_file_of_the_user_stays(cli, tmp_path):
    """`demo --resume FILE` uploads that file, and leaves it in its place."""
    path = tmp_path / "film.mp4"
    path.write_bytes(bytes(1 << 20))
    result = cli("demo", "--resume", path)
    assert (result.status, path.exists()) == (0, True)


@pytest.mark.parametrize("args", [["--size", "1KiB"], [__file__]])
def test_a_small_file_is_refused(cli, args):
    """It would go with one request, so nothing could be shown."""
    result = cli("demo", "--resume", *args)
    assert (result.status, result.out, "--resume needs 1 MiB or more" in result.err) == (2, "", True)


@pytest.mark.slow
def test_it_needs_no_more_than_the_demo():
    """Without tqdm, lines are printed; without the receiver, the extra is named."""
    assert in_own_process(command("demo", "--resume", "--size", "1MiB", without="tqdm")).status == 0
    result = in_own_process(command("demo", "--resume", without="uvicorn"))
    assert (result.status, "rxupload[demo]" in result.err) == (1, True)


@pytest.mark.slow
def test_it_uses_no_proxy(refusing):
    """The receiver is on this machine, so the proxy variables do not apply."""
    env = {**os.environ, "HTTP_PROXY": refusing, "http_proxy": refusing, "NO_PROXY": "", "no_proxy": ""}
    assert in_own_process(command("demo", "--resume", "--size", "1MiB"), env=env).status == 0


@pytest.mark.slow
def test_it_fails_when_other_bytes_arrive(cli, monkeypatch, tmp_path):
    """A receiver that stores other bytes is found out."""
    running = receiver.running

    @contextmanager
    def elsewhere(_inbox):
        _inbox.mkdir()
        (_inbox / "random.bin").write_bytes(b"other")
        with running(tmp_path / "there") as url:
            yield url

    monkeypatch.setattr(receiver, "running", elsewhere)
    result = cli("demo", "--resume", "--size", "1MiB")
    assert (
        result.status,
        result.err.endswith("rxupload: the receiver got other bytes than were sent\n"),
    ) == (1, True)
    assert "every byte" not in result.out


@pytest.mark.slow
def test_it_fails_when_the_receiver_refuses(cli, monkeypatch):
    """What the process that uploads was told is printed."""
    running = receiver.running
    monkeypatch.setattr(receiver, "running", lambda inbox: running(inbox, max_size=1000))
    result = cli("demo", "--resume", "--size", "1MiB")
    assert result.status == 1
    assert re.search(r"rxupload: process \d+: the receiver answered 413 ", result.err)


@posix_only
@pytest.mark.slow
def test_the_bar_of_the_second_process_begins_half_way():
    """What was there before is named on it."""
    status, drawn = on_a_terminal(command("demo", "--resume", "--size", "8MB"))
    assert status == 0
    assert re.search(r"random\.bin:   0%\|.*\nProcess   \d+ killed", drawn, re.DOTALL)
    assert re.search(r"\rrandom\.bin: 100%\|[^\r]*8\.00M/8\.00M[^\r]* MB before\]", drawn)


@posix_only
def test_ctrl_c_ends_both_processes():
    """Ctrl-C ends the demo with status 130, and neither the upload nor the random bytes stay."""
    with started("demo", "--resume", "--size", "64MB") as process:
        path = Path(process.stdout.readline().removeprefix("File      ").split(", ")[0])
        process.stdout.readline()
        while "%" not in (line := process.stderr.readline()):
            assert line
        result = interrupt(process)  # it reads to the end of standard error, which both processes have
    assert result.status == 130
    assert result.err.endswith("aborted\n")
    assert not path.parent.exists()
