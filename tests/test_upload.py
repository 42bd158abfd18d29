"""The contract of one subscription, with a client that the test controls, and every argument of upload()."""

from __future__ import annotations

import asyncio
import io
import re
import subprocess
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
import reactivex
from hypothesis import given, settings
from hypothesis import strategies as st
from reactivex import operators as ops
from reactivex.scheduler import (
    CatchScheduler,
    CurrentThreadScheduler,
    EventLoopScheduler,
    ImmediateScheduler,
    NewThreadScheduler,
    ThreadPoolScheduler,
    TimeoutScheduler,
)
from reactivex.scheduler.eventloop import AsyncIOScheduler, AsyncIOThreadSafeScheduler
from reactivex.testing import ReactiveTest, TestScheduler
from support.hand_cranked_client import refuse
from support.held_clock import HeldClock
from support.recording_observer import check_grammar, observe
from support.scripted_server import PATIENCE

import rxupload
from rxupload import Field, File, Progress, Upload, UploadTimeout, upload
from rxupload._transfer import Disposed
from rxupload.testing import HandCrankedClient, RecordingObserver

URL = "http://upload.test/"
LARGE = bytes(3 << 20)  # several pieces


def cranked(file: Any = LARGE, **kwargs: Any) -> tuple[Upload, HandCrankedClient]:
    client = HandCrankedClient()
    return upload(URL, file, client=client, progress_interval=0, **kwargs), client


@pytest.fixture
def scheduler(request):
    """None, or a scheduler with a loop."""
    if request.param == "thread":
        yield None
        return
    loop = EventLoopScheduler()
    yield loop
    loop.dispose()


both_kinds_of_scheduler = pytest.mark.parametrize("scheduler", ["thread", "loop"], indirect=True)


class TestContract:
    def test_an_upload_is_not_iterable(self):
        """A `for` over an upload or a batch is an error, and not an endless loop."""
        for source in (upload(URL, b"x"), rxupload.upload_all([])):
            with pytest.raises(TypeError, match="not iterable"):
                iter(source)

    def test_an_upload_is_cold(self, tmp_path):
        """Nothing touches the disk or the network before subscribe, and each subscription is its own upload."""
        path = tmp_path / "late.bin"
        up, client = cranked(path)
        assert client.no_request()
        path.write_bytes(b"there now")
        observed = [observe(up)[0] for _ in range(2)]
        for _ in observed:
            exchange = client.next_request()
            assert b"there now" in exchange.take_all()
            exchange.respond()
        assert [each.wait().response.status_code for each in observed] == [200, 200]

    def test_order_of_the_notifications(self):
        """The order is Progress(0), rising Progress, one with every byte, the response, completion."""
        up, client = cranked()
        observed, _ = observe(up)
        exchange = client.next_request()
        body = exchange.take_all()
        exchange.respond(201, text="thanks")
        assert observed.wait().response.text == "thanks"
        check_grammar(observed.items, completed=True)
        assert observed.progress[0] == Progress(0, len(body))
        assert [item.sent for item in observed.progress].count(len(body)) == 1
        assert observed.progress[-1] == Progress(len(body), len(body))
        assert exchange.request.headers["Content-Length"] == str(len(body))

    def test_a_source_of_unknown_size_is_chunked(self):
        """A source of unknown size is sent chunked, without a total, and its last Progress has every byte."""
        up, client = cranked(iter([b"a" * (1 << 20), b"b" * 10]))
        observed, _ = observe(up)
        exchange = client.next_request()
        body = exchange.take_all()
        exchange.respond()
        observed.wait()
        check_grammar(observed.items, completed=True)
        assert exchange.request.headers["Transfer-Encoding"] == "chunked"
        assert "Content-Length" not in exchange.request.headers
        assert observed.progress[-1] == Progress(len(body), None)
        assert observed.progress[-1].fraction is None
        assert observed.progress[-1].percent is None

    def test_an_early_answer_ends_the_progress(self):
        """A server that answers before it has the body ends the progress without 100 %."""
        up, client = cranked()
        observed, _ = observe(up)
        exchange = client.next_request()
        exchange.take()
        exchange.respond(413)
        assert observed.wait().response.status_code == 413
        check_grammar(observed.items, completed=True)
        assert observed.progress[-1].percent == 0

    def test_a_second_pass_starts_at_zero(self):
        """A further pass starts at zero with the next attempt number, and sends the same bytes."""
        up, client = cranked()
        observed, _ = observe(up)
        exchange = client.next_request()
        first = exchange.take()
        exchange.begin_again()
        second = exchange.take_all()
        exchange.respond()
        observed.wait()
        check_grammar(observed.items, completed=True)
        assert second.startswith(first)
        assert [item.attempt for item in observed.progress if item.sent == 0] == [1, 2]
        assert observed.progress[-1] == Progress(len(second), len(second), 2)

    @pytest.mark.parametrize("status", [200, 302, 404, 500])
    def test_any_response_is_a_response(self, status):
        """404 and 500 are responses too, as in httpx, and have been read."""
        up, client = cranked(b"small")
        observed, _ = observe(up)
        exchange = client.next_request()
        exchange.take_all()
        exchange.respond(status, json={"status": status})
        assert observed.wait().response.json() == {"status": status}

    def test_progress_keeps_its_interval(self):
        """Progress comes at most once per interval, except that the first and the last always come."""
        client = HandCrankedClient()
        observed, _ = observe(upload(URL, bytes(8 << 20), client=client, progress_interval=3600))
        exchange = client.next_request()
        exchange.take_all()
        exchange.respond()
        observed.wait()
        assert [item.percent for item in observed.progress] == [0, 100]

    def test_an_error_arrives_unchanged(self):
        """on_error gets the exception that was raised, unchanged."""
        up, client = cranked()
        observed, _ = observe(up)
        error = httpx.ReadError("reset")
        client.next_request().fail(error)
        assert observed.wait().error is error
        assert not observed.is_completed

    def test_a_missing_file_is_an_error(self, tmp_path):
        """A missing file is a FileNotFoundError through on_error, with nothing sent."""
        up, client = cranked(tmp_path / "missing")
        observed, _ = observe(up)
        assert isinstance(observed.wait().error, FileNotFoundError)
        assert client.no_request()

    @both_kinds_of_scheduler
    def test_an_observer_that_raises_aborts_its_upload(self, scheduler):
        """An observer that raises aborts its upload and gets its exception through on_error."""
        up, client = cranked()
        error = ZeroDivisionError("in on_next")

        def on_next(item: Any) -> None:
            if item.sent > 0:
                raise error

        observed, _ = observe(up, on_next, scheduler=scheduler)
        exchange = client.next_request()
        with pytest.raises(ZeroDivisionError):
            exchange.take_all()
            raise exchange.end()
        assert observed.wait().error is error

    @both_kinds_of_scheduler
    def test_an_observer_that_raises_at_the_response_gets_its_exception(self, scheduler):
        """An observer that raises at the response gets that exception through on_error, and no completion."""
        up, client = cranked()
        error = ZeroDivisionError("in on_next")

        def on_next(item: Any) -> None:
            if isinstance(item, httpx.Response):
                raise error

        observed, _ = observe(up, on_next, scheduler=scheduler)
        client.next_request().respond()
        assert observed.wait().error is error
        assert not observed.is_completed

    @pytest.mark.parametrize("error", [SystemExit(), KeyboardInterrupt(), asyncio.CancelledError()])
    def test_a_base_exception_of_the_source_ends_the_upload(self, error):
        """A BaseException ends the upload too, and reaches the caller that waits."""

        def pieces() -> Any:
            yield b"first"
            raise error

        with pytest.raises(type(error)):
            upload(URL, pieces, client=HandCrankedClient(200)).run()

    def test_a_base_exception_of_the_observer_aborts_the_upload(self):
        """An observer that raises a BaseException aborts its upload, and gets it through on_error."""
        up, client = cranked()

        def on_next(item: Any) -> None:
            raise SystemExit

        observed, _ = observe(up, on_next)
        exchange = client.next_request()
        with pytest.raises(SystemExit):
            exchange.take()
        assert isinstance(observed.wait().error, SystemExit)

    def test_a_slow_observer_slows_its_own_upload(self):
        """On a thread, no further piece is taken while the observer handles an item."""
        up, client = cranked()
        go_on = threading.Event()
        observed, _ = observe(
            up, lambda item: item.sent == 0 or go_on.wait(PATIENCE) if isinstance(item, Progress) else 0
        )
        exchange = client.next_request()
        exchange.take()
        with ThreadPoolExecutor(1) as pool:
            second = pool.submit(exchange.take)
            assert not second.done()
            assert len(observed.items) <= 2
            go_on.set()
            assert second.result(PATIENCE)
        exchange.take_all()
        exchange.respond()
        observed.wait()


