"""`Tus` speaks tus 1.0.0 (https://tus.io/protocols/resumable-upload): creation, offsets, checksums, termination."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import httpx

from rxupload._body.multipart import well_formed

from .places import are_places
from .protocol import About, Metadata, Next, Part, Request, ResumableProtocol, Verdict

if TYPE_CHECKING:
    from .store import Entry

Checksum: TypeAlias = Literal["auto", "sha1", "sha256"] | None

_VERSION = {"Tus-Resumable": "1.0.0"}
_BODY = "application/offset+octet-stream"
_KEY = re.compile(r"[!-+\--~]+")  # ASCII without spaces and commas
_NUMBER = re.compile(r"[0-9]{1,18}")
_ALGORITHMS = ("sha256", "sha1")
_UNKNOWN_METHOD = (404, 405, 501)

_VERDICTS = {
    403: Next.FORBIDDEN,
    404: Next.FORGOTTEN,
    405: Next.OVERRIDE,
    409: Next.ASK,
    410: Next.FORGOTTEN,
    413: Next.SHRINK,
    460: Next.REPEAT,
    501: Next.OVERRIDE,
}


@dataclass(frozen=True, slots=True)
class Tus(ResumableProtocol):
    """The protocol tus 1.0.0, with its extensions where the server announces them.

    - Creation, with the bytes in the same request for a file of at most 256 KiB, or of one chunk.
    - Creation with a length that is known only at the end, for a source of unknown size.
    - Expiration and termination.
    - Checksum, if there is a `chunk_size`: the digest goes before the bytes.

    The file's name and media type go as `filename` and `filetype`, unless the metadata has them.

    Attributes:
        checksum: "auto" sends the SHA-256 or the SHA-1 of each chunk if the server announces one of them. "sha256" and
            "sha1" send it in any case, and need a `chunk_size`. None sends none.
        parallel: How many connections send a large file at once, as far as the server announces concatenation.
    """

    checksum: Checksum = "auto"
    parallel: int = 1

    name: ClassVar[str] = "tus"

    def __post_init__(self) -> None:
        if self.checksum not in ("auto", "sha1", "sha256", None):
            raise ValueError(f'checksum: must be "auto", "sha1", "sha256" or None, not {self.checksum!r}')
        if isinstance(self.parallel, bool) or not isinstance(self.parallel, int):
            raise TypeError(f"parallel: expected an int, got {type(self.parallel).__name__}")
        if self.parallel < 1:
            raise ValueError(f"parallel: must be 1 or more, got {self.parallel}")

    @classmethod
    def understands(cls, entry: Entry) -> bool:
        """Whether it has nothing besides, or parts; see `ResumableProtocol.understands`."""
        return are_places(entry)

    def check(self, about: About) -> None:
        """Check the metadata (section "Upload-Metadata" of the extension Creation)."""
        for key in about.metadata:
            if not _KEY.fullmatch(key):
                raise ValueError(
                    f"metadata: a key of tus is ASCII without spaces and commas, and not empty; not {key!r}"
                )
        if self.checksum not in ("auto", None) and about.chunk_size is None:
            raise ValueError("chunk_size: a checksum goes before the bytes of a chunk; give a size of chunks")

    def question(self, about: About, *, is_new: bool) -> Request | None:
        """Ask by OPTIONS if what it announces would be used."""
        has_checksum = self.checksum == "auto" and about.chunk_size is not None
        is_used = has_checksum or (is_new and (about.size is None or about.is_small or self.parallel > 1))
        return Request("OPTIONS") if is_used else None

    def features(self, response: Any) -> frozenset[str] | None:
        """Return the extensions, and "checksum:sha256" and the like; none for a server that does not know OPTIONS."""
        status = response.status_code
        if status // 100 != 2:  # noqa: PLR2004
            return frozenset() if status in _UNKNOWN_METHOD else None
        found = {f"checksum:{each}" for each in _listed(response, "Tus-Checksum-Algorithm")}
        return frozenset({*_listed(response, "Tus-Extension"), *found})

    def creates_with(self, about: About) -> bool:
        """Whether the extension Creation With Upload is announced."""
        return "creation-with-upload" in about.features

    def algorithm(self, about: About) -> str | None:
        """Return the algorithm of Upload-Checksum."""
        if self.checksum != "auto":
            return self.checksum
        if about.chunk_size is None or "checksum" not in about.features:
            return None
        return next((each for each in _ALGORITHMS if f"checksum:{each}" in about.features), None)

    def create(self, about: About, part: Part | None) -> Request:
        """Return the POST that creates the upload.

        Raises:
            ValueError: The size is unknown, and the server announces extensions, but not Creation Defer Length.
        """
        if about.size is None and about.features and "creation-defer-length" not in about.features:
            raise ValueError(
                "file: this server takes no upload whose size is unknown; give the bytes, as in File(source, size=1024)"
            )
        length = {"Upload-Defer-Length": "1"} if about.size is None else {"Upload-Length": str(about.size)}
        metadata = _encoded(about)
        headers = {**_VERSION, **length, **({"Upload-Metadata": metadata} if metadata else {})}
        if part is None:
            return Request("POST", headers)
        return Request("POST", {**headers, **self._checksum(about, part)}, _BODY)

    def created(self, response: Any, about: About, part: Part | None) -> Verdict:
        """Judge the response of the POST."""
        status = response.status_code
        if part is not None and status == 413:  # noqa: PLR2004
            return Verdict(Next.SHRINK)
        # Some servers answer 200 if the upload is whole with it.
        if status // 100 != 2 or "Location" not in response.headers:  # noqa: PLR2004
            return _failed(response, "POST", "201 (Created) and a Location")
        expires = _expires(response)
        if part is None:
            return Verdict(Next.DONE if about.size == 0 else Next.GO_ON, 0, expires)
        offset = _number(response, "Upload-Offset")
        if offset is None or offset > part.end:
            return Verdict(Next.ASK, None, expires)
        return Verdict(Next.DONE if offset == about.size else Next.GO_ON, offset, expires)

    @property
    def connections(self) -> int:
        """How many connections may send one file at the same time."""
        return self.parallel

    def joins(self, about: About) -> bool:
        """Whether the extension Concatenation is announced."""
        return "concatenation" in about.features

    def of_a_part(self) -> Tus:
        """Return the protocol for an upload that will be joined with others."""
        return _Partial(self.checksum)

    def join(self, about: About, urls: Sequence[str]) -> Request:
        """Return the POST that joins uploads (extension Concatenation)."""
        metadata = _encoded(about)
        concat = {"Upload-Concat": f"final;{' '.join(urls)}"}
        return Request("POST", {**_VERSION, **concat, **({"Upload-Metadata": metadata} if metadata else {})})

    def ask(self, about: About, entry: Entry) -> Request:  # noqa: ARG002
        """Return the HEAD."""
        return Request("HEAD", _VERSION)

    def asked(self, response: Any, about: About, entry: Entry) -> Verdict:  # noqa: ARG002
        """Judge the response of the HEAD."""
        status = response.status_code
        if status in (403, 404, 410):
            return Verdict(_VERDICTS[status])
        offset = _number(response, "Upload-Offset")
        if status // 100 != 2 or offset is None:  # noqa: PLR2004
            return _failed(response, "HEAD", "200 and an Upload-Offset")
        length = _number(response, "Upload-Length")
        if None not in (length, about.size) and length != about.size:
            return Verdict(Next.OTHER)
        size = about.size if length is None else length
        if size is not None and offset > size:
            return Verdict(Next.OTHER)
        step = Next.DONE if offset == size else Next.GO_ON
        return Verdict(step, offset, _expires(response), size=length)

    def send(self, about: About, entry: Entry, part: Part) -> Request:  # noqa: ARG002
        """Return the PATCH. That of the last part says how long a file of unknown size is, until the server knows."""
        length = {"Upload-Length": str(part.end)} if about.size is None and part.is_last else {}
        headers = {**_VERSION, "Upload-Offset": str(part.offset), **length, **self._checksum(about, part)}
        return Request("PATCH", headers, _BODY)

    def sent(self, response: Any, about: About, entry: Entry, part: Part) -> Verdict:  # noqa: ARG002
        """Judge the response of the PATCH."""
        status = response.status_code
        if status // 100 != 2:  # noqa: PLR2004
            return Verdict(_VERDICTS.get(status, Next.FAIL))
        offset = _number(response, "Upload-Offset")
        expires = _expires(response)
        if offset is None or offset > part.end:
            return Verdict(Next.ASK, None, expires)
        if part.is_last and offset == part.end:
            return Verdict(Next.DONE, offset, expires)
        return Verdict(Next.GO_ON, offset, expires, size=part.end if part.is_last else None)

    def override(self, request: Request) -> Request:
        """Return a POST with X-HTTP-Method-Override (section "X-HTTP-Method-Override" of the core protocol)."""
        headers = {**request.headers, "X-HTTP-Method-Override": request.method}
        return replace(request, method="POST", headers=headers)

    def discard(self, entry: Entry) -> Request:  # noqa: ARG002
        """Return the DELETE of the extension Termination."""
        return Request("DELETE", _VERSION)

    def _checksum(self, about: About, part: Part) -> dict[str, str]:
        algorithm = self.algorithm(about)
        if algorithm is None or not part.digest:
            return {}
        return {"Upload-Checksum": f"{algorithm} {base64.b64encode(part.digest).decode()}"}


class _Partial(Tus):
    """An upload that will be joined with others. The joined one has the metadata."""

    __slots__ = ()

    def creates_with(self, about: About) -> bool:  # noqa: ARG002
        """Never: an empty upload costs no more where there are several."""
        return False

    def create(self, about: About, part: Part | None) -> Request:  # noqa: ARG002
        """Return the POST that creates the upload."""
        return Request("POST", {**_VERSION, "Upload-Concat": "partial", "Upload-Length": str(about.size)})


def _encoded(about: About) -> str:
    """Encode the metadata; "" if there is none."""
    pairs = metadata_of(about).items()
    return ",".join(f"{key} {base64.b64encode(_bytes_of(value)).decode()}".rstrip() for key, value in pairs)


def _bytes_of(value: str | bytes) -> bytes:
    """Encode a value. A filename of another encoding has lone surrogates, which become U+FFFD, as in a form."""
    if isinstance(value, bytes):
        return value
    return well_formed(value).encode()


def metadata_of(about: About) -> Metadata:
    """Return the metadata, with the file's name and media type."""
    own = {"filename": about.filename, "filetype": about.content_type}
    return {**about.metadata, **{k: v for k, v in own.items() if v is not None and k not in about.metadata}}


