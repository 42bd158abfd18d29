"""Turns byte counts into the Progress items of one upload, and decides when one is due."""

from __future__ import annotations

import time
from collections.abc import Callable

from ._progress import Progress


class Meter:
    """Turns byte counts into the Progress items of one upload.

    The first item of a pass (nothing sent) and the last (every byte) always come. Others come at most once per
    `interval` seconds. Within a pass, `sent` rises strictly.
    """

    def __init__(
        self, interval: float, emit: Callable[[Progress], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval = interval
        self._emit = emit
        self._clock = clock
        self._last = Progress(0, None, attempt=0)
        self._emitted_at = 0.0

    def begin(self, total: int | None) -> None:
        """Begin the next pass over a body of `total` bytes."""
        self._emit_item(Progress(0, total, self._last.attempt + 1))

    @property
    def has_begun(self) -> bool:
        """Whether the first pass has begun."""
        return self._last.attempt > 0

    def update(self, sent: int) -> None:
        """Take the number of bytes sent so far. Emit an item if one is due."""
        if sent == self._last.total or self.is_due():
            self.settle(sent)

    def is_due(self) -> bool:
        """Whether `interval` seconds have passed since the last item."""
        return self._clock() - self._emitted_at >= self._interval

    def settle(self, sent: int) -> None:
        """Take the final number of bytes. Emit an item, unless the last one had the same number."""
        if sent > self._last.sent:
            self._emit_item(Progress(sent, self._last.total, self._last.attempt))

    def describe(self) -> str:
        """Describe how much was sent, for the text of an error."""
        of_all = "" if self._last.total is None else f" of {self._last.total}"
        return f"{self._last.sent}{of_all} bytes of the body had gone"

    def _emit_item(self, progress: Progress) -> None:
        self._last = progress
        self._emitted_at = self._clock()
        self._emit(progress)
