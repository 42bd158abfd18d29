"""When bytes of a body may go: a rate limit and a pause, of one upload or shared by a batch of them."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable
from reactivex.scheduler import CurrentThreadScheduler, NewThreadScheduler

RateLimit: TypeAlias = float | Observable[float | None] | None
Pause: TypeAlias = Observable[bool] | None

BURST_SECONDS = 0.05  # of unused time, the most that may be caught up on
_SHARE_SECONDS = 0.02  # worth of bytes that go at a time: fewer would be a system call for next to nothing


class Throttle:
    """A token bucket that can be paused. Any number of uploads may share it, each on a thread of its own.

    They are served in the order in which they asked, so each gets its share however fast it could send.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._paused_at: float | None = None
        self._rate: float | None = None  # bytes per second
        self._tokens = 0.0  # bytes that may go
        self._filled_at = clock()
        self._queue: dict[object, None] = {}  # who waits, in order

    def limit(self, rate: float | None) -> None:
        """So many bytes per second from now on; None for no limit."""
        with self._lock:
            self._fill()
            self._rate = rate
            self._tokens = min(self._tokens, self._burst())

    def pause(self, is_paused: bool) -> None:  # noqa: FBT001 - an Observable's item
        """Hold everything, or let it go on."""
        with self._lock:
            if not is_paused:
                self._paused_at = None
            elif self._paused_at is None:
                self._paused_at = self._clock()

    def paused_for(self) -> float:
        """Seconds since it was paused; 0.0 while it is not."""
        with self._lock:
            return 0.0 if self._paused_at is None else self._clock() - self._paused_at

    def ask(self, who: object, wanted: int) -> tuple[int, float]:
        """How many of the wanted bytes may go now; if none, the seconds after which to ask again, else 0.0.

        To want 0 bytes is to ask whether it is paused.
        """
        with self._lock:
            if self._paused_at is not None:
                return 0, BURST_SECONDS
            if self._rate is None or not wanted:
                self._queue.pop(who, None)
                return wanted, 0.0
            self._fill()
            share = min(wanted, max(1, int(self._rate * _SHARE_SECONDS)))
            self._queue.setdefault(who)
            if next(iter(self._queue)) is not who:
                return 0, _SHARE_SECONDS
            if self._tokens < share:
                return 0, (share - self._tokens) / self._rate
            granted = min(wanted, int(self._tokens))
            self._tokens -= granted
            del self._queue[who]
            return granted, 0.0

    def give_back(self, count: int) -> None:
        """So many of the bytes that were granted did not go."""
        with self._lock:
            self._tokens = min(self._tokens + count, self._burst())

    def forget(self, who: object) -> None:
        """Somebody waits no more."""
        with self._lock:
            self._queue.pop(who, None)

    def _fill(self) -> None:
        now = self._clock()
        if self._rate is not None:
            self._tokens = min(self._tokens + (now - self._filled_at) * self._rate, self._burst())
        self._filled_at = now

    def _burst(self) -> float:
        return 0.0 if self._rate is None else max(1.0, self._rate * BURST_SECONDS)


class Allowance:
    """What one upload may send: as much as each of its throttles lets it. Its worker alone uses it."""

    def __init__(self, throttles: Sequence[Throttle]) -> None:
        self._throttles = throttles

    def ask(self, wanted: int) -> tuple[int, float]:
        """As of a throttle."""
        granted = wanted
        for place, throttle in enumerate(self._throttles):
            leave, seconds = throttle.ask(self, granted)
            for earlier in self._throttles[:place]:
                earlier.give_back(granted - leave)
            if seconds:
                for later in self._throttles[place + 1 :]:
                    later.forget(self)  # who cannot go must not keep others waiting there
                return 0, seconds
            granted = leave
        return granted, 0.0

    def paused_for(self) -> float:
        """As of a throttle."""
        return max(throttle.paused_for() for throttle in self._throttles)

    def give_back(self, count: int) -> None:
        """As to a throttle."""
        for throttle in self._throttles:
            throttle.give_back(count)

    def forget(self) -> None:
        """It sends no more."""
        for throttle in self._throttles:
            throttle.forget(self)


