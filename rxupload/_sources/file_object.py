"""The caller's file object as the source: read from where it stands, never closed."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack
from functools import partial
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

from .base import CHUNK, Reader, Source
from .iterable import OnceSource
from .reading import base_name, bytes_after, position, read, read_all


def file_source(file: Any, declared: int | None) -> Source:
    name = getattr(file, "name", None)
    if not isinstance(name, str) or name.startswith("<"):  # a descriptor's number, or "<stdin>"
        name = None
    label = f"the file object {name!r}" if name else "the file object"
    start = position(file)
    source: Source
    if start is None:
        source = OnceSource(label, declared, iter(partial(read, file, CHUNK), b""))
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

    def open(self) -> Reader:
        with self._lock:
            measured = bytes_after(self._file, self._start)
        return Reader(self._label, self._size(measured), partial(self._pass, measured), ExitStack())

    def _pass(self, measured: int | None) -> Generator[bytes]:
        position = self._start

        def read_on(count: int) -> bytes:
            nonlocal position
            with self._lock:  # another upload may be reading the same file object
                self._file.seek(position)
                data = read(self._file, count)
            position += len(data)
            return data

        return read_all(read_on, measured)


_locks: WeakKeyDictionary[object, Lock] = WeakKeyDictionary()


def _lock_of(file: object) -> Lock:
    """One lock for a file object, however many uploads were made of it."""
    try:
        return _locks.setdefault(file, Lock())
    except TypeError:  # it cannot be hashed, or not referenced weakly
        return Lock()
