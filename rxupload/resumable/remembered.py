"""What a subscription knows of the upload that it goes on with, and what of that is stored."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from .protocol import Verdict
from .store import Entry, Slot

_NEWS_SECONDS = 5.0  # an expiry that differs by less is not stored


class Remembered:
    """The entry of an upload, and its place in the store.

    Attributes:
        entry: What is known of the upload; None if there is none.
    """

    def __init__(self, slot: Slot) -> None:
        self.entry: Entry | None = slot.entry
        self._slot = slot

    def change(self, **changes: Any) -> None:
        """Change attributes of the entry."""
        assert self.entry is not None
        self.entry = replace(self.entry, **changes)
        self._slot.update(**changes)

    def learn(self, verdict: Verdict) -> None:
        """Take what a verdict says of the upload."""
        if self.entry is not None and (changes := _changes_of(self.entry, verdict)):
            self.change(**changes)

    def forget(self) -> None:
        """Forget the upload, here and in the store."""
        self._slot.remove()
        self.entry = None


def _changes_of(entry: Entry, verdict: Verdict) -> dict[str, Any]:
    """Return the attributes of the entry that the verdict has news of."""
    changes: dict[str, Any] = {}
    # Each response may have another time, and storing one may take as long as the part.
    if verdict.expires is not None:
        known = entry.expires
        if known is None or abs(verdict.expires - known) >= _NEWS_SECONDS:
            changes["expires"] = verdict.expires
    if verdict.most is not None and verdict.most < (entry.chunk_size or math.inf):
        changes["chunk_size"] = verdict.most
    extra = {**entry.extra, **verdict.extra}
    if extra != entry.extra:
        changes["extra"] = extra
    return changes
