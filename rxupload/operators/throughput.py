"""`throughput` adds the rate and the remaining time to Progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from reactivex import Observable, abc
from reactivex.scheduler import (
    TimeoutScheduler,
)

from rxupload._arguments import check_seconds, needs_call
from rxupload._derived import Derived
from rxupload._events import Progress
from rxupload._rates import RateWindow

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Throughput:
    """Progress with its rate.

    Attributes:
        progress: The Progress item.
        bytes_per_second: The rate over the window; 0.0 at the first item of an attempt.
        seconds_left: Seconds until every byte is sent at this rate; None while the rate is 0 or the total unknown.
    """

    progress: Progress
    bytes_per_second: float
    seconds_left: float | None


@needs_call
def throughput(
    window: float = 5.0,
) -> Callable[[Observable[Progress | T]], Observable[Throughput | T]]:
    """Turn each Progress into a `Throughput`, with the rate and the remaining time. Other items pass unchanged.

    ::

        ---P0-------P1-------P2-------Response-|
              throughput()
        ---T0-------T1-------T2-------Response-|

    It uses the scheduler's clock. A new attempt starts the window again. Bytes that the server had before a resumable
    upload went on are not part of the rate.

    Args:
        window: How many seconds the rate covers. If the last item is older than that, the rate goes back to that item.

    Raises:
        TypeError: `window` is not a number.
        ValueError: `window` is not positive and finite.
    """
    check_seconds("window", window)
    if not window:
        raise ValueError("window: must be more than 0")

    def operator(source: Observable[Progress | T]) -> Observable[Throughput | T]:
        def subscribe(
            observer: abc.ObserverBase[Throughput | T], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            clock = scheduler or TimeoutScheduler.singleton()
            rates = RateWindow(window)
            attempt = 0

            def on_next(item: Progress | T) -> None:
                nonlocal attempt
                if not isinstance(item, Progress):
                    observer.on_next(item)
                    return
                now = clock.now.timestamp()
                if item.attempt != attempt:
                    rates.restart()
                    attempt = item.attempt
                rates.add(now, item.sent)
                observer.on_next(_throughput(item, rates.rate(now)))

            return source.subscribe(on_next, observer.on_error, observer.on_completed, scheduler=scheduler)

        return Derived("throughput", source, subscribe, keeps_progress=False)

    return operator


def _throughput(progress: Progress, rate: float) -> Throughput:
    left = None if progress.total is None else progress.total - progress.sent
    if left:
        return Throughput(progress, rate, left / rate if rate else None)
    return Throughput(progress, rate, left)
