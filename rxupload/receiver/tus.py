"""Speaks tus 1.0.0, the protocol for resumable uploads of https://tus.io/protocols/resumable-upload."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Sequence

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from .appending import (
    Checksum,
    Refused,
    Speaker,
    append,
    connection_of,
    from_base64,
    has_body,
    http_date,
    location_of,
    media_type,
    name_for,
    number,
    refusing,
    token_in,
)
from .digest import digest_headers, is_wanted, sha256_of
from .uploads import Record, Unknown, Upload, is_sendable, join

VERSION = "1.0.0"
EXTENSIONS = (
    "creation,creation-with-upload,creation-defer-length,expiration,termination,checksum,concatenation"
)
_ALGORITHMS = ("sha1", "sha256")
_TYPE = "application/offset+octet-stream"
_KEY = re.compile(r"[!-+\--~\x80-\xff]+")  # no space, no comma


def announcement(max_size: int | None) -> dict[str, str]:
    """Return the headers that answer OPTIONS."""
    size = {} if max_size is None else {"Tus-Max-Size": str(max_size)}
    return {
        "Tus-Resumable": VERSION,
        "Tus-Version": VERSION,
        "Tus-Extension": EXTENSIONS,
        "Tus-Checksum-Algorithm": ",".join(_ALGORITHMS),
        **size,
    }


class Tus(Speaker):
    """Answers the requests of tus."""

    async def respond(self, request: Request) -> Response:
        """Do what the request asks for.

        Raises:
            Refused: It cannot be done; this is the response.
            ClientDisconnect: The connection has broken, or another request has taken the upload.
        """
        with refusing({"Tus-Resumable": VERSION}):
            response = await self._respond(request)
        response.headers["Tus-Resumable"] = VERSION
        return response

    async def _respond(self, request: Request) -> Response:
        if request.headers.get("tus-resumable") != VERSION:
            text = f"Send Tus-Resumable: {VERSION}, or the headers of the IETF's draft."
            raise Refused(412, text, {"Tus-Version": VERSION})
        method = request.headers.get("x-http-method-override", request.method).upper()
        token = token_in(request.url.path)
        if method == "POST" and token is None:
            return await self._create(request)
        if method not in {"HEAD", "PATCH", "DELETE"}:
            allowed = "POST, OPTIONS" if token is None else "HEAD, PATCH, DELETE, OPTIONS"
            raise Refused(405, f"tus has no {method} here.", {"Allow": allowed})
        if token is None:
            raise Refused(404, "This is no URL of an upload. Create one with POST.")
        async with self._turns.take(token, request, "tus") as upload:
            if method == "HEAD":
                return Response(headers=_state(upload) | {"Cache-Control": "no-store"})
            if method == "PATCH":
                return await self._patch(request, upload)
            upload.remove()
            return Response(status_code=204)

    async def _create(self, request: Request) -> Response:
        metadata = request.headers.get("upload-metadata", "")
        values = _metadata(metadata)
        content_type = values.get("filetype") or values.get("type") or ""
        record = Record(
            "tus",
            filename=name_for(values.get("filename") or values.get("name") or "", content_type),
            content_type=content_type,
            metadata=metadata,
            concat=request.headers.get("upload-concat", ""),
        )
        if not is_sendable(record.concat):
            raise Refused(400, "Upload-Concat has a control character.")
        if record.is_final:
            return await self._concatenate(request, record)
        if record.concat and not record.is_partial:
            raise Refused(400, "Upload-Concat is neither partial nor final;URL URL ...")
        record.length = self._length_of_new(request)
        with_upload = has_body(request)
        if with_upload and media_type(request) != _TYPE:
            raise Refused(415, f"The Content-Type of the bytes is not {_TYPE}.")
        checksum = _checksum(request)
        token, upload = self._uploads.create(record)
        async with self._turns.begin(token, request):
            try:
                if with_upload:
                    await self._append(request, upload, checksum)
            except BaseException:
                upload.remove()  # its client has not got the URL
                raise
            headers = await self._finish(request, upload)
            headers["Location"] = location_of(token)
            if with_upload:
                headers["Upload-Offset"] = str(upload.offset)
            return Response(status_code=201, headers=headers)

    def _length_of_new(self, request: Request) -> int | None:
        text, deferred = request.headers.get("upload-length"), request.headers.get("upload-defer-length")
        if (text is None) == (deferred is None):
            raise Refused(400, "Send either Upload-Length or Upload-Defer-Length: 1.")
        if text is None:
            if deferred != "1":
                raise Refused(400, "Upload-Defer-Length can only be 1.")
            return None
        return self._checked_length(text)

    def _checked_length(self, text: str) -> int:
        length = number(text)
        if length is None:
            raise Refused(400, "Upload-Length is no number of bytes.")
        self._check_size(length)
        return length

    def _check_size(self, length: int) -> None:
        if self._max_size is not None and length > self._max_size:
            raise Refused(413, f"The upload is longer than {self._max_size} bytes.")

    async def _patch(self, request: Request, upload: Upload) -> Response:
        if media_type(request) != _TYPE:
            raise Refused(415, f"The Content-Type of the bytes is not {_TYPE}.")
        if upload.record.is_final:
            raise Refused(403, "An upload that consists of others takes no bytes.")
        offset = number(request.headers.get("upload-offset", ""))
        if offset is None:
            raise Refused(400, "Upload-Offset is no number of bytes.")
        checksum = _checksum(request)
        if offset != upload.offset:
            raise Refused(
                409, f"The offset is {upload.offset}, not {offset}.", {"Upload-Offset": str(upload.offset)}
            )
        self._learn_length(request, upload)
        if upload.is_over:
            if has_body(request):
                raise Refused(413, "The upload is whole already.")
        else:
            await self._append(request, upload, checksum)
        headers = await self._finish(request, upload)
        headers["Upload-Offset"] = str(upload.offset)
        return Response(status_code=204, headers=headers)

    def _learn_length(self, request: Request, upload: Upload) -> None:
        """Take a length that comes after the creation."""
        text = request.headers.get("upload-length")
        if text is None:
            return
        length = self._checked_length(text)
        if upload.record.length is None:
            if length < upload.offset:
                raise Refused(400, f"Upload-Length is less than the {upload.offset} bytes that have come.")
            upload.record.length = length
            upload.save()
        elif upload.record.length != length:
            raise Refused(400, f"The Upload-Length was {upload.record.length}, and cannot change.")

    async def _append(self, request: Request, upload: Upload, checksum: Checksum | None) -> None:
        limit = self._max_size if upload.record.length is None else upload.record.length
        if not await append(request, upload, limit, checksum):
            raise Refused(460, "The checksum is not that of the bytes.", is_read=True)

    async def _finish(self, request: Request, upload: Upload) -> dict[str, str]:
        """Store the file if the upload is whole. Return the headers that tell of the upload's end."""
        if upload.is_whole and not upload.is_over and not upload.record.is_partial:
            await asyncio.to_thread(upload.keep)
        if not upload.is_over:
            return {"Upload-Expires": http_date(upload.expires)}
        want = ", ".join(request.headers.getlist("want-repr-digest"))
        if upload.record.stored_as is None or not is_wanted(want):
            return {}
        try:
            digest = await asyncio.to_thread(sha256_of, upload.directory / upload.record.stored_as)
        except OSError:  # somebody has taken the file away
            return {}
        return digest_headers(want, [{"sha256": digest}])

    async def _concatenate(self, request: Request, record: Record) -> Response:
        if "upload-length" in request.headers:
            raise Refused(400, "A final upload has no Upload-Length: it is the sum of its parts.")
        tokens = [url.rpartition("/")[2] for url in record.concat.partition(";")[2].split()]
        if not tokens:
            raise Refused(400, "Upload-Concat names no partial upload.")
        async with contextlib.AsyncExitStack() as turns:
            found = {
                token: await turns.enter_async_context(self._turns.take(token, request, "tus"))
                for token in sorted(set(tokens))
            }
            parts = [found[token] for token in tokens]
            if not all(part.record.is_partial for part in parts):
                raise Refused(400, "Upload-Concat names an upload that was not created as partial.")
            if not all(part.is_whole for part in parts):
                raise Refused(400, "Upload-Concat names an upload that is not whole yet.")
            token = self._made_before(record, parts) or await self._join(request, record, parts)
        return Response(status_code=201, headers={"Location": location_of(token)})

    def _made_before(self, record: Record, parts: Sequence[Upload]) -> str | None:
        """Return the token of the upload that the parts are in already, for a client that missed the response."""
        used_for = {part.record.used_for for part in parts}
        if used_for == {None}:
            return None
        (token,) = used_for if len(used_for) == 1 else [None]
        with contextlib.suppress(Unknown):
            if token is not None and self._uploads.find(token).record.concat == record.concat:
                return token
        raise Refused(410, "A partial upload is in another upload already. Begin a new one.")

    async def _join(self, request: Request, record: Record, parts: Sequence[Upload]) -> str:
        record.length = sum(part.offset for part in parts)
        self._check_size(record.length)
        token, upload = self._uploads.create(record)
        async with self._turns.begin(token, request):
            connection = connection_of(request)
            try:
                is_whole = await asyncio.to_thread(join, upload, parts, lambda: not connection.is_closed)
                if is_whole:
                    await asyncio.to_thread(upload.keep)
            except BaseException:
                upload.remove()
                raise
            if not is_whole:
                upload.remove()
                raise ClientDisconnect
            for part in parts:
                part.record.used_for = token
                part.save()
                part.data.unlink(missing_ok=True)
        return token


