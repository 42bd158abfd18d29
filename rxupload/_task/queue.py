"""The queue of all tasks: a few uploads run, the others wait for their turn."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections import deque
from concurrent.futures import Future, wait
from typing import Any, Protocol

from rxupload._wait import wait_for


class Queued(Protocol):
    """What the queue knows of a task."""

    _future: Future[Any]

    def abort(self) -> None:
        """Stop it."""

    def _run(self) -> None:
        """Upload, on this thread, to the end."""

    def _on_error(self, error: Exception) -> None:
        """End with this error."""


class UploadQueue:
    """The tasks that have not ended: a few of them run, the others wait in the order in which they came.

    While there are any, a thread that is no daemon keeps a script alive that has reached its end. Another one, which is
    a daemon, waits for that end: where it came by Ctrl-C, it aborts them.
    """

    def __init__(self) -> None:
        self.limit = 5
        self._changed = threading.Condition()
        self._running: set[Queued] = set()
        self._waiting: deque[Queued] = deque()
        self._has_keeper = False
        self._has_watcher = False
        self._is_aborted = False  # the script has ended by Ctrl-C
        self._threads = 0  # those that run the tasks, each one after the other

    def add(self, task: Queued) -> None:
        """Run it when its turn has come."""
        with self._changed:
            self._waiting.append(task)
            needs_keeper, self._has_keeper = not self._has_keeper, True
            needs_watcher, self._has_watcher = not self._has_watcher, True
        if needs_watcher:
            threading.Thread(target=self._watch, name="rxupload watcher", daemon=True).start()
        if needs_keeper:
            threading.Thread(target=self._keep, name="rxupload keeper", daemon=False).start()
        if self._is_aborted:
            task.abort()
        self.advance()

    def remove(self, task: Queued) -> None:
        """It has ended, though its thread may be held up yet, by a name lookup: there is room for the next."""
        with self._changed:
            self._running.discard(task)
            if task in self._waiting:
                self._waiting.remove(task)
            self._changed.notify_all()

    def advance(self) -> None:
        """Have threads for those that may run."""
        while (task := self._next()) is not None:
            try:
                threading.Thread(target=self._run, args=(task,), name="rxupload upload", daemon=True).start()
            except RuntimeError as error:
                # CPython 3.12.0 to 3.12.2 starts none once the main thread has ended: one that is there takes it.
                with self._changed:
                    self._running.discard(task)
                    can_wait = self._threads > 0
                    if can_wait:
                        self._waiting.appendleft(task)
                if not can_wait:
                    task._on_error(error)  # noqa: SLF001
                return
            with self._changed:
                self._threads += 1

    def _next(self) -> Queued | None:
        with self._changed:
            if not self._waiting or len(self._running) >= self.limit:
                return None
            task = self._waiting.popleft()
            self._running.add(task)
            return task

    def _run(self, first: Queued) -> None:
        task: Queued | None = first
        while task is not None:
            task._run()  # noqa: SLF001
            with self._changed:
                task = self._next()
                if task is None:
                    self._threads -= 1

    def abort_all(self) -> list[Queued]:
        """Abort them all, the last first, so that none of them starts meanwhile."""
        with self._changed:
            tasks = [*self._running, *self._waiting]
        for task in reversed(tasks):
            task.abort()
        return tasks

    def _keep(self) -> None:
        with self._changed:
            wait_for(self._changed, lambda: not self._running and not self._waiting)
            self._has_keeper = False

    def _watch(self) -> None:
        threading.main_thread().join()
        if _died_of_ctrl_c():
            self._is_aborted = True
            self.abort_all()


def _died_of_ctrl_c() -> bool:
    """Whether the exception with which the main thread ended is Ctrl-C's."""
    return isinstance(getattr(sys, "last_value", None), KeyboardInterrupt)


uploads = UploadQueue()


@atexit.register
def _abort_what_is_left() -> None:
    # The interpreter has waited for the keeper, so there is none but after a Ctrl-C that broke off its wait.
    tasks = uploads.abort_all()
    wait([task._future for task in tasks], 0.5)  # noqa: SLF001


def _forget() -> None:
    """In a forked child: the threads of the parent's tasks are not here."""
    global uploads  # noqa: PLW0603
    limit = uploads.limit
    uploads = UploadQueue()
    uploads.limit = limit


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
