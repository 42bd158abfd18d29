"""Defines all items that an observer can get: an upload's progress and response, and the events of a batch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields
from typing import Any, Self, cast

import httpx
from reactivex import Observable, abc
from reactivex.disposable import Disposable


@dataclass(frozen=True, slots=True)
class Progress:
    """How much of the request body has been sent.

    Attributes:
        sent: Bytes of the whole request body, including form fields and part headers. Through `UploadTransport`, and
            so through the default client, they have arrived: the peer's TCP has acknowledged them. Through a plain
            httpx client, the system has taken them.
        total: Bytes of the whole request body; None if a source's size is unknown.
        attempt: The number of the pass over the body, from 1. A redirect (301, 307, 308) or an auth challenge starts
            the next pass, and `sent` starts at 0 again.
        start: Bytes that the server had before this pass, in a resumable upload: `sent` starts there. Otherwise 0.
    """

    sent: int
    total: int | None
    attempt: int = 1
    start: int = 0

    @property
    def fraction(self) -> float | None:
        """`sent` as a share of `total`, 0.0 to 1.0; None while the total is unknown."""
        if self.total is None:
            return None
        return self.sent / self.total if self.total else 1.0

    @property
    def percent(self) -> int | None:
        """`fraction` in whole percent, rounded down, so that 100 means every byte; None while the total is unknown."""
        if self.total is None:
            return None
        return self.sent * 100 // self.total if self.total else 100


UploadEvent = Progress | httpx.Response


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
        sent: Bytes that all uploads have sent. It drops when an upload starts a new attempt. Bytes that the server had
            before a resumable upload went on are neither here nor in `total`.
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


BatchEvent = ItemProgress | ItemDone | ItemFailed | BatchProgress | BatchSummary
