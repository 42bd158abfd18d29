"""The caller's file object as the source: read from where it stands, never closed."""

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

_READ = 256 * 1024  # bytes of a file object that cannot go back that are read at a time


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
    """The caller's file object, read from where it stood at the call."""

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
            # A descriptor of our own: the caller may close his, and its number may then be another file's.
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
    """Whether it is what `open(path, "rb")` returns; of others, as of gzip's, the descriptor tells something else."""
    if not hasattr(os, "pread"):  # a descriptor of our own would move with the caller's
        return False
    raw = file.raw if type(file) is io.BufferedReader else file
    return type(raw) is io.FileIO and stat.S_ISREG(os.fstat(raw.fileno()).st_mode)


_locks: WeakKeyDictionary[object, Lock] = WeakKeyDictionary()


def _lock_of(file: object) -> Lock:
    """One lock for a file object, however many uploads were made of it."""
    try:
        return _locks.setdefault(file, Lock())
    except TypeError:  # it cannot be hashed, or not referenced weakly
        return Lock()
