"""`retry_backoff` repeats an upload after a temporary failure, with growing waits."""

from __future__ import annotations

import random
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar, cast

from reactivex import Observable, abc
from reactivex.disposable import SerialDisposable, SingleAssignmentDisposable

from rxupload._arguments import check_seconds, needs_call, wrong_type
from rxupload._derived import Derived
from rxupload._errors import DigestMismatch, UploadTimeout
from rxupload._events import Progress
from rxupload._responses import is_resumable, status, status_error
from rxupload._schedulers import timers

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Retry:
    """A failed attempt that will be followed by another.

    Attributes:
        attempt: The number of the failed attempt, from 1.
        error: Its error; for a response, the `HTTPStatusError`.
        wait: Seconds until the next attempt.
    """

    attempt: int
    error: Exception
    wait: float


@needs_call
def retry_backoff(
    *,
    attempts: int = 5,
    wait_initial: float = 0.5,
    wait_max: float = 30.0,
    wait_jitter: float = 1.0,
    on: type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool] | None = None,
    on_retry: Callable[[Retry], object] | None = None,
) -> Callable[[Observable[T]], Observable[T]]:
    """Repeat an upload after a temporary failure, with a wait before each attempt.

    ::

        ---P0---P1---X
                     wait---P0---P1---503-|
                                      wait------P0---P1---200-|
          retry_backoff()
        ---P0---P1----------P0---P1-------------P0---P1---200-|

    The n-th wait is `min(wait_max, wait_initial * 2**(n-1) + uniform(0, wait_jitter))` seconds. If the response has a
    `Retry-After` header (RFC 9110, section 10.2.3), the wait is the header's time or the wait without jitter, whichever
    is longer. If the header asks for more than `wait_max`, there are no more attempts, and a note on the error says so.

    A response of 408, 425, 429, 500, 502, 503 or 504 becomes an `httpx.HTTPStatusError`. Other responses pass. By
    default the operator retries after that error, `httpx.NetworkError`, `RemoteProtocolError`, httpx's timeouts, and
    `DigestMismatch` of a `verify_digest` before it. It does not retry after `UploadTimeout` or an untrusted
    certificate. After the last attempt, its error is the error of the stream. `Progress.attempt` continues to rise from
    one attempt to the next.

    A resumable upload goes on where the server stands, also after 409, 423 and 460. Once the server has more than
    before, the attempts and their waits are counted anew.

    Warning:
        A request may have arrived even if its response did not, so the server may get the same POST twice. If that
        matters, send the same `Idempotency-Key` header in every attempt, so that the server can recognise it.

    Each subscription has its own attempts. Waits run on the scheduler of the subscription. They run on TimeoutScheduler
    if there is none, if it would block (in place), or if it would hold a thread (NewThreadScheduler,
    ThreadPoolScheduler). Disposing ends a wait at once.

    Args:
        attempts: The number of attempts, the first one included; 1 means no retry. For a resumable upload, of those in
            a row that bring nothing to the server.
        wait_initial: Seconds to wait before the second attempt, without the jitter.
        wait_max: The longest wait, in seconds.
        wait_jitter: The most seconds of jitter, so that clients that failed together do not come back together.
        on: Which errors to retry after, instead of the default: an exception type, a tuple of them, or a function of
            the exception. For responses, it gets only errors with the statuses above. With `raise_for_status()` before
            this operator, it gets all that are not 2xx.
        on_retry: Called with a `Retry` after a failed attempt, before the wait for the next one; not called after the
            last attempt. If it raises, that is the error of the stream, and there are no more attempts.

    Raises:
        TypeError: An argument has the wrong type; the message names it.
        ValueError: `attempts` is less than 1, or a wait is negative or not finite.
    """
    _check_attempts(attempts)
    check_seconds("wait_initial", wait_initial)
    check_seconds("wait_max", wait_max)
    check_seconds("wait_jitter", wait_jitter)
    is_retryable = _predicate(on)
    if on_retry is not None and not callable(on_retry):
        raise wrong_type("on_retry", "a function", on_retry)

    def wait(failures: int, error: Exception, now: datetime) -> float | None:
        """Return the seconds until the next attempt; None for no further attempt."""
        if failures >= attempts or not is_retryable(error):
            return None
        backoff = wait_initial * 2.0 ** min(failures - 1, 1000)  # a float's exponent ends at 1023
        asked_for = _retry_after(error, now)
        if asked_for is None:
            return min(wait_max, backoff + random.uniform(0, wait_jitter))  # noqa: S311 - not a secret
        if asked_for <= wait_max:
            return max(min(wait_max, backoff), asked_for)
        note = f"Not tried again: Retry-After is {asked_for:.0f} s, and the longest wait is {wait_max:g} s"
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
        return None

    def operator(source: Observable[T]) -> Observable[T]:
        def subscribe(
            observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            return _Retrying(source, observer, scheduler, wait, on_retry).start()

        return Derived("retry_backoff", source, subscribe)

    return operator


class _Retrying:
    """One subscription to `retry_backoff`. It alternates between attempts and waits."""

    def __init__(
        self,
        source: Observable[Any],
        observer: abc.ObserverBase[Any],
        scheduler: abc.SchedulerBase | None,
        wait: Callable[[int, Exception, datetime], float | None],
        on_retry: Callable[[Retry], object] | None,
    ) -> None:
        self._source = source
        self.observer = observer
        self._scheduler = scheduler
        self._timers = timers(scheduler)
        self._wait = wait
        self._on_retry = on_retry
        self._under_way = SerialDisposable()
        self._ended = 0  # attempts in all
        self._failures = 0  # since the server got more
        self._reached = 0  # bytes that the server had at the begin of a pass
        self.passes = 0  # passes over the body in all attempts

    def start(self) -> abc.DisposableBase:
        self._attempt()
        return self._under_way

    def _attempt(self, *_: object) -> None:
        slot = self._next_slot()
        slot.disposable = self._source.subscribe(_Attempt(self), scheduler=self._scheduler)

    def begin_pass(self, start: int) -> None:
        """Take note of how many bytes the server had when a pass began."""
        if start > self._reached:
            self._reached, self._failures = start, 0

    def fail(self, error: Exception) -> None:
        """Take a failed attempt: wait for the next one, or end."""
        self._ended += 1
        self._failures += 1
        try:
            seconds = self._wait(self._failures, error, self._timers.now)
            if seconds is not None and self._on_retry is not None:
                self._on_retry(Retry(self._ended, error, seconds))
        except Exception as raised:  # noqa: BLE001 - one of the caller's functions raised
            error, seconds = raised, None
        if seconds is None:
            self.observer.on_error(error)
            return
        slot = self._next_slot()
        slot.disposable = self._timers.schedule_relative(seconds, self._attempt)

    def _next_slot(self) -> SingleAssignmentDisposable:
        # Put the slot in place first: an attempt may fail, or a timer may fire, before the call that fills it returns.
        slot = SingleAssignmentDisposable()
        self._under_way.disposable = slot
        return slot


class _Attempt(abc.ObserverBase[Any]):
    """One attempt. It ignores items after its end: a source that emits inside subscribe() cannot be disposed yet."""

    def __init__(self, retrying: _Retrying) -> None:
        self._retrying = retrying
        self._passes_before = retrying.passes
        self._is_over = False
        self._raised_below: Exception | None = None

    def on_next(self, value: Any) -> None:
        if self._is_over:
            return
        if _is_to_retry(value):
            self.on_error(status_error(value))
            return
        if isinstance(value, Progress):
            self._retrying.passes = self._passes_before + value.attempt
            self._retrying.begin_pass(value.start)
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
        if error is self._raised_below:  # the source returns the observer's own exception
            self._retrying.observer.on_error(error)
        else:
            self._retrying.fail(error)

    def on_completed(self) -> None:
        if not self._is_over:
            self._retrying.observer.on_completed()


def _check_attempts(attempts: object) -> None:
    if isinstance(attempts, bool) or not isinstance(attempts, int):
        raise wrong_type("attempts", "an int", attempts)
    if attempts < 1:
        raise ValueError(f"attempts: must be 1 or more, got {attempts}")


_RETRIED_STATUSES = (408, 425, 429, 500, 502, 503, 504)
_OF_RESUMABLE = (409, 423, 460)  # another offset, an upload that is locked, a part that was damaged


def _is_to_retry(item: object) -> bool:
    """Whether an item is a response with a status that may pass."""
    code = status(item)
    return code in _RETRIED_STATUSES or (code in _OF_RESUMABLE and is_resumable(item))


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
    """Whether the same upload may succeed later."""
    if isinstance(error, DigestMismatch):
        return True
    if isinstance(error, UploadTimeout) or any(
        isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error)
    ):
        return False
    names = {kind.__name__ for kind in type(error).__mro__ if kind.__module__ in ("httpx", "httpx2")}
    if "HTTPStatusError" in names:
        return _is_to_retry(getattr(error, "response", None))
    return not names.isdisjoint({"NetworkError", "RemoteProtocolError", "TimeoutException"})


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and its causes, explicit (`from`) or implicit."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _retry_after(error: Exception, now: datetime) -> float | None:
    """Return the seconds of a valid Retry-After header (RFC 9110, section 10.2.3); None without one."""
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
