"""Holds the state of one running upload: why it ends, its deadline, its wake-up, and its answers to the wire.

The worker makes a `Transfer`, which travels with the request (`request.extensions`). Our transport finds it there, and
asks it whether it may go on. With any other transport, `_content` asks at each piece of the body.

| method                                   | thread                        | lock held by the caller |
|------------------------------------------|-------------------------------|-------------------------|
| `stop`                                   | any, also in a signal handler | any but a throttle's    |
| `is_on_loop`                             | any                           | any                     |
| `begin`, `settle`, `check`, all others   | only the worker's             | none                    |

No observer and no user's function is called under this module's lock.
"""

from __future__ import annotations

import math
import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from ._errors import UploadTimeout
from ._signals import delaying_ctrl_c
from ._wait import Clock, SystemClock, Wake, Watched

if TYPE_CHECKING:
    from ._meter import Meter
    from ._throttle import Allowance

EXTENSION = "rxupload"  # the transfer's key in the request's extensions

_LOOK_SECONDS = 1.0  # between two checks whether the observer's loop has closed, since it sends no event


class Body(Protocol):
    """The body of a request, for our transport.

    Attributes:
        is_whole: Whether the last pass has sent the whole body.
    """

    is_whole: bool

    def pieces(self) -> Iterator[Any]:
        """Begin a pass over the body."""
        ...


class Disposed(Exception):  # noqa: N818
    """The reason to stop after a dispose. The observer is not notified."""


class Abandoned(Disposed):
    """The reason to stop after the observer's loop has closed."""