def _failed(response: Any, method: str, expected: str) -> Verdict:
    """Take the response as the end, unless it would look like a success."""
    if response.status_code // 100 == 2:  # noqa: PLR2004
        raise httpx.RemoteProtocolError(
            f"The server answers {method} with {response.status_code}, and not with {expected}; "
            "does it speak tus 1.0.0?",
            request=response.request,
        )
    return Verdict(Next.FAIL)


def _number(response: Any, name: str) -> int | None:
    value = response.headers.get(name, "").strip()
    return int(value) if _NUMBER.fullmatch(value) else None


def _expires(response: Any) -> float | None:
    """Return the time of Upload-Expires on this machine's clock (extension Expiration; RFC 9110, section 5.6.7).

    With a Date, it is so much later than now as it is later than that. The server's clock may be wrong, or this one.
    """
    expires, date = _time(response, "Upload-Expires"), _time(response, "Date")
    return expires if expires is None or date is None else time.time() + (expires - date)


def _time(response: Any, name: str) -> float | None:
    """Return an HTTP date; None if there is none. One without a zone is of UTC, too (asctime)."""
    try:
        found = parsedate_to_datetime(response.headers.get(name, ""))
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _listed(response: Any, name: str) -> list[str]:
    return [each.strip().lower() for each in response.headers.get(name, "").split(",") if each.strip()]
