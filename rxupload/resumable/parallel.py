"""Sends one file over several connections: each sends a part of it as an upload of its own, and the server joins them.

Who does what:

- The worker of the subscription begins the others, waits for them, reports their sum as one Progress, and joins.
- Each part has a thread, a transfer, a meter and a place in the entry of the whole. It wakes the worker.

| what                  | thread           | lock     |
|-----------------------|------------------|----------|
| `_Part.run`, `_Place` | the part's       | `_Whole` |
| all else              | the subscription | none     |
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from threading import RLock
from typing import Any

from rxupload._events import Progress
from rxupload._meter import Meter
from rxupload._threads import run_on_thread
from rxupload._transfer import EXTENSION, Disposed, Transfer
from rxupload._wait import Latch, Wake

from .guard import Guard
from .outcome import Outcome, conclude
from .parts import AtAnyOffset, Hashing, Parts
from .places import LEAST, count_in, place_in, with_place
from .plan import ResumablePlan, Trace
from .protocol import Next
from .server import Server
from .store import Entry, Slot
from .work import Work


def connections_of(plan: ResumablePlan, server: Server, entry: Entry | None, parts: Parts) -> int:
    """Return how many connections send the file. A remembered upload keeps its number, if the file is as large."""
    known = 0 if entry is None else count_in(entry)
    if known == 1 or not isinstance(parts, AtAnyOffset):
        return 1
    if 1 < known <= parts.size // LEAST:  # a state file may have been changed, or be of a larger file
        return known
    count = min(plan.protocol.connections, parts.size // LEAST)
    if count > 1:
        about = replace(plan.about, size=parts.size)
        question = plan.protocol.question(about, is_new=True)
        if question is not None:
            about = replace(about, features=server.features(question))
        return count if plan.protocol.joins(about) else 1
    return 1


class Parallel:
    """One subscription to an upload over several connections."""

    def __init__(
        self,
        plan: ResumablePlan,
        transfer: Transfer,
        slot: Slot,
        parts: AtAnyOffset,
        guard: Guard,
        server: Server,
        count: int,
    ) -> None:
        assert transfer.meter is not None
        self._plan = plan
        self._transfer = transfer
        self._meter = transfer.meter
        self._slot = slot
        self._parts = parts
        self._guard = guard
        self._server = server
        self._about = replace(plan.about, size=parts.size)
        self._old: Entry | None = None
        entry = slot.entry
        if entry is not None:
            is_same = count_in(entry) == count and guard.judge(entry) and guard.allows(parts.size)
            self._old = None if is_same else entry
        whole = _Whole(slot, guard, count, is_new=entry is None or self._old is not None)
        ends = [parts.size * number // count for number in range(count + 1)]
        self._running = [
            _Part(self, whole, number, start, end - start)
            for number, (start, end) in enumerate(pairwise(ends))
        ]
        self._start = 0  # bytes that the server had before the current pass
        self._attempts: list[int] = []

    @property
    def wake(self) -> Wake:
        """Wakes the worker of the subscription."""
        return self._transfer.wake

    def part_of(self, transfer: Transfer, whole: _Whole, number: int, start: int, size: int) -> Work:
        """Return the work of a part."""
        plan = replace(
            self._plan,
            protocol=self._plan.protocol.of_a_part(),
            digest=None,
            trace=Trace(),
        )
        within = self._parts.within(transfer, start, size)
        server = Server(plan, transfer)
        return Work(plan, transfer, _Place(whole, number), within, _Watched(self._guard), server)

    def run(self) -> Any:
        """Send all parts, join them, and return the last response. It blocks the calling thread."""
        failed = self._send()
        if failed is not None:
            if failed.error is not None:
                raise failed.error
            return self._conclude(failed.response, None)
        self._guard.check()
        if self._old is not None:
            self._server.discard(self._old)
        urls = [each.url for each in self._running]
        response = self._server.to_endpoint(self._plan.protocol.join(self._about, urls))
        verdict = self._plan.protocol.created(response, self._about, None)
        if verdict.next is Next.FAIL:
            return self._conclude(response, None)
        url = self._server.named_by(response)
        digest = self._digest()
        self._slot.remove()
        return self._conclude(response, url, digest)

    def _send(self) -> _Part | None:
        """Send all parts. Return the first one that fails; None if the server has them all."""
        for each in self._running:
            each.begin()
        try:
            while any(not each.has_ended.is_set() for each in self._running):
                self._transfer.wait()
                self._report()
                # The others may be at their creation: an address that nobody knows could not be discarded.
                if (failed := self._failed()) is not None and all(each.has_begun for each in self._running):
                    return failed
            self._report()
            return self._failed()
        finally:
            for each in self._running:
                each.transfer.stop(Disposed())
            for each in self._running:
                each.has_ended.wait()

    def _failed(self) -> _Part | None:
        ended = [each for each in self._running if each.has_ended.is_set()]
        return next((each for each in ended if not each.work.is_whole), None)

    def _report(self) -> None:
        """Report the sum, once it is known where each part begins. If a part begins a pass, the whole does."""
        now = [each.progress for each in self._running]
        known = [each for each in now if each is not None]
        if len(known) < len(now):
            return
        attempts, sent = [each.attempt for each in known], sum(each.sent for each in known)
        if attempts != self._attempts:
            self._start = sum(each.start for each in known) if not self._attempts else sent
            self._attempts = attempts
            self._meter.go_on(self._parts.size, self._start)
        self._meter.update(sent - self._start)

    def _digest(self) -> str | None:
        if self._plan.digest is None:
            return None
        hashing = Hashing(self._plan.digest)
        self._parts.read_on(hashing, self._parts.size)
        self._guard.check()
        return hashing.hexdigest()

    def _conclude(self, response: Any, url: str | None, digest: str | None = None) -> Any:
        if self._plan.digest is not None:
            response.extensions[EXTENSION] = {"algorithm": self._plan.digest, "digests": [digest]}
        resumed_at = sum(0 if each.first is None else each.first.start for each in self._running)
        return conclude(response, Outcome(url, resumed_at, self._meter.gone))

    def child_of(self, emit: Callable[[Progress], None]) -> Transfer:
        """Return a transfer for a part, with the time that is left and the same throttles."""
        own = self._transfer
        left = own.remaining()
        child = Transfer(None if left == math.inf else max(left, 0.001), loop=own.loop, clock=own.clock)
        if own.allowance is not None:
            child.allowance = own.allowance.shared(child.wake)
        child.meter = Meter(self._plan.progress_interval, emit)
        return child


class _Part:
    """A part of the file, which a thread of its own sends.

    Attributes:
        progress: The last Progress; None before the first.
        first: The first one.
        response: The last response; None before it.
        error: Why it has ended; None if it has not failed.
        has_ended: Whether it has.
    """

    def __init__(self, parallel: Parallel, whole: _Whole, number: int, start: int, size: int) -> None:
        self.progress: Progress | None = None
        self.first: Progress | None = None
        self.response: Any = None
        self.error: BaseException | None = None
        self.has_ended = Latch()
        self.transfer = parallel.child_of(self._take)
        self.work = parallel.part_of(self.transfer, whole, number, start, size)
        self._wake = parallel.wake

    @property
    def has_begun(self) -> bool:
        """Whether it is known where the part begins, or that it has failed."""
        return self.first is not None or self.has_ended.is_set()

    @property
    def url(self) -> str:
        """The address of the part's upload."""
        assert self.work.entry is not None
        return self.work.entry.url

    def begin(self) -> None:
        """Begin to send it."""
        try:
            run_on_thread(self._run)
        except RuntimeError as error:  # the interpreter shuts down
            self.error = error
            self.has_ended.set()

    def _run(self) -> None:
        try:
            self.transfer.begin()
            self.response = self.work.run()
        except BaseException as error:  # noqa: BLE001 - the subscription raises it
            self.error = error
        finally:
            self.transfer.settle()
            self.has_ended.set()
            self._wake.set()

    def _take(self, progress: Progress) -> None:
        if self.first is None:
            self.first = progress
        self.progress = progress
        self._wake.set()


