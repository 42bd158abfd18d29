"""Finds out which protocol for resumable uploads a request speaks, and removes uploads that have expired."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from . import ietf, tus, uploads
from .appending import Turns, media_type, refusing, token_in

_CREATION_PATHS = {"/files", "/files/"}
_METHODS = "POST, PUT, HEAD, GET, PATCH, DELETE, OPTIONS"
_TOLD = (
    "Location, Repr-Digest, Tus-Checksum-Algorithm, Tus-Extension, Tus-Max-Size, Tus-Resumable, Tus-Version, "
    "Upload-Complete, Upload-Concat, Upload-Defer-Length, Upload-Expires, Upload-Length, Upload-Limit, "
    "Upload-Metadata, Upload-Offset"
)


class Resumable:
    """Answers the requests that belong to resumable uploads.

    Args:
        directory: Where to keep unfinished uploads and finished files.
        max_size: How long an upload may be, in bytes; None for no limit.
        report: Called with a line for each file that is stored.
    """

    def __init__(self, directory: Path, max_size: int | None, report: Callable[[str], None]) -> None:
        self._max_size = max_size
        self._uploads = uploads.Uploads(directory, report)
        self._turns = Turns(self._uploads)
        self._tus = tus.Tus(self._uploads, self._turns, max_size)
        self._ietf = ietf.Ietf(self._uploads, self._turns, max_size)
        self._timer: asyncio.TimerHandle | None = None

    def tidy(self) -> None:
        """Remove what has expired, now and whenever something will have. The loop must run."""
        self.stop()
        seconds = self._uploads.tidy(self._turns.keys)
        # No upload that begins or ends meanwhile expires before REMEMBERED is over.
        wait = uploads.REMEMBERED if seconds is None else min(seconds, uploads.REMEMBERED)
        self._timer = asyncio.get_running_loop().call_later(wait, self.tidy)

    def stop(self) -> None:
        """Remove nothing any more."""
        if self._timer is not None:
            self._timer.cancel()

    async def respond(self, request: Request) -> Response | None:
        """Answer the request; None if it belongs to no resumable upload.

        Raises:
            HTTPException: It is refused.
            ClientDisconnect: The connection has broken, or another request has taken the upload.
        """
        headers = _for_pages(request)
        with refusing(headers):
            response = await self._respond(request)
        if response is not None:
            response.headers.update(headers)
        return response

    async def _respond(self, request: Request) -> Response | None:
        if request.method == "OPTIONS":
            headers = tus.announcement(self._max_size) | ietf.announcement(self._max_size)
            return Response(status_code=204, headers=headers)
        if ietf.is_spoken(request):
            return await self._ietf.respond(request)
        return await self._tus.respond(request) if _is_tus(request) else None


def _is_tus(request: Request) -> bool:
    if "tus-resumable" in request.headers:
        return True
    if token_in(request.url.path) is not None:
        return request.method in {"HEAD", "PATCH", "DELETE"}
    is_form = media_type(request) == "multipart/form-data"
    return request.method == "POST" and request.url.path in _CREATION_PATHS and not is_form


def _for_pages(request: Request) -> dict[str, str]:
    """Return what lets a page of another origin send the request and read the response (WHATWG Fetch, section 3.3).

    Only origins that are allowed get here.
    """
    origin = request.headers.get("origin")
    if origin is None:
        return {}
    headers = {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Expose-Headers": _TOLD,
        "Vary": "Origin",
    }
    if request.method == "OPTIONS":
        headers["Access-Control-Allow-Methods"] = _METHODS
        headers["Access-Control-Allow-Headers"] = request.headers.get("access-control-request-headers", "")
    return headers
