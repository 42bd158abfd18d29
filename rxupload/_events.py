"""Defines all items that an observer can get: an upload's progress and response, and the events of a batch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields
from typing import Any, Self, cast

import httpx
from reactivex import Observable, abc
from reactivex.disposable import Disposable

from ._progress import Progress as Progress  # noqa: PLC0414 - all that an observer may get is found here
from ._progress import UploadEvent as UploadEvent  # noqa: PLC0414


class _Item:
    """An event of one upload of a batch.

    A pickle has only the text of the upload, which cannot leave its process. Subscribing to what it is unpickled as is
    an error.
    """

    __slots__ = ()

    def __reduce__(self) -> tuple[Any, ...]:
        index, upload, outcome = (getattr(self, each.name) for each in fields(cast("Any", self)))
        return _unpickled, (type(self), index, repr(upload), outcome)

    def __copy__(self) -> Self:
        return self


class _LeftBehind(Observable[UploadEvent]):
    """Stands for an upload in another process."""

    def __init__(self, text: str) -> None:
        super().__init__(self._begin)
        self._text = text

    def _begin(
        self,
        observer: abc.ObserverBase[UploadEvent],
        scheduler: abc.SchedulerBase | None = None,  # noqa: ARG002
    ) -> abc.DisposableBase:
        observer.on_error(
            RuntimeError(f"{self._text} is in another process, and cannot be started in this one")
        )
        return Disposable()

    def __repr__(self) -> str:
        return self._text


def _unpickled(kind: Any, index: int, text: str, outcome: object) -> Any:
    return kind(index, _LeftBehind(text), outcome)


@dataclass(frozen=True, slots=True)
class ItemProgress(_Item):
    """Progress of one upload of a batch.

    Attributes:
        index: Its place in the iterable, from 0.
        upload: The upload itself, as the iterable gave it.
        progress: The upload's own Progress.
    """

    index: int
    upload: Observable[UploadEvent]
    progress: Progress


@dataclass(frozen=True, slots=True)
class ItemDone(_Item):
    """One upload of a batch is done: the server has taken it, with a status of 2xx.

    Attributes:
        index: Its place in the iterable, from 0.
        upload: The upload itself, as the iterable gave it.
        response: The response.
    """

    index: int
    upload: Observable[UploadEvent]
    response: httpx.Response


@dataclass(frozen=True, slots=True)
class ItemFailed(_Item):
    """One upload of a batch has failed. The others go on.

    Attributes:
        index: Its place in the iterable, from 0.
        upload: The upload itself, as the iterable gave it. Subscribe to it to try it again. Its repr names the
            file, also behind operators of `rxupload.operators`.
        error: The error that ended it. For a response that is not 2xx, the `httpx.HTTPStatusError` that
            `raise_for_status()` makes of it, with the `.response`.
    """

    index: int
    upload: Observable[UploadEvent]
    error: Exception


@dataclass(frozen=True, slots=True)
class BatchProgress:
    """Progress of a batch as a whole.

    Attributes:
        done: Uploads that the server has taken, with a status of 2xx.
        failed: Uploads that ended with an error, or with another status.
        running: Uploads that have begun and have not ended.
        sent: Bytes that all uploads have sent. It drops when an upload starts a new attempt.
        total: Bytes of all request bodies; None until the last upload has been drawn and every running one has a
            total. An upload that ended without a total counts with the bytes it sent. It is known from the start if
            the batch has a list or a tuple of uploads whose sizes are known: of paths, bytes and the like, alone or
            with those operators of `rxupload.operators` that pass on the Progress. The `total` given to `upload_all()`
            stands for it until it is known; it is never less than what is known already.
        count: Uploads in all, from the iterable's `len()` where it has one; None until it is known.
    """

    done: int
    failed: int
    running: int
    sent: int
    total: int | None
    count: int | None = None


@dataclass(frozen=True, slots=True)
class BatchSummary:
    """The last item of a batch. It can be pickled, without the uploads of its errors.

    Attributes:
        done: Uploads that the server has taken, with a status of 2xx.
        failed: Uploads that ended with an error, or with another status.
        statuses: The number of responses for each status, those of failed uploads included.
        errors: The uploads that failed, in the order in which they ended.
        sent: Bytes that all uploads have sent.
        seconds: How long the batch took, in seconds.
    """

    done: int
    failed: int
    statuses: Counter[int]
    errors: list[ItemFailed]
    sent: int
    seconds: float

    def _repr_html_(self) -> str:
        """Return one line for a notebook, and a table of at most ten failures."""
        from ._cards import summary_card  # noqa: PLC0415 - most programs do without it

        return summary_card(
            done=self.done,
            failed=self.failed,
            statuses=self.statuses.items(),
            sent=self.sent,
            seconds=self.seconds,
            errors=[(each.index, repr(each.upload), each.error) for each in self.errors],
        )


BatchEvent = ItemProgress | ItemDone | ItemFailed | BatchProgress | BatchSummary
