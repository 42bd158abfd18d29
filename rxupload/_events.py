"""All that an observer may be told: an upload's progress and response, and the events of a batch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import httpx
from reactivex import Observable


@dataclass(frozen=True, slots=True)
class Progress:
    """How much of the request body has gone.

    Attributes:
        sent: Bytes of the whole request body, form fields and part headers included. Through
            `UploadTransport`, and so through the default client, these bytes have arrived: the peer's TCP
            has acknowledged them. Through a plain httpx client they were handed to the system.
        total: Bytes of the whole request body; None when a source's size is unknown.
        attempt: Which pass over the body this is, from 1: a redirect (307, 308) or an auth challenge starts
            the next one, and `sent` begins at 0 again.
    """

    sent: int
    total: int | None
    attempt: int = 1

    @property
    def fraction(self) -> float | None:
        """`sent` as a share of `total`, 0.0 to 1.0; None while the total is unknown."""
        if self.total is None:
            return None
        return self.sent / self.total if self.total else 1.0

    @property
    def percent(self) -> int | None:
        """`fraction` in whole percent, rounded down, so that 100 means every byte; None if unknown."""
        if self.total is None:
            return None
        return self.sent * 100 // self.total if self.total else 100


UploadEvent = Progress | httpx.Response


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
