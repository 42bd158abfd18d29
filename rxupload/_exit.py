"""Keeps a finished script alive for its running tasks, and lets Ctrl-C end it there as it ends any other script.

`tests/test_exit.py` pins the underscore names of Python that this module cannot avoid:

| name                       | library        | meaning                                                                |
|----------------------------|----------------|------------------------------------------------------------------------|
| threading._register_atexit | Python 3.11 on | calls a function after the script, while threads may still be started  |
| atexit._run_exitfuncs      | Python 3.11 on | calls the atexit functions now                                         |
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial

_STATUS_CONTROL_C_EXIT = 0xC000013A - (1 << 32)  # the exit status of Windows for Ctrl-C


def at_the_end(wait: Callable[[], None], abort: Callable[[], None]) -> None:
    """Call these when the script has ended: `wait` alone, or `abort` and `wait` after Ctrl-C.

    They are called twice: before the interpreter waits for the other threads, and after that, because such a thread may
    have started something. The second time, Python 3.12 and later start no threads.
    """
    end = partial(_end, wait, abort)
    with suppress(RuntimeError):  # the interpreter is shutting down already
        threading._register_atexit(partial(end, atexit._run_exitfuncs))  # type: ignore[attr-defined]  # noqa: SLF001
    atexit.register(end, lambda: None)


def _end(wait: Callable[[], None], abort: Callable[[], None], run_exit_functions: Callable[[], None]) -> None:
    if died_of_ctrl_c():
        abort()
    try:
        wait()
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one ends the process at once
        abort()
        wait()
        run_exit_functions()
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
