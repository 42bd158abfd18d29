"""Builds a request body that is a file's bytes and nothing else."""

from __future__ import annotations

from collections.abc import Generator

from rxupload._sources import Piece, Reader


class RawBody:
    """The bytes of one file as the whole body.

    Attributes:
        content_type: The request's Content-Type; "" for none; None: the caller's own header decides.
        guessed_type: What to send where `content_type` is None and there is no such header.
        length: The exact number of bytes; None if unknown.
    """

    def __init__(self, reader: Reader, content_type: str | None, guessed_type: str) -> None:
        self.content_type = content_type
        self.guessed_type = guessed_type
        self.length = reader.size
        self._reader = reader

    def pieces(self) -> Generator[Piece]:
        """Make one pass over the body. Use up each piece before drawing the next."""
        return self._reader.pieces()
