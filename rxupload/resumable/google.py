"""`GoogleResumable` speaks the resumable protocol of Google's APIs: a session, ranges, and 308 for "not whole yet".

The facts are from "Perform resumable uploads" and "Resumable uploads" of Cloud Storage (JSON API), from "Upload file
data" (resumable upload) of Drive, and from "Resumable Uploads" of the YouTube Data API.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

import httpx

from .protocol import About, Metadata, Next, Part, Request, ResumableProtocol, Verdict

if TYPE_CHECKING:
    from .store import Entry

_INCOMPLETE = 308  # Resume Incomplete
_WHOLE = (200, 201)
_WEEK = 7 * 24 * 3600.0  # seconds that a session lasts
_JSON = "application/json; charset=UTF-8"
_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,18})")
_LIMITED = re.compile(r"(?:[lL]imit|quota)Exceeded")  # reasons of a 403 that says nothing of the session

_VERDICTS = {
    403: Next.FORBIDDEN,
    404: Next.FORGOTTEN,
    410: Next.FORGOTTEN,
    413: Next.SHRINK,
}


@dataclass(frozen=True, slots=True)
class GoogleResumable(ResumableProtocol):
    """The resumable protocol of Cloud Storage (JSON API), Drive and YouTube.

    ::

        upload_resumable(
            "https://www.googleapis.com/upload/drive/v3/files?uploadType=resumable",
            "video.mp4",
            protocol=GoogleResumable(),
            metadata={"name": "video.mp4", "parents": [parent]},
            headers=lambda: {"Authorization": f"Bearer {token()}"},
        )

    - The POST to the endpoint has `metadata` as its JSON body: the API's resource, with values of any JSON type.
      Without metadata, it is the file's name, as `{"name": ...}`.
    - Its response names the session's URI. That is a key to the upload, and lasts a week. It may be on another host,
      which does not get the credentials, and does not need them.
    - `chunk_size` is a multiple of 262,144 bytes (256 KiB). Without it, one PUT has all that the server lacks.
    - A 5xx asks the server how much it has. The upload goes on there.
    - `discard()` ends the session. Google's answer to that is 499.
    """

    name: ClassVar[str] = "google"
    granularity: ClassVar[int] = 256 * 1024
    own_statuses: ClassVar[frozenset[int]] = frozenset({_INCOMPLETE})

    def metadata(self, given: Metadata) -> Metadata:
        """Copy what JSON can express; see `ResumableProtocol.metadata`."""
        try:
            return cast("Metadata", json.loads(json.dumps(dict(given), allow_nan=False)))
        except (TypeError, ValueError) as error:
            raise TypeError(f"metadata: expected values that JSON has: {error}") from None

    def create(self, about: About, part: Part | None) -> Request:  # noqa: ARG002 - never with bytes
        """Return the POST that begins a session."""
        own = {} if about.filename is None else {"name": about.filename}
        headers = {"X-Upload-Content-Type": _type(about)}
        if about.size is not None:
            headers["X-Upload-Content-Length"] = str(about.size)
        content = json.dumps(dict(about.metadata) or own, ensure_ascii=False).encode()
        return Request("POST", headers, _JSON, content)

    def created(self, response: Any, about: About, part: Part | None) -> Verdict:  # noqa: ARG002
        """Judge the response of the POST. An empty file, too, needs a PUT."""
        if response.status_code not in _WHOLE:
            return _failed(response, "POST", "200 (OK) and the URI of a session")
        return Verdict(Next.GO_ON, 0, time.time() + _WEEK)

    def ask(self, about: About, entry: Entry) -> Request:  # noqa: ARG002
        """Return the PUT without content that asks for the range that has arrived."""
        return Request("PUT", {"Content-Range": f"bytes */{_total(about.size)}"}, content=b"")

    def asked(self, response: Any, about: About, entry: Entry) -> Verdict:
        """Judge its response."""
        status = response.status_code
        if status in _WHOLE:
            known = 0 if entry.checkpoint is None else entry.checkpoint.offset
            return Verdict(Next.DONE, known if about.size is None else about.size)
        if status != _INCOMPLETE:
            if status in (403, 404, 410):
                return _gone(response)
            return _failed(response, "a PUT that asks for the offset", "200, 201 or 308")
        offset = _arrived(response)
        if offset is None:
            raise httpx.RemoteProtocolError(
                "The server answers 308 with an invalid Range", request=response.request
            )
        if about.size is not None and offset > about.size:
            return Verdict(Next.OTHER)
        return Verdict(Next.GO_ON, offset)

    def send(self, about: About, entry: Entry, part: Part) -> Request:  # noqa: ARG002
        """Return the PUT of a part. That of the last part says how long a file of unknown size is."""
        total = _total(part.end if part.is_last else about.size)
        span = f"{part.offset}-{part.end - 1}" if part.size else "*"
        return Request("PUT", {"Content-Range": f"bytes {span}/{total}"}, _type(about))

    def sent(self, response: Any, about: About, entry: Entry, part: Part) -> Verdict:  # noqa: ARG002
        """Judge its response."""
        status = response.status_code
        if status in _WHOLE:
            # Before the last part it cannot be: another one has ended the session.
            return Verdict(Next.DONE, part.end) if part.is_last else Verdict(Next.OTHER)
        if status == _INCOMPLETE:
            offset = _arrived(response)
            if offset is None or offset > part.end:
                return Verdict(Next.ASK)
            return Verdict(Next.GO_ON, offset)
        if status // 100 == 5:  # noqa: PLR2004
            return Verdict(Next.ASK)
        return _gone(response)

    def discard(self, entry: Entry) -> Request:  # noqa: ARG002
        """Return the DELETE of the session. Google wants its Content-Length, which is 0."""
        return Request("DELETE", content=b"")


def _type(about: About) -> str:
    return about.content_type or "application/octet-stream"


def _total(size: int | None) -> str:
    return "*" if size is None else str(size)


def _arrived(response: Any) -> int | None:
    """Return how many bytes the Range of a 308 says that there are. Without a Range there are none."""
    value = response.headers.get("Range")
    if value is None:
        return 0
    found = _RANGE.fullmatch(value.strip())
    return None if found is None else int(found[1]) + 1


def _gone(response: Any) -> Verdict:
    """Judge a 4xx. A 403 may say that there are too many requests, and then the session lives on."""
    status = response.status_code
    if status == 403 and _LIMITED.search(response.text):  # noqa: PLR2004
        return Verdict(Next.FAIL)
    return Verdict(_VERDICTS.get(status, Next.FAIL))


def _failed(response: Any, method: str, expected: str) -> Verdict:
    """Take the response as the end, unless it would look like a success."""
    if response.status_code // 100 == 2:  # noqa: PLR2004
        raise httpx.RemoteProtocolError(
            f"The server answers {method} with {response.status_code}, and not with {expected}",
            request=response.request,
        )
    return Verdict(Next.FAIL)
