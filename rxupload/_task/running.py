"""What all running tasks share: how they end, once, and how others stop them and wait for them."""

from __future__ import annotations

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from reactivex import abc
from reactivex.disposable import SingleAssignmentDisposable

from rxupload._arguments import check_wait
from rxupload._backlog import Backlog
from rxupload._errors import UploadAborted
from rxupload._kernel import kernel, under_way, watch_cells
from rxupload._rates import Tally
from rxupload._schedulers import is_on_a_loop
from rxupload._signals import delaying_ctrl_c, stoppable, times_stopped
from rxupload._wait import Latch

from . import queue
from .callback_queue import CallbackQueue
from .callbacks import Hot

if TYPE_CHECKING:
    from rxupload._notebook import Display

E = TypeVar("E")
R = TypeVar("R")


class RunningTask(ABC, Generic[E, R]):
    """A subscription that has begun, and ends once: done, failed or aborted.

    Events come on any thread, and wait in `_undelivered` for their turn of the callback queue.
    """

    _what = "The upload"

    def __init__(
        self,
        state: str,
        scheduler: abc.SchedulerBase | None,
        keeps: Callable[[E], bool] = lambda _: True,
        about: str = "",
    ) -> None:
        watch_cells()
        times_stopped()  # from now on: the cell may be stopped before it calls `result()`
        self._context = copy_context()  # of the code that has started it
        self._about = about  # the file and the address, for people
        self._title = f"{self._what} of {about}" if about else self._what
        self._is_looked_at = Latch()  # whether somebody was told of the outcome, or has asked
        self._queue = CallbackQueue(scheduler, self._title)
        self._events: Hot[E] = Hot(self._queue, self._is_looked_at, keeps)
        self._subscription = SingleAssignmentDisposable()
        self._future: Future[R] = Future()
        self._traceback: TracebackType | None = None  # of its error
        self._future.set_running_or_notify_cancel()  # now cancelling a coroutine that awaits it cannot cancel it
        self.ended = Latch()  # the future is done

        # Reentrant, because a signal handler may abort while its own thread holds the lock.
        self._lock = threading.RLock()
        self._state = state
        self._right_to_end = deque(["once"])
        self._undelivered = Backlog()
        self._tally = Tally()
        self._displays: list[Display] = []  # in a notebook

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._state}{': ' if self._about else ''}{self._about}>"

    def _ipython_display_(self) -> None:
        """Show it in a notebook, live: how far it is, and a button that aborts it. Elsewhere the repr does.

        Raises:
            NotImplementedError: There is no Jupyter kernel, or no cell on this thread. IPython then shows the repr.
        """
        if kernel() is None:
            raise NotImplementedError("A live display needs a Jupyter kernel")
        from rxupload._notebook import show_task  # noqa: PLC0415 - only a kernel needs it

        try:
            display = show_task(self._events, self._about, lambda: self._state, self.abort, self._tally)
        except LookupError as error:
            raise NotImplementedError("A live display needs a cell") from error
        if not self.ended.is_set():
            self._displays.append(display)

    @abstractmethod
    def _tell_failure(self, error: Exception) -> None:
        """Notify everybody of the failure, and settle. It runs on the callback queue."""

    def _be_waited_for(self) -> None:
        """Have the end of the script wait for this task, although it waits for no turn."""
        queue.uploads.expect(self)

    def _mute(self) -> None:
        """Notify nobody of anything but the end."""
        self._events.mute()

    def abort(self) -> None:
        """Stop it."""
        with delaying_ctrl_c():
            if not self._decide("aborted"):
                return
            self._mute()
            try:
                self._subscription.dispose()
            finally:
                queue.uploads.do(self._end_aborted)

    def result(self, timeout: float | None = None) -> R:
        """Wait until it has ended, and return its result."""
        seconds = check_wait(timeout)
        if self._queue.is_current:
            raise RuntimeError("result() in a callback of its own task would wait for itself")
        if self._queue.has_loop and not self._future.done() and is_on_a_loop():
            raise RuntimeError(
                "result() would block the event loop on which the callbacks come; await the task"
            )
        try:
            with stoppable():
                has_ended = self.ended.wait(time.monotonic() + seconds)
        except (KeyboardInterrupt, asyncio.CancelledError):
            self.abort()
            raise
        if not has_ended:
            raise TimeoutError(f"{self._what} has not ended within {seconds:g} s")
        with delaying_ctrl_c():
            self._is_looked_at.set()
        error = self._future.exception()
        if error is not None:
            raise error.with_traceback(self._traceback)  # without the frames of an earlier call
        return self._future.result()

    def __await__(self) -> Generator[Any, None, R]:
        """Wait without blocking, and return or raise as `result()` does."""
        if self._queue.is_current and not self._future.done():
            raise RuntimeError("to await a task in a callback of its own would wait for itself")
        before = times_stopped()
        with delaying_ctrl_c():
            self._is_looked_at.set()
            waiter = asyncio.wrap_future(self._future)
            waiter.add_done_callback(partial(self._end_wait, under_way(waiter.get_loop()), before))
        return waiter.__await__()

    def _end_wait(self, awaited: abc.DisposableBase, before: int, waiter: asyncio.Future[R]) -> None:
        """Abort if the stop button of a kernel has cancelled the wait, as Ctrl-C does in `result()`."""
        awaited.dispose()
        if waiter.cancelled() and times_stopped() > before:
            self.abort()

    # On any thread

    def _hold(self, item: E, deliver: Callable[[], object]) -> None:
        """Have the callback queue deliver an event."""
        with self._lock:
            if not self._right_to_end:
                return
            self._tally.take(item)
            if not self._undelivered.put(item):
                return
        self._queue.post(deliver)

    def _take(self) -> E:
        """Return the next event to deliver."""
        with self._lock:
            item: E = self._undelivered.take()
            return item

    def _on_error(self, error: Exception) -> None:
        self._queue.post_end(partial(self._end_with, error))
        queue.uploads.remove(self)

    # On the callback queue

    def _end_with(self, error: Exception) -> None:
        if self._decide("failed"):
            self._mute()
            self._tell_failure(error)

    def _end_aborted(self) -> None:
        self._queue.post_end(partial(self._tell_failure, UploadAborted("user cancel request")))
        queue.uploads.remove(self)
        queue.uploads.advance()

    def _settle(self, outcome: R | Exception) -> None:
        if isinstance(outcome, Exception):
            self._traceback = outcome.__traceback__
            self._future.set_exception(outcome)
            if self._state == "failed":
                watch = partial(queue.uploads.watch, self, self._is_looked_at, self._title, outcome)
                queue.uploads.do(partial(self._context.copy().run, watch))
        else:
            self._future.set_result(outcome)
        queue.uploads.told(self)
        self.ended.set()

    def _decide(self, state: str) -> bool:
        """Set the final state; False if it is already set. `abort()`, from any thread, and the queue may race.

        So may `abort()` in a signal handler, for which a lock of the same thread is no bar.
        """
        try:
            self._right_to_end.pop()
        except IndexError:
            return False
        with delaying_ctrl_c(), self._lock:
            self._state = state
            self._tally.end(time.monotonic())
        return True
