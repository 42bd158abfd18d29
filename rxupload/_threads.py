"""Runs uploads on threads that are reused: a thread that has finished one waits some seconds for the next."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextvars import copy_context

from ._signals import delaying_ctrl_c
from ._wait import wait_for

IDLE_SECONDS = 5.0  # how long an idle thread waits for work
MOST_IDLE = 8
# How long a thread waits that is idle beside so many: a batch ends and begins many uploads at about the same time.
SURPLUS_SECONDS = 0.05

_Work = Callable[[], None]


class Threads:
    """Daemon threads: one for each piece of work, and a few idle ones."""

    def __init__(self, name: str = "rxupload") -> None:
        self._name = name
        # Reentrant, because a signal handler may start an upload while its own thread holds the lock.
        self._changed = threading.Condition(threading.RLock())
        self._work: deque[_Work] = deque()
        self._idle = 0
        self._generation = 0  # `retire` starts a new one; threads of earlier ones end

    def run(self, work: _Work) -> None:
        """Run the work on a thread at once.

        Raises:
            RuntimeError: No thread is idle, and the interpreter starts none while it shuts down.
        """
        with delaying_ctrl_c():
            with self._changed:
                if self._idle > len(self._work):
                    self._work.append(work)
                    self._changed.notify()
                    return
            # Pass the work in a list that `_serve` empties: a thread keeps its arguments for as long as it lives.
            try:
                threading.Thread(target=self._serve, args=([work],), name=self._name, daemon=True).start()
            except RuntimeError as error:  # CPython 3.12 starts no thread in atexit functions
                raise RuntimeError(
                    "An upload needs a thread, and the interpreter starts none while it shuts down; "
                    "with ImmediateScheduler() it needs none"
                ) from error

    def retire(self) -> None:
        """End the idle threads now, and the busy ones after their work."""
        with self._changed:
            self._generation += 1
            self._changed.notify_all()

    def _serve(self, first: list[_Work]) -> None:
        generation = self._generation
        work: _Work | None = first.pop()
        while work is not None:
            work()
            work = None  # do not keep its objects alive while the thread is idle
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
    """Run the work on one of the library's threads, in a copy of the caller's context; see `Threads.run`.

    What the work calls sees the caller's context variables. A Jupyter kernel tells by one of them under which cell to
    put an output.
    """
    context = copy_context()
    _threads.run(lambda: context.run(_run, work))


def _run(work: _Work) -> None:
    try:
        work()
    except BaseException:  # noqa: BLE001 - as at the end of a thread, but in the context of the work
        threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))


@atexit.register
def retire_idle() -> None:
    """End the library's idle threads; see `Threads.retire`."""
    _threads.retire()


def _forget() -> None:
    """Start afresh in a forked child, which has none of the parent's threads."""
    global _threads  # noqa: PLW0603
    _threads = Threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
