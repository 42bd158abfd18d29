"""Knows how much a batch has to do, in uploads and in bytes, as far as that can be known before they are drawn."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence, Sized
from typing import Any

from rxupload._derived import measure

MOST_SECONDS = 1.0  # for looking at the sizes: the first upload waits for it, and a disk may be a network's


class Extent:
    """How many uploads a batch has, and how many bytes.

    `measure` is called once, on the thread that draws, under no lock: it looks at the disk. All else is called under
    the batch's lock.
    """

    def __init__(
        self, uploads: Iterable[Any], given: int | None, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._now = now
        self._uploads = uploads
        self._given = given  # the caller's number of bytes
        self._drawn = 0
        self._count: int | None = None
        self._sizes: deque[int] = deque()  # of the uploads that are not drawn yet
        self._to_come: int | None = None  # the sum of these; None if one is unknown

    def measure(self) -> None:
        """Look how many uploads there are, and at their sizes."""
        if isinstance(self._uploads, Sized):
            self._count = len(self._uploads)
        if isinstance(self._uploads, list | tuple):
            until = self._now() + MOST_SECONDS
            for each in tuple(self._uploads):
                if (size := measure(each)) is None or self._now() > until:
                    self._sizes.clear()
                    return
                self._sizes.append(size)
            self._to_come = sum(self._sizes)

    def draw(self) -> int | None:
        """Take note that one more is drawn. Return its size; None if unknown."""
        self._drawn += 1
        if self._count is not None and self._drawn > self._count:  # a list that grows meanwhile
            self._count = self._to_come = None
        size = self._sizes.popleft() if self._sizes else None
        if self._drawn == self._count:
            self._to_come = 0
        elif size is not None and self._to_come is not None:
            self._to_come -= size
        return size

    def end(self) -> bool:
        """Take note that there are no more. Return whether that is news."""
        is_news = self._count is None
        self._count = self._drawn
        self._to_come = 0
        return is_news

    @property
    def count(self) -> int | None:
        """The number of uploads; None until it is known."""
        return self._count

    def total(self, ended: int, running: Sequence[int | None]) -> int | None:
        """Return the bytes of all uploads, or else the caller's number; None if unknown.

        Args:
            ended: Bytes of the uploads that have ended.
            running: Bytes of each that runs; None if unknown.
        """
        known = ended + sum(each for each in running if each is not None) + (self._to_come or 0)
        if self._to_come is not None and None not in running:
            return known
        return None if self._given is None else max(self._given, known)
