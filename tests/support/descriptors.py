"""A check that what a test opens is closed."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def descriptors() -> set[tuple[int, int, int]]:
    """The open descriptors of this process: the number of each, and which file it leads to. None on Windows.

    What an earlier test has left may be closed meanwhile. So those at the end are a subset of those at the start.
    """
    found = set()
    for each in Path("/dev/fd").glob("*"):
        with contextlib.suppress(OSError):  # that of the listing itself
            status = os.fstat(int(each.name))
            found.add((int(each.name), status.st_dev, status.st_ino))
    return found
