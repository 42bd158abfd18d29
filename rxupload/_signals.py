"""Delays what Ctrl-C raises during critical steps, and lets Ctrl-C end a finished script as it ends any other.

`tests/test_signals.py` pins the underscore names of Python that this module cannot avoid:

| name                       | library        | meaning                                                               |
|----------------------------|----------------|-----------------------------------------------------------------------|
| threading._register_atexit | Python 3.11 on | calls a function after the script, while threads may still be started |
| atexit._run_exitfuncs      | Python 3.11 on | calls the atexit functions now                                        |
| _signal                    | Python 3.11 on | `signal` without its search for an enum member, which takes 5 us      |
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from _signal import getsignal  # type: ignore[import-not-found] # pyright: ignore[reportMissingImports]
from _signal import signal as set_handler  # pyright: ignore[reportMissingImports]
from collections.abc import Callable
from contextlib import suppress
from inspect import currentframe
from types import CodeType, FrameType
from typing import Any, NoReturn, TypeVar, cast

from reactivex.internal import noop

from ._kernel import is_kernel
from ._schedulers import running_loop

_Function = TypeVar("_Function", bound=Callable[..., Any])
_MOST_DELAYED = 2  # Ctrl-C
_STATUS_CONTROL_C_EXIT = 0xC000013A - (1 << 32)  # the exit status of Windows for Ctrl-C


# The packages whose functions are steps of a block. All others are the caller's.
_STEPS = {"rxupload", "reactivex", "httpx", "idna", "certifi", *sys.stdlib_module_names}
_long_steps: set[CodeType] = set()


def is_long(function: _Function) -> _Function:
    """Mark a function that is not a step: it uploads in place, or calls the caller's code."""
    _long_steps.add(function.__code__)
    return function


class delaying_ctrl_c:  # noqa: N801 - it reads as a phrase
    """Delay what the handler of Ctrl-C raises to the end of a `with` block.

    The third Ctrl-C raises at once, in case the block hangs. Only the main thread gets signals, so elsewhere this does
    nothing.

    Args:
        act: Called at once, to end the block. What interrupts the caller's code in the block, such as another signal
            handler, is not delayed.
        only_steps: Delay nothing while the block uploads in place, or runs the caller's code. That may take for ever.
    """

    def __init__(self, act: Callable[[], object] | None = None, *, only_steps: bool = False) -> None:
        self._act = act
        self._only_steps = only_steps
        self.outer: Any = None  # the handler outside the block
        self._block: FrameType | None = None  # while it runs
        self._raised: list[BaseException] = []

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread() and callable(
            handler := getsignal(signal.SIGINT)
        ):
            self.outer = handler
            self._block = cast("FrameType", currentframe()).f_back
            set_handler(signal.SIGINT, self)

    def __exit__(self, *_: object) -> None:
        if self._block is not None:
            self._leave()
            if self._raised:
                raise self._raised[0]

    def _leave(self) -> None:
        if getsignal(signal.SIGINT) is self:  # the caller's code may have set another one in the block
            set_handler(signal.SIGINT, self.outer)
        self._block = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle Ctrl-C."""
        try:
            (self.outer if self._act is None else self._outermost())(number, frame)
        except BaseException as error:
            if self._block is None:  # the caller's code has set this handler again
                raise
            if (self._only_steps or self._act is not None) and not self._is_in_a_step(frame):
                raise
            self._raised.append(error)
            if len(self._raised) > _MOST_DELAYED:
                self._leave()  # because what it raises may skip the end of the block
                raise
            if self._act is not None:
                self._act()

    def _outermost(self) -> Any:
        """Return the handler outside all blocks. A block around this one must not keep the exception to itself."""
        handler = self.outer
        while isinstance(handler, delaying_ctrl_c):
            handler = handler.outer
        return handler

    def _is_in_a_step(self, frame: FrameType | None) -> bool:
        while frame is not None and frame is not self._block:
            package = frame.f_globals.get("__name__", "").partition(".")[0]
            if package not in _STEPS or (self._only_steps and frame.f_code in _long_steps):
                return False
            frame = frame.f_back
        return True


# The stop button of a kernel, while a cell runs that awaits


class _StopButton:
    """The kernel's handler of Ctrl-C for a cell that awaits, and what the library adds to it.

    The kernel's own raises nothing. It asks for a turn of the loop, in which the cell is cancelled. After the cell the
    kernel sets another one, so this need not be removed.

    Attributes:
        count: How often it was pressed, in all cells.
        blocks: How many blocks hold up the loop, each within the one before.
        is_pressed: Whether the cell will be cancelled in the next turn of the loop.
    """

    count = 0
    blocks = 0

    def __init__(self, handler: Callable[[int, FrameType | None], object]) -> None:
        self._handler = handler
        self.is_pressed = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle Ctrl-C."""
        _StopButton.count += 1
        self._handler(number, frame)
        if self.blocks:
            self.cancel()
        elif (loop := running_loop()) is not None:
            self.is_pressed = True
            loop.call_soon(self._release)

    def _release(self) -> None:
        self.is_pressed = False

    @staticmethod
    def cancel() -> NoReturn:
        """End a block. KeyboardInterrupt would end the loop, if a task of the caller's runs the block."""
        from asyncio import CancelledError  # noqa: PLC0415 - a kernel has loaded it

        raise CancelledError


