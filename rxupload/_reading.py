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
_KNOWN = ("", "identity", "gzip", "x-gzip", "deflate")


def read(response: Any, transfer: Transfer, limit: int | None) -> None:
    """Read the response, so that its `content` is there.

    Raises:
        ResponseTooLarge: It has more than `limit` bytes, decoded.
        httpx.DecodingError: It has more than one content coding, or one that was not asked for.
        BaseException: The transfer's reason to stop.
    """
    if response.is_stream_consumed:
        return
    coding = _coding(response)
    stream = _watched(sys.modules[type(response).__module__.partition(".")[0]])(
        response.stream, transfer, coding, limit
    )
    response.stream = stream
    response.read()
    if limit is not None and len(response.content) > limit:
        raise ResponseTooLarge(_too_large(limit))


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
    is_encoded = coding not in ("", "identity")
    counter = _Counter(coding) if is_encoded and coding in _KNOWN else None
    count = 0
    for piece in stream:
        for start in range(0, len(piece), _SLICE if is_encoded else len(piece)):
            part = piece[start : start + _SLICE] if is_encoded else piece
            for size in (len(part),) if counter is None else counter.sizes(part):
                transfer.check()
                count += size
                if limit is not None and count > limit:
                    raise ResponseTooLarge(_too_large(limit))
            yield part


class _Counter:
    """Says how many bytes an encoded body has, without holding them."""

    def __init__(self, coding: str) -> None:
        self._is_raw_possible = (
            coding == "deflate"
        )  # some servers leave out zlib's frame (RFC 9110, section 8.4.1.2)
        self._decoder = zlib.decompressobj(zlib.MAX_WBITS if coding == "deflate" else zlib.MAX_WBITS | 16)
        self._is_broken = False

    def sizes(self, data: bytes) -> Iterator[int]:
        """The bytes that these give, step by step; what is wrong with them is the client's library's to say."""
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
