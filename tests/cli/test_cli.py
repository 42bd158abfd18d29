"""The command: what it sends, what it prints and where, and its exit status."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import reactivex
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.command_line import (
    PROCESS_PATIENCE,
    Recorder,
    command,
    in_own_process,
    interrupt,
    on_a_terminal,
    posix_only,
    pseudo_terminal,
    screens,
    started,
)
from support.scripted_server import PATIENCE, Connection, Server, header

import rxupload
from rxupload import ItemProgress, Progress, receiver
from rxupload._cli import send
from rxupload._cli.reports import Lines, Style
from rxupload._cli.values import size

# send: the request


def test_send_uploads_the_file_as_a_form_does(cli, server, photo):
    """The file arrives as multipart/form-data; the response goes to standard output, and the status is 0."""
    result = cli("send", server.url, photo)

    assert (result.status, result.out) == (0, "stored")
    assert result.err.splitlines()[-1] == f"{photo}: 200 Status"
    ((head, body),) = server.requests
    assert header(head, b"content-type").startswith(b"multipart/form-data; boundary=")
    assert (
        b'name="file"; filename="beach.jpg"\r\nContent-Type: image/jpeg\r\n\r\n\xff\xd8 a beach\r\n' in body
    )


def test_send_passes_on_name_form_and_headers(cli, server, photo):
    """--name names the file's field; --form and --header may be repeated, and add fields and headers."""
    options = ["--name", "photo", "--form", "tag=a", "--form", "tag=b=c", "--form", "note="]
    result = cli("send", server.url, photo, *options, "--header", "X-Album: summer: 1", "--header", "X-Day:1")

    assert result.status == 0
    ((head, body),) = server.requests
    assert b'name="photo"; filename="beach.jpg"' in body
    for field in (b'"tag"\r\n\r\na\r\n', b'"tag"\r\n\r\nb=c\r\n', b'"note"\r\n\r\n\r\n'):
        assert field in body
    assert (header(head, b"x-album"), header(head, b"x-day")) == (b"summer: 1", b"1")


def test_send_uploads_each_file_in_its_own_request(cli, server, tmp_path):
    """Several FILEs are several requests, each with its own line."""
    files = [tmp_path / f"{number}.txt" for number in range(3)]
    for file in files:
        file.write_text(file.name)

    result = cli("send", server.url, *files)

    assert result.status == 0
    assert sorted(result.out.splitlines()) == [f"{file}: 200 Status" for file in files]
    assert len(server.requests) == 3
    for file in files:
        assert sum(file.name.encode() in body for body in server.bodies) == 1


def test_files_are_uploaded_at_the_same_time(cli, server, photo):
    """With --concurrency 3, three requests run together: none is answered before all have come."""
    meeting = threading.Barrier(3, timeout=PATIENCE)
    server.answer = lambda _: (200, b"") if meeting.wait() >= 0 else None

    assert cli("send", server.url, *[photo] * 6, "--concurrency", 3).status == 0


def test_limit_rate_is_one_limit_for_all_files(cli, server, tmp_path):
    """--limit-rate limits all FILEs together, however many run at once."""
    file = tmp_path / "half.bin"
    file.write_bytes(bytes(500_000))
    began = time.monotonic()
    result = cli("send", server.url, file, file, "--limit-rate", "500kB")

    assert time.monotonic() - began > 1.5  # 2 s, less what may go at once
    assert result.status == 0
    assert [body.count(bytes(500_000)) for body in server.bodies] == [1, 1]


def test_standard_input_is_uploaded_for_a_dash(server):
    """FILE - uploads standard input, without a known size, under the filename "upload"."""
    result = in_own_process(command("send", server.url, "-"), input=b"from a pipe")

    assert (result.status, result.out) == (0, "stored")
    assert result.err.splitlines()[-1] == "-: 200 Status"
    (body,) = server.bodies
    assert b'filename="upload"' in body
    assert b"\r\n\r\nfrom a pipe\r\n" in body


def test_insecure_accepts_any_certificate(cli, photo):
    """An untrusted certificate is an error unless --insecure is given."""
    recorder = Recorder()
    with Server(recorder, tls=True) as server:
        refused = cli("send", server.url, photo)
        accepted = cli("send", server.url, photo, "--insecure")

    assert refused.status == 1
    assert "certificate verify failed" in refused.err
    assert accepted.status == 0
    assert len(recorder.requests) == 1


