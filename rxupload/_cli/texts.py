"""Makes texts for people: one line each, without control characters."""
# ruff: noqa: T201 - a command prints

from __future__ import annotations

import sys
from typing import TextIO

import httpx


def say(line: str, stream: TextIO) -> None:
    """Print a line. Escape what the stream cannot encode.

    Raises:
        OSError: The stream's reader is gone, or the disk is full.
        ValueError: The stream is closed.
    """
    try:
        print(line, file=stream)
    except UnicodeEncodeError:
        print(line.encode("ascii", "backslashreplace").decode(), file=stream)


def fail(sentence: str) -> int:
    print(f"rxupload: {one_line(sentence)}", file=sys.stderr)
    return 1


def sentence(error: Exception) -> str:
    """Say in one line what went wrong."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if isinstance(error, httpx.ConnectError):
        text = f"could not connect: {text}"
    return one_line(text or type(error).__name__)


def status(response: httpx.Response) -> str:
    return printable(f"{response.status_code} {response.reason_phrase}")


def excerpt(response: httpx.Response) -> str:
    """Return the beginning of the response's body, as further lines of a report."""
    lines = response.text[:1000].strip().expandtabs().splitlines()
    return "".join(f"\n{printable(line)}" for line in lines)


def amount(size: float) -> str:
    for least, unit in ((1e6, "MB"), (1e3, "kB")):
        if size >= least:
            return f"{size / least:.1f} {unit}"
    return f"{size:.0f} bytes"


def one_line(text: str) -> str:
    return printable(" ".join(text.split()))


def printable(text: str) -> str:
    """Escape control characters, with which a server or a filename could control the terminal."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
