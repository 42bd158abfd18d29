"""Reads a whole response in bounded steps, and checks for an abort and for the limits of time and size in between."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from types import ModuleType
from typing import Any

import httpx

from ._decoding import Bound, coding_of, decode, guard, is_ours
from ._transfer import Transfer


def read(response: Any, transfer: Transfer, limit: int | None) -> None:
    """Read the response into its `content`, and release the stream that it came from.

    Raises:
        ResponseTooLarge: It has more than `limit` bytes, decoded.
        httpx.DecodingError: It has several content codings, or one that the request did not accept; or it is broken, or
            its gzip is cut off. A client of another library gets that library's class.
        BaseException: The transfer's reason to stop.
    """
    library = sys.modules[type(response).__module__.partition(".")[0]]
    if response.is_stream_consumed:  # by a hook of the client
        if _has_content(response):
            Bound(transfer, limit).decoded(len(response.content))
            response.stream = getattr(library, "ByteStream", httpx.ByteStream)(response.content)
        return
    transfer.is_reading = True
    try:
        content = _content(response, library, Bound(transfer, limit))
    except httpx.DecodingError as error:
        kind = getattr(library, "DecodingError", httpx.DecodingError)
        if isinstance(error, kind):
            raise
        raise kind(str(error), request=response.request) from error
    finally:
        transfer.is_reading = False
    _set_content(response, library, content)


def _has_content(response: Any) -> bool:
    try:
        return response.content is not None
    except RuntimeError:  # httpx's ResponseNotRead
        return False


def _content(response: Any, library: ModuleType, bound: Bound) -> bytes:
    """Read and decode the body. It is held only once, even while it grows."""
    coding = coding_of(response.headers, response.request.headers)
    content = io.BytesIO()
    if is_ours(coding):
        for piece in decode(response.stream, coding, bound):
            content.write(piece)
    else:
        for piece in _decoded_by(library, response, guard(response.stream, coding, bound)):
            bound.decoded(len(piece))
            content.write(piece)
    return content.getvalue()


def _decoded_by(library: ModuleType, response: Any, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Decode a body with the client's library. This does not hold the body."""
    stream = _stream_class(library)(pieces)
    made: Any = getattr(library, "Response", httpx.Response)
    twin = made(response.status_code, headers=response.headers, stream=stream, request=response.request)
    return iter(twin.iter_bytes())


def _set_content(response: Any, library: ModuleType, content: bytes) -> None:
    """Have the response read its content, already decoded, and close the stream that it came from."""
    came_from, headers = response.stream, response.headers
    try:
        if "content-encoding" in headers:
            response.headers = type(headers)(
                [each for each in headers.raw if each[0].lower() != b"content-encoding"]
            )
        response.stream = getattr(library, "ByteStream", httpx.ByteStream)(content)
        response.read()
    finally:
        response.headers = headers
        came_from.close()


@cache
def _stream_class(library: ModuleType) -> Any:
    """Make a stream class for the response's library, which requires its own base class."""
    base: Any = getattr(library, "SyncByteStream", httpx.SyncByteStream)

    class Stream(base):  # type: ignore[misc]
        """Pieces as a stream."""

        def __init__(self, pieces: Iterable[bytes]) -> None:
            self._pieces = pieces

        def __iter__(self) -> Iterator[bytes]:
            return iter(self._pieces)

    return Stream
