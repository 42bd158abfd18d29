"""Receives a multipart/form-data body: keeps fields in memory, and its files in a directory."""

from __future__ import annotations

import logging
import re
import urllib.parse
from pathlib import Path
from typing import Any, Self

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from .files import ReceivedFile, ReceivedFiles

logging.getLogger("python_multipart").addHandler(logging.NullHandler())  # its log repeats the text of the 400


_MAX_PARTS = 1000
_MAX_FIELD_BYTES = 2**20  # for all field values of one body together, since they are kept in memory


class Form:
    """A multipart/form-data body, with its fields in memory and its files in a directory.

    The end of its `with` block removes the files, unless `finish` has succeeded.
    """

    def __init__(self, boundary: bytes, directory: Path) -> None:
        self.fields: dict[str, list[str]] = {}
        self._files = ReceivedFiles(directory)
        self._file: ReceivedFile | None = None  # the current part, if it is a file
        self._is_unnamed_file = False  # whether the current part is a file if it has any content
        self._name = ""  # of the current part
        self._value = bytearray()
        self._headers: dict[str, str] = {}
        self._header_name, self._header_value = bytearray(), bytearray()
        self._parts = self._field_bytes = 0
        self._closed = self._finished = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._add_header_name,
                "on_header_value": self._add_header_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._add_data,
                "on_part_end": self._end_part,
                "on_end": self._close,
            },
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._finished:
            self._files.discard()

    def write(self, data: bytes) -> None:
        """Parse the next piece of the body."""
        self._parser.write(data)

    def finish(self) -> None:
        """Check that the body is whole, and give the files their names."""
        if not self._closed:
            raise FormParserError("The body ends before its closing boundary.")
        self._files.keep()
        self._finished = True

    @property
    def files(self) -> list[ReceivedFile]:
        """The files, in the order in which they came."""
        return self._files.list

    @property
    def summary(self) -> str:
        """What arrived, in a line."""
        files = ", ".join(f"{file.path.name} ({file.size} bytes)" for file in self.files)
        return f"Received {files or 'no files'}"

    def as_json(self) -> dict[str, Any]:
        """Return what arrived, for the response."""
        fields = {name: values if len(values) > 1 else values[0] for name, values in self.fields.items()}
        return {"fields": fields, "files": [file.as_json() for file in self.files]}

    def _begin_part(self) -> None:
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise FormParserError(f"The body has more than {_MAX_PARTS} parts.")
        self._headers = {}

    def _add_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _add_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._header_name.decode().lower()] = self._header_value.decode(errors="replace")
        self._header_name, self._header_value = bytearray(), bytearray()

    def _end_headers(self) -> None:
        name, filename = names_of(parameters(self._headers.get("content-disposition", "")))
        if name is None:
            raise FormParserError("A part has no name in its Content-Disposition.")
        self._file, self._name, self._value = None, name, bytearray()
        self._is_unnamed_file = filename == ""
        if filename:
            self._create_file(filename)

    def _create_file(self, filename: str) -> None:
        self._file = self._files.create(self._name, filename, self._headers.get("content-type"))

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        piece = memoryview(data)[start:end]
        if self._is_unnamed_file and self._file is None and piece:
            self._create_file("")
        if self._file is not None:
            self._file.write(piece)
            return
        self._field_bytes += len(piece)
        if self._field_bytes > _MAX_FIELD_BYTES:
            raise FormParserError(f"The fields have more than {_MAX_FIELD_BYTES} bytes.")
        self._value += piece

    def _end_part(self) -> None:
        if self._file is not None:
            self._file.close()
        elif not self._is_unnamed_file:  # else a form in which no file was chosen
            self.fields.setdefault(self._name, []).append(self._value.decode(errors="replace"))

    def _close(self) -> None:
        self._closed = True


# A quoted value ends at the first quotation mark that a semicolon or the end follows. One without an end takes the rest
# of the header. So the expression looks at each character a fixed number of times. Its possessive quantifiers (*+, ++)
# never go back.
_PARAMETER = re.compile(
    r';\s*+([^\s=;"]++)\s*+=\s*+(?:"((?:[^"]++|"(?!\s*+(?:;|\Z)))*+)("?)|([^\s;"]*+)(?=\s*+(?:;|\Z)))'
)


def parameters(header: str) -> dict[str, str]:
    """Return the parameters of a Content-Type or a Content-Disposition, by lower-case name, in linear time.

    A backslash is no escape: browsers send it unchanged, and never a quotation mark within the quotes (WHATWG HTML,
    multipart/form-data encoding algorithm). A quoted value without an end is left out.
    """
    return {
        match[1].lower(): match[4] if match[2] is None else match[2]
        for match in _PARAMETER.finditer(header)
        if match[2] is None or match[3]
    }


def boundary_of(content_type: str) -> bytes | None:
    """Return the boundary of multipart/form-data; None if the Content-Type is another one, or has none."""
    if content_type.partition(";")[0].strip().lower() != "multipart/form-data":
        return None
    boundary = parameters(content_type).get("boundary")
    return boundary.encode("latin-1", "replace") if boundary else None


def names_of(disposition: dict[str, str]) -> tuple[str | None, str | None]:
    """Return the name and the filename of a part, decoded."""
    name, filename = (
        _extended(disposition.get(f"{key}*")) or _unescaped(disposition.get(key))
        for key in ("name", "filename")
    )
    if filename is None and "filename*" in disposition:
        filename = ""  # a file, but its name cannot be decoded
    return name, filename


def _unescaped(value: str | None) -> str | None:
    """Decode a value as browsers encode it."""
    return value and value.replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")


def _extended(value: str | None) -> str | None:
    """Decode an extended value, such as UTF-8''%e2%82%ac.txt (RFC 8187, section 3.2); None if it is not one.

    Clients must not send it in multipart/form-data (RFC 7578, section 4.2), but some do, with a makeshift as the plain
    value.
    """
    charset, _, rest = (value or "").partition("'")
    _, found, encoded = rest.partition("'")
    if not found or charset.lower() not in {"utf-8", "iso-8859-1"}:
        return None
    try:
        return urllib.parse.unquote_to_bytes(encoded).decode(charset)
    except UnicodeDecodeError:
        return None