# send: errors


@pytest.mark.parametrize(("code", "status"), [(204, 0), (302, 1), (304, 1), (399, 1), (400, 1), (500, 1)])
def test_the_status_says_whether_the_server_took_every_file(cli, server, photo, code, status):
    """Every status is printed; the command fails for those that are not 2xx."""
    server.answer = lambda _: (code, b"")
    result = cli("send", server.url, photo)

    assert result.status == status
    assert f"{photo}: {code}" in result.err


def test_a_redirect_is_named_and_not_followed(cli, server, photo):
    """Without -L a redirect is a failure, which names the Location without its secrets, as text and as JSON."""
    server.answer = lambda _: (307, b"", "Location: http://user:hush@127.0.0.1:1/there?token=hush")
    note = "The server redirects to http://127.0.0.1:1/there; "
    note += "follow_redirects=True follows it, as -L of the command does"
    result = cli("send", server.url, photo)
    lines = cli("send", server.url, photo, "--json")

    assert (result.status, lines.status) == (1, 1)
    assert f"{photo}: {note}\n" in result.err
    assert "hush" not in result.out + result.err
    response, summary = (json.loads(line) for line in lines.out.splitlines()[-2:])
    assert (response["event"], response["notes"]) == ("response", [note])
    assert (summary["done"], summary["failed"]) == (0, 1)


@pytest.mark.parametrize("option", ["-L", "--location", "--same-origin"])
def test_a_redirect_is_followed(cli, server, photo, option):
    """With -L, --location or --same-origin the file goes where the redirect leads."""
    server.answer = lambda number: (307, b"", "Location: /there") if number == 1 else (200, b"stored")
    result = cli("send", server.url, photo, option)

    assert (result.status, result.out) == (0, "stored")
    assert [head.split()[1] for head, _ in server.requests] == [b"/", b"/there"]


@pytest.mark.parametrize("options", [["--same-origin"], ["--same-origin", "-L"], ["-L", "--same-origin"]])
def test_same_origin_sends_nothing_elsewhere(cli, server, photo, options):
    """With --same-origin a redirect to another origin is an error, also beside -L."""
    server.answer = lambda _: (307, b"", "Location: http://127.0.0.1:1/there")
    result = cli("send", server.url, photo, *options)

    assert (result.status, result.out) == (1, "")
    assert "another origin, http://127.0.0.1:1/there; that is not followed" in result.err


def test_one_bad_response_is_a_failure(cli, server, photo):
    """The status is 0 only if every response is 2xx; all files are sent anyway."""
    server.answer = lambda number: (500 if number == 2 else 200, b"")

    assert cli("send", server.url, *[photo] * 3, "--concurrency", 1).status == 1
    assert len(server.requests) == 3


def test_unreadable_files_do_not_stop_the_others(cli, server, photo, tmp_path):
    """A missing file and a directory get a line each on standard error, and the good file is sent."""
    missing = tmp_path / "missing.jpg"
    result = cli("send", server.url, missing, tmp_path, photo)

    assert result.status == 1
    assert f"{missing}: No such file or directory\n" in result.err
    assert re.search(rf"^{re.escape(str(tmp_path))}: .*(directory|denied)", result.err, re.MULTILINE)
    assert result.out == f"{photo}: 200 Status\n"


def test_a_refused_connection_is_one_sentence(cli, refusing, photo):
    """A network error is one line without a traceback, and the status is 1."""
    result = cli("send", refusing, photo)

    assert result.status == 1
    assert result.out == ""
    assert re.fullmatch(rf"{re.escape(str(photo))}: could not connect: .+\n", result.err)


def test_timeout_ends_an_upload_that_takes_too_long(cli, stalled, photo):
    """--timeout limits the whole upload, and --retries does not start again after it."""
    url, listener = stalled
    result = cli("send", url, photo, "--timeout", 0.2, "--retries", 5)

    assert result.status == 1
    assert "not finished within 0.2 s" in result.err
    listener.setblocking(False)
    listener.accept()[0].close()
    with pytest.raises(BlockingIOError):
        listener.accept()


