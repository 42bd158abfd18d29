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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from reactivex.internal import noop

_MOST_DELAYED = 2  # Ctrl-C
_STATUS_CONTROL_C_EXIT = 0xC000013A - (1 << 32)  # the exit status of Windows for Ctrl-C


@contextmanager
def delaying_ctrl_c(act: Callable[[], object] = noop) -> Iterator[None]:
    """Delay what the handler of Ctrl-C raises to the end of the block, and call `act` at once.

    The third Ctrl-C raises at once, in case the block hangs. Only the main thread gets signals, so elsewhere this does
    nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = getsignal(signal.SIGINT)
    if not callable(handler):
        yield
        return
    raised: list[BaseException] = []

    def handle(number: int, frame: FrameType | None) -> None:
        try:
            handler(number, frame)
        except BaseException as error:
            raised.append(error)
            if len(raised) > _MOST_DELAYED:
                set_handler(signal.SIGINT, handler)  # because what it raises may skip the code below
                raise
            act()

    set_handler(signal.SIGINT, handle)
    try:
        yield
    finally:
        set_handler(signal.SIGINT, handler)
        if raised:
            raise raised[0]


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


def is_kernel() -> bool:
    """Whether this process is a Jupyter kernel, whose shutdown and restart must not wait."""
    return "ipykernel.kernelapp" in sys.modules


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
    """Whether Ctrl-C has ended the script."""
    return isinstance(getattr(sys, "last_value", None), KeyboardInterrupt)


def _die_of_ctrl_c() -> None:
    """End the process as Python itself does after Ctrl-C: by the signal, which a shell reports as status 130."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    if sys.platform == "win32":
        os._exit(_STATUS_CONTROL_C_EXIT)
    signal.raise_signal(signal.SIGINT)
