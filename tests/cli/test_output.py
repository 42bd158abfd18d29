"""An output that cannot be printed ends no upload of `rxupload send`."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from support.scripted_server import PATIENCE, Connection, Server

from rxupload._cli import main

FILES = 5
WORDS = "gr\u00fcn \u65e5\u672c \U0001f600 \ud800"


@pytest.fixture
def received() -> list[bytes]:
    return []


@pytest.fixture
def server(received) -> Iterator[Server]:
    """A server whose responses no narrow encoding can print."""

    def script(connection: Connection) -> None:
        while head := connection.read_head():
            received.append(connection.read_body(head))
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
        assert printed.count(b": 200 Status") == FILES
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
    assert capsys.readouterr().out.count(": 200 Status") == FILES


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
        while head := connection.read_head():
            received.append(connection.read_body(head))
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
