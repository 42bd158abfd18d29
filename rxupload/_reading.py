"""Reads a whole response in bounded steps, and checks for an abort and for the limits of time and size in between."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any

import httpx

from ._errors import ResponseTooLarge
from ._transfer import Transfer

_STEP = 64 * 1024  # bytes to decode at a time, to count them
_SLICE = 1024  # bytes of an encoded body to pass to the client's library at a time; deflate makes 1 MiB of them at most
_DECODED = ("gzip", "deflate")  # codings that we decode too, to count the bytes


def read(response: Any, transfer: Transfer, limit: int | None) -> None:
    """Read the response into its `content`, and release the stream that it came from.

    Raises:
        ResponseTooLarge: It has more than `limit` bytes, decoded.
        httpx.DecodingError: It has several content codings, or one that the request did not accept, or its gzip is cut
            off.
        BaseException: The transfer's reason to stop.
    """
    library = sys.modules[type(response).__module__.partition(".")[0]]
    if not response.is_stream_consumed:
        coding = _coding(response)
        response.stream = _watched(library)(response.stream, transfer, coding, limit)
        response.read()
    elif not _has_content(response):
        return  # a hook of the client has consumed the stream
    if limit is not None and len(response.content) > limit:
        raise ResponseTooLarge(_too_large(limit))
    response.stream = getattr(library, "ByteStream", httpx.ByteStream)(response.content)


def _has_content(response: Any) -> bool:
    try:
        return response.content is not None
    except RuntimeError:  # httpx's ResponseNotRead
        return False


def _too_large(limit: int) -> str:
    return f"The response has more than {limit} bytes (max_response_size)"


def _coding(response: Any) -> str:
    codings = [each.strip().lower() for each in response.headers.get("content-encoding", "").split(",")]
    if len(codings) > 1:
        raise httpx.DecodingError(
            f"The response has {len(codings)} content codings, but only one is accepted"
        )
    (coding,) = codings
    asked_for = response.request.headers.get("accept-encoding", "").lower()
    if coding in ("br", "zstd") and coding not in asked_for:
        raise httpx.DecodingError(f"The response is encoded as {coding}, which was not asked for")
    return str(coding)


@cache
def _watched(library: ModuleType) -> Any:
    """Make a stream class for the response's library, which requires its own base class."""
    base: Any = getattr(library, "SyncByteStream", httpx.SyncByteStream)

    class Watched(base):  # type: ignore[misc]
        """A response's stream with checks between its pieces."""

        def __init__(self, stream: Any, transfer: Transfer, coding: str, limit: int | None) -> None:
            self._stream = stream
            self._transfer = transfer
            self._coding = coding
            self._limit = limit

        def __iter__(self) -> Iterator[bytes]:
            return _pieces(self._stream, self._transfer, self._coding, self._limit)

        def close(self) -> None:
            self._stream.close()

    return Watched


def _pieces(stream: Any, transfer: Transfer, coding: str, limit: int | None) -> Iterator[bytes]:
    counter: Any = _Counter(coding) if coding in _DECODED else _Plain()
    count = 0
    for part in _sliced(stream, coding):
        for size in counter.sizes(part):
            transfer.check()
            count += size
            if limit is not None and count > limit:
                raise ResponseTooLarge(_too_large(limit))
        if counter.is_wanted:
            yield part
    if counter.breaks_off:
        raise httpx.DecodingError("The response's gzip breaks off")


def _sliced(stream: Any, coding: str) -> Iterator[bytes]:
    """Cut the pieces of an encoded body into slices. The first slice has at least two bytes.

    From these two bytes, httpx detects whether a deflate body has zlib's header.
    """
    held, is_first = b"", True
    for each in stream:
        piece = held + each
        held = b""
        if coding in ("", "identity"):
            yield piece
        elif len(piece) == 1 and is_first and coding == "deflate":
            held = piece
        else:
            for start in range(0, len(piece), _SLICE):
                yield piece[start : start + _SLICE]
                is_first = False
    if held:
        yield held


class _Plain:
    """Counts a body that is not encoded, or that only the client's library can decode."""

    is_wanted = True
    breaks_off = False

    def sizes(self, data: bytes) -> Iterator[int]:
        yield len(data)


class _Counter:
    """Counts the decoded bytes of an encoded body, without keeping them.

    Bytes after the end of the encoded body are counted undecoded. They are dropped, because zlib would keep them all.

    Attributes:
        is_wanted: Whether the last data belonged to the encoded body.
    """

    def __init__(self, coding: str) -> None:
        self._is_gzip = coding == "gzip"
        # Some servers omit zlib's header and checksum (RFC 9110, section 8.4.1.2).
        self._is_raw_possible = coding == "deflate"
        self._decoder = zlib.decompressobj(zlib.MAX_WBITS if coding == "deflate" else zlib.MAX_WBITS | 16)
        self._has_begun = False
        self._is_broken = False
        self.is_wanted = True

    @property
    def breaks_off(self) -> bool:
        """Whether the gzip is cut off. Deflate is never checked: some servers omit its last bytes."""
        return self._is_gzip and self._has_begun and not self._decoder.eof and not self._is_broken

    def sizes(self, data: bytes) -> Iterator[int]:
        """Yield the decoded size of the data, step by step. Ignore errors: the client's library reports them."""
        self._has_begun = self._has_begun or bool(data)
        if self._decoder.eof:
            self.is_wanted = False
            yield len(data)
            return
        while data and not self._is_broken and not self._decoder.eof:
            try:
                decoded = self._decoder.decompress(data, _STEP)
            except zlib.error:
                self._is_broken = not self._is_raw_possible
                self._decoder = zlib.decompressobj(-zlib.MAX_WBITS)
                self._is_raw_possible = False
                continue
            self._is_raw_possible = False
            yield len(decoded)
            data = self._decoder.unconsumed_tail
