"""Keeps connections for further requests, and limits their number.

The pool decides under its lock, and closes and wakes after releasing it, because those may block.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import NamedTuple

import httpx

from rxupload._wait import Clock, Wake

from .connection import Connection
from .control import Control


class Limits(NamedTuple):
    """The most connections, the most idle ones, and the seconds that one may be idle; None for no limit."""

    total: int | None = 100
    idle: int | None = 20
    seconds: float | None = 5.0


class Pool:
    """The connections of one transport. All methods may be called from any thread."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        # Reentrant, because a signal handler may begin or end a request while its own thread holds the lock.
        self._lock = threading.RLock()
        self._idle: OrderedDict[Connection, None] = OrderedDict()  # the oldest first
        self._by_key: dict[Hashable, list[Connection]] = {}  # the idle ones
        self._active: set[Connection] = set()
        self._room = 0  # reserved by connections that are being dialled
        self._waiting: deque[Wake] = deque()

    def acquire(
        self,
        key: Hashable,
        dial: Callable[[], Connection],
        *,
        control: Control,
        timeout: float | None,
        is_new: bool = False,
    ) -> Connection:
        """Take an idle connection with this key, or dial one.

        Args:
            key: Requests with the same key may share a connection.
            dial: Makes a connection, if none is idle.
            control: May stop the wait for room.
            timeout: Seconds to wait for room; None for no limit.
            is_new: Dial even if one is idle.

        Raises:
            httpx.PoolTimeout: There was no room in time.
        """
        idle = None if is_new else self._take(key)
        if idle is None:
            idle = self._await_room(None if is_new else key, control, timeout)
        if idle is not None:
            return idle
        try:
            connection = dial()
        except BaseException:
            with self._lock:
                self._room -= 1
            self._wake_next()
            raise
        with self._lock:
            self._room -= 1
            connection.key = key
            self._active.add(connection)
        return connection

    def _take(self, key: Hashable) -> Connection | None:
        """Take an idle connection that is not too old. `Exchange.send` detects one that the server has closed."""
        while True:
            with self._lock:
                kept = self._by_key.get(key)
                if not kept:
                    return None
                connection = kept.pop()  # the one that was used last
                if not kept:
                    del self._by_key[key]
                del self._idle[connection]
                self._active.add(connection)
            if connection.expires > self._clock.now():
                return connection
            self.drop(connection)

    def _await_room(self, key: Hashable, control: Control, timeout: float | None) -> Connection | None:
        """Reserve room for a new connection. With a key, take one that becomes idle meanwhile instead."""
        if self._reserve():
            return None
        by = math.inf if timeout is None else self._clock.now() + timeout
        wake = control.wake or Wake()
        with self._lock:
            self._waiting.append(wake)
        try:
            while True:
                connection = None if key is None else self._take(key)
                if connection is not None or self._reserve():
                    return connection
                until = control.check()
                if self._clock.now() >= by:
                    raise httpx.PoolTimeout(f"No connection was free for {timeout:g} s")
                self._clock.wait(min(until, by), (), wake)
                wake.clear()
        finally:
            with self._lock:
                if wake in self._waiting:
                    self._waiting.remove(wake)
            self._wake_next()  # there may be room for two, or this caller gave up
            if wake is not control.wake:
                wake.close()

    def _reserve(self) -> bool:
        with self._lock:
            total = len(self._idle) + len(self._active) + self._room
            unused = None
            if self._limits.total is not None and total >= self._limits.total:
                if not self._idle:
                    return False
                unused = next(iter(self._idle))
                self._forget(unused)
            self._room += 1
        if unused is not None:
            unused.close()
        return True

    def keep(self, connection: Connection) -> None:
        """Keep a connection for another request."""
        connection.is_used = True
        connection.keep_queue_short(False)
        seconds = self._limits.seconds
        connection.expires = math.inf if seconds is None else self._clock.now() + seconds
        with self._lock:
            if connection not in self._active:  # the pool has been closed
                closed = [connection]
            else:
                self._active.remove(connection)
                self._idle[connection] = None
                self._by_key.setdefault(connection.key, []).append(connection)
                closed = self._surplus()
        for each in closed:
            each.close()
        self._wake_next()

    def drop(self, connection: Connection, *, reset: bool = False) -> None:
        """Close a connection. With a reset, the system does not wait for the server to read the unsent bytes."""
        with self._lock:
            self._active.discard(connection)
        connection.close(reset=reset)
        self._wake_next()

    def _surplus(self) -> list[Connection]:
        """Remove and return the idle connections that are too many or too old."""
        now = self._clock.now()
        surplus = []
        while self._idle:
            oldest = next(iter(self._idle))
            is_too_much = self._limits.idle is not None and len(self._idle) > self._limits.idle
            if not is_too_much and oldest.expires > now:
                break
            self._forget(oldest)
            surplus.append(oldest)
        return surplus

    def _forget(self, connection: Connection) -> None:
        del self._idle[connection]
        kept = self._by_key[connection.key]
        kept.remove(connection)
        if not kept:
            del self._by_key[connection.key]

    def _wake_next(self) -> None:
        with self._lock:
            wake = self._waiting[0] if self._waiting else None
        if wake is not None:
            wake.set()

    def close(self) -> None:
        """Close the idle connections, and end the active ones: their requests fail."""
        with self._lock:
            active, self._active = self._active, set()
            for connection in active:
                connection.interrupt()  # under the lock: `drop` takes it before closing the descriptor
        self.close_idle()

    def close_idle(self) -> None:
        """Close the idle connections."""
        with self._lock:
            idle = list(self._idle)
            self._idle.clear()
            self._by_key.clear()
        for connection in idle:
            connection.close()

    def counts(self) -> tuple[int, int]:
        """How many connections are in use, and how many are idle."""
        with self._lock:
            return len(self._active) + self._room, len(self._idle)
