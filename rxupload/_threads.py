"""Threads that are used again: one that has finished an upload waits some seconds for the next."""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections import deque
from collections.abc import Callable

from ._wait import wait_for

IDLE_SECONDS = 5.0  # for which a thread waits for something to do
MOST_IDLE = 8  # threads that do so
SURPLUS_SECONDS = (
    0.05  # for which more than those wait: a batch ends and begins many uploads at about the same time
)

_Work = Callable[[], None]


class Threads:
    """Daemon threads, as many as there is work for at a time, and a few that are idle."""

    def __init__(self, name: str = "rxupload") -> None:
        self._name = name
        # Reentrant, for a signal's handler may start an upload while the same thread is in here.
        self._changed = threading.Condition(threading.RLock())
        self._work: deque[_Work] = deque()
        self._idle = 0
        self._generation = 0  # threads of an earlier one are not used again

    def run(self, work: _Work) -> None:
        """Have a thread do it, now.

        Raises:
            RuntimeError: None is idle and none can be started: the interpreter is shutting down.
        """
        with self._changed:
            if self._idle > len(self._work):
                self._work.append(work)
                self._changed.notify()
                return
        # In a list that is emptied, for a thread keeps its arguments as long as it lives.
        try:
            threading.Thread(target=self._serve, args=([work],), name=self._name, daemon=True).start()
        except RuntimeError as error:  # of CPython 3.12, in atexit functions
            raise RuntimeError(
                "An upload needs a thread, and the interpreter starts none while it shuts down; "
                "with ImmediateScheduler() it needs none"
            ) from error

    def retire(self) -> None:
        """Have those that are idle end now, and those that work when they have done so."""
        with self._changed:
            self._generation += 1
            self._changed.notify_all()

    def _serve(self, first: list[_Work]) -> None:
        generation = self._generation
        work: _Work | None = first.pop()
        while work is not None:
            work()
            work = None  # what it holds is not kept while the thread is idle
            work = self._next(generation)

    def _next(self, generation: int) -> _Work | None:
        def is_needed() -> bool:
            return bool(self._work) or generation != self._generation

        with self._changed:
            if generation != self._generation:
                return None
            is_surplus = self._idle - len(self._work) >= MOST_IDLE
            self._idle += 1
            try:
                seconds = SURPLUS_SECONDS if is_surplus else IDLE_SECONDS
                wait_for(self._changed, is_needed, time.monotonic() + seconds)
                return self._work.popleft() if self._work else None
            finally:
                self._idle -= 1


_threads = Threads()


def run_on_thread(work: _Work) -> None:
    """Have one of the library's threads do it; see `Threads.run`."""
    _threads.run(work)


@atexit.register
def retire_idle() -> None:
    """Have the library's idle threads end; see `Threads.retire`."""
    _threads.retire()


def _forget() -> None:
    """In a forked child: the threads are the parent's."""
    global _threads  # noqa: PLW0603
    _threads = Threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
