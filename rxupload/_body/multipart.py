"""Builds a multipart/form-data body as browsers send it.

The encoding is the WHATWG's (HTML, "multipart/form-data encoding algorithm", whatwg/html#6282) in UTF-8. Unlike RFC
2231 and RFC 7578, section 4.2, it escapes only three characters in names: CR, LF and the quotation mark.
"""

from __future__ import annotations

import codecs
import re
import secrets
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

from rxupload._sources import Piece, Reader

_NEWLINE = re.compile(r"\r\n|\r|\n")
_ESCAPES = str.maketrans({"\n": "%0A", "\r": "%0D", '"': "%22"})

codecs.lookup("utf-16-le")  # load it now, and not on a thread of an upload; see `Upload.__init__`


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the body: a form field, or a file.

    Attributes:
        name: The name of the form field.
        content: The bytes of a field, or the reader of a file.
        filename: None for a field.
        content_type: None for a part without one.
        headers: Further headers.
    """

    name: str
    content: bytes | Reader = field(repr=False)  # which may be a secret, as the headers
    filename: str | None = None
    content_type: str | None = None
    headers: Sequence[tuple[bytes, bytes]] = field(default=(), repr=False)

    @property
    def size(self) -> int | None:
        """Bytes of the content; None if unknown."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.size

    def head(self, boundary: str) -> bytes:
        """Return what stands before the content."""
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{_escaped(crlf(well_formed(self.name)))}"'
        )
        if self.filename is not None:
            head += f'; filename="{_escaped(well_formed(self.filename))}"'
        if self.content_type is not None:
            head += f"\r\nContent-Type: {self.content_type}"
        further = b"".join([b"\r\n%s: %s" % header for header in self.headers])
        return head.encode() + further + b"\r\n\r\n"


class MultipartBody:
    """The whole body: its parts in their order.

    A redirect or an auth challenge makes another pass. Each pass reads the files from their start.

    Attributes:
        content_type: The request's Content-Type, with the boundary.
        length: The exact number of bytes; None if a part's size is unknown.
    """

    def __init__(self, parts: Sequence[Part], boundary: str | None = None) -> None:
        boundary = boundary or secrets.token_hex(16)
        self.content_type = f"multipart/form-data; boundary={boundary}"
        # A line break ends each part. It is sent with what follows.
        self._parts = [
            (b"\r\n" * (index > 0) + part.head(boundary), part) for index, part in enumerate(parts)
        ]
        self._end = b"\r\n" * bool(parts) + f"--{boundary}--\r\n".encode()
        self.length = self._length()

    def pieces(self) -> Generator[Piece]:
        """Make one pass over the body. Use up each piece before drawing the next."""
        for head, part in self._parts:
            yield head
            if isinstance(part.content, bytes):
                yield part.content
            else:
                yield from part.content.pieces()
        yield self._end

    def _length(self) -> int | None:
        length = len(self._end)
        for head, part in self._parts:
            size = part.size
            if size is None:
                return None
            length += len(head) + size
        return length


def _escaped(text: str) -> str:
    return text.translate(_ESCAPES)


def crlf(text: str) -> str:
    """Make each line break CR LF."""
    return _NEWLINE.sub("\r\n", text)


def well_formed(text: str) -> str:
    """Replace lone surrogates by U+FFFD, and pairs by their character, as Web IDL's USVString does."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
