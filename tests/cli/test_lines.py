"""The lines and the JSON that `rxupload send` prints."""

from __future__ import annotations

import json
import os
import re
import threading

import reactivex
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.command_line import (
    PROCESS_PATIENCE,
    command,
    in_own_process,
    on_a_terminal,
    posix_only,
    started,
)
from support.scripted_server import PATIENCE

from rxupload import ItemProgress, Progress
from rxupload._cli.reports import Lines, Style


def progress(*facts: int | None) -> ItemProgress:
    return ItemProgress(0, reactivex.never(), Progress(*facts))


def test_plain_lines_print_each_tenth(capsys):
    """Without a terminal, each tenth is printed once on standard error, and again in a second attempt."""
    lines = Lines(["a.jpg"], Style())
    for attempt in (1, 2):
        for sent in range(0, 1_000_001, 1000):
            lines.show(progress(sent, 1_000_000, attempt))

    expected = [f"a.jpg: {tenth}00.0 kB ({tenth}0 %)" for tenth in range(1, 10)] + ["a.jpg: 1.0 MB (100 %)"]
    assert capsys.readouterr() == ("", "\n".join([*expected, *expected, ""]))


def test_plain_lines_of_an_unknown_total_print_each_10_mb(capsys):
    """If the total is unknown, a line comes every 10 MB."""
    lines = Lines(["-"], Style())
    for sent in range(0, 25_000_000, 1_000_000):
        lines.show(progress(sent, None))

    assert capsys.readouterr() == ("", "-: 10.0 MB\n-: 20.0 MB\n")


def test_json_prints_every_event(cli, server, tmp_path):
    """--json prints each event as a JSON line: progress up to the total, the response with its body, the summary."""
    file = tmp_path / "large.bin"
    file.write_bytes(bytes(5_000_000))
    server.answer = lambda _: (201, '{"id": "é"}'.encode())
    result = cli("send", server.url, file, "--json")

    *progress, response, summary = map(json.loads, result.out.splitlines())
    assert (result.status, result.err) == (0, "")
    sent = [event["sent"] for event in progress]
    total = len(server.bodies[0])
    assert sent == sorted(set(sent))
    assert (sent[0], sent[-1]) == (0, total)
    for event in progress:
        assert event == {
            **event,
            "event": "progress",
            "index": 0,
            "file": str(file),
            "total": total,
            "attempt": 1,
        }
    assert response == {
        "event": "response",
        "index": 0,
        "file": str(file),
        "status": 201,
        "reason": "Created",
        "body": '{"id": "é"}',
        "notes": [],
    }
    assert summary.pop("seconds") > 0
    assert summary == {"event": "summary", "done": 1, "failed": 0, "sent": total}


def test_json_prints_errors_and_their_file(cli, server, photo, tmp_path):
    """With --json an error is an object too, and index and file name the file of each event."""
    missing = tmp_path / "missing.jpg"
    result = cli("send", server.url, missing, photo, "--json")

    *events, summary = map(json.loads, result.out.splitlines())
    assert result.status == 1
    assert (summary["done"], summary["failed"]) == (1, 1)
    assert [event for event in events if event["index"] == 0] == [
        {
            "event": "error",
            "index": 0,
            "file": str(missing),
            "type": "FileNotFoundError",
            "message": "No such file or directory",
        }
    ]
    others = [event for event in events if event["index"] == 1]
    assert [event["event"] for event in others][-1] == "response"
    assert {event["file"] for event in others} == {str(photo)}


def test_several_files_end_with_a_summary(cli, server, photo, tmp_path):
    """The summary counts the FILEs with a response below 400 and lists the others; one FILE needs none."""
    server.answer = lambda number: (200 if number < 3 else 404, b"")
    files = [photo, photo, photo, tmp_path / "missing"]

    *_, summary, failed = cli("send", server.url, *files, "--concurrency", 1).err.splitlines()
    assert re.fullmatch(r"2 of 4 files sent, [0-9]+ bytes in [0-9]+\.[0-9] s", summary)
    assert failed == f"failed: {photo}, {files[-1]}"
    assert "sent" not in cli("send", server.url, photo).err


def test_a_long_retry_after_is_printed_as_the_reason(cli, server, photo):
    """If Retry-After exceeds the longest wait, the error says so."""
    server.answer = lambda _: (503, b"", "Retry-After: 3600")
    result = cli("send", server.url, photo, "--retries", 4)

    assert f"{photo}: 503 Service Unavailable\n" in result.err
    assert result.err.splitlines()[-1] == (
        f"{photo}: Not tried again: Retry-After is 3600 s, and the longest wait is 30 s"
    )
    response = json.loads(cli("send", server.url, photo, "--retries", 4, "--json").out.splitlines()[-2])
    assert response["notes"] == ["Not tried again: Retry-After is 3600 s, and the longest wait is 30 s"]


@posix_only
def test_a_response_cannot_control_the_terminal(server, photo):
    """On a terminal, control characters of a response are escaped, and a long body is cut, and says so."""
    server.answer = lambda _: (200, b"\x1b]0;title\x07\r\nsecond line" + b"x" * 100_000)
    _, drawn = on_a_terminal(command("send", server.url, photo))
    shown = drawn[drawn.index("200 OK") :]

    assert "\x1b" not in shown
    assert "\n\\x1b]0;title\\x07\nsecond linexxx" in shown
    assert len(shown) < 2000
    assert shown.endswith("\n... 99023 more characters; -o PATH or a pipe gets all of them\n")


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    more=st.text(alphabet="aZ09:@/?#%&= '\"\\\n\x1bé", max_size=8),
    shape=st.sampled_from(["send", "no command", "no file", "stray option", "stray argument"]),
)
def test_credentials_are_never_printed(cli, refusing, photo, more, shape):
    """A URL's password and query are never printed, even after wrong usage."""
    url = refusing.replace("//", f"//user:s3cret{more}@") + f"?signature=s3cret{more}"
    args = {
        "send": ["send", url, photo],
        "no command": [url, photo],
        "no file": ["send", url],
        "stray option": ["send", url, photo, "--stray"],
        "stray argument": ["demo", photo, url],
    }[shape]
    result = cli(*args)

    assert result.status in (1, 2)
    assert result.err
    assert "s3cret" not in result.out + result.err


def test_a_filename_that_the_console_cannot_show_is_escaped(server, tmp_path):
    """If the output's encoding lacks characters of a name, they are escaped, and nothing fails."""
    file = tmp_path / "日本.txt"
    file.write_text("hello")
    env = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    result = in_own_process(command("send", server.url, file), env=env)

    assert result.status == 0
    assert "\\u65e5\\u672c.txt: 200 OK" in result.err


@posix_only
def test_a_closed_standard_output_ends_the_command_quietly(server, photo):
    """When standard output is closed (`| head`), the upload ends without a traceback."""
    gone = threading.Event()
    server.answer = lambda _: (200, b"") if gone.wait(PATIENCE) else None
    with started("send", server.url, photo, "--json") as process:
        process.stdout.readline()
        process.stdout.close()
        gone.set()

        assert process.wait(PROCESS_PATIENCE) == 1
        assert process.stderr.read() == ""
