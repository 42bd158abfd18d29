"""Read the pieces of a source or of a body into bytes, as a transport does."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import closing

from support.owner import FakeOwner

from rxupload._sources import FileRange, Flow, Piece, Reader

READ = 256 * 1024  # bytes for each read


def chunks(reader: Reader, count: int = READ, owner: FakeOwner | None = None) -> Generator[bytes]:
    """Make one pass with reads of `count` bytes; closing the generator ends the pass."""
    with closing(reader.pieces()) as pieces:
        yield from chunks_of(pieces, count, owner)


def chunks_of(pieces: Iterable[Piece], count: int = READ, owner: FakeOwner | None = None) -> Generator[bytes]:
    """Read each piece to its end before the next; wait for a piece that has nothing yet."""
    for piece in pieces:
        if isinstance(piece, FileRange):
            done = 0
            while done < piece.size:
                data = piece.read(done, min(count, piece.size - done))
                yield data
                done += len(data)
        elif isinstance(piece, Flow):
            yield from _flow(piece, count, owner)
        else:
            yield bytes(piece)


def _flow(flow: Flow, count: int, owner: FakeOwner | None) -> Generator[bytes]:
    while (data := flow.read(count)) is None or len(data):
        if data is not None:
            yield bytes(data)
            continue
        assert owner is not None, "nothing for now, and nobody to wait"
        watched = flow.watched()
        owner.wait(*([] if watched is None else [watched]))


def read_all(reader: Reader, owner: FakeOwner | None = None) -> bytes:
    """All bytes of one pass."""
    return b"".join(chunks(reader, owner=owner))
