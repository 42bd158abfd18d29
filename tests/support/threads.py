"""A check that the threads of a test end."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from support.scripted_server import PATIENCE

from rxupload._threads import retire_idle


@contextlib.contextmanager
def no_thread_left() -> Iterator[None]:
    """Check that the threads of a block end, except those that wait for the next upload."""
    retire_idle()  # so that the block starts threads of its own, and does not use those of earlier tests again
    before = set(threading.enumerate())
    yield
    wait_for_threads(lambda thread: thread not in before and thread.name != "rxupload errands")


def wait_for_threads(is_meant: Callable[[threading.Thread], bool]) -> None:
    """Wait until no thread runs that is meant, and fail if one goes on. None waits for the next upload any more.

    `threading.enumerate` has a thread that is only being started, too. That one cannot be joined yet, and each one may
    start others.
    """
    limit = time.monotonic() + PATIENCE
    while left := [thread for thread in threading.enumerate() if is_meant(thread)]:
        assert time.monotonic() < limit, f"{left} are left over"
        retire_idle()
        for thread in left:
            if thread.is_alive():
                thread.join(0.01)