@pytest.mark.parametrize(("retries", "status", "requests"), [(0, 1, 1), (1, 1, 2), (2, 0, 3), (9, 0, 3)])
@pytest.mark.parametrize("failure", [None, (503, b"")])
def test_retries_are_further_attempts(cli, server, photo, no_waits, failure, retries, status, requests):
    """--retries N makes up to N further attempts after network errors and temporary statuses."""
    server.answer = lambda number: failure if number < 3 else (200, b"")
    result = cli("send", server.url, photo, "--retries", retries)

    assert result.status == status
    assert len(server.requests) == requests
    assert all(photo.read_bytes() in body for body in server.bodies)


def test_each_failure_before_the_last_is_printed_with_its_number(cli, server, photo, no_waits):
    """The error is printed on standard error before the wait, with the number of attempts."""
    server.answer = lambda number: [None, (503, b"busy"), (500, b"sorry")][number - 1]
    result = cli("send", server.url, photo, "--retries", 2)

    assert result.status == 1
    assert result.out == "sorry"
    assert result.err.splitlines()[-1] == f"{photo}: 500 Status"
    first, second = [line for line in result.err.splitlines() if "attempt" in line]
    assert first.startswith(f"{photo}: The server closed the connection before it answered")
    assert first.endswith(" (attempt 1 of 3)")
    assert second == f"{photo}: 503 Status (attempt 2 of 3)"


@pytest.mark.parametrize("retries", [0, 2])
def test_with_retries_used_up_the_last_response_is_printed(cli, server, photo, no_waits, retries):
    """When the retries are used up, the last response is the outcome, as without --retries."""
    server.answer = lambda _: (503, b"busy")
    result = cli("send", server.url, photo, "--retries", retries, "--json")

    *progress, response, summary = map(json.loads, result.out.splitlines())
    assert response == {
        "event": "response",
        "index": 0,
        "file": str(photo),
        "status": 503,
        "reason": "Status",
        "body": "busy",
        "notes": [],
    }
    assert {event["attempt"] for event in progress} == set(range(1, retries + 2))
    assert (result.status, summary["done"], summary["failed"]) == (1, 0, 1)


@pytest.mark.parametrize("proxy", ["nonsense://user:s3cret@h", "http://user:s3cret@h:port"])
@pytest.mark.parametrize("option", ["--insecure", "--json"])
def test_an_invalid_proxy_variable_is_one_sentence(server, photo, proxy, option):
    """Proxy variables are checked as well: one line without credentials, and status 1."""
    env = {**os.environ, "HTTP_PROXY": proxy, "http_proxy": proxy, "NO_PROXY": "", "no_proxy": ""}
    result = in_own_process(command("send", server.url, photo, option), env=env)

    assert result.status == 1
    has_summary = option == "--json"
    assert len((result.out + result.err).splitlines()) == 1 + has_summary
    assert "s3cret" not in result.out + result.err


def test_other_responses_and_files_are_not_retried(cli, server, photo, tmp_path, no_waits):
    """Only temporary failures are retried: neither a 404 nor a missing file."""
    server.answer = lambda _: (404, b"")
    result = cli("send", server.url, photo, tmp_path / "missing", "--retries", 3)

    assert result.status == 1
    assert "attempt" not in result.err
    assert len(server.requests) == 1


def test_standard_input_is_sent_once(server):
    """Standard input cannot be read again, so --retries does not apply, and the first error is printed."""
    server.answer = lambda _: None
    result = in_own_process(command("send", server.url, "-", "--retries", 3), input=b"from a pipe")

    assert result.status == 1
    assert result.err.startswith("-: The server closed the connection before it answered;")
    assert len(server.requests) == 1


