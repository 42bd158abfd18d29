"""Counts the bytes of one request that were written and that have arrived, detects stalls, and waits.

The system sends no event when bytes are acknowledged. So this module asks for the count whenever something else
happens. Otherwise it asks after a quarter of the time since the count last changed, at least 50 ms and at most 1 s.
"""

from __future__ import annotations

import math
from typing import NoReturn

import httpx

from rxupload._wait import Clock, Watched

from .connection import Connection
from .control import Control
from .request import Count


class Movement:
    """The progress of one request's bytes.

    Attributes:
        count: Tells the body's bytes from those of the head and the chunks' framing.
        written: How many bytes were given to the connection, before TLS.
        answered: How many of them only answer the server's own frames (HTTP/2).
        has_body: Whether the body has begun.
        is_whole: Whether the whole request was written.
    """

    def __init__(
        self, connection: Connection, control: Control, clock: Clock, write_limit: float | None
    ) -> None:
        self._connection = connection
        self._control = control
        self._clock = clock
        self._write_limit = math.inf if write_limit is None else write_limit
        self.count = Count()
        self.written = 0
        self.answered = 0
        self.has_body = False
        self.is_whole = False
        self._moved = (-1, 0)  # bytes written and arrived, as they last changed
        self._moved_at = 0.0
        self._unacknowledged = 0  # when that was noted
        self._held_until = 0.0  # when the throttle or the source last kept us waiting

    def wait(
        self,
        until: float,
        events: int,
        *,
        is_woken: bool = False,
        more: tuple[Watched, int] | None = None,
    ) -> bool:
        """Wait. Return whether the connection, or `more`, is ready."""
        watched: list[tuple[Watched, int]] = [(self._connection, events)] if events else []
        if more is not None:
            watched.append(more)
        wake = self._control.wake if is_woken or not events else None
        is_ready_now = bool(self._clock.wait(until, watched, wake))
        if wake is not None:
            wake.clear()
        return is_ready_now

    def report(self) -> int:
        """Report how much has arrived. Return how many bytes are still unacknowledged."""
        unacknowledged = self._connection.unacknowledged()
        if self.has_body and not self._connection.is_interrupted:  # else a blank socket may be in its place
            self._control.arrived(self.count.arrived(self.written - unacknowledged))
            if self.is_whole and not unacknowledged:
                self._control.settled(self.count.content)
        return unacknowledged

    def settle(self, status: int) -> None:
        """Settle the count by the response: one below 300 proves that the body has arrived, acknowledged or not."""
        if self.has_body and self.is_whole and status < 300:  # noqa: PLR2004
            self._control.settled(self.count.content)

    def note(self, unacknowledged: int) -> None:
        self._unacknowledged = unacknowledged
        # Among answers, only content shows that the server takes the request.
        arrived = self.count.arrived(self.written - unacknowledged) if self.answered else -unacknowledged
        moved = (self.written - self.answered, arrived)
        if moved != self._moved:
            self._moved = moved
            self._moved_at = self._clock.now()

    def stalled_at(self, now: float, unacknowledged: int) -> float:
        self.note(unacknowledged)
        if self._control.is_paused():  # a paused upload cannot tell whether the server stalls
            self._held_until = now
        return max(self._moved_at, self._held_until) + self._write_limit

    def ask_again(self) -> float:
        """When to ask for the unacknowledged bytes again: see the module's docstring."""
        if not self._unacknowledged:
            return math.inf
        now = self._clock.now()
        return now + min(max((now - self._moved_at) / 4, 0.05), 1.0)

    def hold(self) -> None:
        """Restart the stall clock: the wait until now was not the server's."""
        self._held_until = self._clock.now()

    def raise_stall(self) -> NoReturn:
        """Raise the error for a server that has taken no data for the write limit."""
        raise httpx.WriteTimeout(
            f"The server took no data for {self._write_limit:g} s{self._control.so_far()}"
        )
