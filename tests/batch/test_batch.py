"""upload_all: its events, how far ahead it reads the iterable, and the isolation of uploads."""

from __future__ import annotations

import asyncio
import hashlib
import pickle
import random
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import httpx
import pytest
import reactivex
from hypothesis import given, settings
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
from reactivex.scheduler.eventloop import AsyncIOScheduler
from reactivex.subject import Subject
from reactivex.testing import ReactiveTest, TestScheduler
from support.hand_cranked_client import refuse
from support.recording_observer import observe
from support.scripted_server import PATIENCE, Server
from support.threads import no_thread_left

import rxupload
from rxupload import (
    BatchProgress,
    BatchSummary,
    ItemDone,
    ItemFailed,
    ItemProgress,
    Progress,
    UploadTransport,
    upload,
    upload_all,
)
from rxupload._batch.batch import Batch
from rxupload._threads import retire_idle
from rxupload._transfer import Disposed
from rxupload.operators import of_type, raise_for_status, retry_backoff
from rxupload.receiver import running
from rxupload.testing import Connection, Exchange, HandCrankedClient, RecordingObserver

on_next, on_error, on_completed = ReactiveTest.on_next, ReactiveTest.on_error, ReactiveTest.on_completed
subscribe = ReactiveTest.subscribe

URL = "http://upload.test/"
OK = httpx.Response(200)
LOST = httpx.ReadError("Connection reset by peer")


def of(observed: RecordingObserver, kind: type) -> list[Any]:
    return [item for item in observed.items if isinstance(item, kind)]


def summary(observed: RecordingObserver) -> BatchSummary:
    assert observed.is_completed, observed.error
    (last,) = of(observed, BatchSummary)
    assert observed.items[-1] is last
    return last


def scripted(*scripts: Any, file: Any = b"data") -> rxupload.Upload:
    return upload(URL, file, client=HandCrankedClient(*scripts))


class CountingIterable:
    """An iterable that counts the items that were read, and notes the threads that read them."""

    def __init__(self, uploads: Any) -> None:
        self._uploads = uploads
        self.count = 0
        self.threads: set[int] = set()

    def __iter__(self) -> Iterator[Any]:
        for each in self._uploads:
            self.count += 1
            self.threads.add(threading.get_ident())
            yield each


class TestVirtualTime:
    def test_events(self):
        """Events are progress, responses, the batch's progress after each end and every 50 ms, and the summary."""
        scheduler = TestScheduler()
        first = scheduler.create_cold_observable(
            on_next(10, Progress(0, 100)),
            on_next(10.02, Progress(40, 100)),
            on_next(10.06, Progress(100, 100)),
            on_next(20, OK),
            on_completed(21),
        )
        second = scheduler.create_cold_observable(on_next(30, Progress(0, 10)), on_error(40, LOST))
        results = scheduler.start(lambda: upload_all([first, second], concurrency=2))
        failed = ItemFailed(1, second, LOST)
        assert results.messages == [
            on_next(210, ItemProgress(0, first, Progress(0, 100))),
            on_next(210, BatchProgress(0, 0, 2, 0, None, 2)),
            on_next(210.02, ItemProgress(0, first, Progress(40, 100))),
            on_next(210.06, ItemProgress(0, first, Progress(100, 100))),
            on_next(210.06, BatchProgress(0, 0, 2, 100, None, 2)),
            on_next(221, ItemDone(0, first, OK)),
            on_next(221, BatchProgress(1, 0, 1, 100, None, 2)),
            on_next(230, ItemProgress(1, second, Progress(0, 10))),
            on_next(230, BatchProgress(1, 0, 1, 100, 110, 2)),
            on_next(240, failed),
            on_next(240, BatchProgress(1, 1, 0, 100, 110, 2)),
            on_next(240, BatchSummary(1, 1, Counter({200: 1}), [failed], 100, 40.0)),
            on_completed(240),
        ]
        assert first.subscriptions == [subscribe(200, 221)]
        assert second.subscriptions == [subscribe(200, 240)]

    def test_uploads_start_in_order_up_to_the_concurrency(self):
        """Uploads start in order, one at each end, at most `concurrency` at once."""
        scheduler = TestScheduler()
        lengths = [30, 10, 20, 5, 5]
        colds = [
            scheduler.create_cold_observable(on_next(length, OK), on_completed(length)) for length in lengths
        ]
        drawn = CountingIterable(colds)
        ahead = []
        results = scheduler.start(
            lambda: upload_all(drawn, concurrency=2).pipe(
                ops.do_action(lambda item: ahead.append(drawn.count))
            )
        )
        assert [cold.subscriptions for cold in colds] == [
            [subscribe(200, 230)],
            [subscribe(200, 210)],
            [subscribe(210, 230)],
            [subscribe(230, 235)],
            [subscribe(230, 235)],
        ]
        assert ahead[0] == 2
        assert results.messages[-1] == on_completed(235)

    def test_dispose_ends_all_uploads(self):
        """Disposing disposes all running uploads, and reads no more."""
        scheduler = TestScheduler()
        colds = [scheduler.create_cold_observable(on_completed(50)) for _ in range(5)]
        drawn = CountingIterable(colds)
        results = scheduler.start(lambda: upload_all(drawn, concurrency=2), disposed=270)
        assert [each.time for each in results.messages] == [250] * 4
        assert [cold.subscriptions for cold in colds] == [
            [subscribe(200, 250)],
            [subscribe(200, 250)],
            [subscribe(250, 270)],
            [subscribe(250, 270)],
            [],
        ]
        assert drawn.count == 4

    def test_a_retry_takes_back_its_bytes(self):
        """A new attempt takes back the bytes of the attempt before, so the total stays right."""
        scheduler = TestScheduler()
        cold = scheduler.create_cold_observable(
            on_next(1, Progress(0, 100)),
            on_next(2, Progress(80, 100)),
            on_next(3, Progress(0, 100, 2)),
            on_next(4, Progress(100, 100, 2)),
            on_next(5, OK),
            on_completed(5),
        )
        results = scheduler.start(lambda: upload_all([cold]))
        progress = [
            each.value.value for each in results.messages[:-1] if isinstance(each.value.value, BatchProgress)
        ]
        assert [each.sent for each in progress] == [0, 80, 0, 100, 100]
        assert {each.total for each in progress} == {100}
        assert results.messages[-2].value.value.sent == 100

    def test_the_total_is_none_until_it_is_known(self):
        """The total is None until every upload has been read and has a total; after its end, sent bytes count."""
        scheduler = TestScheduler()
        colds = [
            scheduler.create_cold_observable(on_next(10, Progress(0, 100)), on_error(50, LOST)),
            scheduler.create_cold_observable(
                on_next(20, Progress(7, None)), on_next(30, OK), on_completed(30)
            ),
            scheduler.create_cold_observable(on_error(1, FileNotFoundError())),
        ]
        results = scheduler.start(lambda: upload_all(colds, concurrency=2))
        progress = [
            (each.time, each.value.value.sent, each.value.value.total)
            for each in results.messages[:-1]
            if isinstance(each.value.value, BatchProgress)
        ]
        assert progress == [
            (210, 0, None),
            (220, 7, None),
            (230, 7, None),  # the third has not been read
            (231, 7, 107),
            (250, 7, 107),
        ]

    def test_each_subscription_is_a_batch(self):
        """A second subscription to a batch of a list uploads everything again."""
        scheduler = TestScheduler()
        cold = scheduler.create_cold_observable(on_next(1, OK), on_completed(2))
        batch = upload_all([cold, cold])
        results = scheduler.start(lambda: batch.pipe(ops.repeat(2)))
        assert len(cold.subscriptions) == 4
        assert [each.value.value.done for each in results.messages if _is(each, BatchSummary)] == [2, 2]


