"""`stream()` makes an Observable an asynchronous iterator, for `async for`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from threading import Lock
from typing import Any, Generic, Self, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import SingleAssignmentDisposable
from reactivex.scheduler.eventloop import AsyncIOScheduler

from ._backlog import Backlog
from ._kernel import under_way

T = TypeVar("T")


def stream(source: Observable[T]) -> Stream[T]:
    """Make the items of any pipeline an asynchronous iterator, for asyncio.

    ::

        async for event in rxupload.stream(upload(url, "beach.jpg").pipe(retry_backoff())):
            ...

    It subscribes when the loop asks for the first item. The error of the pipeline is raised in the loop, after the
    items before it. While its body is slow, newer Progress replaces Progress that waits, but not the first of a pass;
    of a batch's BatchProgress, the latest waits; all other items wait as they came.

    The upload is aborted when the iterator is closed: by `aclose()`, by its last reference going (as after a `break`),
    or when what awaits its next item is cancelled. An `async with` block closes it at its end, also after a `break`::

        async with rxupload.stream(upload_all(uploads)) as events:
            async for event in events:
                ...

    An `Upload` and an `UploadAll` are asynchronous iterables themselves: `async for event in upload(...)`.

    Raises:
        TypeError: `source` is not an Observable.
    """
    if not isinstance(source, abc.ObservableBase):
        raise TypeError(f"source: expected an Observable, got {type(source).__name__}")
    return Stream(source)


class Stream(AsyncIterator[T]):
    """The items of one subscription, for `async for`; see `stream`.

    The subscription refers to the inbox and not to this object. So it goes with its last reference.
    """

    def __init__(self, source: Observable[T]) -> None:
        self._source = source
        self._inbox: _Inbox[T] | None = None
        self._subscription = SingleAssignmentDisposable()

    async def __anext__(self) -> T:
        try:
            return await self._begun().take()
        except _InUse:
            raise RuntimeError("stream(): another task is already waiting for the next item") from None
        except BaseException:
            self._close()
            raise

    async def aclose(self) -> None:
        """Abort the upload. After its end it does nothing."""
        self._close()

    async def __aenter__(self) -> Self:
        self._begun()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._close()

    def __del__(self) -> None:
        self._close()

    def _begun(self) -> _Inbox[T]:
        """Subscribe, if that is still to be done."""
        if (inbox := self._inbox) is None:
            loop = asyncio.get_running_loop()
            inbox = self._inbox = _Inbox(loop)
            self._subscription.disposable = self._source.subscribe(inbox, scheduler=AsyncIOScheduler(loop))
        return inbox

    def _close(self) -> None:
        if self._inbox is not None:
            self._inbox.close()
        self._subscription.dispose()


class _InUse(Exception):  # noqa: N818
    """Two tasks want the same item."""


class _Inbox(abc.ObserverBase[T], Generic[T]):
    """The items that wait for the loop's body. Any thread may bring them; only the loop takes them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = Lock()
        self._backlog = Backlog()
        self._error: Exception | None = None
        self._has_ended = False
        self._waiter: asyncio.Future[None] | None = None

    def on_next(self, value: T) -> None:
        with self._lock:
            if self._has_ended:
                return
            self._backlog.put(value)
        self._wake()

    def on_error(self, error: Exception) -> None:
        self._end(error)

    def on_completed(self) -> None:
        self._end(None)

    def close(self) -> None:
        """Drop what waits, and take no more."""
        self._end(None)
        with self._lock:
            self._backlog.clear()
            self._error = None

    def _end(self, error: Exception | None) -> None:
        with self._lock:
            if self._has_ended:
                return
            self._has_ended = True
            self._error = error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None:
            with suppress(RuntimeError):  # the loop has closed
                self._loop.call_soon_threadsafe(self._release)

    def _release(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def take(self) -> T:
        """Return the next item, and wait for it.

        Raises:
            StopAsyncIteration: There are no more.
            Exception: The error of the pipeline.
        """
        if self._waiter is not None:
            raise _InUse
        while True:
            with self._lock:
                if self._backlog:
                    item: Any = self._backlog.take()
                    return item  # type: ignore[no-any-return]
                if self._has_ended:
                    error, self._error = self._error, None
                    raise StopAsyncIteration if error is None else error
                waiter = self._waiter = self._loop.create_future()
            awaited = under_way(self._loop)
            try:
                await waiter
            finally:
                self._waiter = None
                awaited.dispose()
