"""`uploadFile` and `UploadTask`: the callback API of `system.uploadtask`, as an adapter over `Upload`.

The names and payloads are those of the mini-program and Quick App family, so that code and habits carry over::

    task = uploadFile({"url": url, "filePath": "beach.jpg", "name": "photo", "success": print})
    task.onProgressUpdate(print)
    task.abort()

Nothing here knows of networks: a task subscribes to an Observable of events and tells its callbacks of them.
"""
# ruff: noqa: N802, N803 - the names are another API's

from __future__ import annotations

import asyncio
import atexit
import math
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future, wait
from functools import partial
from typing import Any, Literal, TypeVar, Unpack, cast, overload

import httpx
from reactivex import Observable, abc
from reactivex.disposable import Disposable, SingleAssignmentDisposable
from reactivex.internal import noop
from reactivex.notification import OnCompleted, OnError, OnNext
from reactivex.scheduler import NewThreadScheduler

from . import _object
from ._callbacks import CallbackQueue, Hot, call
from ._delivery import UploadEvent
from ._errors import UploadAborted
from ._object import (
    HeadersUpdate,
    Keywords,
    ProgressUpdate,
    UploadFileObject,
    UploadFileOptions,
    UploadResult,
    wrong_type,
)
from ._progress import Progress
from ._upload import Upload

__all__ = [
    "HeadersUpdate",
    "ProgressUpdate",
    "UploadFileObject",
    "UploadFileOptions",
    "UploadResult",
    "UploadTask",
    "configure",
    "uploadFile",
]

State = Literal["queued", "uploading", "waiting", "done", "failed", "aborted"]

T = TypeVar("T")

_ENDED = ("done", "failed", "aborted")


@overload
def uploadFile(OBJECT: UploadFileObject, /, **options: Unpack[UploadFileOptions]) -> UploadTask: ...
@overload
def uploadFile(**OBJECT: Unpack[Keywords]) -> UploadTask: ...
def uploadFile(OBJECT: Any = None, /, **keywords: Any) -> UploadTask:
    """Upload a file, and call functions as it goes on. Returns its task at once, and never raises for a wrong value.

    OBJECT is a dict, or the same names are keyword arguments:

    | name     | type     | required | meaning |
    |----------|----------|----------|---------|
    | url      | str      | yes | the server's address, http or https |
    | filePath | str      | yes | the path of the file; or `internal://{cache,files,mass,tmp}/path`, see `configure` |
    | name     | str      | yes | the form field under which the server finds the file |
    | header   | dict     | no  | request headers: str or numbers; the body's own Content-Type always wins |
    | formData | dict     | no  | further form fields: str, int, float, bool; None is left out |
    | timeout  | number   | no  | milliseconds for the whole transfer, from when it leaves the queue; 20000; 0: none |
    | success  | function | no  | called with `{"statusCode": int, "data": str, "headers": dict}`, whatever the status |
    | fail     | function | no  | called with `(data: str, code: int)`: what failed, as a sentence and as a code |
    | complete | function | no  | called at the end, with nothing, after success as after fail |

    | code | when |
    |------|------|
    | 200  | any other failure: name not resolved, connection refused, TLS, not HTTP, too many redirects |
    | 202  | wrong arguments |
    | 204  | timeout, of whatever kind |
    | 300  | the connection ended or was reset meanwhile; the file is unreadable, or shrank |
    | 301  | the file does not exist |
    | 1002 | aborted |

    Exactly one of success and fail is called, then complete. The callbacks of one task never overlap, and come on
    threads of the library, or on the loop where `scheduler` has one. One that raises is logged (the logger is
    "rxupload") and stops nothing.

    At most 5 uploads run at once, more wait, first in first out. A script that reaches its end still finishes the
    uploads it started; Ctrl-C aborts them. Redirects are followed.

    Args:
        OBJECT: The table above. An unknown key is a warning.
        **keywords: The same names; and `fileName`, `contentType`, what the server is told of the file in place of
            what its path says; `client`, an `httpx.Client` or `httpx2.Client`, whose own time limits and redirects'
            limit hold as well; `scheduler`, an `AsyncIOScheduler` on whose loop the callbacks are to come.
    """
    given = {**(OBJECT if isinstance(OBJECT, Mapping) else {}), **keywords}
    _object.warn_of_unknown_keys(given)
    source: Upload | Exception
    try:
        if OBJECT is not None and not isinstance(OBJECT, Mapping):
            raise wrong_type("OBJECT", "a dict", OBJECT)
        source = _object.upload_of(given)
    except (TypeError, ValueError) as error:
        source = error
    fail = _object.function_or_none(given, "fail")

    def tell(error: Exception) -> None:
        fail(*((str(error), 202) if error is source else _object.failure(error, given)))

    return UploadTask(
        source,
        success=_object.function_or_none(given, "success"),
        fail=fail and tell,
        complete=_object.function_or_none(given, "complete"),
        scheduler=_object.scheduler_or_none(given),
    )