class TestContract:
    def test_nothing_is_read_before_subscribe(self):
        """Nothing is read before subscribe."""
        drawn = CountingIterable([scripted(200)])
        batch = upload_all(drawn)
        assert drawn.count == 0
        assert batch.run().done == 1

    def test_an_empty_iterable_gives_an_empty_summary(self):
        """An empty iterable is a summary of nothing."""
        observed, _ = observe(upload_all([]))
        last = summary(observed.wait())
        assert observed.items == [last]
        assert (last.done, last.failed, last.sent, last.errors) == (0, 0, 0, [])

    def test_failures_are_isolated(self):
        """One failed upload does not end the others; each outcome names its upload."""
        uploads = [scripted(201), scripted(refuse()), scripted(201)]
        observed, _ = observe(upload_all(uploads, concurrency=2))
        last = summary(observed.wait())
        assert (last.done, last.failed) == (2, 1)
        assert last.statuses == Counter({201: 2})
        assert {item.index: item.response.status_code for item in of(observed, ItemDone)} == {0: 201, 2: 201}
        (failed,) = of(observed, ItemFailed)
        assert last.errors == [failed]
        assert failed.upload is uploads[1]
        assert isinstance(failed.error, httpx.ReadError)
        assert all(item.upload is uploads[item.index] for item in of(observed, ItemProgress))

    @pytest.mark.parametrize("status", [302, 304, 307, 404, 500])
    @pytest.mark.parametrize("operators", [[], [raise_for_status()], [retry_backoff(attempts=1)]], ids=len)
    def test_a_response_that_is_not_2xx_has_failed(self, status, operators):
        """It has failed with the error of raise_for_status and its response; `statuses` counts all responses."""
        refused = scripted(status).pipe(*operators)
        observed, _ = observe(upload_all([scripted(204), refused, scripted(refuse())]))
        last = summary(observed.wait())
        assert (last.done, last.failed) == (1, 2)
        assert last.statuses == Counter({204: 1, status: 1})
        (error,) = (each.error for each in last.errors if each.index == 1)
        assert isinstance(error, httpx.HTTPStatusError)
        assert error.response.status_code == status
        assert pickle.loads(pickle.dumps(error)).response.status_code == status

    def test_a_redirect_in_a_batch_names_its_location(self):
        """The error of a redirect that was not followed has the note of raise_for_status."""

        def script(connection: Connection) -> None:
            connection.read_request()
            connection.respond(307, b"", "Location: /there")

        with Server(script) as server:
            last = upload_all([upload(server.url, b"data")]).run()
            assert (last.done, last.statuses) == (0, {307: 1})
            assert last.errors[0].error.__notes__[0].startswith(f"The server redirects to {server.url}there;")

    def test_an_item_may_have_operators(self):
        """An item may be any pipeline of an upload, with its own retries and raise_for_status."""
        uploads = [
            scripted(refuse(), 503, 200).pipe(retry_backoff(wait_initial=0, wait_jitter=0)),
            scripted(404).pipe(raise_for_status()),
        ]
        last = upload_all(uploads).run()
        assert (last.done, last.failed) == (1, 1)
        assert isinstance(last.errors[0].error, httpx.HTTPStatusError)

    def test_an_upload_without_a_response_has_failed(self):
        """An item that completes without a response has failed."""
        last = upload_all([scripted(200).progress, reactivex.empty()]).run()
        assert last.failed == 2
        assert all("response" in str(each.error) for each in last.errors)

    @pytest.mark.parametrize("scheduler", [None, "loop", "in place"])
    def test_an_upload_that_ends_with_something_else_has_failed(self, scheduler):
        """An item that does not end with a response has failed, even a batch, and the others continue."""
        scheduler = {"loop": EventLoopScheduler(), "in place": ImmediateScheduler()}.get(scheduler)
        inner = upload_all([scripted(200)])
        items = [scripted(200).pipe(ops.map(str)), inner, scripted(200)]
        observed, _ = observe(upload_all(items, concurrency=1), scheduler=scheduler)
        last = summary(observed.wait())
        assert last.statuses == {200: 1}
        assert [str(failed.error) for failed in last.errors] == [
            "uploads: [0] ended with a str, and not with its response",
            "uploads: [1] ended with a BatchSummary, and not with its response",
        ]

    def test_an_iterable_that_raises_ends_the_batch(self):
        """If the iterable raises, the running uploads finish; then comes the error, without a summary."""
        client = HandCrankedClient()
        error = OSError("the folder is gone")

        def uploads() -> Iterator[Any]:
            yield upload(URL, b"data", client=client)
            raise error

        observed, _ = observe(upload_all(uploads()))
        exchange = client.next_request()
        assert not observed.ended
        exchange.take_all()
        exchange.respond(201)
        assert observed.wait().error is error
        assert of(observed, ItemDone)[0].response.status_code == 201
        assert of(observed, BatchSummary) == []

    @pytest.mark.parametrize("scheduler", [None, "loop", "in place"])
    def test_an_item_that_is_no_observable_ends_the_batch(self, scheduler):
        """An item that is not an Observable ends the batch with a TypeError that gives its position."""
        scheduler = {"loop": EventLoopScheduler(), "in place": ImmediateScheduler()}.get(scheduler)
        observed, _ = observe(upload_all(iter([scripted(200), "beach.jpg"])), scheduler=scheduler)
        assert isinstance(observed.wait().error, TypeError)
        assert "uploads" in str(observed.error)
        assert "[1]" in str(observed.error)
        assert len(of(observed, ItemDone)) == 1

    def test_an_exception_of_subscribe_fails_the_item(self):
        """An item with a subscribe that raises has failed, even after its end, and the others continue."""

        def raising(observer: Any, scheduler: Any) -> Any:
            raise ZeroDivisionError

        def raising_late(observer: Any, scheduler: Any) -> Any:
            observer.on_next(OK)
            observer.on_completed()
            raise ZeroDivisionError

        items = [reactivex.create(raising), reactivex.create(raising_late), scripted(200)]
        last = upload_all(items, concurrency=1).run()
        assert (last.done, last.failed) == (2, 1)

    def test_an_exit_in_subscribe_fails_the_item(self):
        """A BaseException fails its item and the others continue; on the current thread it ends the batch."""

        def exiting(*_: Any) -> Any:
            raise SystemExit

        items = [reactivex.create(exiting), scripted(200)]
        last = upload_all(items, concurrency=1).run()
        assert (last.done, last.failed) == (1, 1)
        assert isinstance(last.errors[0].error, SystemExit)
        setting, observed = Subject[Any](), RecordingObserver()
        with pytest.raises(SystemExit):
            upload_all(items, pause=setting).subscribe(observed, scheduler=CurrentThreadScheduler())
        assert "SystemExit" in repr(observed.wait().error)
        assert not setting.observers

    @pytest.mark.parametrize("end", ["dispose", "setting"])
    def test_an_item_that_raises_when_disposed_is_logged(self, caplog, end):
        """The exception is logged; all uploads, the settings and the first error still come to their end."""
        setting, started, disposed = Subject[Any](), threading.Event(), []
        bad, good = Disposable([].pop), Disposable(lambda: disposed.append(True))
        items = [reactivex.create(lambda *_, each=each: each) for each in (bad, good)]
        items.append(reactivex.create(lambda *_: started.set()))
        observed, subscription = observe(upload_all(items, pause=setting))
        assert started.wait(PATIENCE)
        if end == "dispose":
            subscription.dispose()
        else:
            setting.on_error(LOST)
            assert observed.wait().error is LOST
        assert disposed == [True]
        assert not setting.observers
        assert len(caplog.records) == 1

    def test_ctrl_c_in_the_iterable_propagates(self):
        """Ctrl-C propagates while the iterable is read on the current thread."""

        def uploads() -> Iterator[Any]:
            yield scripted(200)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            observe(upload_all(uploads()), scheduler=ImmediateScheduler())

    @pytest.mark.parametrize("scheduler", [ImmediateScheduler(), CurrentThreadScheduler()])
    def test_ctrl_c_in_an_upload_ends_the_batch(self, scheduler):
        """Ctrl-C during an upload on the current thread ends the batch: no more is read, the settings are released."""

        def interrupted(_: httpx.Request) -> httpx.Response:
            raise KeyboardInterrupt

        setting = Subject[Any]()
        drawn = CountingIterable(scripted(interrupted) for _ in range(3))
        observed = RecordingObserver()
        with pytest.raises(KeyboardInterrupt):
            upload_all(drawn, concurrency=1, pause=setting).subscribe(observed, scheduler=scheduler)
        assert "KeyboardInterrupt" in repr(observed.wait().error)
        assert drawn.count == 1
        assert not of(observed, ItemFailed)
        assert not setting.observers

    def test_an_iterable_that_exits_ends_the_batch(self):
        """Any exception of the iterable ends the batch, which never waits for ever."""

        def uploads() -> Iterator[Any]:
            yield scripted(200)
            raise SystemExit

        observed, _ = observe(upload_all(uploads()))
        assert "SystemExit" in repr(observed.wait().error)

    def test_an_iterator_makes_one_batch(self):
        """A second subscription to a batch of an iterator is an error, not an empty batch."""
        batch = upload_all(iter([scripted(200)]))
        assert batch.run().done == 1
        with pytest.raises(RuntimeError, match="once"):
            batch.run()

    @pytest.mark.parametrize("scheduler", [None, "loop"])
    def test_an_observer_that_raises_aborts_the_uploads(self, scheduler):
        """An observer that raises aborts all running uploads, and gets its exception."""
        scheduler = EventLoopScheduler() if scheduler else None
        client = HandCrankedClient()
        error = ZeroDivisionError("in on_next")

        def raising(item: Any) -> None:
            raise error

        drawn = CountingIterable(upload(URL, b"data", client=client) for _ in range(3))
        observed, _ = observe(upload_all(drawn, concurrency=2), raising, scheduler=scheduler)
        exchanges = [client.next_request() for _ in range(2)]
        with pytest.raises(Disposed):
            exchanges[1].take_all()
            raise exchanges[1].end()
        assert observed.wait().error is error
        assert isinstance(exchanges[0].end(), Disposed)
        assert drawn.count == 2

    def test_an_observer_that_raises_in_place_reads_no_more(self):
        """On the current thread too, such an observer gets its exception, and no more is read."""
        error = ZeroDivisionError("in on_next")

        def raising(item: Any) -> None:
            if isinstance(item, ItemDone):
                raise error

        drawn = CountingIterable(scripted(200) for _ in range(3))
        observed, _ = observe(upload_all(drawn), raising, scheduler=ImmediateScheduler())
        assert observed.wait().error is error
        assert drawn.count == 1

    @pytest.mark.parametrize(
        ("kwargs", "error", "text"),
        [
            ({"uploads": 5}, TypeError, "uploads"),
            ({"uploads": None}, TypeError, "uploads"),
            ({"uploads": upload(URL, b"data")}, TypeError, "uploads"),
            ({"uploads": "beach.jpg"}, TypeError, r"uploads: .* such as \[upload\(url, file\)\], got str"),
            ({"uploads": b"data"}, TypeError, r"uploads: .* got bytes"),
            ({"uploads": bytearray(b"data")}, TypeError, r"uploads: .* got bytearray"),
            (
                {"uploads": Path("beach.jpg")},
                TypeError,
                r"uploads: .* such as \[upload\(url, file\)\], got \w*Path",
            ),
            ({"uploads": ["beach.jpg"]}, TypeError, r"uploads.*\[0\]"),
            ({"uploads": (upload(URL, b"data"), None)}, TypeError, r"uploads.*\[1\]"),
            ({"concurrency": 0}, ValueError, "concurrency"),
            ({"concurrency": -1}, ValueError, "concurrency"),
            ({"concurrency": 2.0}, TypeError, "concurrency"),
            ({"concurrency": True}, TypeError, "concurrency"),
            ({"concurrency": None}, TypeError, "concurrency"),
        ],
        ids=str,
    )
    def test_a_wrong_argument_raises_at_the_call(self, kwargs, error, text):
        """A wrong argument raises at the call, with its name."""
        with pytest.raises(error, match=text):
            upload_all(**{"uploads": []} | kwargs)


