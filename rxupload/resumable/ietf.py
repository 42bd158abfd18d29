"""`IetfResumable` speaks the draft of the IETF for resumable uploads, with interop version 8. It is experimental.

The facts are from draft-ietf-httpbis-resumable-upload-11 and its editors' copy of July 2026. Both are of version 8.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote

import httpx

from rxupload._arguments import check_name

from .form import FORM_VALUES
from .protocol import SLICE, About, Metadata, Next, Part, Request, ResumableProtocol, Verdict

if TYPE_CHECKING:
    from .store import Entry

_HEADER, _INTEROP = "Upload-Draft-Interop-Version", "8"
_VERSION = {_HEADER: _INTEROP}
_TYPE = "application/partial-upload"
_NUMBER = re.compile(r"[0-9]{1,15}")  # RFC 9651, section 3.3.1
_MEMBER = re.compile(
    r"([a-z*][a-z0-9_.*-]*)(?:=(-?[0-9]{1,15}))?[ \t]*(?:;[^,]*)?"
)  # an Integer, or something else
_LIMITS = ("max-size", "min-size", "max-append-size", "min-append-size", "max-age")
_COMPLETED = "#completed-upload"  # a problem type of the drafts up to 10
_LONGEST = 100 * 365 * 24 * 3600  # seconds: an Integer may be more than any clock has
_PASSING = (408, 425, 429)

# What is remembered besides
_LEAST = "min-append-size"
_STATE = "complete"  # whether the upload is, and whether the server repeats its response
_ASKED, _UNANSWERED = "asked", "unanswered"
_STATES = re.compile(f"{_ASKED}|{_UNANSWERED}")

_VERDICTS = {
    403: Next.FORBIDDEN,
    404: Next.FORGOTTEN,
    410: Next.FORGOTTEN,
    413: Next.SHRINK,
}


@dataclass(frozen=True, slots=True)
class IetfResumable(ResumableProtocol):
    """The protocol of draft-ietf-httpbis-resumable-upload, interop version 8. **Experimental**: it follows the draft.

    The server treats the file as if one ordinary request had sent it, and the last response is its answer to that.

    - A file of at most 256 KiB goes with the POST. If the server answers with 104 (Upload Resumption Supported), the
      upload's address is stored before more bytes go, so that a broken POST goes on, too.
    - A larger one begins with an empty POST ("careful upload creation"), and goes with PATCH.
    - 104 responses also say how much has arrived. From the first of them on, `Progress.sent` is what they say: behind a
      proxy, that is more honest than what the connection has taken.
    - The server's limits hold: `max-append-size` makes parts smaller. A file above `max-size` is a ValueError, and
      so is a `chunk_size` below `min-append-size`.
    - If only the last response was lost, the server is asked for it again. If it has none, the HEAD's is the last item.
    - The file's name goes as Content-Disposition, its media type as Content-Type.
    - With `form`, the upload is a form (multipart/form-data) as that of `upload()`: `metadata` are its fields, and the
      file is its last part. It goes on with the same boundary, so all offsets and sizes are those of the form. The
      file's size must be known. If a field or a name has changed, a new upload begins.

    Attributes:
        form: The name of the file's field in a form; None: the file goes as it is.
    """

    form: str | None = None

    name: ClassVar[str] = "ietf"

    def __post_init__(self) -> None:
        if self.form is not None:
            check_name("form", self.form)

    @classmethod
    def understands(cls, entry: Entry) -> bool:
        """Whether it has a limit, a state, a form or nothing besides; see `ResumableProtocol.understands`."""
        own = {_LEAST: _NUMBER, _STATE: _STATES, **FORM_VALUES}
        return all(name in own and own[name].fullmatch(value) for name, value in entry.extra.items())

    @property
    def field(self) -> str | None:
        """The form's field that the file goes in; see `ResumableProtocol.field`."""
        return self.form

    def metadata(self, given: Metadata) -> Metadata:
        """Take the fields of a form; see `ResumableProtocol.metadata`.

        Raises:
            TypeError: A value has the wrong type.
            ValueError: There is no form.
        """
        if given and self.form is None:
            raise ValueError(
                "metadata: this protocol has no place for it but the fields of a form; name the file's field, as in "
                'IetfResumable(form="file"), or leave it out'
            )
        return ResumableProtocol.metadata(self, given)

    def creates_with(self, about: About) -> bool:  # noqa: ARG002
        """Say that a small file goes with the POST (section "Optimistic Upload Creation")."""
        return True

    def shortest(self, entry: Entry | None) -> int:
        """Return the bytes of a short part, and not fewer than the server takes; see `ResumableProtocol.shortest`."""
        return max(SLICE, 0 if entry is None else _least(entry))

    def create(self, about: About, part: Part | None) -> Request:
        """Return the POST, with all of the file or nothing of it (section "Upload Creation")."""
        is_whole = part is not None or about.size == 0
        headers = {**_VERSION, "Upload-Complete": "?1" if is_whole else "?0"}
        if about.size is not None:
            headers["Upload-Length"] = str(about.size)
        if about.filename is not None:
            headers["Content-Disposition"] = _disposition(about.filename)
        content_type = about.content_type or "application/octet-stream"
        return Request("POST", headers, content_type, None if part is not None else b"")

    def created(self, response: Any, about: About, part: Part | None) -> Verdict:
        """Judge the final response of the POST."""
        status, is_complete, limits = response.status_code, _is_complete(response), _limits(response)
        if status == 413 and part is not None:  # noqa: PLR2004
            return Verdict(Next.SHRINK)
        if status // 100 != 2:  # noqa: PLR2004
            is_over = is_complete or (status // 100 == 4 and status not in _PASSING)  # noqa: PLR2004
            return Verdict(Next.OVER if is_over else Next.FAIL)
        is_whole = part is not None or about.size == 0
        if is_complete or (is_complete is None and is_whole):  # without the draft, it is an ordinary upload
            if not is_whole:
                raise httpx.RemoteProtocolError(
                    "The server answers for an upload whose file it has not got; does it speak interop version 8?",
                    request=response.request,
                )
            return Verdict(Next.DONE, about.size, is_named=False)
        verdict = _with_limits(Next.ASK if is_whole else Next.GO_ON, None if is_whole else 0, limits)
        return _too_long(about, limits) or verdict

    def ask(self, about: About, entry: Entry) -> Request:  # noqa: ARG002
        """Return the HEAD (section "Offset Retrieval")."""
        return Request("HEAD", _VERSION)

    def asked(self, response: Any, about: About, entry: Entry) -> Verdict:
        """Judge the response of the HEAD."""
        status, offset, is_complete = (
            response.status_code,
            _number(response, "Upload-Offset"),
            _is_complete(response),
        )
        if status in (403, 404, 410):
            return Verdict(_VERDICTS[status])
        if status // 100 != 2:  # noqa: PLR2004
            return Verdict(Next.FAIL)
        if offset is None or is_complete is None:
            raise httpx.RemoteProtocolError(
                f"The server answers HEAD with {status}, and without an Upload-Offset and an Upload-Complete",
                request=response.request,
            )
        length = _number(response, "Upload-Length")
        if about.size is not None and (length not in (None, about.size) or offset > about.size):
            return Verdict(Next.OTHER)
        if is_complete:
            return _of_complete(about, entry, offset)
        limits = _limits(response)
        return _too_long(about, limits) or _with_limits(Next.GO_ON, offset, limits)

    def send(self, about: About, entry: Entry, part: Part) -> Request:
        """Return the PATCH (section "Upload Append").

        Raises:
            ValueError: The part is smaller than the server takes.
        """
        least = _least(entry)
        if part.size < least and not part.is_last:
            raise ValueError(
                f"chunk_size: the server takes at least {least} bytes in a request, got {part.size}"
            )
        length = (
            {} if about.size is None and not part.is_last else {"Upload-Length": str(about.size or part.end)}
        )
        complete = "?1" if part.is_last else "?0"
        headers = {**_VERSION, "Upload-Offset": str(part.offset), "Upload-Complete": complete, **length}
        return Request("PATCH", headers, _TYPE)

    def sent(self, response: Any, about: About, entry: Entry, part: Part) -> Verdict:
        """Judge the response of the PATCH."""
        status = response.status_code
        if _is_complete(response):
            is_whole = status // 100 == 2 and part.is_last  # noqa: PLR2004
            return Verdict(Next.DONE, part.end) if is_whole else Verdict(Next.OVER)
        is_repeat = entry.extra.get(_STATE) == _ASKED and not part.size
        if _problem(response).endswith(_COMPLETED) or (is_repeat and _is_refusal(status)):
            return Verdict(Next.ASK, extra={_STATE: _UNANSWERED} if is_repeat else {})
        limits = _limits(response)
        if status // 100 == 2:  # noqa: PLR2004
            return _of_appended(response, part, limits)
        if status == 409:  # noqa: PLR2004
            offset = _number(response, "Upload-Offset")
            is_known = offset is not None and about.size is not None and offset <= about.size
            return Verdict(Next.GO_ON, offset) if is_known else Verdict(Next.ASK)
        if status == 413 and limits.get("max-append-size", part.size) < part.size:  # noqa: PLR2004
            return _with_limits(Next.GO_ON, part.offset, limits)
        return Verdict(_VERDICTS.get(status, Next.FAIL))

    def informed(self, response: Any) -> Verdict | None:
        """Judge a 104 (section "Status Code 104"). Another interop version is another protocol."""
        if response.status_code != 104 or response.headers.get(_HEADER) != _INTEROP:  # noqa: PLR2004
            return None
        return _with_limits(Next.GO_ON, _number(response, "Upload-Offset"), _limits(response))

    def discard(self, entry: Entry) -> Request:  # noqa: ARG002
        """Return the DELETE (section "Upload Cancellation")."""
        return Request("DELETE", _VERSION)


def _least(entry: Entry) -> int:
    return int(entry.extra.get(_LEAST, "0"))


def _of_appended(response: Any, part: Part, limits: Mapping[str, int]) -> Verdict:
    """Judge that a part was appended. Without Upload-Offset, all of it was. The last one should have completed all."""
    offset = _number(response, "Upload-Offset")
    offset = part.end if offset is None else offset
    if part.is_last or not part.offset <= offset <= part.end:
        return _with_limits(Next.ASK, None, limits)
    return _with_limits(Next.GO_ON, offset, limits)


def _of_complete(about: About, entry: Entry, offset: int) -> Verdict:
    """Judge that an upload is complete. The first time, ask for its response by a part without bytes."""
    if about.size is None or entry.extra.get(_STATE) == _UNANSWERED:
        return Verdict(Next.DONE, offset)
    if offset != about.size:  # the server has ended it before its end, and takes no more
        return Verdict(Next.FORGOTTEN)
    return Verdict(Next.GO_ON, offset, extra={_STATE: _ASKED})


def _with_limits(what: Next, offset: int | None, limits: Mapping[str, int]) -> Verdict:
    age = limits.get("max-age")
    extra = {_LEAST: str(limits[_LEAST])} if _LEAST in limits else {}
    expires = None if age is None else time.time() + min(age, _LONGEST)
    return Verdict(what, offset, expires, limits.get("max-append-size") or None, extra)


def _too_long(about: About, limits: Mapping[str, int]) -> Verdict | None:
    most = limits.get("max-size")
    if about.size is None or most is None or about.size <= most:
        return None
    return Verdict(Next.TOO_LONG, most)


def _limits(response: Any) -> dict[str, int]:
    """Return the limits of Upload-Limit. A known one that is no Integer makes all of them void."""
    found = {}
    for each in response.headers.get("Upload-Limit", "").split(","):
        member = _MEMBER.fullmatch(each.strip(" \t"))
        name = member[1] if member else each.strip(" \t").partition("=")[0]
        if name in _LIMITS:
            if member is None or member[2] is None or int(member[2]) < 0:
                return {}
            found[name] = int(member[2])
    return found


def _is_complete(response: Any) -> bool | None:
    """Return Upload-Complete, a Boolean (RFC 9651, section 3.3.6); None if there is none."""
    value = response.headers.get("Upload-Complete", "").partition(";")[0].strip()
    return {"?0": False, "?1": True}.get(value)


def _number(response: Any, name: str) -> int | None:
    value = response.headers.get(name, "").partition(";")[0].strip()
    return int(value) if _NUMBER.fullmatch(value) else None


def _problem(response: Any) -> str:
    """Return the type of a problem (RFC 9457); "" if the response has none."""
    if not response.headers.get("Content-Type", "").startswith("application/problem+json"):
        return ""
    try:
        found = response.json()
    except ValueError:
        return ""
    return str(found.get("type", "")) if isinstance(found, dict) else ""


def _is_refusal(status: int) -> bool:
    """Whether a status says that the server does not repeat a response. Others may pass."""
    return status // 100 in (2, 4) and status not in (*_PASSING, 401)


def _disposition(filename: str) -> str:
    """Return a Content-Disposition of type inline (RFC 6266, section 4.3; RFC 8187)."""
    plain = re.sub(r"[\x00-\x1f\x7f]", "_", filename.encode("ascii", "replace").decode())
    quoted = plain.replace("\\", "\\\\").replace('"', '\\"')
    full = "" if plain == filename else f"; filename*=UTF-8''{quote(filename, safe='', errors='replace')}"
    return f'inline; filename="{quoted}"{full}'
