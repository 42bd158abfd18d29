"""Runs the command: in this process, in one of its own, and on a terminal; and a server that keeps what it got."""

from __future__ import annotations

import contextlib
import email
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
from support.scripted_server import header

from rxupload.testing import Connection

posix_only = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals and pseudo-terminals")

# Like `python -m rxupload`, but Ctrl-C works even if the test run was started with it ignored (`pytest &`).
INTERRUPTIBLE = """
import signal, sys
from rxupload._cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main())
"""


PROCESS_PATIENCE = 60.0  # seconds; a process imports everything anew, even on a busy machine


class Result(NamedTuple):
    status: int
    out: str
    err: str


def command(*args: object, without: str | None = None) -> list[str]:
    """The command line of a separate process in which the module `without` cannot be imported."""
    if without is None:
        return [sys.executable, "-m", "rxupload", *map(str, args)]
    code = f"import sys; sys.modules[{without!r}] = None; from rxupload._cli import main; sys.exit(main())"
    return [sys.executable, "-c", code, *map(str, args)]


def in_own_process(args: list[str], **options) -> Result:
    done = subprocess.run(args, capture_output=True, timeout=PROCESS_PATIENCE, check=False, **options)
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


@contextlib.contextmanager
def started(*args: object, **options) -> Iterator[subprocess.Popen[str]]:
    """A process that Ctrl-C can stop, and that is gone after the block."""
    argv = [sys.executable, "-c", INTERRUPTIBLE, *map(str, args)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(argv, text=True, **streams | options) as process:
        watchdog = threading.Timer(PROCESS_PATIENCE, process.kill)
        watchdog.start()
        try:
            yield process
        finally:
            watchdog.cancel()
            process.kill()


def interrupt(process: subprocess.Popen[str]) -> Result:
    process.send_signal(signal.SIGINT)
    return Result(process.wait(PROCESS_PATIENCE), process.stdout.read(), process.stderr.read())


class Recorder:
    """Keeps each request, and answers as `answer(number of the request)` says; None breaks the connection."""

    def __init__(self) -> None:
        self.requests: list[tuple[bytes, bytes]] = []
        self.answer: Callable[[int], tuple | None] = lambda _: (200, b"stored")
        self.url = ""

    def __call__(self, connection: Connection) -> None:
        while head := connection.read_head():
            self.requests.append((head, connection.read_body()))
            answer = self.answer(len(self.requests))
            if answer is None:
                return
            connection.respond(*answer)

    @property
    def bodies(self) -> list[bytes]:
        return [body for _, body in self.requests]


def on_a_terminal(args: list[str], rows: int = 24, columns: int = 100) -> tuple[int, str]:
    """Run it on a pseudo-terminal; return its status and what was drawn, with line ends as on a pipe."""
    with pseudo_terminal(rows, columns) as (terminal, drawn):
        done = subprocess.run(args, stdout=terminal, stderr=terminal, timeout=PROCESS_PATIENCE, check=False)
    return done.returncode, drawn.decode().replace("\r\n", "\n")


@contextlib.contextmanager
def pseudo_terminal(rows: int = 24, columns: int = 100) -> Iterator[tuple[int, bytearray]]:
    """A terminal's descriptor, and what was drawn on it, which is complete after the block."""
    import pty
    import termios

    main_end, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (rows, columns))
    drawn = bytearray()

    def watch() -> None:
        with contextlib.suppress(OSError):  # Linux ends a terminal that no process has open with EIO
            while data := os.read(main_end, 1 << 16):
                drawn.extend(data)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield terminal, drawn
    finally:
        os.close(terminal)
        watcher.join()
        os.close(main_end)


def screens(drawn: str) -> Iterator[list[str]]:
    """The content of the terminal after each movement of its cursor."""
    lines, row, column = [""], 0, 0
    for text, movement in re.findall(r"([^\r\n\x1b]*)(\r|\n|\x1b\[A|$)", drawn):
        line = lines[row].ljust(column)
        lines[row] = (line[:column] + text + line[column + len(text) :]).rstrip()
        yield [line for line in lines if line]
        column += len(text)
        if movement == "\x1b[A":
            row -= 1
        else:
            column = 0
        if movement == "\n":
            row += 1
            lines += [""] * (row == len(lines))


class FormPart(NamedTuple):
    name: str
    filename: str | None
    content_type: str | None
    content: bytes


def parse_form(head: bytes, body: bytes) -> list[FormPart]:
    """The parts of a form, in their order, as the email package reads them."""
    message = email.message_from_bytes(b"Content-Type: " + header(head, b"content-type") + b"\r\n\r\n" + body)
    return [
        FormPart(
            part.get_param("name", header="content-disposition"),
            part.get_filename(),
            part["content-type"],
            part.get_payload(decode=True),
        )
        for part in message.get_payload()
    ]