class TestDrawing:
    def test_an_upload_is_read_when_it_can_run(self):
        """An upload is read from the iterable only when it can run."""
        client = HandCrankedClient()
        drawn = CountingIterable(upload(URL, b"data", client=client) for _ in range(6))
        ends: SimpleQueue[int] = SimpleQueue()
        observed, _ = observe(
            upload_all(drawn, concurrency=2),
            lambda item: ends.put(item.done) if isinstance(item, BatchProgress) and item.done else None,
        )
        exchanges = [client.next_request() for _ in range(2)]
        for n in range(6):
            assert drawn.count == min(6, n + 2)
            exchange = exchanges.pop(0)
            exchange.take_all()
            exchange.respond()
            while ends.get(timeout=PATIENCE) != n + 1:
                pass
            if n < 4:
                exchanges.append(client.next_request())
        assert summary(observed.wait()).done == 6

    def test_an_iterable_that_blocks_delays_no_upload(self):
        """An iterable that blocks delays neither the running uploads nor their events."""
        client = HandCrankedClient()
        go_on = threading.Event()

        def uploads() -> Iterator[Any]:
            yield upload(URL, b"data", client=client)
            assert go_on.wait(PATIENCE)
            yield upload(URL, b"data", client=client)

        done = threading.Event()
        observed, _ = observe(
            upload_all(uploads()), lambda item: done.set() if isinstance(item, ItemDone) else None
        )
        exchange = client.next_request()
        exchange.take_all()
        exchange.respond()
        assert done.wait(PATIENCE)
        go_on.set()
        exchange = client.next_request()
        exchange.take_all()
        exchange.respond()
        assert summary(observed.wait()).done == 2

    def test_dispose_returns_while_the_iterable_blocks(self):
        """Disposing returns while the iterable blocks, and a later item is not started."""
        client = HandCrankedClient()
        drawing, go_on = threading.Event(), threading.Event()
        thread: list[threading.Thread] = []

        def uploads() -> Iterator[Any]:
            thread.append(threading.current_thread())
            drawing.set()
            assert go_on.wait(PATIENCE)
            yield upload(URL, b"data", client=client)

        observed, subscription = observe(upload_all(uploads()))
        assert drawing.wait(PATIENCE)
        subscription.dispose()
        go_on.set()
        retire_idle()
        thread[0].join(PATIENCE)
        assert not thread[0].is_alive()
        assert client.no_request()
        assert observed.items == []

    @pytest.mark.parametrize("make", [lambda: None, EventLoopScheduler], ids=["threads", "loop"])
    def test_one_thread_reads(self, make):
        """One thread reads the iterable; it is neither the subscriber's nor the loop's."""
        scheduler = make()
        drawn = CountingIterable(scripted(200) for _ in range(20))
        observed, _ = observe(upload_all(drawn), scheduler=scheduler)
        summary(observed.wait())
        assert len(drawn.threads) == 1
        assert threading.get_ident() not in drawn.threads
        if scheduler is not None:
            assert drawn.threads.isdisjoint(observed.threads)
            scheduler.dispose()

    def test_dispose_ends_the_reading_thread(self):
        """After a dispose, no thread of the batch waits for room."""
        client = HandCrankedClient()
        with no_thread_left():
            _, subscription = observe(upload_all([upload(URL, b"data", client=client)] * 3, concurrency=1))
            exchange = client.next_request()
            subscription.dispose()
            assert isinstance(exchange.end(), Disposed)


