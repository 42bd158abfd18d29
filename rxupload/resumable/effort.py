"""Counts how often the server's offset stays where it was, so that an upload which gets nowhere ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx

from rxupload._responses import status_error

PATIENCE = 8  # how often in a row a response may leave the offset where it was


@dataclass(slots=True)
class Effort:
    """Counts the responses in a row that leave the offset where it was."""

    best: int = -1
    idle: int = 0

    def take(self, offset: int | None) -> bool:
        """Take an offset; None for a response without one. Return whether there is patience left."""
        if offset is not None and offset > self.best:
            self.best, self.idle = offset, 0
        else:
            self.idle += 1
        return self.idle <= PATIENCE

    def error(self, response: Any) -> Exception:
        """Return the error of an upload that gets nowhere, with its last response."""
        note = f"The server's offset stays at {max(self.best, 0)}"
        if response.status_code < 400:  # noqa: PLR2004
            return httpx.RemoteProtocolError(f"{note}, whatever is sent", request=response.request)
        error = status_error(response)
        error.add_note(note)
        return error
