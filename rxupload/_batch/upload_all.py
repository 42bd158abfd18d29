"""`upload_all()` and `UploadAll`: many uploads as one cold Observable, a few at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterable, Iterator
from typing import Any, cast

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable

from rxupload._arguments import Pause, RateLimit, check_pause, check_rate_limit, check_scheduler, wrong_type
from rxupload._events import BatchEvent, BatchSummary, UploadEvent
from rxupload._kernel import under_way
from rxupload._run import run
from rxupload._schedulers import loop_of, works_in_place
from rxupload._stream import stream

# An iterable may make its first upload on the batch's thread, which must load nothing; see `Upload.__init__`.
from rxupload._subscription import begin as _of_an_upload  # noqa: F401
from rxupload._throttle import Throttling
from rxupload._transfer import Disposed

from .batch import Batch, check_upload
from .task import BatchTask


def upload_all(
    uploads: Iterable[Observable[UploadEvent]],
    *,
    concurrency: int = 4,
    total: int | None = None,
    rate_limit: RateLimit = None,
    pause: Pause = None,
) -> UploadAll:
    """Describe the upload of many files, with a few uploads at a time.

    ::

        upload_all(upload(url, path).pipe(retry_backoff()) for path in folder.iterdir()).run()

    The batch starts when the returned `UploadAll` is subscribed to, run or awaited.

    Args:
        uploads: Uploads, with or without operators, in any number. The batch draws them from the iterable one at a
            time, when there is room for one more. The iterable may block: the running uploads continue, and a dispose
            neither waits for it nor interrupts it. An iterator, such as a generator, makes only one batch. Each upload
            must end with its response. The totals count its Progress items, so they miss those that an operator such
            as `throughput` or `of_type` removes.
        concurrency: The most uploads that run at once.
        total: Bytes of all request bodies, if the caller knows them, for `BatchProgress.total`. A form adds a few
            hundred bytes to those of its files. A list of uploads of files needs none: their sizes are looked up before
            the first upload starts, if that takes no more than a second.
        rate_limit: Body bytes per second of all uploads together, or an Observable of that, as for `upload()`. Each
            upload gets the same share, or less if it wants less. An upload's own limit also applies. The limit reaches
            an upload through the scheduler of its subscription. So it does not reach an upload behind an operator that
            passes on another scheduler: `subscribe_on`, `timeout` with a second source, `on_error_resume_next`.
        pause: An Observable of bool: True pauses all bodies, False resumes them.

    Raises:
        TypeError: An argument has the wrong type; the message names it.
        ValueError: `concurrency` is less than 1, or `total` is negative.
    """
    # A str gives its characters, and bytes give ints.
    if not isinstance(uploads, Iterable) or isinstance(uploads, str | bytes | bytearray | memoryview):
        raise wrong_type("uploads", "an iterable of uploads, such as [upload(url, file)]", uploads)
    if isinstance(uploads, (list, tuple)):
        for index, each in enumerate(uploads):
            check_upload(index, each)
    if isinstance(concurrency, bool) or not isinstance(concurrency, int):
        raise TypeError(f"concurrency: expected an int, got {type(concurrency).__name__}")
    if concurrency < 1:
        raise ValueError(f"concurrency: must be 1 or more, got {concurrency}")
    if total is not None:
        if isinstance(total, bool) or not isinstance(total, int):
            raise TypeError(f"total: expected an int, a number of bytes, or None, got {type(total).__name__}")
        if total < 0:
            raise ValueError(f"total: must be 0 or more bytes, got {total}")
    return UploadAll(uploads, concurrency, total, check_rate_limit(rate_limit), check_pause(pause))


class UploadAll(Observable[BatchEvent]):
    """Many uploads as one cold Observable: each subscription uploads them all.

    ::

        ItemProgress and BatchProgress, ItemDone or ItemFailed for each ---BatchSummary-|

    Uploads start in the order of the iterable, at most `concurrency` at once. A failed upload becomes an `ItemFailed`,
    and so does one with a response that is not 2xx; the others continue, and the batch completes. If the iterable
    raises, or gives anything but Observables, the batch ends with that error through `on_error`, after the running
    uploads have ended. Events of one upload keep their order, and notifications never overlap. A BatchProgress comes
    after each upload's end, and otherwise at most every 50 ms. Disposing aborts all running uploads, draws no more, and
    returns at once.

    The batch passes the scheduler on to each upload. The scheduler decides on the thread, as for `Upload`:

    - None, or a scheduler with threads: the batch notifies on the uploads' threads, one at a time. So a slow observer
      delays all of them. The end may come on the thread that draws from the iterable, which is a separate one.
    - A scheduler with a loop (AsyncIOScheduler, EventLoopScheduler): the batch notifies, and subscribes to the uploads,
      on the loop. A separate thread draws from the iterable.
    - In place (ImmediateScheduler, CurrentThreadScheduler, virtual time): everything happens in place, the drawing
      included. So uploads that block run one after the other. With ImmediateScheduler, an error of the batch does not
      abort the running upload, because `subscribe` has not returned yet.
    """

    __iter__ = None  # see Upload

    def __init__(
        self,
        uploads: Iterable[Observable[UploadEvent]],
        concurrency: int,
        total: int | None = None,
        rate_limit: RateLimit = None,
        pause: Pause = None,
    ) -> None:
        super().__init__(self._begin)
        self._uploads = uploads
        self._concurrency = concurrency
        self._total = total
        self._rate_limit = rate_limit
        self._pause = pause
        self._is_drawn_from = False

    def run(self, scheduler: abc.SchedulerBase | None = None) -> BatchSummary:
        """Upload all, wait, and return the summary. Its `errors` has the failed uploads.

        Ctrl-C aborts the running uploads before it propagates.

        Args:
            scheduler: Decides on the threads, as for `subscribe`; None for new threads.

        Raises:
            Exception: The error of the iterable, of `rate_limit` or of `pause`.
        """
        return cast("BatchSummary", run(self, scheduler))

    def __await__(self) -> Generator[Any, None, BatchSummary]:
        """Upload all without blocking the event loop, and return the summary. Cancelling aborts the running uploads."""
        return cast("Generator[Any, None, BatchSummary]", super().__await__())

    def start(self, *, scheduler: abc.SchedulerBase | None = None) -> BatchTask:
        """Start the batch, and return the running task, with `events`, `abort()`, `result()` and `await`.

        It waits for no turn, unlike a task of `Upload.start`, and takes none from those.

        Args:
            scheduler: A scheduler with a loop, such as AsyncIOScheduler, to notify the observers of `events` on. None:
                the library notifies them on its own threads. The uploads run on their own threads in either case.
        """
        check_scheduler(scheduler)
        return BatchTask(self, scheduler)

    def __aiter__(self) -> AsyncIterator[BatchEvent]:
        """Upload all, and iterate over the events: `async for event in upload_all(...)`. See `rxupload.stream`."""
        return stream(self)

    def _begin(
        self, observer: abc.ObserverBase[BatchEvent], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        if isinstance(self._uploads, Iterator):
            if self._is_drawn_from:
                raise RuntimeError(
                    "uploads: an iterator can be used only once; pass a list for a second batch"
                )
            self._is_drawn_from = True

        def fail(error: Exception) -> None:
            batch.fail(error)

        throttling = Throttling(self._rate_limit, self._pause, fail)
        observer = throttling.releasing(observer)
        batch = Batch(self._uploads, self._concurrency, self._total, throttling, observer, scheduler)
        disposable = CompositeDisposable(
            Disposable(lambda: batch.stop(Disposed())), under_way(loop_of(scheduler), batch.fail)
        )
        if scheduler is not None and works_in_place(scheduler):
            disposable.add(scheduler.schedule(lambda *_: batch.work()))
            return disposable
        throttling.start(batch.work, batch.call_soon)
        return disposable
