"""Puts the file into a form, so that the form is what goes on: the same boundary and fields again, around the file.

The offsets of the upload are those of the form. `InForm` cuts it into parts, and `GuardInForm` turns them into offsets
of the file, which its guard watches.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Generator, Mapping
from dataclasses import dataclass

from rxupload._body import MultipartBody, encode_fields
from rxupload._body import Part as Field
from rxupload._sources import FileRange, Piece

from .guard import Guard
from .identity import Identity
from .parts import Cut, Hashing, Parts
from .protocol import About, Part
from .store import Entry

_BOUNDARY, _FORM = "boundary", "form"  # the names in `Entry.extra`
FORM_VALUES = {_BOUNDARY: re.compile(r"[0-9a-f]{32}"), _FORM: re.compile(r"[0-9a-f]{64}")}


@dataclass(frozen=True, slots=True, repr=False)  # a field may be a secret
class Form:
    """What stands around the file.

    Attributes:
        before: The fields, and the head of the file's part.
        after: The end of the form.
        content_type: The media type, with the boundary.
        extra: What to remember of it: the boundary, and a hash of the rest.
    """

    before: bytes
    after: bytes
    content_type: str
    extra: Mapping[str, str]


def form_of(name: str, about: About, known: Mapping[str, str]) -> Form:
    """Return the form with the metadata as its fields, and the file as the last part.

    Args:
        name: The name of the file's field.
        about: The file.
        known: What is remembered of the upload; its boundary is used again.
    """
    boundary = known.get(_BOUNDARY) or secrets.token_hex(16)
    # Without a name it is a file all the same; so browsers, and `upload()`, give it one.
    file = Field(name, b"", about.filename or "upload", about.content_type or "application/octet-stream")
    body = MultipartBody([*encode_fields(about.metadata), file], boundary)
    *before, newline, end = (piece for piece in body.pieces() if isinstance(piece, bytes))
    start, stop = b"".join(before), newline + end
    digest = hashlib.sha256(start + stop, usedforsecurity=False).hexdigest()
    return Form(start, stop, body.content_type, {_BOUNDARY: boundary, _FORM: digest})


def form_in(extra: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Return what is remembered of a form. Two forms with the same have the same bytes around the file."""
    return extra.get(_BOUNDARY), extra.get(_FORM)


class InForm(Parts):
    """A form with the file in it. Its bytes are those before the file, the file's, and those after it."""

    def __init__(self, file: Parts, form: Form) -> None:
        self._file = file
        self._form = form

    @property
    def size(self) -> int | None:
        """Bytes of the form; None if those of the file are unknown."""
        size = self._file.size
        return None if size is None else len(self._form.before) + size + len(self._form.after)

    @property
    def file(self) -> FileRange | None:
        """What is sent of a file on the disk; None for all else."""
        return self._file.file

    def learn(self, most: int) -> None:
        """Find the size out; see `Parts.learn`.

        Raises:
            ValueError: It would take the whole file.
        """
        self._file.hashing = self.hashing  # it hashes the file, not the form
        self._file.learn(most)
        if self.size is None:
            raise ValueError("file: a form needs a file of known size; give one, such as File(..., size=...)")

    def cut(self, start: int, most: int | None) -> Cut:
        """Return a part of the form; see `Parts.cut`."""
        assert self.size is not None
        assert self._file.size is not None
        self._file.hashing = self.hashing
        end = self.size if most is None else min(start + most, self.size)
        begin, stop = (self.of_file(position) for position in (start, end))
        behind = len(self._form.before) + self._file.size
        before = self._form.before[start:end]
        after = self._form.after[max(start - behind, 0) : max(end - behind, 0)]
        file: Cut | None = None
        if begin < stop:
            file = self._file.cut(begin, None if most is None else stop - begin)

        def pieces() -> Generator[Piece]:
            if before:
                yield before
            if file is not None:
                yield from file.pieces()
            if after:
                yield after

        return Cut(Part(start, end - start, is_last=end == self.size), pieces)

    def of_file(self, position: int) -> int:
        """Return how many bytes of the file are before a position in the form."""
        assert self._file.size is not None
        return min(max(position - len(self._form.before), 0), self._file.size)

    def read_on(self, hashing: Hashing, until: int) -> None:
        """Have the bytes hashed up to an offset of the form; see `Parts.read_on`."""
        self._file.hashing = hashing
        self._file.read_on(hashing, self.of_file(until))

    def close(self) -> None:
        """End the pass over the source."""
        self._file.close()


class GuardInForm(Guard):
    """Watches the file in a form."""

    def __init__(self, guard: Guard, parts: InForm) -> None:
        self._guard = guard
        self._parts = parts

    @property
    def identity(self) -> Identity | None:
        """The file as the upload has it; None for what is no file."""
        return self._guard.identity

    def judge(self, entry: Entry) -> bool:
        """Compare the source with that of a remembered upload; see `Guard`."""
        return self._guard.judge(entry)

    def allows(self, offset: int) -> bool:
        """Whether an upload may go on where the server has so much of the form; see `Guard`."""
        return self._guard.allows(self._parts.of_file(offset))

    @property
    def is_settled(self) -> bool:
        """Whether all that the server has is known to be of this source; see `Guard`."""
        return self._guard.is_settled

    def accepted(self) -> None:
        """Take note that the server has taken bytes of a part; see `Guard`."""
        self._guard.accepted()

    def begin(self) -> None:
        """Take note that a new upload begins."""
        self._guard.begin()

    def sends(self, offset: int) -> None:
        """Take note that a part is to be sent; see `Guard`."""
        self._guard.sends(self._parts.of_file(offset))

    def check(self) -> None:
        """Check that the source is still the same; see `Guard`."""
        self._guard.check()

    def arrived(self, position: int) -> None:
        """Take note of how many bytes of the form have arrived."""
        self._guard.arrived(self._parts.of_file(position))

    def stop(self) -> None:
        """Store nothing more."""
        self._guard.stop()

    def leave(self) -> None:
        """Store what is known of the source at the end of the subscription; see `Guard`."""
        self._guard.leave()
