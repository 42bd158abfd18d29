"""Hashes files while they are sent, so that none has to be read a second time."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, closing

from rxupload._digests import Hash, new_hash
from rxupload._sources import FileRange, Flow, Piece, Reader
from rxupload._wait import Watched

_SLICE = 256 * 1024  # bytes to hash and send at a time


class Digests:
    """The digests of the files of one body, in their order. Each pass computes them again.

    Attributes:
        algorithm: Its name in hashlib.
    """

    def __init__(self, algorithm: str) -> None:
        self.algorithm = algorithm
        self._readers: list[_HashingReader] = []

    def follow(self, reader: Reader) -> Reader:
        """Return a reader of the same file that hashes it."""
        self._readers.append(_HashingReader(reader, self.algorithm))
        return self._readers[-1]

    def of_last_pass(self, *, is_whole: bool) -> list[str | None]:
        """Return each file's digest in hex. If the last pass has not sent the whole body, there are none."""
        return [each.hash.hexdigest() if is_whole else None for each in self._readers]


class _HashingReader(Reader):
    """Hashes what another reader reads.

    sendfile would send the bytes of a file unseen. So this gives them as bytes.
    """

    def __init__(self, reader: Reader, algorithm: str) -> None:
        super().__init__("", reader.size, reader.pieces, ExitStack())
        self._reader = reader
        self._algorithm = algorithm
        self.hash = new_hash(algorithm)

    def pieces(self) -> Generator[Piece]:
        """Make one pass from the start."""
        self.hash = new_hash(self._algorithm)
        with closing(self._reader.pieces()) as pieces:
            for piece in pieces:
                if isinstance(piece, Flow):
                    yield _HashingFlow(piece, self.hash)
                    continue
                for data in _slices(piece):
                    self.hash.update(data)
                    yield data


def _slices(piece: bytes | memoryview | FileRange) -> Generator[bytes | memoryview]:
    if isinstance(piece, FileRange):
        done = 0
        while done < piece.size:
            data = piece.read(done, min(_SLICE, piece.size - done))
            done += len(data)
            yield data
    elif len(piece) <= _SLICE:
        yield piece
    else:
        view = memoryview(piece)
        for start in range(0, len(view), _SLICE):
            yield view[start : start + _SLICE]


class _HashingFlow(Flow):
    """Hashes a flow. It cuts long items, so that their hash does not delay the first byte, or an abort."""

    def __init__(self, flow: Flow, hash_: Hash) -> None:
        self._flow = flow
        self._hash = hash_
        self._left: bytes | memoryview = b""  # of an item, valid until the next read of the flow

    def read(self, count: int) -> bytes | memoryview | None:
        if not len(self._left):
            data = self._flow.read(count)
            if data is None:
                return None
            self._left = data if len(data) <= _SLICE else memoryview(data)
        data, self._left = self._left[:_SLICE], self._left[_SLICE:]
        self._hash.update(data)
        return data

    def watched(self) -> tuple[Watched, int] | None:
        return self._flow.watched()
