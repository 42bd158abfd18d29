"""Connections that are kept to be used again, and the limits on their number.

The pool decides under its lock, and does what may block after it: what is to be closed, and whom to wake, comes back
from the deciding method.
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
    """How many connections there may be, and how long one may be idle; None for any number, or for ever."""

    total: int | None = 100
    idle: int | None = 20
    seconds: float | None = 5.0


class Pool:
    """The connections of one transport. From any thread."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        # Reentrant, for a signal's handler may begin or end a request while the same thread is in here.
        self._lock = threading.RLock()
        self._idle: OrderedDict[Connection, None] = OrderedDict()  # the oldest first
        self._by_key: dict[Hashable, list[Connection]] = {}  # of those
        self._active: set[Connection] = set()
        self._room = 0  # taken by those that are being dialled
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
            key: What it leads to.
            dial: Makes one, if there is none.
            control: May stop the wait for room.
            timeout: Seconds to wait for room, where there is a limit; None for ever.
            is_new: Dial in any case.

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
        """An idle connection that is not too old; that it was closed shows before its first byte is sent."""
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
        """Reserve room for one more connection, or take one that becomes idle meanwhile, unless `key` is None."""
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
            self._wake_next()  # there may be room for two, or this one has no use for it
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
        """It may be used again."""
        connection.is_used = True
        connection.keep_queue_short(False)
        seconds = self._limits.seconds
        connection.expires = math.inf if seconds is None else self._clock.now() + seconds
        with self._lock:
            if connection not in self._active:  # the pool was closed meanwhile
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
        """It may not, and is closed; with a reset, without a wait for what the server has not read."""
        with self._lock:
            self._active.discard(connection)
        connection.close(reset=reset)
        self._wake_next()

    def _surplus(self) -> list[Connection]:
        """Take out what is too much or too old."""
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
        """Close those that are idle, and end those that are not: their requests fail."""
        with self._lock:
            active, self._active = self._active, set()
            for connection in active:
                connection.interrupt()  # with the lock: the worker closes its descriptor only after `drop`
        self.close_idle()

    def close_idle(self) -> None:
        """Close those that no request uses."""
        with self._lock:
            idle = list(self._idle)
            self._idle.clear()
            self._by_key.clear()
        for connection in idle:
            connection.close()

    def counts(self) -> tuple[int, int]:
        """How many connections are in use, and how many idle."""
        with self._lock:
            return len(self._active) + self._room, len(self._idle)