class UploadTask:
    """A running upload. `uploadFile` makes it, and `Upload.start`.

    | method | meaning |
    |--------|---------|
    | `abort()` | stops the upload |
    | `onProgressUpdate(callback)` | has it called with the progress, a `ProgressUpdate` |
    | `offProgressUpdate(callback=None)` | removes that callback; without one, all of them |
    | `onHeadersReceived(callback)` | has it called with `{"headers": dict}`, before success |
    | `offHeadersReceived(callback=None)` | removes that callback; without one, all of them |

    For callers in Python: `result()` blocks, `await task` does not; `events` is the upload as an Observable, `state`
    how far it is. Cancelling what awaits a task leaves its upload running; `abort()` stops it. All methods may be
    called from any thread, and all but `result()` in callbacks.

    Listeners are called in the order of registration; the same one twice (`==`) counts once. One that listens late
    gets the latest event once: while the upload runs, like all others; after a success, before `onProgressUpdate`
    returns (on a loop, in its next turn), for the upload of a small file may have ended by then; after a failure,
    nothing.
    """

    def __init__(
        self,
        source: Observable[UploadEvent] | Exception,
        *,
        success: Callable[[UploadResult], object] | None = None,
        fail: Callable[[Exception], object] | None = None,
        complete: Callable[[], object] | None = None,
        scheduler: abc.SchedulerBase | None = None,
    ) -> None:
        self._source = source
        self._success = success
        self._fail = fail
        self._complete = complete
        self._queue = CallbackQueue(scheduler)
        self._events: Hot[UploadEvent] = Hot(self._queue)
        self._progress = _Listeners(self._queue, _object.progress_update)
        self._headers = _Listeners(self._queue, _object.headers_update)
        self._subscription = SingleAssignmentDisposable()
        self._future: Future[UploadResult] = Future()
        self._future.set_running_or_notify_cancel()  # so that cancelling what awaits it does nothing to it

        self._lock = threading.Lock()
        self._state: State = "queued"
        self._undelivered: deque[Progress] = deque()
        self._most_sent = 0  # as progress listeners were told, in whichever pass

        if isinstance(source, Exception):
            self._state = "failed"
            self._queue.post(partial(self._tell_failure, source))
        else:
            _line.join(self)

    # What the caller may do

    @property
    def state(self) -> State:
        """`"queued"`, `"uploading"`, `"waiting"` (for the response), `"done"`, `"failed"` or `"aborted"`."""
        return self._state

    @property
    def events(self) -> Observable[UploadEvent]:
        """The running upload: Progress, then the httpx.Response, or its error (`UploadAborted` after `abort()`).

        Unlike `Upload`, subscribing starts nothing, and disposing aborts nothing. Who joins late gets the latest
        Progress, then what follows, and the end even after the end. Notifications come where the callbacks do, whatever
        the scheduler of the subscription.
        """
        return self._events

    def abort(self) -> None:
        """Stop the upload: its connection closes, then `fail("user cancel request", 1002)` and `complete()` follow.

        Any number of times, from any thread, inside callbacks too; after the end it does nothing. Returns at once.
        """
        if self._decide("aborted"):
            self._mute()
            self._subscription.dispose()
            self._queue.post(partial(self._tell_failure, UploadAborted("user cancel request")))
            _line.leave(self)
            _line.advance()

    def onProgressUpdate(self, callback: Callable[[ProgressUpdate], object]) -> None:
        """Call it with the progress: at most once per 50 ms, but always when every byte has gone (100).

        `progress` is in percent, rounded down. Where the size of the body is unknown, `progress` and
        `totalBytesExpectedToSend` are 0.
        """
        self._progress.add(callback)

    def offProgressUpdate(self, callback: Callable[[ProgressUpdate], object] | None = None) -> None:
        """Stop calling it; without a callback, any of them."""
        self._progress.remove(callback)

    def onHeadersReceived(self, callback: Callable[[HeadersUpdate], object]) -> None:
        """Call it with the response's headers, before success."""
        self._headers.add(callback)

    def offHeadersReceived(self, callback: Callable[[HeadersUpdate], object] | None = None) -> None:
        """Stop calling it; without a callback, any of them."""
        self._headers.remove(callback)

    def result(self, timeout: float | None = None) -> UploadResult:
        """Wait until the last callback has returned, and return what success is called with.

        Ctrl-C aborts the upload before it propagates.

        Args:
            timeout: Seconds to wait at most; the upload goes on after them. None for no limit.

        Raises:
            TimeoutError: The wait expired.
            RuntimeError: It is called where it would wait for itself: in a callback, or on the running loop
                that the callbacks come on.
            UploadAborted: The upload was aborted.
            Exception: What else the upload ended with: httpx's, the system's; TypeError or ValueError for a wrong
                argument.
        """
        if self._queue.is_current:
            raise RuntimeError("result() in a callback of its own task would wait for itself")
        if self._queue.has_loop and not self._future.done() and _is_on_a_loop():
            raise RuntimeError(
                "result() would block the event loop on which the callbacks come; await the task"
            )
        until = math.inf if timeout is None else time.monotonic() + timeout
        try:
            # With a limit, for Windows would not see Ctrl-C in a wait without one.
            while not wait([self._future], max(0, min(0.2, until - time.monotonic()))).done:
                if time.monotonic() >= until:
                    raise TimeoutError(f"The upload has not ended within {timeout:g} s")
        except KeyboardInterrupt:
            self.abort()
            raise
        return self._future.result()

    def __await__(self) -> Generator[Any, None, UploadResult]:
        """Wait without blocking, and return or raise as `result()` does."""
        return asyncio.wrap_future(self._future).__await__()

    # What the source does and says, on the worker's thread

    def _run(self) -> None:
        """Upload, on this thread; abort() from another one ends it."""
        with self._lock:
            if self._state != "queued":
                return
            self._state = "uploading"
        source = cast("Observable[UploadEvent]", self._source)
        scheduler = _Here()
        self._subscription.disposable = source.subscribe(
            self._on_next, self._on_error, self._on_completed, scheduler=scheduler
        )
        scheduler.work()

    def _on_next(self, item: UploadEvent) -> None:
        if not isinstance(item, Progress):
            self._queue.post(partial(self._deliver_response, item))
            return
        with self._lock:
            if self._state in _ENDED:
                return
            self._state = "waiting" if item.sent == item.total else "uploading"
            if self._undelivered and _replaces(item, self._undelivered[-1]):
                self._undelivered[-1] = item
                return
            self._undelivered.append(item)
        self._queue.post(self._deliver_progress)

    def _on_error(self, error: Exception) -> None:
        self._queue.post(partial(self._end_with, error))
        _line.leave(self)

    def _on_completed(self) -> None:
        _line.leave(self)

    # What the callbacks are told, on the queue

    def _deliver_progress(self) -> None:
        with self._lock:
            item = self._undelivered.popleft()
        self._events.emit(item)
        if item.sent > self._most_sent:
            self._most_sent = item.sent
            self._progress.emit(item)

    def _deliver_response(self, response: httpx.Response) -> None:
        self._headers.emit(response)
        if not self._decide("done"):
            return
        result = _object.upload_result(response)
        for listeners in (self._progress, self._headers):
            listeners.end(OnCompleted())
        self._events.end(OnNext(response), OnCompleted())
        call(self._success, result)
        call(self._complete)
        self._future.set_result(result)

    def _end_with(self, error: Exception) -> None:
        if self._decide("failed"):
            self._mute()
            self._tell_failure(error)

    def _tell_failure(self, error: Exception) -> None:
        for listeners in (self._progress, self._headers):
            listeners.end(OnCompleted())
        self._events.end(OnError(error))
        call(self._fail, error)
        call(self._complete)
        self._future.set_exception(error)

    def _decide(self, state: State) -> bool:
        """How it ended. Of abort(), from any thread, and the queue, the first one says it."""
        with self._lock:
            if self._state in _ENDED:
                return False
            self._state = state
            return True

    def _mute(self) -> None:
        for hot in (self._progress, self._headers, self._events):
            hot.mute()