class TestDispose:
    def test_it_aborts_all_running_uploads(self):
        """Disposing aborts every running upload, returns at once, and nothing follows."""
        client = HandCrankedClient()
        drawn = CountingIterable(upload(URL, b"data", client=client) for _ in range(9))
        observed, subscription = observe(upload_all(drawn, concurrency=3))
        exchanges = [client.next_request() for _ in range(3)]
        subscription.dispose()
        seen = list(observed.items)
        for exchange in exchanges:
            assert isinstance(exchange.end(), Disposed)
        assert drawn.count == 3
        assert observed.items == seen
        assert not observed.ended

    def test_it_works_from_the_observer(self):
        """Disposing inside on_next, as take() does, aborts the rest, and nothing follows."""
        client = HandCrankedClient()
        batch = upload_all([upload(URL, b"data", client=client)] * 5, concurrency=2)
        observed, _ = observe(batch.pipe(of_type(ItemDone), ops.take(1)))
        first, second = client.next_request(), client.next_request()
        first.take_all()
        first.respond()
        observed.wait()
        assert isinstance(second.end(), Disposed)
        assert len(observed.items) == 1

    def test_it_returns_while_the_observer_is_slow(self):
        """Disposing from another thread returns while the observer handles an item."""
        client = HandCrankedClient()
        there, go_on = threading.Event(), threading.Event()

        def slow(item: Any) -> None:
            there.set()
            assert go_on.wait(PATIENCE)

        observed, subscription = observe(upload_all([upload(URL, b"data", client=client)] * 2), slow)
        exchanges = [client.next_request() for _ in range(2)]
        exchanges[0]._steps.put(lambda: exchanges[0]._next_piece() and None)
        assert there.wait(PATIENCE)
        subscription.dispose()
        assert isinstance(exchanges[1].end(), Disposed)
        assert len(observed.items) == 1
        go_on.set()
        assert isinstance(exchanges[0].end(), Disposed)
        assert len(observed.items) == 1

    def test_a_race_with_the_ends_gives_one_end_at_most(self):
        """If dispose and the ends race, there is at most one terminal notification, and no overlap."""
        for n in range(100):
            observed, subscription = observe(upload_all([scripted(200) for _ in range(n % 7)]))
            subscription.dispose()
            assert not observed.faults
            assert observed.error is None


