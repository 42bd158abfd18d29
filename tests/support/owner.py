"""The owner of a source in a test: an upload that has only a wake."""

from __future__ import annotations

from asyncio import AbstractEventLoop

from rxupload._wait import SystemClock, Wake, Watched

PATIENCE = 10.0  # seconds after which a test fails; a test that passes never waits so long


class FakeOwner:
    """Waits for its wake, and keeps the reason to stop, which a wait then raises.

    Attributes:
        wake: Ends a wait.
        loop: The asyncio loop, if a test gives one.
        reason: Why it was stopped; None before that.
    """

    def __init__(self) -> None:
        self.wake = Wake()
        self.loop: AbstractEventLoop | None = None
        self.reason: BaseException | None = None

    def wait(self, *watched: tuple[Watched, int]) -> None:
        """Wait until it is woken, or one of these is ready."""
        until = SystemClock.now() + PATIENCE
        ready = SystemClock.wait(until, watched, self.wake)
        assert ready or self.wake.is_set(), "nothing ended the wait"
        self.wake.clear()
        if self.reason is not None:
            raise self.reason

    def stop(self, reason: BaseException) -> None:
        """Make the next wait raise this."""
        self.reason = self.reason or reason
        self.wake.set()

    def is_on_loop(self) -> bool:
        """There is no loop, so no thread runs it."""
        return False

    def close(self) -> None:
        """Close what its waits have opened."""
        self.wake.close()
