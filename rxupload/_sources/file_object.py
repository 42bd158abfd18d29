"""Reads the caller's file object from its current position, and never closes it."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import ExitStack
from functools import partial
from io import BytesIO
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

from .async_file import AsyncFileSource
from .asynchronous import has_async_read
from .base import Owner, Reader, Source
from .described import content_type_of, filename_of
from .hidden import flow_of, may_lie, rest_of
from .iterable import OnceSource
from .pieces import FileRange, Piece, Read
from .reading import bounded, bytes_after, check_not_at_its_end, is_plain_file, position, read

_READ = 256 * 1024  # bytes to read at a time from a file object that cannot seek


def file_source(file: Any, declared: int | None, argument: str) -> Source:
    """Make a source of a file object.

    Raises:
        ValueError: It stands at its end.
    """
    filename = filename_of(file)
    label = f"the file object {filename!r}" if filename else "the file object"
    source: Source
    if has_async_read(file):
        source = AsyncFileSource(label, declared, file)
    elif (start := _checked_position(file, argument)) is None:
        source = OnceSource(label, declared, iter(partial(read, file, _READ), b""))
    else:
        source = SeekableSource(label, declared, file, start)
    source.default_filename = filename or "upload"
    source.default_content_type = content_type_of(file)
    return source


def _checked_position(file: Any, argument: str) -> int | None:
    with _lock_of(file):
        start = position(file)
        check_not_at_its_end(file, start or 0, argument)
    return start


class SeekableSource(Source):
    """A file object that can seek. It is read from its position at the call of `upload()`."""

    can_begin_anywhere = True

    def __init__(self, label: str, declared: int | None, file: Any, start: int) -> None:
        super().__init__(label, declared)
        self._file = file
        self._start = start
        self._lock = _lock_of(file)

    def open(self, owner: Owner, *, is_next: bool = True) -> Reader:  # noqa: ARG002
        with self._lock:
            measured = bytes_after(self._file, self._start)
        if not is_plain_file(self._file):
            return Reader(self._label, self._size(measured), partial(self._pass, measured), ExitStack())
        with ExitStack() as opened:
            # Use our own descriptor. The caller may close his, and another file may then get its number.
            descriptor = os.dup(self._file.fileno())
            opened.callback(os.close, descriptor)
            data = None
            if measured is None or may_lie(os.fstat(descriptor)):
                data = rest_of(descriptor, self._start)
                measured = None if data is None else len(data)
            one_pass = partial(self._plain, descriptor, measured, data)
            return Reader(self._label, self._size(measured), one_pass, opened.pop_all())

    def measure(self) -> int | None:
        # Others may have to decompress all of it to find their end.
        if not is_plain_file(self._file) and type(self._file) is not BytesIO:
            return self._size(None)
        with self._lock:
            return self._size(bytes_after(self._file, self._start))

    def _pass(self, measured: int | None) -> Generator[Piece]:
        position = self._start

        def read_on(count: int) -> bytes:
            nonlocal position
            with self._lock:  # another upload may be reading the same file object
                self._file.seek(position)
                data = read(self._file, count)
            position += len(data)
            return data

        yield Read(bounded(read_on, measured))

    def _plain(self, descriptor: int, size: int | None, data: bytes | None) -> Generator[Piece]:
        if data is not None:
            yield data
        elif size is None:
            yield flow_of(descriptor, self._start)
        else:
            yield FileRange(descriptor, self._start, size, self._label)


_locks: WeakKeyDictionary[object, Lock] = WeakKeyDictionary()


def _lock_of(file: object) -> Lock:
    """Return the one lock of a file object, which all its uploads share."""
    try:
        return _locks.setdefault(file, Lock())
    except TypeError:  # it has no hash, or no weak references
        return Lock()
