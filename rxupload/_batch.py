"""`upload_all()`: many uploads as one Observable, a few at a time.

reactivex's own `merge(max_concurrent=)` is not used: it can drop an inner source when one ends while another is being
subscribed to, and its input cannot be drawn as it is needed.
"""

from __future__ import annotations

import math
import threading
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import httpx
from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable, SingleAssignmentDisposable
from reactivex.notification import Notification, OnCompleted, OnError, OnNext
from reactivex.scheduler import TimeoutScheduler

from ._delivery import (
    CallSoon,
    Delivery,
    LoopDelivery,
    UploadEvent,
    call_soon,
    is_closed,
    is_loop_of_this_thread,
    may_block,
    works_in_place,
)
from ._progress import Progress
from ._throttle import Pause, RateLimit, Throttling, check_pause, check_rate_limit, quiet, with_throttle
from ._transfer import Abandoned, Disposed
from ._upload import run

_INTERVAL = 0.05  # least seconds between two BatchProgress items that no upload's end asks for
_LOOK = 0.2  # seconds between two looks, while there is no room, at whether the loop is still there


@dataclass(frozen=True, slots=True)
class ItemProgress:
    """One upload of a batch has progressed.

    Attributes:
        index: Its place in the iterable, from 0.
        upload: The upload itself, as the iterable gave it.
        progress: How far it is.
    """

    index: int
    upload: Observable[UploadEvent]
    progress: Progress


@dataclass(frozen=True, slots=True)
class ItemDone:
    """One upload of a batch has its response, whatever its status.

    Attributes:
        index: Its place in the iterable, from 0.
        upload: The upload itself, as the iterable gave it.
        response: The response.
    """

    index: int
    upload: Observable[UploadEvent]
    response: httpx.Response


@dataclass(frozen=True, slots=True)
class ItemFailed:
    """One upload of a batch has ended with an error. The others go on.

    Attributes:
        index: Its place in the iterable, from 0.
        upload: The upload itself, as the iterable gave it: to try it again, say.
        error: What it ended with.
    """

    index: int
    upload: Observable[UploadEvent]
    error: Exception


@dataclass(frozen=True, slots=True)
class BatchProgress:
    """How far a batch is as a whole.

    Attributes:
        done: Uploads that have a response.
        failed: Uploads that ended with an error.
        running: Uploads that have begun and not ended.
        sent: Bytes that have gone, of all of them. A new attempt takes back the bytes of the one before.
        total: Bytes of all request bodies; None until the last upload was drawn and each total is known. An upload
            that has ended without one counts with what it sent.
    """

    done: int
    failed: int
    running: int
    sent: int
    total: int | None


@dataclass(frozen=True, slots=True)
class BatchSummary:
    """The last item of a batch.

    Attributes:
        done: Uploads that have a response.
        failed: Uploads that ended with an error.
        statuses: How many responses there were of each status.
        errors: The uploads that failed, in the order of their ends.
        sent: Bytes that have gone, of all of them.
        seconds: How long it took.
    """

    done: int
    failed: int
    statuses: Counter[int]
    errors: list[ItemFailed]
    sent: int
    seconds: float


BatchEvent = ItemProgress | ItemDone | ItemFailed | BatchProgress | BatchSummary


def upload_all(
    uploads: Iterable[Observable[UploadEvent]],
    *,
    concurrency: int = 4,
    rate_limit: RateLimit = None,
    pause: Pause = None,
) -> UploadAll:
    """Describe the upload of many files, a few at a time.

    ::

        upload_all(upload(url, path).pipe(retry_backoff()) for path in folder.iterdir()).run()

    Nothing happens until the `UploadAll` that it returns is subscribed to, run or awaited.

    Args:
        uploads: Uploads, or uploads with operators, in any number: they are drawn from the iterable one at a time, when
            there is room for one more. It may block; the uploads that run go on meanwhile, and disposing does not wait
            for it (nor wake it). An iterator, such as a generator, can be gone through once, so it makes one batch.
            Each has to end with its response. Its Progress items make the totals, which miss what an operator such as
            `throughput` or `of_type` takes away.
        concurrency: The most uploads that run at once.
        rate_limit: Body bytes per second of all uploads together, or an Observable of that, as for `upload()`. They
            get the same share, or less if they want less; an upload's own limit holds too. An upload finds it through
            the scheduler that it is subscribed to on: an operator that hands down another (`subscribe_on`, `timeout`
            with a second source, `on_error_resume_next`) frees it.
        pause: An Observable of bool: True holds all bodies, False lets them go on.

    Raises:
        TypeError: If an argument is not of its type; the message names it.
        ValueError: If concurrency is less than 1.
    """
    if not isinstance(uploads, Iterable):
        raise TypeError(f"uploads: expected an iterable of uploads, got {type(uploads).__name__}")
    if isinstance(uploads, (list, tuple)):
        for index, each in enumerate(uploads):
            _check_upload(index, each)
    if isinstance(concurrency, bool) or not isinstance(concurrency, int):
        raise TypeError(f"concurrency: expected an int, got {type(concurrency).__name__}")
    if concurrency < 1:
        raise ValueError(f"concurrency: must be 1 or more, got {concurrency}")
    return UploadAll(uploads, concurrency, check_rate_limit(rate_limit), check_pause(pause))


