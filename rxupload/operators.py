"""Operators for streams of upload events, to be used in `pipe()` with those of reactivex.

::

    upload(url, "beach.jpg").pipe(retry_backoff(), progress_bar(), raise_for_status())

Each works with any source of the right items. What they know of an httpx response or error they know by its names, so
the responses and errors of httpx2, and of a client of your own, are as good.
"""

from __future__ import annotations

import contextlib
import math
import random
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar, cast

import httpx
from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable, SerialDisposable, SingleAssignmentDisposable
from reactivex.scheduler import (
    ImmediateScheduler,
    NewThreadScheduler,
    TimeoutScheduler,
    TrampolineScheduler,
)

from ._batch import BatchProgress
from ._errors import UploadTimeout
from ._progress import Progress

if TYPE_CHECKING:
    from tqdm.std import tqdm

T = TypeVar("T")

__all__ = ["Throughput", "of_type", "progress_bar", "raise_for_status", "retry_backoff", "throughput"]


def of_type(kind: type[T]) -> Callable[[Observable[Any]], Observable[T]]:
    """Keep the items of a type, and no others.

    ::

        ---P0---P1---P2---Response-|
              of_type(Progress)
        ---P0---P1---P2------------|

    Args:
        kind: The type: `Progress`, `httpx.Response`, `ItemFailed`, or any other.

    Raises:
        TypeError: If kind is not a type.
    """
    if not isinstance(kind, type):
        raise TypeError(f"kind: expected a type, got {type(kind).__name__}")

    def operator(source: Observable[Any]) -> Observable[T]:
        def subscribe(
            observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            def on_next(item: Any) -> None:
                if isinstance(item, kind):
                    observer.on_next(item)

            return source.subscribe(on_next, observer.on_error, observer.on_completed, scheduler=scheduler)

        return Observable(subscribe)

    return operator


def raise_for_status() -> Callable[[Observable[T]], Observable[T]]:
    """Turn a response of 400 or more into an `httpx.HTTPStatusError`, which has it as `.response`.

    ::

        ---P0---P1---404-|            ---P0---P1---200-|
          raise_for_status()            raise_for_status()
        ---P0---P1---X                ---P0---P1---200-|

    A response of an `httpx2.Client` becomes that library's own `HTTPStatusError`. Redirects pass.
    """

    def operator(source: Observable[T]) -> Observable[T]:
        def subscribe(
            observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            def on_next(item: T) -> None:
                if _status(item) >= httpx.codes.BAD_REQUEST:
                    observer.on_error(_status_error(item))
                else:
                    observer.on_next(item)

            return source.subscribe(on_next, observer.on_error, observer.on_completed, scheduler=scheduler)

        return Observable(subscribe)

    return operator


def retry_backoff(
    *,
    attempts: int = 5,
    wait_initial: float = 0.5,
    wait_max: float = 30.0,
    wait_jitter: float = 1.0,
    on: type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool] | None = None,
) -> Callable[[Observable[T]], Observable[T]]:
    """Upload again after a wait, where the failure is one that may pass.

    ::

        ---P0---P1---X
                     wait---P0---P1---503-|
                                      wait------P0---P1---200-|
          retry_backoff()
        ---P0---P1----------P0---P1-------------P0---P1---200-|

    The n-th wait is `min(wait_max, wait_initial * 2**(n-1) + uniform(0, wait_jitter))` seconds. Where the response
    has a `Retry-After` header (RFC 9110, section 10.2.3), it is the header's time or the wait without jitter,
    whichever is longer; a header that asks for more than wait_max ends the retries at once, and a note of the error
    says so.

    A response of 408, 425, 429, 500, 502, 503 or 504 becomes an `httpx.HTTPStatusError`; other responses pass.
    Tried again, unless `on` says otherwise: that error, `httpx.NetworkError`, `RemoteProtocolError` and httpx's
    timeouts, but neither `UploadTimeout` nor a certificate that cannot be trusted. When the attempts are used up, the
    last error is the error. `Progress.attempt` goes on rising from one attempt to the next.

    Warning:
        A request may have arrived although its response did not, so the server may see the same POST twice. Where that
        matters, give it something to know them by, such as an `Idempotency-Key` header.

    The budget is each subscription's own. Waits run on the scheduler of the subscription, or on TimeoutScheduler where
    that one would block to wait (in place) or hold a thread for it (NewThreadScheduler, ThreadPoolScheduler), or where
    there is none; disposing ends a wait at once.

    Args:
        attempts: How often to upload in all, the first time included; 1 means never again.
        wait_initial: Seconds to wait before the second attempt, to which the jitter is added.
        wait_max: The longest wait, in seconds.
        wait_jitter: The most seconds of jitter, so that clients that failed together do not come back together.
        on: What to try again, instead of the default: an exception type, a tuple of them, or a function of the
            exception. Of responses it is asked for those statuses alone; with `raise_for_status()` before this
            operator, for all of 400 or more.

    Raises:
        TypeError: If an argument is not of its type; the message names it.
        ValueError: If attempts is less than 1, or a wait is negative or not finite.
    """
    if isinstance(attempts, bool) or not isinstance(attempts, int):
        raise TypeError(f"attempts: expected an int, got {type(attempts).__name__}")
    if attempts < 1:
        raise ValueError(f"attempts: must be 1 or more, got {attempts}")
    _check_seconds("wait_initial", wait_initial)
    _check_seconds("wait_max", wait_max)
    _check_seconds("wait_jitter", wait_jitter)
    is_retryable = _predicate(on)

    def wait(failures: int, error: Exception, now: datetime) -> float | None:
        """Seconds until the next attempt; None where there is to be none."""
        if failures >= attempts or not is_retryable(error):
            return None
        backoff = wait_initial * 2.0 ** min(failures - 1, 1000)  # a float's exponent ends at 1023
        asked_for = _retry_after(error, now)
        if asked_for is None:
            return min(wait_max, backoff + random.uniform(0, wait_jitter))  # noqa: S311 - not a secret
        if asked_for <= wait_max:
            return max(min(wait_max, backoff), asked_for)
        note = f"Not tried again: Retry-After is {asked_for:.0f} s, and wait_max {wait_max:g} s"
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
        return None

    def operator(source: Observable[T]) -> Observable[T]:
        def subscribe(
            observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            return _Retrying(source, observer, scheduler, wait).start()

        return Observable(subscribe)

    return operator


class _Retrying:
    """One subscription to `retry_backoff`: an attempt or a wait, one after the other."""

    def __init__(
        self,
        source: Observable[Any],
        observer: abc.ObserverBase[Any],
        scheduler: abc.SchedulerBase | None,
        wait: Callable[[int, Exception, datetime], float | None],
    ) -> None:
        self._source = source
        self.observer = observer
        self._scheduler = scheduler
        self._timers = _timers(scheduler)
        self._wait = wait
        self._under_way = SerialDisposable()
        self._failures = 0
        self.passes = 0  # over the body, in all attempts

    def start(self) -> abc.DisposableBase:
        self._attempt()
        return self._under_way

    def _attempt(self, *_: object) -> None:
        slot = self._next_slot()
        slot.disposable = self._source.subscribe(_Attempt(self), scheduler=self._scheduler)

    def fail(self, error: Exception) -> None:
        """An attempt has failed: wait for the next, or end."""
        self._failures += 1
        try:
            seconds = self._wait(self._failures, error, self._timers.now)
        except Exception as raised:  # noqa: BLE001 - by the caller's function
            error, seconds = raised, None
        if seconds is None:
            self.observer.on_error(error)
            return
        slot = self._next_slot()
        slot.disposable = self._timers.schedule_relative(seconds, self._attempt)

    def _next_slot(self) -> SingleAssignmentDisposable:
        # In its place before what fills it begins: an attempt may fail, and a timer fire, before the call returns.
        slot = SingleAssignmentDisposable()
        self._under_way.disposable = slot
        return slot


class _Attempt(abc.ObserverBase[Any]):
    """One attempt of them. It ends once: a source that emits inside subscribe() cannot be disposed yet."""

    def __init__(self, retrying: _Retrying) -> None:
        self._retrying = retrying
        self._passes_before = retrying.passes
        self._is_over = False
        self._raised_below: Exception | None = None

    def on_next(self, value: Any) -> None:
        if self._is_over:
            return
        if _status(value) in _RETRIED_STATUSES:
            self.on_error(_status_error(value))
            return
        if isinstance(value, Progress):
            self._retrying.passes = self._passes_before + value.attempt
            value = replace(value, attempt=self._retrying.passes)
        try:
            self._retrying.observer.on_next(value)
        except Exception as error:
            self._raised_below = error
            raise

    def on_error(self, error: Exception) -> None:
        if self._is_over:
            return
        self._is_over = True
        if error is self._raised_below:  # the source gives the observer its own failure back
            self._retrying.observer.on_error(error)
        else:
            self._retrying.fail(error)

    def on_completed(self) -> None:
        if not self._is_over:
            self._retrying.observer.on_completed()


_RETRIED_STATUSES = (408, 425, 429, 500, 502, 503, 504)


def _predicate(on: Any) -> Callable[[Exception], bool]:
    if on is None:
        return _may_pass
    kinds = on if isinstance(on, tuple) else (on,)
    if all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
        return lambda error: isinstance(error, kinds)
    if isinstance(on, (tuple, type)) or not callable(on):
        raise TypeError(f"on: expected exception types or a function of the exception, got {on!r}")
    return cast("Callable[[Exception], bool]", on)


def _may_pass(error: Exception) -> bool:
    """Whether the same upload may well succeed later."""
    if isinstance(error, UploadTimeout) or any(
        isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error)
    ):
        return False
    names = {kind.__name__ for kind in type(error).__mro__ if kind.__module__ in ("httpx", "httpx2")}
    if "HTTPStatusError" in names:
        return _status(getattr(error, "response", None)) in _RETRIED_STATUSES
    return not names.isdisjoint({"NetworkError", "RemoteProtocolError", "TimeoutException"})


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and what it came from, said (`from`) or not."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _timers(scheduler: abc.SchedulerBase | None) -> abc.SchedulerBase:
    """Where to wait: the first two would block to do so, and the third holds a thread until the time is up."""
    if scheduler is None or isinstance(
        scheduler, (ImmediateScheduler, TrampolineScheduler, NewThreadScheduler)
    ):
        return TimeoutScheduler.singleton()
    return scheduler


def _retry_after(error: Exception, now: datetime) -> float | None:
    """Seconds that the response asks to wait (RFC 9110, section 10.2.3); None if it does not, or not clearly."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    date = _http_date(value)
    if date is None:
        return None
    return max(0.0, (date - (_http_date(headers.get("Date", "")) or now)).total_seconds())


def _http_date(value: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Throughput:
    """Progress with its rate.

    Attributes:
        progress: The Progress item.
        bytes_per_second: The rate over the window; 0.0 at the first item of an attempt.
        seconds_left: Until every byte has gone, at this rate; None while the rate is 0 or the total unknown.
    """

    progress: Progress
    bytes_per_second: float
    seconds_left: float | None


def throughput(
    window: float = 5.0,
) -> Callable[[Observable[Progress | T]], Observable[Throughput | T]]:
    """Turn each Progress into a `Throughput`, which says how fast it goes and how long it will take; others pass.

    ::

        ---P0-------P1-------P2-------Response-|
              throughput()
        ---T0-------T1-------T2-------Response-|

    The clock is the scheduler's; a new attempt starts the window again.

    Args:
        window: The last seconds, over which the rate is taken. Where nothing came for longer, since the last item.

    Raises:
        TypeError: If window is not a number.
        ValueError: If window is not positive and finite.
    """
    _check_seconds("window", window)
    if not window:
        raise ValueError("window: must be more than 0")

    def operator(source: Observable[Progress | T]) -> Observable[Throughput | T]:
        def subscribe(
            observer: abc.ObserverBase[Throughput | T], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            clock = scheduler or TimeoutScheduler.singleton()
            seen: deque[tuple[float, Progress]] = deque()

            def on_next(item: Progress | T) -> None:
                if not isinstance(item, Progress):
                    observer.on_next(item)
                    return
                now = clock.now.timestamp()
                if seen and seen[-1][1].attempt != item.attempt:
                    seen.clear()
                seen.append((now, item))
                while len(seen) > 2 and seen[1][0] <= now - window:  # noqa: PLR2004
                    seen.popleft()
                observer.on_next(_throughput(item, item.sent - seen[0][1].sent, now - seen[0][0]))

            return source.subscribe(on_next, observer.on_error, observer.on_completed, scheduler=scheduler)

        return Observable(subscribe)

    return operator


def _throughput(progress: Progress, sent: int, seconds: float) -> Throughput:
    rate = sent / seconds if seconds > 0 else 0.0
    left = None if progress.total is None else progress.total - progress.sent
    if left:
        return Throughput(progress, rate, left / rate if rate else None)
    return Throughput(progress, rate, left)


def progress_bar(**tqdm_options: Any) -> Callable[[Observable[T]], Observable[T]]:
    """Draw the Progress items, or a batch's BatchProgress, as a bar in a terminal or in Jupyter; pass everything on.

    ::

        ---P0---P1---P2---Response-|
          progress_bar()             45%|####5     | 1.2M/2.6M [00:01<00:01, 1.1MB/s]
        ---P0---P1---P2---Response-|

    Each subscription has a bar of its own. It appears with the first Progress, begins again with a new attempt, and is
    closed when the stream ends or is disposed. A bar that cannot be drawn never harms the upload: it is given up when
    the file it is drawn on fails.

    Args:
        **tqdm_options: For tqdm: `desc`, `leave`, `file`, `disable`, ... The bar counts bytes unless `unit` and
            `unit_scale` say otherwise.

    Raises:
        ImportError: If tqdm is not installed.
    """
    tqdm = _tqdm()
    # By itself tqdm learns to skip updates, and lags behind an upload that slows down: hence miniters.
    options: dict[str, Any] = {"unit": "B", "unit_scale": True, "miniters": 0} | tqdm_options

    def operator(source: Observable[T]) -> Observable[T]:
        def subscribe(
            observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            bar = _Bar(lambda total: tqdm(**{**options, "total": total}))

            def on_next(item: T) -> None:
                if isinstance(item, Progress | BatchProgress):
                    try:
                        bar.show(item)
                    except Exception as error:  # noqa: BLE001 - an option that tqdm does not take
                        observer.on_error(error)
                        return
                observer.on_next(item)

            def on_error(error: Exception) -> None:
                bar.close()
                observer.on_error(error)

            def on_completed() -> None:
                bar.close()
                observer.on_completed()

            subscription = source.subscribe(on_next, on_error, on_completed, scheduler=scheduler)
            return CompositeDisposable(subscription, Disposable(bar.close))

        return Observable(subscribe)

    return operator


def _tqdm() -> type[tqdm[Any]]:
    try:
        from tqdm.auto import tqdm  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        raise ImportError("progress_bar() needs tqdm: pip install 'rxupload[progress]'") from error

    class Tqdm(tqdm):  # type: ignore[type-arg] # at run time it takes none
        def display(self, *args: Any, **kwargs: Any) -> Any:
            # An error here would leave tqdm's lock, which all bars share, taken for good.
            try:
                return super().display(*args, **kwargs)
            except OSError:  # a full disk, a pipe that nobody reads
                self.disable = True

    return Tqdm


class _Bar:
    """A tqdm bar that follows Progress. Closing may race with drawing: a dispose comes from any thread."""

    def __init__(self, make: Callable[[int | None], tqdm[Any]]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._bar: tqdm[Any] | None = None
        self._attempt = 1
        self._closed = False

    def show(self, progress: Progress | BatchProgress) -> None:
        with self._lock:
            if self._closed:
                return
            attempt = progress.attempt if isinstance(progress, Progress) else 1
            if self._bar is None:
                self._bar = self._make(progress.total)
            self._bar.total = progress.total  # reset() takes None for "as before"
            if attempt != self._attempt:
                self._bar.reset(progress.total)
            self._attempt = attempt
            self._bar.update(progress.sent - self._bar.n)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._bar is not None:
                with contextlib.suppress(OSError):
                    self._bar.close()


def _check_seconds(argument: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{argument}: expected a number of seconds, got {type(value).__name__}")
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{argument}: must be a finite number of seconds, 0 or more; got {value!r}")


def _status(item: object) -> int:
    """The status of a response; 0 for what is none."""
    status = getattr(item, "status_code", 0)
    return status if isinstance(status, int) else 0


def _status_error(response: Any) -> Exception:
    try:
        response.raise_for_status()
    except RuntimeError:  # it has no request: it was made by hand
        message = f"{response.status_code} {response.reason_phrase}"
        return httpx.HTTPStatusError(message, request=cast("httpx.Request", None), response=response)
    except Exception as error:  # noqa: BLE001 - the HTTPStatusError of the client's own library
        return error.with_traceback(None)
    raise AssertionError("raise_for_status() accepts what is 400 or more")
