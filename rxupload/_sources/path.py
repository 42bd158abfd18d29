"""A path as the source: a file, opened anew for each upload, or a pipe that has a path."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Generator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from .base import Once, Reader, Source
from .reading import base_name, read, read_all


class PathSource(Source):
    """A file, opened anew for each upload; or a pipe that has a path."""

    def __init__(self, path: Path, declared: int | None) -> None:
        super().__init__(str(path), declared)
        self.default_filename = base_name(path)
        self._path = path
        self._pipe = Once(self._label)

    def open(self) -> Reader:
        self._pipe.check()  # before opening it again, which waits for a writer
        with ExitStack() as opened:
            file = opened.enter_context(_open(self._path))
            status = os.fstat(file.fileno())
            regular = stat.S_ISREG(status.st_mode)
            size = self._size(status.st_size if regular else None)
            one_pass = partial(self._from_start, file, size) if regular else partial(self._once, file)
            return Reader(self._label, size, one_pass, opened.pop_all())

    def _from_start(self, file: io.FileIO, size: int | None) -> Generator[bytes]:
        file.seek(0)
        yield from read_all(partial(read, file), size)

    def _once(self, file: io.FileIO) -> Generator[bytes]:
        self._pipe.use()
        yield from read_all(partial(read, file), None)


def _open(path: Path) -> io.FileIO:
    try:
        return path.open("rb", buffering=0)
    except PermissionError:
        if path.is_dir():  # Windows answers for a directory as for an unreadable file
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path)) from None
        raise
