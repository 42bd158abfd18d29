"""`UploadAll.start` and its `BatchTask`: states, events, `abort()`, `result()`, `await`, and the end of a script."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import httpx
import pytest
from reactivex.scheduler import EventLoopScheduler
from reactivex.scheduler.eventloop import AsyncIOScheduler
from reactivex.subject import Subject
from support.hand_cranked_client import refuse
from support.recording_observer import observe
from support.scripted_server import PATIENCE, Server
from support.threads import no_thread_left

from rxupload import (
    BatchProgress,
    BatchSummary,
    BatchTask,
    ItemDone,
    ItemFailed,
    ItemProgress,
    Upload,
    UploadAborted,
    upload,
    upload_all,
)
from rxupload._task import queue
from rxupload._transfer import Disposed
from rxupload.testing import Exchange, HandCrankedClient, RecordingObserver

URL = "http://upload.test/"


def scripted(*scripts: Any) -> Upload:
    return upload(URL, b"data", client=HandCrankedClient(*(scripts or (200,))))


def under_way(count: int = 3, **options: Any) -> tuple[BatchTask, list[Exchange]]:
    """A running batch, and the requests of its uploads."""
    client = HandCrankedClient()
    task = upload_all([upload(URL, b"data", client=client) for _ in range(count)]).start(**options)
    return task, [client.next_request() for _ in range(count)]


def finish(exchange: Exchange) -> None:
    exchange.take_all()
    exchange.respond()


class TestOutcome:
    def test_done(self):
        """A batch whose uploads succeed is done, and its result is the summary."""
        task, exchanges = under_way()
        assert task.state == "running"
        for exchange in exchanges:
            finish(exchange)
        summary = task.result(PATIENCE)
        assert (task.state, summary.done, summary.failed) == ("done", 3, 0)
        assert task.result() is summary

    def test_done_even_with_failures(self):
        """A batch with failed uploads is done, and the summary has their errors."""
        task = upload_all([scripted(), scripted(refuse()), scripted(404)]).start()
        summary = task.result(PATIENCE)
        assert (task.state, summary.done, summary.failed) == ("done", 1, 2)

    def test_failed(self):
        """A batch whose iterable raises has failed, after its uploads have ended."""
        error = OSError("the folder is gone")

        def uploads() -> Iterator[Any]:
            yield scripted()
            raise error

        task = upload_all(uploads()).start()
        observed, _ = observe(task.events)
        with pytest.raises(OSError, match="gone") as caught:
            task.result(PATIENCE)
        assert caught.value is error
        assert task.state == "failed"
        assert observed.wait().error is error

    def test_a_batch_that_cannot_start_has_failed(self):
        """An iterator that was used before fails the task, and not the call."""
        batch = upload_all(iter([scripted()]))
        batch.run()
        task = batch.start()
        with pytest.raises(RuntimeError, match="only once"):
            task.result(PATIENCE)
        assert task.state == "failed"

    def test_aborted(self):
        """abort() ends all running uploads, draws no more, and result() raises UploadAborted."""
        task, exchanges = under_way(4)
        observed, _ = observe(task.events)
        task.abort()
        task.abort()
        assert task.state == "aborted"
        for exchange in exchanges:
            assert isinstance(exchange.end(), Disposed)
        with pytest.raises(UploadAborted):
            task.result(PATIENCE)
        assert isinstance(observed.wait().error, UploadAborted)

    def test_abort_after_the_end_does_nothing(self):
        """After the end, abort() changes nothing."""
        task = upload_all([scripted()]).start()
        summary = task.result(PATIENCE)
        task.abort()
        assert (task.state, task.result()) == ("done", summary)

    def test_a_setting_that_fails_fails_the_batch(self):
        """The error of `pause` ends the batch, and is the task's."""
        pause: Subject[bool] = Subject()
        client = HandCrankedClient()
        task = upload_all([upload(URL, b"data", client=client)], pause=pause).start()
        exchange = client.next_request()
        pause.on_error(ZeroDivisionError())
        with pytest.raises(ZeroDivisionError):
            task.result(PATIENCE)
        assert isinstance(exchange.end(), Disposed)

    def test_each_start_is_a_batch(self):
        """Each start() is a batch of its own."""
        batch = upload_all([scripted(201, 202)])
        first = batch.start().result(PATIENCE)
        second = batch.start().result(PATIENCE)
        assert (first.statuses, second.statuses) == ({201: 1}, {202: 1})

    def test_it_waits_in_no_queue(self):
        """A batch starts while all turns of the tasks are taken, and takes none."""
        client = HandCrankedClient()
        tasks = [upload(URL, b"data", client=client).start() for _ in range(queue.uploads.limit + 1)]
        others = [client.next_request() for _ in range(queue.uploads.limit)]
        batch, exchanges = under_way(2)
        for exchange in exchanges:
            finish(exchange)
        assert batch.result(PATIENCE).done == 2
        finish(others[0])
        finish(client.next_request())  # that of the one that waited
        for other in others[1:]:
            finish(other)
        for task in tasks:
            assert task.result(PATIENCE)["statusCode"] == 200

    def test_nothing_is_left_over(self):
        """After the end of a batch, none of its threads is left."""
        with no_thread_left():
            upload_all([scripted() for _ in range(5)]).start().result(PATIENCE)
            task, _ = under_way()
            task.abort()
            with pytest.raises(UploadAborted):
                task.result(PATIENCE)


