"""Adds the bytes of requests to uploads: one request at a time for each upload, and the newest one wins."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import email.utils
import mimetypes
import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import h11
from starlette.exceptions import HTTPException
from starlette.requests import Request

from rxupload._digests import Hash, new_hash

from .uploads import Expired, InUse, Unknown, Upload, Uploads, key_of, write_all

_NUMBER = re.compile("[0-9]{1,18}")
_UPLOAD_PATH = re.compile("/files/([A-Za-z0-9_-]{43})")


class Refused(HTTPException):
    """A response that says why nothing more is done.

    Args:
        members: Further members of the JSON.
        is_read: Whether the request's body has been read.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        headers: dict[str, str] | None = None,
        members: dict[str, Any] | None = None,
        *,
        is_read: bool = False,
    ) -> None:
        super().__init__(status, detail, dict(headers or {}))
        self.members = members or {}
        self.is_read = is_read


@contextlib.contextmanager
def refusing(headers: dict[str, str]) -> Iterator[None]:
    """Add headers to each refusal in the block. A file system that refuses is one too."""
    try:
        yield
    except OSError as error:
        raise Refused(500, f"Cannot store the upload: {error.strerror}", headers) from error
    except Refused as refusal:
        refusal.headers = {**(refusal.headers or {}), **headers}
        raise


class Connection:
    """What a request's handler may do with its connection that ASGI has no message for."""

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol  # uvicorn's H11Protocol

    @property
    def is_closed(self) -> bool:
        """Whether nobody is there to be answered. Any thread may ask."""
        closing: bool = self._protocol.transport.is_closing()
        return closing

    def abort(self) -> None:
        """Close the connection. The handler of its request gets a ClientDisconnect."""
        self._protocol.transport.abort()

    def inform(self, status: int, reason: str, headers: dict[str, str]) -> None:
        """Send an interim response (RFC 9110, section 15.2). The final one must not have begun."""
        if self.is_closed:
            return
        event = h11.InformationalResponse(
            status_code=status, reason=reason.encode(), headers=list(headers.items())
        )
        self._protocol.transport.write(self._protocol.conn.send(event))


def connection_of(request: Request) -> Connection:
    """Return the connection of a request."""
    connection: Connection = request.scope["state"]["connection"]
    return connection


class Turns:
    """Lets one request at a time have an upload. A new one ends the one before: its client has given up on that."""

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads
        self._taken: dict[str, tuple[Connection, asyncio.Event]] = {}  # by the upload's key

    @property
    def keys(self) -> set[str]:
        """The keys of the uploads that requests have now."""
        return set(self._taken)

    @contextlib.asynccontextmanager
    async def take(self, token: str, request: Request, protocol: str) -> AsyncIterator[Upload]:
        """Have the upload with this token during the block.

        Raises:
            Refused: There is none of the protocol, or another process has it.
        """
        async with self.begin(token, request):
            try:
                upload = self._uploads.find(token)
                if upload.record.protocol != protocol:
                    raise Refused(404, "This upload speaks another protocol.")
                yield upload
            except Expired:
                raise Refused(410, "The upload has expired. Begin a new one.") from None
            except Unknown:
                raise Refused(404, "There is no such upload, or no longer. Begin a new one.") from None
            except InUse:
                raise Refused(423, "Another receiver is storing bytes of this upload. Try again.") from None

    @contextlib.asynccontextmanager
    async def begin(self, token: str, request: Request) -> AsyncIterator[None]:
        """Keep other requests from the upload with this token during the block."""
        key = key_of(token)
        while (holder := self._taken.get(key)) is not None:
            connection, is_over = holder
            connection.abort()
            await is_over.wait()
        is_over = asyncio.Event()
        self._taken[key] = connection_of(request), is_over
        try:
            yield
        finally:
            del self._taken[key]
            is_over.set()


class Speaker:
    """Answers the requests of a protocol; what both have in common.

    Args:
        uploads: The uploads in the directory.
        turns: Who has which upload.
        max_size: How long an upload may be, in bytes; None for no limit.
    """

    def __init__(self, uploads: Uploads, turns: Turns, max_size: int | None) -> None:
        self._uploads = uploads
        self._turns = turns
        self._max_size = max_size


class Checksum:
    """What the hash of a request's body must be."""

    def __init__(self, name: str, expected: bytes) -> None:
        self._hash: Hash = new_hash(name)
        self._expected = expected
        self.update = self._hash.update

    @property
    def is_right(self) -> bool:
        """Whether the bytes until now have the hash."""
        return self._hash.digest() == self._expected


async def append(
    request: Request,
    upload: Upload,
    limit: int | None,
    checksum: Checksum | None = None,
    on_stored: Callable[[int], None] = lambda _: None,
) -> bool:
    """Add the request's body to the upload.

    What has come counts even if the connection breaks. With a checksum nothing counts until it is known to be right.

    Args:
        request: The request, whose body has not been read.
        upload: An upload of which the request has the turn.
        limit: How long the upload may be, in bytes; None for no limit.
        checksum: What the hash of the body must be; None if nothing is known of it.
        on_stored: Called with the new offset after each piece.

    Returns:
        Whether the checksum was right, or there was none.

    Raises:
        Refused: The upload would be longer than its limit.
        ClientDisconnect: The connection has broken, or another request has taken the upload.
    """
    start = offset = upload.offset
    too_long = Refused(413, f"The upload would be longer than {limit} bytes.")
    if limit is not None and start + int(request.headers.get("content-length", 0)) > limit:
        raise too_long
    is_right = checksum is None
    with upload.opened() as stream:
        upload.trust(None if checksum is None else start)
        try:
            async for data in request.stream():
                offset += len(data)
                if limit is not None and offset > limit:
                    raise too_long
                # Work on the loop, as for forms: a thread would cost a third of the throughput.
                if checksum is not None:
                    checksum.update(data)
                if data:
                    write_all(stream, data)
                    on_stored(offset)
            is_right = checksum is None or checksum.is_right
        finally:
            if not is_right:
                stream.truncate(start)
            upload.trust(None)
    return is_right


def token_in(path: str) -> str | None:
    """Return the token in the path of an upload's URL; None if it is another path."""
    match = _UPLOAD_PATH.fullmatch(path)
    return match and match[1]


def location_of(token: str) -> str:
    """Return the URL of an upload, without the host, so that it is right behind any proxy."""
    return f"/files/{token}"


def has_body(request: Request) -> bool:
    """Return whether the request has a body."""
    return "transfer-encoding" in request.headers or request.headers.get("content-length", "0") != "0"


def media_type(request: Request) -> str:
    """Return the media type of the request's body, without parameters, in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def number(text: str) -> int | None:
    """Return a whole number of 0 or more; None if the text is none."""
    return int(text) if _NUMBER.fullmatch(text) else None


def from_base64(text: str) -> bytes | None:
    """Decode base64; None if the text is not in it."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def http_date(seconds: float) -> str:
    """Write a time as HTTP does (RFC 9110, section 5.6.7)."""
    return email.utils.formatdate(seconds, usegmt=True)


def name_for(filename: str, content_type: str) -> str:
    """Return the filename. Without one, return a name with the suffix of the media type."""
    if filename:
        return filename
    return "upload" + (mimetypes.guess_extension(content_type.partition(";")[0].strip().lower()) or "")
