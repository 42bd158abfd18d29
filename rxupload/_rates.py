"""Measures a rate over the last few seconds."""

from __future__ import annotations

from collections import deque


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
