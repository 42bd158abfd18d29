"""A check that the threads of a test end."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from support.scripted_server import PATIENCE

from rxupload._threads import retire_idle


@contextlib.contextmanager
def no_thread_left() -> Iterator[None]:
    """Check that the threads of a block end, except those that wait for the next upload."""
    retire_idle()  # so that the block starts threads of its own, and does not use those of earlier tests again
    before = set(threading.enumerate())
    yield
    retire_idle()
    for thread in (
        set(threading.enumerate())
        - before
        - {each for each in threading.enumerate() if each.name == "rxupload errands"}
    ):
        thread.join(PATIENCE)
        assert not thread.is_alive(), f"{thread} is left over"
