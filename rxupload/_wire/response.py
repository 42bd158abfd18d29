"""Parses the response of one HTTP/1.1 exchange: bytes in, a head and a body out, without I/O.

The sender feeds it while the request's body is still being sent. So the status is known as soon as its third digit has
come. The parser keeps only one head, and the part of the body that the caller has not taken.

1. Every head is parsed once, here. So the caller sees the same headers that decide the body's length.
2. A head with status 1xx, except 101, goes to the caller. Then the parser expects another head.
3. The first head with another status is final. It says how the body ends (RFC 9112, section 6.3).
4. llhttp decodes a chunked body. It never sees a head from the wire.
5. Bytes after the end are dropped, except after an upgrade. Then the connection cannot be used again.
6. The result does not depend on where the bytes are cut. (One exception: the limit on a chunked body's overhead counts
   whole calls of `feed`.)
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise

import httptools
import httpx

MAX_HEAD = 100 * 1024  # bytes of one head, empty lines before it included; h11 has the same limit

QUOTED = 200  # bytes of the server's that a text quotes, at most
_NUMBER_END = len(b"HTTP/1.1 200")
_SWITCHING_PROTOCOLS = 101
_OK = 200  # the first final status, but for 101
_LENGTH_DIGITS = 20  # as in h11: enough for 2**64

# Matches any beginning of a status line, up to the byte after the number. So it finds the first wrong byte.
_START_BYTES = rb"H T T P / 1 \. [01] \x20 [1-9] [0-9] [0-9] [\x20\r\n]".split()
_START = re.compile(reduce(lambda rest, one: b"(?:%s%s)?" % (one, rest), reversed(_START_BYTES), b""))
_EMPTY_LINES = re.compile(rb"(?:\r?\n)+")
_BLANK_LINE = re.compile(rb"\n\r?\n")
_LINE_END = re.compile(rb"\r?\n")
_FOLD = re.compile(rb"\r\n[ \t]+")
_FIELD = re.compile(rb"^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([^\r\n]*)\r\n", re.MULTILINE)

# Makes llhttp expect a chunked body. "close" keeps it from parsing later bytes as another response.
_CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a response.

    Attributes:
        version: `b"HTTP/1.1"` or `b"HTTP/1.0"`.
        status: From 100 to 999.
        reason: The text after the number, often empty, and at most 200 bytes of it.
        headers: Names and values as the server spelled them, in its order, with repeats. White space around a value is
            removed. The lines of a folded value are joined by a space.
    """

    version: bytes
    status: int
    reason: bytes
    headers: list[tuple[bytes, bytes]]


