"""Reads a response whole, in bounded steps: an abort, the time limit and the limit of its size hold between them."""

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

_STEP = 64 * 1024  # bytes that are decoded at a time, to be counted
_SLICE = (
    1024  # bytes of an encoded body that the client's library decodes at a time: of deflate, to 1 MiB at most
)
_DECODED = ("gzip", "deflate")  # by us as well, to be counted


def read(response: Any, transfer: Transfer, limit: int | None) -> None:
    """Read the response, so that its `content` is there, and let go of what it was read from.

    Raises:
        ResponseTooLarge: It has more than `limit` bytes, decoded.
        httpx.DecodingError: It has more than one content coding, or one that was not asked for; or its gzip breaks off.
        BaseException: The transfer's reason to stop.
    """
    library = sys.modules[type(response).__module__.partition(".")[0]]
    if not response.is_stream_consumed:
        coding = _coding(response)
        response.stream = _watched(library)(response.stream, transfer, coding, limit)
        response.read()
    elif not _has_content(response):
        return  # a hook of the client's had it for itself
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
        raise httpx.DecodingError(f"The response has {len(codings)} content codings, and one is accepted")
    (coding,) = codings
    asked_for = response.request.headers.get("accept-encoding", "").lower()
    if coding in ("br", "zstd") and coding not in asked_for:
        raise httpx.DecodingError(f"The response is encoded as {coding}, which was not asked for")
    return str(coding)


@cache
def _watched(library: ModuleType) -> Any:
    """A stream class of the response's own library, which asks its streams to be of its own."""
    base: Any = getattr(library, "SyncByteStream", httpx.SyncByteStream)

    class Watched(base):  # type: ignore[misc]
        """A response's stream that is looked after between its pieces."""

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
    """The pieces, those of an encoded body in slices; the first of which has two bytes.

    httpx sees by the first bytes that it is given whether a deflate has a frame, whose head has two.
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
    """Counts what is not encoded, or encoded as only the client's library knows."""

    is_wanted = True
    breaks_off = False

    def sizes(self, data: bytes) -> Iterator[int]:
        yield len(data)


class _Counter:
    """Says how many bytes an encoded body has, without holding them.

    What follows the end of the encoded body counts as it is, and is not handed on: zlib would keep it all.

    Attributes:
        is_wanted: Whether the last data belonged to the encoded body.
    """

    def __init__(self, coding: str) -> None:
        self._is_gzip = coding == "gzip"
        self._is_raw_possible = (
            coding == "deflate"
        )  # some servers leave out zlib's frame (RFC 9110, section 8.4.1.2)
        self._decoder = zlib.decompressobj(zlib.MAX_WBITS if coding == "deflate" else zlib.MAX_WBITS | 16)
        self._has_begun = False
        self._is_broken = False
        self.is_wanted = True

    @property
    def breaks_off(self) -> bool:
        """Whether there is more to come. Of deflate this is not asked: some servers leave out its last bytes."""
        return self._is_gzip and self._has_begun and not self._decoder.eof and not self._is_broken

    def sizes(self, data: bytes) -> Iterator[int]:
        """The bytes that these give, step by step; what is wrong with them is the client's library's to say."""
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
