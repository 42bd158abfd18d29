"""What has gone of a request, what has arrived, since when nothing moves, and the waits of an exchange.

The unacknowledged bytes are asked for when something happens anyway, and else a quarter of the time after they last
moved, at least 50 ms and at most 1 s: the system tells nobody when they arrive.
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
    """The bytes of one request on their way.

    Attributes:
        count: Which of them are the body's.
        written: How many were given to the connection, before TLS.
        has_body: Whether some of the body has its turn, or has had it.
        is_whole: Whether all of the request was written.
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
        self.has_body = False
        self.is_whole = False
        self._moved = (-1, 0)  # written and unacknowledged, when they last changed
        self._moved_at = 0.0
        self._held_until = 0.0  # by the throttle, or for want of more of the body

    def wait(
        self,
        until: float,
        events: int,
        *,
        is_woken: bool = False,
        more: tuple[Watched, int] | None = None,
    ) -> bool:
        """Wait; whether the connection, or what else is watched, is ready."""
        watched: list[tuple[Watched, int]] = [(self._connection, events)] if events else []
        if more is not None:
            watched.append(more)
        wake = self._control.wake if is_woken or not events else None
        is_ready_now = bool(self._clock.wait(until, watched, wake))
        if wake is not None:
            wake.clear()
        return is_ready_now

    def report(self) -> int:
        """Tell what has arrived. Returns the bytes that are still on their way."""
        unacknowledged = self._connection.unacknowledged()
        if self.has_body and not self._connection.is_interrupted:  # else a blank socket may be in its place
            self._control.arrived(self.count.arrived(self.written - unacknowledged))
            if self.is_whole and not unacknowledged:
                self._control.settled(self.count.content)
        return unacknowledged

    def settle(self, status: int) -> None:
        """A response below 300 says that the body has arrived, whatever the system has heard of it."""
        if self.has_body and self.is_whole and status < 300:  # noqa: PLR2004
            self._control.settled(self.count.content)

    def note(self, unacknowledged: int) -> None:
        moved = (self.written, unacknowledged)
        if moved != self._moved:
            self._moved = moved
            self._moved_at = self._clock.now()

    def stalled_at(self, now: float, unacknowledged: int) -> float:
        self.note(unacknowledged)
        if self._control.is_paused():  # nobody knows what the server would take
            self._held_until = now
        return max(self._moved_at, self._held_until) + self._write_limit

    def ask_again(self) -> float:
        """When to ask for the unacknowledged bytes: a quarter of the time since they moved, 50 ms to 1 s."""
        if not self._moved[1]:
            return math.inf
        now = self._clock.now()
        return now + min(max((now - self._moved_at) / 4, 0.05), 1.0)

    def hold(self) -> None:
        """Until now it was not the server that stood still."""
        self._held_until = self._clock.now()

    def raise_stall(self) -> NoReturn:
        """The server has taken no data for the write limit."""
        raise httpx.WriteTimeout(
            f"The server took no data for {self._write_limit:g} s{self._control.so_far()}"
        )
