"""`upload_all()` and `UploadAll`: many uploads as one cold Observable, a few at a time."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from typing import Any, cast

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable

from rxupload._arguments import Pause, RateLimit, check_pause, check_rate_limit
from rxupload._events import BatchEvent, BatchSummary, UploadEvent
from rxupload._run import run
from rxupload._schedulers import works_in_place
from rxupload._throttle import Throttling
from rxupload._transfer import Disposed

from .batch import Batch, check_upload


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
            check_upload(index, each)
    if isinstance(concurrency, bool) or not isinstance(concurrency, int):
        raise TypeError(f"concurrency: expected an int, got {type(concurrency).__name__}")
    if concurrency < 1:
        raise ValueError(f"concurrency: must be 1 or more, got {concurrency}")
    return UploadAll(uploads, concurrency, check_rate_limit(rate_limit), check_pause(pause))


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
        super().__init__(self._begin)
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

    def _begin(
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
        batch = Batch(self._uploads, self._concurrency, throttling, observer, scheduler)
        disposable = CompositeDisposable(Disposable(lambda: batch.stop(Disposed())))
        if scheduler is not None and works_in_place(scheduler):
            disposable.add(scheduler.schedule(lambda *_: batch.work()))
            return disposable
        throttling.start(batch.work, batch.call_soon)
        return disposable
