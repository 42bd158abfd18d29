"""Cuts the file into the parts that are sent, each from an offset that only the server knows beforehand.

A file on the disk and bytes in memory are there at every offset. What else gives bytes is read once, in its order: one
part of it is kept, to be sent again if it has to be. Only what can be read again gives the bytes before that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

from rxupload._digests import new_hash
from rxupload._errors import SourceChanged
from rxupload._sources import FileRange, Flow, Piece, Reader
from rxupload._transfer import Transfer
from rxupload._wait import Watched

from .identity import Checkpoint
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
        hashing: Hashes the file as it is read; None if nobody wants its digest.
    """

    hashing: Hashing | None = None

    @property
    @abstractmethod
    def size(self) -> int | None:
        """Its bytes; None if unknown."""

    @abstractmethod
    def cut(self, start: int, most: int | None) -> Cut:
        """Return the part from an offset on, with at most `most` bytes. It is valid until the next call.

        Raises:
            SourceChanged: The file ends before the offset.
            RuntimeError: The source can be read only once, and the offset is before what is kept of it.
        """

    def learn(self, most: int) -> None:  # noqa: B027 - the default
        """Find the size out, if that takes no more than reading so many bytes."""

    def goes_on(self, offset: int, last: Cut | None) -> bool:
        """Whether a source of unknown size has more bytes than those before an offset.

        Args:
            offset: Where the server takes it to end.
            last: The last part that was cut; None if none was.
        """
        if self.size is not None:
            return False
        if last is not None:
            return not last.part.is_last or offset != last.part.end
        return self.cut(offset, 1).part.size > 0

    @property
    def file(self) -> FileRange | None:
        """What is sent of a file on the disk; None for all else."""
        return None

    @abstractmethod
    def read_on(self, hashing: Hashing, until: int) -> None:
        """Have the bytes hashed up to an offset that are not hashed yet."""

    def mark(self) -> Checkpoint | None:
        """Return the hash of the file up to the end of the last part; None if the file has a guard, or needs none."""
        return None

    def mark_of_read(self) -> Checkpoint | None:
        """Return the hash of what was read in its order, also beyond the last `mark`; None if nothing was."""
        return None

    def begins_as(self, checkpoint: Checkpoint | None, keep: int) -> bool:  # noqa: ARG002 - the default
        """Whether the file begins with the content of an earlier `mark`. The last `keep` bytes before it are kept."""
        return True

    @abstractmethod
    def close(self) -> None:
        """End the pass over the source."""


class Hashing:
    """Hashes a file in its order. Parts that are sent twice count once, and those that are not sent are read for it."""

    def __init__(self, algorithm: str) -> None:
        self.algorithm = algorithm
        self._hash = new_hash(algorithm)
        self.position = 0

    def take(self, offset: int, data: bytes | memoryview) -> None:
        """Take the bytes at an offset, as far as they are the next ones."""
        known = self.position - offset
        if 0 <= known < len(data):
            self._hash.update(memoryview(data)[known:])
            self.position = offset + len(data)

    def hexdigest(self) -> str:
        """Return the digest of what was taken, in hex."""
        return self._hash.hexdigest()


def parts_of(reader: Reader, transfer: Transfer) -> Parts:
    """Begin the first pass over a source, and return its parts."""
    with ExitStack() as stack:
        pieces = stack.enter_context(closing(reader.pieces()))
        piece = next(pieces)
        parts = (
            InOrder(reader, transfer, piece, pieces)
            if isinstance(piece, Flow)
            else AtAnyOffset(transfer, piece, pieces)
        )
        stack.pop_all()
        return parts


