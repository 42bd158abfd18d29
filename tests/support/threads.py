"""A check that the threads which a test started come to their end."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from support.scripted_server import PATIENCE


@contextlib.contextmanager
def no_thread_left() -> Iterator[None]:
    """Check that the threads which a block started come to their end."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE)
        assert not thread.is_alive(), f"{thread} is left over"
