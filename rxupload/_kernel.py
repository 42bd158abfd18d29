"""Keeps a Jupyter kernel master of its uploads: they notice its stop button, and its shutdown waits for none of them.

Elsewhere nothing here has any effect. It imports nothing of Jupyter's. It minds two habits of `ipykernel`, 6.29 to 7.4:

- While a cell awaits, the handler of an interrupt runs within the loop's wait for its sockets, and only asks for a turn
  of that loop, which then waits on. So a stalled upload would never notice. A heartbeat ends the wait.
- A kernel that shuts down ends its main thread, and Python then waits for the threads that the caller has made.

A cell of a subshell runs on another thread, which gets no signals: `ipykernel` itself cannot interrupt it.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from reactivex import abc
from reactivex.disposable import Disposable
from reactivex.internal import noop

from ._schedulers import running_loop

_BEAT_SECONDS = 0.2  # between two heartbeats

_NOTHING = Disposable()


_is_child = False  # a forked child of the kernel, as of multiprocessing, which is none


def kernel() -> Any:
    """Return the kernel that this process is; None if it is none, such as IPython in a terminal.

    A kernel that is not ipykernel's, as in a browser, counts as none: it has other ways to send an output.
    """
    if _is_child:
        return None
    ipython = sys.modules.get("IPython")
    get_shell = getattr(ipython, "get_ipython", None)  # None while IPython is being imported
    found = None if get_shell is None else getattr(get_shell(), "kernel", None)
    return found if all(hasattr(found, name) for name in ("get_parent", "iopub_socket", "session")) else None


def is_kernel() -> bool:
    """Whether this process is a kernel's, whose shutdown must not wait: also one without IPython's shell."""
    return not _is_child and "ipykernel.kernelapp" in sys.modules


# What runs


class _UnderWay(abc.DisposableBase):
    """Something that runs in a kernel, until it is disposed, which any thread may do."""

    def __init__(self, stop: Callable[[Exception], object]) -> None:
        self.stop = stop
        self._places = [_all]
        _all.add(self)

    def keep_beating(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have the loop's heart beat until this is disposed."""
        if loop not in _awaited:  # its heart does not beat
            _awaited[loop] = set()
            loop.call_later(_BEAT_SECONDS, _beat, loop)
        self._places.append(_awaited[loop])
        _awaited[loop].add(self)

    def dispose(self) -> None:
        for place in self._places:
            place.discard(self)


_all: set[_UnderWay] = set()
_awaited: WeakKeyDictionary[asyncio.AbstractEventLoop, set[_UnderWay]] = WeakKeyDictionary()
_is_over = False  # the kernel shuts down


def under_way(
    loop: asyncio.AbstractEventLoop | None, stop: Callable[[Exception], object] = noop
) -> abc.DisposableBase:
    """Take note that something runs, until the returned disposable is disposed.

    Args:
        loop: The loop that may be waiting for it. It notices interrupts meanwhile, if it runs on this, the main thread.
        stop: Called with an error when the kernel shuts down: on its main thread, or at once if that has ended.
    """
    if not is_kernel():
        return _NOTHING
    work = _UnderWay(stop)
    if _is_over:
        stop(_shutdown())
    if loop is not None and loop is running_loop() and threading.current_thread() is threading.main_thread():
        work.keep_beating(loop)
    return work


def _beat(loop: asyncio.AbstractEventLoop) -> None:
    if _awaited[loop]:
        loop.call_later(_BEAT_SECONDS, _beat, loop)
    else:
        del _awaited[loop]


# Cells


class _Cells:
    """Knows whether a cell runs, and what is to be done after it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._is_running = threading.current_thread() is threading.main_thread()  # as the caller's own one
        self._after: list[Callable[[], object]] = []
        shell = sys.modules["IPython"].get_ipython()
        if shell is None:  # a kernel of another language, which has none
            self._is_running = False
        else:
            shell.events.register("pre_execute", self._begin)
            shell.events.register("post_execute", self._end)

    def _begin(self) -> None:
        self._is_running = True

    def _end(self) -> None:
        with self._lock:
            self._is_running = False
            actions, self._after = self._after, []
        for action in actions:
            action()

    def after(self, action: Callable[[], object]) -> None:
        with self._lock:
            if self._is_running:
                self._after.append(action)
                return
        action()


_cells: _Cells | None = None


def watch_cells() -> None:
    """In a kernel, find out from now on when a cell runs."""
    global _cells  # noqa: PLW0603
    if _cells is None and is_kernel():
        _cells = _Cells()


def after_the_cell(action: Callable[[], object]) -> bool:
    """In a kernel, call the action as soon as no cell runs, on this thread or on the cell's. Elsewhere return False."""
    if _cells is None:
        return False
    _cells.after(action)
    return True


# The end of the kernel


def stop_all() -> None:
    """Stop all that runs, and all that is still to come: the kernel shuts down."""
    global _is_over  # noqa: PLW0603
    _is_over = True
    for work in tuple(_all):
        work.stop(_shutdown())


def _shutdown() -> Exception:
    from ._errors import UploadAborted  # noqa: PLC0415 - most programs do without it

    return UploadAborted("The kernel is shutting down")


def _forget() -> None:
    """Start afresh in a forked child, which has none of the parent's threads, runs no cell and speaks to no page."""
    global _cells, _is_child
    _all.clear()
    _awaited.clear()
    _cells, _is_child = None, True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