class TestDispose:
    def test_it_stops_the_worker(self):
        """Disposing while the client waits stops the worker at once, and nothing follows."""
        up, client = cranked()
        observed, subscription = observe(up)
        exchange = client.next_request()
        exchange.take()
        subscription.dispose()
        seen = list(observed.items)
        assert isinstance(exchange.end(), Disposed)
        assert observed.items == seen
        assert not observed.ended

    def test_it_works_from_the_observer(self):
        """After a dispose inside on_next nothing follows."""
        up, client = cranked()
        subscription = reactivex.disposable.SerialDisposable()
        observed = RecordingObserver(lambda item: subscription.dispose() if item.sent else None)
        subscription.disposable = up.subscribe(observed)
        exchange = client.next_request()
        exchange.take()
        with pytest.raises(Disposed):
            exchange.take()
        assert isinstance(exchange.end(), Disposed)
        assert len(observed.items) == 2

    def test_before_the_request_it_sends_nothing(self):
        """Disposing while the source is being opened sends nothing."""
        opening, go_on = threading.Event(), threading.Event()

        def source() -> Any:
            opening.set()
            assert go_on.wait(PATIENCE)
            closed.append(io.BytesIO(b"data"))
            return closed[0]

        closed: list[io.BytesIO] = []
        up, client = cranked(source)
        with ThreadPoolExecutor(1) as pool:
            scheduler = ThreadPoolScheduler(1)
            observed, subscription = observe(up, scheduler=scheduler)
            assert opening.wait(PATIENCE)
            pool.submit(subscription.dispose).result(PATIENCE)
            go_on.set()
            scheduler.executor.shutdown()
        assert client.no_request()
        assert closed[0].closed
        assert observed.items == []

    def test_after_the_end_it_does_nothing(self):
        """Disposing after the end does nothing."""
        up, client = cranked(b"small")
        observed, subscription = observe(up)
        exchange = client.next_request()
        exchange.take_all()
        exchange.respond()
        items = list(observed.wait().items)
        subscription.dispose()
        subscription.dispose()
        assert observed.items == items

    def test_queued_work_never_starts(self):
        """An upload that is disposed while it waits for a thread of its scheduler never starts."""
        scheduler = ThreadPoolScheduler(1)
        busy, busy_client = cranked()
        observed, _ = observe(busy, scheduler=scheduler)
        exchange = busy_client.next_request()
        waiting, waiting_client = cranked()
        never, subscription = observe(waiting, scheduler=scheduler)
        subscription.dispose()
        exchange.respond()
        observed.wait()
        scheduler.executor.shutdown()
        assert waiting_client.no_request()
        assert never.items == []

    def test_it_closes_the_sources(self, tmp_path):
        """After a dispose, the files and the generators of the upload are closed."""
        closed = threading.Event()

        def pieces() -> Any:
            try:
                while True:
                    yield bytes(1 << 20)
            finally:
                closed.set()

        up, client = cranked(pieces)
        _, subscription = observe(up)
        exchange = client.next_request()
        exchange.take()
        subscription.dispose()
        assert closed.wait(PATIENCE)

    def test_a_race_with_the_end_gives_one_end_at_most(self):
        """If dispose and the response race, there is at most one terminal notification, and no overlap."""
        for _ in range(200):
            up, client = cranked(b"small")
            observed, subscription = observe(up)
            exchange = client.next_request()
            barrier = threading.Barrier(2)

            def dispose(barrier=barrier, subscription=subscription) -> None:
                barrier.wait()
                subscription.dispose()

            thread = threading.Thread(target=dispose)
            thread.start()
            barrier.wait()
            exchange.respond()
            thread.join()
            exchange.end()
            assert not observed.faults
            assert observed.error is None