def _replaces(new: Progress, old: Progress) -> bool:
    """Whether it says all that the older one does: the first item of a pass, and the last, are told always."""
    return new.attempt == old.attempt and old.sent > 0


def _is_on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class _Listeners(Hot[T]):
    """The callbacks for one kind of event: each is a subscription, which its removal disposes."""

    def __init__(self, queue: CallbackQueue, payload: Callable[[T], object]) -> None:
        super().__init__(queue)
        self._payload = payload
        self._registered: list[tuple[Callable[..., object], SingleAssignmentDisposable]] = []

    def add(self, callback: Callable[..., object]) -> None:
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
        with self._guard:
            removed = [entry for entry in self._registered if callback is None or entry[0] == callback]
            self._registered = [entry for entry in self._registered if entry not in removed]
        for _, subscription in removed:
            subscription.dispose()


class _Here(NewThreadScheduler):
    """Keeps the work of an upload for the thread that subscribes to it, to be done when it has the subscription."""

    work: Callable[[], object] = noop

    def schedule(
        self, action: Callable[[abc.SchedulerBase, T | None], Any], state: T | None = None
    ) -> abc.DisposableBase:
        self.work = partial(action, self, state)
        return Disposable()


class _Line:
    """The tasks that have not ended: a few of them run, the others wait in the order in which they came.

    While there are any, a thread that is no daemon keeps a script alive that has reached its end. It also looks whether
    the script ended by Ctrl-C: then it aborts them.
    """

    def __init__(self) -> None:
        self.limit = 5
        self._changed = threading.Condition()
        self._running: set[UploadTask] = set()
        self._waiting: deque[UploadTask] = deque()
        self._has_keeper = False
        self._threads = 0  # those that run the tasks, each one after the other

    def join(self, task: UploadTask) -> None:
        """Run it when its turn has come."""
        with self._changed:
            self._waiting.append(task)
            needs_keeper = not self._has_keeper
            self._has_keeper = True
        if needs_keeper:
            threading.Thread(target=self._keep, name="rxupload keeper", daemon=False).start()
        self.advance()

    def leave(self, task: UploadTask) -> None:
        """It has ended, though its thread may be held up yet, by a name lookup: there is room for the next."""
        with self._changed:
            self._running.discard(task)
            if task in self._waiting:
                self._waiting.remove(task)
            self._changed.notify_all()

    def advance(self) -> None:
        """Have threads for those that may run."""
        while (task := self._next()) is not None:
            try:
                threading.Thread(target=self._run, args=(task,), name="rxupload upload", daemon=True).start()
            except RuntimeError as error:
                # CPython 3.12.0 to 3.12.2 starts none once the main thread has ended: one that is there takes it.
                with self._changed:
                    self._running.discard(task)
                    can_wait = self._threads > 0
                    if can_wait:
                        self._waiting.appendleft(task)
                if not can_wait:
                    task._on_error(error)  # noqa: SLF001
                return
            with self._changed:
                self._threads += 1

    def _next(self) -> UploadTask | None:
        with self._changed:
            if not self._waiting or len(self._running) >= self.limit:
                return None
            task = self._waiting.popleft()
            self._running.add(task)
            return task

    def _run(self, first: UploadTask) -> None:
        task: UploadTask | None = first
        while task is not None:
            task._run()  # noqa: SLF001
            with self._changed:
                task = self._next()
                if task is None:
                    self._threads -= 1

    def abort_all(self) -> list[UploadTask]:
        """Abort them all, the last first, so that none of them starts meanwhile."""
        with self._changed:
            tasks = [*self._running, *self._waiting]
        for task in reversed(tasks):
            task.abort()
        return tasks

    def _keep(self) -> None:
        while True:
            with self._changed:
                if not self._running and not self._waiting:
                    self._has_keeper = False
                    return
                self._changed.wait(0.1)
            if not threading.main_thread().is_alive() and _died_of_ctrl_c():
                self.abort_all()


