"""One upload on its way: why it ends, its deadline, its wake-up, and what the wire may ask of it.

The worker makes a `Transfer`, which travels with the request (`request.extensions`). A transport that knows of it takes
it out, and asks it whether it may go on; through any other, `_content` asks at each piece of the body.

| method                                  | thread                        | lock held by the caller |
|-----------------------------------------|-------------------------------|-------------------------|
| `stop`                                  | any, a signal's handler too   | any but a throttle's    |
| `is_on_loop`                            | any                           | any                     |
| `begin`, `settle`, `check`, and the rest | the worker's alone            | none                    |

No observer and no user's function is called under the lock of this module.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from ._errors import UploadTimeout
from ._wait import Clock, SystemClock, Wake, Watched

if TYPE_CHECKING:
    from ._meter import Meter
    from ._throttle import Allowance

EXTENSION = "rxupload"  # the key of the request's extensions under which the transfer travels

_LOOK_SECONDS = 1.0  # between two looks at whether a loop is still there, which tells nobody when it closes


class Body(Protocol):
    """The body of a request, as a transport sees it that knows of transfers."""

    def pieces(self) -> Iterator[Any]:
        """Begin a pass over it."""
        ...


class Disposed(Exception):  # noqa: N818
    """Why a transfer stopped: its subscription was disposed. Nobody hears of it."""


class Abandoned(Disposed):
    """Why a transfer stopped: the loop on which it would notify has closed."""


class Transfer:
    """The state of one upload that more than one party touches.

    It ends once: `stop` (a dispose, the time limit, an observer that raised) and `settle` (the worker has the
    outcome) race from several threads, and the lock makes the first of them the winner.

    Attributes:
        wake: Ends the worker's waits that no connection can end.
        asks_first: The request says `Expect: 100-continue`.
        keep: Bytes of the response that are kept while the body is sent; None for any number.
        request: The request that is on its way, for the errors that have one.
        content: Its body; None if it has none.
    """

    def __init__(
        self,
        timeout: float | None,
        *,
        is_abandoned: Callable[[], bool] | None = None,
        is_on_loop: Callable[[], bool] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.clock: Clock = SystemClock() if clock is None else clock
        self.wake = Wake()
        self._timeout = timeout
        self._deadline = math.inf
        # Reentrant, for a signal's handler may dispose while the same thread is in here.
        self._lock = threading.RLock()
        self._reason: BaseException | None = None
        self._settled = False
        self._interrupt: Callable[[], None] | None = None
        self._is_abandoned = is_abandoned  # whether the observer's loop has closed
        self._is_on_loop = is_on_loop

        self.meter: Meter | None = None
        self.allowance: Allowance | None = None  # how much may be sent; None for all of it
        self.asks_first = False
        self.keep: int | None = None
        self.request: Any = None
        self.content: Body | None = None  # the body of the request that is on its way

    # How it ends

    def stop(self, reason: BaseException) -> None:
        """End the transfer for this reason, unless it has ended. Never waits for the worker."""
        with self._lock:
            if self._reason is not None or self._settled:
                return
            self._reason = reason
            if self._interrupt is not None:
                self._interrupt()
        self.wake.set()

    def settle(self) -> BaseException | None:
        """The worker is through: from here on `stop` does nothing. Returns why it was stopped, if it was."""
        with self._lock:
            self._settled = True
            reason = self._reason
        if self.allowance is not None:
            self.allowance.forget()
        self.wake.close()
        return reason

    def is_abandoned(self) -> bool:
        """Whether the observer's loop has closed."""
        return self._is_abandoned is not None and self._is_abandoned()

    def is_on_loop(self) -> bool:
        """Whether the calling thread runs the loop on which the upload notifies."""
        return self._is_on_loop is not None and self._is_on_loop()

    # Time

    def begin(self) -> None:
        """The time limit begins to run."""
        if self._timeout is not None:
            self._deadline = self.clock.now() + self._timeout

    def check(self) -> float:
        """Raise the reason to stop, if there is one by now; the time limit is one. Else when to ask again."""
        if self._deadline != math.inf:
            self.expire()
        until = self._deadline
        if self._is_abandoned is not None:
            if self._is_abandoned():
                self.stop(Abandoned())
            until = min(until, self.clock.now() + _LOOK_SECONDS)
        if self._reason is not None:
            raise self._reason
        return until

    def expire(self) -> None:
        """Stop, if the time limit has passed."""
        if self.remaining() <= 0:
            message = f"The upload was not finished within {self._timeout:g} s{self.so_far()}"
            self.stop(UploadTimeout(message, request=self.request))

    def remaining(self) -> float:
        """Seconds that are left for the whole upload; `math.inf` without a limit."""
        return self._deadline - self.clock.now()

    def clamp(self, timeouts: dict[str, float | None]) -> None:
        """Let no single wait of a client that knows nothing of the time limit outlast it.

        httpx hands this dict down as it is, and httpcore looks into it before each kind of wait.
        """
        if self._timeout is not None:
            left = max(self.remaining(), 0.001)  # 0 would mean: do not block
            for kind, seconds in timeouts.items():
                timeouts[kind] = left if seconds is None else min(seconds, left)

    def wait(self, *watched: tuple[Watched, int], until: float = math.inf) -> None:
        """Wait until one of these is ready, the transfer is woken, or the time has come to look again.

        Raises:
            BaseException: The reason to stop.
        """
        self.clock.wait(min(until, self.check()), watched, self.wake)
        self.wake.clear()
        self.check()

    # What the wire asks, besides

    def attach(self, interrupt: Callable[[], None]) -> None:
        """Have `stop` call this, which ends the connection, until it is detached.

        Raises:
            BaseException: The reason to stop, if there is one already.
        """
        with self._lock:
            if self._reason is None:
                self._interrupt = interrupt
        try:
            self.check()
        except BaseException:
            self.detach(interrupt)  # which waits for a `stop` that is just calling it
            raise

    def detach(self, interrupt: Callable[[], None]) -> None:
        """The connection is no longer this transfer's: a late dispose must not hit it, back in the pool."""
        with self._lock:
            if self._interrupt == interrupt:
                self._interrupt = None

    @property
    def is_held_back(self) -> bool:
        """Whether there is a rate limit or a pause."""
        return self.allowance is not None

    def grant(self, wanted: int) -> tuple[int, float]:
        """How many bytes may go now; and, if none, when to ask again."""
        return (wanted, 0.0) if self.allowance is None else self.allowance.grant(wanted)

    def step_aside(self) -> None:
        """Something else comes before the next `grant`."""
        if self.allowance is not None:
            self.allowance.step_aside()

    def give_back(self, count: int) -> None:
        """So many of the bytes that were granted did not go."""
        if self.allowance is not None:
            self.allowance.give_back(count)

    def is_paused(self) -> bool:
        """Whether the body is held altogether."""
        return self.allowance is not None and self.allowance.paused_for() > 0

    def is_due(self) -> bool:
        """Whether it is time to say how much has arrived."""
        assert self.meter is not None
        return self.meter.is_due()

    def arrived(self, count: int) -> None:
        """So many bytes of the body have, in all."""
        assert self.meter is not None
        self.meter.update(count)

    def settled(self, count: int) -> None:
        """So many bytes of the body have arrived, and that is all of it."""
        assert self.meter is not None
        self.meter.settle(count)

    def heard(self, head: Any) -> None:
        """A head has come."""

    def so_far(self) -> str:
        """How much has gone, for the end of an error's text."""
        if self.meter is None or not self.meter.has_begun:
            return ""
        paused = 0.0 if self.allowance is None else self.allowance.paused_for()
        return f"; {self.meter.describe()}" + (f", and it was paused for {paused:.1f} s" if paused else "")
