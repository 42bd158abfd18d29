"""Reads and measures file objects, for the sources that use them."""

from __future__ import annotations

import errno
import inspect
import io
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .base import is_buffer, type_name


def check_binary(file: Any, argument: str) -> None:
    if isinstance(file, io.TextIOBase) or isinstance(getattr(file, "encoding", None), str):
        raise TypeError(f'{argument} is a file object in text mode; open it in binary mode: open(path, "rb")')
    within = getattr(file, "file", None)  # Starlette's UploadFile says nothing, but its file does
    if getattr(file, "closed", getattr(within, "closed", False)):
        raise ValueError(f"{argument} is a closed file object")
    readable = getattr(file, "readable", _always)
    if not inspect.iscoroutinefunction(readable) and not readable():
        raise ValueError(f'{argument} is a file object that was not opened for reading: open(path, "rb")')


def _always() -> bool:
    return True


def position(file: Any) -> int | None:
    """Return a file object's position; None if it cannot seek."""
    try:
        return int(file.tell()) if file.seekable() else None
    except (AttributeError, OSError):
        return None


def check_not_at_its_end(file: Any, start: int, argument: str) -> None:
    """Refuse a file object that somebody has read or written to its end: the upload would be empty.

    Read a byte rather than find the end, for which a file object that decompresses would decompress everything.
    """
    if start <= 0:
        return
    try:
        if file.read(1) == b"":
            raise at_its_end(argument)
    finally:
        file.seek(start)


def at_its_end(argument: str) -> ValueError:
    return ValueError(
        f"{argument} is a file object that stands at its end, so that nothing would be sent; seek(0)?"
    )


def is_plain_file(file: Any) -> bool:
    """Whether it is an ordinary file from `open(path, "rb")`. Others, like gzip's, read other bytes than are in it."""
    if not hasattr(os, "pread"):  # without pread, our descriptor and the caller's share a position
        return False
    raw = file.raw if type(file) is io.BufferedReader else file
    return type(raw) is io.FileIO and stat.S_ISREG(os.fstat(raw.fileno()).st_mode)


def bytes_after(file: Any, start: int) -> int | None:
    try:
        file.seek(0, os.SEEK_END)
        return max(0, int(file.tell()) - start)
    except (OSError, ValueError):  # a file object that decompresses or decrypts may not know its end
        return None
    finally:
        file.seek(start)


def read(file: Any, count: int) -> bytes:
    # On a buffered pipe, read() waits for all of count, but read1() takes what is there. Its b"" can also mean "nothing
    # yet". Then read() returns None.
    return bytes_read(
        file.read1(count) or file.read(1) if isinstance(file, io.BufferedReader) else file.read(count)
    )


def bytes_read(data: object) -> bytes:
    """Check what a file object's `read` has returned."""
    if data is None:
        raise BlockingIOError(
            errno.EAGAIN, "the file object is non-blocking and has no data now; make it blocking"
        )
    if not is_buffer(data):
        raise TypeError(
            f"the file object's read() returned {type_name(data)}, not bytes; open it in binary mode"
        )
    return bytes(data)


def bounded(read: Callable[[int], bytes], size: int | None) -> Callable[[int], bytes]:
    """Wrap a function that reads, so that it gives at most `size` bytes even if the file grows."""
    left = size

    def read_on(count: int) -> bytes:
        nonlocal left
        if left is None:
            return read(count)
        data = read(min(count, left)) if left else b""
        left -= len(data)
        return data

    return read_on


def base_name(path: str) -> str:
    """Return the last part of a path, even if the path ends in slashes."""
    return os.path.basename(path) or Path(path).name or "upload"  # noqa: PTH119 - a Path costs ten times as much