def _died_of_ctrl_c() -> bool:
    """Whether the exception with which the main thread ended is Ctrl-C's."""
    return isinstance(getattr(sys, "last_value", None), KeyboardInterrupt)


_line = _Line()


@atexit.register
def _abort_what_is_left() -> None:
    # The interpreter has waited for the keeper, so there is none but after a Ctrl-C that broke off its wait.
    tasks = _line.abort_all()
    wait([task._future for task in tasks], 0.5)  # noqa: SLF001


def _forget() -> None:
    """In a forked child: the threads of the parent's tasks are not here."""
    global _line  # noqa: PLW0603
    limit = _line.limit
    _line = _Line()
    _line.limit = limit


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def configure(
    *, max_concurrent: int | None = None, internal_root: str | os.PathLike[str] | None = None
) -> None:
    """Change what holds for all tasks; None leaves a setting as it is.

    Args:
        max_concurrent: How many uploads run at once; 5 at first. More wait, first in first out.
        internal_root: The folder that contains those of `internal://{cache,files,mass,tmp}/path`; in place of the
            variable `RXUPLOAD_INTERNAL_ROOT`.

    Raises:
        TypeError: If a setting is not of its type.
        ValueError: If `max_concurrent` is less than 1.
    """
    if max_concurrent is not None:
        if isinstance(max_concurrent, bool) or not isinstance(max_concurrent, int):
            raise wrong_type("max_concurrent", "an int", max_concurrent)
        if max_concurrent < 1:
            raise ValueError(f"max_concurrent: must be 1 or more; got {max_concurrent}")
        _line.limit = max_concurrent
        _line.advance()
    if internal_root is not None:
        _object.set_internal_root(internal_root)