class Transfer:
    """The state of one upload that several threads share.

    It ends once. `stop` (a dispose, the time limit, an observer that raised) and `settle` (the worker has the outcome)
    may race from several threads. The lock makes the first one win.

    Attributes:
        wake: Ends the worker's waits that have no connection.
        asks_first: Whether the request says `Expect: 100-continue`.
        loop: The asyncio loop of the upload's scheduler; None if it has none.
        keep: The most bytes of the response to keep while the body is sent; None for no limit.
        is_reading: Whether the upload itself reads the current response. Otherwise the client does, for its auth.
        request: The current request, for errors that carry one.
        content: The current request's body; None if it has none.
        alias: What to name in the log instead of the current request's address, if that is a secret.
        on_informed: Called with each informational head (1xx) and the address of its request, between two sends. What
            it raises ends the request.
    """

    def __init__(
        self,
        timeout: float | None,
        *,
        is_abandoned: Callable[[], bool] | None = None,
        is_on_loop: Callable[[], bool] | None = None,
        loop: AbstractEventLoop | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.clock: Clock = SystemClock() if clock is None else clock
        self.wake = Wake()
        self.loop = loop
        self._timeout = timeout
        self._deadline = math.inf
        # Reentrant, because a signal handler may dispose while its own thread holds the lock.
        self._lock = threading.RLock()
        self._reason: BaseException | None = None
        self._settled = False
        self._interrupt: Callable[[], None] | None = None
        self._is_abandoned = is_abandoned  # whether the observer's loop has closed
        self._is_on_loop = is_on_loop

        self.meter: Meter | None = None
        self.allowance: Allowance | None = None  # the throttles' grants; None without a throttle
        self.asks_first = False
        self.keep: int | None = None
        self.is_reading = False
        self.request: Any = None
        self.content: Body | None = None
        self.alias: str | None = None
        self.on_informed: Callable[[Any, str], object] | None = None
        self.address = ""  # of the current request

    # How it ends

    def stop(self, reason: BaseException) -> None:
        """End the transfer with this reason, unless it has ended. It never waits for the worker."""
        with delaying_ctrl_c():
            with self._lock:
                if self._reason is not None or self._settled:
                    return
                self._reason = reason
                if self._interrupt is not None:
                    self._interrupt()
            self.wake.set()

    def settle(self) -> BaseException | None:
        """Mark the worker's job as done: from here on `stop` does nothing. Return the reason of an earlier `stop`."""
        with self._lock:
            self._settled = True
            reason = self._reason
        if self.allowance is not None:
            self.allowance.forget()
        self.wake.close()
        return reason

    def is_stopping(self) -> bool:
        """Whether `stop` has ended it, so that its worker will return soon."""
        return self._reason is not None

    def is_abandoned(self) -> bool:
        """Whether the observer's loop has closed."""
        return self._is_abandoned is not None and self._is_abandoned()

    def is_on_loop(self) -> bool:
        """Whether the calling thread runs the loop that the upload notifies on."""
        return self._is_on_loop is not None and self._is_on_loop()

    # Time

    def begin(self) -> None:
        """Start the time limit."""
        if self._timeout is not None:
            self._deadline = self.clock.now() + self._timeout

    def check(self) -> float:
        """Raise the reason to stop, if any; an expired time limit is one. Otherwise return when to check again."""
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
        """Stop the transfer if the time limit has passed."""
        if self.remaining() <= 0:
            message = f"The upload was not finished within {self._timeout:g} s{self.so_far()}"
            self.stop(UploadTimeout(message, request=self.request))

    def remaining(self) -> float:
        """Seconds left for the whole upload; `math.inf` without a limit."""
        return self._deadline - self.clock.now()

    def clamp(self, timeouts: dict[str, float | None]) -> None:
        """Shorten a client's timeouts to the time that is left for the upload.

        httpx passes this dict on unchanged, and httpcore reads it before each kind of wait.
        """
        if self._timeout is not None:
            left = max(self.remaining(), 0.001)  # 0 would make the socket non-blocking
            for kind, seconds in timeouts.items():
                timeouts[kind] = left if seconds is None else min(seconds, left)

    def wait(self, *watched: tuple[Watched, int], until: float = math.inf) -> None:
        """Wait until one of these is ready, `wake` is set, or it is time to check again.

        Raises:
            BaseException: The reason to stop.
        """
        self.clock.wait(min(until, self.check()), watched, self.wake)
        self.wake.clear()
        self.check()

    # The other methods of the wire's `Control`

    def attach(self, interrupt: Callable[[], None]) -> None:
        """Have `stop` end the connection by calling `interrupt`, until `detach`.

        Raises:
            BaseException: The reason to stop, if any.
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
        """Forget the connection: a late dispose must not end it after its return to the pool."""
        with self._lock:
            if self._interrupt == interrupt:
                self._interrupt = None

    @property
    def is_held_back(self) -> bool:
        """Whether there is a rate limit or a pause."""
        return self.allowance is not None

    def grant(self, wanted: int) -> tuple[int, float]:
        """Return how many bytes may go now. If 0, also when to ask again."""
        return (wanted, 0.0) if self.allowance is None else self.allowance.grant(wanted)

    def step_aside(self) -> None:
        """Let other uploads go first until the next `grant`."""
        if self.allowance is not None:
            self.allowance.step_aside()

    def give_back(self, count: int) -> None:
        """Return `count` granted bytes that were not sent."""
        if self.allowance is not None:
            self.allowance.give_back(count)

    def is_paused(self) -> bool:
        """Whether the body is paused."""
        return self.allowance is not None and self.allowance.paused_for() > 0

    def is_due(self) -> bool:
        """Whether it is time to report how much has arrived. Never for a body that is not the upload's content."""
        assert self.meter is not None
        return self.content is not None and self.meter.is_due()

    def arrived(self, count: int) -> None:
        """Take note that `count` bytes of the body have arrived in all."""
        assert self.meter is not None
        if self.content is not None:
            self.meter.update(count)

    def settled(self, count: int) -> None:
        """Take note that the whole body has arrived: `count` bytes."""
        assert self.meter is not None
        if self.content is not None:
            self.meter.settle(count)

    def written(self) -> None:
        """Take note that the whole request was written."""
        if self.content is not None:
            self.content.is_whole = True

    def heard(self, head: Any) -> None:
        """Tell of an informational head. A final one is the response's."""
        if self.on_informed is not None and head.status < 200:  # noqa: PLR2004
            self.on_informed(head, self.address)

    def so_far(self) -> str:
        """Return how much was sent, as the end of an error's text."""
        if self.meter is None or not self.meter.has_begun:
            return ""
        paused = 0.0 if self.allowance is None else self.allowance.paused_for()
        return f"; {self.meter.describe()}" + (f", and it was paused for {paused:.1f} s" if paused else "")
