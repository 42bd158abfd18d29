"""Delivers the notifications of one subscription: on which thread, and in which order.

reactivex neither serialises notifications nor chooses their thread. The source has to, and this module does it.
reactivex wraps every observer in its AutoDetachObserver, which drops notifications after a dispose.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from functools import partial
from threading import Condition, Lock, get_ident
from typing import Any, NoReturn, Protocol, cast

from reactivex import abc
from reactivex.notification import Notification, OnCompleted, OnError, OnNext

from ._progress import Progress, UploadEvent
from ._schedulers import call_soon, is_in_a_trampoline, is_loop_of_this_thread
from ._transfer import Abandoned, Transfer
from ._wait import wait_for

Observer = abc.ObserverBase[UploadEvent]


class Delivery(Protocol):
    """Delivers notifications to one observer, one at a time and in order."""

    def next(self, item: Any) -> None:
        """Deliver an item. If it does so at once, it raises what the observer raises."""

    def last(self, item: Any) -> None:
        """Deliver the last item, as `next` does. The end must follow at once."""

    def error(self, error: Exception) -> None:
        """Deliver the end, with an error."""

    def completed(self) -> None:
        """Deliver the end."""


class Stoppable(Protocol):
    """A transfer or a batch, which a delivery stops when its observer or its loop fails."""

    def stop(self, reason: BaseException) -> None:
        """End it with this reason."""


class DirectDelivery:
    """Delivers at once, on the worker's own thread. So a slow observer delays its own upload."""

    def __init__(self, observer: Observer, transfer: Transfer) -> None:
        self._observer = observer
        self._transfer = transfer

    def next(self, item: UploadEvent) -> None:
        """Deliver an item. If the observer raises, end the transfer with its exception."""
        try:
            self._observer.on_next(item)
        except BaseException as error:
            self._transfer.stop(error)
            raise

    def last(self, item: Any) -> None:
        """Deliver the last item."""
        self.next(item)

    def error(self, error: Exception) -> None:
        """Deliver the end, with an error."""
        self._observer.on_error(error)

    def completed(self) -> None:
        """Deliver the end."""
        self._observer.on_completed()


class QueuedDelivery(ABC):
    """Queues notifications, and delivers each one to the observer. A subclass decides when and on which thread.

    Attributes:
        count: How many notifications were queued.
    """

    count = 0

    def __init__(self, observer: abc.ObserverBase[Any], stoppable: Stoppable) -> None:
        self._observer = observer
        self._stoppable = stoppable

    def next(self, item: Any) -> None:
        """Queue an item."""
        self._put(OnNext(item))

    def error(self, error: Exception) -> None:
        """Queue the end, with an error."""
        self._put(OnError(error))

    def completed(self) -> None:
        """Queue the end."""
        self._put(OnCompleted())

    def deliver(self, ticket: int, *, waits: bool = True) -> None:  # noqa: B027 - the default
        """Deliver what is queued up to this number. The caller holds no lock.

        Args:
            ticket: The number of a notification.
            waits: Whether to return only when that has been delivered, if another thread is delivering.
        """

    @abstractmethod
    def _put(self, notification: Notification[Any]) -> None: ...

    def _deliver(self, notification: Notification[Any]) -> bool:
        """Deliver a notification. Return False if the observer has raised, and so has got the end."""
        try:
            notification.accept(self._observer)
        except BaseException as error:
            self._stoppable.stop(error)
            if not isinstance(notification, OnNext):
                raise  # on_error or on_completed raised: only the loop or the thread is left to report it
            self._observer.on_error(cast("Exception", error))
            if not isinstance(error, Exception):
                raise
            return False
        return True


class LoopDelivery(QueuedDelivery):
    """Delivers in turns of an event loop, without blocking or flooding it.

    Newer Progress of the same pass replaces Progress that still waits for its turn, except the first item of the pass.
    """

    def __init__(
        self, observer: abc.ObserverBase[Any], stoppable: Stoppable, scheduler: abc.SchedulerBase
    ) -> None:
        super().__init__(observer, stoppable)
        self._call_soon = call_soon(scheduler)
        self._lock = Lock()
        self._waiting: list[Notification[Any]] = []
        self._called = False  # a turn is scheduled or running

    def last(self, item: Any) -> None:
        """Queue the last item, for the turn that delivers the end."""
        with self._lock:
            self._queue(OnNext(item))

    def _put(self, notification: Notification[Any]) -> None:
        with self._lock:
            self._queue(notification)
            if self._called:
                return
            self._called = True
        self._ask_for_a_turn()

    def _queue(self, notification: Notification[Any]) -> None:
        if self._waiting and _replaces(notification, self._waiting[-1]):
            self._waiting.pop()
        self._waiting.append(notification)

    def _ask_for_a_turn(self) -> None:
        if not self._call_soon(self._turn):
            self._stoppable.stop(Abandoned())

    def _turn(self) -> None:
        # Deliver only what is there now: a worker that is faster than the observer must not keep the loop busy.
        with self._lock:
            batch, self._waiting = self._waiting, []
        for notification in batch:
            if not self._deliver(notification):
                return  # _called stays set: no further turn
        with self._lock:
            again = self._called = bool(self._waiting)
        if again:
            self._ask_for_a_turn()


