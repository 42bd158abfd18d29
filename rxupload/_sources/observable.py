"""Reads an Observable of bytes, with a bounded buffer between its producer and the worker.

A thread of its own subscribes to it. An Observable such as `reactivex.of` emits while `subscribe` runs. On that thread
its producer can be made to wait like any other. And the worker still notices an abort if `subscribe` blocks.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from contextvars import copy_context
from functools import partial
from typing import Any

from reactivex import abc
from reactivex.disposable import SingleAssignmentDisposable
from reactivex.scheduler import CurrentThreadScheduler
from reactivex.subject import AsyncSubject, ReplaySubject, Subject

from rxupload._schedulers import is_on_a_loop
from rxupload._wait import wait_for

from .base import Buffer, Owner, Reader, Source, used_up
from .buffered import Buffered
from .pieces import Piece


class ObservableSource(Source):
    """An Observable of bytes. Each pass subscribes to it."""

    def __init__(self, label: str, declared: int | None, observable: abc.ObservableBase[Buffer]) -> None:
        super().__init__(label, declared)
        self._observable = observable
        is_replayed = isinstance(observable, ReplaySubject | AsyncSubject)
        self._is_hot = (
            isinstance(observable, Subject) and not is_replayed
        )  # other hot ones cannot be recognised
        self._heard = threading.Event()

    def open(self, owner: Owner, *, is_next: bool = True) -> Reader:  # noqa: ARG002
        begin = partial(self._begin, owner)
        with ExitStack() as opened:
            # Subscribe now. So a hot one loses nothing from the first Progress on, and the error of one that emits at
            # once comes before anything is sent. Do not wait for the first item: that Progress may cause it.
            begun = opened.enter_context(closing(begin()))
            return Reader(
                self._label, self._size(None), partial(self._pass, begin, [begun]), opened.pop_all()
            )

    def _pass(self, begin: Callable[[], ObservableReader], begun: list[ObservableReader]) -> Generator[Piece]:
        with closing(begun.pop() if begun else begin()) as stream:
            yield stream

    def _begin(self, owner: Owner) -> ObservableReader:
        if self._is_hot and self._heard.is_set():
            raise used_up(self._label, "a ReplaySubject")
        stream = ObservableReader(self._observable, self._label, owner, self._heard)
        if self._is_hot and stream.was_empty:
            raise RuntimeError(
                f"{self._label} completed before the upload listened, so its items are lost; give a "
                "ReplaySubject, or feed it only from the first Progress on"
            )
        return stream


class ObservableReader(Buffered, abc.ObserverBase[Any]):
    """One subscription to an Observable of bytes.

    The worker makes, reads and closes it. The producer calls the other methods, from any thread.
    """

    def __init__(
        self, source: abc.ObservableBase[Any], label: str, owner: Owner, heard: threading.Event
    ) -> None:
        """Subscribe. Wait until `subscribe` has returned or an item has come. The first item sets `heard`.

        Raises:
            Exception: The Observable's error, if it has already failed, or the upload's reason to stop.
        """
        super().__init__(label, owner)
        self._source = source
        self._heard = heard
        self._worker = threading.get_ident()
        self._subscription = SingleAssignmentDisposable()
        self._subscriber: int | None = None  # the thread that runs the Observable's subscribe()

        work = partial(copy_context().run, self._run)
        threading.Thread(target=work, name="rxupload-source", daemon=True).start()
        self.wait_for_begin()

    # The worker's side

    @property
    def was_empty(self) -> bool:
        """Whether it completed without an item."""
        return self._has_ended and self._error is None and not self._items

    def close(self) -> None:
        """End a waiting producer's wait, drop its further items, and dispose the subscription."""
        self._end()  # before the dispose, which may need a lock that the waiting producer holds
        self._subscription.dispose()

    # The producer's side

    def _run(self) -> None:
        try:
            # reactivex's own sources emit on this thread's trampoline. Subscribe inside it, so that `subscribe` returns
            # the subscription before they emit. Then disposing it can stop them.
            CurrentThreadScheduler.singleton().schedule(self._subscribe)
        except BaseException as error:  # noqa: BLE001 - any error of the Observable ends the upload
            self._fail(error)
        self._begin()

    def _subscribe(self, *_: object) -> None:
        self._subscriber = threading.get_ident()
        try:
            subscription = self._source.subscribe(self)
        finally:
            self._subscriber = None
        self._subscription.disposable = subscription

    def on_next(self, value: Any) -> None:
        """Copy an item into the buffer. Wait for room, if the calling thread may wait."""
        try:
            self._put(self._bytes_of(value))
        except Exception as error:  # noqa: BLE001 - it ends the upload; the producer does not get it
            self._fail(error)
        if self._has_ended and self._subscriber == threading.get_ident():
            # `subscribe` has not returned, so there is no subscription to dispose. Only an error stops the producer.
            raise BrokenPipeError(errno.EPIPE, "The upload takes no more of this Observable")

    def on_error(self, error: Exception) -> None:
        """End the upload with the error. The rest of the buffer is dropped."""
        self._fail(error)

    def on_completed(self) -> None:
        """End the source."""
        self._end()

    def _bytes_of(self, value: object) -> bytes:
        self._heard.set()
        return super()._bytes_of(value)

    def _put(self, data: bytes) -> None:
        with self._changed:
            if not self._has_room(len(data)) and (reason := self._reason_not_to_wait()) is not None:
                raise BufferError(
                    f"{self._label} is faster than the upload: {len(self._buffer)} bytes wait to be sent, and the "
                    f"thread that emits {len(data)} more must not wait, for {reason}"
                )
            wait_for(self._changed, lambda: self._has_room(len(data)))
            self._add(data)

    def _reason_not_to_wait(self) -> str | None:
        if threading.get_ident() == self._worker:
            return "it is the upload's own; emit on another"
        if is_on_a_loop():
            return "it runs an event loop; emit with `await asyncio.to_thread(observer.on_next, data)`"
        if self._owner.is_on_loop():
            return "it is the loop of the upload's scheduler; emit on another"
        return None

    def _fail(self, error: BaseException) -> bool:
        if is_first := super()._fail(error):
            self._subscription.dispose()
        return is_first