def _stop_button() -> _StopButton | None:
    """Return the handler of the cell that runs on this thread; None if that does not await, or elsewhere."""
    if not is_kernel() or threading.current_thread() is not threading.main_thread():
        return None
    handler = getsignal(signal.SIGINT)
    if getattr(handler, "__module__", None) == "ipykernel.ipkernel":
        set_handler(signal.SIGINT, handler := _StopButton(handler))
    return handler if isinstance(handler, _StopButton) else None


def times_stopped() -> int:
    """Return how often the stop button was pressed in cells that await, to compare with a later call.

    In the running cell, from now on.
    """
    _stop_button()
    return _StopButton.count


class stoppable:  # noqa: N801 - it reads as a phrase
    """Let the stop button end a `with` block that holds up the loop of a cell which also awaits: with CancelledError.

    Elsewhere this does nothing: Ctrl-C raises by itself.
    """

    def __enter__(self) -> None:
        self._button = _stop_button()
        if self._button is not None:
            if self._button.is_pressed:
                self._button.cancel()
            _StopButton.blocks += 1

    def __exit__(self, *_: object) -> None:
        if self._button is not None:
            _StopButton.blocks -= 1


# The end of a script


def at_the_end(wait: Callable[[], None], abort: Callable[[], None]) -> None:
    """Call these when the script has ended: `wait` alone, or `abort` and `wait` after Ctrl-C.

    A Jupyter kernel that shuts down aborts, and waits for nothing.

    They are called twice: before the interpreter waits for the other threads, and after that, because such a thread may
    have started something. The second time, Python 3.12 and later start no threads.
    """
    is_waited_for = False

    def end_script() -> None:
        nonlocal is_waited_for
        _wait_or_die(wait, abort, atexit._run_exitfuncs)  # noqa: SLF001
        is_waited_for = True

    def end_threads() -> None:
        if is_registered and not is_waited_for:  # Ctrl-C came just before `end_script`
            abort()
        _wait_or_die(wait, abort, noop)

    is_registered = False
    with suppress(RuntimeError):  # the interpreter is shutting down already
        threading._register_atexit(end_script)  # type: ignore[attr-defined]  # noqa: SLF001
        is_registered = True
    atexit.register(end_threads)


def _wait_or_die(
    wait: Callable[[], None], abort: Callable[[], None], before_death: Callable[[], None]
) -> None:
    try:
        if died_of_ctrl_c() or is_kernel():
            abort()
        if not is_kernel():
            wait()
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one ends the process at once
        abort()
        wait()
        before_death()
        _die_of_ctrl_c()


def died_of_ctrl_c() -> bool:
    """Whether Ctrl-C has ended the script. In an interactive session it ends only what runs."""
    return isinstance(getattr(sys, "last_value", None), KeyboardInterrupt) and not hasattr(sys, "ps1")


def _die_of_ctrl_c() -> None:
    """End the process as Python itself does after Ctrl-C: by the signal, which a shell reports as status 130."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    if sys.platform == "win32":
        os._exit(_STATUS_CONTROL_C_EXIT)
    signal.raise_signal(signal.SIGINT)