def _state(upload: Upload) -> dict[str, str]:
    """Return the headers that answer HEAD."""
    record = upload.record
    known = {"Upload-Defer-Length": "1"} if record.length is None else {"Upload-Length": str(record.length)}
    headers = {"Upload-Offset": str(upload.offset), **known}
    if record.metadata:
        headers["Upload-Metadata"] = record.metadata
    if record.concat:
        headers["Upload-Concat"] = record.concat
    if not upload.is_over:
        headers["Upload-Expires"] = http_date(upload.expires)
    return headers


def _metadata(header: str) -> dict[str, str]:
    """Read Upload-Metadata. Bytes that are not UTF-8 become U+FFFD. Some clients send an empty header for none.

    What it accepts has no control character, so that HEAD can repeat it.
    """
    values: dict[str, str] = {}
    for pair in header.split(",") if header.strip(" \t") else []:
        key, _, value = pair.strip(" \t").partition(" ")
        if not _KEY.fullmatch(key):
            raise Refused(
                400, f"Upload-Metadata has the key {key!r}, which is empty or has a control character."
            )
        decoded = from_base64(value)
        if decoded is None:
            raise Refused(400, f"Upload-Metadata has a value that is not in base64, of the key {key!r}.")
        if key in values:
            raise Refused(400, f"Upload-Metadata has the key {key!r} twice.")
        values[key] = decoded.decode(errors="replace")
    return values


def _checksum(request: Request) -> Checksum | None:
    header = request.headers.get("upload-checksum")
    if header is None:
        return None
    name, _, value = header.partition(" ")
    if name not in _ALGORITHMS:
        raise Refused(400, f"The receiver knows no checksum {name!r}, only {' and '.join(_ALGORITHMS)}.")
    expected = from_base64(value)
    if not expected:
        raise Refused(400, "Upload-Checksum is not an algorithm and a checksum in base64.")
    return Checksum(name, expected)
