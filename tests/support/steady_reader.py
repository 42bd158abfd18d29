"""A server that reads at a steady pace and keeps a log, for comparison with a client's progress."""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import pairwise

from rxupload import Progress
from rxupload.testing import Connection

RECEIVE_BUFFER = 64 * 1024  # bytes; Linux doubles it, socket(7)
STEP = 25_000  # bytes
PAUSE = 0.01  # seconds; 2.5 MB/s


@dataclass
class SteadyReader:
    """The script of one connection: read a body step by step, and answer.

    Attributes:
        moments: When each step had been read, on the monotonic clock.
        counts: How many bytes of the body had been read by then.
    """

    moments: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    def __call__(self, connection: Connection) -> None:
        connection.read_head()
        pace = threading.Event()
        while connection.read(STEP):
            self.moments.append(time.monotonic())
            self.counts.append(connection.received)
            pace.wait(PAUSE)
        connection.respond(200, b"", "Connection: close")

    def steps_by(self, moment: float) -> int:
        """The number of steps that had been read by then."""
        return bisect_right(self.moments, moment)

    def count_by(self, moment: float) -> int:
        """The number of bytes that had been read by then."""
        steps = self.steps_by(moment)
        return self.counts[steps - 1] if steps else 0


@dataclass
class ReportedProgress:
    """What a client reported of its progress, and when."""

    moments: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    def add(self, item: object) -> None:
        """Add a report: a number of bytes, or a Progress; a response is ignored."""
        if isinstance(item, Progress):
            item = item.sent
        if isinstance(item, int):
            self.moments.append(time.monotonic())
            self.counts.append(item)

    def lead(self, reader: SteadyReader) -> int:
        """The most bytes by which the client was ahead of what the server had read."""
        return max(
            count - reader.count_by(moment) for moment, count in zip(self.moments, self.counts, strict=True)
        )

    def end(self, reader: SteadyReader) -> float:
        """When the client first reported every byte as sent."""
        return self.moments[self.counts.index(reader.counts[-1])]

    def gaps(self) -> list[tuple[float, float]]:
        """The start and end of each interval between two reports."""
        return list(pairwise(self.moments))
