"""Checks the address and the body of an upload, and holds all its arguments, which its subscriptions share."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ._addresses import HINT, parse_url, readable_url, seems_cut, shown
from ._arguments import (
    Auth,
    FollowRedirects,
    Pause,
    RateLimit,
    check_content_type,
    check_name,
    check_part_headers,
    if_swapped,
    is_url,
    wrong_type,
)
from ._body import (
    Body,
    Digests,
    Field,
    FormData,
    MultipartBody,
    Part,
    RawBody,
    encode_fields,
    guess_content_type,
)
from ._digests import check_digest as check_digest  # noqa: PLC0414 - with the other checks of `upload()`
from ._sources import (
    File,
    Owner,
    Piece,
    Reader,
    Source,
    is_requests_tuple,
    make_source,
    requests_tuple,
)
from ._transport import check_host

if TYPE_CHECKING:
    from ._cards import FileRow
    from ._client import HTTPClient


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """One file of a form, described by the arguments of `upload()`."""

    source: Source
    name: str
    filename: str
    content_type: str | None
    headers: Sequence[tuple[bytes, bytes]] = field(default=(), repr=False)  # which may be secrets

    def open(self, owner: Owner, stack: ExitStack, digests: Digests | None, *, is_next: bool) -> Part:
        """Open the source. Closing the stack closes it."""
        return self._part(_open(self.source, owner, stack, digests, is_next=is_next))

    def measured(self) -> Part:
        """Return a part of the same size, without opening the source."""
        return self._part(Reader("", self.source.measure(), _no_pass, ExitStack()))

    def row(self) -> FileRow:
        """Return the row of a card, without opening the source."""
        return self.name, self.filename, self._type, self.source.measure

    def _part(self, reader: Reader) -> Part:
        return Part(self.name, reader, self.filename, self._type, self.headers)

    @property
    def _type(self) -> str:
        return self.content_type or self.source.default_content_type or guess_content_type(self.filename)


@dataclass(frozen=True, slots=True)
class PlannedForm:
    """A multipart body: fields, which are ready, and files, in the order of the body."""

    parts: Sequence[Part | PlannedFile]

    @property
    def filenames(self) -> list[str]:
        """The filename of each file."""
        return [part.filename for part in self.parts if isinstance(part, PlannedFile)]

    @property
    def sources(self) -> list[Source]:
        """The source of each file."""
        return [part.source for part in self.parts if isinstance(part, PlannedFile)]

    @property
    def fields(self) -> list[str]:
        """The name of each field that is no file."""
        return [part.name for part in self.parts if isinstance(part, Part)]

    def rows(self, _headers: Sequence[tuple[bytes, bytes]]) -> Iterator[FileRow]:
        """Return the row of each file for a card, without opening one."""
        return (part.row() for part in self.parts if isinstance(part, PlannedFile))

    def measure(self) -> int | None:
        """Return the size of the body in bytes without opening the files; None if unknown."""
        return MultipartBody(
            [each if isinstance(each, Part) else each.measured() for each in self.parts]
        ).length

    def open(self, owner: Owner, stack: ExitStack, digests: Digests | None) -> Body:
        """Open the files. Closing the stack closes them. `digests` follows them."""
        parts: list[Part] = []
        is_next = True
        for part in self.parts:
            if isinstance(part, Part):
                parts.append(part)
            else:
                parts.append(part.open(owner, stack, digests, is_next=is_next))
                is_next = False
        return MultipartBody(parts)


@dataclass(frozen=True, slots=True)
class PlannedRaw:
    """A body that is one file. See `RawBody` for its content type."""

    source: Source
    content_type: str | None

    @property
    def filenames(self) -> list[str]:
        """The name of the file."""
        return [self.source.default_filename]

    @property
    def sources(self) -> list[Source]:
        """The source of the file."""
        return [self.source]

    @property
    def fields(self) -> list[str]:
        """There is none."""
        return []

    def rows(self, headers: Sequence[tuple[bytes, bytes]]) -> Iterator[FileRow]:
        """Return the row of the file for a card, without opening it. Its type may stand in the request headers."""
        given = (value.decode("latin-1") for name, value in headers if name.lower() == b"content-type")
        kind = next(given, self._guess) if self.content_type is None else self.content_type
        yield "", self.source.default_filename, kind, self.source.measure

    def measure(self) -> int | None:
        """Return the size of the file in bytes without opening it; None if unknown."""
        return self.source.measure()

    def open(self, owner: Owner, stack: ExitStack, digests: Digests | None) -> Body:
        """Open the file. Closing the stack closes it. `digests` follows it."""
        reader = _open(self.source, owner, stack, digests, is_next=True)
        return RawBody(reader, self.content_type, self._guess)

    @property
    def _guess(self) -> str:
        return self.source.default_content_type or guess_content_type(self.source.default_filename)


@dataclass(frozen=True, slots=True, repr=False)  # address, headers and fields may contain secrets
class Plan:
    """The checked arguments of `upload()`."""

    url: str
    body: PlannedForm | PlannedRaw
    headers: Sequence[tuple[bytes, bytes]]
    method: str
    timeout: float | None
    progress_interval: float
    follow_redirects: FollowRedirects
    expect_continue: bool
    max_response_size: int | None
    rate_limit: RateLimit
    pause: Pause
    auth: Auth
    digest: str | None
    client: HTTPClient | None

    @property
    def address(self) -> str:
        """The URL for people, without what may be a secret."""
        return shown(self.url)


def check_url(url: object, client: object, file: object = None) -> str:
    """Return the URL as a str, if an upload of this file can go there. No error quotes it."""
    if not isinstance(url, str) and not is_url(url):
        hint = "; the URL comes first, and then the file" if isinstance(url, os.PathLike) else ""
        kind = type(url).__name__
        raise TypeError(f"url: expected a str or an httpx.URL, got {kind}{if_swapped(url, file) or hint}")
    text = str(url)
    found = _fault(text, has_base=bool(str(getattr(client, "base_url", ""))))
    if not found and parse_url(text).is_relative_url and if_swapped(url, file):
        found = "it is relative to the client's base_url"
    if found:
        raise ValueError(f"url: {found}{if_swapped(url, file)}")
    return text


@lru_cache(maxsize=32)
def _fault(text: str, *, has_base: bool) -> str:  # noqa: PLR0911 - one for each fault
    """Say what is wrong with a URL; return "" if it is valid. Never quote what may be a part of a password."""
    url = readable_url(text)
    if url is None:
        return f"it cannot be read; {HINT}"
    if seems_cut(text):
        return f"an @ comes after a ? or # that ends the host; {HINT}"
    if has_base and url.is_relative_url:
        return ""
    if url.scheme not in ("http", "https"):
        has_scheme = text.lower().startswith(
            f"{url.scheme}://"
        )  # otherwise it may be a user, before the colon
        scheme = f"the scheme is {url.scheme!r}" if has_scheme and url.scheme else "there is no scheme"
        return f"must begin with http:// or https:// and a host; {scheme}"
    if not url.raw_host:
        return "must begin with http:// or https:// and a host; there is no host"
    if url.port is not None and not 0 < url.port < 1 << 16:
        return f"a port is a number from 1 to 65535{'' if '@' in text else f', not {url.port}'}"
    try:
        check_host(url.host)
    except UnicodeError:  # of httpx, for a host that begins with xn--
        return "there is no such host: IDNA refuses it"
    except ValueError as error:
        return str(error)
    return ""


def as_files(file: Any) -> list[tuple[str, File | Field]]:
    """Return each file, or field among the files, with the name of its argument for an error."""
    if is_requests_tuple(file):
        raise requests_tuple(file, "file")
    files = file if isinstance(file, (list, tuple)) else [file]
    if not files:
        raise ValueError("file: the list of files is empty")
    found: list[tuple[str, File | Field]] = []
    for index, each in enumerate(files):
        argument = f"file[{index}]" if files is file else "file"
        found.append((argument, each if isinstance(each, File | Field) else File(each)))
    return found


def plan_form(
    files: Sequence[tuple[str, File | Field]],
    name: object,
    filename: object,
    content_type: str | None,
    form_data: FormData | None,
) -> PlannedForm:
    """Check the arguments of a form. Each file comes with the name of its argument, for an error."""
    if len(files) > 1 and filename is not None:
        raise ValueError(
            "filename: one name for several files; give each its own with File(source, filename=...)"
        )
    if filename is not None:
        check_name("filename", filename)
    if all(isinstance(item, Field) for _, item in files):
        raise ValueError("file: a Field is not a file; if there is a file, a Field may stand beside it")
    parts: list[Part | PlannedFile] = [*encode_fields(form_data)]
    for argument, item in files:
        if isinstance(item, File):
            parts.append(_plan_file(argument, item, name, filename, content_type))
        elif item.name is None:
            raise ValueError(f"{argument}: a Field among the files must have a name: Field(value, name=...)")
        else:
            parts.append(item.part(check_name(f"{argument}: name", item.name), argument))
    return PlannedForm(parts)


def _plan_file(
    argument: str, file: File, name: object, filename: Any, content_type: str | None
) -> PlannedFile:
    source = make_source(file.source, size=file.size, argument=argument)
    own_filename = file.filename if file.filename is not None else filename
    if own_filename is not None and not isinstance(own_filename, str):
        raise wrong_type("filename", "a str", own_filename)
    own_type = file.content_type if file.content_type is not None else content_type
    if own_type is not None:
        check_content_type(own_type)
    return PlannedFile(
        source,
        name=check_name("name", file.name if file.name is not None else name),
        filename=source.default_filename if own_filename is None else own_filename,
        content_type=own_type,
        headers=check_part_headers(file.headers, f"{argument}: headers"),
    )


def plan_raw(
    files: Sequence[tuple[str, File | Field]],
    name: object,
    filename: object,
    content_type: str | None,
    form_data: FormData | None,
) -> PlannedRaw:
    """Check the arguments of a raw body, which has no place for most of what a form can say."""
    if len(files) > 1:
        raise ValueError("file: a raw body is one file; for several, give an upload of each to upload_all()")
    ((argument, file),) = files
    if isinstance(file, Field) or encode_fields(form_data):
        where = argument if isinstance(file, Field) else "form_data"
        raise ValueError(f"{where}: a raw body has no form fields; leave out raw=True, or the fields")
    if name != "file":
        raise ValueError("name: a raw body has no form field to be named; leave it out")
    for what, value, instead in (
        ("filename", filename, "the URL names the file, and content_type= its type"),
        (f"{argument}: name", file.name, "leave it out"),
        (f"{argument}: filename", file.filename, "the URL names the file, and content_type= its type"),
        (f"{argument}: headers", file.headers, "use the headers= of upload()"),
    ):
        if value is not None:
            raise ValueError(f"{what}: a raw body has no part to put it into; {instead}")
    given = file.content_type if file.content_type is not None else content_type
    if given is not None and given != "":
        check_content_type(given)
    return PlannedRaw(make_source(file.source, size=file.size, argument=argument), given)


def _no_pass() -> Generator[Piece]:
    yield from ()


def _open(
    source: Source, owner: Owner, stack: ExitStack, digests: Digests | None, *, is_next: bool
) -> Reader:
    reader = source.open(owner, is_next=is_next)
    stack.callback(reader.close)
    return reader if digests is None else digests.follow(reader)
