"""What a pass over a source gives: bytes, a range of an open file, or a flow, which is what is still to come."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeAlias

from rxupload._errors import SourceChanged
from rxupload._wait import Watched


class FileRange:
    """A part of an open file of the library's own, whose bytes are there to be read.

    Attributes:
        start: Where it begins in the file, in bytes.
        size: How long it is, in bytes.
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
        """So many bytes, or fewer, from an offset in the range.

        Raises:
            SourceChanged: The file ends before.
            OSError: It cannot be read.
        """
        if hasattr(os, "pread"):
            data = os.pread(self._descriptor, count, self.start + offset)
        else:
            os.lseek(self._descriptor, self.start + offset, os.SEEK_SET)
            data = os.read(self._descriptor, count)
        if not data:
            raise self.ends_at(offset)
        return data

    def ends_at(self, offset: int) -> Exception:
        """The error of a file that ends at an offset in the range."""
        return ended(self._label, self.size, offset)


class Flow(ABC):
    """What is still to come of a source."""

    @abstractmethod
    def read(self, count: int) -> bytes | memoryview | None:
        """About so many bytes; an empty one at the end; None where there is nothing for now.

        A memoryview holds until the next call.
        """

    def watched(self) -> tuple[Watched, int] | None:
        """What to wait for where there is nothing for now; None: for the owner's `wake`."""
        return None


Piece: TypeAlias = bytes | memoryview | FileRange | Flow


class Read(Flow):
    """A flow by a function that reads, and may block."""

    def __init__(self, read: Callable[[int], bytes | memoryview]) -> None:
        self._read = read

    def read(self, count: int) -> bytes | memoryview:
        return self._read(count)


class Counted(Flow):
    """A flow that has to give so many bytes, and no other number."""

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
    """The error of a source that was to give `size` bytes, and gave `count`."""
    return SourceChanged(f"{label}: {size} bytes expected, and it ended after {count}")
