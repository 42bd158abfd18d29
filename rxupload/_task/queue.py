"""Queues all tasks: a few uploads run, and the others wait for their turn."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import traceback
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from typing import Protocol, cast

from rxupload._kernel import after_the_cell
from rxupload._signals import at_the_end, delaying_ctrl_c
from rxupload._wait import Latch

_logger = logging.getLogger("rxupload")


class Expected(Protocol):
    """A task that the end of the script waits for."""

    ended: Latch

    def abort(self) -> None:
        """Abort the upload."""


class Queued(Expected, Protocol):
    """A task that waits for its turn."""

    def _run(self) -> None:
        """Run the whole upload on the calling thread."""

    def _on_error(self, error: Exception) -> None:
        """End the task with this error."""


class UploadQueue:
    """All tasks that have not ended. At most `limit` of them run. The others wait, first in, first out.

    A finished script waits for its tasks. If Ctrl-C ends it, they are aborted.

    A daemon thread does errands: `abort()` may be called in a signal handler, and starting a thread there would wait
    for ever if the handler has interrupted the start of another one.
    """

    def __init__(self) -> None:
        self.limit = 5
        # Reentrant, because a signal handler may abort while its own thread holds the lock.
        self._lock = threading.RLock()
        self._running: set[Expected] = set()
        self._waiting: deque[Queued] = deque()
        self._untold: set[Expected] = set()  # their last callback has not returned
        self._errands: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._has_errand_thread = False
        self._unseen: dict[Callable[[], object], Callable[[], object]] = {}  # by weak reference to the task
        self._is_aborted = False  # Ctrl-C has ended the script
        self.is_waited_for = False  # the script has ended, and waits for its tasks
        self._threads = 0  # the number of threads that run tasks, each of them one task after the other

    def add(self, task: Queued) -> None:
        """Add a task, to run it in its turn."""
        with delaying_ctrl_c():
            with self._lock:
                self._untold.add(task)
                self._waiting.append(task)
                self._need_errand_thread()
            if self._is_aborted:
                task.abort()
            self.advance()

    def remove(self, task: Expected) -> None:
        """Remove a task that has ended, so that another can run. A name lookup may still block its thread."""
        with delaying_ctrl_c(), self._lock:
            self._running.discard(task)
            with suppress(ValueError):  # it does not wait
                self._waiting.remove(cast("Queued", task))

    def _need_errand_thread(self) -> None:
        if not self._has_errand_thread:
            with suppress(RuntimeError):  # see `advance`
                threading.Thread(target=self._do_errands, name="rxupload errands", daemon=True).start()
                self._has_errand_thread = True

    def expect(self, task: Expected) -> None:
        """Have the end of the script wait for a task that waits for no turn: it runs already, or failed at once."""
        with delaying_ctrl_c():
            with self._lock:
                self._untold.add(task)
                self._need_errand_thread()
            if self._is_aborted:
                task.abort()

    def told(self, task: Expected) -> None:
        """Take note that the last callback of a task has returned, so that the script may end."""
        with delaying_ctrl_c(), self._lock:
            self._untold.discard(task)

    def advance(self) -> None:
        """Start threads for the tasks that may run now."""
        while (task := self._next()) is not None:
            try:
                threading.Thread(
                    target=self._run, args=([task],), name="rxupload upload", daemon=True
                ).start()
            except RuntimeError as error:
                # CPython 3.12.0 to 3.12.2 starts no thread after the main thread has ended. Leave the task to a running
                # one.
                with delaying_ctrl_c(), self._lock:
                    self._running.discard(task)
                    can_wait = self._threads > 0
                    if can_wait:
                        self._waiting.appendleft(task)
                if not can_wait:
                    task._on_error(error)  # noqa: SLF001
                return
            with delaying_ctrl_c(), self._lock:
                self._threads += 1

    def _next(self) -> Queued | None:
        with delaying_ctrl_c(), self._lock:
            if len(self._running) >= self.limit:
                return None
            try:
                task = self._waiting.popleft()
            except IndexError:  # a look before would not do: a signal handler may take it meanwhile
                return None
            self._running.add(task)
            return task

    def _run(self, first: list[Queued]) -> None:
        task: Queued | None = first.pop()  # so that the thread keeps no task that has ended
        while task is not None:
            task._run()  # noqa: SLF001
            with delaying_ctrl_c(), self._lock:
                task = self._next()
                if task is None:
                    self._threads -= 1

    def do(self, errand: Callable[[], object]) -> None:
        """Have the errand thread call this. It takes no lock."""
        if self._has_errand_thread:
            self._errands.put(errand)
        else:
            errand()

    def _do_errands(self) -> None:
        while True:
            self._do_one(self._errands.get())

    def _do_one(self, errand: Callable[[], object]) -> None:
        with suppress(Exception):  # a handler of the log may raise
            self._unseen.pop(errand, errand)()

    def watch(self, task: Expected, is_looked_at: Latch, title: str, error: Exception) -> None:
        """Log the error of a task that is dropped, unless somebody has looked at it. On the errand thread.

        In a Jupyter kernel, a cell's variable and the kernel's history keep the task. There it is logged after the cell
        that runs, and in the context of the calling code, which is that of the cell that has started the task.

        The garbage collector may drop a task anywhere. So only the errand thread logs, and the weak reference calls a
        function that is not Python's, in which Ctrl-C cannot get lost. The text is made before: the frames of the
        error's traceback would keep the task.
        """
        if not is_looked_at.is_set():
            text = "".join(traceback.format_exception(error)).rstrip()
            log = partial(_log_unseen, is_looked_at, title, text)
            if not after_the_cell(partial(copy_context().run, log)):
                self._unseen[weakref.ref(task, self._errands.put)] = log

    def log_unseen(self) -> None:
        """Log the errors of all tasks that nobody has looked at, at the end of the script."""
        while self._unseen:
            with suppress(KeyError):  # the errand thread has done it
                self._unseen.popitem()[1]()

    def abort_all(self) -> None:
        """Abort all tasks, and those that are still to come."""
        self._is_aborted = True
        with delaying_ctrl_c(), self._lock:
            tasks = list(self._untold)
        for task in tasks:
            task.abort()

    def wait(self) -> None:
        """Wait until the last callback of all tasks has returned, and the errands of these are done."""
        self.is_waited_for = True
        try:
            while True:
                with delaying_ctrl_c(), self._lock:
                    task = next(iter(self._untold), None)
                if task is None:
                    break
                task.ended.wait()
                del task  # so that it may go, and log its error
        finally:
            self.is_waited_for = False
        is_done = Latch()
        self.do(is_done.set)
        is_done.wait()


def _log_unseen(is_looked_at: Latch, title: str, text: str) -> None:
    if not is_looked_at.is_set():
        _logger.error("%s failed, and nobody looked at its outcome\n%s", title, text)


uploads = UploadQueue()

atexit.register(lambda: uploads.log_unseen())  # noqa: PLW0108 - a fork replaces the queue
at_the_end(lambda: uploads.wait(), lambda: uploads.abort_all())  # noqa: PLW0108 - a fork replaces the queue


def _forget() -> None:
    """Start afresh in a forked child, which has none of the parent's threads."""
    global uploads  # noqa: PLW0603
    limit = uploads.limit
    uploads = UploadQueue()
    uploads.limit = limit


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
