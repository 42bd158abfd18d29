"""Makes a request's head, and cuts head and body into units: the pieces of data that are sent with one call each.

A body is a flat list of pieces: bytes, a range of an open file, or a flow, which gives its bytes over time. The head
and the first pieces form one unit. Small pieces are joined with their neighbours. Large pieces are sent without a copy.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias, TypeGuard, cast

import httpx

if TYPE_CHECKING:
    from rxupload._wait import Clock, Watched

SMALL = 128 * 1024  # pieces up to so many bytes are joined; a copy of a larger one costs more than a send
READ = 256 * 1024  # bytes to ask a flow for at a time
PATIENCE = 0.05  # how many seconds to collect small pieces of a flow

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, section 5.6.2
_TARGET = re.compile(rb"[!-~]+")
_NOT_IN_A_TOKEN = re.compile(rb"[^!#$%&'*+\-.^_`|~0-9A-Za-z]")
_NOT_IN_A_VALUE = re.compile(rb"[\r\n\0]")
_LENGTH = re.compile(rb"[0-9]+")


class FileRange(Protocol):
    """A part of an open file."""

    start: int
    size: int

    def fileno(self) -> int:
        """The file's descriptor."""
        ...

    def read(self, offset: int, count: int) -> bytes:
        """Return at most `count` bytes from an offset in the range. Raise if the file ends before the range does."""
        ...

    def ends_at(self, offset: int) -> Exception:
        """Return the error for a file that ends at an offset in the range."""
        ...


class Flow(Protocol):
    """Bytes of a body that come over time."""

    def read(self, count: int) -> bytes | memoryview | None:
        """Return about `count` bytes; empty at the end; None if there are none yet."""
        ...

    def watched(self) -> tuple[Watched, int] | None:
        """What to wait for when `read` has returned None; None: the control's `wake`."""
        ...


Piece: TypeAlias = bytes | memoryview | FileRange | Flow


def is_range(piece: Piece) -> TypeGuard[FileRange]:
    """Whether a piece is a range of a file."""
    return hasattr(piece, "start")


class Unit(NamedTuple):
    """The next data to send.

    Attributes:
        data: Bytes or a range of a file; or a flow to wait for, because it has no bytes yet.
        content: How many of the bytes are the body's, framing aside.
    """

    data: bytes | memoryview | FileRange | Flow
    content: int


