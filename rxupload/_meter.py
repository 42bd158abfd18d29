"""Turns byte counts into the Progress items of one upload, and decides when one is due."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from ._progress import Progress


class Meter:
    """Turns byte counts into the Progress items of one upload.

    The first item of a pass (nothing sent) and the last (every byte) always come. Others come at most once per
    `interval` seconds. Within a pass, `sent` rises strictly.

    A resumable upload sends a pass in parts, each with a request of its own. `update` and `settle` take the bytes of
    the request. If the server itself tells how much it has, only that counts until the request ends.

    Attributes:
        gone: Bytes sent in all passes.
        on_move: Called with each new value of `sent`.
    """

    def __init__(
        self, interval: float, emit: Callable[[Progress], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval = interval
        self._emit = emit
        self._clock = clock
        self._last = Progress(0, None, attempt=0)
        self._emitted_at = 0.0
        self._before = 0  # bytes of the body before those of the request
        self._is_told = False  # whether the server tells how much it has of the request
        self.gone = 0
        self.on_move: Callable[[int], object] | None = None

    def begin(self, total: int | None, start: int = 0) -> None:
        """Begin the next pass over a body of `total` bytes, of which the server has the first `start`."""
        self._before, self._is_told = start, False
        self._emit_item(Progress(start, total, self._last.attempt + 1, start))

    def go_on(self, total: int | None, start: int) -> None:
        """Begin a request with the bytes from `start` on. It belongs to the current pass if that has come to there."""
        if self.has_begun and (self._last.sent, self._last.total) == (start, total):
            self._before, self._is_told = start, False
        else:
            self.begin(total, start)

    @property
    def has_begun(self) -> bool:
        """Whether the first pass has begun."""
        return self._last.attempt > 0

    def update(self, count: int) -> None:
        """Take the number of bytes sent so far. Emit an item if one is due."""
        if not self._is_told and (self._before + count == self._last.total or self.is_due()):
            self.settle(count)

    def is_due(self) -> bool:
        """Whether `interval` seconds have passed since the last item."""
        return self._clock() - self._emitted_at >= self._interval

    def settle(self, count: int) -> None:
        """Take the final number of bytes. Emit an item, unless the last one had the same number."""
        if not self._is_told:
            self.reach(self._before + count)

    def tell(self, position: int) -> None:
        """Take how much of the body the server has, as it says while the rest is sent. Emit an item if one is due."""
        self._is_told = True
        if self.is_due():
            self.reach(position)

    def reach(self, position: int) -> None:
        """Take how much of the body the server has, as its response says. Emit an item, unless that is no news."""
        if position > self._last.sent:
            self.gone += position - self._last.sent
            self._emit_item(replace(self._last, sent=position))

    def describe(self) -> str:
        """Describe how much was sent, for the text of an error."""
        of_all = "" if self._last.total is None else f" of {self._last.total}"
        return f"{self._last.sent}{of_all} bytes of the body had gone"

    def _emit_item(self, progress: Progress) -> None:
        self._last = progress
        self._emitted_at = self._clock()
        if self.on_move is not None:
            self.on_move(progress.sent)
        self._emit(progress)