class TestSchedulers:
    @pytest.mark.parametrize(
        "make",
        [lambda: None, NewThreadScheduler, lambda: ThreadPoolScheduler(1), lambda: ThreadPoolScheduler(3)],
        ids=["none", "new thread", "pool of one", "pool of three"],
    )
    def test_notifications_on_threads_never_overlap(self, make):
        """On threads, notifications come on the uploads' threads, and never overlap."""
        scheduler = make()
        uploads = [scripted(200, file=bytes(3 << 20)) for _ in range(12)]
        observed, _ = observe(upload_all(uploads, concurrency=5), scheduler=scheduler)
        assert summary(observed.wait()).done == 12
        assert threading.get_ident() not in observed.threads
        if isinstance(scheduler, ThreadPoolScheduler):
            scheduler.executor.shutdown()

    def test_a_slow_observer_slows_the_uploads(self):
        """On threads, a slow observer slows the uploads, so that no events pile up."""
        go_on = threading.Event()
        client = HandCrankedClient()
        observed, _ = observe(
            upload_all([upload(URL, b"data", client=client) for _ in range(2)]),
            lambda item: go_on.wait(PATIENCE),
        )
        exchanges = [client.next_request() for _ in range(2)]
        for exchange in exchanges:
            exchange._steps.put(lambda exchange=exchange: exchange._next_piece() and None)
            exchange.respond()
        assert len(observed.items) <= 1
        go_on.set()
        assert summary(observed.wait()).done == 2

    def test_the_observer_is_called_under_no_lock(self, monkeypatch):
        """While the observer works, any thread can take the locks of the batch, which itself waits for the observer."""
        made: list[Batch] = []

        class Noted(Batch):
            def __init__(self, *args: Any) -> None:
                super().__init__(*args)
                made.append(self)

        monkeypatch.setattr(sys.modules["rxupload._batch.upload_all"], "Batch", Noted)
        free: list[bool] = []

        def look() -> None:
            for lock in (made[0]._lock, made[0]._room):
                # The thread that draws holds one for a moment, as it begins to wait for room.
                free.append(lock.acquire(timeout=PATIENCE))
                if free[-1]:
                    lock.release()

        def on_item(_: Any) -> None:
            thread = threading.Thread(target=look)
            thread.start()
            thread.join()
            assert all(free)

        observed, _ = observe(upload_all([scripted(200) for _ in range(5)], concurrency=1), on_item)
        assert summary(observed.wait()).done == 5
        assert len(free) == 2 * len(observed.items)

    def test_no_upload_delivers_for_the_others_for_ever(self):
        """An upload goes on when its own event is delivered, however many events the others bring meanwhile."""
        is_done, meeting = threading.Event(), threading.Barrier(4)

        def busy(observer: Any, _: Any) -> Any:
            def work() -> None:
                meeting.wait(PATIENCE)
                sent = 0
                while not is_done.is_set() and sent < 100_000:
                    observer.on_next(Progress(sent := sent + 1, None))
                observer.on_next(OK)
                observer.on_completed()

            threading.Thread(target=work).start()
            return Disposable()

        def single(observer: Any, _: Any) -> Any:
            def work() -> None:
                meeting.wait(PATIENCE)
                observer.on_next(Progress(1, None))
                is_done.set()
                observer.on_next(OK)
                observer.on_completed()

            threading.Thread(target=work).start()
            return Disposable()

        uploads = [reactivex.create(single), *(reactivex.create(busy) for _ in range(3))]
        observed, _ = observe(upload_all(uploads))
        assert summary(observed.wait()).done == 4
        assert all(item.progress.sent < 100_000 for item in of(observed, ItemProgress))

    def test_an_error_of_a_setting_does_not_wait_for_the_observer(self):
        """A setting that fails while the observer works does not wait for it, and the observer gets the error later."""
        pause: Subject[Any] = Subject()
        client = HandCrankedClient()

        def on_item(_: Any) -> None:
            thread = threading.Thread(target=pause.on_error, args=(LOST,))
            thread.start()
            thread.join(PATIENCE)
            assert not thread.is_alive()

        observed, _ = observe(upload_all([upload(URL, b"data", client=client)], pause=pause), on_item)
        exchange = client.next_request()
        exchange._steps.put(lambda: exchange._next_piece() and None)
        assert observed.wait().error is LOST
        assert [type(item) for item in observed.items] == [ItemProgress, BatchProgress]  # queued together

    def test_a_loop_gets_every_notification(self):
        """Every notification comes on the loop, whichever thread the upload uses, and the loop never blocks."""
        scheduler = EventLoopScheduler()
        here: list[int] = []
        scheduler.schedule(lambda *_: here.append(threading.get_ident()))
        elsewhere = scripted(200).pipe(ops.observe_on(NewThreadScheduler()))
        observed, _ = observe(upload_all([scripted(200), elsewhere, scripted(refuse())]), scheduler=scheduler)
        assert summary(observed.wait()).done == 2
        assert observed.threads == set(here)
        scheduler.dispose()

    def test_await_gives_the_summary(self):
        """In asyncio a batch is awaitable; uploads are subscribed to and notify on the loop."""

        async def main() -> BatchSummary:
            threads = set()
            note = ops.do_action(lambda item: threads.add(threading.get_ident()))
            drawn = CountingIterable(scripted(201).pipe(note) for _ in range(10))
            result = await upload_all(drawn)
            assert threads == {threading.get_ident()}
            assert threading.get_ident() not in drawn.threads
            return result

        assert asyncio.run(main()).statuses == Counter({201: 10})

    def test_cancelling_the_await_aborts_the_uploads(self):
        """Cancelling the await aborts all running uploads."""
        client = HandCrankedClient()

        async def main() -> list[Exchange]:
            task = asyncio.ensure_future(_awaited(upload_all([upload(URL, b"data", client=client)] * 9)))
            exchanges = [await asyncio.to_thread(client.next_request) for _ in range(4)]
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return exchanges

        for exchange in asyncio.run(main()):
            assert isinstance(exchange.end(), Disposed)
        assert client.no_request()

    def test_a_loop_that_closes_aborts_the_batch(self):
        """A loop that closes aborts the batch quietly, and no thread of it is left."""
        client = HandCrankedClient()

        async def main() -> list[Exchange]:
            loop = asyncio.get_running_loop()
            observe(upload_all([upload(URL, b"data", client=client)] * 9), scheduler=AsyncIOScheduler(loop))
            return [await asyncio.to_thread(client.next_request) for _ in range(4)]

        with no_thread_left():
            for exchange in asyncio.run(main()):
                with pytest.raises(Disposed):  # each finds out when it looks
                    exchange.take_all()
                    raise exchange.end()
        assert client.no_request()

    @pytest.mark.parametrize(
        "scheduler", [ImmediateScheduler(), CurrentThreadScheduler()], ids=lambda s: type(s).__name__
    )
    def test_in_place_uploads_run_one_after_the_other(self, scheduler):
        """On the current thread, subscribe returns when all is done, with a stack of constant depth."""
        drawn = CountingIterable(scripted(200) for _ in range(sys.getrecursionlimit()))
        observed, _ = observe(upload_all(drawn), scheduler=scheduler)
        assert observed.is_completed
        assert summary(observed).done == sys.getrecursionlimit()
        assert observed.threads == drawn.threads == {threading.get_ident()}

    def test_in_place_a_retry_lets_the_next_upload_run(self):
        """On the current thread, an upload that waits for its next attempt lets the next upload run."""
        waiting = scripted(refuse(), 200).pipe(retry_backoff(wait_initial=0.01, wait_jitter=0))
        observed, _ = observe(
            upload_all([waiting, scripted(200), scripted(200)], concurrency=2),
            scheduler=ImmediateScheduler(),
        )
        assert summary(observed.wait()).done == 3

    def test_an_event_from_within_the_observer_comes_later(self):
        """An event that an upload emits from within the observer is delivered when the observer has returned."""
        subject = Subject()

        def on_item(item: Any) -> None:
            if isinstance(item, ItemDone) and item.index == 1:
                subject.on_next(OK)
                subject.on_completed()

        observed, _ = observe(upload_all([subject, scripted(200)]), on_item, scheduler=ImmediateScheduler())
        assert summary(observed.wait()).done == 2