class TestEvents:
    def test_they_are_those_of_the_batch(self):
        """The events are those of the batch, one at a time and in order, on a thread of the library."""
        task, exchanges = under_way(2)
        observed, _ = observe(task.events)
        for exchange in exchanges:
            finish(exchange)
        observed.wait()
        summary = task.result(PATIENCE)
        assert observed.items[-1] is summary
        assert threading.get_ident() not in observed.threads
        for index in range(2):
            own = [item for item in observed.items if getattr(item, "index", None) == index]
            assert isinstance(own[-1], ItemDone)
            assert all(isinstance(item, ItemProgress) for item in own[:-1])

    def test_a_late_observer_gets_the_latest_progress(self):
        """A late observer gets the latest BatchProgress, and what comes after it."""
        task, (first, second) = under_way(2)
        ends: SimpleQueue[BatchProgress] = SimpleQueue()
        early, _ = observe(
            task.events, lambda item: ends.put(item) if isinstance(item, BatchProgress) else None
        )
        finish(first)
        while ends.get(timeout=PATIENCE).done != 1:
            pass
        late, _ = observe(task.events)
        finish(second)
        early.wait()
        late.wait()
        assert late.items[0].done == 1
        assert isinstance(late.items[0], BatchProgress)
        assert late.items[-1] is task.result(PATIENCE)

    def test_after_the_end_they_are_the_end(self):
        """After the end an observer still gets the latest progress and the summary."""
        task = upload_all([scripted()]).start()
        summary = task.result(PATIENCE)
        observed, _ = observe(task.events)
        progress, last = observed.wait().items
        assert (progress.done, progress.total) == (1, summary.sent)
        assert last is summary

    def test_disposing_aborts_nothing(self):
        """Disposing a subscription to the events ends that, and not the batch."""
        task, exchanges = under_way(2)
        observed, subscription = observe(task.events)
        subscription.dispose()
        for exchange in exchanges:
            finish(exchange)
        assert task.result(PATIENCE).done == 2
        assert not observed.ended

    def test_abort_in_an_observer(self):
        """An observer may abort the batch: after that it gets only the end."""
        task, exchanges = under_way(2)
        observed, _ = observe(task.events, lambda item: task.abort() if isinstance(item, ItemDone) else None)
        finish(exchanges[0])
        assert isinstance(observed.wait().error, UploadAborted)
        assert isinstance(observed.items[-1], ItemDone)
        assert isinstance(exchanges[1].end(), Disposed)

    def test_an_observer_that_raises_is_logged(self, caplog):
        """What an observer raises is logged, and the batch continues."""

        def raising(item: Any) -> None:
            if isinstance(item, ItemFailed):
                raise ZeroDivisionError

        ready = threading.Event()

        def uploads() -> Iterator[Any]:
            assert ready.wait(PATIENCE)
            yield from [scripted(refuse()), scripted()]

        task = upload_all(uploads()).start()
        task.events.subscribe(raising, lambda _: None)
        ready.set()
        assert task.result(PATIENCE).done == 1
        assert "raised" in caplog.text

    def test_progress_coalesces_for_a_slow_observer(self):
        """While an observer is slow, newer progress replaces what waits, and each outcome waits."""
        there, go_on = threading.Event(), threading.Event()

        def slow(_: Any) -> None:
            there.set()
            assert go_on.wait(PATIENCE)

        observed = RecordingObserver(slow)
        with Server(lambda connection: [connection.serve() for _ in range(5)]) as server:
            uploads = [upload(server.url, bytes(5 << 20), progress_interval=0) for _ in range(5)]
            ended = threading.Event()
            last = upload(URL, b"data", client=HandCrankedClient())
            begun: SimpleQueue[int] = SimpleQueue()

            def drawn() -> Iterator[Any]:
                assert ended.wait(PATIENCE)
                yield from uploads
                begun.put(1)
                yield last

            task = upload_all(drawn(), concurrency=1).start()
            task.events.subscribe(observed)
            ended.set()
            assert there.wait(PATIENCE)
            begun.get(timeout=PATIENCE)  # four have ended
            exchange = last._plan.client.next_request()  # type: ignore[union-attr]
            waiting = len(task._undelivered)
            finish(exchange)
            go_on.set()
            assert task.result(PATIENCE).done == 6
        assert waiting <= 3 * 5 + 2
        assert sum(isinstance(item, ItemDone) for item in observed.items) == 6
        assert observed.wait().is_completed