class TestSchedulers:
    @pytest.mark.parametrize(
        "scheduler",
        [None, NewThreadScheduler(), TimeoutScheduler(), "pool"],
        ids=["none", "new thread", "timeout", "pool"],
    )
    def test_the_upload_runs_on_a_thread_of_the_scheduler(self, scheduler):
        """The upload runs and notifies on one thread, which is not the subscriber's."""
        pool = ThreadPoolScheduler(1) if scheduler == "pool" else None
        up, client = cranked(b"small")
        observed, _ = observe(up, scheduler=pool or scheduler)
        exchange = client.next_request()
        exchange.take_all()
        exchange.respond()
        observed.wait()
        assert len(observed.threads) == 1
        assert threading.get_ident() not in observed.threads
        if pool:
            pool.executor.shutdown()

    @pytest.mark.parametrize(
        "scheduler", [ImmediateScheduler(), CurrentThreadScheduler()], ids=lambda s: type(s).__name__
    )
    def test_in_place_subscribe_returns_at_the_end(self, scheduler):
        """On a scheduler that works in place, subscribe returns when the upload has ended."""
        up = upload(URL, b"small", client=HandCrankedClient(201), progress_interval=0)
        observed, _ = observe(up, scheduler=scheduler)
        assert observed.threads == {threading.get_ident()}
        assert observed.response.status_code == 201

    def test_an_event_loop_scheduler_is_not_blocked(self):
        """A scheduler with one thread is not blocked; all notifications come on that thread, in order."""
        scheduler = EventLoopScheduler()
        here: list[int] = []
        up, client = cranked()
        observed, _ = observe(up, scheduler=scheduler)
        exchange = client.next_request()
        free = threading.Event()
        scheduler.schedule(lambda *_: (here.append(threading.get_ident()), free.set()))
        assert free.wait(PATIENCE)
        exchange.take_all()
        exchange.respond()
        observed.wait()
        assert observed.threads == set(here)
        check_grammar(observed.items, completed=True)
        scheduler.dispose()

    def test_a_busy_loop_skips_progress(self):
        """While the loop is busy, newer Progress replaces undelivered Progress, except the first and last of a pass."""
        scheduler = EventLoopScheduler()
        busy, go_on = threading.Event(), threading.Event()
        scheduler.schedule(lambda *_: (busy.set(), go_on.wait(PATIENCE)))
        assert busy.wait(PATIENCE)
        up, client = cranked(bytes(20 << 20))
        observed, _ = observe(up, scheduler=scheduler)
        exchange = client.next_request()
        exchange.take_all()
        exchange.begin_again()
        exchange.take_all()
        exchange.respond()
        exchange.end()
        go_on.set()
        observed.wait()
        assert [(item.attempt, item.percent) for item in observed.progress] == [
            (1, 0),
            (1, 100),
            (2, 0),
            (2, 100),
        ]
        scheduler.dispose()

    def test_unknown_scheduler_is_a_loop(self):
        """Order is kept on an unknown scheduler, even one that starts a thread for each notification."""
        up, client = cranked(bytes(20 << 20))
        observed, _ = observe(up, scheduler=CatchScheduler(NewThreadScheduler(), lambda _: False))
        exchange = client.next_request()
        exchange.take_all()
        exchange.respond()
        observed.wait()
        check_grammar(observed.items, completed=True)

    @pytest.mark.parametrize("kind", [AsyncIOScheduler, AsyncIOThreadSafeScheduler])
    def test_asyncio_stays_free(self, kind):
        """On an asyncio scheduler, notifications come on the loop, which stays free."""

        async def main() -> None:
            loop = asyncio.get_running_loop()
            up, client = cranked()
            observed, _ = observe(up, scheduler=kind(loop))
            exchange = await asyncio.to_thread(client.next_request)
            await asyncio.to_thread(exchange.take_all)
            exchange.respond()
            await asyncio.to_thread(observed.wait)
            assert observed.threads == {threading.get_ident()}
            check_grammar(observed.items, completed=True)

        asyncio.run(main())

    def test_asyncio_works_from_another_thread(self):
        """A subscription from outside the loop's thread is still notified on the loop."""
        threads: list[int] = []

        async def main() -> None:
            threads.append(threading.get_ident())
            loop = asyncio.get_running_loop()
            up, client = cranked()
            observed, _ = await asyncio.to_thread(observe, up, scheduler=AsyncIOScheduler(loop))
            exchange = await asyncio.to_thread(client.next_request)
            exchange.respond()
            await asyncio.to_thread(observed.wait)
            assert observed.threads == {threads[0]}

        asyncio.run(main())

    @pytest.mark.parametrize("loop_kind", ["asyncio", "event loop"])
    def test_a_loop_that_closes_aborts_the_upload(self, loop_kind):
        """A loop that closes aborts the upload quietly."""
        up, client = cranked()
        if loop_kind == "asyncio":
            loop = asyncio.new_event_loop()
            observed, _ = observe(up, scheduler=AsyncIOScheduler(loop))
            exchange = client.next_request()
            loop.close()
        else:
            scheduler = EventLoopScheduler()
            observed, _ = observe(up, scheduler=scheduler)
            exchange = client.next_request()
            scheduler.dispose()
        with pytest.raises(Disposed):
            exchange.take_all()
        assert isinstance(exchange.end(), Disposed)
        assert not observed.items

    def test_ctrl_c_in_place_propagates(self):
        """Ctrl-C propagates from an upload that runs in place, and its files are closed."""
        closed: list[io.BytesIO] = []

        def source() -> io.BytesIO:
            closed.append(io.BytesIO(b"data"))
            return closed[-1]

        def interrupted(_: httpx.Request) -> httpx.Response:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            upload(URL, source, client=HandCrankedClient(interrupted)).run(ImmediateScheduler())
        assert closed[0].closed