def head_of(method: bytes, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return the head of a request.

    Raises:
        httpx.LocalProtocolError: A part of it is invalid, so a server could misread the head. The error does not
            quote the target, nor a header's value or wrong name: they may contain secrets.
    """
    if not _TOKEN.fullmatch(method):
        raise httpx.LocalProtocolError(f"The request method is not a token: {method!r}")
    if not _TARGET.fullmatch(target):
        raise httpx.LocalProtocolError("The request's target is empty, or is not visible ASCII")
    names = [name for name, _ in headers]
    if not all(names) or _NOT_IN_A_TOKEN.search(b"".join(names)):
        raise httpx.LocalProtocolError("The name of a header is not a token")
    if _NOT_IN_A_VALUE.search(b"".join([value for _, value in headers])):
        wrong = next(name for name, value in headers if _NOT_IN_A_VALUE.search(value))
        raise httpx.LocalProtocolError(f"The value of the header {wrong!r} has a line break or a NUL in it")
    hosts = [name.lower() for name in names].count(b"host")
    if hosts != 1:
        raise httpx.LocalProtocolError(f"A request has one Host header, and this one has {hosts}")
    fields = b"".join([b"%s: %s\r\n" % field for field in headers])
    return b"%s %s HTTP/1.1\r\n%s\r\n" % (method, target, fields)


class Framing(NamedTuple):
    """How a request's body is delimited (RFC 9112, section 6), and whether its connection may be used again.

    Attributes:
        length: The Content-Length; None without one.
        is_chunked: Whether the request has `Transfer-Encoding: chunked`.
        is_last: Whether the request has `Connection: close`, so that no other may follow it (section 9.6).
    """

    length: int | None
    is_chunked: bool
    is_last: bool = False

    @staticmethod
    def of(headers: Iterable[tuple[bytes, bytes]]) -> Framing:
        """Read the request's headers.

        Raises:
            httpx.LocalProtocolError: They contradict each other, or name another coding than chunked.
        """
        lengths: set[bytes] = set()
        codings: list[bytes] = []
        is_last = False
        for name, value in headers:
            match name.lower():
                case b"content-length":
                    lengths.add(value.strip(b" \t"))
                case b"transfer-encoding":
                    codings.append(value.strip(b" \t").lower())
                case b"connection":
                    options = value.lower().split(b",")
                    is_last = is_last or b"close" in [option.strip(b" \t") for option in options]
        if codings and (lengths or codings != [b"chunked"]):
            raise httpx.LocalProtocolError(
                "A request's Transfer-Encoding must be chunked, and excludes a Content-Length"
            )
        length = lengths.pop() if lengths else None
        if length is not None and (lengths or not _LENGTH.fullmatch(length)):
            raise httpx.LocalProtocolError(f"The request has a wrong Content-Length: {length!r}")
        return Framing(None if length is None else int(length), bool(codings), is_last)


class Units:
    """Makes units of a head and of pieces. A request has one of these, even if it tries several connections."""

    def __init__(
        self,
        head: bytes,
        pieces: Iterable[Piece],
        framing: Framing,
        clock: Clock,
        *,
        is_head_alone: bool = False,
        is_framed: bool = True,
    ) -> None:
        self._pieces = pieces
        self._is_head_alone = is_head_alone  # the body waits for the server, or for the throttle
        self._is_chunked = framing.is_chunked and is_framed  # HTTP/2 frames the body otherwise
        self._is_of_any_length = framing.is_chunked
        self._length = framing.length or 0
        self._clock = clock
        self._before = [head]  # head or framing, to be sent before the next content
        self._pending: list[bytes | memoryview] = []
        self._size = 0
        self._content = 0  # bytes in all

    def __iter__(self) -> Iterator[Unit]:
        if self._is_head_alone:
            yield self._flush()
        for piece in self._pieces:
            if isinstance(piece, bytes | memoryview):
                if len(piece) > SMALL:
                    yield from self._alone(piece, len(piece))
                    continue
                self._add(piece)
            elif is_range(piece):
                if piece.size > SMALL:
                    yield from self._alone(piece, piece.size)
                    continue
                self._add(_whole(piece))
            else:
                yield from self._flow(cast("Flow", piece))
            if self._size > SMALL:
                yield self._flush()
        if not self._is_of_any_length and self._content != self._length:
            raise httpx.LocalProtocolError(
                f"The body has {self._content} bytes, and {self._length} were declared"
            )
        last = b"0\r\n\r\n" if self._is_chunked else b""
        if self._size or self._before or last:
            yield self._flush(last)

    def _add(self, piece: bytes | memoryview) -> None:
        if piece:
            self._pending.append(piece)
            self._count(len(piece))
            self._size += len(piece)

    def _count(self, size: int) -> None:
        self._content += size
        if not self._is_of_any_length and self._content > self._length:
            raise httpx.LocalProtocolError(
                f"The body has more than the {self._length} bytes that were declared"
            )

    def _alone(self, piece: bytes | memoryview | FileRange, size: int) -> Iterator[Unit]:
        if self._size:
            yield self._flush()
        self._count(size)
        if self._is_chunked:
            self._before.append(b"%x\r\n" % size)
        if self._before:
            yield Unit(b"".join(self._before), 0)
        self._before = [b"\r\n"] if self._is_chunked else []
        yield Unit(piece, size)

    def _flow(self, flow: Flow) -> Iterator[Unit]:
        """Send what is pending first: a flow may block for a long time."""
        if self._size or self._before:
            yield self._flush()
        since = self._clock.now()
        while (data := flow.read(READ)) is None or len(data):
            if data is None:
                # After a flush, read again before waiting: the wait for the throttle may have consumed the wake-up.
                yield self._flush() if self._size else Unit(flow, 0)
            elif len(data) > SMALL:
                yield from self._alone(data, len(data))
            else:
                self._add(bytes(data))  # a memoryview is valid only until the next read
                if self._size <= SMALL and self._clock.now() - since < PATIENCE:
                    continue
                yield self._flush()
            since = self._clock.now()

    def _flush(self, last: bytes = b"") -> Unit:
        before, size = self._before, self._size
        if self._is_chunked and size:
            data = b"".join([*before, b"%x\r\n" % size, *self._pending, b"\r\n", last])
        else:
            data = b"".join([*before, *self._pending, last])
        self._before, self._pending, self._size = [], [], 0
        return Unit(data, size)


def _whole(piece: FileRange) -> bytes:
    data = piece.read(0, piece.size) if piece.size else b""
    while len(data) < piece.size:
        data += piece.read(len(data), piece.size - len(data))
    return data


class Count:
    """Translates a count of the request's bytes into one of the body's: the head and the chunks' framing are extra."""

    def __init__(self) -> None:
        # The first byte on the wire, the bytes of framing, the bytes of content.
        self._parts: deque[tuple[int, int, int]] = deque()
        self._wire = 0
        self._arrived = 0  # content of the parts that have been removed from the deque
        self.content = 0  # bytes of content added so far

    def add(self, length: int, content: int) -> None:
        """Add a part of `length` bytes on the wire, of which `content` are the body's."""
        self._parts.append((self._wire, length - content, content))
        self._wire += length
        self.content += content

    def arrived(self, wire: int) -> int:
        """How many of the first `wire` bytes of the request are the body's."""
        while self._parts:
            start, frame, content = self._parts[0]
            into = wire - start - frame  # count all framing first, so that the result is never too high
            if into < content:
                return self._arrived + max(0, into)
            self._arrived += content
            self._parts.popleft()
        return self._arrived
