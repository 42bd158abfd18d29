"""Waits, as the only module that blocks: until a descriptor is ready, another thread wakes it, or a deadline passes.

How should we wait? To end a wait for a connected socket, another thread can shut the socket down, which makes it ready.
Some waits have no such socket. Others must end while the socket stays usable: more to send has come, or a pause is
over. These waits also watch a `Wake`. No wait ends by itself before its deadline, with one exception: the main thread
wakes every 0.2 s. CPython does not notice a signal that comes just before the wait, and on Windows none at all, so
Ctrl-C would otherwise have no effect.

All times are seconds on the monotonic clock. `math.inf` means no deadline.
"""

from __future__ import annotations

import math
import os
import select
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

READ = 1
WRITE = 2

_LONGEST = 24 * 3600.0  # the most seconds for one system call; C's int holds at most 24 days in milliseconds
_SLICE = 0.2  # seconds between two checks for Ctrl-C, on the main thread


class Watched(Protocol):
    """A socket, or any other object with a descriptor to watch."""

    def fileno(self) -> int:
        """The descriptor's number; negative if closed."""
        ...


class Wake:
    """Ends one thread's waits, from any other thread or from a signal handler.

    It is sticky: once set, it ends every wait at once until it is cleared. It opens its descriptors for the first wait
    that watches it.
    """

    def __init__(self) -> None:
        # Reentrant, because a signal handler may set it while its own thread holds the lock.
        self._lock = threading.RLock()
        self._is_set = False
        self._is_closed = False
        self._reader: int | socket.socket | None = None
        self._writer: int | socket.socket | None = None

    def set(self) -> None:
        """End the wait. Any thread may call this; it never blocks."""
        with self._lock:
            was_set, self._is_set = self._is_set, True
            if not was_set:
                self._write()

    def clear(self) -> None:
        """Let the next wait block again. Only the waiting thread may call this."""
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
        """Close its descriptors. A later `set` has no effect."""
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
        # `set` has written exactly once.
        if isinstance(self._reader, int):
            os.read(self._reader, 8)
        elif self._reader is not None:
            self._reader.recv(1)


class Clock(Protocol):
    """Tells the time and waits: by the system's clock, or by a test's."""

    def now(self) -> float:
        """The time in seconds."""
        ...

    def wait(
        self, until: float, watched: Sequence[tuple[Watched, int]] = (), wake: Wake | None = None
    ) -> Sequence[Watched]:
        """Wait; see `SystemClock.wait`."""
        ...


class SystemClock:
    """The system's clock and its waits."""

    now = staticmethod(time.monotonic)

    @staticmethod
    def wait(
        until: float, watched: Sequence[tuple[Watched, int]] = (), wake: Wake | None = None
    ) -> Sequence[Watched]:
        """Wait until something is ready, `wake` is set, or `until` has passed.

        Args:
            until: When to stop waiting. A time in the past only checks, without waiting.
            watched: The objects to wait for, each with READ, WRITE or both. A failed or closed one is ready.
            wake: Ends the wait when it is set.

        Returns:
            The watched objects that are ready; empty if only `wake` or `until` ended the wait.
        """
        seconds = max(0.0, until - time.monotonic())
        if wake is not None:
            if wake.is_set():
                seconds = 0.0
            watched = [*watched, (wake, READ)]
        if not watched:
            time.sleep(min(seconds, _LONGEST))
            return ()
        if any(each.fileno() < 0 for each, _ in watched):
            return [each for each, _ in watched if each.fileno() < 0]
        ready = _poll(watched, _bounded(seconds))
        while not ready and (left := until - time.monotonic()) > 0:
            ready = _poll(watched, _bounded(left))
        return [each for each in ready if each is not wake] if wake is not None else ready


def is_ready(watched: Watched, events: int) -> bool:
    """Whether an object is ready now. A closed one is ready."""
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
        # Windows reports a failed connection only in the third set.
        ready = {id(each) for some in select.select(read, write, write, seconds) for each in some}
        return [each for each, _ in watched if id(each) in ready]


# Waits for another thread, without a descriptor


def wait_for(condition: threading.Condition, predicate: Callable[[], bool], until: float = math.inf) -> bool:
    """Wait for a condition, held by the caller, until the predicate is true. Return False if `until` passes first."""
    while not predicate():
        left = until - time.monotonic()
        if left <= 0:
            return False
        condition.wait(_bounded(left))
    return True


class Latch:
    """Something that happens once, for which threads wait.

    Unlike `threading.Event`, it has no lock that a signal handler could leave held by raising during `wait`.
    """

    def __init__(self) -> None:
        self._is_set = False
        self._waiters: deque[threading.Lock] = deque()

    def is_set(self) -> bool:
        """Whether it has happened."""
        return self._is_set

    def set(self) -> None:
        """Take note that it has happened. Any thread may call this, also in a signal handler; it never blocks."""
        self._is_set = True
        with suppress(IndexError):  # no more waiters
            while True:
                self._waiters.popleft().release()

    def wait(self, until: float = math.inf) -> bool:
        """Wait until it has happened. Return False if `until` passes first."""
        waiter = threading.Lock()
        waiter.acquire()
        self._waiters.append(waiter)  # before looking: `set` goes the other way
        try:
            while not self._is_set:
                left = until - time.monotonic()
                if left <= 0:
                    return False
                waiter.acquire(timeout=_bounded(left))
        finally:
            with suppress(ValueError):  # `set` has removed it
                self._waiters.remove(waiter)
        return True


def _bounded(seconds: float) -> float:
    longest = _SLICE if threading.current_thread() is threading.main_thread() else _LONGEST
    return min(seconds, longest)