@posix_only
def test_a_named_pipe_is_sent_once(cli, server, tmp_path, no_waits):
    """A named pipe cannot be read again either."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=[b"from a pipe"], daemon=True)
    writer.start()
    server.answer = lambda _: (503, b"")
    result = cli("send", server.url, pipe, "--retries", 3)
    writer.join(PATIENCE)

    assert (result.status, result.out) == (1, "")
    assert result.err.splitlines()[-1] == f"{pipe}: 503 Status"
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        ([], "required"),
        (["sned", "http://h/", "f"], "invalid choice"),
        (["send", "http://h/"], "FILE"),
        (["send", "a-word", "f"], "http:// or https://"),
        (["send", __file__, "f"], "it is a file; the URL comes first"),
        (["send", "::1:1", "f"], "in brackets, as in http://[::1]:8000/"),
        (["send", "http://::1/", "f"], "in brackets"),
        (["send", "https://u:p@fe80::1:1/", "f"], "in brackets"),
        (["send", "ftp://h/", "f"], "http:// or https://"),
        (["send", "http://", "f"], "http:// or https://"),
        (["send", "http://h:port/", "f"], "http:// or https://"),
        (["send", "http://h/", "f", "--form", "novalue"], "'='"),
        (["send", "http://h/", "f", "--header", "novalue"], "':'"),
        (["send", "http://h/", "f", "--header", "X: a\nb"], "CR, LF"),
        (["send", "http://h/", "f", "--header", "two words: a"], "header name"),
        (["send", "http://h/", "f", "--name", ""], "name"),
        (["send", "http://h/", ""], "file"),
        (["send", "http://h/", "-", "-"], "only once"),
        (
            ["send", "http://h/", "f", "--concurrency", "0"],
            "--concurrency: expected a whole number of 1 or more",
        ),
        (["send", "http://h/", "f", "--concurrency", "many"], "--concurrency"),
        (["send", "http://h/", "f", "--retries", "-1"], "--retries"),
        (["send", "http://h/", "f", "--limit-rate", "0"], "--limit-rate: must be more than 0"),
        (["send", "http://h/", "f", "--limit-rate", "0MB"], "--limit-rate: must be more than 0"),
        (
            ["send", "http://h/", "f", "--limit-rate", "9" * 400],
            "--limit-rate: must be more than 0, and finite",
        ),
        (["send", "http://h/", "f", "--limit-rate", "-1"], "--limit-rate"),
        (["send", "http://h/", "f", "--limit-rate", "fast"], "256MiB"),
        (
            ["send", "http://h/", "f", "--timeout", "0"],
            "--timeout: expected a number of seconds, more than 0",
        ),
        (["send", "http://h/", "f", "--timeout", "nan"], "--timeout: expected a number of seconds"),
        (["send", "http://h/", "f", "--timeout", "soon"], "--timeout: expected a number of seconds"),
        (["send", "http://h/", "f", "--limit", "2M"], "--limit"),
        (["demo", "--size", "big"], "256MiB"),
        (["demo", "--size", "-1"], "--size"),
        (["demo", "f", "--size", "10"], "--size is for random bytes"),
        (["receive", "--port", "65536"], "--port: expected a whole number from 0 to 65535"),
        (["receive", "--max-size", "1.5.2"], "256MiB"),
        (["receive", "--allow-host", "http://a.example"], "--allow-host"),
    ],
)
def test_wrong_usage_is_status_2(cli, args, complaint):
    """Invalid arguments end with status 2 and the reason, before anything is sent."""
    result = cli(*args)

    assert result.status == 2
    assert result.out == ""
    assert result.err.startswith("usage: rxupload")
    assert complaint in result.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["http://a..b/", "f"], "url: "),
        (["http://h/", ""], "file "),
        (["http://h/", "-", "-"], "standard input"),
    ],
)
def test_wrong_usage_that_upload_finds_prints_the_usage_of_send(cli, args, complaint):
    """An error that only upload() finds is printed like other wrong usage of the subcommand."""
    result = cli("send", *args)

    assert result.status == 2
    assert result.err.startswith("usage: rxupload send ")
    assert result.err.splitlines()[-1].startswith(f"rxupload send: error: {complaint}")


# send: output


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
        "reason": "Status",
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

    assert f"{photo}: 503 Status\n" in result.err
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
    shown = drawn[drawn.index("200 Status") :]

    assert "\x1b" not in shown
    assert "\n\\x1b]0;title\\x07\nsecond linexxx" in shown
    assert len(shown) < 2000
    assert shown.endswith("\n... 99023 more characters; -o PATH or a pipe gets all of them\n")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
    assert "\\u65e5\\u672c.txt: 200 Status" in result.err


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


# send: Ctrl-C


@posix_only
def test_ctrl_c_aborts_and_says_so(stalled, tmp_path):
    """Ctrl-C during a stalled upload ends the command at once with status 130."""
    url, listener = stalled
    file = tmp_path / "large.bin"
    with file.open("wb") as sparse:
        sparse.truncate(1 << 30)
    with started("send", url, file, "--json") as process:
        assert json.loads(process.stdout.readline())["sent"] == 0
        result = interrupt(process)

    assert result.status == 130
    assert result.err == "aborted\n"
    assert "response" not in result.out
    connection, _ = listener.accept()
    with connection, contextlib.suppress(ConnectionResetError):
        while connection.recv(1 << 20):
            pass


@posix_only
def test_ctrl_c_prints_what_was_sent(tmp_path):
    """Ctrl-C among several FILEs prints how many the server has, and which ones it refused."""
    files = [tmp_path / name for name in ("taken", "refused", "held")]
    for file in files:
        file.write_text(file.name)

    def receive(connection: Connection) -> None:
        while head := connection.read_head():
            body = connection.read_body(head)
            if b"held" in body:
                connection.wait_for_end()
                return
            connection.respond(500 if b"refused" in body else 200)

    with Server(receive) as server, started("send", server.url, *files, "--concurrency", 1) as process:
        while "refused: 500" not in (line := process.stdout.readline()):
            assert line
        result = interrupt(process)

    assert (result.status, result.err.splitlines()[-3:]) == (
        130,
        ["1 of 3 files sent", f"failed: {files[1]}", "aborted"],
    )


def test_ctrl_c_after_the_summary(cli, server, photo, monkeypatch):
    """Ctrl-C while the command ends adds nothing to the summary."""

    def interrupted(source: Any) -> Any:
        rxupload.run(source)
        raise KeyboardInterrupt

    monkeypatch.setattr(send, "run", interrupted)
    result = cli("send", server.url, photo, photo)
    assert result.status == 130
    assert result.err.count("files sent") == 1
    assert result.err.endswith("\naborted\n")


@posix_only
def test_ctrl_c_while_standard_input_is_silent():
    """Ctrl-C ends the command even during the wait for standard input."""
    has_begun = threading.Event()

    def receive(connection: Connection) -> None:
        connection.read_head()
        connection.read(1 << 19)
        has_begun.set()
        connection.wait_for_end()

    with Server(receive) as server, started("send", server.url, "-", stdin=subprocess.PIPE) as process:
        process.stdin.write("x" * (1 << 20))
        process.stdin.flush()
        assert has_begun.wait(PROCESS_PATIENCE)
        result = interrupt(process)

    assert (result.status, result.err) == (130, "aborted\n")


@posix_only
def test_ctrl_c_ends_the_wait_for_a_retry(server, photo):
    """Ctrl-C ends the command during the wait for a retry as well."""
    server.answer = lambda _: (503, b"", "Retry-After: 30")
    with started("send", server.url, photo, "--retries", 1) as process:
        while "attempt 1 of 2" not in (line := process.stderr.readline()):
            assert line
        result = interrupt(process)

    assert result == (130, "", "aborted\n")


# The live bars


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
        rf"large\.bin: 100%\|.*5\.00M/5\.00M.*\n{re.escape(str(file))}: 200 Status\nstored\n", last
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
        [*(f"{file}: 200 Status" for file in files), f"{missing}: No such file or directory"]
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
    assert drawn == f"{photo}: 181 bytes (100 %)\n{photo}: 200 Status\nstored\n"


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
    assert f"{file}: 200 Status\n" in drawn


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
    again = drawn.partition(f"{file}: 503 Status (attempt 1 of 2)")[2].partition(f"{file}: 200 Status")[0]
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
    assert drawn == f"{photo}: 181 bytes (100 %)\n{photo}: 200 Status\nstored\n"


@posix_only
def test_json_draws_no_bar(server, photo):
    """With --json only JSON lines are printed, on a terminal too."""
    status, drawn = on_a_terminal(command("send", server.url, photo, "--json"))

    assert status == 0
    events = [json.loads(line)["event"] for line in drawn.splitlines()]
    assert events == ["progress", "progress", "response", "summary"]


# demo


def test_demo_uploads_random_bytes_and_checks_them(cli):
    """The demo prints two equal SHA-256 sums, and removes its file."""
    result = cli("demo", "--size", "1MiB")

    assert result.status == 0
    sent, received = re.findall(r"\b[0-9a-f]{64}\b", result.out)
    assert sent == received
    assert re.search(r"^Response  200 OK after [0-9.]+ s, [0-9.]+ MB/s$", result.out, re.MULTILINE)
    assert result.out.endswith("OK        every byte has arrived\n")
    path = re.search(r"^File      (.*), 1\.0 MB of random bytes", result.out, re.MULTILINE)[1]
    assert not Path(path).parent.exists()


def test_demo_uploads_the_given_file(cli, photo):
    """`demo FILE` uploads that file, and leaves it in its place."""
    result = cli("demo", photo)

    assert result.status == 0
    assert result.out.count(hashlib.sha256(photo.read_bytes()).hexdigest()) == 2
    assert photo.exists()


def test_demo_uses_no_proxy(refusing):
    """The receiver is on this machine, so the proxy variables do not apply."""
    env = {**os.environ, "HTTP_PROXY": refusing, "http_proxy": refusing, "NO_PROXY": "", "no_proxy": ""}

    assert in_own_process(command("demo", "--size", "1KiB"), env=env).status == 0


def test_demo_uploads_an_empty_file(cli):
    """An empty file works too."""
    assert cli("demo", "--size", "0").status == 0


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ((200, json.dumps({"files": [{"sha256": "0" * 64}]}).encode()), "other bytes than were sent"),
        ((500, b"disk full"), "the receiver answered 500 Status: disk full"),
    ],
)
def test_demo_fails_when_other_bytes_arrive(cli, server, monkeypatch, answer, complaint):
    """If the receiver got other bytes or none, the demo fails and says so."""
    server.answer = lambda _: answer
    monkeypatch.setattr(receiver, "running", lambda: contextlib.nullcontext(server.url))
    result = cli("demo", "--size", "1KiB")

    assert result.status == 1
    assert complaint in result.err
    assert "every byte" not in result.out


def test_demo_without_its_file_is_one_sentence(cli, tmp_path):
    """A missing FILE is one line, with status 1."""
    missing = tmp_path / "missing.jpg"

    assert cli("demo", missing) == (1, "", f"rxupload: {missing}: No such file or directory\n")


@pytest.mark.parametrize(
    ("subcommand", "extra"), [("demo", "rxupload[demo]"), ("receive", "rxupload[receiver]")]
)
def test_without_the_extra_the_command_says_what_to_install(subcommand, extra):
    """Without the receiver's packages, demo and receive print the pip command that installs them."""
    result = in_own_process(command(subcommand, without="uvicorn"))

    assert result.status == 1
    assert extra in result.err
    assert len(result.err.splitlines()) == 1


