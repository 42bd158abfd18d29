"""Calls a task's callbacks one after the other, asynchronous ones included: on a loop, or on a thread."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field
from functools import partial
from threading import Condition, RLock, current_thread, get_ident, main_thread
from typing import Any

from reactivex import abc

from rxupload._schedulers import (
    call_soon,
    is_closed,
    is_loop_of_this_thread,
    is_running,
    may_block,
    runs_coroutines,
)
from rxupload._signals import delaying_ctrl_c, is_long
from rxupload._threads import run_on_thread
from rxupload._wait import Latch, wait_for

from . import queue

_logger = logging.getLogger("rxupload")

_LOOK_SECONDS = 1.0  # between two looks at whether a loop is still there, which tells nobody when it closes

_inside: ContextVar[object] = ContextVar("rxupload asynchronous callback", default=None)


@dataclass(slots=True)
class Callback:
    """A function of the caller.

    Attributes:
        function: The function; None if there is none.
        event: What it is called on, for the log.
        name: Its own name, for the log; None: the function's.
        context: The context of the code that has given it. It sees that code's context variables.
        has_raised: Whether the log has an error of it. Further ones would only repeat that.
    """

    function: Callable[..., object] | None
    event: str
    name: str | None = None
    context: Context = field(default_factory=copy_context)
    has_raised: bool = False


class CallbackQueue:
    """Runs posted actions one after the other: in turns of a loop, or on a thread.

    If the loop is gone, a thread runs the remaining actions, so that every task notifies its end.

    An action may consist of steps, which it gives to `do` and `call`. While an asynchronous callback runs, the later
    steps and actions wait for it, and the loop goes on.
    """

    def __init__(self, scheduler: abc.SchedulerBase | None, title: str = "The upload") -> None:
        self._call_soon = None if scheduler is None or may_block(scheduler) else call_soon(scheduler)
        self._scheduler = scheduler
        self._title = title  # of the task, for the log
        # Reentrant, because a signal handler may call it while its own thread holds the lock.
        self._lock = RLock()
        self._changed = Condition(self._lock)
        self._actions: deque[Callable[[], object]] = deque()
        self._has_thread = False
        self._owner: int | None = None
        self._running: Callable[[], object] | None = None
        self._is_calling = False  # the running action is calling a user's function
        self._waiting: list[tuple[Callable[[], object], Latch]] = []  # the actions that `run` waits for
        self._awaited: asyncio.Task[None] | None = None  # the asynchronous callback that runs
        self._later: deque[Callable[[], object]] = deque()  # the steps that wait for it
        self._missed = 0  # turns of the loop that came meanwhile
        self._interrupt: KeyboardInterrupt | None = None  # it came in a user's function

    @property
    def is_current(self) -> bool:
        """Whether the caller is a callback of this queue, or what an asynchronous one has started."""
        return self._owner == get_ident() or (
            self._awaited is not None and _inside.get() is self and not self._awaited.done()
        )

    @property
    def has_loop(self) -> bool:
        """Whether it runs actions in turns of a loop."""
        return self._call_soon is not None

    @property
    def can_await(self) -> bool:
        """Whether its loop can run asynchronous callbacks."""
        return runs_coroutines(self._scheduler)

    def post(self, action: Callable[[], object]) -> None:
        """Run the action after all earlier ones, and never within this call. Any thread may call this."""
        with delaying_ctrl_c(), self._lock:
            self._actions.append(action)
        self._ask_for_a_turn()

    def _ask_for_a_turn(self) -> None:
        ask = self._call_soon  # read it once: another thread may set it to None when the loop has closed
        if ask is not None and ask(self._run_one):
            return
        self._call_soon = None
        self._run_on_a_thread()

    def post_end(self, action: Callable[[], object]) -> None:
        """Post it, and see to it that it runs to its end even if the loop is gone before that."""
        is_over = Latch()

        def run() -> None:
            try:
                with delaying_ctrl_c(only_steps=True):
                    action()
            finally:
                self.do(is_over.set)

        with delaying_ctrl_c():
            if self._call_soon is not None:
                with suppress(RuntimeError):  # an interpreter that is shutting down starts no threads
                    run_on_thread(partial(self._see_to_it, is_over))
            self.post(run)

    def _see_to_it(self, is_over: Latch) -> None:
        while not is_over.wait(time.monotonic() + _LOOK_SECONDS):
            if self._is_gone():
                self._call_soon = None
                self._run_on_a_thread()
                return

    def _is_gone(self) -> bool:
        """Whether the loop has closed, or the script has ended and left a loop that does not run."""
        return is_closed(self._scheduler) or (queue.uploads.is_waited_for and not is_running(self._scheduler))

    def run(self, action: Callable[[], object]) -> None:
        """Run the action before this returns.

        There are two exceptions. On a loop, the action runs in the next turn. While a user's function is running, the
        action runs after it, and this does not wait: that function may be waiting for the calling thread.
        """
        if self._call_soon is None and self.is_current:
            action()
            return
        is_over = Latch()  # or must not be waited for

        def run() -> None:
            try:
                action()
            finally:
                is_over.set()

        self.post(run)
        if self._call_soon is not None:
            return
        with delaying_ctrl_c(), self._lock:
            self._waiting.append((run, is_over))
            self._release_waiting()
        try:
            is_over.wait()
        finally:
            with delaying_ctrl_c(), self._lock:
                self._waiting.remove((run, is_over))

    def _release_waiting(self) -> None:
        if self._is_calling:
            for action, is_over in self._waiting:
                if action is not self._running:
                    is_over.set()

    # Within an action

    def do(self, step: Callable[[], object]) -> None:
        """Run a step of the running action: at once, or after the asynchronous callback that it has called."""
        if self._awaited is None:
            step()
        else:
            self._later.append(step)

    def call(self, callback: Callback, *args: Any) -> None:
        """Call the user's function, if any, as a step. Log what it raises, and go on.

        SystemExit is logged, too: otherwise it would silently end the library's thread. Ctrl-C, which comes on a loop
        of the main thread, is raised after the step's action, or its part.
        """
        if callback.function is not None:
            self.do(partial(self._call, callback, callback.function, args))

    @is_long
    def _call(self, callback: Callback, function: Callable[..., object], args: tuple[Any, ...]) -> None:
        self._note_call(is_calling=True)
        try:
            result = callback.context.copy().run(function, *args)
            if inspect.iscoroutine(result):
                self._begin(callback, result)
        except BaseException as error:  # noqa: BLE001
            if isinstance(error, KeyboardInterrupt) and current_thread() is main_thread():
                self._interrupt = error
            else:
                callback.context.copy().run(self._log, callback, error)
        finally:
            self._note_call(is_calling=False)

    def _note_call(self, *, is_calling: bool) -> None:
        with delaying_ctrl_c(), self._lock:
            self._is_calling = is_calling
            self._release_waiting()

    def _log(self, callback: Callback, error: BaseException) -> None:
        if callback.has_raised:
            return
        callback.has_raised = True
        name = callback.name or getattr(callback.function, "__qualname__", None) or repr(callback.function)
        _logger.error("%s: the %s callback %s raised", self._title, callback.event, name, exc_info=error)

    def _begin(self, callback: Callback, coroutine: Coroutine[Any, Any, object]) -> None:
        """Run what an asynchronous callback has returned. The later steps wait for its end."""
        if not (self.can_await and is_loop_of_this_thread(self._scheduler)):
            coroutine.close()
            raise TypeError("An asynchronous callback runs only on the loop of an AsyncIOScheduler")
        context = callback.context.copy()
        context.run(_inside.set, self)
        with delaying_ctrl_c():
            self._awaited = asyncio.get_running_loop().create_task(
                self._await(callback, coroutine), context=context
            )
            self._awaited.add_done_callback(partial(self._go_on_after, coroutine))

    async def _await(self, callback: Callback, coroutine: Coroutine[Any, Any, object]) -> None:
        try:
            await coroutine
        except (asyncio.CancelledError, KeyboardInterrupt):
            raise  # the second one ends the loop's run
        except BaseException as error:  # noqa: BLE001 - as in `_call`
            self._log(callback, error)

    def _go_on_after(self, coroutine: Coroutine[Any, Any, object], task: asyncio.Task[None]) -> None:
        with delaying_ctrl_c(only_steps=True):
            coroutine.close()  # if the task was cancelled before its first step
            if not task.cancelled():
                task.exception()  # so that asyncio does not report Ctrl-C again
            with self._lock:
                if self._awaited is not task:  # another turn, or a thread, has gone on
                    return
                self._awaited = None
                self._owner = get_ident()
            self._run_steps()

    def _run_steps(self) -> None:
        """Run the steps that have waited, and end the action, unless a step calls an asynchronous callback again."""
        try:
            while self._later and self._awaited is None:
                step = self._later.popleft()
                after, self._later = self._later, deque()
                try:
                    step()
                finally:
                    self._later.extend(after)  # after the steps of the step
        finally:
            self._leave()

    def _leave(self) -> None:
        """End the running action, or leave it to its asynchronous callback."""
        try:
            with delaying_ctrl_c():
                with self._lock:
                    self._owner = None
                    if self._awaited is not None:
                        return
                    self._running = None
                    self._changed.notify_all()
                    missed, self._missed = self._missed, 0
                for _ in range(missed):
                    self._ask_for_a_turn()
        finally:
            interrupt, self._interrupt = self._interrupt, None
            if interrupt is not None:
                raise interrupt

    # Turns

    def _run_on_a_thread(self) -> None:
        with delaying_ctrl_c(only_steps=True):
            with self._lock:
                if self._has_thread:
                    return
                self._has_thread = True
            with suppress(RuntimeError):
                run_on_thread(self._run_all)
                return
            self._run_all()  # the interpreter starts no threads while it shuts down

    def _run_all(self) -> None:
        while True:
            with delaying_ctrl_c(), self._lock:
                if not self._actions and self._awaited is None:
                    self._has_thread = False
                    return
            try:
                self._run_one()
            except KeyboardInterrupt:
                self._run_all()
                raise

    def _run_one(self) -> None:
        with delaying_ctrl_c(), self._lock:
            # A loop that is closed may still be in a callback when a thread goes on in its place.
            wait_for(
                self._changed,
                lambda: self._running is None or self._owner == get_ident() or self._awaited is not None,
            )
            action = None
            if self._awaited is not None:
                self._missed += 1
                # In a loop that is gone it never ends. Ctrl-C may have kept one that has ended from going on.
                if not self._awaited.done() and not self._is_gone():
                    return
                self._awaited = None
            elif self._actions:
                self._running = action = self._actions.popleft()
            else:
                return
            self._owner = get_ident()
        if action is None:
            self._run_steps()
            return
        try:
            action()
        finally:
            self._leave()
