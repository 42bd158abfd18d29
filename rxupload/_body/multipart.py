"""Builds a multipart/form-data body as browsers send it.

The encoding is the WHATWG's (HTML, "multipart/form-data encoding algorithm", whatwg/html#6282) in UTF-8. Unlike RFC
2231 and RFC 7578, section 4.2, it escapes only three characters in names: CR, LF and the quotation mark.
"""

from __future__ import annotations

import mimetypes
import re
import secrets
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from rxupload._sources import Piece, Reader

FieldValue: TypeAlias = str | bytes | int | float | bool

_NEWLINE = re.compile(r"\r\n|\r|\n")
_ESCAPES = str.maketrans({"\n": "%0A", "\r": "%0D", '"': "%22"})
_ENCODED_TYPES = {
    "br": "application/x-brotli",
    "bzip2": "application/x-bzip2",
    "compress": "application/x-compress",
    "gzip": "application/gzip",
    "xz": "application/x-xz",
    "zstd": "application/zstd",
}
_UNKNOWN_TYPE = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Part:
    """A file part of the body."""

    name: str
    filename: str
    content_type: str
    reader: Reader


class MultipartBody:
    """The whole body: the form fields in their order, then the files.

    A redirect or an auth challenge makes another pass. Each pass reads the files from their start.

    Attributes:
        content_type: The request's Content-Type, with the boundary.
        length: The exact number of bytes; None if a part's size is unknown.
    """

    def __init__(
        self, fields: Sequence[tuple[str, bytes]], parts: Sequence[Part], boundary: str | None = None
    ) -> None:
        boundary = boundary or secrets.token_hex(16)
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self._fields = [(_field_head(boundary, name), value) for name, value in fields]
        self._files = [(_file_head(boundary, part), part.reader) for part in parts]
        self._end = f"--{boundary}--\r\n".encode()
        self.length = self._length()

    def pieces(self) -> Generator[Piece]:
        """Make one pass over the body. Use up each piece before drawing the next."""
        for head, value in self._fields:
            yield head
            yield value
            yield b"\r\n"
        for head, reader in self._files:
            yield head
            yield from reader.pieces()
            yield b"\r\n"
        yield self._end

    def _length(self) -> int | None:
        length = len(self._end)
        contents = [(head, len(value)) for head, value in self._fields]
        for head, size in contents + [(head, reader.size) for head, reader in self._files]:
            if size is None:
                return None
            length += len(head) + size + len(b"\r\n")
        return length


def encode_fields(
    form_data: Mapping[str, FieldValue | Sequence[FieldValue]] | None,
) -> list[tuple[str, bytes]]:
    """Return the form fields with their encoded values. A list or a tuple repeats its field.

    Raises:
        TypeError: form_data is not a mapping from str to str, bytes, int, float, bool, or lists of those.
    """
    if form_data is None:
        return []
    if not isinstance(form_data, Mapping):
        raise TypeError(f"form_data must be a mapping, not {type(form_data).__name__}")
    fields = []
    for name, value in form_data.items():
        if not isinstance(name, str):
            raise TypeError(f"form_data: a key must be str, and {name!r} is {type(name).__name__}")
        values = value if isinstance(value, list | tuple) else [value]
        fields += [(name, _field_value(name, each)) for each in values]
    return fields


def guess_content_type(filename: str) -> str:
    """Guess the media type from a filename. For `a.tar.gz` return gzip's type, not the type of the archive inside."""
    # Make it a path: guess_type() would read "data:,x.png" as a URL, and fail on some other names.
    guess, encoding = mimetypes.guess_type(f"./{filename}")
    if encoding is not None:
        return _ENCODED_TYPES.get(encoding, _UNKNOWN_TYPE)
    return guess or _UNKNOWN_TYPE


def _field_head(boundary: str, name: str) -> bytes:
    return f'--{boundary}\r\nContent-Disposition: form-data; name="{_field_name(name)}"\r\n\r\n'.encode()


def _file_head(boundary: str, part: Part) -> bytes:
    filename = _well_formed(part.filename).translate(_ESCAPES)
    return (
        f"--{boundary}\r\n"
        f'Content-Disposition: form-data; name="{_field_name(part.name)}"; filename="{filename}"\r\n'
        f"Content-Type: {part.content_type}\r\n\r\n"
    ).encode()


def _field_name(name: str) -> str:
    return _crlf(_well_formed(name)).translate(_ESCAPES)


def _field_value(name: str, value: object) -> bytes:
    match value:
        case bytes():
            return value
        case str():
            return _crlf(_well_formed(value)).encode()
        case bool():
            return b"true" if value else b"false"
        case int() | float():
            return str(value).encode()
        case None:
            raise TypeError(f'form_data[{name!r}] is None; leave it out, or send "" instead')
        case _:
            raise TypeError(
                f"form_data[{name!r}] must be str, bytes, int, float or bool, or a list of those, "
                f"not {type(value).__name__}"
            )


def _crlf(text: str) -> str:
    return _NEWLINE.sub("\r\n", text)


def _well_formed(text: str) -> str:
    """Replace lone surrogates by U+FFFD, and pairs by their character, as Web IDL's USVString does."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
