"""`RecordingObserver`, which records what it is told, and can be waited for."""

from __future__ import annotations

import contextlib
import reprlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, Generic, Self, TypeVar, cast

import httpx
from reactivex import abc

from rxupload._events import Progress
from rxupload._responses import status

T = TypeVar("T")

_repr = reprlib.Repr()  # which also tells of an item whose own repr raises
_repr.maxlist, _repr.maxother, _repr.maxstring = 10, 200, 200


class RecordingObserver(abc.ObserverBase[T], Generic[T]):
    """An observer for `subscribe()` that records what it gets, on which thread, and whether it came as it should.

    ::

        from rxupload import upload
        from rxupload.testing import RecordingObserver, ScriptedServer

        observer = RecordingObserver()
        with ScriptedServer(200) as server:
            upload(server.url, b"data").subscribe(observer)
            observer.wait()
        assert observer.response.status_code == 200
        assert observer.progress[0].sent == 0
        assert observer.progress[-1].percent == 100
        assert len(observer.threads) == 1

    It works with every Observable. reactivex promises that notifications do not overlap and that none follows the end;
    what breaks this is in `faults`. An observer in virtual time, of which nobody waits for the end, is looked at
    directly: `assert not observer.faults`.

    Args:
        on_next: A function to call with each item, on the thread that brings it, such as one that disposes. What it
            raises reaches the source.

    Attributes:
        items: All items in order.
        threads: The identifiers of the threads that brought notifications, as of `threading.get_ident()`.
        error: The error that ended it; None if none did.
        is_completed: Whether it has completed.
        faults: A text for each notification that overlaps another one, or comes after the end.
    """

    def __init__(self, on_next: Callable[[T], Any] | None = None) -> None:
        self.items: list[T] = []
        self.threads: set[int] = set()
        self.error: Exception | None = None
        self.is_completed = False
        self.faults: list[str] = []
        self._on_next = on_next
        self._busy = threading.RLock()
        self._depth = 0
        self._ended = threading.Event()

    def on_next(self, value: T) -> None:
        """Record an item."""
        with self._notified():
            self.items.append(value)
            if self._on_next is not None:
                self._on_next(value)

    def on_error(self, error: Exception) -> None:
        """Record the end by an error."""
        with self._notified():
            self.error = error
        self._ended.set()

    def on_completed(self) -> None:
        """Record the completion."""
        with self._notified():
            self.is_completed = True
        self._ended.set()

    @contextlib.contextmanager
    def _notified(self) -> Iterator[None]:
        self.threads.add(threading.get_ident())
        if self._ended.is_set():
            self.faults.append("a notification after the end")
        if not self._busy.acquire(blocking=False):
            self.faults.append("notifications overlap")
            self._busy.acquire()
        elif self._depth:
            self.faults.append("a notification within another")
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            self._busy.release()

    def wait(self, timeout: float = 10.0) -> Self:
        """Wait for the end, whichever it is. It blocks, so in a coroutine use `await asyncio.to_thread(observer.wait)`.

        Args:
            timeout: The most seconds to wait.

        Returns:
            The observer itself.

        Raises:
            AssertionError: No end has come in time, or there are `faults`.
        """
        if not self._ended.wait(timeout):
            raise AssertionError(f"No end within {timeout:g} s{self._told()}")
        if self.faults:
            raise AssertionError(f"Notifications came as they should not: {', '.join(self.faults)}")
        return self

    def _told(self) -> str:
        """Return what has come, to go on with in a message: the last items, and how many there were before."""
        if not self.threads:
            return ", and nothing has come: was it subscribed?"
        last = _repr.repr(self.items[-_repr.maxlist :])
        before = len(self.items) - _repr.maxlist
        return f", after {before} items and {last}" if before > 0 else f", after {last}"

    @property
    def ended(self) -> bool:
        """Whether the end has come."""
        return self._ended.is_set()

    @property
    def progress(self) -> list[Progress]:
        """Those of the items that are Progress."""
        return [item for item in self.items if isinstance(item, Progress)]

    @property
    def response(self) -> httpx.Response:
        """The response of an upload that has completed: of httpx, httpx2 or a client of your own.

        Raises:
            AssertionError: It has not completed, or its last item is no response. An upload's error is the cause.
        """
        if not self.is_completed:
            error = f": {_repr.repr(self.error)}" if self.ended else ""
            raise AssertionError(f"It has not completed{self._told()}{error}") from self.error
        if not self.items or not status(self.items[-1]):
            raise AssertionError(f"The last item is no response: {_repr.repr(self.items[-1:])}")
        return cast("httpx.Response", self.items[-1])
