"""The queue of callbacks, and the hot Observable with late subscribers."""

from __future__ import annotations

import contextlib
import signal
import threading
from asyncio import get_running_loop, new_event_loop, run, sleep, timeout
from functools import partial

import pytest
from reactivex import operators as ops
from reactivex.notification import OnCompleted
from reactivex.scheduler import EventLoopScheduler
from reactivex.scheduler.eventloop import AsyncIOScheduler
from support.recording_observer import observe
from support.scripted_server import PATIENCE, Server

from rxupload._task.callback_queue import CallbackQueue
from rxupload._task.callbacks import Hot
from rxupload._wait import Latch
from rxupload.uploadtask import uploadFile


def test_rule_8_a_late_listener_gets_the_latest_event_before_a_queued_end():
    """A listener that registers while the end is queued gets the latest item before the end."""
    queue = CallbackQueue(None)
    hot: Hot[int] = Hot(queue, Latch())
    queue.run(lambda: hot.emit(1))
    go_on = threading.Event()
    queue.post(lambda: go_on.wait(PATIENCE))
    queue.post(lambda: hot.end(OnCompleted()))
    observed, _ = observe(hot)
    go_on.set()
    assert observed.wait().items == [1]


def test_an_await_wakes_its_loop():
    """`await` of the events has them come on its loop, in order, and each once. Otherwise it would sleep for ever."""
    queue = CallbackQueue(None)
    hot: Hot[int] = Hot(queue, Latch())
    threads: set[int] = set()
    items: list[int] = []

    def take(item: int) -> None:
        threads.add(threading.get_ident())
        items.append(item)

    def emit() -> None:
        for item in range(3):
            queue.run(partial(hot.emit, item))
        queue.run(partial(hot.end, OnCompleted()))

    async def main() -> int:
        get_running_loop().call_soon(threading.Thread(target=emit).start)
        async with timeout(PATIENCE):
            return await hot.pipe(ops.do_action(take))

    assert run(main()) == 2
    assert (items, threads) == ([0, 1, 2], {threading.get_ident()})


def test_an_observer_that_raises_on_its_loop_is_told():
    """It gets its own exception through on_error, as with an upload, and nothing else. The others go on."""
    queue = CallbackQueue(None)
    hot: Hot[int] = Hot(queue, Latch())
    other, _ = observe(hot)

    def emit() -> None:
        for item in range(2):
            queue.run(partial(hot.emit, item))

    async def main() -> int:
        get_running_loop().call_soon(emit)
        return await hot.pipe(ops.do_action(lambda item: 1 // item))

    with pytest.raises(ZeroDivisionError):
        run(main())
    assert other.items == [0, 1]


def test_rule_10_no_overlap_where_the_loop_is_disposed_in_a_callback():
    """What comes on a thread, once the loop has been disposed by a callback, waits for that callback to return."""
    loop = EventLoopScheduler()
    queue = CallbackQueue(loop)
    log: list[str] = []
    is_disposed, go_on, is_done = threading.Event(), threading.Event(), threading.Event()

    def dispose_it() -> None:
        loop.dispose()
        is_disposed.set()
        go_on.wait(PATIENCE)
        log.append("first")

    queue.post(dispose_it)
    assert is_disposed.wait(PATIENCE)
    queue.post(lambda: log.append("second"))
    queue.post(is_done.set)
    assert not is_done.wait(0.1)
    go_on.set()
    assert is_done.wait(PATIENCE)
    assert log == ["first", "second"]


@pytest.mark.parametrize("event", ["progress", "headers", "success", "complete"])
def test_ctrl_c_in_a_callback_on_a_loop_is_raised(tmp_path, event):
    """Ctrl-C that comes in a callback on the main thread's loop ends the loop's run. The upload ends as it would."""
    path = tmp_path / "photo"
    path.write_bytes(bytes(3000))
    log: list[str] = []

    def callback(name: str, *_: object) -> None:
        log.append(name)
        if name == event and log.count(name) == 1:
            signal.raise_signal(signal.SIGINT)
            log.append("goes on")

    async def wait() -> None:
        await task

    with (
        Server(lambda connection: connection.serve()) as server,
        contextlib.closing(new_event_loop()) as loop,
    ):
        task = uploadFile(
            url=server.url,
            filePath=str(path),
            name="photo",
            success=partial(callback, "success"),
            complete=partial(callback, "complete"),
            scheduler=AsyncIOScheduler(loop),
        )
        task.onProgressUpdate(partial(callback, "progress"))
        task.onHeadersReceived(partial(callback, "headers"))
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(wait())
        loop.run_until_complete(wait())
    assert "goes on" not in log
    assert log[-2:] == ["success", "complete"]


def test_ctrl_c_in_an_asynchronous_callback_is_raised(tmp_path):
    """Ctrl-C that comes in an asynchronous callback ends the loop's run. The later callbacks still come."""
    path = tmp_path / "photo"
    path.write_bytes(b"data")
    log: list[str] = []

    async def success(_: object) -> None:
        await sleep(0)
        log.append("success")
        signal.raise_signal(signal.SIGINT)
        log.append("goes on")

    async def wait() -> None:
        await task

    with (
        Server(lambda connection: connection.serve()) as server,
        contextlib.closing(new_event_loop()) as loop,
    ):
        task = uploadFile(
            url=server.url,
            filePath=str(path),
            name="photo",
            success=success,
            complete=lambda: log.append("complete"),
            scheduler=AsyncIOScheduler(loop),
        )
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(wait())
        loop.run_until_complete(wait())
    assert log == ["success", "complete"]
