"""Callbacks that are `async def` functions: on the loop of the scheduler, each in its turn of the queue."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any

import pytest
from reactivex.scheduler import EventLoopScheduler, NewThreadScheduler
from reactivex.scheduler.eventloop import AsyncIOScheduler, AsyncIOThreadSafeScheduler
from support.recording_callbacks import RecordingCallbacks
from support.running_tasks import MIB, echo
from support.scripted_server import PATIENCE, Server

from rxupload import UploadAborted, upload
from rxupload.uploadtask import UploadTask, uploadFile

EVENTS = ("progress", "headers", "success", "complete")


def here() -> AsyncIOScheduler:
    """The scheduler of the running loop."""
    return AsyncIOScheduler(asyncio.get_running_loop())


class AsyncCallbacks:
    """Callbacks that yield to the loop in between, and record their begin and end; overlapping ones are a fault."""

    def __init__(self, then: Callable[[str, Any], Coroutine[Any, Any, object]] | None = None) -> None:
        self.log: list[str] = []
        self.values: dict[str, Any] = {}
        self.threads: set[int] = set()
        self._running = 0
        self._then = then

    async def _note(self, kind: str, value: Any) -> None:
        self._running += 1
        assert self._running == 1, "callbacks overlap"
        self.log.append(f"{kind} begins")
        self.values[kind] = value
        self.threads.add(threading.get_ident())
        try:
            for _ in range(5):
                await asyncio.sleep(0)
            if self._then is not None:
                await self._then(kind, value)
        finally:
            self._running -= 1
        self.log.append(f"{kind} ends")

    async def progress(self, res: Any) -> None:
        await self._note("progress", res)

    async def headers(self, res: Any) -> None:
        await self._note("headers", res)

    async def success(self, res: Any) -> None:
        await self._note("success", res)

    async def fail(self, data: str, code: int) -> None:
        await self._note("fail", (data, code))

    async def complete(self) -> None:
        await self._note("complete", None)

    def start(self, url: str, path: Any, **more: Any) -> UploadTask:
        task = uploadFile(
            url=url,
            filePath=str(path),
            name="photo",
            success=self.success,
            fail=self.fail,
            complete=self.complete,
            scheduler=here(),
            **more,
        )
        task.onProgressUpdate(self.progress)
        task.onHeadersReceived(self.headers)
        return task


def in_turn(*kinds: str) -> list[str]:
    return [line for kind in kinds for line in (f"{kind} begins", f"{kind} ends")]


def run_with_server(main: Callable[[str], Coroutine[Any, Any, object]]) -> None:
    with Server(echo) as server:
        asyncio.run(main(server.url))


def test_each_runs_to_its_end_before_the_next(photo):
    """All kinds may be asynchronous, run on the loop, and do not overlap. The task has its result after the last."""

    async def main(url: str) -> None:
        callbacks = AsyncCallbacks()
        res = await callbacks.start(url, photo)
        assert callbacks.log == in_turn(*EVENTS)
        assert callbacks.values["success"] == res
        assert callbacks.threads == {threading.get_ident()}

    run_with_server(main)


def test_the_loop_goes_on_meanwhile(photo):
    """A callback may wait for another coroutine of its loop."""

    async def main(url: str) -> None:
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def wait(*_: Any) -> None:
            begun.set()
            async with asyncio.timeout(PATIENCE):  # which needs asyncio's current task
                await go_on.wait()

        callbacks = AsyncCallbacks(wait)
        task = callbacks.start(url, photo)
        await asyncio.wait_for(begun.wait(), PATIENCE)
        assert callbacks.log == ["progress begins"]
        go_on.set()
        await task
        assert callbacks.log == in_turn(*EVENTS)

    run_with_server(main)


def test_events_that_come_meanwhile_wait(film):
    """Events that come while a callback waits are delivered after it, in order, the last one among them."""

    async def main(url: str) -> None:
        callbacks = AsyncCallbacks(lambda *_: asyncio.sleep(0.02))
        late = RecordingCallbacks()
        task = callbacks.start(url, film)
        task.onProgressUpdate(late.progress)
        await task
        kinds = [line.split()[0] for line in callbacks.log]
        assert callbacks.log == in_turn(*kinds[::2])
        assert kinds[::2] == ["progress"] * len(late.sent) + ["headers", "success", "complete"]
        assert late.of("progress")[-1]["progress"] == 100

    run_with_server(main)


def test_synchronous_ones_wait_for_asynchronous_ones(photo):
    """A synchronous listener that was registered after an asynchronous one is called after its end."""

    async def main(url: str) -> None:
        log: list[str] = []

        async def slow(_: Any) -> None:
            log.append("slow begins")
            await asyncio.sleep(0.01)
            log.append("slow ends")

        task = uploadFile(
            url=url,
            filePath=str(photo),
            name="photo",
            success=lambda _: log.append("success"),
            scheduler=AsyncIOThreadSafeScheduler(asyncio.get_running_loop()),
        )
        task.onProgressUpdate(lambda _: log.append("first"))
        task.onProgressUpdate(slow)
        task.onProgressUpdate(lambda _: log.append("third"))
        await task
        assert log == ["first", "slow begins", "slow ends", "third", "success"]

    run_with_server(main)


def test_the_task_of_upload_start(photo):
    """The task of `Upload.start` has asynchronous listeners, too."""

    async def main(url: str) -> None:
        callbacks = AsyncCallbacks()
        task = upload(url, photo).start(scheduler=here())
        task.onHeadersReceived(callbacks.headers)
        await task
        assert callbacks.log == in_turn("headers")

    run_with_server(main)


def test_fail_and_complete(tmp_path):
    """`fail` and `complete` may be asynchronous, after a failure and after an abort."""

    async def main() -> None:
        callbacks = AsyncCallbacks()
        with pytest.raises(FileNotFoundError):
            await callbacks.start("http://127.0.0.1:9/", tmp_path / "missing")
        assert callbacks.log == in_turn("fail", "complete")
        assert callbacks.values["fail"][1] == 301
        callbacks = AsyncCallbacks()
        with pytest.raises(ValueError, match="url"):
            await callbacks.start("ftp://127.0.0.1/", tmp_path)
        assert callbacks.values["fail"][1] == 202

    asyncio.run(main())


def test_abort_in_an_asynchronous_callback(film, server):
    """After it no progress comes, and `fail` waits for the callback."""

    async def main() -> None:
        async def abort(kind: str, _: Any) -> None:
            if kind == "progress":
                task.abort()
                await asyncio.sleep(0.01)

        callbacks = AsyncCallbacks(abort)
        task = callbacks.start(server.url, film)
        request = await asyncio.to_thread(server.next_request)
        await asyncio.to_thread(request.read, 2 * MIB)
        with pytest.raises(UploadAborted):
            await task
        assert callbacks.log == in_turn("progress", "fail", "complete")

    asyncio.run(main())


@pytest.mark.parametrize(
    "wait",
    [
        lambda task: task,
        lambda task: asyncio.wait_for(task, PATIENCE),
        asyncio.gather,
        lambda task: asyncio.to_thread(task.result, PATIENCE),
    ],
    ids=["await", "wait_for", "gather", "to_thread"],
)
def test_waiting_for_its_own_task_is_an_error(photo, wait):
    """A callback that waits for its own task, in whatever way, gets a RuntimeError, and the task ends."""

    async def main(url: str) -> None:
        errors: list[str] = []

        async def wait_for_itself(kind: str, _: Any) -> None:
            with pytest.raises(RuntimeError, match="would wait for itself"):
                await wait(task)
            errors.append(kind)

        callbacks = AsyncCallbacks(wait_for_itself)
        task = callbacks.start(url, photo)
        await task
        assert tuple(errors) == EVENTS

    run_with_server(main)


def test_waiting_for_another_task(photo):
    """A callback may wait for another task, and what it has started may wait for its own task after its end."""

    async def main(url: str) -> None:
        others: list[Any] = []
        started: list[asyncio.Task[Any]] = []

        async def wait_later() -> Any:
            await asyncio.sleep(0)
            await has_ended.wait()
            return await task

        async def success(_: Any) -> None:
            started.append(asyncio.create_task(wait_later()))
            others.append(await uploadFile(url=url, filePath=str(photo), name="b", scheduler=here()))

        has_ended = asyncio.Event()
        task = uploadFile(url=url, filePath=str(photo), name="a", success=success, scheduler=here())
        res = await task
        has_ended.set()
        assert others[0]["statusCode"] == 200
        assert await started[0] == res

    run_with_server(main)


def test_a_listener_that_is_added_in_one_waits_for_the_next_event(film, server):
    """A listener that an asynchronous listener adds does not get the same event again."""

    async def main() -> None:
        late = RecordingCallbacks()
        added_at: list[int] = []
        is_added = asyncio.Event()

        async def add(kind: str, res: Any) -> None:
            if kind == "progress" and not added_at:
                added_at.append(res["totalBytesSent"])
                task.onProgressUpdate(late.progress)
                is_added.set()

        task = AsyncCallbacks(add).start(server.url, film)
        request = await asyncio.to_thread(server.next_request)
        await asyncio.to_thread(request.read, 2 * MIB)
        await asyncio.wait_for(is_added.wait(), PATIENCE)
        await asyncio.to_thread(request.read_all)
        await asyncio.to_thread(request.respond)
        await task
        assert late.sent[0] > added_at[0]

    asyncio.run(main())


def test_a_function_that_returns_a_coroutine(photo):
    """What an ordinary function returns is awaited if it is a coroutine."""

    async def main(url: str) -> None:
        callbacks = AsyncCallbacks()

        def success(res: Any) -> object:
            return callbacks.success(res)

        task = uploadFile(url=url, filePath=str(photo), name="a", success=success, scheduler=here())
        await task
        assert callbacks.log == in_turn("success")

    run_with_server(main)


def test_what_one_raises_is_logged(photo, caplog):
    """Its exception is logged with its name, and the others still run. A cancelled callback is no error."""

    async def main(url: str) -> None:
        async def raise_(kind: str, _: Any) -> None:
            if kind == "success":
                asyncio.current_task().cancel()
                await asyncio.sleep(PATIENCE)
            raise (SystemExit if kind == "headers" else ZeroDivisionError)(kind)

        callbacks = AsyncCallbacks(raise_)
        assert (await callbacks.start(url, photo))["statusCode"] == 200
        assert callbacks.log == [f"{kind} begins" for kind in EVENTS]

    with caplog.at_level(logging.ERROR, "rxupload"):
        run_with_server(main)
    assert [record.exc_info[1].args[0] for record in caplog.records] == ["progress", "headers", "complete"]
    texts = [record.getMessage() for record in caplog.records]
    assert texts[0].startswith(f"The upload of {photo} to http://127.0.0.1:")
    assert texts[0].endswith(": the onProgressUpdate callback AsyncCallbacks.progress raised")


# Without a loop


class Called:
    """An object whose call is asynchronous."""

    async def __call__(self, *_: Any) -> None:
        raise AssertionError("there is no loop to run on")


async def never(*_: Any) -> None:
    raise AssertionError("there is no loop to run on")


ASYNCHRONOUS = [never, functools.partial(never, 1), Called(), Called().__call__]


@pytest.mark.parametrize("function", ASYNCHRONOUS, ids=["function", "partial", "object", "method"])
@pytest.mark.parametrize("key", ["success", "fail", "complete"])
def test_202_without_a_loop(photo, key, function):
    """An asynchronous function that has no loop to run on is a wrong argument. The other functions are told."""
    recorder = RecordingCallbacks()
    task = uploadFile(recorder.object("http://127.0.0.1:9/", photo, **{key: function}))
    with pytest.raises(TypeError, match=rf"^{key}: an asynchronous function needs a loop.*AsyncIOScheduler"):
        task.result(PATIENCE)
    assert recorder.kinds == [kind for kind in ("fail", "complete") if kind != key]
    if key != "fail":
        assert recorder.code == 202


@pytest.mark.parametrize("make", [EventLoopScheduler, NewThreadScheduler])
def test_202_with_a_scheduler_of_another_kind(photo, make):
    """Only asyncio's loops run coroutines."""
    recorder = RecordingCallbacks()
    scheduler = make()
    task = uploadFile(recorder.object("http://127.0.0.1:9/", photo, success=never, scheduler=scheduler))
    with pytest.raises(TypeError, match=r"^success: "):
        task.result(PATIENCE)
    assert recorder.code == 202
    if make is EventLoopScheduler:
        scheduler.dispose()


