"""Speaks draft-ietf-httpbis-resumable-upload with interop version 8, which is that of the drafts since 09.

A client invites the receiver to make any upload resumable. So the bytes are a form, or a file of their own, and the
response to the last ones is that to an ordinary upload.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

from python_multipart.exceptions import FormParserError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from rxupload._digests import digest_of

from .appending import (
    Checksum,
    Refused,
    Speaker,
    append,
    connection_of,
    location_of,
    media_type,
    name_for,
    number,
    refusing,
    token_in,
)
from .digest import digest_headers, sha256_of
from .form import Form, boundary_of, names_of, parameters
from .uploads import Record, Upload

INTEROP_VERSION = "8"
_TYPE = "application/partial-upload"
_PROBLEMS = "https://iana.org/assignments/http-problem-types#"
_TELL_EVERY = 0.1  # seconds between two interim responses that say how much is stored
_PARSED_AT_ONCE = 2**20
_BOOLEANS = {"?0": False, "?1": True}


def is_spoken(request: Request) -> bool:
    """Return whether the request is of this protocol: it has the version, and begins an upload or is for one."""
    if request.headers.get("upload-draft-interop-version") != INTEROP_VERSION:
        return False
    if token_in(request.url.path) is not None and request.method in {"HEAD", "GET", "PATCH", "DELETE"}:
        return True
    return request.method in {"POST", "PUT"} and _completes(request) is not None


def announcement(max_size: int | None) -> dict[str, str]:
    """Return the headers that answer OPTIONS."""
    return {"Upload-Limit": "min-size=0" if max_size is None else f"max-size={max_size}"}


class Ietf(Speaker):
    """Answers the requests of the draft."""

    async def respond(self, request: Request) -> Response:
        """Do what the request asks for.

        Raises:
            Refused: It cannot be done; this is the response.
            ClientDisconnect: The connection has broken, or another request has taken the upload.
        """
        with refusing({}):
            token = token_in(request.url.path)
            if token is None or request.method in {"POST", "PUT"}:
                return await self._create(request)
            async with self._turns.take(token, request, "ietf") as upload:
                if request.method == "PATCH":
                    return await self._patch(request, upload)
                if request.method == "DELETE":
                    upload.remove()
                    return Response(status_code=204)
                return Response(status_code=204, headers=self._state(upload))

    def _state(self, upload: Upload) -> dict[str, str]:
        """Return the headers that answer HEAD and GET (section 4.3.2)."""
        length = upload.record.length
        return {
            "Upload-Offset": str(upload.offset),
            "Upload-Complete": "?1" if upload.is_over else "?0",
            "Cache-Control": "no-store",
            **({} if length is None else {"Upload-Length": str(length)}),
            **self._limits(upload),
        }

    def _limits(self, upload: Upload) -> dict[str, str]:
        left = max(math.floor(upload.expires - time.time()), 0)
        size = "" if self._max_size is None else f"max-size={self._max_size}, "
        return {"Upload-Limit": f"{size}max-age={left}"}

    async def _create(self, request: Request) -> Response:
        content_type = request.headers.get("content-type", "")
        _, filename = names_of(parameters(request.headers.get("content-disposition", "")))
        record = Record(
            "ietf",
            filename=name_for(filename or "", content_type),
            content_type=content_type,
            wants_digest=", ".join(request.headers.getlist("want-repr-digest")),
        )
        if media_type(request) == "multipart/form-data" and not boundary_of(content_type):
            raise Refused(400, "The Content-Type has no boundary.", {"Upload-Complete": "?1"})
        self._learn_length(request, record, 0)
        checksum = _checksum(request)
        token, upload = self._uploads.create(record)
        location = {"Location": location_of(token)} | self._limits(upload)
        async with self._turns.begin(token, request):
            is_told = request.scope["http_version"] == "1.1"
            if is_told:
                _tell(request, location)
            try:
                response = await self._append(request, upload, checksum)
            except BaseException:
                if not is_told:  # its client has not got the URL
                    upload.remove()
                raise
        if response is not None:
            return response
        return Response(
            status_code=201,
            headers=location | {"Upload-Complete": "?0", "Upload-Offset": str(upload.offset)},
        )

    async def _patch(self, request: Request, upload: Upload) -> Response:
        if media_type(request) != _TYPE:
            raise Refused(415, f"The Content-Type of the bytes is not {_TYPE}.", {"Upload-Complete": "?0"})
        offset = number(request.headers.get("upload-offset", ""))
        if offset is None or _completes(request) is None:
            raise Refused(
                400,
                "Send Upload-Offset, a number of bytes, and Upload-Complete, ?0 or ?1.",
                {"Upload-Complete": "?0"},
            )
        checksum = _checksum(request)
        if offset != upload.offset:
            raise Refused(
                409,
                f"The offset is {upload.offset}, not {offset}.",
                {
                    "Upload-Complete": "?0",
                    "Upload-Offset": str(upload.offset),
                    "Content-Type": "application/problem+json",
                },
                {
                    "type": f"{_PROBLEMS}mismatching-upload-offset",
                    "title": "offset from request does not match offset of resource",
                    "expected-offset": upload.offset,
                    "provided-offset": offset,
                },
            )
        if self._learn_length(request, upload.record, offset):
            upload.save()
        if upload.is_over and upload.record.response is not None:  # the client has missed it
            return _answer(request, upload)
        response = await self._append(request, upload, checksum)
        if response is not None:
            return response
        return Response(
            status_code=204,
            headers={"Upload-Complete": "?0", "Upload-Offset": str(upload.offset)} | self._limits(upload),
        )

    def _learn_length(self, request: Request, record: Record, offset: int) -> bool:
        """Take the length that the request says (section 4.1.3). Return whether it is news."""
        lengths = {number(request.headers.get("upload-length", "")), record.length}
        if _completes(request) and "transfer-encoding" not in request.headers:
            lengths.add(offset + int(request.headers.get("content-length", 0)))
        lengths.discard(None)
        if len(lengths) > 1:
            raise _inconsistent()
        for length in lengths:
            if self._max_size is not None and length is not None and length > self._max_size:
                raise Refused(
                    413, f"The upload is longer than {self._max_size} bytes.", announcement(self._max_size)
                )
            if length is not None and length < offset:
                raise _inconsistent()
        is_news = record.length is None and bool(lengths)
        record.length = next(iter(lengths), None)
        return is_news

    async def _append(self, request: Request, upload: Upload, checksum: Checksum | None) -> Response | None:
        """Add the bytes. Return the response of the whole upload; None if it goes on."""
        told = time.monotonic()

        def tell(offset: int) -> None:
            nonlocal told
            if time.monotonic() - told >= _TELL_EVERY and request.scope["http_version"] == "1.1":
                told = time.monotonic()
                _tell(request, {"Upload-Offset": str(offset)})

        limit = self._max_size if upload.record.length is None else upload.record.length
        try:
            is_right = await append(request, upload, limit, checksum, tell)
        except Refused as refusal:
            upload.remove()  # nothing can become of an upload that is too long
            if upload.record.length is not None:
                raise _inconsistent() from None
            refusal.headers = {**(refusal.headers or {}), **announcement(self._max_size)}
            raise
        if not is_right:
            raise Refused(
                400,
                "The Content-Digest is not that of the bytes.",
                {"Upload-Complete": "?0", "Content-Type": "application/problem+json"},
                {"type": f"{_PROBLEMS}digest-mismatching-values"},
                is_read=True,
            )
        if not _completes(request):
            return None
        if upload.record.length is None:
            upload.record.length = upload.offset
        elif upload.offset != upload.record.length:
            raise _inconsistent(is_read=True)
        await asyncio.to_thread(self._process, upload)
        return _answer(request, upload)

    def _process(self, upload: Upload) -> None:
        """Do with the bytes what an ordinary upload does."""
        boundary = boundary_of(upload.record.content_type)
        if boundary is None:
            upload.record.response = {
                "fields": {},
                "files": [
                    {
                        "name": "",
                        "filename": upload.record.filename,
                        "content_type": upload.record.content_type or None,
                        "size": upload.offset,
                        "sha256": sha256_of(upload.data),
                    }
                ],
            }
            upload.keep()
            return
        try:
            with Form(boundary, upload.directory) as form:
                with upload.data.open("rb") as stream:
                    while data := stream.read(_PARSED_AT_ONCE):
                        form.write(data)
                form.finish()
        except FormParserError as error:
            upload.remove()
            raise Refused(400, str(error), {"Upload-Complete": "?1"}, is_read=True) from error
        upload.record.response = form.as_json()
        upload.keep_nothing()
        self._uploads.report(form.summary)


def _completes(request: Request) -> bool | None:
    """Return what Upload-Complete says; None if it says nothing."""
    return _BOOLEANS.get(request.headers.get("upload-complete", "").partition(";")[0].strip())


def _tell(request: Request, headers: dict[str, str]) -> None:
    connection_of(request).inform(
        104, "Upload Resumption Supported", {"Upload-Draft-Interop-Version": INTEROP_VERSION, **headers}
    )


def _answer(request: Request, upload: Upload) -> Response:
    response: dict[str, Any] = upload.record.response or {}
    want = ", ".join(request.headers.getlist("want-repr-digest")) or upload.record.wants_digest
    return JSONResponse(
        response,
        headers={
            "Upload-Complete": "?1",
            "Upload-Offset": str(upload.offset),
            **digest_headers(want, response["files"]),
        },
    )


def _checksum(request: Request) -> Checksum | None:
    """Return the digest of the request's bytes (RFC 9530, section 2), if it has one."""
    digest = digest_of(", ".join(request.headers.getlist("content-digest")), "sha256")
    return Checksum("sha256", digest) if digest else None


def _inconsistent(*, is_read: bool = False) -> Refused:
    return Refused(
        400,
        "The request says another length of the upload than Upload-Length has said or the bytes have.",
        {"Upload-Complete": "?0", "Content-Type": "application/problem+json"},
        {
            "type": f"{_PROBLEMS}inconsistent-upload-length",
            "title": "inconsistent length values for upload",
        },
        is_read=is_read,
    )