# What sets them


class Throttling(abc.DisposableBase):
    """The settings of one upload or batch: what its throttle follows, until that ends or this is disposed.

    Attributes:
        throttle: The throttle; None where nothing is set.
    """

    def __init__(self, rate_limit: RateLimit, pause: Pause, fail: Callable[[Exception], None]) -> None:
        self.throttle: Throttle | None = None
        self._rate_limit = rate_limit
        self._pause = pause
        self._fail = fail
        self._subscriptions = CompositeDisposable()
        if rate_limit is not None or pause is not None:
            self.throttle = Throttle()
            if not isinstance(rate_limit, abc.ObservableBase):
                self.throttle.limit(rate_limit)

    def follow(self, scheduler: abc.SchedulerBase | None = None) -> bool:
        """Begin to; whether there is anything to follow. What goes wrong with it goes to `fail`.

        What they emit at once holds when this returns; with a scheduler, for what is scheduled there afterwards.
        """
        if self.throttle is None:
            return False
        settings: list[tuple[Any, Callable[[Any], None]]] = []
        if isinstance(self._rate_limit, abc.ObservableBase):
            settings.append((self._rate_limit, self._limit))
        if self._pause is not None:
            settings.append((self._pause, self._hold))

        def subscribe() -> None:
            for setting, on_next in settings:
                self._subscriptions.add(setting.subscribe(on_next, self._fail, scheduler=scheduler))

        if scheduler is not None or CurrentThreadScheduler.singleton().schedule_required():
            subscribe()
        else:  # behind this thread's trampoline, even reactivex.of() would have to wait for the upload's end
            thread = threading.Thread(target=subscribe)
            thread.start()
            thread.join()
        return bool(settings)

    def dispose(self) -> None:
        """Follow them no more."""
        self._subscriptions.dispose()

    def _limit(self, value: object) -> None:
        assert self.throttle is not None
        try:
            rate = None if value is None else _check_rate(value)
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


def check_rate_limit(value: object) -> Any:
    """Return the value if it can be a `rate_limit`."""
    return value if value is None or isinstance(value, abc.ObservableBase) else _check_rate(value)


def _check_rate(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(
            "rate_limit: expected a number of bytes per second, an Observable of them, or None, "
            f"got {type(value).__name__}"
        )
    if not math.isfinite(value) or value <= 0:
        raise ValueError(
            "rate_limit: must be a finite number of bytes per second, more than 0 (None for no limit); "
            f"got {value!r}"
        )
    return value


def check_pause(value: object) -> Any:
    """Return the value if it can be a `pause`."""
    if value is not None and not isinstance(value, abc.ObservableBase):
        raise TypeError(f"pause: expected an Observable of bool or None, got {type(value).__name__}")
    return value


# How the uploads of a batch find the batch's throttle


def with_throttle(scheduler: abc.SchedulerBase | None, throttle: Throttle) -> abc.SchedulerBase:
    """Return the same scheduler, carrying a throttle for the uploads that are subscribed to on it.

    An upload of a batch may stand behind any operators, and the scheduler is all that they hand down. So this is an
    object of a subclass that shares the scheduler's state, its `__dict__`: whoever asks what kind of scheduler it is,
    or schedules on it, finds the scheduler itself.
    """
    scheduler = scheduler or NewThreadScheduler()
    kind = type(scheduler)
    throttles = [*throttles_of(scheduler), throttle]
    same: Any = object.__new__(type(kind.__name__, (kind,), {_ATTRIBUTE: throttles}))
    same.__dict__ = scheduler.__dict__
    return same  # type: ignore[no-any-return]


def throttles_of(scheduler: abc.SchedulerBase | None) -> list[Throttle]:
    """The throttles that a scheduler carries."""
    return list(getattr(scheduler, _ATTRIBUTE, ()))


_ATTRIBUTE = "_rxupload_throttles"
