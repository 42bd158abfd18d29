"""`record` writes every event into a list, as flat rows for a table or a plot."""

from __future__ import annotations

from collections.abc import Callable, MutableSequence
from typing import Any, TypeAlias, TypeVar

from reactivex import Observable, abc
from reactivex.scheduler import TimeoutScheduler

from rxupload._arguments import needs_call, wrong_type
from rxupload._derived import Derived
from rxupload._events import BatchProgress, BatchSummary, ItemDone, ItemFailed, ItemProgress, Progress
from rxupload._responses import status

from .throughput import Throughput

T = TypeVar("T")
Row: TypeAlias = dict[str, Any]


@needs_call
def record(rows: MutableSequence[Row]) -> Callable[[Observable[T]], Observable[T]]:
    """Append a row to a list for each event, and pass the event on unchanged.

    ::

        rows = []
        upload(url, "beach.jpg").pipe(record(rows)).run()
        pandas.DataFrame(rows).plot(x="seconds", y="sent", drawstyle="steps-post")

    Each row is a dict with the same keys:

    - `seconds`: Seconds since the first subscription, by the scheduler's clock.
    - `event`: `"progress"`, `"response"` or `"error"`; of a whole batch, `"batch"` and `"summary"`.
    - `index`: The upload's place in a batch, from 0.
    - `sent`, `total`: Bytes, as in `Progress`, `BatchProgress` and `BatchSummary`.
    - `attempt`: The number of the pass over the body, from 1.
    - `start`: Bytes that the server had before, as in `Progress`: `sent - start` is what this upload has sent.
    - `status`: The status of a response, also of one that an error has.
    - `error`: The type and the text of an error.

    A key that does not apply is None. Before `retry_backoff` in a pipe, it records the error of each attempt. It
    appends on the thread or loop that notifies.

    Args:
        rows: The list. Its rows stay when the upload ends.

    Raises:
        TypeError: `rows` has no `append`.
    """
    if not callable(getattr(rows, "append", None)):
        raise wrong_type("rows", "a list", rows)

    def operator(source: Observable[T]) -> Observable[T]:
        began: list[float] = []

        def subscribe(
            observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            clock = scheduler or TimeoutScheduler.singleton()
            if not began:
                began.append(clock.now.timestamp())

            def write(row: Row | None) -> None:
                if row is not None:
                    rows.append({"seconds": clock.now.timestamp() - began[0], **_EMPTY, **row})

            def on_next(item: T) -> None:
                write(_row(item))
                observer.on_next(item)

            def on_error(error: Exception) -> None:
                write(_failure(error))
                observer.on_error(error)

            return source.subscribe(on_next, on_error, observer.on_completed, scheduler=scheduler)

        return Derived("record", source, subscribe)

    return operator


_EMPTY: Row = dict.fromkeys(("event", "index", "sent", "total", "attempt", "start", "status", "error"))


def _row(item: object) -> Row | None:
    """Return the row of an item; None for an item of another kind."""
    row: Row | None = None
    match item:
        case Progress():
            row = _progress(item)
        case Throughput():
            row = _progress(item.progress)
        case ItemProgress():
            row = {**_progress(item.progress), "index": item.index}
        case ItemDone():
            row = {"event": "response", "index": item.index, "status": item.response.status_code}
        case ItemFailed():
            row = {**_failure(item.error), "index": item.index}
        case BatchProgress():
            row = {"event": "batch", "sent": item.sent, "total": item.total}
        case BatchSummary():
            row = {"event": "summary", "sent": item.sent}
        case _ if code := status(item):
            row = {"event": "response", "status": code}
    return row


def _progress(item: Progress) -> Row:
    return {
        "event": "progress",
        "sent": item.sent,
        "total": item.total,
        "attempt": item.attempt,
        "start": item.start,
    }


def _failure(error: Exception) -> Row:
    code = status(getattr(error, "response", None)) or None
    return {"event": "error", "status": code, "error": f"{type(error).__name__}: {error}"}