class TestRunAndAwait:
    def test_run_returns_the_response(self):
        """run() blocks and returns the response."""
        up = upload(URL, b"small", client=HandCrankedClient(201))
        assert up.run().status_code == 201

    def test_run_raises_the_error(self):
        """run() raises the upload's error."""
        with pytest.raises(httpx.ReadError):
            upload(URL, b"small", client=HandCrankedClient(refuse())).run()

    def test_run_accepts_a_pipeline(self):
        """rxupload.run() accepts any pipeline and returns its last item."""
        up = upload(URL, b"small", client=HandCrankedClient(200))
        assert rxupload.run(up.pipe(ops.map(lambda item: type(item).__name__))) == "Response"
        assert rxupload.run(reactivex.of(1, 2)) == 2

    def test_run_of_an_empty_source_raises(self):
        """rxupload.run() of a source without items raises as reactivex does."""
        with pytest.raises(reactivex.internal.SequenceContainsNoElementsError):
            rxupload.run(reactivex.empty())

    def test_run_does_not_wait_in_virtual_time(self):
        """run() would wait for ever for a clock that nobody advances, and says so."""
        client = HandCrankedClient(200)
        up = upload(URL, b"small", client=client)
        with pytest.raises(ValueError, match="scheduler: virtual time"):
            up.run(TestScheduler())
        with pytest.raises(ValueError, match="scheduler: virtual time"):
            rxupload.run(up.pipe(ops.last()), TestScheduler())
        assert client.requests == []

    def test_await_returns_the_response(self):
        """await returns the response, on a real loop."""

        async def main() -> httpx.Response:
            return await upload(URL, LARGE, client=HandCrankedClient(202))

        assert asyncio.run(main()).status_code == 202

    def test_await_works_with_retry(self):
        """`await upload(...).retry(3)` needs no further code."""
        client = HandCrankedClient(refuse(1), refuse(2), 200)

        async def main() -> Any:
            return await upload(URL, LARGE, client=client).retry(3)

        assert asyncio.run(main()).status_code == 200
        assert len(client.requests) == 3

    def test_a_cancelled_wait_for_aborts(self):
        """A cancelled asyncio.wait_for aborts the upload."""
        up, client = cranked()

        async def main() -> Any:
            waiting = asyncio.ensure_future(asyncio.wait_for(up, PATIENCE))
            exchange = await asyncio.to_thread(client.next_request)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            return await asyncio.to_thread(exchange.end)

        assert isinstance(asyncio.run(main()), Disposed)

    def test_a_wait_for_that_times_out_aborts(self, monkeypatch):
        """An asyncio.wait_for that times out raises TimeoutError and aborts the upload."""
        up, client = cranked()

        async def main() -> Any:
            loop = asyncio.get_running_loop()
            now = loop.time()
            with monkeypatch.context() as patched:
                patched.setattr(loop, "time", lambda: now)  # no timer is due before the request
                waiting = asyncio.ensure_future(asyncio.wait_for(up, 0.01))
                exchange = await asyncio.to_thread(client.next_request)
            with pytest.raises(TimeoutError):
                await waiting
            return await asyncio.to_thread(exchange.end)

        assert isinstance(asyncio.run(main()), Disposed)

    def test_progress_has_only_progress_items(self):
        """.progress has only the Progress items, completes with the upload, and uploads when subscribed to."""
        up, client = cranked()
        observed, _ = observe(up.progress)
        exchange = client.next_request()
        exchange.take_all()
        exchange.respond()
        observed.wait()
        assert observed.is_completed
        assert {type(item) for item in observed.items} == {Progress}
        assert observed.items[-1].percent == 100

    @pytest.mark.skipif(
        sys.platform == "win32", reason="a console's Ctrl-C cannot be sent to one process there"
    )
    @pytest.mark.parametrize("call", ["up.run()", "rxupload.run(up.progress)"])
    def test_ctrl_c_in_run_disposes_the_upload(self, call):
        """Ctrl-C in run() disposes the upload before KeyboardInterrupt propagates."""
        script = f"""
import os, signal, threading, rxupload
from rxupload.testing import HandCrankedClient
client = HandCrankedClient()
up = rxupload.upload("{URL}", b"small", client=client)
exchanges = []
def interrupt():
    exchanges.append(client.next_request())
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt).start()
try:
    {call}
except KeyboardInterrupt:
    print(type(exchanges[0].end()).__name__)
"""
        done = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            timeout=60,
            cwd="tests",
            check=True,
        )
        assert done.stdout == "Disposed\n"


class TestTimeout:
    def test_it_covers_the_whole_upload(self, monkeypatch):
        """timeout= ends the upload with UploadTimeout, which is an httpx.TimeoutException."""
        clock = HeldClock(monkeypatch)
        up, client = cranked(timeout=0.05)
        observed, _ = observe(up)
        exchange = client.next_request()
        clock.release()
        with pytest.raises(UploadTimeout):
            while exchange.take():
                exchange.begin_again()  # an endless source
        assert isinstance(observed.wait().error, UploadTimeout)
        assert isinstance(observed.error, httpx.TimeoutException)
        assert "0.05 s" in str(observed.error)

    def test_it_bounds_the_waits_of_a_plain_client(self, monkeypatch):
        """No single wait of a plain client outlasts the limit, and its timeout becomes UploadTimeout."""
        clock = HeldClock(monkeypatch)
        seen: list[dict[str, float]] = []

        class Transport(httpx.BaseTransport):
            def handle_request(self, request: httpx.Request) -> httpx.Response:
                seen.append(dict(request.extensions["timeout"]))
                clock.pass_time(seen[0]["read"])
                raise httpx.ReadTimeout("no response", request=request)

        with httpx.Client(transport=Transport(), timeout=None) as client:
            observed, _ = observe(upload(URL, b"small", client=client, timeout=0.05))
            assert isinstance(observed.wait().error, UploadTimeout)
        assert all(seconds == pytest.approx(0.05) for seconds in seen[0].values())

    def test_it_starts_with_the_work(self, monkeypatch):
        """The wait for a thread of the scheduler does not count."""
        clock = HeldClock(monkeypatch)
        scheduler = ThreadPoolScheduler(1)
        release = threading.Event()
        scheduler.schedule(lambda *_: release.wait(PATIENCE))
        up = upload(URL, b"small", client=HandCrankedClient(200), timeout=0.5)
        observed, _ = observe(up, scheduler=scheduler)
        clock.pass_time(0.6)  # longer than the limit, but outside it
        release.set()
        assert observed.wait().response.status_code == 200
        scheduler.executor.shutdown()


