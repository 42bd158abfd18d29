"""Gives each event to the observers and listeners of a task, and the latest one to late ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import RLock
from typing import Generic, TypeVar

from reactivex import Observable, Observer, abc
from reactivex.disposable import Disposable, SingleAssignmentDisposable
from reactivex.notification import Notification, OnNext

from rxupload._arguments import NO_LOOP, is_async, wrong_type
from rxupload._delivery import LoopDelivery
from rxupload._schedulers import may_block
from rxupload._signals import delaying_ctrl_c
from rxupload._wait import Latch

from .callback_queue import Callback, CallbackQueue

T = TypeVar("T")


class Hot(Observable[T]):
    """A hot Observable. A late observer gets the latest item that `keeps` accepts, and the end.

    Only actions of the queue call `emit` and `end`. Any thread may call `subscribe` and `mute`.
    """

    def __init__(
        self, queue: CallbackQueue, is_observed: Latch, keeps: Callable[[T], bool] = lambda _: True
    ) -> None:
        """Make it. The first subscription sets `is_observed`."""
        super().__init__(self._join)
        self._is_observed = is_observed
        self._queue = queue
        self._keeps = keeps
        self._guard = RLock()  # reentrant, because a signal handler may abort while its own thread holds it
        self._seats: list[_Seat[T]] = []
        self._latest: tuple[T, ...] = ()
        self._end: tuple[Notification[T], ...] | None = None
        self._emitting = False
        self._muted = False

    def emit(self, item: T) -> None:
        """Notify all present observers of an item, in the order in which they subscribed."""
        with delaying_ctrl_c(), self._guard:
            if self._muted:
                return
            if self._keeps(item):
                self._latest = (item,)
            seats = tuple(self._seats)
        self._emitting = True
        for seat in seats:
            self._queue.do(partial(self._tell, seat, OnNext(item)))
        self._queue.do(self._note_emitted)

    def _tell(self, seat: _Seat[T], notification: OnNext[T]) -> None:
        if not self._muted:
            seat.tell(notification)

    def _note_emitted(self) -> None:
        self._emitting = False

    def mute(self) -> None:
        """Emit no more items, not even the latest one to late observers."""
        with delaying_ctrl_c(), self._guard:
            self._muted = True
            self._latest = ()

    def end(self, *notifications: Notification[T]) -> None:
        """Notify all present and later observers of the end."""
        with delaying_ctrl_c(), self._guard:
            self._end = notifications
            seats, self._seats = self._seats, []
        for seat in seats:
            self._queue.do(partial(self._catch_up, seat))

    def _join(
        self,
        observer: abc.ObserverBase[T],
        scheduler: abc.SchedulerBase | None = None,
    ) -> abc.DisposableBase:
        self._is_observed.set()
        subscription = _Subscription()
        if scheduler is not None and not may_block(scheduler):
            observer = _on_loop(observer, subscription, scheduler)
        seat = _Seat(observer, self._queue)
        subscription.disposable = Disposable(partial(self._remove, seat))
        with delaying_ctrl_c(), self._guard:
            ended = self._end is not None
            if not ended:
                self._seats.append(seat)
            has_missed = bool(self._latest)
        if ended:
            self._queue.run(partial(self._catch_up, seat))
        elif has_missed and not (self._emitting and self._queue.is_current):
            # A callback that adds a listener during an event does not get that event again.
            self._queue.post(partial(self._catch_up, seat))
        return subscription

    def _catch_up(self, seat: _Seat[T]) -> None:
        if seat.is_fresh:
            for item in self._latest:
                seat.tell(OnNext(item))
        for notification in self._end or ():
            seat.tell(notification)

    def _remove(self, seat: _Seat[T]) -> None:
        with delaying_ctrl_c(), self._guard:
            if seat in self._seats:
                self._seats.remove(seat)


class _Subscription(SingleAssignmentDisposable):
    """A subscription that ends when its observer raises, or its loop closes."""

    def stop(self, reason: BaseException) -> None:  # noqa: ARG002
        self.dispose()


def _on_loop(
    observer: abc.ObserverBase[T], subscription: _Subscription, scheduler: abc.SchedulerBase
) -> abc.ObserverBase[T]:
    """Return an observer that notifies another one on a loop: a coroutine that awaits would not wake up otherwise."""
    delivery = LoopDelivery(observer, subscription, scheduler)
    return Observer(delivery.next, delivery.error, delivery.completed)


class _Seat(Generic[T]):
    """One observer. reactivex drops notifications for one that has unsubscribed."""

    def __init__(self, observer: abc.ObserverBase[T], queue: CallbackQueue) -> None:
        self._callback = Callback(
            lambda notification: notification.accept(observer), "events", "of an observer"
        )
        self._queue = queue
        self.is_fresh = True  # it has had no notification yet

    def tell(self, notification: Notification[T]) -> None:
        self.is_fresh = False
        self._queue.call(self._callback, notification)


class Listeners(Hot[T]):
    """The callbacks for one kind of event. Each has a subscription, and removing it disposes that."""

    def __init__(self, queue: CallbackQueue, event: str, payload: Callable[[T], object]) -> None:
        super().__init__(queue, Latch())
        self._event = event
        self._payload = payload
        self._registered: list[tuple[Callable[..., object], SingleAssignmentDisposable]] = []

    def add(self, callback: Callable[..., object]) -> None:
        """Call it with the latest event and each later one. Adding an equal callback (`==`) again has no effect."""
        if not callable(callback):
            raise wrong_type("callback", "a function", callback)
        if is_async(callback) and not self._queue.can_await:
            raise TypeError(f"callback: {NO_LOOP}")
        subscription = SingleAssignmentDisposable()
        with delaying_ctrl_c(), self._guard:
            if any(each == callback for each, _ in self._registered):
                return
            self._registered.append((callback, subscription))

        described = Callback(callback, self._event)

        def listen(item: T) -> None:
            self._queue.call(described, self._payload(item))

        subscription.disposable = self.subscribe(listen)

    def remove(self, callback: Callable[..., object] | None) -> None:
        """Remove a callback; None removes all."""
        with delaying_ctrl_c(), self._guard:
            removed = [entry for entry in self._registered if callback is None or entry[0] == callback]
            self._registered = [entry for entry in self._registered if entry not in removed]
        for _, subscription in removed:
            subscription.dispose()
