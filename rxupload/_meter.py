"""When a Progress is due: byte counts come in, the Progress items of one upload go out."""

from __future__ import annotations

import time
from collections.abc import Callable

from ._events import Progress


class Meter:
    """Turns byte counts into the Progress items of one upload.

    The first item of a pass (nothing sent) and the last (every byte) always come, others at most once per
    `interval` seconds, and `sent` rises strictly from one to the next.
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
        """The next pass over a body of `total` bytes begins."""
        self._emit_item(Progress(0, total, self._last.attempt + 1))

    @property
    def has_begun(self) -> bool:
        """Whether there was a first pass."""
        return self._last.attempt > 0

    def update(self, sent: int) -> None:
        """So many bytes have gone: an item, if one is due."""
        if sent == self._last.total or self.is_due():
            self.settle(sent)

    def is_due(self) -> bool:
        """Whether an item would come now, if anything has gone since the last one."""
        return self._clock() - self._emitted_at >= self._interval

    def settle(self, sent: int) -> None:
        """So many bytes have gone, and no more will: an item, unless the last one said so already."""
        if sent > self._last.sent:
            self._emit_item(Progress(sent, self._last.total, self._last.attempt))

    def describe(self) -> str:
        """How far it had got, for the text of an error."""
        of_all = "" if self._last.total is None else f" of {self._last.total}"
        return f"{self._last.sent}{of_all} bytes of the body had gone"

    def _emit_item(self, progress: Progress) -> None:
        self._last = progress
        self._emitted_at = self._clock()
        self._emit(progress)
