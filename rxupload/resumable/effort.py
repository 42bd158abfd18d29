"""Counts how often the server's offset stays where it was, so that an upload which gets nowhere ends."""

from __future__ import annotations

from dataclasses import dataclass

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