def test_a_successful_upload_is_released():
    """The batch keeps no reference to an upload that has succeeded."""
    import gc
    import weakref

    made = []

    def uploads() -> Iterator[Any]:
        for _ in range(50):
            each = scripted(200)
            made.append(weakref.ref(each))
            yield each
            del each

    alive = []

    def on_item(item: Any) -> None:
        if isinstance(item, ItemDone) and item.index == 40:
            del item
            gc.collect()
            alive.append(sum(ref() is not None for ref in made))

    # The observer must keep nothing, so this is not a RecordingObserver.
    upload_all(uploads(), concurrency=2).subscribe(on_item, scheduler=ImmediateScheduler())
    assert alive[0] <= 4


@st.composite
def items(draw: Any) -> tuple[list[Progress], str | int]:
    """An upload's Progress items, and its end: a status, or how it fails."""
    total = draw(st.none() | st.integers(0, 1000))
    progress: list[Progress] = []
    for attempt in range(1, draw(st.integers(0, 3)) + 1):
        steps = draw(st.sets(st.integers(1, 1000 if total is None else max(total, 1)), max_size=3))
        progress += [Progress(sent, total, attempt) for sent in [0, *sorted(steps)]]
    return progress, draw(st.sampled_from([200, 201, 404, 503, "error", "empty", "raise"]))


