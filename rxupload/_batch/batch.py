"""Runs one subscription to a batch: draws uploads while there is room, and notifies the observer of all of them.

| method                                     | thread                                         | lock held by caller |
|--------------------------------------------|------------------------------------------------|---------------------|
| `stop`                                     | any                                            | none                |
| `fail`                                     | any; with a loop, it acts on the loop          | none                |
| `work`                                     | the drawing thread; in place, the subscriber's | none                |
| `draw`                                     | as `work`; in place, also an ended upload's    | none                |
| `_subscribe`                               | the loop; without one, as `draw`               | none                |
| `_on_next`, `_on_error`, `_on_completed`   | the upload's thread, or the loop               | none                |
| `_count`, `_tell_progress`, `_end_if_over` | that of the event                              | `_lock`             |

No lock is held while the iterable is drawn, an upload is subscribed to or disposed, or the observer is called. Under
`_lock`, notifications are only queued, which sets their order. `_delivery` delivers them one at a time after that: on
the loop, or on the threads of the events, which wait for that. `_room` may be taken under `_lock`, never the other way
round.

It does not use reactivex's own `merge(max_concurrent=)`. That can lose an inner source if another one ends while it is
being subscribed to. Also, it cannot draw its input on demand.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import httpx
from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable
from reactivex.scheduler import TimeoutScheduler

from rxupload._delivery import LoopBatchDelivery, OneAtATimeDelivery, QueuedDelivery
from rxupload._events import (
    BatchEvent,
    BatchProgress,
    BatchSummary,
    ItemDone,
    ItemFailed,
    ItemProgress,
    Progress,
    UploadEvent,
)
from rxupload._responses import is_failure, status, status_error
from rxupload._schedulers import (
    CallSoon,
    call_soon,
    is_closed,
    is_loop_of_this_thread,
    may_block,
    works_in_place,
)
from rxupload._signals import delaying_ctrl_c
from rxupload._throttle import Throttling, quiet, with_throttle
from rxupload._tracebacks import leave_out_inner_frames
from rxupload._transfer import Abandoned, Disposed
from rxupload._wait import wait_for

from .extent import Extent
from .running import Running

_INTERVAL = 0.05  # the least seconds between two BatchProgress items, except at the end of an upload

# How many seconds an upload has to send something before the next one begins. Threads that begin all at once take the
# interpreter's lock from each other at each call of the system, which doubles the time of small uploads.
# After so many in a row that have sent nothing by then, no other one gets it: the line is too slow, or they are paused.
_HEAD_START = 0.001
_MOST_MISSED = 16

_LOOK_SECONDS = 1.0  # between two checks whether the observer's loop has closed


def check_upload(index: int, each: object) -> None:
    """Raise TypeError for anything but an Observable."""
    if not isinstance(each, Observable):
        raise TypeError(
            f"uploads: expected Observables, such as upload(url, file), but [{index}] is of type {type(each).__name__}"
        )


class Batch:
    """One subscription to a batch.

    `_room` guards the drawing: the slots, and who draws. `_lock` guards the counts that the events are made of. `stop`
    and `fail` never wait for the observer.
    """

    def __init__(
        self,
        uploads: Iterable[Observable[UploadEvent]],
        concurrency: int,
        total: int | None,
        throttling: Throttling,
        observer: abc.ObserverBase[BatchEvent],
        scheduler: abc.SchedulerBase | None,
    ) -> None:
        self._uploads = uploads
        self._throttling = throttling
        self._scheduler = scheduler
        self._for_uploads = (
            scheduler if throttling.throttle is None else with_throttle(scheduler, throttling.throttle)
        )
        self._clock = scheduler or TimeoutScheduler.singleton()
        self._in_place = scheduler is not None and works_in_place(scheduler)
        self.call_soon: CallSoon | None = None  # None without a loop
        self._tell: QueuedDelivery = OneAtATimeDelivery(observer, self)
        if scheduler is not None and not may_block(scheduler):
            self.call_soon = call_soon(scheduler)
            self._tell = LoopBatchDelivery(observer, self, scheduler)

        self._stopped = False
        self._subscriptions = CompositeDisposable()
        self._iterator: Iterator[Observable[UploadEvent]] | None = None

        self._room = threading.Condition()
        self._slots = concurrency
        self._drawing = True
        self._missed = 0  # how many uploads in a row had sent nothing when the next one began

        self._lock = threading.RLock()
        self._began = self._now()
        self._told_at = -math.inf
        self._drawn = 0
        self._exhausted = False
        self._error: Exception | None = None  # the iterable's
        self._failure: Exception | None = None  # a setting's, until the observer gets it
        # `work` is still subscribing to the settings, which must not call the observer.
        self._is_following = True
        self._running: dict[int, Running] = {}
        self._done = 0
        self._statuses: Counter[int] = Counter()
        self._errors: list[ItemFailed] = []
        self._sent = 0  # bytes of the uploads that have ended
        self._total = 0
        self._extent = Extent(uploads, total)

    def _now(self) -> float:
        return self._clock.now.timestamp()

    def stop(self, reason: BaseException) -> None:
        """Abort all running uploads, and draw no more. Any thread may call this; it does not wait for the uploads."""
        with delaying_ctrl_c():
            self._stopped = True
            with self._room:
                self._slots += 1
                self._room.notify()
            self._subscriptions.dispose()
            if isinstance(reason, Disposed):  # otherwise the observer's end disposes it, where it comes
                self._throttling.dispose()

    def fail(self, error: Exception) -> None:
        """Abort all running uploads, and end the batch with this error. Any thread may call this."""

        def end() -> None:
            if not self._stopped:
                self._failure = error
                self.stop(error)
                self._tell_failure()

        self._on_the_loop(end)

    def _on_the_loop(self, action: Callable[[], None]) -> None:
        """Run the action in a turn of the loop. On the loop itself, and without one, run it at once."""
        if self.call_soon is None or is_loop_of_this_thread(self._scheduler):
            action()
        elif not self.call_soon(action):
            self.stop(Abandoned())

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Hold `_lock`, and deliver after that what was queued under it."""
        before = after = 0
        try:
            with self._lock:
                before = self._tell.count
                try:
                    yield
                finally:
                    after = self._tell.count
        finally:
            if after > before:
                self._tell.deliver(after)

    def _tell_failure(self) -> None:
        with self._lock:
            if self._failure is None or self._is_following:
                return
            error, self._failure = self._failure, None
            self._tell.error(error)
            ticket = self._tell.count
        self._tell.deliver(ticket, waits=False)

    # Drawing

    def work(self) -> None:
        """Subscribe to the settings, and draw."""
        try:
            self._throttling.follow()
        except BaseException:  # such as SystemExit; `fail` has already made it the batch's error
            if self._in_place:
                raise
        finally:
            self._is_following = False
            self._tell_failure()
        self.draw()
        if self.call_soon is not None and self._throttling.throttle is not None:
            with self._room:
                self._wait_for(lambda: self._stopped)
            if is_closed(self._scheduler):
                self._throttling.dispose()  # the closed loop will never do it

    def draw(self) -> None:
        """Draw uploads and start them. In place, return when there is no room; on a thread, wait for room."""
        while self._take_slot() and self._draw_one():
            pass

    def _take_slot(self) -> bool:
        with self._room:
            if self._in_place and not self._slots:
                self._drawing = False
                return False
            if not self._wait_for(lambda: self._slots > 0):
                return False
            self._slots -= 1
            return True

    def _wait_for(self, condition: Callable[[], bool]) -> bool:
        """Wait with `_room` held until a condition is true. Return False if the observer's loop has closed."""
        while not wait_for(self._room, condition, self._look_at()):
            if is_closed(self._scheduler):
                return False
        return True

    def _look_at(self) -> float:
        """When to check whether the loop has closed, since it sends no event."""
        return math.inf if self.call_soon is None else time.monotonic() + _LOOK_SECONDS

    def _free_slot(self) -> None:
        with self._room:
            self._slots += 1
            self._room.notify()
            if self._drawing:
                return
            self._drawing = True
        self.draw()

    def _draw_one(self) -> bool:
        if self._stopped:
            return False
        try:
            upload = self._next()
        except StopIteration:
            self._no_more(None)
            return False
        except BaseException as error:
            leave_out_inner_frames(error)
            self._no_more(cast("Exception", error))
            if self._in_place and not isinstance(error, Exception):
                raise
            return False
        self._start(upload)
        return True

    def _next(self) -> Observable[UploadEvent]:
        if self._iterator is None:
            self._extent.measure()
            self._iterator = iter(self._uploads)
        upload = next(self._iterator)
        check_upload(self._drawn, upload)
        return upload

    def _no_more(self, error: Exception | None) -> None:
        with self._telling():
            self._exhausted = error is None
            if self._exhausted and self._extent.end() and self._drawn and not self._stopped:
                self._tell_progress()
            self._error = error
            self._end_if_over()

    def _start(self, upload: Observable[UploadEvent]) -> None:
        with self._telling():
            running = self._running[self._drawn] = Running(self._drawn, upload, self._extent.draw())
            self._drawn += 1
        self._on_the_loop(lambda: self._subscribe(running))
        if not self._in_place and self._missed < _MOST_MISSED:
            is_on_its_way = running.is_on_its_way.wait(time.monotonic() + _HEAD_START)
            self._missed = 0 if is_on_its_way else self._missed + 1

    def _subscribe(self, running: Running) -> None:
        if self._stopped:
            return
        self._subscriptions.add(running.subscription)
        try:
            subscription = running.upload.subscribe(
                lambda item: self._on_next(running, item),
                lambda error: self._on_error(running, error),
                lambda: self._on_completed(running),
                scheduler=self._for_uploads,
            )
        except BaseException as error:
            if self._stopped:  # the batch's observer raised in its terminal notification
                raise
            self._on_error(running, cast("Exception", error))
            if not isinstance(error, Exception) and (self._in_place or self.call_soon is not None):
                raise
        else:
            running.subscription.disposable = quiet(subscription, "An upload of a batch")

    # Notifications of the uploads

    def _on_next(self, running: Running, item: UploadEvent) -> None:
        if not isinstance(item, Progress):
            running.last = item
            running.is_on_its_way.set()
            return
        with self._telling():
            if self._stopped or running.index not in self._running:
                return
            running.take(item)
            self._tell.next(ItemProgress(running.index, running.upload, item))
            if not 0 <= self._now() - self._told_at < _INTERVAL:  # a wall clock may go backwards
                self._tell_progress()

    def _on_error(self, running: Running, error: Exception) -> None:
        if self._in_place and not isinstance(error, Exception):
            self.fail(error)  # Ctrl-C, which the subscriber's thread gets, too
            return
        self._on_end(running, ItemFailed(running.index, running.upload, error))

    def _on_completed(self, running: Running) -> None:
        last = running.last
        if is_failure(last):
            self._on_error(running, status_error(last))
        elif status(last):  # also of a response of httpx2
            self._on_end(running, ItemDone(running.index, running.upload, cast("httpx.Response", last)))
        elif last is None:
            self._on_error(running, RuntimeError("The upload completed without a response"))
        else:
            what = f"[{running.index}] ended with a {type(last).__name__}"
            self._on_error(running, TypeError(f"uploads: {what}, and not with its response"))

    def _on_end(self, running: Running, outcome: ItemDone | ItemFailed) -> None:
        running.is_on_its_way.set()
        with self._telling():
            if self._stopped or self._running.pop(running.index, None) is None:
                return
            self._count(running, outcome)
            self._tell.next(outcome)
            self._tell_progress()
            self._end_if_over()
        self._subscriptions.remove(running.subscription)
        self._free_slot()

    def _count(self, running: Running, outcome: ItemDone | ItemFailed) -> None:
        if isinstance(outcome, ItemDone):
            self._done += 1
            response: Any = outcome.response
        else:
            self._errors.append(outcome)
            response = getattr(outcome.error, "response", None)
        if code := status(response):
            self._statuses[code] += 1
        if running.progress is not None:
            self._sent += running.sent
            self._total += running.sent if running.total is None else running.total

    def _tell_progress(self) -> None:
        running = self._running.values()
        sent = self._sent + sum(each.sent for each in running)
        total = self._extent.total(self._total, [each.total for each in running])
        self._told_at = self._now()
        self._tell.next(
            BatchProgress(self._done, len(self._errors), len(self._running), sent, total, self._extent.count)
        )

    def _end_if_over(self) -> None:
        if self._stopped or self._running or not (self._exhausted or self._error):
            return
        self._stopped = True
        with self._room:
            self._room.notify()
        if self._error is not None:
            self._tell.error(self._error)
            return
        seconds = self._now() - self._began
        self._tell.next(
            BatchSummary(self._done, len(self._errors), self._statuses, self._errors, self._sent, seconds)
        )
        self._tell.completed()
