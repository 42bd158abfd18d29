"""`UploadTask`, a running upload with callbacks, which `uploadFile` and `Upload.start` return.

It knows nothing about networks: a task subscribes to an Observable of events, and passes them to its callbacks.
"""
# ruff: noqa: N802 - the names are another API's

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, Literal, TypeVar, cast

import httpx
from reactivex import Observable, abc
from reactivex.notification import OnCompleted, OnError, OnNext

from rxupload._events import Progress, UploadEvent
from rxupload._schedulers import HereScheduler, loop_of

from . import queue
from .callback_queue import Callback
from .callbacks import Listeners
from .payloads import (
    HeadersUpdate,
    ProgressUpdate,
    UploadResult,
    headers_update,
    progress_update,
    upload_result,
)
from .running import RunningTask

T = TypeVar("T")
State = Literal["queued", "uploading", "waiting", "done", "failed", "aborted"]


class UploadTask(RunningTask[UploadEvent, UploadResult]):
    """A running upload, made by `uploadFile` or `Upload.start`.

    | method | meaning |
    |--------|---------|
    | `abort()` | stops the upload |
    | `onProgressUpdate(callback)` | calls it with the progress, a `ProgressUpdate` |
    | `offProgressUpdate(callback=None)` | removes that callback; without one, all of them |
    | `onHeadersReceived(callback)` | calls it with `{"headers": dict}`, before success |
    | `offHeadersReceived(callback=None)` | removes that callback; without one, all of them |

    For callers in Python: `result()` blocks, and `await task` does not. Both return what `success` gets. Or they raise:
    after `abort()` an `UploadAborted`, and otherwise the error of the upload. `events` is the upload as an Observable,
    and `state` its state. Cancelling a coroutine that awaits a task does not stop the upload; `abort()` does, and so
    does the stop button of a Jupyter kernel for a task that the cell awaits. Any thread may call all methods. Callbacks
    may call all but `result()`.

    Listeners are called in the order of registration. Registering an equal one (`==`) again has no effect. A late
    listener gets the latest event once, because the upload of a small file may already have ended. While the upload
    runs, the event comes like any other. After a success, it comes before `onProgressUpdate` returns (on a loop, in its
    next turn). After a failure, it does not come.

    The callbacks of one task never overlap; those of different tasks may. With `scheduler=AsyncIOScheduler(loop)` a
    callback may be an `async def` function: it runs on that loop, and the next callback waits for its end. It must not
    wait for its own task.

    In a Jupyter kernel, a cell that ends with the task, or displays it, shows it live, with a button that aborts it if
    ipywidgets is installed. The display goes on after the cell, and settles into the end: `done 200 OK`,
    `failed ConnectError: ...` or `aborted`, with the bytes, the time and the mean rate. A later display shows the same.
    With a `scheduler` it waits for the loop, as callbacks do. ipykernel before 7.4 hears a click only after a cell that
    awaits, unless the front end sends it to a subshell.

    The logger "rxupload" has what a callback raises, once for each callback. It also has the error of a task that has
    failed and is dropped, if nobody looked at that: with `fail`, `result()`, `await` or `events`. A notebook keeps its
    tasks. So in a Jupyter kernel the error is logged as soon as no cell runs, under the cell that has started the task.
    Callbacks are called in a copy of the context in which they were given, so what they print is under their own cell.
    """

    def __init__(
        self,
        source: Observable[UploadEvent] | Exception,
        *,
        about: str = "",
        success: Callable[[UploadResult], object] | None = None,
        fail: Callable[[Exception], object] | None = None,
        complete: Callable[[], object] | None = None,
        scheduler: abc.SchedulerBase | None = None,
    ) -> None:
        super().__init__("queued", scheduler, about=about)
        self._source = source
        self._success = Callback(success, "success")
        self._fail = Callback(fail, "fail")
        self._complete = Callback(complete, "complete")
        if fail is not None:
            self._is_looked_at.set()
        self._loop = loop_of(scheduler)
        self._progress = Listeners(self._queue, "onProgressUpdate", progress_update)
        self._headers = Listeners(self._queue, "onHeadersReceived", headers_update)
        self._most_sent = 0  # the most that progress listeners got, over all passes

        if isinstance(source, Exception):
            self._decide("failed")
            self._be_waited_for()
            self._queue.post_end(partial(self._tell_failure, source))
            return
        try:
            queue.uploads.add(self)
        except BaseException:  # Ctrl-C: the caller gets no task to abort
            self.abort()
            raise

    # For the caller

    @property
    def state(self) -> State:
        """`"queued"`, `"uploading"`, `"waiting"` (for the response), `"done"`, `"failed"` or `"aborted"`."""
        return cast("State", self._state)

    @property
    def events(self) -> Observable[UploadEvent]:
        """The running upload: Progress, then the httpx.Response, or its error (`UploadAborted` after `abort()`).

        Unlike with `Upload`, subscribing starts nothing, and disposing aborts nothing. A late observer gets the latest
        Progress, then the later items and the end. After the end, it still gets the end. Notifications come on the loop
        of the subscription's scheduler, as with `await`, or else on the same thread or loop as the callbacks.
        """
        return self._events

    def abort(self) -> None:
        """Stop the upload: close its connection, then call `fail("user cancel request", 1002)` and `complete()`.

        It returns at once. Any thread, any callback and any signal handler may call it, any number of times. After the
        end it does nothing.
        """
        super().abort()

    def onProgressUpdate(self, callback: Callable[[ProgressUpdate], object]) -> None:
        """Call it with the progress at most once per 50 ms, and always when every byte has been sent (100).

        `progress` is in percent, rounded down. If the size of the body is unknown, `progress` and
        `totalBytesExpectedToSend` are 0.
        """
        self._progress.add(callback)

    def offProgressUpdate(self, callback: Callable[[ProgressUpdate], object] | None = None) -> None:
        """Remove a callback; without an argument, all of them."""
        self._progress.remove(callback)

    def onHeadersReceived(self, callback: Callable[[HeadersUpdate], object]) -> None:
        """Call it with the response's headers, before success."""
        self._headers.add(callback)

    def offHeadersReceived(self, callback: Callable[[HeadersUpdate], object] | None = None) -> None:
        """Remove a callback; without an argument, all of them."""
        self._headers.remove(callback)

    def result(self, timeout: float | None = None) -> UploadResult:
        """Wait until the last callback has returned. Return the argument of `success`.

        Ctrl-C aborts the upload before it propagates.

        Args:
            timeout: The most seconds to wait; the upload then continues. None for no limit.

        Raises:
            TimeoutError: `timeout` has passed.
            TypeError: `timeout` is not a number.
            ValueError: `timeout` is NaN.
            RuntimeError: It would wait for itself: it was called in a callback, or on the running loop that calls the
                callbacks.
            UploadAborted: The upload was aborted.
            Exception: Any other error that ended the upload: httpx's, the system's, or TypeError or ValueError for a
                wrong argument.
        """
        return super().result(timeout)

    def __await__(self) -> Generator[Any, None, UploadResult]:
        """Wait without blocking, and return or raise as `result()` does.

        Raises:
            RuntimeError: It would wait for itself: it was awaited in a callback, or in what a callback has started and
                is still running beside.
        """
        return super().__await__()

    # On the worker's thread

    def _run(self) -> None:
        """Run the upload on the calling thread. `abort()` from another thread ends it."""
        self._context.run(self._upload)

    def _upload(self) -> None:
        with self._lock:
            if self._state != "queued":
                return
            self._state = "uploading"
            self._tally.begin(time.monotonic())
        for display in self._displays:
            display.touch()
        source = cast("Observable[UploadEvent]", self._source)
        scheduler = HereScheduler()
        scheduler.loop = self._loop
        self._subscription.disposable = source.subscribe(
            self._on_next, self._on_error, self._on_completed, scheduler=scheduler
        )
        scheduler.work()

    def _on_next(self, item: UploadEvent) -> None:
        if not isinstance(item, Progress):
            self._queue.post_end(partial(self._deliver_response, item))
            return
        with self._lock:
            if self._right_to_end:
                self._state = "waiting" if item.sent == item.total else "uploading"
        self._hold(item, self._deliver_progress)

    def _on_completed(self) -> None:
        queue.uploads.remove(self)

    # On the callback queue

    def _deliver_progress(self) -> None:
        item = cast("Progress", self._take())
        self._events.emit(item)
        if item.sent > self._most_sent:
            self._most_sent = item.sent
            self._progress.emit(item)

    def _deliver_response(self, response: httpx.Response) -> None:
        self._headers.emit(response)
        self._queue.do(partial(self._tell_success, response))

    def _tell_success(self, response: httpx.Response) -> None:
        if not self._decide("done"):
            return
        result = upload_result(response)
        for listeners in (self._progress, self._headers):
            listeners.end(OnCompleted())
        self._events.end(OnNext(response), OnCompleted())
        self._queue.call(self._success, result)
        self._queue.call(self._complete)
        self._queue.do(partial(self._settle, result))

    def _tell_failure(self, error: Exception) -> None:
        for listeners in (self._progress, self._headers):
            listeners.end(OnCompleted())
        self._events.end(OnError(error))
        self._queue.call(self._fail, error)
        self._queue.call(self._complete)
        self._queue.do(partial(self._settle, error))

    def _mute(self) -> None:
        super()._mute()
        for listeners in (self._progress, self._headers):
            listeners.mute()
