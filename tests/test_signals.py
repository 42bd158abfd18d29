"""The names of Python's own that `_signals` cannot avoid."""

from __future__ import annotations

import _signal
import signal
import subprocess
import sys

SCRIPT = """
import atexit, threading
def after(): print("after the script", threading.main_thread().is_alive(), flush=True)
threading._register_atexit(after)
def told(): print("at exit", flush=True)
atexit.register(told)
print("script", flush=True)
def run_now(): atexit._run_exitfuncs()
threading._register_atexit(run_now)
"""


def test_names_of_python():
    """`_register_atexit` calls a function after the script, `_run_exitfuncs` calls the atexit functions, once."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines() == ["script", "at exit", "after the script True"]


def test_names_of_the_signal_module():
    """`_signal` sets and returns a handler as `signal` does, without an enum member for a number."""
    handler = signal.getsignal(signal.SIGINT)
    assert _signal.getsignal(signal.SIGINT) is handler
    assert _signal.signal(signal.SIGINT, handler) is handler