class TestInOperators:
    def test_retry_in_virtual_time(self):
        """retry subscribes again: three requests, each with its own Progress, and the response of the last."""
        scheduler = TestScheduler()
        client = HandCrankedClient(refuse(), refuse(1), 200)
        results = scheduler.start(lambda: upload(URL, b"small", client=client).pipe(ops.retry(3)))
        kinds = [
            (m.time, type(m.value.value).__name__ if m.value.kind == "N" else m.value.kind)
            for m in results.messages
        ]
        assert kinds == [
            (200, "Progress"),
            (200, "Progress"),
            (200, "Progress"),
            (200, "Response"),
            (200, "C"),
        ]
        assert len(client.requests) == 3

    def test_catch_in_virtual_time(self):
        """After an error, catch continues with an upload to another server."""
        scheduler = TestScheduler()
        failing = upload(URL, b"small", client=HandCrankedClient(refuse()))
        second = upload(URL, b"small", client=HandCrankedClient(201))
        results = scheduler.start(lambda: failing.pipe(ops.catch(second), ops.last()))
        assert [m.value.kind for m in results.messages] == ["N", "C"]
        assert results.messages[0].value.value.status_code == 201

    def test_take_until_in_virtual_time(self):
        """take_until disposes the upload at the virtual time of its signal, and nothing follows."""
        scheduler = TestScheduler()
        up, client = cranked()
        signal = scheduler.create_hot_observable(ReactiveTest.on_next(250, "stop"))
        observer = scheduler.create_observer()
        up.pipe(ops.take_until(signal)).subscribe(observer, scheduler=NewThreadScheduler())
        exchange = client.next_request()
        exchange.take()
        scheduler.advance_to(240)
        assert [m.value.kind for m in observer.messages] == ["N"]
        scheduler.advance_to(260)
        assert isinstance(exchange.end(), Disposed)
        assert [(m.time, m.value.kind) for m in observer.messages][-1] == (250, "C")
        assert [(each.subscribe, each.unsubscribe) for each in signal.subscriptions] == [(0, 250)]

    def test_timeout_in_virtual_time(self):
        """The timeout operator aborts an upload that stalls for too long."""
        scheduler = TestScheduler()
        up, client = cranked()
        observer = scheduler.create_observer()
        up.pipe(ops.timeout(100.0, scheduler=scheduler)).subscribe(observer, scheduler=NewThreadScheduler())
        exchange = client.next_request()
        exchange.take()
        scheduler.advance_to(99)
        assert [m.value.kind for m in observer.messages] == ["N"]
        scheduler.advance_to(200)
        assert isinstance(exchange.end(), Disposed)
        assert observer.messages[-1].value.kind == "E"

    def test_merge_runs_uploads_together(self):
        """merge runs uploads together, each with its own Progress and response."""
        ups = [cranked() for _ in range(3)]
        observed, _ = observe(reactivex.merge(*(up for up, _ in ups)))
        exchanges = [client.next_request() for _, client in ups]
        for exchange in exchanges:
            exchange.take()
        for status, exchange in zip([200, 201, 202], exchanges, strict=True):
            exchange.take_all()
            exchange.respond(status)
            exchange.end()
        assert observed._ended.wait(PATIENCE)
        responses = [item for item in observed.items if isinstance(item, httpx.Response)]
        assert sorted(response.status_code for response in responses) == [200, 201, 202]
        assert len([item for item in observed.progress if item.percent == 100]) == 3

    @pytest.mark.parametrize(
        "scheduler",
        [CurrentThreadScheduler(), CurrentThreadScheduler.singleton()],
        ids=["own", "singleton"],
    )
    def test_take_aborts_in_place(self, scheduler):
        """An operator that is finished aborts the upload, even in place on the trampoline."""
        taken: list[int] = []

        def script(request: httpx.Request) -> httpx.Response:
            for piece in request.stream:
                taken.append(len(piece))
            return httpx.Response(200, request=request)

        up = upload(URL, LARGE, client=HandCrankedClient(script), progress_interval=0)
        first = rxupload.run(up.pipe(ops.take(1)), scheduler)
        assert first == Progress(0, first.total)
        assert taken == []

    @settings(max_examples=60)
    @given(
        pieces=st.lists(st.integers(1, 1 << 20), min_size=1, max_size=8),
        sized=st.booleans(),
        steps=st.lists(st.sampled_from(["take", "again"]), max_size=12),
        end=st.sampled_from(["respond", "all", "fail", "dispose", "raise"]),
    )
    def test_the_order_of_notifications_always_holds(self, pieces, sized, steps, end):
        """For any body, passes and end, the order of notifications holds, and the right terminal comes once."""
        contents = [bytes(size) for size in pieces]
        size = sum(pieces) if sized else None
        up, client = cranked(File(lambda: iter(contents), size=size))
        boom = ZeroDivisionError()
        armed = threading.Event()

        def on_next(item: Any) -> None:
            if armed.is_set():
                raise boom

        observed, subscription = observe(up, on_next)
        exchange = client.next_request()
        for step in steps:
            exchange.take() if step == "take" else exchange.begin_again()
        failure = httpx.WriteError("broken")
        if end == "raise":
            armed.set()
        if end in ("respond", "raise"):
            exchange.respond()
        elif end == "all":
            exchange.begin_again()
            body = exchange.take_all()
            exchange.respond()
        elif end == "fail":
            exchange.fail(failure)
        else:
            subscription.dispose()
        exchange.end()
        if end == "dispose":
            assert not observed.ended
        else:
            observed.wait()
            assert observed.error is {"fail": failure, "raise": boom}.get(end)
        items = observed.items[:-1] if end == "raise" else observed.items
        check_grammar(items, completed=observed.is_completed)
        if end == "all":
            assert observed.progress[-1].sent == len(body)
            assert observed.progress[-1].total == (len(body) if sized else None)


