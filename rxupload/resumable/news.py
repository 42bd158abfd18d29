"""Tells what a verdict changes of a remembered upload."""

from __future__ import annotations

import math
from typing import Any

from .protocol import Verdict
from .store import Entry

_NEWS_SECONDS = 5.0  # an expiry that differs by less is not stored


def changes_of(entry: Entry, verdict: Verdict) -> dict[str, Any]:
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
