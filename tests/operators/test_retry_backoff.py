"""`retry_backoff`, in virtual time and in real time."""

from __future__ import annotations

import asyncio
import random
import re
import ssl
import sys
import threading
from dataclasses import replace
from email.utils import format_datetime
from typing import Any

import httpx
import httpx2
import pytest
import reactivex
from hypothesis import given
from hypothesis import strategies as st
from reactivex import operators as ops
from reactivex.disposable import Disposable
from reactivex.scheduler import (
    CurrentThreadScheduler,
    EventLoopScheduler,
    ImmediateScheduler,
    NewThreadScheduler,
    ThreadPoolScheduler,
)
from reactivex.testing import TestScheduler
from support.hand_cranked_client import refuse
from support.operator_sources import (
    LOST,
    P0,
    P1,
    P2,
    REQUEST,
    URL,
    Attempts,
    on_completed,
    on_error,
    on_next,
    response,
    started_at,
    status_error,
    subscribe,
)
from support.recording_observer import observe
from support.scripted_server import PATIENCE, Server

import rxupload
from rxupload import SourceChanged, UploadTimeout, upload
from rxupload.operators import (
    Retry,
    raise_for_status,
    retry_backoff,
)
from rxupload.testing import HandCrankedClient


class TestRetryBackoff:
    def test_waits_double_up_to_the_maximum(self, no_jitter):
        """The waits double from wait_initial to wait_max, each from the failure on; then comes the last error."""
        scheduler = TestScheduler()
        source = scheduler.create_cold_observable(on_next(1, P0), on_error(2, LOST))
        results = scheduler.start(
            lambda: source.pipe(retry_backoff(attempts=5, wait_initial=10, wait_max=35))
        )
        assert source.subscriptions == [
            subscribe(200, 202),
            subscribe(212, 214),
            subscribe(234, 236),
            subscribe(271, 273),
            subscribe(308, 310),
        ]
        assert results.messages == [
            *(
                on_next(time, replace(P0, attempt=attempt))
                for attempt, time in enumerate([201, 213, 235, 272, 309], 1)
            ),
            on_error(310, LOST),
        ]

    def test_a_success_ends_it(self, no_jitter):
        """After a success there is no further attempt, and every item passes at its time."""
        scheduler = TestScheduler()
        last = response(201)
        source = Attempts(
            scheduler,
            [on_next(1, P0), on_next(2, P1), on_error(3, LOST)],
            [on_next(1, P0), on_next(2, P2), on_next(3, last), on_completed(4)],
        )
        results = scheduler.start(lambda: source.observable.pipe(retry_backoff(wait_initial=7)))
        assert results.messages == [
            on_next(201, P0),
            on_next(202, P1),
            on_next(211, replace(P0, attempt=2)),
            on_next(212, replace(P2, attempt=2)),
            on_next(213, last),
            on_completed(214),
        ]
        assert source.subscriptions == [subscribe(200, 203), subscribe(210, 214)]

    @pytest.mark.parametrize(("attempts", "subscriptions"), [(1, 1), (2, 2), (7, 7)])
    def test_attempts_counts_all_subscriptions(self, no_jitter, attempts, subscriptions):
        """`attempts` is the number of all subscriptions."""
        scheduler = TestScheduler()
        source = scheduler.create_cold_observable(on_error(1, LOST))
        scheduler.start(lambda: source.pipe(retry_backoff(attempts=attempts, wait_initial=1)))
        assert len(source.subscriptions) == subscriptions

    def test_each_subscriber_has_its_own_attempts(self, no_jitter):
        """Each subscriber has all the attempts, with its own waits and numbers."""
        scheduler = TestScheduler()
        source = scheduler.create_cold_observable(on_next(1, P0), on_error(2, LOST))
        retried = source.pipe(retry_backoff(attempts=2, wait_initial=10))
        others = [scheduler.create_observer() for _ in range(2)]
        for time, other in zip([300, 305], others, strict=True):
            scheduler.schedule_absolute(
                time, lambda *_, other=other: retried.subscribe(other, scheduler=scheduler)
            )
        scheduler.start(lambda: retried)
        for time, other in zip([300, 305], others, strict=True):
            assert other.messages == [
                on_next(time + 1, P0),
                on_next(time + 13, replace(P0, attempt=2)),
                on_error(time + 14, LOST),
            ]
        assert len(source.subscriptions) == 6

    @given(
        failures=st.integers(1, 6),
        initial=st.floats(0, 20),
        most=st.floats(0, 100),
        jitter=st.floats(0, 20),
        share=st.floats(0, 1),
    )
    def test_the_wait_follows_the_formula(self, failures, initial, most, jitter, share):
        """The n-th wait is min(wait_max, wait_initial * 2**(n-1) + uniform(0, wait_jitter))."""
        scheduler = TestScheduler()
        source = scheduler.create_cold_observable(on_error(1, LOST))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(random, "uniform", lambda low, high: low + share * (high - low))
            scheduler.start(
                lambda: source.pipe(
                    retry_backoff(
                        attempts=failures + 1, wait_initial=initial, wait_max=most, wait_jitter=jitter
                    )
                ),
                disposed=10_000,
            )
        starts = started_at(source)
        assert len(starts) == failures + 1
        for n in range(1, failures + 1):
            wait = min(most, initial * 2 ** (n - 1) + share * jitter)
            assert starts[n] - starts[n - 1] - 1 == pytest.approx(wait, abs=0.001)

    def test_the_jitter_stays_in_its_bounds(self):
        """Random first waits lie between wait_initial and wait_initial + wait_jitter, and differ."""
        waits = set()
        for _ in range(50):
            scheduler = TestScheduler()
            source = scheduler.create_cold_observable(on_error(1, LOST))
            scheduler.start(
                lambda: source.pipe(retry_backoff(attempts=2, wait_initial=10, wait_jitter=5))  # noqa: B023
            )
            first, second = started_at(source)
            waits.add(second - first - 1)
        assert all(9.999 <= wait <= 15.001 for wait in waits)
        assert len(waits) > 1

    def test_default_waits(self, monkeypatch):
        """By default the waits are 0.5, 1, 2 and 4 s, each with up to 1 s of jitter."""
        monkeypatch.setattr(random, "uniform", lambda low, high: (low + high) / 2)
        scheduler = TestScheduler()
        source = scheduler.create_cold_observable(on_error(1, LOST))
        scheduler.start(lambda: source.pipe(retry_backoff()))
        assert started_at(source) == [200, 202, 204.5, 208, 213.5]

    def test_many_attempts_do_not_overflow(self, no_jitter):
        """The wait is wait_max, without an overflow, however high the exponent."""
        scheduler = TestScheduler()
        source = scheduler.create_cold_observable(on_error(0, LOST))
        scheduler.start(
            lambda: source.pipe(retry_backoff(attempts=1100, wait_initial=1e-9, wait_max=0.1)), disposed=5000
        )
        assert len(source.subscriptions) == 1100

    @pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
    def test_a_temporary_status_is_retried(self, no_jitter, status):
        """A temporary status is a failed attempt, and at last an httpx.HTTPStatusError."""
        scheduler = TestScheduler()
        refusal = response(status)
        source = scheduler.create_cold_observable(on_next(1, P2), on_next(2, refusal), on_completed(3))
        results = scheduler.start(lambda: source.pipe(retry_backoff(attempts=2, wait_initial=10)))
        assert source.subscriptions == [subscribe(200, 202), subscribe(212, 214)]
        assert [each.time for each in results.messages] == [201, 213, 214]
        error = results.messages[-1].value.exception
        assert isinstance(error, httpx.HTTPStatusError)
        assert error.response is refusal

    @pytest.mark.parametrize("status", [200, 302, 400, 401, 403, 404, 409, 413, 501, 505])
    def test_other_statuses_pass(self, status):
        """Any other response passes, and is the end."""
        scheduler = TestScheduler()
        last = response(status)
        source = scheduler.create_cold_observable(on_next(1, last), on_completed(2))
        results = scheduler.start(lambda: source.pipe(retry_backoff()))
        assert results.messages == [on_next(201, last), on_completed(202)]
        assert source.subscriptions == [subscribe(200, 202)]

    @pytest.mark.parametrize(
        "error",
        [
            httpx.ConnectError("refused"),
            httpx.ReadError("reset"),
            httpx.WriteError("broken pipe"),
            httpx.CloseError("closing"),
            httpx.RemoteProtocolError("not HTTP"),
            httpx.ConnectTimeout("connecting"),
            httpx.WriteTimeout("writing"),
            httpx.ReadTimeout("reading"),
            httpx.PoolTimeout("waiting for a connection"),
            httpx2.ConnectError("refused"),
            httpx2.RemoteProtocolError("not HTTP"),
            httpx2.ReadTimeout("reading"),
            status_error(503),
            httpx2.HTTPStatusError("503", request=httpx2.Request("POST", URL), response=httpx2.Response(503)),
        ],
        ids=lambda error: f"{type(error).__module__}.{type(error).__name__}",
    )
    def test_a_temporary_error_is_retried(self, no_jitter, error):
        """A temporary error of httpx or of httpx2 is retried."""
        scheduler = TestScheduler()
        source = Attempts(scheduler, [on_error(1, error)], [on_completed(1)])
        results = scheduler.start(lambda: source.observable.pipe(retry_backoff(wait_initial=1)))
        assert results.messages == [on_completed(203)]

    @pytest.mark.parametrize(
        "error",
        [
            UploadTimeout("too long"),
            SourceChanged("shrank"),
            FileNotFoundError("missing"),
            PermissionError("denied"),
            ConnectionResetError("of something that is not httpx"),
            RuntimeError("can be read only once"),
            ValueError("argument"),
            httpx.UnsupportedProtocol("gopher"),
            httpx.LocalProtocolError("a header"),
            httpx.TooManyRedirects("20"),
            httpx.DecodingError("gzip"),
            status_error(404),
            type("TimeoutException", (Exception,), {})("somebody else's"),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_a_permanent_error_is_not_retried(self, error):
        """A permanent error is not retried, and is raised unchanged."""
        scheduler = TestScheduler()
        source = scheduler.create_cold_observable(on_error(1, error))
        results = scheduler.start(lambda: source.pipe(retry_backoff()))
        assert results.messages == [on_error(201, error)]
        assert source.subscriptions == [subscribe(200, 201)]

    def test_an_untrusted_certificate_is_not_retried(self):
        """An untrusted certificate is not retried, though httpx calls it a ConnectError."""
        with (
            Server(lambda connection: connection.serve(), tls=True) as server,
            pytest.raises(httpx.ConnectError, match="certificate") as caught,
        ):
            rxupload.run(upload(server.url, b"data").pipe(retry_backoff(wait_initial=0, wait_jitter=0)))
        assert server.connections == 1
        causes = []
        error: BaseException | None = caught.value
        while error is not None:
            causes.append(type(error))
            error = error.__cause__ or error.__context__
        assert ssl.SSLCertVerificationError in causes

    def test_a_used_iterator_is_not_retried(self):
        """An iterator that a failed attempt has begun to read is not retried, and the error says why."""
        up = upload(URL, iter([b"data"]), client=HandCrankedClient(refuse(pieces=1), 200))
        with pytest.raises(RuntimeError, match="once"):
            rxupload.run(up.pipe(retry_backoff(wait_initial=0, wait_jitter=0)))

    def test_on_with_types_retries_only_those(self, no_jitter):
        """With exception types in `on`, only those are retried."""
        scheduler = TestScheduler()
        source = Attempts(
            scheduler, [on_error(1, KeyError("a"))], [on_error(1, OSError())], [on_error(1, LOST)]
        )
        results = scheduler.start(
            lambda: source.observable.pipe(retry_backoff(wait_initial=1, on=(KeyError, OSError)))
        )
        assert results.messages == [on_error(206, LOST)]
        assert started_at(source) == [200, 202, 205]

    def test_on_may_be_one_type(self, no_jitter):
        """One type need not be in a tuple, and covers the statuses as well."""
        scheduler = TestScheduler()
        source = scheduler.create_cold_observable(on_next(1, response(503)))
        scheduler.start(lambda: source.pipe(retry_backoff(attempts=3, on=httpx.HTTPStatusError)))
        assert len(source.subscriptions) == 3

    def test_on_may_be_a_function(self, no_jitter):
        """A function in `on` gets every exception, and decides alone."""
        scheduler = TestScheduler()
        seen = []
        source = scheduler.create_cold_observable(on_error(1, LOST))
        results = scheduler.start(
            lambda: source.pipe(
                retry_backoff(wait_initial=1, on=lambda error: seen.append(error) or len(seen) < 3)
            )
        )
        assert seen == [LOST] * 3
        assert results.messages == [on_error(206, LOST)]

    def test_an_exception_of_on_is_the_error(self):
        """An exception of the function is the error."""
        scheduler = TestScheduler()
        raised = ZeroDivisionError()

        def on(error: Exception) -> bool:
            raise raised

        source = scheduler.create_cold_observable(on_error(1, LOST))
        results = scheduler.start(lambda: source.pipe(retry_backoff(on=on)))
        assert results.messages == [on_error(201, raised)]

    def test_retry_after_in_seconds(self, no_jitter):
        """Retry-After in seconds replaces the backoff and its jitter if it is longer."""
        scheduler = TestScheduler()
        source = Attempts(
            scheduler,
            [on_next(1, response(503, Retry_After="20"))],
            [on_next(1, response(429, Retry_After="3"))],
            [on_error(1, status_error(503, Retry_After="0"))],
            [on_completed(1)],
        )
        scheduler.start(lambda: source.observable.pipe(retry_backoff(wait_initial=4, wait_jitter=1000)))
        assert started_at(source) == [200, 221, 230, 247]  # waits: 20, 8 (more than 3), 16

    @pytest.mark.parametrize(
        "date",
        ["Thu, 01 Jan 1970 00:04:05 GMT", "Thursday, 01-Jan-70 00:04:05 GMT", "Thu Jan  1 00:04:05 1970"],
        ids=["IMF-fixdate", "RFC 850", "asctime"],
    )
    def test_retry_after_as_a_date(self, no_jitter, date):
        """Retry-After as an HTTP date, in any of three forms, counts from the scheduler's now."""
        scheduler = TestScheduler()
        source = Attempts(scheduler, [on_next(5, response(503, Retry_After=date))], [on_completed(1)])
        scheduler.start(lambda: source.observable.pipe(retry_backoff(wait_max=60)))
        assert started_at(source) == [200, 245]

    def test_retry_after_counts_from_the_servers_clock(self, no_jitter):
        """A date counts from the response's own Date if there is one, because the clocks may differ."""
        scheduler = TestScheduler()
        refusal = response(
            503, Date="Sun, 06 Nov 1994 08:49:37 GMT", Retry_After="Sun, 06 Nov 1994 08:49:49 GMT"
        )
        source = Attempts(scheduler, [on_next(1, refusal)], [on_completed(1)])
        scheduler.start(lambda: source.observable.pipe(retry_backoff()))
        assert started_at(source) == [200, 213]

    def test_retry_after_in_the_past(self, no_jitter):
        """If the date has passed, the backoff is the wait."""
        scheduler = TestScheduler()
        refusal = response(503, Retry_After="Thu, 01 Jan 1970 00:00:05 GMT")
        source = Attempts(scheduler, [on_next(1, refusal)], [on_completed(1)])
        scheduler.start(lambda: source.observable.pipe(retry_backoff(wait_initial=4)))
        assert started_at(source) == [200, 205]

    @pytest.mark.parametrize(
        "value", ["31", "9" * 5000, "Thu, 01 Jan 1970 00:10:00 GMT"], ids=lambda v: v[:9]
    )
    def test_retry_after_is_too_long(self, value):
        """If the header asks for more than wait_max, the retries end with the status's error, which says why."""
        scheduler = TestScheduler()
        refusal = response(503, Retry_After=value)
        source = scheduler.create_cold_observable(on_next(1, refusal))
        results = scheduler.start(lambda: source.pipe(retry_backoff()))
        assert [each.time for each in results.messages] == [201]
        error = results.messages[0].value.exception
        assert error.response is refusal
        (note,) = error.__notes__
        assert re.fullmatch(r"Not tried again: Retry-After is \w+ s, and the longest wait is 30 s", note)

    def test_retry_after_is_not_mentioned_if_there_is_no_retry(self):
        """The error mentions Retry-After once, and only if there would be another attempt."""
        source = reactivex.of(response(404, Retry_After="3600")).pipe(raise_for_status(), retry_backoff())
        with pytest.raises(httpx.HTTPStatusError) as caught:
            rxupload.run(source)
        assert not hasattr(caught.value, "__notes__")
        source = reactivex.of(response(503, Retry_After="3600")).pipe(retry_backoff(), retry_backoff())
        with pytest.raises(httpx.HTTPStatusError) as caught:
            rxupload.run(source)
        assert len(caught.value.__notes__) == 1

    @pytest.mark.parametrize("value", ["", "soon", "-5", "1.5", "²", "Mon, 99 Foo 2020", "1e3"])
    def test_an_invalid_retry_after_is_ignored(self, no_jitter, value):
        """A header that is neither seconds nor a date is ignored."""
        scheduler = TestScheduler()
        error = httpx.HTTPStatusError(
            "503",
            request=REQUEST,
            response=httpx.Response(503, headers=[(b"Retry-After", value.encode())], request=REQUEST),
        )
        source = Attempts(scheduler, [on_error(1, error)], [on_completed(1)])
        scheduler.start(lambda: source.observable.pipe(retry_backoff(wait_initial=4)))
        assert started_at(source) == [200, 205]

    @given(seconds=st.integers(0, 120), skew=st.integers(-(10**8), 10**8))
    def test_retry_after_forms_agree(self, seconds, skew):
        """Seconds and a date that many seconds after the response's Date give the same wait."""
        from datetime import UTC, datetime, timedelta

        date = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=skew)
        forms = [
            response(503, Retry_After=str(seconds)),
            response(
                503,
                Date=format_datetime(date, usegmt=True),
                Retry_After=format_datetime(date + timedelta(seconds=seconds), usegmt=True),
            ),
        ]
        starts = []
        for form in forms:
            scheduler = TestScheduler()
            source = Attempts(scheduler, [on_next(1, form)], [on_completed(1)])
            scheduler.start(lambda: source.observable.pipe(retry_backoff(wait_max=60, wait_jitter=0)))  # noqa: B023
            starts.append(started_at(source))
        assert starts[0] == starts[1]
        assert starts[0] == ([200] if seconds > 60 else [200, 201 + max(seconds, 0.5)])

    def test_on_retry_is_called_for_each_attempt_before_another(self, no_jitter):
        """on_retry is called before the wait, with the attempt's number, its error and the length of the wait."""
        scheduler = TestScheduler()
        refusal = response(503)
        source = Attempts(
            scheduler, [on_error(1, LOST)], [on_next(1, P0), on_next(2, refusal)], [on_completed(1)]
        )
        calls: list[tuple[float, Retry]] = []
        operator = retry_backoff(
            wait_initial=4, on_retry=lambda retry: calls.append((scheduler.clock, retry))
        )
        scheduler.start(lambda: source.observable.pipe(operator))
        assert [(when, each.attempt, each.wait) for when, each in calls] == [(201, 1, 4), (207, 2, 8)]
        assert calls[0][1] == Retry(1, LOST, 4)
        assert isinstance(calls[1][1].error, httpx.HTTPStatusError)
        assert calls[1][1].error.response is refusal
        assert started_at(source) == [200, 205, 215]

    @pytest.mark.parametrize(
        ("messages", "options"),
        [
            ([on_error(1, LOST)], {"attempts": 1}),
            ([on_error(1, LOST)], {"on": ValueError}),
            ([on_next(1, response(503, Retry_After="3600"))], {}),
            ([on_next(1, response(404)), on_completed(2)], {}),
            ([on_completed(1)], {}),
        ],
        ids=["used up", "not retryable", "Retry-After", "404", "success"],
    )
    def test_on_retry_is_not_called_for_the_last_attempt(self, messages, options):
        """If no attempt follows, on_retry is not called."""
        scheduler = TestScheduler()
        source = scheduler.create_cold_observable(*messages)
        calls: list[Retry] = []
        scheduler.start(lambda: source.pipe(retry_backoff(**options, on_retry=calls.append)))
        assert calls == []
        assert len(source.subscriptions) == 1

    def test_an_exception_of_on_retry_is_the_error(self):
        """An exception of on_retry is the error, and there is no other attempt."""
        scheduler = TestScheduler()
        source = scheduler.create_cold_observable(on_error(1, LOST))
        error = RuntimeError("no more")

        def refuse(_: Retry) -> None:
            raise error

        results = scheduler.start(lambda: source.pipe(retry_backoff(on_retry=refuse)))
        assert results.messages == [on_error(201, error)]
        assert len(source.subscriptions) == 1

    def test_on_retry_must_be_a_function(self):
        """Anything else is a TypeError at the call."""
        with pytest.raises(TypeError, match="on_retry: expected a function, got str"):
            retry_backoff(on_retry="told")

    def test_dispose_ends_a_wait(self, no_jitter):
        """Disposing during a wait ends it without a further attempt."""
        scheduler = TestScheduler()
        source = scheduler.create_cold_observable(on_error(1, LOST))
        results = scheduler.start(lambda: source.pipe(retry_backoff(wait_initial=20)), disposed=210)
        assert results.messages == []
        assert source.subscriptions == [subscribe(200, 201)]

    def test_dispose_ends_an_attempt(self, no_jitter):
        """Disposing during a later attempt disposes that attempt's subscription."""
        scheduler = TestScheduler()
        source = scheduler.create_cold_observable(on_error(10, LOST))
        scheduler.start(lambda: source.pipe(retry_backoff(wait_initial=20)), disposed=235)
        assert source.subscriptions == [subscribe(200, 210), subscribe(230, 235)]

    def test_the_number_of_the_pass_rises_over_redirects(self, no_jitter):
        """Passes over the body are counted across attempts, including redirects within an attempt."""
        scheduler = TestScheduler()
        source = Attempts(
            scheduler,
            [on_next(1, P0), on_next(2, replace(P0, attempt=2)), on_error(3, LOST)],
            [on_error(1, httpx.ConnectError("refused"))],
            [on_next(1, P0), on_next(2, replace(P1, attempt=2)), on_completed(3)],
        )
        results = scheduler.start(lambda: source.observable.pipe(retry_backoff(wait_initial=1)))
        attempts = [each.value.value.attempt for each in results.messages[:-1]]
        assert attempts == [1, 2, 3, 4]

    def test_an_exception_of_the_observer_is_not_retried(self):
        """An observer gets its own exception back, and the upload is not repeated."""
        client = HandCrankedClient()
        error = httpx.ReadTimeout("the observer's own")

        def raising(item: Any) -> None:
            raise error

        observed, _ = observe(upload(URL, b"data", client=client).pipe(retry_backoff()), raising)
        exchange = client.next_request()
        with pytest.raises(httpx.ReadTimeout):
            exchange.take_all()
        assert observed.wait().error is error
        assert client.no_request()

    def test_a_source_that_fails_in_place_keeps_the_stack_flat(self):
        """A source that fails inside subscribe is retried without a deeper stack each time."""
        depths = []

        def failing(observer: Any, scheduler: Any) -> Disposable:
            depths.append(_depth())
            observer.on_error(LOST)
            return Disposable()

        source = reactivex.create(failing)
        observed, _ = observe(
            source.pipe(retry_backoff(attempts=50, wait_initial=0, wait_jitter=0)),
            scheduler=ImmediateScheduler(),
        )
        assert observed.wait().error is LOST
        assert len(depths) == 50
        assert max(depths[1:]) == min(depths[1:])

    def test_items_after_a_failed_response_are_dropped(self):
        """Items that a source emits in place after a failed response are dropped."""

        def stubborn(observer: Any, scheduler: Any) -> Disposable:
            observer.on_next(response(503))
            observer.on_next(P0)
            observer.on_error(LOST)
            observer.on_completed()
            return Disposable()

        scheduler = TestScheduler()
        results = scheduler.start(lambda: reactivex.create(stubborn).pipe(retry_backoff(attempts=2)))
        (failed,) = results.messages
        assert isinstance(failed.value.exception, httpx.HTTPStatusError)

    @pytest.mark.parametrize(
        "make",
        [
            lambda: None,
            NewThreadScheduler,
            lambda: ThreadPoolScheduler(1),
            EventLoopScheduler,
            ImmediateScheduler,
            CurrentThreadScheduler,
        ],
        ids=["none", "new thread", "pool of one", "event loop", "immediate", "current thread"],
    )
    def test_it_works_on_every_scheduler(self, make):
        """An upload is retried on any scheduler, with real timers."""
        scheduler = make()
        up = upload(URL, b"data", client=HandCrankedClient(refuse(), 503, 201))
        observed, _ = observe(up.pipe(retry_backoff(wait_initial=0.01, wait_jitter=0)), scheduler=scheduler)
        assert observed.wait().response.status_code == 201
        if isinstance(scheduler, ThreadPoolScheduler):
            scheduler.executor.shutdown()
        if isinstance(scheduler, EventLoopScheduler):
            assert len(observed.threads) == 1
            scheduler.dispose()

    def test_in_asyncio_the_loop_waits(self):
        """In asyncio the loop waits, and cancelling during a wait ends it."""

        async def main() -> None:
            client = HandCrankedClient(refuse(), 201)
            up = upload(URL, b"data", client=client)
            result = await up.pipe(retry_backoff(wait_initial=0.01, wait_jitter=0))
            assert result.status_code == 201

            failed = asyncio.Event()
            loop = asyncio.get_running_loop()
            client = HandCrankedClient(refuse(), 201)
            waiting = upload(URL, b"data", client=client).pipe(
                ops.do_action(on_error=lambda _: loop.call_soon(failed.set)), retry_backoff(wait_initial=30)
            )
            task = asyncio.ensure_future(_awaited(waiting))
            await asyncio.wait_for(failed.wait(), PATIENCE)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert len(client.requests) == 1

        asyncio.run(main())

    def test_a_wait_holds_no_thread_of_a_pool(self):
        """While one upload waits for its next attempt, the pool's only thread is free for another."""
        scheduler = ThreadPoolScheduler(1)
        failed = threading.Event()
        waiting = upload(URL, b"data", client=HandCrankedClient(refuse())).pipe(
            ops.do_action(on_error=lambda _: failed.set()), retry_backoff(wait_initial=30)
        )
        _, subscription = observe(waiting, scheduler=scheduler)
        assert failed.wait(PATIENCE)
        other, _ = observe(upload(URL, b"data", client=HandCrankedClient(200)), scheduler=scheduler)
        assert other.wait().response.status_code == 200
        subscription.dispose()
        scheduler.executor.shutdown()

    def test_dispose_ends_the_timer(self):
        """Disposing during a wait ends the timer's thread."""
        workers: list[threading.Thread] = []

        def make_thread(target: Any) -> threading.Thread:
            workers.append(threading.Thread(target=target))
            return workers[-1]

        before = set(threading.enumerate())
        up = upload(URL, b"data", client=HandCrankedClient(refuse()))
        _, subscription = observe(
            up.pipe(retry_backoff(wait_initial=3600, wait_max=3600)),
            scheduler=NewThreadScheduler(make_thread),
        )
        workers[0].join(PATIENCE)
        # An earlier test may have left a thread that starts another one meanwhile.
        (waiting,) = [
            each for each in set(threading.enumerate()) - before if isinstance(each, threading.Timer)
        ]
        subscription.dispose()
        waiting.join(PATIENCE)
        assert not waiting.is_alive()

    @pytest.mark.parametrize(
        ("kwargs", "error", "text"),
        [
            ({"attempts": 0}, ValueError, "attempts"),
            ({"attempts": 1.5}, TypeError, "attempts"),
            ({"attempts": True}, TypeError, "attempts"),
            ({"wait_initial": -1}, ValueError, "wait_initial"),
            ({"wait_initial": "1"}, TypeError, "wait_initial"),
            ({"wait_max": float("inf")}, ValueError, "wait_max"),
            ({"wait_max": None}, TypeError, "wait_max"),
            ({"wait_jitter": float("nan")}, ValueError, "wait_jitter"),
            ({"wait_jitter": True}, TypeError, "wait_jitter"),
            ({"on": 503}, TypeError, "on"),
            ({"on": (OSError, 503)}, TypeError, "on"),
            ({"on": [OSError]}, TypeError, "on"),
            ({"on": int}, TypeError, "on"),
        ],
        ids=str,
    )
    def test_a_wrong_argument_raises_at_the_call(self, kwargs, error, text):
        """A wrong argument raises at the call, with its name."""
        with pytest.raises(error, match=f"^{text}:"):
            retry_backoff(**kwargs)


async def _awaited(source: reactivex.Observable[Any]) -> Any:
    return await source


def _depth() -> int:
    frame, depth = sys._getframe(), 0
    while frame is not None:
        frame, depth = frame.f_back, depth + 1
    return depth