def _check_upload(index: int, each: object) -> None:
    if not isinstance(each, Observable):
        raise TypeError(f"uploads: expected Observables, but [{index}] is of type {type(each).__name__}")


class UploadAll(Observable[BatchEvent]):
    """Many uploads as one cold Observable: each subscription uploads them all.

    ::

        ItemProgress and BatchProgress, ItemDone or ItemFailed for each ---BatchSummary-|

    Uploads start in the order of the iterable, at most `concurrency` at once. One that fails does not end the others:
    its `ItemFailed` is its outcome, and the batch completes. An iterable that raises, or has something else in it than
    Observables, ends the batch with that error through `on_error`, once the uploads that run have ended. Events of one
    upload keep their order, and notifications never overlap. A BatchProgress comes after each upload's end, and
    otherwise at most every 50 ms. Disposing aborts all that run, draws no more, and returns at once.

    The scheduler is handed to each upload, and decides for them and for the batch which thread notifies, as it does
    for `Upload`. With none, or one that has threads: the threads of the uploads, one at a time, so a slow observer
    holds up all of them; the end may come on the thread that draws, when it finds no more. With a loop
    (AsyncIOScheduler, EventLoopScheduler): the loop, where the uploads are subscribed to as well. In both cases the
    iterable is drawn from on a thread of its own. In place (ImmediateScheduler, CurrentThreadScheduler, virtual time):
    all of it in place, the iterable too, so uploads that block run one after the other. With ImmediateScheduler, what
    ends the batch does not abort the one that runs, for the subscription to it has not returned yet.
    """

    __iter__ = None  # see Upload

    def __init__(
        self,
        uploads: Iterable[Observable[UploadEvent]],
        concurrency: int,
        rate_limit: RateLimit = None,
        pause: Pause = None,
    ) -> None:
        super().__init__()
        self._uploads = uploads
        self._concurrency = concurrency
        self._rate_limit = rate_limit
        self._pause = pause
        self._is_drawn_from = False

    def run(self, scheduler: abc.SchedulerBase | None = None) -> BatchSummary:
        """Upload all, wait, and return the summary; what failed is in its `errors`.

        Ctrl-C aborts what runs before it propagates.

        Args:
            scheduler: Where the uploads work and notify; None for new threads.

        Raises:
            Exception: What the iterable raised.
        """
        return cast("BatchSummary", run(self, scheduler))

    def __await__(self) -> Generator[Any, None, BatchSummary]:
        """Upload all, and return the summary, with the event loop free meanwhile; cancelling it aborts what runs."""
        return cast("Generator[Any, None, BatchSummary]", super().__await__())

    def _subscribe_core(
        self, observer: abc.ObserverBase[BatchEvent], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        if isinstance(self._uploads, Iterator):
            if self._is_drawn_from:
                raise RuntimeError(
                    "uploads: an iterator can be gone through once; pass a list for a second batch"
                )
            self._is_drawn_from = True

        def fail(error: Exception) -> None:
            batch.fail(error)

        throttling = Throttling(self._rate_limit, self._pause, fail)
        observer = throttling.releasing(observer)
        batch = _Batch(self._uploads, self._concurrency, throttling, observer, scheduler)
        disposable = CompositeDisposable(Disposable(lambda: batch.stop(Disposed())))
        if scheduler is not None and works_in_place(scheduler):
            disposable.add(scheduler.schedule(lambda *_: batch.work()))
            return disposable
        worker = threading.Thread(target=batch.work, name="rxupload-batch", daemon=True)
        throttling.start(worker, batch.call_soon)
        return disposable


@dataclass(slots=True, eq=False)
class _Running:
    """One upload that has begun."""

    index: int
    upload: Observable[UploadEvent]
    subscription: SingleAssignmentDisposable = field(default_factory=SingleAssignmentDisposable)
    progress: Progress | None = None
    last: object = None  # of its items, Progress aside


class _Batch:
    """One subscription: it draws uploads while there is room, and tells the observer of all of them.

    `_room` guards who may draw, `_lock` what the events are made of. Neither is held while the iterable is drawn
    from or an upload subscribed to. On threads, `_lock` is held while the observer is called: so its notifications
    come one at a time, in the order of what they tell. `stop` and `fail` wait for no lock that an observer could hold.
    """

    def __init__(
        self,
        uploads: Iterable[Observable[UploadEvent]],
        concurrency: int,
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
        self.call_soon: CallSoon | None = None  # where there is a loop
        self._tell: Delivery = _OneAtATime(observer, self)
        if scheduler is not None and not may_block(scheduler):
            self.call_soon = call_soon(scheduler)
            self._tell = LoopDelivery(observer, self, scheduler)

        self._stopped = False
        self._subscriptions = CompositeDisposable()
        self._iterator: Iterator[Observable[UploadEvent]] | None = None

        self._room = threading.Condition()
        self._slots = concurrency
        self._drawing = True

        self._lock = threading.RLock()
        self._began = self._now()
        self._told_at = -math.inf
        self._drawn = 0
        self._exhausted = False
        self._error: Exception | None = None  # of the iterable
        self._failure: Exception | None = None  # of a setting, until it is told
        # Not through yet with subscribing to the settings, inside of which no observer is called.
        self._is_following = True
        self._running: dict[int, _Running] = {}
        self._done = 0
        self._statuses: Counter[int] = Counter()
        self._errors: list[ItemFailed] = []
        self._sent = 0  # bytes, of the uploads that have ended
        self._total = 0

    def _now(self) -> float:
        return self._clock.now.timestamp()

    def stop(self, reason: BaseException) -> None:
        """Abort all that run, and draw no more. From any thread; waits for nothing."""
        self._stopped = True
        with self._room:
            self._slots += 1
            self._room.notify()
        self._subscriptions.dispose()
        if isinstance(reason, Disposed):  # else before the observer's end, which may be on another thread
            self._throttling.dispose()

    def fail(self, error: Exception) -> None:
        """Abort all that run, and end the batch with this error. From any thread; where there is a loop, on that."""

        def end() -> None:
            if not self._stopped:
                self._failure = error
                self.stop(error)
                self._tell_failure()

        self._on_the_loop(end)

    def _on_the_loop(self, action: Callable[[], None]) -> None:
        """In a turn of the loop; at once on the loop itself, and where there is none."""
        if self.call_soon is None or is_loop_of_this_thread(self._scheduler):
            action()
        elif not self.call_soon(action):
            self.stop(Abandoned())

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Hold `_lock`, and tell a failure that came meanwhile: whoever brought it did not wait."""
        try:
            with self._lock:
                yield
        finally:
            self._tell_failure()

    def _tell_failure(self) -> None:
        while self._failure is not None and not self._is_following and self._lock.acquire(blocking=False):
            try:
                error, self._failure = self._failure, None
                if error is not None:
                    self._tell.error(error)
            finally:
                self._lock.release()

    # Drawing

    def work(self) -> None:
        """Follow the settings, and draw."""
        try:
            self._throttling.follow()
        except BaseException:  # SystemExit, say, which is the batch's error by now
            if self._in_place:
                raise
        finally:
            self._is_following = False
            self._tell_failure()
        self.draw()
        if self.call_soon is not None and self._throttling.throttle is not None:
            with self._room:
                self._wait_for(lambda: self._stopped)

    def draw(self) -> None:
        """Draw uploads and start them while there is room: in place until there is none, on a thread to the end."""
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
        """Wait with `_room` for a condition of it; in vain, if the loop closes, and then nobody else disposes."""
        while not self._room.wait_for(condition, _LOOK):
            if is_closed(self._scheduler):
                self._throttling.dispose()
                return False
        return True

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
            self._no_more(cast("Exception", error))
            if self._in_place and not isinstance(error, Exception):
                raise
            return False
        self._start(upload)
        return True

    def _next(self) -> Observable[UploadEvent]:
        if self._iterator is None:
            self._iterator = iter(self._uploads)
        upload = next(self._iterator)
        _check_upload(self._drawn, upload)
        return upload

    def _no_more(self, error: Exception | None) -> None:
        with self._telling():
            self._exhausted = error is None
            self._error = error
            self._end_if_over()

    def _start(self, upload: Observable[UploadEvent]) -> None:
        with self._telling():
            running = self._running[self._drawn] = _Running(self._drawn, upload)
            self._drawn += 1
        self._on_the_loop(lambda: self._subscribe(running))

    def _subscribe(self, running: _Running) -> None:
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
            if self._stopped:  # the batch's observer raised at its end
                raise
            self._on_error(running, cast("Exception", error))
            if not isinstance(error, Exception) and (self._in_place or self.call_soon is not None):
                raise
        else:
            running.subscription.disposable = quiet(subscription, "An upload of a batch")

    # What the uploads tell

    def _on_next(self, running: _Running, item: UploadEvent) -> None:
        with self._telling():
            if self._stopped or running.index not in self._running:
                return
            if not isinstance(item, Progress):
                running.last = item
                return
            running.progress = item
            self._tell.next(ItemProgress(running.index, running.upload, item))
            if not 0 <= self._now() - self._told_at < _INTERVAL:  # a wall clock may go backwards
                self._tell_progress()

    def _on_error(self, running: _Running, error: Exception) -> None:
        if self._in_place and not isinstance(error, Exception):
            self.fail(error)  # Ctrl-C, which goes on to whoever subscribed
            return
        self._on_end(running, ItemFailed(running.index, running.upload, error))

    def _on_completed(self, running: _Running) -> None:
        last = running.last
        if isinstance(getattr(last, "status_code", None), int):  # httpx2's, too
            self._on_end(running, ItemDone(running.index, running.upload, cast("httpx.Response", last)))
        elif last is None:
            self._on_error(running, RuntimeError("The upload completed without a response"))
        else:
            what = f"[{running.index}] ended with a {type(last).__name__}"
            self._on_error(running, TypeError(f"uploads: {what}, and not with its response"))

    def _on_end(self, running: _Running, outcome: ItemDone | ItemFailed) -> None:
        with self._telling():
            if self._stopped or self._running.pop(running.index, None) is None:
                return
            self._count(running.progress, outcome)
            self._tell.next(outcome)
            self._tell_progress()
            self._end_if_over()
        self._subscriptions.remove(running.subscription)
        self._free_slot()

    def _count(self, progress: Progress | None, outcome: ItemDone | ItemFailed) -> None:
        if isinstance(outcome, ItemDone):
            self._done += 1
            self._statuses[outcome.response.status_code] += 1
        else:
            self._errors.append(outcome)
        if progress is not None:
            self._sent += progress.sent
            self._total += progress.sent if progress.total is None else progress.total

    def _tell_progress(self) -> None:
        sent, total = self._sent, self._total
        known = self._exhausted
        for each in self._running.values():
            if each.progress is not None:
                sent += each.progress.sent
            if each.progress is None or each.progress.total is None:
                known = False
            else:
                total += each.progress.total
        self._told_at = self._now()
        self._tell.next(
            BatchProgress(self._done, len(self._errors), len(self._running), sent, total if known else None)
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


class _OneAtATime:
    """Delivers on the thread that brings an event, which holds the batch's lock.

    An observer that itself makes an upload tell something is told of that when it has returned.
    """

    def __init__(self, observer: abc.ObserverBase[BatchEvent], batch: _Batch) -> None:
        self._observer = observer
        self._batch = batch
        self._waiting: deque[Notification[BatchEvent]] = deque()
        self._busy = False

    def next(self, item: BatchEvent) -> None:
        """Hand over an item."""
        self._put(OnNext(item))

    def error(self, error: Exception) -> None:
        """Hand over the end, with an error."""
        self._put(OnError(error))

    def completed(self) -> None:
        """Hand over the end."""
        self._put(OnCompleted())

    def _put(self, notification: Notification[BatchEvent]) -> None:
        self._waiting.append(notification)
        if self._busy:
            return
        self._busy = True
        try:
            while self._waiting:
                self._deliver(self._waiting.popleft())
        finally:
            self._busy = False

    def _deliver(self, notification: Notification[BatchEvent]) -> None:
        try:
            notification.accept(self._observer)
        except BaseException as error:
            self._batch.stop(error)
            if not isinstance(notification, OnNext):
                raise
            self._observer.on_error(cast("Exception", error))
            if not isinstance(error, Exception):
                raise