class TestArguments:
    def send(self, *args: Any, **kwargs: Any) -> tuple[httpx.Request, bytes]:
        requests: list[tuple[httpx.Request, bytes]] = []

        def script(request: httpx.Request) -> httpx.Response:
            requests.append((request, b"".join(request.stream)))
            return httpx.Response(200, request=request)

        upload(*args, client=HandCrankedClient(script), **kwargs).run()
        return requests[0]

    def test_the_defaults(self, tmp_path):
        """The defaults are POST, field "file", the path's base name, and its guessed type."""
        path = tmp_path / "beach.jpg"
        path.write_bytes(b"jpeg")
        request, body = self.send(URL, path)
        assert request.method == "POST"
        assert str(request.url) == URL
        assert b'Content-Disposition: form-data; name="file"; filename="beach.jpg"\r\n' in body
        assert b"Content-Type: image/jpeg\r\n\r\njpeg\r\n" in body

    def test_the_defaults_of_bytes(self):
        """Bytes are named "upload" and have the type application/octet-stream."""
        _, body = self.send(URL, b"data")
        assert (
            b'name="file"; filename="upload"\r\nContent-Type: application/octet-stream\r\n\r\ndata\r\n'
            in body
        )

    def test_names_and_type_are_those_of_the_part(self):
        """name, filename and content_type apply to the part."""
        _, body = self.send(URL, b"data", "photo", filename="a.png", content_type="x/y")
        assert b'name="photo"; filename="a.png"\r\nContent-Type: x/y\r\n\r\ndata' in body

    def test_the_type_is_guessed_from_the_filename(self):
        """The content type is guessed from the filename that is sent."""
        _, body = self.send(URL, b"data", filename="a.png")
        assert b"Content-Type: image/png\r\n" in body

    def test_a_list_is_several_files(self):
        """A list is several files in order, with one field name unless a File has its own."""
        files = [
            b"first",
            File(b"second", name="other", filename="b.txt", content_type="t/u"),
            File(b"third"),
        ]
        _, body = self.send(URL, files, "photos", content_type="v/w")
        first, second, third = body.split(b"\r\n--")[0:3]
        assert b'name="photos"; filename="upload"\r\nContent-Type: v/w\r\n\r\nfirst' in first
        assert b'name="other"; filename="b.txt"\r\nContent-Type: t/u\r\n\r\nsecond' in second
        assert b'name="photos"; filename="upload"\r\nContent-Type: v/w\r\n\r\nthird' in third

    def test_form_fields_come_first(self):
        """Form fields come first, in order; sequences repeat, and bool is true or false."""
        _, body = self.send(URL, b"data", form_data={"z": "1", "a": [2, 2.5], "on": True, "raw": b"\n"})
        values = [part.split(b"\r\n\r\n", 1)[1] for part in body.split(b"\r\n--")[:6]]
        assert values == [b"1", b"2", b"2.5", b"true", b"\n", b"data"]

    def test_headers_are_sent(self):
        """Headers are sent, except that those about the body always come from the body."""
        headers = {
            "X-A": "b",
            "content-type": "text/evil",
            "CONTENT-LENGTH": "3",
            "Transfer-Encoding": "chunked",
        }
        request, body = self.send(URL, b"data", headers=headers, method="PUT")
        assert request.method == "PUT"
        assert request.headers["X-A"] == "b"
        assert request.headers["Content-Type"].startswith("multipart/form-data; boundary=")
        assert request.headers.get_list("Content-Length") == [str(len(body))]
        assert "Transfer-Encoding" not in request.headers

    def test_headers_of_the_client_do_not_replace_those_of_the_body(self):
        """A client's default headers do not replace the body's own either."""
        requests: list[httpx.Request] = []

        def handle(request: httpx.Request) -> httpx.Response:
            requests.append(request)
            return httpx.Response(200)

        defaults = {"Content-Type": "text/evil", "Transfer-Encoding": "chunked", "X-Client": "1"}
        with httpx.Client(transport=httpx.MockTransport(handle), headers=defaults) as client:
            upload(URL, b"data", client=client).run()
        assert requests[0].headers["Content-Type"].startswith("multipart/form-data")
        assert "Transfer-Encoding" not in requests[0].headers
        assert requests[0].headers["X-Client"] == "1"

    @pytest.mark.parametrize("client_module", [httpx, httpx2])
    def test_a_redirect_sends_the_body_again(self, client_module):
        """If redirects are followed, a 307 sends the body again, with attempt one higher."""

        def handle(request: Any) -> Any:
            body = b"".join(request.stream)
            bodies.append(body)
            if request.url.path == "/":
                return client_module.Response(307, headers={"Location": "/there"})
            return client_module.Response(200)

        bodies: list[bytes] = []

        class Transport(client_module.BaseTransport):
            def handle_request(self, request: Any) -> Any:
                return handle(request)

        with client_module.Client(transport=Transport()) as client:
            observed, _ = observe(upload(URL, b"data", client=client, follow_redirects=True))
            observed.wait()
            assert observed.items[-1].status_code == 200
            assert bodies[0] == bodies[1]
            assert [item.attempt for item in observed.progress] == [1, 1, 2, 2]
            bodies.clear()
            assert upload(URL, b"data", client=client).run().status_code == 307
            assert len(bodies) == 1

    def test_an_auth_challenge_sends_the_body_again(self):
        """An auth challenge sends the body again, with attempt one higher."""

        class Transport(httpx.BaseTransport):
            def handle_request(self, request: httpx.Request) -> httpx.Response:
                b"".join(request.stream)
                if "Authorization" in request.headers:
                    return httpx.Response(200)
                return httpx.Response(
                    401, headers={"WWW-Authenticate": 'Digest realm="r", nonce="n", qop="auth"'}
                )

        with httpx.Client(transport=Transport(), auth=httpx.DigestAuth("user", "password")) as client:
            observed, _ = observe(upload(URL, b"data", client=client))
            assert observed.wait().response.status_code == 200
        assert [item.attempt for item in observed.progress] == [1, 1, 2, 2]

    def test_a_relative_url_uses_the_base_url(self):
        """A relative URL works if the client has a base_url."""
        with httpx.Client(
            transport=httpx.MockTransport(lambda request: httpx.Response(200, text=str(request.url))),
            base_url="http://base.test/api/",
        ) as client:
            assert upload("photos", b"data", client=client).run().text == "http://base.test/api/photos"

    def test_an_iterator_uploads_once(self):
        """A second upload of an iterator is an error, with nothing sent."""
        client = HandCrankedClient(200, 200)
        up = upload(URL, iter([b"data"]), client=client)
        assert up.run().status_code == 200
        with pytest.raises(RuntimeError, match="once"):
            up.run()
        assert len(client.requests) == 1

    def test_an_unread_iterator_can_be_uploaded_again(self):
        """An iterator that a failed upload has not read uploads completely at the next attempt."""
        bodies: list[bytes] = []

        def script(request: httpx.Request) -> httpx.Response:
            bodies.append(b"".join(request.stream))
            return httpx.Response(200, request=request)

        up = upload(URL, iter([b"one", b"two"]), client=HandCrankedClient(refuse(), script))
        assert rxupload.run(up.pipe(ops.retry(2))).status_code == 200
        assert b"onetwo" in bodies[0]

    def test_an_iterator_cannot_be_redirected(self):
        """A redirect that needs an iterator again is an error, and not an empty body."""

        class Transport(httpx.BaseTransport):
            def handle_request(self, request: httpx.Request) -> httpx.Response:
                b"".join(request.stream)
                return httpx.Response(307, headers={"Location": "/there"})

        with (
            httpx.Client(transport=Transport()) as client,
            pytest.raises(RuntimeError, match="once"),
        ):
            upload(URL, iter([b"data"]), client=client, follow_redirects=True).run()

    @pytest.mark.parametrize("swapped", ["video.mp4", "a:b.jpg", "caf\u00e9", "", __file__, "C:\\film.mp4"])
    @pytest.mark.parametrize(
        "address", ["https://host/x", "HTTP://me:s3cret@host/", httpx.URL("http://host/")]
    )
    def test_swapped_arguments_are_told_as_such(self, swapped, address):
        """If the file is a URL and the URL is none, the error says that they look swapped, and quotes neither."""
        for file in (swapped, Path(swapped), [swapped], File(swapped), io.BytesIO(b"x"), b"x"):
            with pytest.raises((TypeError, ValueError)) as caught:
                upload(file, address)
            text = str(caught.value)
            assert text.startswith("url: ")
            assert text.endswith("; url and file look swapped: file is a URL")
            assert "s3cret" not in text

    def test_swapped_arguments_with_a_base_url(self):
        """There a path would do as a relative URL."""
        with (
            httpx.Client(base_url=URL) as client,
            pytest.raises(ValueError, match=r"^url: .*base_url; url and file look swapped"),
        ):
            upload("video.mp4", URL, client=client)

    def test_other_errors_of_a_url_do_not_speak_of_swapping(self):
        """A URL with a wrong scheme, or with a file that is none, is not taken for a file; a path is."""
        for url, file in (("htp://host/", URL), ("host/x", "video.mp4"), ("host/x", b"http://")):
            with pytest.raises(ValueError, match=r"^url: ") as caught:
                upload(url, file)
            assert "swapped" not in str(caught.value)
        with pytest.raises(TypeError, match=r"^url: .*Path; the URL comes first, and then the file"):
            upload(Path("video.mp4"), b"data")

    @pytest.mark.parametrize(
        ("kwargs", "error", "text"),
        [
            ({"url": "upload.test/photos"}, ValueError, "url: must begin with http"),
            ({"url": "ftp://upload.test/"}, ValueError, "url: must begin with http.* the scheme is 'ftp'"),
            ({"url": "http:///photos"}, ValueError, "url: must begin with http.* there is no host"),
            ({"url": "http://upload.test:99999/"}, ValueError, "url: a port is .* 65535, not 99999"),
            ({"url": "http://upload.test:0/"}, ValueError, "url: a port is .* not 0"),
            ({"url": "http://"}, ValueError, "url:"),
            ({"url": "http://upload.test/\ud800"}, ValueError, "url:"),
            ({"url": "/photos"}, ValueError, "url: must begin with http"),
            ({"url": "http://upload.test:port/"}, ValueError, "url:"),
            ({"url": 5}, TypeError, "url:"),
            ({"file": None}, TypeError, "file"),
            ({"file": 5}, TypeError, "file"),
            ({"file": []}, ValueError, "file"),
            ({"file": ""}, ValueError, "file"),
            ({"file": io.StringIO("text")}, TypeError, "rb"),
            ({"file": {"a": b"b"}}, TypeError, "file"),
            ({"file": [b"good", None]}, TypeError, r"file\[1\]"),
            ({"file": File(b"abc", size=-1)}, ValueError, "size"),
            ({"name": ""}, ValueError, "name"),
            ({"name": 5}, TypeError, "name"),
            ({"filename": ""}, ValueError, "filename"),
            ({"filename": 5}, TypeError, "filename"),
            ({"file": [b"a", b"b"], "filename": "one"}, ValueError, "filename"),
            ({"content_type": "text/plain\r\nX-Evil: 1"}, ValueError, "content_type"),
            ({"content_type": 5}, TypeError, "content_type"),
            ({"form_data": {"a": None}}, TypeError, "form_data"),
            ({"form_data": {5: "a"}}, TypeError, "form_data"),
            ({"form_data": "a=b"}, TypeError, "form_data: expected a mapping, or a list of"),
            ({"headers": {"X": "a\r\nY: b"}}, ValueError, "headers"),
            ({"headers": {"X": "a\nb"}}, ValueError, "headers"),
            ({"headers": {"X\r\nY": "a"}}, ValueError, "headers"),
            ({"headers": {"": "a"}}, ValueError, "headers"),
            ({"headers": {"X": "\u2605"}}, ValueError, "headers"),
            ({"headers": {"X": 5}}, TypeError, "headers"),
            ({"headers": 5}, TypeError, "headers"),
            ({"method": "PO ST"}, ValueError, "method"),
            ({"method": ""}, ValueError, "method"),
            ({"method": None}, TypeError, "method"),
            ({"timeout": 0}, ValueError, "timeout"),
            ({"timeout": -1}, ValueError, "timeout"),
            ({"timeout": float("nan")}, ValueError, "timeout"),
            ({"timeout": float("inf")}, ValueError, "timeout"),
            ({"timeout": "5"}, TypeError, "timeout"),
            ({"timeout": True}, TypeError, "timeout"),
            ({"timeout": 10**400}, ValueError, "timeout"),
            ({"progress_interval": -(10**400)}, ValueError, "progress_interval"),
            ({"rate_limit": -(10**400)}, ValueError, "rate_limit"),
            ({"raw": "no"}, TypeError, "raw"),
            ({"expect_continue": 0}, TypeError, "expect_continue"),
            ({"progress_interval": -0.1}, ValueError, "progress_interval"),
            ({"progress_interval": None}, TypeError, "progress_interval"),
            ({"client": 5}, TypeError, "client"),
            ({"client": httpx.Client}, TypeError, "client: .* call it"),
            ({"client": httpx.AsyncClient()}, TypeError, "client: an asynchronous"),
        ],
        ids=lambda value: re.sub(r" at 0x\w+", "", repr(value))[:50] if isinstance(value, dict) else "",
    )
    def test_a_wrong_argument_raises_at_the_call(self, kwargs, error, text):
        """A wrong argument raises at the call, with its name, before anything else."""
        with pytest.raises(error, match=text):
            upload(**{"url": URL, "file": b"data"} | kwargs)

    @pytest.mark.parametrize(
        "call",
        [
            lambda up: up.run(5),
            lambda up: rxupload.run(up, 5),
            lambda up: rxupload.run(up.progress, 5),
        ],
    )
    def test_run_with_an_invalid_scheduler_is_an_error(self, call):
        """run(5), as if 5 were a timeout, is an error and not an endless wait."""
        with pytest.raises(TypeError, match="scheduler"):
            call(upload(URL, b"data", client=HandCrankedClient(200)))

    @pytest.mark.parametrize(
        "call", [lambda up, loop: up.run(loop), lambda up, loop: rxupload.run(up.progress, loop)]
    )
    def test_run_on_its_own_loop_is_an_error(self, call):
        """run() with the scheduler of the running loop is an error, and not an endless wait."""

        async def main() -> None:
            with pytest.raises(RuntimeError, match=r"run\(\) would block the loop .*; await"):
                call(upload(URL, b"data"), AsyncIOScheduler(asyncio.get_running_loop()))

        asyncio.run(main())

    def test_start_with_a_loop_as_scheduler_is_an_error(self):
        """start(scheduler=loop) is an error, because it would notify on other threads."""
        with pytest.raises(TypeError, match="scheduler: expected a reactivex scheduler"):
            upload(URL, b"data").start(scheduler="loop")

    def test_run_of_another_object_is_an_error(self):
        """The error of rxupload.run() names its argument."""
        with pytest.raises(TypeError, match="source: expected an Observable, got str"):
            rxupload.run("upload")

    def test_subscribe_with_an_invalid_scheduler_is_an_error(self):
        """subscribe(scheduler=5) is an error of the upload."""
        observed, _ = observe(upload(URL, b"data", client=HandCrankedClient(200)), scheduler=5)
        assert isinstance(observed.wait().error, TypeError)

    def test_repr_shows_no_secret(self):
        """The repr of an Upload hides the secrets of its URL."""
        up = upload("http://user:password@upload.test/a?token=secret", [b"a", File(b"b", filename="b.txt")])
        assert repr(up) == "<Upload POST http://upload.test/a upload, b.txt>"

    def test_errors_show_no_credentials(self):
        """An error about the URL hides its credentials."""
        with pytest.raises(ValueError, match="url") as caught:
            upload("ftp://user:s3cret@upload.test/", b"data")
        assert "s3cret" not in "".join(traceback.format_exception(caught.value)).split("upload(")[0]
        assert "s3cret" not in str(caught.value)