class TestWaiting:
    def test_result_has_a_time_limit(self):
        """After its time limit result() raises TimeoutError, and the batch continues."""
        task, exchanges = under_way(1)
        with pytest.raises(TimeoutError, match="The batch has not ended"):
            task.result(0.01)
        assert task.state == "running"
        finish(exchanges[0])
        assert task.result(PATIENCE).done == 1

    def test_result_in_an_observer_is_an_error(self):
        """result() in an observer of the events would wait for itself."""
        raised: SimpleQueue[Exception] = SimpleQueue()
        task, exchanges = under_way(1)

        def waiting(_: Any) -> None:
            try:
                task.result()
            except RuntimeError as error:
                raised.put(error)

        task.events.subscribe(waiting)
        finish(exchanges[0])
        task.result(PATIENCE)
        assert "would wait for itself" in str(raised.get(timeout=PATIENCE))

    def test_it_can_be_awaited(self):
        """In asyncio a task can be awaited, again and again; with a scheduler, events come on the loop."""

        async def main() -> BatchSummary:
            scheduler = AsyncIOScheduler(asyncio.get_running_loop())
            task = upload_all([scripted() for _ in range(3)]).start(scheduler=scheduler)
            observed, _ = observe(task.events)
            with pytest.raises(RuntimeError, match="would block the event loop"):
                task.result()
            summary = await task
            assert await task is summary
            assert task.result() is summary
            assert observed.threads == {threading.get_ident()}
            return summary

        assert asyncio.run(main()).done == 3

    def test_asynchronous_sources_are_read_on_its_loop(self):
        """With a scheduler of asyncio, asynchronous sources are read on its loop, and without one they fail."""
        threads: set[int] = set()

        async def pieces() -> Any:
            threads.add(threading.get_ident())
            yield b"data"

        async def main() -> None:
            uploads = [upload(URL, pieces, client=HandCrankedClient(200), rate_limit=1e9) for _ in range(2)]
            scheduler = AsyncIOScheduler(asyncio.get_running_loop())
            assert (await upload_all(uploads, rate_limit=1e9).start(scheduler=scheduler)).done == 2
            assert threads == {threading.get_ident()}
            (failed,) = (await upload_all(uploads[:1]).start()).errors
            assert isinstance(failed.error, TypeError)

        asyncio.run(main())

    def test_cancelling_what_awaits_it_does_not_abort(self):
        """Cancelling a coroutine that awaits the task leaves the batch running."""

        async def main() -> None:
            task, exchanges = await asyncio.to_thread(under_way, 1)

            async def awaited() -> None:
                await task

            waiting = asyncio.ensure_future(awaited())
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert task.state == "running"
            finish(exchanges[0])
            assert (await task).done == 1

        asyncio.run(main())

    def test_a_loop_that_closes_does_not_end_the_batch(self):
        """If the loop closes, a thread notifies instead, and the batch ends as it would."""

        async def main() -> tuple[BatchTask, list[Exchange]]:
            scheduler = AsyncIOScheduler(asyncio.get_running_loop())
            return await asyncio.to_thread(under_way, 1, scheduler=scheduler)

        task, exchanges = asyncio.run(main())
        finish(exchanges[0])
        assert task.result(PATIENCE).done == 1

    def test_an_event_loop_scheduler_notifies(self):
        """With an EventLoopScheduler, events come on its thread."""
        scheduler = EventLoopScheduler()
        task, exchanges = under_way(1, scheduler=scheduler)
        observed, _ = observe(task.events)
        finish(exchanges[0])
        assert task.result(PATIENCE).done == 1
        observed.wait()
        assert len(observed.threads) == 1
        scheduler.dispose()

    def test_a_wrong_scheduler_is_a_type_error(self):
        """A wrong scheduler raises at the call."""
        with pytest.raises(TypeError, match="scheduler: expected"):
            upload_all([]).start(scheduler=5)  # type: ignore[arg-type]


UNWATCHED = """
import sys
from rxupload import upload, upload_all

task = upload_all([upload(sys.argv[1], b"data")] * 3).start()
task.events.subscribe(on_error=repr, on_completed=lambda: print("done", flush=True))
{end}
"""


def script(end: str, url: str) -> subprocess.CompletedProcess[str]:
    code = UNWATCHED.format(end=end)
    return subprocess.run(
        [sys.executable, "-c", code, url], capture_output=True, text=True, timeout=60, check=False
    )


def test_the_end_of_the_script_waits():
    """A script that reaches its end still finishes the batch."""
    with Server(lambda connection: [connection.serve() for _ in range(3)]) as server:
        done = script("", server.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_ctrl_c_ends_the_script_and_the_batch():
    """A script that Ctrl-C has ended aborts the batch."""
    with Server(lambda connection: connection.wait_for_end()) as server:
        done = script("raise KeyboardInterrupt", server.url)
    assert done.returncode != 0
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1] == "KeyboardInterrupt"


def test_an_httpx_error_is_in_the_summary():
    """The errors of the uploads are in the summary, as for `run()`."""
    summary = upload_all([scripted(500)]).start().result(PATIENCE)
    assert isinstance(summary.errors[0].error, httpx.HTTPStatusError)
