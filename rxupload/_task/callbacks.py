"""Calls a task's callbacks, in one serial queue, and gives late listeners the latest event."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import Condition, RLock, get_ident
from typing import Any, Generic, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import Disposable, SingleAssignmentDisposable
from reactivex.notification import Notification, OnNext

from rxupload._arguments import wrong_type
from rxupload._schedulers import call_soon, is_closed, may_block
from rxupload._signals import delaying_ctrl_c
from rxupload._threads import run_on_thread
from rxupload._wait import Latch, wait_for

T = TypeVar("T")
_logger = logging.getLogger("rxupload")

_LOOK_SECONDS = 1.0  # between two looks at whether a loop is still there, which tells nobody when it closes


class CallbackQueue:
    """Runs posted actions one after the other: in turns of a loop, or on a thread.

    If the loop closes, a thread runs the remaining actions, so that every task notifies its end.
    """

    def __init__(self, scheduler: abc.SchedulerBase | None) -> None:
        self._call_soon = None if scheduler is None or may_block(scheduler) else call_soon(scheduler)
        self._is_closed = partial(is_closed, scheduler)
        # Reentrant, because a signal handler may call it while its own thread holds the lock.
        self._lock = RLock()
        self._changed = Condition(self._lock)
        self._actions: deque[Callable[[], object]] = deque()
        self._has_thread = False
        self._owner: int | None = None
        self._running: Callable[[], object] | None = None
        self._is_calling = False  # the running action is calling a user's function
        self._waiting: list[tuple[Callable[[], object], Latch]] = []  # the actions that `run` waits for

    @property
    def is_current(self) -> bool:
        """Whether the queue is running an action on the calling thread."""
        return self._owner == get_ident()

    @property
    def has_loop(self) -> bool:
        """Whether it runs actions in turns of a loop."""
        return self._call_soon is not None

    def post(self, action: Callable[[], object]) -> None:
        """Run the action after all earlier ones, and never within this call. Any thread may call this."""
        with delaying_ctrl_c(), self._lock:
            self._actions.append(action)
        ask = self._call_soon  # read it once: another thread may set it to None when the loop has closed
        if ask is not None and ask(self._run_one):
            return
        self._call_soon = None
        self._run_on_a_thread()

    def post_end(self, action: Callable[[], object]) -> None:
        """Post it, and see to it that it runs also where the loop closes before the turn that it has promised."""
        has_begun = Latch()

        def run() -> None:
            has_begun.set()
            with delaying_ctrl_c():
                action()

        self.post(run)
        if self._call_soon is not None:
            with suppress(RuntimeError):  # an interpreter that is shutting down starts no threads
                run_on_thread(partial(self._see_to_it, has_begun))

    def _see_to_it(self, has_begun: Latch) -> None:
        while not has_begun.wait(time.monotonic() + _LOOK_SECONDS):
            if self._is_closed():
                self._call_soon = None
                self._run_on_a_thread()
                return

    def run(self, action: Callable[[], object]) -> None:
        """Run the action before this returns.

        There are two exceptions. On a loop, the action runs in the next turn. While a user's function is running, the
        action runs after it, and this does not wait: that function may be waiting for the calling thread.
        """
        if self._call_soon is None and self.is_current:
            action()
            return
        is_over = Latch()  # or must not be waited for

        def run() -> None:
            try:
                action()
            finally:
                is_over.set()

        self.post(run)
        if self._call_soon is not None:
            return
        with delaying_ctrl_c(), self._lock:
            self._waiting.append((run, is_over))
            self._release_waiting()
        try:
            is_over.wait()
        finally:
            with delaying_ctrl_c(), self._lock:
                self._waiting.remove((run, is_over))

    def _release_waiting(self) -> None:
        if self._is_calling:
            for action, is_over in self._waiting:
                if action is not self._running:
                    is_over.set()

    def call(self, callback: Callable[..., object] | None, *args: Any) -> None:
        """Call the user's function, if any. Log what it raises, and go on.

        SystemExit is logged, too: otherwise it would silently end the library's thread.
        """
        if callback is None:
            return
        self._note_call(is_calling=True)
        try:
            callback(*args)
        except BaseException:
            _logger.exception("A callback of an upload raised")
        finally:
            self._note_call(is_calling=False)

    def _note_call(self, *, is_calling: bool) -> None:
        with delaying_ctrl_c(), self._lock:
            self._is_calling = is_calling
            self._release_waiting()

    def _run_on_a_thread(self) -> None:
        with delaying_ctrl_c():
            with self._lock:
                if self._has_thread:
                    return
                self._has_thread = True
            try:
                run_on_thread(self._run_all)
            except RuntimeError:  # the interpreter starts no threads while it shuts down
                self._run_all()

    def _run_all(self) -> None:
        while True:
            with delaying_ctrl_c(), self._lock:
                if not self._actions:
                    self._has_thread = False
                    return
            self._run_one()

    def _run_one(self) -> None:
        with delaying_ctrl_c(), self._lock:
            # A loop that is closed may still be in a callback when a thread goes on in its place.
            wait_for(self._changed, lambda: self._running is None or self.is_current)
            if not self._actions:
                return
            action = self._actions.popleft()
            self._owner = get_ident()
            self._running = action
        try:
            action()
        finally:
            with delaying_ctrl_c(), self._lock:
                self._owner = self._running = None
                self._changed.notify_all()


class Hot(Observable[T]):
    """A hot Observable. A late observer gets the latest item that `keeps` accepts, and the end.

    Only actions of the queue call `emit` and `end`. Any thread may call `subscribe` and `mute`.
    """

    def __init__(self, queue: CallbackQueue, keeps: Callable[[T], bool] = lambda _: True) -> None:
        super().__init__(self._join)
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
            if not self._muted:
                seat.tell(OnNext(item))
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
            self._catch_up(seat)

    def _join(
        self,
        observer: abc.ObserverBase[T],
        scheduler: abc.SchedulerBase | None = None,  # noqa: ARG002
    ) -> abc.DisposableBase:
        seat = _Seat(observer, self._queue)
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
        return Disposable(partial(self._remove, seat))

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


class _Seat(Generic[T]):
    """One observer. reactivex drops notifications for one that has unsubscribed."""

    def __init__(self, observer: abc.ObserverBase[T], queue: CallbackQueue) -> None:
        self._observer = observer
        self._queue = queue
        self.is_fresh = True  # it has had no notification yet

    def tell(self, notification: Notification[T]) -> None:
        self.is_fresh = False
        self._queue.call(notification.accept, self._observer)


class Listeners(Hot[T]):
    """The callbacks for one kind of event. Each has a subscription, and removing it disposes that."""

    def __init__(self, queue: CallbackQueue, payload: Callable[[T], object]) -> None:
        super().__init__(queue)
        self._payload = payload
        self._registered: list[tuple[Callable[..., object], SingleAssignmentDisposable]] = []

    def add(self, callback: Callable[..., object]) -> None:
        """Call it with the latest event and each later one. Adding an equal callback (`==`) again has no effect."""
        if not callable(callback):
            raise wrong_type("callback", "a function", callback)
        subscription = SingleAssignmentDisposable()
        with delaying_ctrl_c(), self._guard:
            if any(each == callback for each, _ in self._registered):
                return
            self._registered.append((callback, subscription))

        def listen(item: T) -> None:
            callback(self._payload(item))

        subscription.disposable = self.subscribe(listen)

    def remove(self, callback: Callable[..., object] | None) -> None:
        """Remove a callback; None removes all."""
        with delaying_ctrl_c(), self._guard:
            removed = [entry for entry in self._registered if callback is None or entry[0] == callback]
            self._registered = [entry for entry in self._registered if entry not in removed]
        for _, subscription in removed:
            subscription.dispose()