class TestProgress:
    @given(st.integers(0, 10**15), st.integers(0, 10**15))
    def test_percent_and_fraction(self, one, other):
        """percent is rounded down, so 100 means every byte; fraction is from 0.0 to 1.0."""
        sent, total = sorted((one, other))
        progress = Progress(sent, total)
        assert 0.0 <= progress.fraction <= 1.0
        assert 0 <= progress.percent <= 100
        assert (progress.percent == 100) == (sent == total)

    def test_without_a_total_there_is_no_percent(self):
        """Without a total, percent and fraction are None."""
        assert Progress(5, None).percent is None
        assert Progress(5, None).fraction is None
        assert Progress(5, None).attempt == 1


def test_public_names():
    """The public names are exactly the exported ones, and each can be imported from its module."""
    assert sorted(rxupload.__all__) == rxupload.__all__
    for name in rxupload.__all__:
        assert hasattr(rxupload, name)
    public = {name for name in vars(rxupload) if not name.startswith("_")}
    modules = {name for name, value in vars(rxupload).items() if isinstance(value, type(sys))}
    assert public - modules == set(rxupload.__all__)


# What the class and the function stand on. The first call of `upload()` loads what does the work.
LOADED_BY_THE_IMPORT = {
    "rxupload",
    "rxupload._arguments",
    "rxupload._kernel",
    "rxupload._progress",
    "rxupload._run",
    "rxupload._schedulers",
    "rxupload._signals",
    "rxupload._upload",
    "rxupload._wait",
}


