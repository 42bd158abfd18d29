"""One running upload: a stop while its connection is attached."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from support.scripted_server import PATIENCE

from rxupload._transfer import Disposed, Transfer
from rxupload._wait import SystemClock


class HookedClock(SystemClock):
    """The system's clock, which calls a hook at its next reading."""

    hook: Callable[[], object] | None = None

    def now(self) -> float:
        hook, self.hook = self.hook, None
        if hook is not None:
            hook()
        return time.monotonic()


class WatchedLock:
    """A lock that tells when somebody waits for it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.is_waited_for = threading.Event()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            self.is_waited_for.set()
            self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_a_stop_during_attach_ends_the_connection_first():
    """attach() raises only after the connection has ended, so that its descriptor cannot belong to another file."""
    clock = HookedClock()
    transfer = Transfer(PATIENCE, clock=clock)
    transfer._lock = lock = WatchedLock()
    transfer.begin()
    is_ending = threading.Event()
    log: list[str] = []

    def interrupt() -> None:
        is_ending.set()
        if lock.is_waited_for.wait(PATIENCE):
            log.append("ended")

    stopper = threading.Thread(target=transfer.stop, args=(Disposed(),))

    def stop_meanwhile() -> None:
        stopper.start()
        assert is_ending.wait(PATIENCE)

    clock.hook = stop_meanwhile
    with pytest.raises(Disposed):
        transfer.attach(interrupt)
    assert log == ["ended"]
    stopper.join()