@posix_only
def test_demo_draws_a_live_bar():
    """On a terminal the demo shows a bar with the file's own name, between its first and last lines."""
    status, drawn = on_a_terminal(command("demo", "--size", "5MB"))

    assert status == 0
    assert re.search(
        r"\nReceiver .*\n\rrandom\.bin:   0%\|.*\rrandom\.bin: 100%\|.*\nResponse  200 OK", drawn
    )


@posix_only
def test_ctrl_c_in_the_demo_leaves_nothing_behind():
    """Ctrl-C ends the demo with status 130, and its random bytes are removed."""
    with started("demo") as process:
        path = Path(process.stdout.readline().removeprefix("File      ").split(", ")[0])
        result = interrupt(process)

    assert result.status == 130
    assert result.err.endswith("aborted\n")
    assert not path.parent.exists()


# receive


@posix_only
def test_receive_takes_uploads_until_ctrl_c(cli, photo, tmp_path):
    """`receive` prints its address, stores uploads, refuses those that are too large, and ends with Ctrl-C."""
    large = tmp_path / "large.bin"
    large.write_bytes(bytes(20_000))
    inbox = tmp_path / "inbox"
    with started("receive", "--port", 0, "--directory", inbox, "--max-size", "10kB") as process:
        url = re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())[0]
        stored = cli("send", url, photo)
        refused = cli("send", url, large)
        result = interrupt(process)

    assert (stored.status, refused.status, result.status, result.err) == (0, 1, 0, "")
    assert "413" in refused.err
    assert {file.name: file.read_bytes() for file in inbox.iterdir()} == {"beach.jpg": photo.read_bytes()}


