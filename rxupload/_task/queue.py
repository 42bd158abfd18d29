"""Queues all tasks: a few uploads run, and the others wait for their turn."""

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
    """A task, as the queue uses it."""

    _future: Future[Any]

    def abort(self) -> None:
        """Abort the upload."""

    def _run(self) -> None:
        """Run the whole upload on the calling thread."""

    def _on_error(self, error: Exception) -> None:
        """End the task with this error."""


class UploadQueue:
    """All tasks that have not ended. At most `limit` of them run. The others wait, first in, first out.

    While there are any, a non-daemon thread ("keeper") keeps a finished script alive. A daemon thread ("watcher") waits
    for the end of the main thread. If that ended by Ctrl-C, the watcher aborts all tasks.
    """

    def __init__(self) -> None:
        self.limit = 5
        self._changed = threading.Condition()
        self._running: set[Queued] = set()
        self._waiting: deque[Queued] = deque()
        self._has_keeper = False
        self._has_watcher = False
        self._is_aborted = False  # Ctrl-C has ended the script
        self._threads = 0  # the number of threads that run tasks, each of them one task after the other

    def add(self, task: Queued) -> None:
        """Add a task, to run it in its turn."""
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
        """Remove a task that has ended, so that another can run. A name lookup may still block its thread."""
        with self._changed:
            self._running.discard(task)
            if task in self._waiting:
                self._waiting.remove(task)
            self._changed.notify_all()

    def advance(self) -> None:
        """Start threads for the tasks that may run now."""
        while (task := self._next()) is not None:
            try:
                threading.Thread(target=self._run, args=(task,), name="rxupload upload", daemon=True).start()
            except RuntimeError as error:
                # CPython 3.12.0 to 3.12.2 starts no thread after the main thread has ended. Leave the task to a running
                # one.
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
        """Abort all tasks, the last one first, so that none of the waiting ones starts meanwhile."""
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
    """Whether Ctrl-C has ended the main thread."""
    return isinstance(getattr(sys, "last_value", None), KeyboardInterrupt)


uploads = UploadQueue()


@atexit.register
def _abort_what_is_left() -> None:
    # The interpreter waits for the keeper first. So there are tasks left only if Ctrl-C interrupted that wait.
    tasks = uploads.abort_all()
    wait([task._future for task in tasks], 0.5)  # noqa: SLF001


def _forget() -> None:
    """Start afresh in a forked child, which has none of the parent's threads."""
    global uploads  # noqa: PLW0603
    limit = uploads.limit
    uploads = UploadQueue()
    uploads.limit = limit


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
