"""Defines what the wire asks its caller (may I send, must I stop) and reports to it (bytes arrived, a head came)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rxupload._wait import Wake

    from .response import Head


class Control(Protocol):
    """The caller of an exchange: it decides whether the exchange may go on. Called on the exchange's thread only.

    Attributes:
        wake: Ends a wait from another thread; None if no other thread ever does.
        asks_first: Whether the request says `Expect: 100-continue`, so that the body waits for the server's answer.
        is_held_back: Whether `grant` may return less than it is asked for. If so, the exchange keeps the system's
            send queue short.
        keep: The most bytes of the response to keep while the body is sent; None for no limit.
    """

    @property
    def wake(self) -> Wake | None: ...
    @property
    def asks_first(self) -> bool: ...
    @property
    def is_held_back(self) -> bool: ...
    @property
    def keep(self) -> int | None: ...

    def check(self) -> float:
        """Raise the reason to stop, if any. Otherwise return when to check again, on the monotonic clock."""
        ...

    def attach(self, interrupt: Callable[[], None]) -> None:
        """Take `interrupt`, which ends the connection, for use by a stop. Raise if there is a reason to stop."""

    def detach(self, interrupt: Callable[[], None]) -> None:
        """Forget `interrupt`: the connection is no longer this caller's."""

    def grant(self, wanted: int) -> tuple[int, float]:
        """Return how many bytes of the body may go now. If 0, also when to ask again, unless `wake` is set first."""
        ...

    def step_aside(self) -> None:
        """Let other uploads go first: this one has something else to do before its next `grant`."""

    def give_back(self, count: int) -> None:
        """Return `count` granted bytes that were not sent."""

    def is_paused(self) -> bool:
        """Whether the body is paused. A pause does not count as a stall of the server."""
        ...

    def is_due(self) -> bool:
        """Whether it is time to report how much has arrived."""
        ...

    def arrived(self, count: int) -> None:
        """Take note that `count` bytes of the body have arrived in all."""

    def settled(self, count: int) -> None:
        """Take note that the whole body has arrived: `count` bytes."""

    def written(self) -> None:
        """Take note that the whole request was written."""

    def heard(self, head: Head) -> None:
        """Take note of a head, informational or final."""

    def so_far(self) -> str:
        """Return how much was sent, as the end of an error's text."""
        ...


class Plain:
    """The control of a request other than an upload: it grants everything and never stops."""

    wake = None
    asks_first = False
    is_held_back = False
    keep = None

    def check(self) -> float:
        """Never stop."""
        return math.inf

    def attach(self, interrupt: Callable[[], None]) -> None:
        """Do nothing."""

    def detach(self, interrupt: Callable[[], None]) -> None:
        """Do nothing."""

    def grant(self, wanted: int) -> tuple[int, float]:
        """Grant everything."""
        return wanted, 0.0

    def step_aside(self) -> None:
        """Do nothing."""

    def give_back(self, count: int) -> None:
        """Do nothing."""

    def is_paused(self) -> bool:
        """Never."""
        return False

    def is_due(self) -> bool:
        """Never."""
        return False

    def arrived(self, count: int) -> None:
        """Do nothing."""

    def settled(self, count: int) -> None:
        """Do nothing."""

    def written(self) -> None:
        """Do nothing."""

    def heard(self, head: Head) -> None:
        """Do nothing."""

    def so_far(self) -> str:
        """Return nothing: no bytes are counted."""
        return ""


PLAIN = Plain()
