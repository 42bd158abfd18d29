"""The command prints no secret: wrong usage does not echo values, and each line of an upload hides those of its URL."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.scripted_server import Server

from rxupload.testing import Connection

WORD = "hunter2"
URL = "http://127.0.0.1:1/"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["send", f"--token={WORD}", URL, "f"], "unrecognized arguments: --token"),
        (["send", URL, "f", "--token", WORD], "unrecognized arguments: --token"),
        (["send", URL, "f", f"--token={WORD}", f"-Z{WORD}"], "unrecognized arguments: --token -Z"),
        (["send", "--token", WORD, URL, "f"], "unrecognized arguments: --token"),
        (["send", URL, "--token", WORD, "f"], "unrecognized arguments: --token"),
        (["send", URL, "f", f"-kZ{WORD}"], "argument -k/--insecure: ignored explicit argument"),
        (["send", URL, "f", f"--header:{WORD}"], "unrecognized arguments: --header"),
        (["demo", "f", WORD], "unrecognized arguments: 1 too many"),
        (["demo", "f", WORD, WORD], "unrecognized arguments: 2 too many"),
        (["send", URL, "f", f"--json={WORD}"], "argument --json: ignored explicit argument"),
        (["send", URL, "f", f"--insecure={WORD} (choose from {WORD}"], "ignored explicit argument"),
        ([WORD], "invalid choice (choose from"),
        ([f'it\'s {WORD} (choose from "x")'], "invalid choice (choose from"),
        (["send", URL, "f", "--concurrency", WORD], "--concurrency: expected a whole number of 1 or more"),
        (["send", URL, "f", "--concurrency", "9" * 5000], "--concurrency: "),
        (["send", URL, "f", "--retries", f"-{WORD}"], "--retries"),
        (["send", URL, "f", "--timeout", WORD], "--timeout: expected a number of seconds"),
        (["send", URL, "f", "--limit-rate", WORD], "--limit-rate: expected a size"),
        (["demo", "--size", WORD], "--size: expected a size"),
        (["receive", "--port", WORD], "--port: expected a whole number"),
        (["receive", "--max-size", WORD], "--max-size: expected a size"),
        (["send", URL, "f", "--form", WORD], "--form: expected a name"),
        (["send", URL, "f", "--header", f"Bearer {WORD}"], "--header: expected a name"),
        (["send", URL, "f", "--header", f"Bearer {WORD}: x"], "headers: the name of number 1"),
        (["send", URL, "f", "--header", f"Authorization: {WORD}\u00e9"], "the value of 'Authorization'"),
        (["send", URL, "f", "--header", f"Authorization: {WORD}\x01"], "control character"),
        (["send", f"http://u:{WORD}#x@h/", "f"], "argument URL: "),
        (["send", f"http://u:12#{WORD}@h/", "f"], "url: "),
        (["send", f"http://u:{WORD}@xn--a/", "f"], "url: there is no such host"),
        (["send", f"http://u:{WORD}@a..b/", "f"], "url: there is no such host"),
        (["send", WORD, "f"], "argument URL: "),
        (["send", URL, f"http://u:{WORD}@h/"], "argument FILE: expected a path"),
        (["demo", f"https://u:{WORD}@h/"], "argument FILE: expected a path"),
    ],
)
def test_wrong_usage_echoes_no_value(cli, args, said):
    """Status 2, and a message that names the option without the value that was given."""
    result = cli(*args)
    assert result.status == 2
    assert said in result.err.splitlines()[-1]
    assert WORD not in result.out + result.err
    assert "9" * 20 not in result.err


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(alphabet="aZ0'\"\\()=-: \n\x1b\u00e9", max_size=12),
    shape=st.sampled_from(["{}", "--x={}", "-x{}", "--json={}", "--timeout={}", "--header={}"]),
    place=st.integers(0, 3),
)
def test_no_argument_is_echoed_by_wrong_usage(cli, text, shape, place):
    """Whatever is around it, a word in an argument is not printed."""
    args = ["send", URL, "no-such-file"]
    result = cli(*args[:place], shape.format(f" {text}{WORD}{text}"), *args[place:])
    if result.status == 2:
        assert WORD not in result.out + result.err


@pytest.mark.parametrize("more", [["--json"], [], ["--insecure"], ["--retries", "1", "--json"]])
def test_lines_of_an_upload_show_no_secret(cli, tmp_path, more):
    """The lines of a redirect, of an error status and of a failed connection have no part of the address."""
    file = tmp_path / "photo.jpg"
    file.write_bytes(b"data")

    def script(connection: Connection) -> None:
        head = connection.read_head()
        connection.read_body()
        status = 404 if b"/404" in head else 307
        connection.respond(status, b"", f"Location: http://u:{WORD}@h/?{WORD}")

    with Server(script) as server:
        for path in ("404", "307", "closed"):
            port = 1 if path == "closed" else server.port
            result = cli("send", f"http://u:{WORD}@127.0.0.1:{port}/{path}?{WORD}#{WORD}", file, *more)
            assert result.out + result.err
            assert WORD not in result.out + result.err
