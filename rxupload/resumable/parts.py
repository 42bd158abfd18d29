"""Cuts the file into the parts that are sent, each from an offset that only the server knows beforehand.

A file on the disk and bytes in memory are there at every offset. What else gives bytes is read once, in its order: one
part of it is kept, to be sent again if it has to be. Only what can be read again gives the bytes before that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from typing import cast

from rxupload._digests import new_hash
from rxupload._errors import SourceChanged
from rxupload._sources import FileRange, Flow, Piece, Reader
from rxupload._transfer import Transfer

from .protocol import Part

_READ = 256 * 1024  # bytes to read at a time


@dataclass(frozen=True, slots=True)
class Cut:
    """A part with its bytes. Each pass over them begins anew."""

    part: Part
    pieces: Callable[[], Generator[Piece]]


class Parts(ABC):
    """The file of one subscription.

    Attributes:
        size: Its bytes; None if unknown.
    """

    size: int | None

    @abstractmethod
    def cut(self, start: int, most: int | None) -> Cut:
        """Return the part from an offset on, with at most `most` bytes. It is valid until the next call.

        Raises:
            SourceChanged: The file ends before the offset.
            RuntimeError: The source can be read only once, and the offset is before what is kept of it.
        """

    def learn(self, most: int) -> None:  # noqa: B027 - the default
        """Find the size out, if that takes no more than reading so many bytes."""

    @property
    def file(self) -> FileRange | None:
        """What is sent of a file on the disk; None for all else."""
        return None

    @abstractmethod
    def close(self) -> None:
        """End the pass over the source."""


def parts_of(reader: Reader, transfer: Transfer) -> Parts:
    """Begin the first pass over a source, and return its parts."""
    with ExitStack() as stack:
        pieces = stack.enter_context(closing(reader.pieces()))
        piece = next(pieces)
        parts = (
            InOrder(reader, transfer, piece, pieces)
            if isinstance(piece, Flow)
            else AtAnyOffset(piece, pieces)
        )
        stack.pop_all()
        return parts


class AtAnyOffset(Parts):
    """A file on the disk, or bytes in memory."""

    def __init__(self, piece: bytes | memoryview | FileRange, of_pass: Generator[Piece]) -> None:
        self.size: int = piece.size if isinstance(piece, FileRange) else len(piece)
        self._piece = piece
        self._pass = of_pass

    def cut(self, start: int, most: int | None) -> Cut:
        """Return a part; see `Parts.cut`."""
        left = self.size - start
        size = left if most is None else min(most, left)
        return Cut(Part(start, size, is_last=size == left), partial(self._pieces, start, size))

    def _pieces(self, start: int, size: int) -> Generator[Piece]:
        piece = self._piece
        yield (
            piece.part(start, size)
            if isinstance(piece, FileRange)
            else memoryview(piece)[start : start + size]
        )

    @property
    def file(self) -> FileRange | None:
        """The file; None for bytes in memory."""
        return self._piece if isinstance(self._piece, FileRange) else None

    def close(self) -> None:
        """End the pass over the source."""
        self._pass.close()


class InOrder(Parts):
    """A source that gives its bytes over time."""

    def __init__(self, reader: Reader, transfer: Transfer, flow: Flow, of_pass: Generator[Piece]) -> None:
        self.size = reader.size
        self._reader = reader
        self._transfer = transfer
        self._pass = of_pass
        self._flow: Flow | None = flow  # None if all of it was given away
        self._at = 0  # the offset of the buffer
        self._buffer = bytearray()
        self._has_ended = False

    def cut(self, start: int, most: int | None) -> Cut:
        """Return a part; see `Parts.cut`."""
        self._seek(start)
        if most is None:
            assert self.size is not None
            return Cut(Part(start, self.size - start, is_last=True), partial(self._rest, start))
        self._fill(most + 1)  # one more, to know whether this is the last part
        data = bytes(self._buffer[:most])
        is_last = self._has_ended and len(self._buffer) <= most
        return Cut(Part(start, len(data), is_last=is_last), partial(_once, data))

    def _rest(self, start: int) -> Generator[Piece]:
        self._seek(start)
        data, flow = bytes(self._buffer), self._flow
        assert flow is not None
        self._flow = None
        if data:
            yield data
        yield flow

    def learn(self, most: int) -> None:
        """Find the size out; see `Parts.learn`."""
        self._fill(most + 1)
        if self._has_ended and self.size is None:
            self.size = self._at + len(self._buffer)

    def _seek(self, start: int) -> None:
        if self._flow is None or start < self._at:
            self._pass.close()
            self._pass = self._reader.pieces()
            self._flow = cast("Flow", next(self._pass))
            self._at, self._has_ended = 0, False
            self._buffer.clear()
        while True:
            passed = min(len(self._buffer), start - self._at)
            del self._buffer[:passed]
            self._at += passed
            if self._at == start:
                return
            self._fill(1)
            if not self._buffer:
                raise SourceChanged(
                    f"The source ended after {self._at} bytes, and the server has {start} of an earlier reading"
                )

    def _fill(self, count: int) -> None:
        assert self._flow is not None
        while len(self._buffer) < count and not self._has_ended:
            self._transfer.check()
            data = self._flow.read(_READ)
            if data is None:
                more = self._flow.watched()
                self._transfer.wait(*(() if more is None else (more,)))
            elif len(data):
                self._buffer += data
            else:
                self._has_ended = True

    def close(self) -> None:
        """End the pass over the source."""
        self._pass.close()


def _once(data: bytes) -> Generator[Piece]:
    yield data


def digest_of(cut: Cut, algorithm: str, check: Callable[[], object]) -> bytes:
    """Return the digest of a part. `check` is called in between, and raises to give up."""
    found = new_hash(algorithm)
    with closing(cut.pieces()) as pieces:
        for piece in pieces:
            size = piece.size if isinstance(piece, FileRange) else len(cast("bytes", piece))
            done = 0
            while done < size:
                check()
                if isinstance(piece, FileRange):
                    data: bytes | memoryview = piece.read(done, min(_READ, size - done))
                else:
                    data = memoryview(cast("bytes", piece))[done : done + _READ]
                found.update(data)
                done += len(data)
    return found.digest()
