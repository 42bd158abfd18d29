"""Holds events for a slow observer: newer progress takes the place of older progress that still waits."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from ._events import BatchProgress, Progress


class Backlog:
    """Events that wait for an observer, in their order.

    Of the Progress of one upload, the latest waits, and the first of each pass. So does the latest BatchProgress. All
    else waits as it came. The caller's lock keeps other threads out.
    """

    def __init__(self) -> None:
        self._items: OrderedDict[object, Any] = OrderedDict()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Any) -> bool:
        """Add an event. Return whether there is one more, and not another one in an older one's place."""
        key = _key(item)
        is_more = self._items.pop(key, self) is self
        self._items[key] = item
        return is_more

    def take(self) -> Any:
        """Remove the first event, and return it."""
        return self._items.popitem(last=False)[1]

    def clear(self) -> None:
        """Forget all of them."""
        self._items.clear()


def _key(item: Any) -> object:
    """Return the same key for events of which only the latest need wait."""
    if isinstance(item, BatchProgress):
        return BatchProgress
    # ItemProgress and Throughput have a Progress.
    progress = item if isinstance(item, Progress) else getattr(item, "progress", None)
    if isinstance(progress, Progress):
        return type(item), getattr(item, "index", None), progress.attempt, progress.sent == progress.start
    return object()
