"""`BatchTask`, a running batch, which `UploadAll.start` returns."""

from __future__ import annotations

import time
from collections.abc import Generator
from functools import partial
from typing import Any, Literal, cast

from reactivex import Observable, abc
from reactivex.notification import OnCompleted, OnError, OnNext

from rxupload._events import BatchEvent, BatchProgress, BatchSummary
from rxupload._schedulers import loop_of, threads_beside
from rxupload._signals import delaying_ctrl_c
from rxupload._task import RunningTask

State = Literal["running", "done", "failed", "aborted"]


class BatchTask(RunningTask[BatchEvent, BatchSummary]):
    """A running batch, made by `UploadAll.start`.

    `result()` blocks, and `await task` does not. Cancelling a coroutine that awaits a task does not stop the batch;
    `abort()` does, and so does the stop button of a Jupyter kernel for a task that the cell awaits. Any thread may call
    all methods. Observers of `events` may call all but `result()`.

    A script that reaches its end waits for the task, and Ctrl-C there aborts it.

    In a Jupyter kernel, a cell that ends with the task, or displays it, shows it live, as it shows an `UploadTask`.
    """

    _what = "The batch"

    def __init__(self, source: Observable[BatchEvent], scheduler: abc.SchedulerBase | None) -> None:
        super().__init__("running", scheduler, keeps=lambda event: isinstance(event, BatchProgress))
        try:
            self._be_waited_for()
            self._tally.begin(time.monotonic())
            with delaying_ctrl_c():
                loop = loop_of(scheduler)
                self._subscription.disposable = source.subscribe(
                    self._on_next,
                    self._on_error,
                    scheduler=None if loop is None else threads_beside(loop),
                )
        except BaseException:  # Ctrl-C: the caller gets no task to abort
            self.abort()
            raise

    @property
    def state(self) -> State:
        """`"running"`; `"done"`, even if uploads failed; `"failed"`, by an error of the batch; or `"aborted"`."""
        return cast("State", self._state)

    @property
    def events(self) -> Observable[BatchEvent]:
        """The running batch: its events, or its error (`UploadAborted` after `abort()`).

        Unlike with `UploadAll`, subscribing starts nothing, and disposing aborts nothing. A late observer gets the
        latest BatchProgress, then the later events and the end. After the end, it still gets the summary or the error.
        Notifications come one at a time, on the loop of the subscription's scheduler, as with `await`, or else on the
        loop of the task's scheduler or on a thread of the library. For a slow observer, newer progress replaces
        progress that waits; all else waits as it came.
        """
        return self._events

    def abort(self) -> None:
        """Abort all running uploads, and draw no more.

        It returns at once. Any thread, any observer and any signal handler may call it, any number of times. After the
        end it does nothing.
        """
        super().abort()

    def result(self, timeout: float | None = None) -> BatchSummary:
        """Wait for the end, and return the summary. Its `errors` has the failed uploads.

        Ctrl-C aborts the running uploads before it propagates.

        Args:
            timeout: The most seconds to wait; the batch then continues. None for no limit.

        Raises:
            TimeoutError: `timeout` has passed.
            RuntimeError: It would wait for itself: it was called in an observer of `events`, or on the running loop
                that notifies these.
            UploadAborted: The batch was aborted.
            Exception: The error of the iterable, of `rate_limit` or of `pause`.
        """
        return super().result(timeout)

    def __await__(self) -> Generator[Any, None, BatchSummary]:
        """Wait without blocking, and return or raise as `result()` does."""
        return super().__await__()

    def _on_next(self, event: BatchEvent) -> None:
        if isinstance(event, BatchSummary):
            self._queue.post_end(partial(self._tell_success, event))
        else:
            self._hold(event, self._deliver)

    # On the callback queue

    def _deliver(self) -> None:
        self._events.emit(self._take())

    def _tell_success(self, summary: BatchSummary) -> None:
        if self._decide("done"):
            self._events.end(OnNext(summary), OnCompleted())
            self._settle(summary)

    def _tell_failure(self, error: Exception) -> None:
        self._events.end(OnError(error))
        self._settle(error)
