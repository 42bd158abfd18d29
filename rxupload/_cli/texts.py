"""Makes texts for people: one line each, without control characters."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TextIO

import httpx

_EXCERPT = 1000  # characters
_OF_RESUMABLE = ("host", "location", "content-location")
_SECRET = re.compile(
    "auth|bearer|cookie|credential|csrf|jwt|key|passphrase|password|secret|session|signature|token|uploadid|"
    "upload-concat|upload-metadata|xsrf",
    re.IGNORECASE,
)


def say(line: str, stream: TextIO | None) -> None:
    """Print a line. Escape what the stream cannot encode. Without a stream (`2>&-`), there is nobody to tell.

    Raises:
        OSError: The stream's reader is gone, or the disk is full.
        ValueError: The stream is closed.
    """
    if stream is None:
        return
    try:
        print(line, file=stream)
    except UnicodeEncodeError:
        print(line.encode("ascii", "backslashreplace").decode(), file=stream)


def pour(response: httpx.Response, stream: TextIO | None) -> None:
    """Write the body of a response as it came.

    Raises:
        OSError: The stream's reader is gone, or the disk is full.
        ValueError: The stream is closed.
    """
    if stream is None:
        return
    buffer = getattr(stream, "buffer", None)
    if buffer is None:  # a stream of another kind, of a notebook or a test runner
        try:
            stream.write(response.text)
        except UnicodeEncodeError:
            stream.write(response.text.encode("ascii", "backslashreplace").decode())
        return
    stream.flush()
    buffer.write(response.content)
    buffer.flush()


def fail(sentence: str) -> int:
    with contextlib.suppress(OSError, ValueError):
        say(f"rxupload: {one_line(sentence)}", sys.stderr)
    return 1


def finish() -> int:
    """Write what waits in the standard streams. Return 1 if standard output cannot be written, or else 0."""
    status = 0
    for stream in (sys.stderr, sys.stdout):
        if stream is None:
            continue
        try:
            stream.flush()
        except (OSError, ValueError):
            give_up(stream)
            status = int(stream is sys.stdout)
    return status


def give_up(stream: TextIO) -> None:
    """Let the interpreter's last flush of a broken stream succeed: if it failed, the exit status would be 120."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # a stream without a descriptor
        descriptor = stream.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


def sentence(error: Exception) -> str:
    """Say in one line what went wrong."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if isinstance(error, httpx.ConnectError):
        text = f"could not connect: {text}"
    return one_line(text or type(error).__name__)


def advice(error: Exception, file: str) -> str:
    """Say what went wrong with FILE, and how to send the files of a directory. Name another file of its form."""
    path = getattr(error, "filename", None)
    if not isinstance(error, OSError) or not isinstance(path, str):
        return sentence(error)
    if path != file:
        return f"{printable(path)}: {sentence(error)}"
    if Path(path).is_dir() and os.access(path, os.R_OK | os.X_OK):
        return "is a directory; add -r to send the files in it"
    return sentence(error)


def status(response: httpx.Response) -> str:
    return printable(f"{response.status_code} {response.reason_phrase}")


def body(response: httpx.Response, *, is_whole: bool) -> str:
    """Return the response's body, or its beginning, as further lines of a report."""
    text = response.text.strip()
    shown = text if is_whole else text[:_EXCERPT]
    lines = [printable(line) for line in shown.expandtabs().splitlines()]
    if len(shown) < len(text):
        lines.append(f"... {len(text) - len(shown)} more characters; -o PATH or a pipe gets all of them")
    return "".join(f"\n{line}" for line in lines)


def heads(responses: list[httpx.Response], *, is_resumable: bool) -> Iterator[str]:
    """Yield the lines of the heads of the responses and their requests, without what may be a secret."""
    for response in responses:
        yield from request_head(response.request, is_resumable=is_resumable)
        yield f"< {printable(response.http_version)} {status(response)}"
        yield from _fields("<", response.headers, _OF_RESUMABLE if is_resumable else ())


def request_head(request: httpx.Request | None, *, is_resumable: bool) -> Iterator[str]:
    """Yield the lines of the head of a request, if there was one, without what may be a secret.

    The address of a resumable upload is a key to it. Its requests name the endpoint instead, which was not asked.
    """
    if request is not None:
        target = "/..." if is_resumable else _target(request.url)
        yield printable(f"> {request.method} {target}")
        yield from _fields(">", request.headers, _OF_RESUMABLE if is_resumable else ())


def _fields(mark: str, headers: httpx.Headers, hides: Collection[str] = ()) -> Iterator[str]:
    for raw_name, raw_value in headers.raw:  # as they were written
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        if name.lower() in hides:
            shown = "..."
        elif name.lower() in ("location", "content-location", "referer"):
            shown = "..."
            with contextlib.suppress(httpx.InvalidURL):
                shown = address(value)
        else:
            shown = "..." if _SECRET.search(name) else value
        yield printable(f"{mark} {name}: {shown}")


def address(text: str) -> str:
    """Return a URL without user, password, query and fragment.

    Raises:
        httpx.InvalidURL: The text is no URL.
    """
    url = httpx.URL(text)
    origin = str(url.copy_with(userinfo=b"", raw_path=b"/", fragment=None)).rstrip("/")
    return f"{origin}{_target(url)}"


def _target(url: httpx.URL) -> str:
    # An @ in the path may follow a part of a password with a slash, which has ended the host.
    path = "/..." if "@" in url.path else url.raw_path.partition(b"?")[0].decode("ascii")
    return f"{path}?..." if url.query else path


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