class AtAnyOffset(Parts):
    """A file on the disk, or bytes in memory."""

    def __init__(
        self, transfer: Transfer, piece: bytes | memoryview | FileRange, of_pass: Generator[Piece]
    ) -> None:
        self._transfer = transfer
        self._size = piece.size if isinstance(piece, FileRange) else len(piece)
        self._piece = piece
        self._pass = of_pass
        self._marking = Hashing("sha256")
        self._cut_to = 0

    @property
    def size(self) -> int:
        """Its bytes."""
        return self._size

    def cut(self, start: int, most: int | None) -> Cut:
        """Return a part; see `Parts.cut`."""
        left = self.size - start
        size = left if most is None else min(most, left)
        self._cut_to = start + size
        return Cut(Part(start, size, is_last=size == left), partial(self._pieces, start, size))

    def _pieces(self, start: int, size: int) -> Generator[Piece]:
        if self.hashing is None:
            piece = self._piece
            part = (
                piece.part(start, size) if isinstance(piece, FileRange) else memoryview(piece)[start:][:size]
            )
            yield part
            return
        self.read_on(self.hashing, start)
        for offset, data in self._slices(start, start + size):
            self.hashing.take(offset, data)
            yield data

    def read_on(self, hashing: Hashing, until: int) -> None:
        """Have the bytes hashed up to an offset; see `Parts.read_on`."""
        for offset, data in self._slices(hashing.position, until):
            hashing.take(offset, data)

    def _slices(self, start: int, end: int) -> Generator[tuple[int, bytes | memoryview]]:
        while start < end:
            self._transfer.check()
            count = min(_READ, end - start)
            piece = self._piece
            data = (
                piece.read(start, count)
                if isinstance(piece, FileRange)
                else memoryview(piece)[start:][:count]
            )
            yield start, data
            start += len(data)

    def mark(self) -> Checkpoint | None:
        """Return the hash of memory that may change; see `Parts.mark`. Each byte is hashed once."""
        if not isinstance(self._piece, memoryview):
            return None
        self.read_on(self._marking, self._cut_to)
        return Checkpoint(self._marking.position, self._marking.hexdigest())

    def begins_as(self, checkpoint: Checkpoint | None, keep: int) -> bool:  # noqa: ARG002 - all are kept
        """Whether memory that may change has not, as far as it was sent; see `Parts.begins_as`."""
        if not isinstance(self._piece, memoryview):
            return True
        if checkpoint is None or checkpoint.offset > self.size:
            return False
        self.read_on(self._marking, checkpoint.offset)
        return self._marking.hexdigest() == checkpoint.sha256

    def within(self, transfer: Transfer, start: int, size: int) -> AtAnyOffset:
        """Return a part as a file of its own, for another transfer. It is closed with this one."""
        piece = self._piece
        part = piece.part(start, size) if isinstance(piece, FileRange) else memoryview(piece)[start:][:size]
        return AtAnyOffset(transfer, part, _nothing())

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
        self._size = reader.size
        self._reader = reader
        self._transfer = transfer
        self._pass = of_pass
        self._flow: Flow | None = flow  # None if it was given away
        self._at = 0  # the offset of the buffer
        self._buffer = bytearray()
        self._has_ended = False
        self._marking = Hashing("sha256")

    @property
    def size(self) -> int | None:
        """Its bytes; None if unknown."""
        return self._size

    def cut(self, start: int, most: int | None) -> Cut:
        """Return a part; see `Parts.cut`."""
        self._seek(start)
        if most is None:
            assert self.size is not None
            return Cut(Part(start, self.size - start, is_last=True), partial(self._rest, start))
        self._fill(most + 1)  # one more, to know whether this is the last part
        data = self._copy(0, most)
        self._marking.take(start, data)
        is_last = self._has_ended and len(self._buffer) <= most
        return Cut(Part(start, len(data), is_last=is_last), partial(_once, data))

    def _rest(self, start: int) -> Generator[Piece]:
        self._seek(start)
        data, flow = bytes(self._buffer), self._flow
        assert flow is not None
        self._flow = None
        if data:
            self._marking.take(start, data)
            yield data
        hashings = [each for each in (self._marking, self.hashing) if each is not None]
        yield _Hashed(flow, hashings, start + len(data))

    def learn(self, most: int) -> None:
        """Find the size out; see `Parts.learn`."""
        self._fill(most + 1)
        if self._has_ended and self._size is None:
            self._size = self._at + len(self._buffer)

    def read_on(self, hashing: Hashing, until: int) -> None:
        """Have the bytes hashed up to an offset; see `Parts.read_on`."""
        assert hashing is self.hashing
        if hashing.position < until:
            self._seek(until)

    def mark(self) -> Checkpoint | None:
        """Return the hash of what was read up to the end of the last part."""
        return self.mark_of_read()

    def mark_of_read(self) -> Checkpoint:
        """Return the hash of what was read; see `Parts.mark_of_read`."""
        return Checkpoint(self._marking.position, self._marking.hexdigest())

    def begins_as(self, checkpoint: Checkpoint | None, keep: int) -> bool:
        """Read up to an earlier mark, and compare; see `Parts.begins_as`."""
        if checkpoint is None:
            return True
        marking = self._marking
        while marking.position < checkpoint.offset:
            self._fill(marking.position - self._at + 1)
            end = min(self._at + len(self._buffer), checkpoint.offset)
            if end == marking.position:
                return False
            marking.take(marking.position, self._copy(marking.position - self._at, end - self._at))
            self._drop(marking.position - keep - self._at)
        return marking.hexdigest() == checkpoint.sha256

    def _seek(self, start: int) -> None:
        """Make the buffer begin at an offset."""
        if self._flow is None or start < self._at:
            self._pass.close()
            self._pass = self._reader.pieces()
            self._flow = cast("Flow", next(self._pass))
            self._at, self._has_ended = 0, False
            self._buffer.clear()
        while True:
            passed = min(len(self._buffer), start - self._at)
            self._marking.take(self._at, self._copy(0, passed))
            self._drop(passed)
            if self._at == start:
                return
            self._fill(1)
            if not self._buffer:
                raise SourceChanged(
                    f"The source ended after {self._at} bytes, and the server has {start} of an earlier reading"
                )

    def _copy(self, start: int, end: int) -> bytes:
        """Return a part of the buffer, copied once."""
        with memoryview(self._buffer) as whole, whole[start:end] as part:
            return bytes(part)

    def _drop(self, count: int) -> None:
        if count > 0:
            del self._buffer[:count]
            self._at += count

    def _fill(self, count: int) -> None:
        """Read until the buffer has so many bytes, or the source has ended."""
        assert self._flow is not None
        while len(self._buffer) < count and not self._has_ended:
            self._transfer.check()
            data = self._flow.read(_READ)
            if data is None:
                more = self._flow.watched()
                self._transfer.wait(*(() if more is None else (more,)))
            elif len(data):
                if self.hashing is not None:
                    self.hashing.take(self._at + len(self._buffer), data)
                self._buffer += data
            else:
                self._has_ended = True

    def close(self) -> None:
        """End the pass over the source."""
        self._pass.close()


class _Hashed(Flow):
    """A flow that is hashed as it is read."""

    def __init__(self, flow: Flow, hashings: Sequence[Hashing], offset: int) -> None:
        self._flow = flow
        self._hashings = hashings
        self._offset = offset

    def read(self, count: int) -> bytes | memoryview | None:
        data = self._flow.read(count)
        if data is not None:
            for each in self._hashings:
                each.take(self._offset, data)
            self._offset += len(data)
        return data

    def watched(self) -> tuple[Watched, int] | None:
        return self._flow.watched()


def _nothing() -> Generator[Piece]:
    yield from ()


def _once(data: bytes) -> Generator[Piece]:
    yield data


def with_digest(cut: Cut, algorithm: str, check: Callable[[], object]) -> Cut:
    """Return a part with its digest. `check` is called in between, and raises to give up."""
    found = new_hash(algorithm)
    with closing(cut.pieces()) as pieces:
        for piece in pieces:
            if isinstance(piece, FileRange):
                done = 0
                while done < piece.size:
                    check()
                    data = piece.read(done, min(_READ, piece.size - done))
                    found.update(data)
                    done += len(data)
            else:
                check()
                found.update(cast("bytes", piece))
    return replace(cut, part=replace(cut.part, digest=found.digest()))
