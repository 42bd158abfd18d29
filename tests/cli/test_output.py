"""What `rxupload send` prints and where; an output that cannot be printed ends no upload."""

from __future__ import annotations

import base64
import codecs
import contextlib
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from support.command_line import PROCESS_PATIENCE, command, in_own_process
from support.scripted_server import PATIENCE, Server

from rxupload._cli import main
from rxupload.testing import Connection

FILES = 5
WORDS = "gr\u00fcn \u65e5\u672c \U0001f600 \ud800"


@pytest.fixture
def received() -> list[bytes]:
    return []


@pytest.fixture
def server(received) -> Iterator[Server]:
    """A server whose responses no narrow encoding can print."""

    def script(connection: Connection) -> None:
        while connection.read_head():
            received.append(connection.read_body())
            connection.respond(
                200, WORDS.encode("utf-8", "replace"), "Content-Type: text/plain; charset=utf-8"
            )

    with Server(script) as server:
        yield server


@pytest.fixture
def files(tmp_path) -> list[str]:
    paths = [tmp_path / f"{number}-\u65e5\u672c.jpg" for number in range(FILES)]
    for path in paths:
        path.write_bytes(b"data")
    return [str(path) for path in paths]


class Strict(io.TextIOBase):
    """A stream of another kind, strict, as a notebook or a test runner may put in the place of standard output."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self.data = b""

    def write(self, text: str) -> int:
        self.data += text.encode(self._encoding)
        return len(text)


class Full(io.TextIOBase):
    """A stream that takes one line."""

    def __init__(self, error: Exception) -> None:
        self._error = error
        self.lines = 0

    def write(self, text: str) -> int:
        if self.lines:
            raise self._error
        self.lines += text == "\n"
        return len(text)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
@pytest.mark.parametrize("kind", ["wrapper", "stream", "writer"])
@pytest.mark.parametrize("json", [[], ["--json"]])
def test_an_encoding_that_lacks_characters_ends_nothing(
    server, received, files, monkeypatch, encoding, kind, json
):
    """They are escaped, whatever kind of stream standard output is."""
    raw = io.BytesIO()
    out: io.TextIOBase | codecs.StreamWriter = {
        "wrapper": lambda: io.TextIOWrapper(raw, encoding=encoding, errors="strict"),
        "stream": lambda: Strict(encoding),
        "writer": lambda: codecs.getwriter(encoding)(raw),
    }[kind]()
    monkeypatch.setattr(sys, "stdout", out)
    status = main(["send", server.url, *files, *json])
    printed = out.data if isinstance(out, Strict) else raw.getvalue()
    assert status == 0
    assert len(received) == FILES
    if not json:
        assert printed.count(b": 200 OK") == FILES
        assert encoding == "utf-8" or rb"\u65e5\u672c" in printed


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (BrokenPipeError(), None),
        (OSError(28, "No space left on device"), "rxupload: No space left on device"),
        (ValueError("I/O operation on closed file."), "rxupload: I/O operation on closed file."),
        (UnicodeEncodeError("ascii", "\u00e9", 0, 1, "ordinal not in range(128)"), "rxupload: "),
    ],
)
@pytest.mark.parametrize("json", [[], ["--json"]])
def test_a_standard_output_that_fails_ends_nothing(
    server, received, files, monkeypatch, capsys, error, said, json
):
    """All FILEs are sent, and the status is 1, because what was printed is not all."""
    out = Full(error)
    monkeypatch.setattr(sys, "stdout", out)
    assert main(["send", server.url, *files, "--concurrency", "1", *json]) == 1
    assert len(received) == FILES
    assert out.lines == 1
    *_, summary, last = ["", "", *capsys.readouterr().err.splitlines(), *([""] if said is None else [])]
    assert last.startswith(said or "")
    assert summary.startswith("" if json else f"{FILES} of {FILES} files sent")


def test_a_standard_error_that_fails_ends_nothing(server, received, files, monkeypatch, capsys):
    """What is lost there is the progress; the status is that of the uploads."""
    monkeypatch.setattr(sys, "stderr", Full(OSError(28, "No space left on device")))
    assert main(["send", server.url, *files]) == 0
    assert len(received) == FILES
    assert capsys.readouterr().out.count(": 200 OK") == FILES


def test_no_standard_output_ends_nothing(server, received, files, monkeypatch):
    """Without a standard output (pythonw, `>&-`), nothing is printed, and nothing fails."""
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["send", server.url, *files]) == 0
    assert main(["send", server.url, *files, "--json"]) == 0
    assert len(received) == 2 * FILES


@pytest.mark.skipif(os.name != "posix", reason="the reader of a pipe")
def test_a_reader_that_goes_ends_nothing(files):
    """With `| head -1`, all FILEs are sent, quietly; the status is 1."""
    gone = threading.Event()
    received: list[bytes] = []

    def script(connection: Connection) -> None:
        while connection.read_head():
            received.append(connection.read_body())
            if len(received) > 1:
                assert gone.wait(PATIENCE)
            connection.respond(200, b"stored")

    argv = [sys.executable, "-m", "rxupload", "send", "", *files, "--json", "--concurrency", "1"]
    with Server(script) as server, contextlib.ExitStack() as stack:
        argv[4] = server.url
        process = stack.enter_context(subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        process.stdout.readline()
        process.stdout.close()
        gone.set()
        assert process.wait(60) == 1
        assert process.stderr.read() == b""
    assert len(received) == FILES


@pytest.mark.skipif(os.name != "posix", reason="a shell that closes or redirects a stream")
@pytest.mark.parametrize("how", ["2>&-", "2>/dev/full"])
@pytest.mark.parametrize("options", [[], ["-v"], ["--json"], ["-q"]])
def test_a_standard_error_that_is_closed_or_full_stops_nothing(server, received, files, how, options):
    """All FILEs arrive whole, the status is 0, and nothing of standard error gets into standard output."""
    args = command("send", server.url, *files, *options)
    result = in_own_process(["sh", "-c", f'"$@" {how}', "sh", *args])

    assert (result.status, result.err) == (0, "")
    assert len(received) == FILES
    assert all(body.count(b"\r\n\r\ndata\r\n") == 1 for body in received)
    if not options:
        assert sorted(result.out.splitlines()) == [f"{file}: 200 OK" for file in files]


@pytest.mark.skipif(os.name != "posix", reason="a shell that closes or redirects a stream")
@pytest.mark.parametrize("how", ["2>&-", "2>/dev/full"])
@pytest.mark.parametrize(
    ("args", "status"),
    [(["send", "http://127.0.0.1:1/", __file__], 1), (["send"], 2), (["demo", "no such file"], 1)],
)
def test_a_failure_without_a_standard_error_keeps_its_status(how, args, status):
    """The status tells what could not be said, and standard output stays clean."""
    result = in_own_process(["sh", "-c", f'"$@" {how}', "sh", *command(*args)])
    assert (result.status, result.out) == (status, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
@pytest.mark.parametrize("options", [[], ["--json"], ["--help"]])
def test_a_full_standard_output_is_status_1(server, files, options):
    """What was printed is not all, so it is no success; one line says why."""
    args = command("send", server.url, files[0], *options)
    result = in_own_process(["sh", "-c", '"$@" >/dev/full', "sh", *args])
    assert result.status == (0 if options == ["--help"] else 1)
    if options != ["--help"]:
        assert result.err.splitlines()[-1] == "rxupload: No space left on device"


# One response, and many

BODY = b"\x00\xff\r\n" + bytes(range(256)) * 40


@pytest.fixture
def binary() -> Iterator[Server]:
    """A server whose response is no text, and longer than an excerpt."""

    def script(connection: Connection) -> None:
        while head := connection.read_head():
            connection.read_body()
            connection.respond(404 if head.startswith(b"DELETE") else 200, BODY)

    with Server(script) as server:
        yield server


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_one_response_goes_out_as_it_came(binary, files, method):
    """Off a terminal, standard output is the response to the byte, that of a failure, too; its status is on stderr."""
    args = command("send", binary.url, files[0], "-X", method)
    done = subprocess.run(args, capture_output=True, timeout=PROCESS_PATIENCE)

    assert done.stdout == BODY
    assert done.returncode == (1 if method == "DELETE" else 0)
    assert f": {'404 Not Found' if method == 'DELETE' else '200 OK'}" in done.stderr.decode()


def test_several_files_print_a_line_each(binary, files, cli):
    """Their responses are printed with -v only, and then whole."""
    result = cli("send", binary.url, *files)
    assert sorted(result.out.splitlines()) == [f"{file}: 200 OK" for file in files]
    verbose = cli("send", binary.url, *files[:2], "-v").out
    assert verbose.count("\\x00\\x01\\x02") == 80
    assert "\0" not in verbose


@pytest.mark.parametrize("method", ["POST", "DELETE"])
@pytest.mark.parametrize("options", [[], ["--json"], ["-q"]])
def test_o_writes_the_response_to_a_file(binary, files, cli, tmp_path, method, options):
    """-o writes it as it came, whatever its status; standard output has nothing of it."""
    out = tmp_path / "response"
    out.write_bytes(b"older, and longer" * 10_000)
    result = cli("send", binary.url, files[0], "-X", method, "-o", out, *options)

    assert out.read_bytes() == BODY
    assert result.status == (1 if method == "DELETE" else 0)
    assert (result.out == "") == (options != ["--json"])


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_o_that_cannot_be_written_is_a_failure(binary, files, cli):
    """The upload succeeds, and the status is 1, with the reason."""
    result = cli("send", binary.url, files[0], "-o", "/dev/full")
    assert result.status == 1
    assert f"{files[0]}: 200 OK" in result.err
    assert result.err.splitlines()[-1] == "rxupload: /dev/full: No space left on device"


def test_q_prints_errors_only(binary, files, cli, tmp_path):
    """-q prints nothing of a success, and a line for each failure."""
    assert cli("send", binary.url, *files, "-q") == (0, "", "")
    assert cli("send", binary.url, files[0], "-q") == (0, "", "")
    assert cli("send", binary.url, files[0], "-X", "DELETE", "-q") == (1, "", f"{files[0]}: 404 Not Found\n")
    missing = tmp_path / "missing"
    assert cli("send", binary.url, missing, *files, "-q") == (
        1,
        "",
        f"{missing}: No such file or directory\n",
    )


# -v

SECRET = "s3cret"


def test_v_prints_heads_without_secrets(files, cli):
    """The heads of each request and response go to standard error; values that may be secrets are left out."""

    def script(connection: Connection) -> None:
        while head := connection.read_head():
            connection.read_body()
            if head.startswith(b"POST /up?"):
                location = f"http://127.0.0.1:{server.port}/there?key={SECRET}"
                connection.respond(307, b"", f"Location: {location}", f"Set-Cookie: a={SECRET}")
            else:
                connection.respond(201, b"stored", "ETag: x\x1b[0m", f"X-Api-Key: {SECRET}")

    headers = ["-H", f"X-Token: {SECRET}", "-H", "X-Album: summer", "-u", f"anna:{SECRET}"]
    with Server(script) as server:
        url = f"{server.url}up?key={SECRET}"
        result = cli("send", url, files[0], "-v", "-L", *headers)

    assert (result.status, result.out) == (0, "stored")
    lines = [line for line in result.err.splitlines() if line.startswith((">", "<"))]
    requests = [line for line in lines if line.startswith((">", "< HTTP"))]
    assert [line for line in requests if " HTTP" in line or line.startswith("> POST")] == [
        "> POST /up?...",
        "< HTTP/1.1 307 Temporary Redirect",
        "> POST /there?...",
        "< HTTP/1.1 201 Created",
    ]
    for line in ("> x-token: ...", "> authorization: ...", "< set-cookie: ...", "< x-api-key: ..."):
        assert line in map(str.lower, lines)
    for line in ("> x-album: summer", f"< location: {server.url}there?...", "< etag: x\\x1b[0m"):
        assert line in map(str.lower, lines)
    assert any(line.lower().startswith("> content-type: multipart/form-data; boundary=") for line in lines)
    assert SECRET not in result.out + result.err
    assert base64.b64encode(f"anna:{SECRET}".encode()).decode() not in result.err


def test_v_prints_the_request_of_an_error_and_of_each_attempt(files, cli, no_waits):
    """What was asked is shown where no answer came, too. With several FILEs, each line names its own."""
    left = [None, (503, b""), None]

    def script(connection: Connection) -> None:
        while connection.read_head():
            connection.read_body()
            if not (answer := left.pop(0)):
                return
            connection.respond(*answer)

    with Server(script) as server:
        result = cli("send", server.url, files[0], f"{files[0]}-missing", "-v", "--retries", 2)
    lines = result.err.splitlines()
    assert result.status == 1
    assert lines.count(f"{files[0]}: > POST /") == 3
    assert lines.count(f"{files[0]}: < HTTP/1.1 503 Service Unavailable") == 1
    assert f"{files[0]}-missing: No such file or directory" in lines


def test_v_and_json_go_together(server, files, cli):
    """The heads go to standard error, and each line of standard output is an object."""
    result = cli("send", server.url, files[0], "-v", "--json")
    assert [json.loads(line)["event"] for line in result.out.splitlines()][-2:] == ["response", "summary"]
    assert "< HTTP/1.1 200 OK" in result.err
