"""Measures a rate over the last few seconds, and one from the start to the end."""

from __future__ import annotations

from collections import deque

from ._events import BatchProgress, Progress


class RateWindow:
    """The bytes per second over the last `seconds` seconds, from counts of the bytes sent so far.

    If the last count but one is older than that, the rate goes back to it.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._counts: deque[tuple[float, int]] = deque()

    def add(self, now: float, sent: int) -> None:
        """Take a count, at a time in seconds. A smaller one than before begins anew."""
        if self._counts and sent < self._counts[-1][1]:
            self._counts.clear()
        self._counts.append((now, sent))

    def restart(self) -> None:
        """Forget all counts: the next one begins anew."""
        self._counts.clear()

    def rate(self, now: float) -> float:
        """Return the bytes per second until now; 0.0 while there is one count."""
        while len(self._counts) > 1 and self._counts[1][0] <= now - self._seconds:
            self._counts.popleft()
        if not self._counts or now <= self._counts[0][0]:
            return 0.0
        return (self._counts[-1][1] - self._counts[0][1]) / (now - self._counts[0][0])


class Tally:
    """How far an upload or a batch has come, and how long it has taken, for displays of it at any time.

    Attributes:
        latest: The latest progress. After the end it stays.
    """

    def __init__(self) -> None:
        self.latest: Progress | BatchProgress | None = None
        self._before = 0  # bytes that earlier passes have sent
        self._began: float | None = None
        self._ended: float | None = None

    def begin(self, now: float) -> None:
        """Take the start, at a time in seconds."""
        self._began = now

    def take(self, item: object) -> None:
        """Take an item: after the end, and if it is no progress, it has no effect."""
        if self._ended is not None or not isinstance(item, Progress | BatchProgress):
            return
        last = self.latest
        self.latest = item
        if not isinstance(item, Progress) or not isinstance(last, Progress):
            return
        if item.attempt != last.attempt or item.sent < last.sent:  # another pass
            self._before += last.sent - last.start

    def end(self, now: float) -> None:
        """Take the end."""
        self._ended = now

    @property
    def sent(self) -> int:
        """The bytes that all passes have sent, without those that the server had before."""
        start = self.latest.start if isinstance(self.latest, Progress) else 0
        return 0 if self.latest is None else self._before + self.latest.sent - start

    def seconds(self, now: float) -> float | None:
        """Return the seconds from the start to the end, or until now; None before the start."""
        return None if self._began is None else (now if self._ended is None else self._ended) - self._began
