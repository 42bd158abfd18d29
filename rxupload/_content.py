"""Gives the body to a transport: as pieces to our own, and as bytes to a client with another one."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator

import httpx

from ._body import Body
from ._meter import Meter
from ._sources import FileRange, Flow, Piece
from ._transfer import Transfer
from ._wait import Watched

_SMALL = 128 * 1024  # pieces are joined up to so many bytes
_CHUNK = 896 * 1024  # bytes to read at a time: joined with earlier ones, they stay below 1 MiB
_PACED = 64 * 1024  # the most bytes that a client gets at a time, under a rate limit or a pause
_PATIENCE = 0.05  # how many seconds to collect small pieces


class Content(httpx.SyncByteStream):
    """The body of one upload. Each pass sends it once.

    It has neither `read` nor a length, so httpx takes its pieces unchanged and can iterate over it again.

    Attributes:
        length: Bytes of the whole body; None if unknown.
        timeouts: The request's timeouts. They are shortened to the upload's time limit, which the client does not know.
        is_whole: Whether the last pass has sent the whole body.
    """

    def __init__(self, body: Body, transfer: Transfer, begin: Callable[[Meter], None] | None = None) -> None:
        """Make it of a body. `begin` tells the meter of a pass, if that is not one over the whole file."""
        self.length = body.length
        self._begin = begin or (lambda meter: meter.begin(self.length))
        self.timeouts: dict[str, float | None] = {}
        self.is_whole = False
        self._body: Body | None = body
        self._transfer: Transfer | None = transfer
        self._pass: Generator[Piece] | None = None

    def pieces(self) -> Generator[Piece]:
        """End the current pass, if any, and begin a new one."""
        self.end_pass()
        if self._body is None or self._transfer is None:
            raise RuntimeError("The upload has ended; subscribe to it again to send its body again")
        assert self._transfer.meter is not None
        self.is_whole = False
        self._begin(self._transfer.meter)
        self._pass = self._body.pieces()
        return self._pass

    def __iter__(self) -> Iterator[bytes]:
        """Begin a pass that yields at most 1 MiB at a time. Bytes count as sent when the client asks for the next."""
        pieces = self.pieces()
        transfer = self._transfer
        assert transfer is not None
        assert transfer.meter is not None
        count = 0
        for chunk in _chunks(pieces, transfer):
            transfer.check()
            for part in _paced(chunk, transfer):
                yield part
                count += len(part)
                transfer.meter.update(count)
        transfer.meter.settle(count)
        self.is_whole = True
        transfer.clamp(self.timeouts)  # again, because less time is left for the response

    def end_pass(self) -> None:
        """End the current pass, if any."""
        if self._pass is not None:
            self._pass.close()
            self._pass = None

    def close(self) -> None:
        """End the current pass, if any, and release all objects: a response may be kept long after its upload."""
        self.end_pass()
        self._body = self._transfer = None


def _chunks(pieces: Generator[Piece], transfer: Transfer) -> Generator[bytes]:
    pending: list[bytes] = []
    size = 0
    since = transfer.clock.now()
    for chunk in _flat(pieces):
        if chunk:
            pending.append(chunk)
            size += len(chunk)
        if pending and (size >= _SMALL or not chunk or transfer.clock.now() - since >= _PATIENCE):
            yield b"".join(pending)  # join does not copy a single chunk
            pending, size = [], 0
            since = transfer.clock.now()
        elif isinstance(chunk, _Nothing):
            transfer.wait(*chunk.watched)
    if pending:
        yield b"".join(pending)


class _Nothing(bytes):
    """Stands for no bytes yet, and says what to wait for."""

    watched: tuple[tuple[Watched, int], ...] = ()


def _flat(pieces: Generator[Piece]) -> Generator[bytes]:
    for piece in pieces:
        if isinstance(piece, bytes | memoryview):
            for start in range(0, len(piece), _CHUNK):
                yield bytes(piece[start : start + _CHUNK])
        elif isinstance(piece, FileRange):
            done = 0
            while done < piece.size:
                chunk = piece.read(done, min(_CHUNK, piece.size - done))
                yield chunk
                done += len(chunk)
        else:
            yield from _flow(piece)


def _flow(flow: Flow) -> Generator[bytes]:
    while (data := flow.read(_CHUNK)) is None or len(data):
        if data is None:
            nothing = _Nothing()
            more = flow.watched()
            nothing.watched = () if more is None else (more,)
            yield nothing
        else:
            for start in range(0, len(data), _CHUNK):
                yield bytes(data[start : start + _CHUNK])


def _paced(chunk: bytes, transfer: Transfer) -> Generator[bytes]:
    if not transfer.is_held_back:
        yield chunk
        return
    done = 0
    while done < len(chunk):
        granted, again = transfer.grant(min(len(chunk) - done, _PACED))
        if granted:
            yield chunk[done : done + granted]
            done += granted
        else:
            transfer.wait(until=again)
