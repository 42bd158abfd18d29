"""Applies a rate limit and a pause to one upload, or to a batch of uploads that share them."""

from __future__ import annotations

import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar, cast

from reactivex import abc
from reactivex.disposable import CompositeDisposable, Disposable
from reactivex.scheduler import NewThreadScheduler

from ._arguments import Pause, RateLimit, check_rate
from ._schedulers import carrying, is_in_a_trampoline
from ._threads import run_on_thread
from ._wait import Wake

T = TypeVar("T")

BURST_SECONDS = 0.05  # the bucket holds the bytes of so many seconds
_SHARE_SECONDS = 0.02  # grant the bytes of so many seconds at a time: fewer are not worth a system call
_ROUNDING = 1e-6  # bytes: a sum of seconds times a rate is not exact

_logger = logging.getLogger("rxupload")


class Asker(Protocol):
    """An upload that asks a throttle for bytes."""

    @property
    def wake(self) -> Wake:
        """Ends the upload's wait, so that it asks again."""
        ...


class Throttle:
    """A token bucket that can be paused. Any number of uploads may share it, each on its own thread.

    No method waits. An upload that gets nothing learns when to ask again, and is woken if that changes.

    Fair queueing: the next grant goes to the upload with the smallest total, counting the bytes it is about to get. A
    new upload starts at the present level, so it cannot catch up on earlier time. So each upload gets the same share,
    or less if it wants less.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._paused_at: float | None = None
        self._rate: float | None = None  # bytes per second
        self._tokens = 0.0  # bytes available now
        self._filled_at = clock()
        self._waiting: dict[Asker, _Turn] = {}
        self._aside: dict[Asker, _Turn] = {}  # those that called `step_aside` keep their place here
        self._start = 0.0  # the total at which a new upload starts
        self._ends: dict[Asker, float] = {}  # each upload's total
        self._numbers = itertools.count()

    def limit(self, rate: float | None) -> None:
        """Set the rate in bytes per second; None for no limit."""
        with self._lock:
            self._fill()
            self._rate = rate
            self._tokens = min(self._tokens, self._burst())
            self._wake_all()

    def pause(self, is_paused: bool) -> None:  # noqa: FBT001 - an Observable's item
        """Pause or resume all uploads."""
        with self._lock:
            if not is_paused:
                self._paused_at = None
                self._wake_all()
            elif self._paused_at is None:
                self._paused_at = self._clock()

    def paused_for(self) -> float:
        """Seconds since the pause began; 0.0 without a pause."""
        with self._lock:
            return 0.0 if self._paused_at is None else self._clock() - self._paused_at

    def grant(self, who: Asker, wanted: int) -> tuple[int, float]:
        """Return how many of the wanted bytes may go now. If 0, also when to ask again, unless woken first."""
        with self._lock:
            turn = self._waiting.get(who) or self._aside.pop(who, None)
            if turn is None:
                turn = _Turn(max(self._start, self._ends.get(who, 0.0)), next(self._numbers))
            # An upload that wants more than before may have lost first place.
            has_moved = who in self._waiting and wanted > turn.wanted
            turn.wanted = wanted
            self._waiting[who] = turn
            if self._paused_at is not None:
                return 0, math.inf
            if self._rate is None:
                del self._waiting[who]
                return wanted, 0.0
            if self._first() is not who:
                if has_moved:
                    self._wake_first()
                return 0, math.inf
            self._fill()
            missing = self._share(turn) - self._tokens
            if missing > _ROUNDING:
                return 0, self._clock() + missing / self._rate
            granted = min(wanted, int(self._tokens + _ROUNDING))
            self._tokens -= granted
            self._start += granted / len(self._waiting)
            self._ends[who] = turn.start + granted
            del self._waiting[who]
            self._wake_first()
            return granted, 0.0

    def step_aside(self, who: Asker) -> None:
        """Serve others until this upload asks again. It keeps its place."""
        with self._lock:
            if (turn := self._waiting.pop(who, None)) is not None:
                self._aside[who] = turn
                self._wake_first()

    def give_back(self, who: Asker, count: int) -> None:
        """Take back `count` granted bytes that were not sent."""
        with self._lock:
            if count and self._rate is not None:
                self._tokens = min(self._tokens + count, self._burst())
                self._ends[who] = self._ends.get(who, 0.0) - count
                self._wake_first()

    def forget(self, who: Asker) -> None:
        """Remove an upload that has ended."""
        with self._lock:
            self._ends.pop(who, None)
            self._aside.pop(who, None)
            if self._waiting.pop(who, None) is not None:
                self._wake_first()

    def _first(self) -> Asker | None:
        return min(self._waiting, key=self._place, default=None)

    def _place(self, who: Asker) -> tuple[float, int]:
        turn = self._waiting[who]
        return turn.start + self._share(turn), turn.number

    def _share(self, turn: _Turn) -> int:
        return min(turn.wanted, max(1, int((self._rate or 0) * _SHARE_SECONDS)))

    def _wake_first(self) -> None:
        if (first := self._first()) is not None:
            first.wake.set()

    def _wake_all(self) -> None:
        for each in self._waiting:
            each.wake.set()

    def _fill(self) -> None:
        now = self._clock()
        if self._rate is not None:
            self._tokens = min(self._tokens + (now - self._filled_at) * self._rate, self._burst())
        self._filled_at = now

    def _burst(self) -> float:
        return 0.0 if self._rate is None else max(1.0, self._rate * BURST_SECONDS)


@dataclass(slots=True, eq=False)
class _Turn:
    start: float
    number: int
    wanted: int = 0


class Allowance:
    """Grants what all throttles of one upload grant. Only the upload's worker calls it.

    It asks the throttles in order. If a later one grants less, the earlier ones get the rest back. So the throttle that
    the fewest uploads share should come first.
    """

    def __init__(self, throttles: Sequence[Throttle], wake: Wake) -> None:
        self._throttles = throttles
        self.wake = wake

    def grant(self, wanted: int) -> tuple[int, float]:
        """Return the bytes that all throttles grant; see `Throttle.grant`."""
        granted = wanted
        for place, throttle in enumerate(self._throttles):
            count, again = throttle.grant(self, granted)
            for earlier in self._throttles[:place]:
                earlier.give_back(self, granted - count)
            if not count:
                for later in self._throttles[place + 1 :]:
                    later.step_aside(self)  # let others have what it waited for there
                return 0, again
            granted = count
        return granted, 0.0

    def step_aside(self) -> None:
        """Step aside at all throttles; see `Throttle.step_aside`."""
        for throttle in self._throttles:
            throttle.step_aside(self)

    def give_back(self, count: int) -> None:
        """Give bytes back to all throttles; see `Throttle.give_back`."""
        if count:
            for throttle in self._throttles:
                throttle.give_back(self, count)

    def shared(self, wake: Wake) -> Allowance:
        """Return another one of the same throttles, for an upload that sends a part with a worker of its own."""
        return Allowance(self._throttles, wake)

    def paused_for(self) -> float:
        """Seconds since the longest pause began; 0.0 without a pause."""
        return max(throttle.paused_for() for throttle in self._throttles)

    def forget(self) -> None:
        """Remove the upload from all throttles."""
        for throttle in self._throttles:
            throttle.forget(self)


# Settings


class Throttling(abc.DisposableBase):
    """Makes a throttle follow the `rate_limit` and the `pause` of one upload or batch, until it is disposed.

    Attributes:
        throttle: The throttle; None without a setting.
    """

    def __init__(self, rate_limit: RateLimit, pause: Pause, fail: Callable[[Exception], None]) -> None:
        self.throttle: Throttle | None = None
        self._rate_limit = rate_limit
        self._pause = pause
        self._fail = fail
        self._subscriptions = CompositeDisposable()
        self._is_to_follow = isinstance(rate_limit, abc.ObservableBase) or pause is not None
        if rate_limit is not None or pause is not None:
            self.throttle = Throttle()
            if not isinstance(rate_limit, abc.ObservableBase):
                self.throttle.limit(rate_limit)

    def follow(self) -> None:
        """Subscribe to the settings, once. Values that they emit at once apply on return; errors go to `fail`."""
        if not self._is_to_follow:
            return
        self._is_to_follow = False
        settings: list[tuple[Any, Callable[[Any], None]]] = []
        if isinstance(self._rate_limit, abc.ObservableBase):
            settings.append((self._rate_limit, self._limit))
        if self._pause is not None:
            settings.append((self._pause, self._hold))

        def subscribe() -> None:
            for setting, on_next in settings:
                try:
                    subscription = setting.subscribe(on_next, self._fail)
                except BaseException as error:  # reactivex raises it here if the Observable had already ended
                    self._fail(cast("Exception", error))
                    if not isinstance(error, Exception):
                        raise
                else:
                    self._subscriptions.add(quiet(subscription, "A rate_limit or a pause"))

        if not is_in_a_trampoline():
            subscribe()
        else:  # which would delay them to the end of the upload
            work = partial(copy_context().run, subscribe)
            thread = threading.Thread(target=work, name="rxupload-settings", daemon=True)
            thread.start()
            thread.join()

    def start(
        self, worker: Callable[[], None], call_soon: Callable[[Callable[[], None]], object] | None
    ) -> None:
        """Run a worker on a thread. With a loop, first subscribe to the settings on the loop.

        That takes a turn of its own: the trampoline of the current turn would delay even reactivex.of() too long. If
        the loop has closed, the worker never starts, and the observer gets nothing.
        """
        if call_soon is None or not self._is_to_follow:
            run_on_thread(worker)
            return

        def begin() -> None:
            if not self._subscriptions.is_disposed:
                try:
                    self.follow()
                finally:
                    run_on_thread(worker)

        call_soon(begin)

    def dispose(self) -> None:
        """Unsubscribe from the settings."""
        self._subscriptions.dispose()

    def releasing(self, observer: abc.ObserverBase[T]) -> abc.ObserverBase[T]:
        """Wrap an observer so that its end disposes this first, on the observer's own thread or loop."""
        return observer if self.throttle is None else _Releasing(observer, self)

    def _limit(self, value: object) -> None:
        assert self.throttle is not None
        try:
            rate = None if value is None else check_rate(value)
        except (TypeError, ValueError) as error:
            self._fail(error)
        else:
            self.throttle.limit(rate)

    def _hold(self, value: object) -> None:
        assert self.throttle is not None
        if isinstance(value, bool):
            self.throttle.pause(value)
        else:
            self._fail(TypeError(f"pause: the Observable's items must be bool, got {type(value).__name__}"))


