"""Knows reactivex's schedulers: which of them may block, which have a loop, and how to call a function on it.

Only this module, `_signals` and `_sources.described` use underscore names of other libraries and of Python.
`tests/test_schedulers.py` pins those that this one cannot avoid:

| name                            | library        | meaning                                |
|---------------------------------|----------------|----------------------------------------|
| AsyncIOScheduler._loop          | reactivex 6.1  | which loop it is                       |
| EventLoopScheduler._thread      | reactivex 6.1  | the thread that its work runs on       |
| EventLoopScheduler._is_disposed | reactivex 6.1  | whether it takes any more work         |
| asyncio._get_running_loop       | Python 3.11 on | None where get_running_loop() raises   |
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from threading import Thread, current_thread
from typing import Any, TypeVar

from reactivex import abc
from reactivex.disposable import Disposable
from reactivex.internal import noop
from reactivex.internal.concurrency import default_thread_factory
from reactivex.scheduler import (
    CurrentThreadScheduler,
    EventLoopScheduler,
    ImmediateScheduler,
    NewThreadScheduler,
    TimeoutScheduler,
    TrampolineScheduler,
    VirtualTimeScheduler,
)
from reactivex.scheduler.eventloop import AsyncIOScheduler

T = TypeVar("T")

_IN_PLACE = (
    ImmediateScheduler,
    TrampolineScheduler,  # and CurrentThreadScheduler
    VirtualTimeScheduler,
)

_BLOCKABLE = (
    NewThreadScheduler,  # and ThreadPoolScheduler
    TimeoutScheduler,
    *_IN_PLACE,
)


def works_in_place(scheduler: abc.SchedulerBase) -> bool:
    """Whether scheduled work runs on the thread that schedules it, or that starts the virtual clock."""
    return isinstance(scheduler, _IN_PLACE)


def may_block(scheduler: abc.SchedulerBase) -> bool:
    """Whether an upload may block the scheduler, because it has a thread for each piece of work or works in place.

    All other schedulers have one thread or loop for all their work.
    """
    return isinstance(scheduler, _BLOCKABLE)


def makes_threads(scheduler: abc.SchedulerBase) -> bool:
    """Whether it starts an ordinary thread for each piece of work, so that one of the library's threads can do it."""
    return (
        isinstance(scheduler, NewThreadScheduler)
        and type(scheduler).schedule is NewThreadScheduler.schedule
        and scheduler.thread_factory is default_thread_factory
    )


class HereScheduler(NewThreadScheduler):
    """Keeps one piece of work, so that `subscribe` returns first. Then the thread that calls `work` does it.

    Attributes:
        loop: The asyncio loop that an asynchronous source is read on, if any.
    """

    loop: asyncio.AbstractEventLoop | None = None
    work: Callable[[], object] = noop

    def schedule(
        self, action: Callable[[abc.SchedulerBase, T | None], Any], state: T | None = None
    ) -> abc.DisposableBase:
        self.work = partial(action, self, state)
        return Disposable()


def timers(scheduler: abc.SchedulerBase | None) -> abc.SchedulerBase:
    """Return a scheduler for timers. The first two here would block, and the third would hold a thread for the wait."""
    if scheduler is None or isinstance(
        scheduler, (ImmediateScheduler, TrampolineScheduler, NewThreadScheduler)
    ):
        return TimeoutScheduler.singleton()
    return scheduler


def runs_coroutines(scheduler: abc.SchedulerBase | None) -> bool:
    """Whether the scheduler has an asyncio loop."""
    return isinstance(scheduler, AsyncIOScheduler)


def is_closed(scheduler: abc.SchedulerBase | None) -> bool:
    """Whether the scheduler's loop has closed. False for schedulers other than these two."""
    if isinstance(scheduler, AsyncIOScheduler):
        return scheduler._loop.is_closed()  # noqa: SLF001
    return isinstance(scheduler, EventLoopScheduler) and scheduler._is_disposed  # noqa: SLF001


def is_running(scheduler: abc.SchedulerBase | None) -> bool:
    """Whether the scheduler's loop is known to run. False for schedulers other than these two."""
    if isinstance(scheduler, AsyncIOScheduler):
        return scheduler._loop.is_running()  # noqa: SLF001
    thread = scheduler._thread if isinstance(scheduler, EventLoopScheduler) else None  # noqa: SLF001
    return isinstance(thread, Thread) and thread.is_alive()


def is_loop_of_this_thread(scheduler: abc.SchedulerBase | None) -> bool:
    """Whether the scheduler's loop runs on this thread. False for schedulers other than these two."""
    if isinstance(scheduler, AsyncIOScheduler):
        return running_loop() is scheduler._loop  # noqa: SLF001
    return isinstance(scheduler, EventLoopScheduler) and scheduler._thread is current_thread()  # noqa: SLF001


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the asyncio loop that is running on this thread; None if there is none."""
    return asyncio._get_running_loop()  # noqa: SLF001 - get_running_loop() raises where none is


def is_in_a_trampoline() -> bool:
    """Whether this thread's trampoline is running, as in `subscribe`. It would delay even reactivex.of() to its end."""
    return not CurrentThreadScheduler.singleton().schedule_required()


def is_on_a_loop() -> bool:
    """Whether an asyncio loop is running on this thread."""
    return running_loop() is not None


def loop_of(scheduler: abc.SchedulerBase | None) -> asyncio.AbstractEventLoop | None:
    """Return the asyncio loop of a scheduler; None if it has none."""
    if isinstance(scheduler, AsyncIOScheduler):
        return scheduler._loop  # noqa: SLF001
    return getattr(scheduler, "loop", None) if isinstance(scheduler, NewThreadScheduler) else None


def threads_beside(loop: asyncio.AbstractEventLoop) -> abc.SchedulerBase:
    """Return a scheduler with a thread for each piece of work, which reads asynchronous sources on a loop."""
    return carrying(NewThreadScheduler(), "loop", loop)


CallSoon = Callable[[Callable[[], None]], bool]


def call_soon(scheduler: abc.SchedulerBase) -> CallSoon:
    """Return a function that has another function called on the scheduler's loop. Any thread may call it.

    It returns whether the loop accepts the function. A closed loop does not.
    """

    def call(turn: Callable[[], None]) -> bool:
        try:
            if isinstance(scheduler, AsyncIOScheduler):
                # Its schedule() uses loop.call_soon. Only the loop's own thread may call that, and not in a signal
                # handler, because it does not wake the loop. Its thread-safe subclass blocks in dispose until the loop
                # has a turn.
                scheduler._loop.call_soon_threadsafe(turn)  # noqa: SLF001
            else:
                scheduler.schedule(lambda *_: turn())
        except Exception:  # noqa: BLE001 - the loop is closed; each scheduler raises another error for that
            return False
        return True

    return call


def carrying(scheduler: abc.SchedulerBase, name: str, value: object) -> abc.SchedulerBase:
    """Return the same scheduler with one more attribute.

    The result is an object of a subclass, with the same `__dict__`. So it has the scheduler's type and state.
    """
    kind = type(scheduler)
    same: Any = object.__new__(type(kind.__name__, (kind,), {name: value}))
    same.__dict__ = scheduler.__dict__
    return same  # type: ignore[no-any-return]
