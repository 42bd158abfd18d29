"""A server that reads at a steady pace and keeps a log, to be held against what a client says has gone."""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import pairwise

from support.scripted_server import Connection, header

from rxupload import Progress

RECEIVE_BUFFER = 64 * 1024  # bytes; Linux makes twice as much of it, socket(7)
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
        length = int(header(connection.read_head(), b"content-length") or 0)
        pace = threading.Event()
        while connection.received < length and connection.read(min(STEP, length - connection.received)):
            self.moments.append(time.monotonic())
            self.counts.append(connection.received)
            pace.wait(PAUSE)
        connection.respond(200, b"", "Connection: close")

    def steps_by(self, moment: float) -> int:
        """How many steps had been read by then."""
        return bisect_right(self.moments, moment)

    def count_by(self, moment: float) -> int:
        """How many bytes had been read by then."""
        steps = self.steps_by(moment)
        return self.counts[steps - 1] if steps else 0


@dataclass
class Notices:
    """What a client said of its progress, and when."""

    moments: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    def add(self, item: object) -> None:
        """It says that so many bytes have gone: a number, or a Progress; a response says nothing."""
        if isinstance(item, Progress):
            item = item.sent
        if isinstance(item, int):
            self.moments.append(time.monotonic())
            self.counts.append(item)

    def lead(self, reader: SteadyReader) -> int:
        """Bytes by which it was ahead of what the server had read, at worst."""
        return max(
            count - reader.count_by(moment) for moment, count in zip(self.moments, self.counts, strict=True)
        )

    def end(self, reader: SteadyReader) -> float:
        """When it first said that every byte has gone."""
        return self.moments[self.counts.index(reader.counts[-1])]

    def gaps(self) -> list[tuple[float, float]]:
        """The times between two of them."""
        return list(pairwise(self.moments))
