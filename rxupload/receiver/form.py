"""Receives a multipart/form-data body: keeps fields in memory, and stores files under safe names in a directory."""

from __future__ import annotations

import hashlib
import itertools
import logging
import re
import secrets
from pathlib import Path
from typing import Any, Self

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

logging.getLogger("python_multipart").addHandler(logging.NullHandler())  # its log repeats the text of the 400


_MAX_PARTS = 1000
_MAX_FIELD_BYTES = 2**20  # for all field values of one body together, since they are kept in memory
_MAX_NAME_BYTES = 200  # file systems allow 255: this leaves room for a number


class Form:
    """A multipart/form-data body, with its fields in memory and its files in a directory.

    The end of its `with` block removes the files, unless `finish` has succeeded.
    """

    def __init__(self, boundary: bytes, directory: Path) -> None:
        self.fields: dict[str, list[str]] = {}
        self.files: list[ReceivedFile] = []
        self._directory = directory
        self._file: ReceivedFile | None = None  # the current part, if it is a file
        self._name = ""  # of the current part, if it is a field
        self._value = bytearray()
        self._headers: dict[str, str] = {}
        self._header_name = self._header_value = b""
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
            for file in self.files:
                file.discard()

    def write(self, data: bytes) -> None:
        """Parse the next piece of the body."""
        self._parser.write(data)

    def finish(self) -> None:
        """Check that the body is whole, and give the files their names."""
        if not self._closed:
            raise FormParserError("The body ends before its closing boundary.")
        for file in self.files:
            file.keep(self._directory)
        self._finished = True

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
        self._header_name = self._header_value = b""

    def _end_headers(self) -> None:
        parameters = _parameters(self._headers.get("content-disposition", ""))
        name, filename = parameters.get("name"), parameters.get("filename")
        if name is None:
            raise FormParserError("A part has no name in its Content-Disposition.")
        self._file, self._name, self._value = None, name, bytearray()
        if filename is not None:
            self._file = ReceivedFile(name, filename, self._headers.get("content-type"), self._directory)
            self.files.append(self._file)

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        piece = memoryview(data)[start:end]
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
        else:
            self.fields.setdefault(self._name, []).append(self._value.decode(errors="replace"))

    def _close(self) -> None:
        self._closed = True


_PARAMETER = re.compile(r';\s*([^\s=;"]+)\s*=\s*(?:"(.*?)"|([^\s;"]*))\s*(?=;|$)', re.DOTALL)


def _parameters(disposition: str) -> dict[str, str]:
    """Return the parameters of a Content-Disposition, decoded as browsers encode them.

    Browsers send a backslash unchanged, and never a quotation mark within the quotes (WHATWG HTML, multipart/form-data
    encoding algorithm). python-multipart's own `parse_options_header` reads a backslash as an escape.
    """
    return {
        key.lower(): (quoted or token).replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")
        for key, quoted, token in _PARAMETER.findall(disposition)
    }


class ReceivedFile:
    """One file of a body. It has a hidden temporary name until `keep`."""

    def __init__(self, name: str, filename: str, content_type: str | None, directory: Path) -> None:
        self.name = name
        self.filename = filename
        self.content_type = content_type
        self.size = 0
        self.path = directory / f".{secrets.token_hex(16)}.part"
        self._sha256 = hashlib.sha256()
        self._stream = self.path.open("xb", buffering=0)

    def write(self, data: memoryview) -> None:
        """Write the next piece."""
        self.size += len(data)
        self._sha256.update(data)
        while data:
            data = data[self._stream.write(data) :]

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def keep(self, directory: Path) -> None:
        """Rename the file to the first free name in the directory."""
        path = _claim(directory, _harmless(self.filename))
        try:
            self.path.replace(path)
        except OSError:
            path.unlink()
            raise
        self.path = path

    def discard(self) -> None:
        """Close and remove the file."""
        self.close()
        self.path.unlink(missing_ok=True)

    def as_json(self) -> dict[str, Any]:
        """Return the file's facts, for the response."""
        return {
            "name": self.name,
            "filename": self.filename,
            "content_type": self.content_type,
            "size": self.size,
            "sha256": self._sha256.hexdigest(),
        }


def _claim(directory: Path, name: str) -> Path:
    """Create an empty file with the first free name. Exclusive creation works even without hard links."""
    stem, suffix = Path(name).stem, Path(name).suffix
    path = directory / name
    for number in itertools.count(1):
        try:
            path.open("xb").close()
            break
        except FileExistsError:
            path = directory / f"{stem} ({number}){suffix}"
    return path


_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\.|$)", re.IGNORECASE)


def _harmless(filename: str) -> str:
    """Return a name that every file system accepts and treats as an ordinary file."""
    base = re.split(r"[/\\]", filename)[-1]
    name = "".join("_" if char in '<>:"|?*' or not char.isprintable() else char for char in base).strip(". ")
    if len(name.encode()) > _MAX_NAME_BYTES:
        suffix = Path(name).suffix.encode()[:20]
        stem = name.encode()[: _MAX_NAME_BYTES - len(suffix)]
        name = (stem + suffix).decode(errors="ignore").rstrip(". ")
    return f"_{name}" if _RESERVED.match(name) else name or "upload"