class LoopBatchDelivery(LoopDelivery):
    """Queues under the caller's lock, and delivers under none: at once in a turn of the loop, and else in the next one.

    The events of a batch come in turns of their uploads, so that nothing blocks or floods the loop. What does not come
    in such a turn waits for the next one: an upload that emits while it is subscribed to, and the error of a setting,
    which may come in a signal handler.
    """

    def __init__(
        self, observer: abc.ObserverBase[Any], stoppable: Stoppable, scheduler: abc.SchedulerBase
    ) -> None:
        super().__init__(observer, stoppable, scheduler)
        self._is_on_loop = partial(is_loop_of_this_thread, scheduler)

    def _put(self, notification: Notification[Any]) -> None:
        with self._lock:
            self._queue(notification)
            self.count += 1

    def deliver(self, ticket: int, *, waits: bool = True) -> None:  # noqa: ARG002
        with self._lock:
            if self._called or not self._waiting:
                return
            self._called = True
        if not waits or not self._is_on_loop() or is_in_a_trampoline():
            self._ask_for_a_turn()
            return
        try:
            self._turn()
        except Exception as error:  # noqa: BLE001 - the loop reports it; the upload would swallow it
            self._call_soon(partial(_raise, error))


def _raise(error: Exception) -> NoReturn:
    raise error


def _replaces(new: Notification[Any], old: Notification[Any]) -> bool:
    return (
        isinstance(new, OnNext)
        and isinstance(old, OnNext)
        and isinstance(new.value, Progress)
        and isinstance(old.value, Progress)
        and new.value.attempt == old.value.attempt
        and old.value.sent > old.value.start
    )


class OneAtATimeDelivery(QueuedDelivery):
    """Queues under the caller's lock, and delivers under none, on the threads that bring the events.

    A thread returns from `deliver` when its own event has been delivered, so a slow observer slows all of them. Until
    then it delivers whatever comes first in the queue. So no thread delivers for ever what others bring. If the
    observer itself causes another event, that event is delivered after the observer has returned.
    """

    def __init__(self, observer: abc.ObserverBase[Any], stoppable: Stoppable) -> None:
        super().__init__(observer, stoppable)
        self._turn = Condition()
        self._waiting: deque[Notification[Any]] = deque()
        self._delivered = 0
        self._owner: int | None = None  # the thread that is delivering
        self._tickets: list[int] = []  # of the threads that wait

    def _put(self, notification: Notification[Any]) -> None:
        with self._turn:
            self._waiting.append(notification)
            self.count += 1

    def deliver(self, ticket: int, *, waits: bool = True) -> None:
        with self._turn:
            if self._owner is not None:
                if self._owner == get_ident() or not waits:
                    return  # the owner will deliver it
                self._tickets.append(ticket)
                try:
                    wait_for(self._turn, lambda: self._owner is None or self._delivered >= ticket)
                finally:
                    self._tickets.remove(ticket)
            if self._delivered >= ticket:
                return
            self._owner = get_ident()
        try:
            while (notification := self._next(ticket)) is not None:
                try:
                    self._deliver(notification)
                finally:
                    self._delivered += 1
        finally:
            with self._turn:
                if self._owner == get_ident():  # the observer has raised SystemExit, or the like
                    self._owner = None
                self._turn.notify_all()

    def _next(self, ticket: int) -> Notification[Any] | None:
        """Return the next notification for the owner to deliver. If there is none, the owner is none any more."""
        with self._turn:
            self._turn.notify_all()  # somebody's own may have been delivered
            is_another_turn = self._delivered >= ticket and any(
                each > self._delivered for each in self._tickets
            )
            if self._waiting and not is_another_turn:
                return self._waiting.popleft()
            self._owner = None
            return None
