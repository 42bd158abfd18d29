"""The one place that blocks: until a descriptor is ready, another thread wakes it, or a deadline has passed.

How should one wait? A connected socket needs nothing but itself: whoever wants its owner's attention shuts it down, and
that makes it ready. A wait that has no such socket, or that another thread may end while the socket stays whole (more
to send has come, a pause is over), watches a `Wake` as well. Nothing here wakes by itself before its deadline, but the
main thread where it waits for another: a signal may be delivered to any thread, and on Windows a lock does not see it,
so Ctrl-C would wait as well.

All times are seconds on the monotonic clock, and `math.inf` is no deadline.
"""

from __future__ import annotations

import math
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from typing import Any, Protocol

READ = 1
WRITE = 2

_LONGEST = 24 * 3600.0  # seconds of one system call; C's int holds no more than 24 days of milliseconds
_SLICE = 0.2  # seconds, on the main thread, between two looks at Ctrl-C


class Watched(Protocol):
    """What can be watched: a socket, or anything else with a descriptor."""

    def fileno(self) -> int:
        """The descriptor's number; negative, if it is closed."""
        ...


class Wake:
    """Ends the waits of one thread from any other, or from a signal's handler.

    It is sticky: set before a wait begins, it ends that wait at once, and so until it is cleared. The descriptors that
    it takes are made for the first wait that watches it.
    """

    def __init__(self) -> None:
        # Reentrant, for a signal's handler may set it while the same thread is in here.
        self._lock = threading.RLock()
        self._is_set = False
        self._is_closed = False
        self._reader: int | socket.socket | None = None
        self._writer: int | socket.socket | None = None

    def set(self) -> None:
        """End the wait. From any thread; never blocks."""
        with self._lock:
            was_set, self._is_set = self._is_set, True
            if not was_set:
                self._write()

    def clear(self) -> None:
        """From here on a wait is a wait again. By the thread that waits."""
        with self._lock:
            if self._is_set:
                self._is_set = False
                self._drain()

    def is_set(self) -> bool:
        """Whether a wait would end at once."""
        return self._is_set

    def fileno(self) -> int:
        """The descriptor to watch for reading."""
        with self._lock:
            if self._reader is None:
                self._open()
                if self._is_set:
                    self._write()
            assert self._reader is not None
            return self._reader if isinstance(self._reader, int) else self._reader.fileno()

    def close(self) -> None:
        """Give its descriptors back; it can be set still, and nobody hears."""
        with self._lock:
            self._is_closed = True
            for end in {self._reader, self._writer}:
                if isinstance(end, int):
                    os.close(end)
                elif end is not None:
                    end.close()
            self._reader = self._writer = None

    def _open(self) -> None:
        if self._is_closed:
            raise ValueError("This Wake is closed")
        if hasattr(os, "eventfd"):
            self._reader = self._writer = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        elif sys.platform == "win32":
            self._reader, self._writer = socket.socketpair()
        else:
            self._reader, self._writer = os.pipe()

    def _write(self) -> None:
        if isinstance(self._writer, int):
            os.write(self._writer, (1).to_bytes(8, sys.byteorder))
        elif self._writer is not None:
            self._writer.send(b"\0")

    def _drain(self) -> None:
        # There is exactly one write to take back.
        if isinstance(self._reader, int):
            os.read(self._reader, 8)
        elif self._reader is not None:
            self._reader.recv(1)


class Clock(Protocol):
    """The time, and the waits: the system's, or a test's."""

    def now(self) -> float:
        """The time."""
        ...

    def wait(
        self, until: float, watched: Sequence[tuple[Watched, int]] = (), wake: Wake | None = None
    ) -> Sequence[Watched]:
        """Wait; see `SystemClock.wait`."""
        ...


class SystemClock:
    """The system's clock, and its ways to wait."""

    now = staticmethod(time.monotonic)

    @staticmethod
    def wait(
        until: float, watched: Sequence[tuple[Watched, int]] = (), wake: Wake | None = None
    ) -> Sequence[Watched]:
        """Wait until something is ready, `wake` is set, or the time has come.

        Args:
            until: When to stop waiting. A time that has passed makes this a look.
            watched: What to wait for, each with READ, WRITE or both. What has failed, or is closed, is ready.
            wake: Ends the wait when it is set.

        Returns:
            Those of the watched that are ready: none where the time has come, or `wake` is set.
        """
        seconds = min(max(0.0, until - time.monotonic()), _LONGEST)
        if wake is not None:
            if wake.is_set():
                seconds = 0.0
            watched = [*watched, (wake, READ)]
        if not watched:
            time.sleep(seconds)
            return ()
        if any(each.fileno() < 0 for each, _ in watched):
            return [each for each, _ in watched if each.fileno() < 0]
        ready = _poll(watched, seconds)
        return [each for each in ready if each is not wake] if wake is not None else ready


def is_ready(watched: Watched, events: int) -> bool:
    """Whether something is ready now; what is closed is."""
    return watched.fileno() < 0 or bool(_poll([(watched, events)], 0.0))


if hasattr(select, "poll"):
    _EVENTS = (0, select.POLLIN, select.POLLOUT, select.POLLIN | select.POLLOUT)

    def _poll(watched: Sequence[tuple[Watched, int]], seconds: float) -> list[Watched]:
        poll = select.poll()
        for each, events in watched:
            poll.register(each.fileno(), _EVENTS[events])
        ready = poll.poll(math.ceil(seconds * 1000))
        if not ready:
            return []
        numbers = {number for number, _ in ready}
        return [each for each, _ in watched if each.fileno() in numbers]

else:

    def _poll(watched: Sequence[tuple[Watched, int]], seconds: float) -> list[Watched]:
        read = [each for each, events in watched if events & READ]
        write = [each for each, events in watched if events & WRITE]
        # Windows tells of a connection that failed through the third set alone.
        ready = {id(each) for some in select.select(read, write, write, seconds) for each in some}
        return [each for each, _ in watched if id(each) in ready]


# Waits of one thread for another, which have no descriptor


def wait_for(condition: threading.Condition, predicate: Callable[[], bool], until: float = math.inf) -> bool:
    """Wait, with the condition held, until it is notified and the predicate is true; False when the time has come."""
    while not predicate():
        left = until - time.monotonic()
        if left <= 0:
            return False
        condition.wait(_bounded(left))
    return True


def wait_for_event(event: threading.Event, until: float = math.inf) -> bool:
    """Wait until it is set; False when the time has come."""
    while not event.is_set():
        left = until - time.monotonic()
        if left <= 0:
            return False
        event.wait(_bounded(left))
    return True


def wait_for_future(future: Future[Any], until: float = math.inf) -> bool:
    """Wait until it is done; False when the time has come."""
    while not future.done():
        left = until - time.monotonic()
        if left <= 0:
            return False
        wait([future], _bounded(left))
    return True


def _bounded(seconds: float) -> float | None:
    if threading.current_thread() is threading.main_thread():
        return min(seconds, _SLICE)
    return None if seconds == math.inf else min(seconds, threading.TIMEOUT_MAX)
