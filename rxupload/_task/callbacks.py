"""Where a task tells its callbacks: its one serial queue, and a hot Observable that may be joined late."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import Condition, Event, Lock, Thread, get_ident
from typing import Any, Generic, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import Disposable, SingleAssignmentDisposable
from reactivex.notification import Notification, OnNext

from rxupload._arguments import wrong_type
from rxupload._schedulers import call_soon, is_closed, may_block
from rxupload._threads import run_on_thread
from rxupload._wait import wait_for, wait_for_event

T = TypeVar("T")
_logger = logging.getLogger("rxupload")

_LOOK_SECONDS = 1.0  # between two looks at whether a loop is still there, which tells nobody when it closes


class CallbackQueue:
    """Runs what is posted to it one after the other: in turns of a loop, or else on a thread.

    The thread lives while there is something to run, and is no daemon, so a script that ends waits for it. When the
    loop is closed, what it has not run comes on a thread as well: every task tells its end.
    """

    def __init__(self, scheduler: abc.SchedulerBase | None) -> None:
        self._call_soon = None if scheduler is None or may_block(scheduler) else call_soon(scheduler)
        self._is_closed = partial(is_closed, scheduler)
        self._changed = Condition()
        self._actions: deque[Callable[[], object]] = deque()
        self._has_thread = False
        self._owner: int | None = None
        self._running: Callable[[], object] | None = None
        self._is_calling = False  # the user's function, in what runs

    @property
    def is_current(self) -> bool:
        """Whether this is called by what the queue runs."""
        return self._owner == get_ident()

    @property
    def has_loop(self) -> bool:
        """Whether it runs in turns of a loop."""
        return self._call_soon is not None

    def post(self, action: Callable[[], object]) -> None:
        """Have it run after what was posted before, and never on the caller's stack. From any thread."""
        with self._changed:
            self._actions.append(action)
        ask = self._call_soon  # another thread may find meanwhile that the loop is closed
        if ask is not None and ask(self._run_one):
            return
        self._call_soon = None
        self._run_on_a_thread()

    def post_end(self, action: Callable[[], object]) -> None:
        """Post it, and see to it that it runs also where the loop closes before the turn that it has promised."""
        has_begun = Event()

        def run() -> None:
            has_begun.set()
            action()

        self.post(run)
        if self._call_soon is not None:
            with suppress(RuntimeError):  # an interpreter that is shutting down starts no threads
                run_on_thread(partial(self._see_to_it, has_begun))

    def _see_to_it(self, has_begun: Event) -> None:
        while not wait_for_event(has_begun, time.monotonic() + _LOOK_SECONDS):
            if self._is_closed():
                self._call_soon = None
                self._run_on_a_thread()
                return

    def run(self, action: Callable[[], object]) -> None:
        """Run it before this returns.

        On a loop, it is run in the next turn. Where one of the user's functions is running, it is run after that, and
        this does not wait: that function may be waiting for this thread.
        """
        if self._call_soon is None and self.is_current:
            action()
            return
        is_done = False

        def run() -> None:
            nonlocal is_done
            try:
                action()
            finally:
                is_done = True

        self.post(run)
        if self._call_soon is None:
            with self._changed:
                wait_for(self._changed, lambda: is_done or (self._is_calling and self._running is not run))

    def call(self, callback: Callable[..., object] | None, *args: Any) -> None:
        """Call the user's function, if there is one. What it raises is logged, and stops nothing.

        SystemExit as well: it would end the library's thread, and nobody would hear of it.
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
        with self._changed:
            self._is_calling = is_calling
            self._changed.notify_all()

    def _run_on_a_thread(self) -> None:
        with self._changed:
            if self._has_thread:
                return
            self._has_thread = True
        try:
            Thread(target=self._run_all, name="rxupload callbacks", daemon=False).start()
        except RuntimeError:  # an interpreter that is shutting down starts no threads
            self._run_all()

    def _run_all(self) -> None:
        while True:
            with self._changed:
                if not self._actions:
                    self._has_thread = False
                    return
            self._run_one()

    def _run_one(self) -> None:
        with self._changed:
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
            with self._changed:
                self._owner = self._running = None
                self._changed.notify_all()


class Hot(Observable[T]):
    """Items as they come, the same for all observers; those who join late get the latest one, and the end.

    `emit` and `end` are called by what the queue runs, `subscribe` and `mute` from any thread.
    """

    def __init__(self, queue: CallbackQueue) -> None:
        super().__init__(self._join)
        self._queue = queue
        self._guard = Lock()
        self._seats: list[_Seat[T]] = []
        self._latest: tuple[T, ...] = ()
        self._end: tuple[Notification[T], ...] | None = None
        self._emitting = False
        self._muted = False

    def emit(self, item: T) -> None:
        """Tell everybody who is here now, in the order of their coming."""
        with self._guard:
            if self._muted:
                return
            self._latest = (item,)
            seats = tuple(self._seats)
        self._emitting = True
        for seat in seats:
            if not self._muted:
                seat.tell(OnNext(item))
        self._emitting = False

    def mute(self) -> None:
        """From now on there are no items, the latest one included."""
        with self._guard:
            self._muted = True
            self._latest = ()

    def end(self, *notifications: Notification[T]) -> None:
        """Tell everybody the end, and those who join later too."""
        with self._guard:
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
        with self._guard:
            ended = self._end is not None
            if not ended:
                self._seats.append(seat)
            has_missed = bool(self._latest)
        if ended:
            self._queue.run(partial(self._catch_up, seat))
        elif has_missed and not (self._emitting and self._queue.is_current):
            # Not for one that a callback adds to the very event it is called with: that waits for the next.
            self._queue.post(partial(self._catch_up, seat))
        return Disposable(partial(self._remove, seat))

    def _catch_up(self, seat: _Seat[T]) -> None:
        if seat.is_fresh:
            for item in self._latest:
                seat.tell(OnNext(item))
        for notification in self._end or ():
            seat.tell(notification)

    def _remove(self, seat: _Seat[T]) -> None:
        with self._guard:
            if seat in self._seats:
                self._seats.remove(seat)


class _Seat(Generic[T]):
    """An observer; reactivex sees to it that one who has unsubscribed hears nothing."""

    def __init__(self, observer: abc.ObserverBase[T], queue: CallbackQueue) -> None:
        self._observer = observer
        self._queue = queue
        self.is_fresh = True  # has been told nothing yet

    def tell(self, notification: Notification[T]) -> None:
        self.is_fresh = False
        self._queue.call(notification.accept, self._observer)


class Listeners(Hot[T]):
    """The callbacks for one kind of event: each is a subscription, which its removal disposes."""

    def __init__(self, queue: CallbackQueue, payload: Callable[[T], object]) -> None:
        super().__init__(queue)
        self._payload = payload
        self._registered: list[tuple[Callable[..., object], SingleAssignmentDisposable]] = []

    def add(self, callback: Callable[..., object]) -> None:
        """Call it with each event from now on, and once with the latest; the same one twice (`==`) counts once."""
        if not callable(callback):
            raise wrong_type("callback", "a function", callback)
        subscription = SingleAssignmentDisposable()
        with self._guard:
            if any(each == callback for each, _ in self._registered):
                return
            self._registered.append((callback, subscription))

        def listen(item: T) -> None:
            callback(self._payload(item))

        subscription.disposable = self.subscribe(listen)

    def remove(self, callback: Callable[..., object] | None) -> None:
        """Stop calling it; None stands for all of them."""
        with self._guard:
            removed = [entry for entry in self._registered if callback is None or entry[0] == callback]
            self._registered = [entry for entry in self._registered if entry not in removed]
        for _, subscription in removed:
            subscription.dispose()
