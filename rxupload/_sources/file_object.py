"""Reads the caller's file object from its current position, and never closes it."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Generator
from contextlib import ExitStack
from functools import partial
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

from .base import Owner, Reader, Source
from .iterable import OnceSource
from .pieces import FileRange, Piece, Read
from .reading import base_name, bounded, bytes_after, position, read

_READ = 256 * 1024  # bytes to read at a time from a file object that cannot seek


def file_source(file: Any, declared: int | None) -> Source:
    name = getattr(file, "name", None)
    if not isinstance(name, str) or name.startswith("<"):  # a descriptor's number, or "<stdin>"
        name = None
    label = f"the file object {name!r}" if name else "the file object"
    start = position(file)
    source: Source
    if start is None:
        source = OnceSource(label, declared, iter(partial(read, file, _READ), b""))
    else:
        source = SeekableSource(label, declared, file, start)
    source.default_filename = base_name(name or "")
    return source


class SeekableSource(Source):
    """A file object that can seek. It is read from its position at the call of `upload()`."""

    def __init__(self, label: str, declared: int | None, file: Any, start: int) -> None:
        super().__init__(label, declared)
        self._file = file
        self._start = start
        self._lock = _lock_of(file)

    def open(self, owner: Owner, *, is_next: bool = True) -> Reader:  # noqa: ARG002
        with self._lock:
            measured = bytes_after(self._file, self._start)
        size = self._size(measured)
        if measured is None or not _is_plain_file(self._file):
            return Reader(self._label, size, partial(self._pass, measured), ExitStack())
        with ExitStack() as opened:
            # Use our own descriptor. The caller may close his, and another file may then get its number.
            descriptor = os.dup(self._file.fileno())
            opened.callback(os.close, descriptor)
            return Reader(self._label, size, partial(self._range, descriptor, measured), opened.pop_all())

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

    def _range(self, descriptor: int, size: int) -> Generator[Piece]:
        yield FileRange(descriptor, self._start, size, self._label)


def _is_plain_file(file: Any) -> bool:
    """Whether it is an ordinary file from `open(path, "rb")`. Others, like gzip's, read other bytes than are in it."""
    if not hasattr(os, "pread"):  # without pread, our descriptor and the caller's share a position
        return False
    raw = file.raw if type(file) is io.BufferedReader else file
    return type(raw) is io.FileIO and stat.S_ISREG(os.fstat(raw.fileno()).st_mode)


_locks: WeakKeyDictionary[object, Lock] = WeakKeyDictionary()


def _lock_of(file: object) -> Lock:
    """Return the one lock of a file object, which all its uploads share."""
    try:
        return _locks.setdefault(file, Lock())
    except TypeError:  # it has no hash, or no weak references
        return Lock()
