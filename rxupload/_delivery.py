"""Where the notifications of one subscription go: which thread they come on, and in what order.

reactivex neither serialises notifications nor says which thread they come on: that is its source's duty, and here it
is done. Its AutoDetachObserver, which every subscription gets, drops what comes after a dispose.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import Lock, current_thread
from typing import Any, Protocol, cast

import httpx
from reactivex import abc
from reactivex.notification import Notification, OnCompleted, OnError, OnNext
from reactivex.scheduler import (
    EventLoopScheduler,
    ImmediateScheduler,
    NewThreadScheduler,
    TimeoutScheduler,
    TrampolineScheduler,
    VirtualTimeScheduler,
)
from reactivex.scheduler.eventloop import AsyncIOScheduler

from ._progress import Progress
from ._transfer import Abandoned, Transfer, users_code

UploadEvent = Progress | httpx.Response
Observer = abc.ObserverBase[UploadEvent]

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
    """Whether what is scheduled runs on the thread of whoever schedules it, or starts the clock."""
    return isinstance(scheduler, _IN_PLACE)


def may_block(scheduler: abc.SchedulerBase) -> bool:
    """Whether an upload may block the scheduler: it has a thread for each piece of work, or works in place.

    All others have one thread or loop for everything that is scheduled on them.
    """
    return isinstance(scheduler, _BLOCKABLE)


class Delivery(Protocol):
    """Brings the notifications of one transfer to its observer, one at a time and in order."""

    def next(self, item: Any) -> None:
        """One more item. Raises what the observer raises where that is known at once."""

    def error(self, error: Exception) -> None:
        """The end, with an error."""

    def completed(self) -> None:
        """The end."""


class Stoppable(Protocol):
    """What a delivery tells when its observer or its loop fails: a transfer, or a batch of them."""

    def stop(self, reason: BaseException) -> None:
        """End it for this reason."""


class DirectDelivery:
    """Delivers at once, on the worker's own thread: a slow observer holds up its own upload."""

    def __init__(self, observer: Observer, transfer: Transfer) -> None:
        self._observer = observer
        self._transfer = transfer

    def next(self, item: UploadEvent) -> None:
        """Hand over an item; an observer that raises ends the transfer with its exception."""
        try:
            with users_code():
                self._observer.on_next(item)
        except BaseException as error:
            self._transfer.stop(error)
            raise

    def error(self, error: Exception) -> None:
        """Hand over the end, with an error."""
        self._observer.on_error(error)

    def completed(self) -> None:
        """Hand over the end."""
        self._observer.on_completed()


class LoopDelivery:
    """Delivers in turns of an event loop, which is never blocked and never flooded.

    Progress that waits for its turn is replaced by newer Progress of the same pass, except its first item.
    """

    def __init__(
        self, observer: abc.ObserverBase[Any], transfer: Stoppable, scheduler: abc.SchedulerBase
    ) -> None:
        self._observer = observer
        self._transfer = transfer
        self._call_soon = call_soon(scheduler)
        self._lock = Lock()
        self._waiting: list[Notification[Any]] = []
        self._called = False  # a turn has been asked for and has not ended

    def next(self, item: Any) -> None:
        """Queue an item for the loop."""
        self._put(OnNext(item))

    def error(self, error: Exception) -> None:
        """Queue the end, with an error, for the loop."""
        self._put(OnError(error))

    def completed(self) -> None:
        """Queue the end for the loop."""
        self._put(OnCompleted())

    def _put(self, notification: Notification[Any]) -> None:
        with self._lock:
            if self._waiting and _replaces(notification, self._waiting[-1]):
                self._waiting.pop()
            self._waiting.append(notification)
            if self._called:
                return
            self._called = True
        self._ask_for_a_turn()

    def _ask_for_a_turn(self) -> None:
        if not self._call_soon(self._turn):
            self._transfer.stop(Abandoned())

    def _turn(self) -> None:
        # Only what was there when the turn began: a worker that is faster than the observer must not keep the loop.
        with self._lock:
            batch, self._waiting = self._waiting, []
        for notification in batch:
            if not self._deliver(notification):
                return  # _called stays set: no further turn
        with self._lock:
            again = self._called = bool(self._waiting)
        if again:
            self._ask_for_a_turn()

    def _deliver(self, notification: Notification[Any]) -> bool:
        try:
            notification.accept(self._observer)
        except BaseException as error:
            self._transfer.stop(error)
            if not isinstance(notification, OnNext):
                raise  # from on_error or on_completed: nobody is left to tell but the loop
            self._observer.on_error(cast("Exception", error))
            if not isinstance(error, Exception):
                raise
            return False
        return True


def _replaces(new: Notification[Any], old: Notification[Any]) -> bool:
    return (
        isinstance(new, OnNext)
        and isinstance(old, OnNext)
        and isinstance(new.value, Progress)
        and isinstance(old.value, Progress)
        and new.value.attempt == old.value.attempt
        and old.value.sent > 0
    )


def is_closed(scheduler: abc.SchedulerBase | None) -> bool:
    """Whether the scheduler's loop will never have another turn, as far as that can be known."""
    if isinstance(scheduler, AsyncIOScheduler):
        return scheduler._loop.is_closed()  # noqa: SLF001
    return isinstance(scheduler, EventLoopScheduler) and scheduler._is_disposed  # noqa: SLF001


def is_loop_of_this_thread(scheduler: abc.SchedulerBase | None) -> bool:
    """Whether the scheduler's loop runs on this thread, as far as that can be known."""
    if isinstance(scheduler, AsyncIOScheduler):
        return asyncio._get_running_loop() is scheduler._loop  # noqa: SLF001 - get_running_loop() raises where none is
    return isinstance(scheduler, EventLoopScheduler) and scheduler._thread is current_thread()  # noqa: SLF001


CallSoon = Callable[[Callable[[], None]], bool]


def call_soon(scheduler: abc.SchedulerBase) -> CallSoon:
    """Return the scheduler's way to have a function called in a turn of its loop, safe from any thread.

    What it returns says whether the loop takes the function: one that is closed does not.
    """

    def call(turn: Callable[[], None]) -> bool:
        try:
            if isinstance(scheduler, AsyncIOScheduler):
                # Its schedule() is loop.call_soon, which only the loop's own thread may call; and the subclass that may
                # be called from anywhere blocks its dispose until the loop has a turn.
                scheduler._loop.call_soon_threadsafe(turn)  # noqa: SLF001
            else:
                scheduler.schedule(lambda *_: turn())
        except Exception:  # noqa: BLE001 - the loop is closed, in whatever words its scheduler says so
            return False
        return True

    return call