def test_import_is_light():
    """`from rxupload import upload` loads httpx, reactivex and nine small modules, and hardly another of Python's."""
    script = """
import sys, httpx, reactivex
before = set(sys.modules)
from rxupload import upload
print(*set(sys.modules) - before)
"""
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert {name for name in loaded if name.startswith("rxupload")} == LOADED_BY_THE_IMPORT
    assert set(loaded) - LOADED_BY_THE_IMPORT <= {"dataclasses", "numbers"}


def test_the_first_upload_loads_no_extra():
    """What only the receiver, the command or a progress bar needs is not loaded for an upload."""
    script = """
import sys
from rxupload import upload
upload("http://127.0.0.1/", b"data")
print(*{name.partition(".")[0] for name in sys.modules})
"""
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"tqdm", "starlette", "uvicorn", "python_multipart", "multipart", "argparse"} & set(loaded)


@pytest.mark.parametrize("value", [{"a": 1}, Field({"a": 1}, content_type="application/json")])
def test_a_dict_as_a_form_value_is_advised_to_be_json(value):
    """A dict has no one form in a multipart body, so the error names json.dumps()."""
    with pytest.raises(
        TypeError, match=r"form_data\['meta'\] must be .*, not dict; for JSON, use json.dumps\(\)"
    ):
        upload(URL, b"data", form_data={"meta": value})