class ConcurrencyGauge:
    """Measures how many of its uploads run at once, at most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.now = self.most = 0
        self.order: list[int] = []

    def upload(self, index: int, progress: list[Progress], end: str | int) -> reactivex.Observable[Any]:
        def work(observer: Any) -> None:
            for item in progress:
                observer.on_next(item)
            with self._lock:
                self.now -= 1
            if end == "error":
                observer.on_error(LOST)
                return
            if end != "empty":
                observer.on_next(httpx.Response(int(end)))
            observer.on_completed()

        def subscribe(observer: Any, scheduler: Any) -> Any:
            self.order.append(index)
            if end == "raise":
                raise LOST
            with self._lock:
                self.now += 1
                self.most = max(self.most, self.now)
            if scheduler is None:
                threading.Thread(target=work, args=(observer,)).start()
                return Disposable()
            return scheduler.schedule(lambda *_: work(observer))

        return reactivex.create(subscribe)


@contextmanager
def scheduler_of(kind: str) -> Iterator[Any]:
    with ExitStack() as stack:
        scheduler: Any = {
            "none": lambda: None,
            "new thread": NewThreadScheduler,
            "pool": lambda: ThreadPoolScheduler(2),
            "loop": EventLoopScheduler,
            "in place": ImmediateScheduler,
            "virtual": TestScheduler,
        }[kind]()
        if kind == "pool":
            stack.callback(scheduler.executor.shutdown)
        if kind == "loop":
            stack.callback(scheduler.dispose)
        yield scheduler


@pytest.mark.parametrize("kind", ["none", "new thread", "pool", "loop", "in place", "virtual"])
@given(batch=st.lists(items(), max_size=12), concurrency=st.integers(1, 5))
@settings(max_examples=60)
def test_any_batch_has_the_right_events(kind, batch, concurrency):
    """Any uploads, outcomes and concurrency give the right events, a summary, and one end."""
    gauge = ConcurrencyGauge()
    uploads = [gauge.upload(index, *each) for index, each in enumerate(batch)]
    with scheduler_of(kind) as scheduler:
        observed, _ = observe(upload_all(iter(uploads), concurrency=concurrency), scheduler=scheduler)
        if kind == "virtual":
            scheduler.start()
        last = summary(observed.wait())

    assert gauge.most <= concurrency
    assert gauge.order == list(range(len(batch)))
    for index, (progress, end) in enumerate(batch):
        own = [item for item in observed.items if getattr(item, "index", None) == index]
        shown = [] if end == "raise" else progress
        assert [item.progress for item in own[:-1]] == shown
        outcome = own[-1]
        assert outcome.upload is uploads[index]
        assert isinstance(outcome, ItemDone if end in (200, 201) else ItemFailed)
        if isinstance(outcome, ItemDone):
            assert outcome.response.status_code == end
        elif isinstance(end, int):
            assert outcome.error.response.status_code == end
        else:
            assert (outcome.error is LOST) == (end != "empty")

    statuses = Counter(end for _, end in batch if isinstance(end, int))
    successes = sum(end in (200, 201) for _, end in batch)
    sent = sum(progress[-1].sent for progress, end in batch if progress and end != "raise")
    assert (last.done, last.failed) == (successes, len(batch) - successes)
    assert last.statuses == statuses
    assert sorted(each.index for each in last.errors) == [
        index for index, (_, end) in enumerate(batch) if end not in (200, 201)
    ]
    assert last.sent == sent
    check_totals(observed.items)


def check_totals(events: list[Any]) -> None:
    """Each BatchProgress is the sum of the events before it, and one follows each end."""
    progress: dict[int, Progress] = {}
    done = failed = 0
    for event, following in zip(events, [*events[1:], None], strict=True):
        if isinstance(event, ItemProgress):
            progress[event.index] = event.progress
        elif isinstance(event, ItemDone | ItemFailed):
            done += isinstance(event, ItemDone)
            failed += isinstance(event, ItemFailed)
            assert isinstance(following, BatchProgress)
        elif isinstance(event, BatchProgress):
            assert (event.done, event.failed) == (done, failed)
            assert event.sent == sum(each.sent for each in progress.values())
    if isinstance(events[-1], BatchSummary) and len(events) > 1:
        final = events[-2]
        assert final.running == 0
        assert final.sent == events[-1].sent


# End to end: generated files, the receiver, faults.


class Faulty(httpx.BaseTransport):
    """Treats the first attempt of a request as `fault` says for its filename, like a bad network or server."""

    def __init__(self, fault: Callable[[int, int], str | None]) -> None:
        self._transport = UploadTransport()
        self._fault = fault
        self.attempts: Counter[int] = Counter()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        index = int(request.headers["X-Index"])
        self.attempts[index] += 1
        fault = self._fault(index, self.attempts[index])
        if fault == "refused":
            raise httpx.ConnectError("Connection refused", request=request)
        if fault == "status":
            for _ in request.stream:
                pass
            return httpx.Response(503, request=request)
        if fault == "cut":
            request.stream = _CutShort(request.stream)
        response = self._transport.handle_request(request)
        if fault == "lost":
            response.close()
            raise httpx.ReadError("Connection reset by peer", request=request)
        return response

    def close(self) -> None:
        self._transport.close()


class _CutShort(httpx.SyncByteStream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._stream:
            yield piece[: len(piece) // 2]
            raise httpx.WriteError("Broken pipe")


def content_of(index: int) -> bytes:
    """The bytes of a generated file: 1 to 64 KiB, the same at every call."""
    generator = random.Random(index)
    return generator.randbytes(generator.randint(1 << 10, 64 << 10))


def fault_of(index: int, attempt: int) -> str | None:
    """The fault of an attempt: 3 % of the files have one at first, and one in a thousand at every attempt."""
    if index % 1000 == 500:
        return "refused"
    if attempt == 1 and index % 100 in {3, 37, 71}:
        return ("refused", "cut", "status", "lost")[index // 100 % 4]
    return None


def upload_generated_files(count: int, directory: Path, on_item: Callable[[Any], None]) -> BatchSummary:
    """Upload generated files to the receiver with faults and retries, and check every outcome."""
    concurrency = 4
    ended = drawn = most_ahead = 0
    sent: dict[int, int] = {}
    faulty = Faulty(fault_of)
    retry = retry_backoff(attempts=3, wait_initial=0.01, wait_jitter=0.01)

    def uploads(url: str, client: httpx.Client) -> Iterator[Any]:
        nonlocal drawn, most_ahead
        for index in range(count):
            drawn += 1
            most_ahead = max(most_ahead, drawn - ended)
            data = content_of(index)
            yield upload(
                url, data, filename=f"{index}.bin", headers={"X-Index": str(index)}, client=client
            ).pipe(retry)

    def on_event(item: Any) -> None:
        nonlocal ended
        if isinstance(item, ItemProgress):
            sent[item.index] = item.progress.sent
        elif isinstance(item, ItemDone | ItemFailed):
            ended += 1
        elif isinstance(item, BatchProgress):
            assert item.done + item.failed == ended
            assert item.running <= concurrency
        on_item(item)

    with running(directory) as url, httpx.Client(transport=faulty, timeout=PATIENCE) as client:
        last = rxupload.run(
            upload_all(uploads(url, client), concurrency=concurrency).pipe(ops.do_action(on_event))
        )
    assert isinstance(last, BatchSummary)

    hopeless = [index for index in range(count) if fault_of(index, 99)]
    assert sorted(each.index for each in last.errors) == hopeless
    assert all(isinstance(each.error, httpx.ConnectError) for each in last.errors)
    assert (last.done, last.failed) == (count - len(hopeless), len(hopeless))
    assert last.statuses == Counter({200: last.done})
    assert last.sent == sum(sent.values())
    assert most_ahead <= concurrency
    _check_arrivals(directory, count)
    return last


def _check_arrivals(directory: Path, count: int) -> None:
    """Check that every file has arrived whole and once, or twice if the first response was lost."""
    for index in range(count):
        expected = 0 if fault_of(index, 99) else 2 if fault_of(index, 1) == "lost" else 1
        copies = [directory / f"{index}.bin", directory / f"{index} (1).bin", directory / f"{index} (2).bin"]
        arrived = [path for path in copies if path.exists()]
        assert len(arrived) == expected, f"{index}: {arrived}"
        digest = hashlib.sha256(content_of(index)).digest()
        assert all(hashlib.sha256(path.read_bytes()).digest() == digest for path in arrived)


def test_generated_files(tmp_path):
    """Of 600 files with 3 % faults, each arrives whole or is listed with its error, and the sums agree."""
    events: list[Any] = []
    upload_generated_files(600, tmp_path, events.append)
    check_totals(events)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the memory's size from /proc")
def test_ten_thousand_files(tmp_path):
    """10,000 files of 1 to 64 KiB arrive, while the memory of the process grows by less than 32 MiB."""
    sizes: list[int] = []

    def on_item(item: Any) -> None:
        if isinstance(item, ItemDone) and item.index % 100 == 0:
            sizes.append(_resident())

    last = upload_generated_files(10_000, tmp_path, on_item)
    print(
        f"\n{last.sent / 1e6:.0f} MB in {last.seconds:.0f} s, memory {sizes[0] >> 20} to {max(sizes) >> 20} MiB"
    )
    assert max(sizes) - sizes[0] < 32 << 20


def _resident() -> int:
    """Bytes of memory that this process uses."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) << 10


def _is(message: Any, kind: type) -> bool:
    return isinstance(getattr(message.value, "value", None), kind)


async def _awaited(source: reactivex.Observable[Any]) -> Any:
    return await source
