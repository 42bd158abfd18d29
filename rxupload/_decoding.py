"""Decodes a response in bounded steps, and limits how many bytes a server may send, encoded or decoded.

A kilobyte of gzip can be a megabyte, and a few bytes of brotli can be 16 MiB. So gzip and deflate are decoded here,
64 KiB at a time. Other codings are decoded by the client's library, which gets a few bytes at a time.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import httpx

from ._errors import ResponseTooLarge
from ._transfer import Transfer

ROOM = 64 * 1024  # bytes that an encoded response may have more than the decoded one

_STEP = 64 * 1024  # bytes to decode at a time
_SLICE = 4 * 1024  # bytes to decode from at a time: zlib copies what it leaves of them
_LIBRARY_SLICE = 1024  # the same for httpx: deflate makes at most 1 MiB of it
_UNKNOWN_SLICE = 16  # the same for br and zstd: httpx makes at most 32 MiB of it

_IDENTITY = ("", "identity")
_OURS = ("gzip", "deflate")
_GZIP_MAGIC = b"\x1f\x8b"  # RFC 1952, section 2.3.1


class Bound:
    """Counts a response, and raises at its limit or when the upload stops."""

    def __init__(self, transfer: Transfer, limit: int | None) -> None:
        self._transfer = transfer
        self._limit = limit
        self._received = 0
        self._decoded = 0

    def received(self, count: int) -> None:
        """Count encoded bytes."""
        self._transfer.check()
        self._received += count
        if self._limit is not None and self._received > self._limit + ROOM:
            raise self._too_large()

    def decoded(self, count: int) -> None:
        """Count decoded bytes."""
        self._transfer.check()
        self._decoded += count
        if self._limit is not None and self._decoded > self._limit:
            raise self._too_large()

    def _too_large(self) -> ResponseTooLarge:
        return ResponseTooLarge(f"The response has more than {self._limit} bytes (max_response_size)")


def coding_of(headers: Any, asked: Any) -> str:
    """Return the content coding, in lower case.

    Args:
        headers: The response's headers, of any httpx library.
        asked: The request's headers.

    Raises:
        httpx.DecodingError: There are several codings, or it is one that the request did not accept.
    """
    if "content-encoding" not in headers:
        return ""
    codings = [each.strip().lower() for each in headers["content-encoding"].split(",")]
    if len(codings) > 1:
        raise httpx.DecodingError(
            f"The response has {len(codings)} content codings, but only one is accepted"
        )
    (coding,) = codings
    if coding in ("br", "zstd") and coding not in asked.get("accept-encoding", "").lower():
        raise httpx.DecodingError(f"The response is encoded as {coding}, which was not asked for")
    return str(coding)


def is_ours(coding: str) -> bool:
    """Whether `decode` can decode it. Everything else is for the client's library."""
    return coding in _IDENTITY or coding in _OURS


def decode(pieces: Iterable[bytes], coding: str, bound: Bound) -> Iterator[bytes]:
    """Decode a body, and count it.

    Raises:
        ResponseTooLarge: It is longer than the limit.
        httpx.DecodingError: It is broken, or its gzip is cut off.
    """
    if coding in _IDENTITY:
        for piece in pieces:
            bound.decoded(len(piece))
            yield piece
        return
    decoder = _Decoder(coding)
    for piece in _sliced(pieces, _SLICE, bound):
        for step in decoder.steps(piece):
            bound.decoded(len(step))
            yield step
    decoder.finish()


def guard(pieces: Iterable[bytes], coding: str, bound: Bound) -> Iterator[bytes]:
    """Pass on a body that a client's library decodes by itself, in parts that it can decode in bounded steps.

    Gzip and deflate are counted decoded. Only their first member is passed on: httpx would keep all other bytes. Of
    other codings, only the encoded bytes can be counted.

    Raises:
        ResponseTooLarge: It is longer than the limit.
    """
    if coding in _IDENTITY:
        yield from decode(pieces, coding, bound)
        return
    if coding not in _OURS:
        yield from _sliced(pieces, _UNKNOWN_SLICE, bound)
        return
    decoder = _Decoder(coding)
    for piece in _sliced(pieces, _LIBRARY_SLICE, bound):
        is_wanted = not decoder.has_ended
        try:
            for step in decoder.steps(piece):
                bound.decoded(len(step))
        except httpx.DecodingError:  # the library says so, too
            pass
        if is_wanted:
            yield piece


def _sliced(pieces: Iterable[bytes], size: int, bound: Bound) -> Iterator[bytes]:
    """Cut a body, and count it. The first slice has at least two bytes, which tell zlib's frame from raw deflate."""
    held = b""
    is_first = True
    for each in pieces:
        bound.received(len(each))
        piece = held + each
        held = b""
        if len(piece) == 1 and is_first:
            held = piece
            continue
        for start in range(0, len(piece), size):
            yield piece[start : start + size]
            is_first = False
    if held:
        yield held


class _Decoder:
    """Decodes gzip of any number of members (RFC 1952, section 2.2), or deflate with or without zlib's frame.

    Bytes after the end that are no further member are dropped: some servers pad a gzip.

    Attributes:
        has_ended: Whether the encoded body, or its first member, has come to its end.
    """

    def __init__(self, coding: str) -> None:
        self.has_ended = False
        self._is_gzip = coding == "gzip"
        self._decoder: Any = None
        self._between = b""  # the beginning of what may be another member
        self._is_over = False  # what comes is no part of the encoded body

    def steps(self, data: bytes) -> Iterator[bytes]:
        """Yield the decoded bytes, at most 64 KiB at a time. A step may be empty."""
        is_full = False  # there may be more without further data
        while (data or is_full) and not self._is_over:
            decoder = self._decoder or self._begin(data)
            if decoder is None:
                return
            try:
                decoded = decoder.decompress(self._between + data, _STEP)
            except zlib.error as error:
                self._is_over = True
                raise httpx.DecodingError(f"The response cannot be decoded: {error}") from error
            self._between = b""
            yield decoded
            data = decoder.unconsumed_tail
            is_full = len(decoded) == _STEP
            if decoder.eof:
                data = decoder.unused_data
                is_full = False
                self._decoder = None
                self.has_ended = True
                self._is_over = not self._is_gzip

    def _begin(self, data: bytes) -> Any:
        """Make the decoder for the next member; None if there is none, or if more bytes must tell."""
        start = (self._between + data)[:2]
        if not self._is_gzip:
            self._decoder = zlib.decompressobj(zlib.MAX_WBITS if _has_zlib_frame(start) else -zlib.MAX_WBITS)
        elif not self.has_ended or start == _GZIP_MAGIC:
            self._decoder = zlib.decompressobj(zlib.MAX_WBITS | 16)
        elif start == _GZIP_MAGIC[:1]:
            self._between = start
        else:
            self._is_over = True
        return self._decoder

    def finish(self) -> None:
        """Raise if a gzip is cut off. Deflate is never checked: some servers omit its last bytes."""
        if self._is_gzip and self._decoder is not None:
            raise httpx.DecodingError("The response's gzip breaks off")


def _has_zlib_frame(start: bytes) -> bool:
    """Whether these two bytes are zlib's header (RFC 1950, section 2.2).

    No compressor begins a raw deflate with them: in that, they would be padding other than zero.
    """
    return start[0] & 0x0F == zlib.DEFLATED and int.from_bytes(start.ljust(2, b"\1"), "big") % 31 == 0