@pytest.mark.parametrize("function", ASYNCHRONOUS, ids=["function", "partial", "object", "method"])
def test_a_listener_without_a_loop(photo, function):
    """An asynchronous listener without a loop is a TypeError at once."""
    with Server(echo) as server:
        task = uploadFile(url=server.url, filePath=str(photo), name="a")
        for add in (task.onProgressUpdate, task.onHeadersReceived):
            with pytest.raises(TypeError, match=r"^callback: an asynchronous function needs a loop"):
                add(function)
        assert task.result(PATIENCE)["statusCode"] == 200


def test_a_coroutine_without_a_loop_is_logged(photo, caplog):
    """An ordinary function that returns a coroutine is found out when it is called. The coroutine is closed."""
    made: list[Any] = []
    with Server(echo) as server:
        task = uploadFile(
            url=server.url, filePath=str(photo), name="a", success=lambda _: made.append(never()) or made[0]
        )
        task.result(PATIENCE)
    assert inspect.getcoroutinestate(made[0]) == inspect.CORO_CLOSED
    (record,) = caplog.records
    assert "runs only on the loop of an AsyncIOScheduler" in str(record.exc_info[1])


# A loop that closes


@pytest.mark.parametrize("kind", EVENTS)
def test_a_loop_that_ends_cancels_the_callback(photo, kind):
    """`asyncio.run` cancels a callback that waits. The rest of the queue still runs, in order."""
    log: list[str] = []
    tasks: list[UploadTask] = []

    async def main(url: str) -> None:
        begun = asyncio.Event()

        async def wait(each: str, _: Any) -> None:
            log.append(each)
            if each == kind:
                begun.set()
                await asyncio.sleep(PATIENCE * 10)

        callbacks = AsyncCallbacks(wait)
        tasks.append(callbacks.start(url, photo))
        await begun.wait()

    with Server(echo) as server:  # it outlives the loop, for the upload goes on
        asyncio.run(main(server.url))
        assert tasks[0].result(PATIENCE)["statusCode"] == 200
    assert log[: EVENTS.index(kind) + 1] == list(EVENTS[: EVENTS.index(kind) + 1])


@pytest.mark.parametrize("kind", EVENTS)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_loop_that_is_closed_around_a_callback(photo, kind):
    """A loop that is closed leaves its callback for ever. The rest runs on a thread, and the task ends."""
    recorder = RecordingCallbacks()
    begun: Future[None] = Future()
    loop = asyncio.new_event_loop()

    async def wait(_: Any = None) -> None:
        begun.set_result(None)
        loop.stop()
        await asyncio.sleep(PATIENCE * 10)

    with Server(echo) as server:
        functions = {kind: wait} if kind in ("success", "complete") else {}
        task = uploadFile(recorder.object(server.url, photo, scheduler=AsyncIOScheduler(loop), **functions))
        task.onProgressUpdate(wait if kind == "progress" else recorder.progress)
        task.onHeadersReceived(wait if kind == "headers" else recorder.headers)
        loop.run_forever()
        assert begun.done()
        loop.close()
        assert task.result(PATIENCE)["statusCode"] == 200
    assert recorder.kinds == [each for each in EVENTS if each != kind]
    assert not recorder.faults
    logging.getLogger("asyncio").disabled = True  # it says that the callback is lost
    try:
        gc.collect()
    finally:
        logging.getLogger("asyncio").disabled = False