class _Watched(Guard):
    """Watches the file for a part of it. The subscription has judged already."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def judge(self, entry: Entry) -> bool:  # noqa: ARG002
        """Whether it may be the same: it is."""
        return True

    def sends(self, offset: int) -> None:  # noqa: ARG002
        """Check that the file is still the same."""
        self._guard.check()

    def check(self) -> None:
        """Check that the file is still the same."""
        self._guard.check()


class _Whole:
    """The entry of the whole upload, in which each part has a place."""

    def __init__(self, slot: Slot, guard: Guard, count: int, *, is_new: bool) -> None:
        self._slot = slot
        self._guard = guard
        self._count = count
        self._lock = RLock()
        self._is_new = is_new

    def entry(self, number: int) -> Entry | None:
        """Return the entry of a part; None if there is none yet."""
        whole = self._slot.entry
        return None if self._is_new or whole is None else place_in(whole, number)

    def save(self, number: int, entry: Entry) -> None:
        """Remember the upload of a part."""
        with self._lock:
            whole = None if self._is_new else self._slot.entry
            extra = with_place({} if whole is None else whole.extra, self._count, number, entry)
            if whole is None:
                self._slot.save(
                    Entry(entry.url, entry.created, entry.expires, self._guard.identity, extra=extra)
                )
                self._is_new = False
            else:
                known = [each for each in (whole.expires, entry.expires) if each is not None]
                self._slot.update(extra=extra, expires=min(known) if known else None)


class _Place:
    """The slot of a part."""

    def __init__(self, whole: _Whole, number: int) -> None:
        self._whole = whole
        self._number = number
        self.entry = whole.entry(number)

    def save(self, entry: Entry) -> None:
        """See `Slot.save`."""
        self.entry = entry
        self._whole.save(self._number, entry)

    def update(self, **changes: Any) -> None:
        """See `Slot.update`."""
        if self.entry is not None:
            self.save(replace(self.entry, **changes))

    def remove(self) -> None:
        """Do nothing: a part that is whole is remembered until all are joined, and another one takes its place."""

    def close(self) -> None:
        """Do nothing: the subscription closes the slot of the whole."""
