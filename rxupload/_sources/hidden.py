"""Finds out how much is in a file whose size may be a lie, as in /proc, in /sys and on some FUSE mounts."""

from __future__ import annotations

import os
from collections.abc import Callable

from .pieces import Flow, Read, read_at

_LONGEST = 64 * 1024  # the longest size, in bytes, that a file may state without a block on the disk
_MOST = 1024 * 1024  # bytes to read to find the end
_STEP = 64 * 1024  # bytes to read at a time


def may_lie(status: os.stat_result) -> bool:
    """Whether only reading tells the size of a regular file.

    Such a file states no bytes, or a page or so that is not on a disk. Windows does not tell the number of blocks.
    """
    return status.st_size == 0 or (status.st_size <= _LONGEST and getattr(status, "st_blocks", 1) == 0)


def rest_of(descriptor: int, start: int) -> bytes | None:
    """Read a file from an offset to its end; None if there is more than 1 MiB."""
    data = bytearray()
    while len(data) <= _MOST:
        more = read_at(descriptor, start + len(data), _STEP)
        if not more:
            return bytes(data)
        data += more
    return None


def flow_of(descriptor: int, start: int) -> Flow:
    """Return a flow of a file from an offset to the end that reading finds."""
    return Read(_reader(descriptor, start))


def _reader(descriptor: int, start: int) -> Callable[[int], bytes]:
    offset = start

    def read(count: int) -> bytes:
        nonlocal offset
        data = read_at(descriptor, offset, count)
        offset += len(data)
        return data

    return read
