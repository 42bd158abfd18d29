"""What a source is opened for in a test: an upload with a wake-up, and nothing else."""

from __future__ import annotations

from rxupload._wait import SystemClock, Wake, Watched

PATIENCE = 10.0  # seconds after which a test has failed; never waited for when it passes


class FakeOwner:
    """Waits for its wake-up, and keeps the reason to stop, which a wait then raises.

    Attributes:
        wake: Ends a wait.
        reason: Why it was stopped; None while it was not.
    """

    def __init__(self) -> None:
        self.wake = Wake()
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
        """Have the next wait raise this."""
        self.reason = self.reason or reason
        self.wake.set()

    def is_on_loop(self) -> bool:
        """No thread runs its loop, for it has none."""
        return False

    def close(self) -> None:
        """Give back what its waits have taken."""
        self.wake.close()