def quiet(subscription: abc.DisposableBase, what: str) -> abc.DisposableBase:
    """Wrap a disposable so that its dispose logs errors instead of raising. So the others are disposed as well."""

    def dispose() -> None:
        try:
            subscription.dispose()
        except Exception:
            _logger.exception("%s failed when it was disposed", what)

    return Disposable(dispose)


class _Releasing(abc.ObserverBase[T]):
    def __init__(self, observer: abc.ObserverBase[T], throttling: Throttling) -> None:
        self._observer = observer
        self._throttling = throttling

    def on_next(self, value: T) -> None:
        self._observer.on_next(value)

    def on_error(self, error: Exception) -> None:
        self._throttling.dispose()
        self._observer.on_error(error)

    def on_completed(self) -> None:
        self._throttling.dispose()
        self._observer.on_completed()


# Passing a batch's throttle to its uploads


def with_throttle(scheduler: abc.SchedulerBase | None, throttle: Throttle) -> abc.SchedulerBase:
    """Return the same scheduler with a throttle attached, for the uploads that are subscribed to on it.

    A batch may get its uploads behind any operators. Operators pass on nothing but the scheduler.
    """
    scheduler = scheduler or NewThreadScheduler()
    return carrying(scheduler, _ATTRIBUTE, [throttle, *throttles_of(scheduler)])


def throttles_of(scheduler: abc.SchedulerBase | None) -> list[Throttle]:
    """Return the throttles attached to a scheduler, the innermost first."""
    return list(getattr(scheduler, _ATTRIBUTE, ()))


_ATTRIBUTE = "_rxupload_throttles"