def test_receive_stores_in_uploads_unless_told_otherwise(photo, cli, tmp_path):
    """The default directory is ./uploads, which is made at the start; the current directory stays as it is."""
    (tmp_path / "here").mkdir()
    with started("receive", "--port", 0, cwd=tmp_path / "here") as process:
        line = process.stdout.readline()
        assert list((tmp_path / "here").iterdir()) == [tmp_path / "here" / "uploads"]
        assert cli("send", re.search(r"http://\S+", line)[0], photo).status == 0

    assert f" into {tmp_path / 'here' / 'uploads'} " in line
    assert [path.name for path in tmp_path.glob("here/**/*")] == ["uploads", "beach.jpg"]


def test_receive_lets_in_the_hosts_that_are_allowed(cli, photo, tmp_path):
    """--allow-host may be repeated; other pages are refused with a text that names it."""
    allowed = ["--allow-host", "one.example", "--allow-host", "two.example"]
    with started("receive", "--port", 0, "--directory", tmp_path / "inbox", *allowed) as process:
        url = re.search(r"http://\S+", process.stdout.readline())[0]
        results = [
            cli("send", url, photo, "--header", f"Origin: https://{name}.example")
            for name in ("one", "two", "three")
        ]

    assert [result.status for result in results] == [0, 0, 1]
    assert "--allow-host" in results[2].out


