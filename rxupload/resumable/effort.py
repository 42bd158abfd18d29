"""Counts the responses that bring the server's offset hardly forward, so that an upload which gets nowhere ends.

The rule: over nine responses in a row, the offset has to grow by 64 KiB, or by an eighth of what was sent at last if
that is less. A server may take a part in pieces, cut it at a limit of its own, or be displaced in the middle of it. One
that takes a few bytes of each part would never be done, and gets everything again and again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx

from rxupload._responses import status_error

PATIENCE = 8  # how many responses in a row may leave the offset about where it was
ENOUGH = 64 * 1024  # bytes: such a growth always counts, and parts are not made smaller than that after a 413
_SHARE = 8  # else a growth counts if it is this part of what was sent


@dataclass(slots=True)
class Effort:
    """Counts the responses in a row that bring the offset hardly forward.

    Attributes:
        best: The last offset that was a step forward; None before the first one.
        last: The last offset.
        idle: How many responses have come since `best`.
    """

    best: int | None = None
    last: int = 0
    idle: int = 0

    def take(self, offset: int | None, sent: int = 0) -> bool:
        """Take an offset; None for a response without one. Return whether there is patience left.

        Args:
            offset: Bytes that the server has.
            sent: Bytes of the last part that was sent.
        """
        if offset is not None:
            self.last = offset
        least = max(1, min(ENOUGH, sent // _SHARE))
        if offset is not None and (self.best is None or offset - self.best >= least):
            self.best, self.idle = offset, 0
        else:
            self.idle += 1
        return self.idle <= PATIENCE

    def error(self, response: Any) -> Exception:
        """Return the error of an upload that gets nowhere, with its last response."""
        best = self.best or 0
        note = f"The server's offset stays at {best}"
        if self.last != best:
            note = f"The server's offset was {best}, and is {self.last} {self.idle} responses later"
        if response.status_code < 400:  # noqa: PLR2004
            return httpx.RemoteProtocolError(f"{note}, whatever is sent", request=response.request)
        error = status_error(response)
        error.add_note(note)
        return error
