"""Reads a path: a file, which is opened when its turn comes, or a named pipe."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator
from contextlib import ExitStack, suppress
from functools import partial

from rxupload._errors import SourceChanged
from rxupload._wait import READ, Watched, is_ready

from .base import Once, Owner, Reader, Source
from .hidden import flow_of, may_lie, rest_of
from .inside import Inside
from .pieces import FileRange, Flow, Piece
from .reading import base_name

# Non-blocking: open() would wait for a pipe's first writer, and read() for a writer that pauses.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class PathSource(Source):
    """A file, which each pass opens again, or a named pipe."""

    calls_back = False
    can_begin_anywhere = True

    def __init__(self, path: str, declared: int | None, *, inside: Inside | None = None) -> None:
        super().__init__(path, declared)
        self.default_filename = base_name(path)
        self._path = path
        self._open = partial(_open, path, inside)
        self._pipe = Once(self._label)

    def open(self, owner: Owner, *, is_next: bool = True) -> Reader:  # noqa: ARG002
        self._pipe.check()
        with ExitStack() as opened:
            descriptor = self._open()
            opened.callback(os.close, descriptor)
            status = os.fstat(descriptor)
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), self._path)
            if not stat.S_ISREG(status.st_mode):
                size = self._size(None)
                return Reader(self._label, size, partial(self._once, descriptor), opened.pop_all())
            found: int | None = status.st_size
            if may_lie(status):
                data = rest_of(descriptor, 0)
                found = None if data is None else len(data)
                if data is not None and found != status.st_size:
                    return Reader(self._label, self._size(found), partial(_content, data), ExitStack())
            size = self._size(found)
            if is_next:
                one_pass = partial(self._file, status, found, [descriptor])
                return Reader(self._label, size, one_pass, opened.pop_all())
        # Close it until its turn comes: a request may have more files than a process may have open.
        return Reader(self._label, size, partial(self._file, status, found, []), ExitStack())

    def measure(self) -> int | None:
        status = os.stat(self._path)  # noqa: PTH116 - a Path costs ten times as much
        return self._size(status.st_size if stat.S_ISREG(status.st_mode) else None)

    def _file(self, expected: os.stat_result, size: int | None, begun: list[int]) -> Generator[Piece]:
        if begun:
            yield self._piece(begun.pop(), size)
            return
        with ExitStack() as opened:
            descriptor = self._open()
            opened.callback(os.close, descriptor)
            found = os.fstat(descriptor)
            if (found.st_dev, found.st_ino) != (expected.st_dev, expected.st_ino):
                raise SourceChanged(
                    f"{self._label}: it was replaced by another file since the upload started"
                )
            yield self._piece(descriptor, size)

    def _piece(self, descriptor: int, size: int | None) -> Piece:
        return flow_of(descriptor, 0) if size is None else FileRange(descriptor, 0, size, self._label)

    def _once(self, descriptor: int) -> Generator[Piece]:
        self._pipe.use()
        yield _Pipe(descriptor)


def _content(data: bytes) -> Generator[Piece]:
    yield data


class _Pipe(Flow):
    """A pipe or a device. It is ready when it has data, or when the last writer has closed it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def read(self, count: int) -> bytes | None:
        # Before the first writer opens the pipe, a read would return the end. So ask first.
        with suppress(BlockingIOError):
            return os.read(self._descriptor, count) if is_ready(self, READ) else None
        return None

    def watched(self) -> tuple[Watched, int]:
        return self, READ


def _open(path: str, inside: Inside | None) -> int:
    try:
        return os.open(path, _FLAGS) if inside is None else inside.open(_FLAGS)
    except PermissionError:
        if os.path.isdir(path):  # noqa: PTH112  # Windows raises the same for a directory and an unreadable file
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path) from None
        raise
