"""A clock for the time limits of an upload, which the test moves: a slow machine then reaches no limit too early."""

from __future__ import annotations

import time

import pytest

from rxupload._wait import SystemClock


class HeldClock:
    """Takes the place of the clock by which the library's time limits run. It stands still until its release.

    A wait of the system still takes its time, and is asked for again while the limit has not come by this clock.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._time = time.monotonic()
        self._behind: float | None = None  # seconds behind the system's clock; None while it stands still
        monkeypatch.setattr(SystemClock, "now", staticmethod(self._now))

    def pass_time(self, seconds: float) -> None:
        """Move it while it stands still."""
        assert self._behind is None
        self._time += seconds

    def release(self) -> None:
        """Let it go on from where it stands."""
        if self._behind is None:
            self._behind = time.monotonic() - self._time

    def _now(self) -> float:
        return self._time if self._behind is None else time.monotonic() - self._behind