class ResponseParser:
    """Parses the response to one request. For one thread at a time.

    Attributes:
        head: The final head (status 200 or more, or 101), once its blank line has come.
        status: The final status, set before `head`: as soon as its third digit has come.
        is_complete: Whether the whole response has come.
        has_begun: Whether any byte of a head has come, final or informational.
        has_ended: Whether `feed_eof` was called.
        kept: How many bytes `take` would return.
        informational: How many bytes have come that are neither the final head nor the body: informational heads, with
            the empty lines before them.
        is_refused: Whether the server said that it wants no more of the request. Only HTTP/2 can say that.
        after: Bytes that came after the head of an upgrade (101, or 2xx to CONNECT).
    """

    def __init__(self, method: str, on_informational: Callable[[Head], None] | None = None) -> None:
        """Expect the response to a request.

        Args:
            method: The request method, in capitals: a response to HEAD or CONNECT has no body.
            on_informational: `feed` calls it with each head of status 1xx except 101. If it raises, `feed` raises the
                same, and the next call goes on with the bytes after that head.
        """
        self.head: Head | None = None
        self.status: int | None = None
        self.is_complete = False
        self.has_begun = False
        self.has_ended = False
        self.kept = 0
        self.informational = 0
        self.is_refused = False
        self.after = bytearray()
        self._method = method
        self._on_informational = on_informational
        self._keeps_alive = False
        self._has_extra = False  # something came after the end

        self._buffer = bytearray()  # an unfinished head
        self._skipped = 0  # bytes of empty lines before it
        self._searched = 0  # where to continue the search for its blank line
        self._has_final_byte = False  # a byte has come that may belong to the final head

        self._body: list[bytes] = []  # for take()
        self._left: int | None = None  # bytes still to come, by the Content-Length
        self._chunked: httptools.HttpResponseParser | None = None
        self._chunks = _Chunks()
        self._overhead = 0  # bytes of a chunked body since its last content

    @property
    def goes_on(self) -> bool:
        """Whether more may come."""
        return not (self.is_complete or self.has_ended)

    @property
    def is_reusable(self) -> bool:
        """Whether another request may be sent on the connection.

        It may if the response is complete, if its version and its Connection header keep the connection open, and if
        no byte came after it. (After CONNECT and a status 2xx, the connection is ready for the tunnel.)
        """
        return self.is_complete and self._keeps_alive and not self._has_extra

    def feed(self, data: bytes) -> None:
        """Parse bytes from the server. Empty `data` does not mean the end; see `feed_eof`.

        Raises:
            httpx.RemoteProtocolError: The bytes are not HTTP/1.1, or not safe to read as such.
        """
        if not data:
            return
        if self.is_complete:
            self._has_extra = True
            if self.status == _SWITCHING_PROTOCOLS or self._method == "CONNECT":
                self.after += data
        elif self.head is None:
            self._feed_head(data)
        else:
            self._feed_body(data)

    def feed_eof(self, *, is_clean: bool = True) -> None:
        """Take note that the connection has ended. After a complete response this does nothing.

        Args:
            is_clean: Whether the server closed it in an orderly way. False after a reset, or if TLS ended without a
                close_notify: then a body that ends with the connection may have been cut off.

        Raises:
            httpx.ReadError: The response is not complete.
        """
        self.has_ended = True
        if self.is_complete:
            return
        if self.head is None and not self._has_final_byte:
            raise httpx.ReadError("The server closed the connection before it answered")
        if self.head is None or self._chunked is not None or self._left is not None:
            raise httpx.ReadError("The server closed the connection before the response was whole")
        if not is_clean:
            raise httpx.ReadError("The response was cut off: the connection broke while its body came")
        self.is_complete = True

    def take(self) -> bytes:
        """Return the body received since the last call, without the framing of chunks, still content-encoded."""
        body = b"".join(self._body)
        self._body.clear()
        self.kept = 0
        return body

    # Heads

    def _feed_head(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        while buffer and self.head is None:
            if self._searched < _NUMBER_END and not self._check_start():
                return
            blank = _BLANK_LINE.search(buffer, self._searched)
            size = len(buffer) if blank is None else blank.end()
            if self._skipped + size > MAX_HEAD:
                raise httpx.RemoteProtocolError(f"The response's head is longer than {MAX_HEAD} bytes")
            if blank is None:
                self._searched = max(0, size - 2)
                return
            self._take_head(_parse_head(bytes(buffer[:size])), size)
        if self.head is not None and buffer:
            rest = bytes(buffer)
            buffer.clear()
            self.feed(rest)

    def _check_start(self) -> bool:
        """Drop empty lines, and check the beginning of the status line. Return whether any of it has come."""
        buffer = self._buffer
        if buffer[0] in b"\r\n":
            if empty := _EMPTY_LINES.match(buffer):
                self._skipped += empty.end()
                del buffer[: empty.end()]
            if not buffer or buffer == b"\r":
                if self._skipped + len(buffer) > MAX_HEAD:
                    raise httpx.RemoteProtocolError("The server sent empty lines and no response")
                return False
        start = bytes(buffer[: _NUMBER_END + 1])
        if not _START.fullmatch(start):
            raise httpx.RemoteProtocolError(f"The server sent something other than HTTP/1.1: {start!r}")
        self.has_begun = self._has_final_byte = True
        if len(start) >= _NUMBER_END:
            status = int(start[9:_NUMBER_END])
            if _is_final(status):
                self.status = status
            else:
                self._has_final_byte = False
        return True

    def _take_head(self, head: Head, size: int) -> None:
        if _is_final(head.status):
            self._frame(head)
            self.head = head
        else:
            self.informational += self._skipped + size
        del self._buffer[:size]
        self._searched = self._skipped = 0
        if self.head is None and self._on_informational is not None:
            self._on_informational(head)

    def _frame(self, head: Head) -> None:
        """Find out how the body ends, and whether the connection stays open (RFC 9112, sections 6.3 and 9.3)."""
        lengths: list[bytes] = []
        codings: list[bytes] = []
        options: list[bytes] = []
        for name, value in head.headers:
            match name.lower():
                case b"content-length":
                    lengths += value.split(b",")
                case b"transfer-encoding":
                    codings.append(value.lower())
                case b"connection":
                    options += [option.strip() for option in value.lower().split(b",")]

        is_recent = head.version == b"HTTP/1.1"
        keeps_alive = b"close" not in options and (is_recent or b"keep-alive" in options)
        if self._has_no_body(head.status):
            self._keeps_alive = keeps_alive and head.status != _SWITCHING_PROTOCOLS
            self.is_complete = True
        elif codings:
            if codings != [b"chunked"]:
                message = f"The response has an unknown Transfer-Encoding: {b', '.join(codings)[:QUOTED]!r}"
                raise httpx.RemoteProtocolError(message)
            if lengths:
                raise httpx.RemoteProtocolError("The response has a Content-Length and a Transfer-Encoding")
            self._keeps_alive = keeps_alive and is_recent  # HTTP/1.0 has no chunks: section 6.1
            self._chunked = httptools.HttpResponseParser(self._chunks)
            # Some servers pad the chunk's size with spaces; h11 accepts it, too.
            self._chunked.set_dangerous_leniencies(lenient_spaces_after_chunk_size=True)
            self._chunked.feed_data(_CHUNKED_HEAD)
        elif lengths:
            self._left = _content_length(lengths)
            self._keeps_alive = keeps_alive
            self.is_complete = not self._left

    def _has_no_body(self, status: int) -> bool:
        """Whether the response ends with its head, regardless of its headers."""
        return (
            status in {_SWITCHING_PROTOCOLS, 204, 304}
            or self._method == "HEAD"
            or (self._method == "CONNECT" and httpx.codes.is_success(status))
        )

    # Body

    def _feed_body(self, data: bytes) -> None:
        if self._chunked is not None:
            self._feed_chunked(self._chunked, data)
            return
        if self._left is not None:
            if len(data) > self._left:
                self._has_extra = True
                data = data[: self._left]
            self._left -= len(data)
            self.is_complete = not self._left
        self._body.append(data)
        self.kept += len(data)

    def _feed_chunked(self, parser: httptools.HttpResponseParser, data: bytes) -> None:
        """Decode some of a chunked body.

        httptools does not tell where a message ends, and llhttp skips line ends after it. So feed the first four bytes
        of the line ends at the end of `data` one by one. A message ends at the latest there ("0", then two CRLF). If it
        ends earlier, other bytes come after it.
        """
        chunks = self._chunks
        text_end = len(data.rstrip(b"\r\n"))
        view = memoryview(data)
        fed = 0
        cuts = {0, *range(text_end, min(text_end + 5, len(data))), len(data)}
        try:
            for start, fed in pairwise(sorted(cuts)):
                parser.feed_data(view[start:fed])
                if chunks.is_complete:
                    break
        except httptools.HttpParserError as error:
            if not chunks.is_complete:  # otherwise the error is about bytes after the end
                message = f"The response's chunked body is wrong: {error}"
                raise httpx.RemoteProtocolError(message) from error
        self.is_complete = chunks.is_complete
        self._has_extra = self.is_complete and (fed <= text_end or fed < len(data))

        if body := b"".join(chunks.came):
            chunks.came.clear()
            self._body.append(body)
            self.kept += len(body)
            self._overhead = 0
        else:
            self._overhead += len(data)
            if self._overhead > MAX_HEAD:
                raise httpx.RemoteProtocolError("The response's chunk extensions or trailers have no end")


class _Chunks:
    """The callbacks of llhttp for a chunked body."""

    __slots__ = ("came", "is_complete", "on_body")

    def __init__(self) -> None:
        self.came: list[bytes] = []
        self.on_body = self.came.append
        self.is_complete = False

    def on_message_complete(self) -> None:
        self.is_complete = True


def _is_final(status: int) -> bool:
    return status >= _OK or status == _SWITCHING_PROTOCOLS


def _parse_head(block: bytes) -> Head:
    """Parse a head with its blank line. The caller has checked its first bytes.

    Raises:
        httpx.RemoteProtocolError: A line in it is not a header.
    """
    lines = block.count(b"\r\n")
    if block.count(b"\n") != lines:
        block = _LINE_END.sub(b"\r\n", block)
        lines = block.count(b"\r\n")
    if block.count(b"\r") != lines or b"\0" in block:
        raise httpx.RemoteProtocolError("The response's head has a NUL or a stray CR in it")
    status_line, _, fields = block.partition(b"\r\n")
    if b"\r\n " in block or b"\r\n\t" in block:
        if fields[:1] in {b" ", b"\t"}:
            raise httpx.RemoteProtocolError("The response's first header begins with white space")
        fields = _FOLD.sub(b" ", fields)
        lines = fields.count(b"\r\n") + 1
    headers = [(name, value.strip(b" \t")) for name, value in _FIELD.findall(fields)]
    if len(headers) != lines - 2:  # one is the status line, one is blank
        raise httpx.RemoteProtocolError("The response's head has a line that is not a header")
    reason = status_line[_NUMBER_END + 1 :][:QUOTED]
    return Head(status_line[:8], int(status_line[9:_NUMBER_END]), reason, headers)


def _content_length(lengths: list[bytes]) -> int:
    """Return the one length that all Content-Length headers give, repeats included (RFC 9110, section 8.6)."""
    values = {length.strip(b" \t") for length in lengths}
    value = values.pop()
    if values or not value.isdigit() or len(value) > _LENGTH_DIGITS:
        text = b", ".join(lengths)[:QUOTED]
        raise httpx.RemoteProtocolError(f"The response has a wrong Content-Length: {text!r}")
    return int(value)
