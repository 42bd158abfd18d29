"""Progress, and when one is due."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """How much of the request body has gone.

    Attributes:
        sent: Bytes of the whole request body, form fields and part headers included. Through
            `UploadTransport`, and so through the default client, these bytes have arrived: the peer's TCP
            has acknowledged them. Through a plain httpx client they were handed to the system.
        total: Bytes of the whole request body; None when a source's size is unknown.
        attempt: Which pass over the body this is, from 1: a redirect (307, 308) or an auth challenge starts
            the next one, and `sent` begins at 0 again.
    """

    sent: int
    total: int | None
    attempt: int = 1

    @property
    def fraction(self) -> float | None:
        """`sent` as a share of `total`, 0.0 to 1.0; None while the total is unknown."""
        if self.total is None:
            return None
        return self.sent / self.total if self.total else 1.0

    @property
    def percent(self) -> int | None:
        """`fraction` in whole percent, rounded down, so that 100 means every byte; None if unknown."""
        if self.total is None:
            return None
        return self.sent * 100 // self.total if self.total else 100


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