def test_receive_on_a_taken_port_names_the_option(cli, stalled, tmp_path):
    """A port that is in use is one line that names --port, with status 1."""
    port = stalled[1].getsockname()[1]
    result = cli("receive", "--port", port, "--directory", tmp_path)

    assert result.status == 1
    assert re.fullmatch(rf"rxupload: port {port} of 127\.0\.0\.1 is in use: .*--port.*\n", result.err)


def test_receive_into_a_directory_that_cannot_be_is_not_a_matter_of_the_port(cli, photo):
    """An error of the directory names the directory."""
    result = cli("receive", "--port", 0, "--directory", photo)

    assert (result.status, result.out) == (1, "")
    assert str(photo) in result.err
    assert "--port" not in result.err


def test_help_of_receive_documents_its_directory_and_hosts(cli):
    """`receive --help` says where files go, and how to let a host in."""
    text = " ".join(cli("receive", "--help").out.split())

    assert "where to store the files (./uploads)" in text
    assert "--allow-host NAME" in text


@given(
    number=st.integers(0, 10**6),
    unit=st.sampled_from(["", "B", "k", "KB", "KiB", "mb", "MiB", "G", "gib", "TiB"]),
)
@settings(max_examples=50)
def test_sizes_are_decimal_or_binary(number, unit):
    """KB is 1000 bytes and KiB is 1024, in any case and with or without the B."""
    prefix = unit.upper().rstrip("B")
    base = 1024 if prefix.endswith("I") else 1000
    assert size(f"{number}{unit}") == number * base ** ["", "K", "M", "G", "T"].index(prefix.rstrip("I"))


# Help, version, imports


def test_version(cli):
    """--version prints the package's version."""
    assert cli("--version") == (0, f"rxupload {rxupload.__version__}\n", "")


def test_help_shows_examples(cli):
    """--help names the three commands, each with an example."""
    result = cli("--help")

    assert result.status == 0
    for subcommand in ("demo", "send", "receive"):
        assert f"  rxupload {subcommand}" in result.out


def test_help_of_send_documents_statuses_and_json(cli):
    """`send --help` lists every exit status, and each key of the JSON lines."""
    text = cli("send", "--help").out

    words = "exit status 130 event index file sent total attempt reason body notes type message done failed seconds"
    for word in words.split():
        assert re.search(rf"\b{word}\b", text)


@pytest.mark.parametrize("args", [["--version"], ["demo", "--help"]])
def test_the_module_runs_as_the_command(args):
    """`python -m rxupload` is the command, under its own name."""
    result = in_own_process(command(*args))

    assert result.status == 0
    assert result.out.startswith(("rxupload ", "usage: rxupload demo"))


def test_importing_the_library_imports_no_command():
    """`import rxupload` imports neither the command nor the extras, and --help imports no extras either."""
    code = """
import sys
import rxupload
assert not {"rxupload._cli", "rxupload.receiver", "tqdm", "uvicorn", "starlette"} & set(sys.modules)
from rxupload._cli import main
try:
    main(["--help"])
except SystemExit:
    pass
assert not {"rxupload.receiver", "tqdm", "uvicorn", "starlette"} & set(sys.modules)
"""
    assert in_own_process([sys.executable, "-c", code]).err == ""
