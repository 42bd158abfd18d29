"""An observer that records its notifications, checks their order, and can be waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import httpx
from reactivex import Observable, abc
from reactivex.abc import DisposableBase

from rxupload import Progress

PATIENCE = 10.0


class RecordingObserver(abc.ObserverBase[Any]):
    """Records every notification with its thread; overlapping ones, and any after the end, are faults."""

    def __init__(self, on_next: Callable[[Any], None] | None = None) -> None:
        self.items: list[Any] = []
        self.threads: set[int] = set()
        self.error: Exception | None = None
        self.is_completed = False
        self.faults: list[str] = []
        self._on_next = on_next
        self._busy = threading.Lock()
        self._ended = threading.Event()

    def on_next(self, value: Any) -> None:
        self._enter()
        try:
            self.items.append(value)
            if self._on_next is not None:
                self._on_next(value)
        finally:
            self._busy.release()

    def on_error(self, error: Exception) -> None:
        self._enter()
        self.error = error
        self._busy.release()
        self._ended.set()

    def on_completed(self) -> None:
        self._enter()
        self.is_completed = True
        self._busy.release()
        self._ended.set()

    def _enter(self) -> None:
        self.threads.add(threading.get_ident())
        if self._ended.is_set():
            self.faults.append("a notification after the end")
        if not self._busy.acquire(blocking=False):
            self.faults.append("notifications overlap")
            self._busy.acquire()

    def wait(self) -> RecordingObserver:
        """Wait for the end."""
        assert self._ended.wait(PATIENCE), f"no end after {self.items}"
        assert not self.faults
        return self

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    @property
    def progress(self) -> list[Progress]:
        return [item for item in self.items if isinstance(item, Progress)]

    @property
    def response(self) -> httpx.Response:
        assert self.is_completed, self.error
        assert isinstance(self.items[-1], httpx.Response)
        return self.items[-1]


def observe(
    source: Observable[Any], on_next: Callable[[Any], None] | None = None, *, scheduler: Any = None
) -> tuple[RecordingObserver, DisposableBase]:
    """Subscribe; return the observer and the subscription."""
    observed = RecordingObserver(on_next)
    return observed, source.subscribe(observed, scheduler=scheduler)


def check_grammar(items: list[Any], *, completed: bool) -> None:
    """Check the order of one subscription's items: section "The contract of one subscription", point 2."""
    responses = [item for item in items if isinstance(item, httpx.Response)]
    assert len(responses) == (1 if completed else 0)
    if completed:
        assert items[-1] is responses[0]
    previous: Progress | None = None
    for item in items[: len(items) - len(responses)]:
        assert isinstance(item, Progress)
        if previous is None or item.attempt != previous.attempt:
            assert item.sent == 0
            assert item.attempt == (1 if previous is None else previous.attempt + 1)
        else:
            assert item.sent > previous.sent
            assert item.total == previous.total
            assert item.total is None or item.sent <= item.total
        previous = item
