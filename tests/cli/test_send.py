"""`rxupload send`: the request, retries, and what its status says."""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
import time

import pytest
from support.command_line import (
    Recorder,
    command,
    in_own_process,
    posix_only,
)
from support.scripted_server import PATIENCE, Server, header


def test_send_uploads_the_file_as_a_form_does(cli, server, photo):
    """The file arrives as multipart/form-data; the response goes to standard output, and the status is 0."""
    result = cli("send", server.url, photo)

    assert (result.status, result.out) == (0, "stored")
    assert result.err.splitlines()[-1] == f"{photo}: 200 OK"
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
    assert sorted(result.out.splitlines()) == [f"{file}: 200 OK" for file in files]
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
    assert result.err.splitlines()[-1] == "-: 200 OK"
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


# Errors


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
    assert result.out == f"{photo}: 200 OK\n"


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
    connections = 0  # none where the time was over before it could connect
    with contextlib.suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
            connections += 1
    assert connections <= 1


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
    assert result.err.splitlines()[-1] == f"{photo}: 500 Internal Server Error"
    first, second = [line for line in result.err.splitlines() if "attempt" in line]
    assert first.startswith(f"{photo}: The server closed the connection before it answered")
    assert first.endswith(" (attempt 1 of 3)")
    assert second == f"{photo}: 503 Service Unavailable (attempt 2 of 3)"


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
        "reason": "Service Unavailable",
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
    assert result.err.splitlines()[-1] == f"{pipe}: 503 Service Unavailable"
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
