"""What the wire asks of its caller: may I send, this has arrived, a head has come, stop."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rxupload._wait import Wake

    from .response import Head


class Control(Protocol):
    """The caller of an exchange, which alone knows whether it may go on. All on the thread of the exchange.

    Attributes:
        wake: What else than the connection ends a wait; None where nothing does.
        asks_first: Whether the request says `Expect: 100-continue`, so that the body waits for the server's word.
        is_held_back: Whether `grant` may ever give less than all, so that the system's queue is to be kept short.
        keep: Bytes of the response that may be kept while the body is sent; None for any number.
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
        """Return the time at which to ask again, on the monotonic clock; raise the reason to stop, if there is one."""
        ...

    def attach(self, interrupt: Callable[[], None]) -> None:
        """From now on, end the connection with this to stop; raise the reason, if there is one by now."""

    def detach(self, interrupt: Callable[[], None]) -> None:
        """The connection is no longer this caller's."""

    def grant(self, wanted: int) -> tuple[int, float]:
        """How many bytes of the body may go now; and, if none, when to ask again, unless `wake` is set before."""
        ...

    def step_aside(self) -> None:
        """Something else comes before the next `grant`: others need not wait for it."""

    def give_back(self, count: int) -> None:
        """So many of the bytes that were granted did not go."""

    def is_paused(self) -> bool:
        """Whether the body is held altogether: then it is not the server that stands still."""
        ...

    def is_due(self) -> bool:
        """Whether it is time to say how much has arrived."""
        ...

    def arrived(self, count: int) -> None:
        """So many bytes of the body have, in all."""

    def settled(self, count: int) -> None:
        """So many bytes of the body have arrived, and that is all of it."""

    def heard(self, head: Head) -> None:
        """A head has come: of an informational response, or of the final one."""

    def so_far(self) -> str:
        """How much has gone, for the end of an error's text."""
        ...


class Plain:
    """The control of a request that is no upload: all of it may go, and nothing stops it."""

    wake = None
    asks_first = False
    is_held_back = False
    keep = None

    def check(self) -> float:
        """Never ask again."""
        return math.inf

    def attach(self, interrupt: Callable[[], None]) -> None:
        """Nothing to tell."""

    def detach(self, interrupt: Callable[[], None]) -> None:
        """Nothing to tell."""

    def grant(self, wanted: int) -> tuple[int, float]:
        """All of it."""
        return wanted, 0.0

    def step_aside(self) -> None:
        """Nothing to tell."""

    def give_back(self, count: int) -> None:
        """Nothing to tell."""

    def is_paused(self) -> bool:
        """Never."""
        return False

    def is_due(self) -> bool:
        """Never."""
        return False

    def arrived(self, count: int) -> None:
        """Nothing to tell."""

    def settled(self, count: int) -> None:
        """Nothing to tell."""

    def heard(self, head: Head) -> None:
        """Nothing to tell."""

    def so_far(self) -> str:
        """Nobody counts."""
        return ""


PLAIN = Plain()
