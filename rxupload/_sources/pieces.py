"""Defines the pieces that a pass over a source gives: bytes, a range of an open file, or a flow over time."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeAlias

from rxupload._errors import SourceChanged
from rxupload._wait import Watched


class FileRange:
    """A part of a file that the library has opened.

    Attributes:
        start: Its offset in the file, in bytes.
        size: Its length, in bytes.
    """

    def __init__(self, descriptor: int, start: int, size: int, label: str) -> None:
        self.start = start
        self.size = size
        self._descriptor = descriptor
        self._label = label

    def fileno(self) -> int:
        """The file's descriptor."""
        return self._descriptor

    def read(self, offset: int, count: int) -> bytes:
        """Return at most `count` bytes from an offset in the range.

        Raises:
            SourceChanged: The file ends at or before the offset.
            OSError: The file cannot be read.
        """
        data = read_at(self._descriptor, self.start + offset, count)
        if not data:
            raise self.ends_at(offset)
        return data

    def part(self, start: int, size: int) -> FileRange:
        """Return a part of the range."""
        return FileRange(self._descriptor, self.start + start, size, self._label)

    def ends_at(self, offset: int) -> Exception:
        """Return the error for a file that ends at an offset in the range."""
        return ended(self._label, self.size, offset)


def read_at(descriptor: int, offset: int, count: int) -> bytes:
    """Return at most `count` bytes from an offset in a file; empty at its end."""
    if hasattr(os, "pread"):
        return os.pread(descriptor, count, offset)
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.read(descriptor, count)


class Flow(ABC):
    """Bytes of a source that come over time."""

    @abstractmethod
    def read(self, count: int) -> bytes | memoryview | None:
        """Return about `count` bytes; empty at the end; None if there are none yet.

        A memoryview is valid until the next call.
        """

    def watched(self) -> tuple[Watched, int] | None:
        """What to wait for when `read` has returned None; None: the owner's `wake`."""
        return None


Piece: TypeAlias = bytes | memoryview | FileRange | Flow


class Read(Flow):
    """A flow from a function that reads. It may block."""

    def __init__(self, read: Callable[[int], bytes | memoryview]) -> None:
        self._read = read

    def read(self, count: int) -> bytes | memoryview:
        return self._read(count)


class Counted(Flow):
    """A flow that must give exactly `size` bytes."""

    def __init__(self, flow: Flow, size: int, label: str) -> None:
        self._flow = flow
        self._size = size
        self._label = label
        self._count = 0

    def read(self, count: int) -> bytes | memoryview | None:
        data = self._flow.read(count)
        if data is not None:
            self._count += len(data)
            if self._count > self._size:
                raise SourceChanged(f"{self._label}: more than the {self._size} bytes expected")
            if not data and self._count < self._size:
                raise ended(self._label, self._size, self._count)
        return data

    def watched(self) -> tuple[Watched, int] | None:
        return self._flow.watched()


def ended(label: str, size: int, count: int) -> SourceChanged:
    """Return the error for a source that gave only `count` of `size` bytes."""
    return SourceChanged(f"{label}: {size} bytes expected, and it ended after {count}")
