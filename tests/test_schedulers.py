"""What the library relies on in reactivex's schedulers, and the names that are not public."""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import threading

from reactivex.scheduler import EventLoopScheduler
from reactivex.scheduler.eventloop import AsyncIOScheduler

from rxupload._schedulers import call_soon, is_closed, is_loop_of_this_thread, is_on_a_loop

PATIENCE = 10.0


def test_names_of_the_event_loop_scheduler():
    """It has a thread once it works, and says whether it is disposed."""
    seen: list[threading.Thread] = []
    done = threading.Event()
    scheduler = EventLoopScheduler()
    scheduler.schedule(lambda *_: (seen.append(threading.current_thread()), done.set()))
    assert done.wait(PATIENCE)
    assert scheduler._thread in (None, *seen)
    assert not scheduler._is_disposed
    assert not is_closed(scheduler)
    scheduler.dispose()
    assert scheduler._is_disposed
    assert is_closed(scheduler)


def test_the_thread_of_the_event_loop_scheduler():
    """Inside its work the scheduler's loop runs on the current thread; outside it does not."""
    inside: list[bool] = []
    done = threading.Event()
    scheduler = EventLoopScheduler()
    with contextlib.ExitStack() as stack:
        stack.callback(scheduler.dispose)
        scheduler.schedule(lambda *_: (inside.append(is_loop_of_this_thread(scheduler)), done.set()))
        assert done.wait(PATIENCE)
        assert inside == [True]
        assert not is_loop_of_this_thread(scheduler)


def test_names_of_the_asyncio_scheduler():
    """It has a loop."""
    loop = asyncio.new_event_loop()
    scheduler = AsyncIOScheduler(loop)
    assert scheduler._loop is loop
    assert not is_closed(scheduler)
    loop.close()
    assert is_closed(scheduler)


def test_the_running_loop():
    """There is a running loop inside asyncio.run, and none outside."""

    async def inside() -> tuple[bool, bool]:
        return is_on_a_loop(), asyncio._get_running_loop() is asyncio.get_running_loop()

    assert not is_on_a_loop()
    assert asyncio._get_running_loop() is None
    assert asyncio.run(inside()) == (True, True)


def test_a_call_wakes_a_loop_that_waits_on_the_same_thread():
    """A signal handler runs on the loop's thread while the loop waits, and `loop.call_soon` would not wake that."""
    woken: list[bool] = []

    class Interrupted(selectors.DefaultSelector):
        def select(self, timeout=None):
            if timeout is None and not woken:  # the loop waits for an event
                assert call_soon(AsyncIOScheduler(loop))(loop.stop)  # as in a signal handler
                woken.append(bool(super().select(0)))
                return []
            return super().select(timeout)

    loop = asyncio.SelectorEventLoop(Interrupted())
    with contextlib.closing(loop):
        loop.run_forever()
    assert woken == [True]
