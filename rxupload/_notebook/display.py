"""Draws the display of an upload when it is due, and its end at once.

How does an update reach the page? An event is kept, and a thread of the library draws it when an update is due: so no
upload waits for the front end. The end is drawn at once, before whoever awaits the task goes on: otherwise the kernel
could call the cell finished, and a notebook that is saved then would lack the end.

| function          | thread                                        | under the display's lock |
|-------------------|-----------------------------------------------|--------------------------|
| take, touch       | any; they never block                         | no                       |
| open              | the one that runs the cell                    | yes                      |
| update            | one of the library                            | yes                      |
| complete, fail    | the one that notifies of the end              | yes                      |
| a click on Abort  | the one that the kernel has for its messages  | no                       |
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import partial
from threading import Condition, RLock
from typing import Any

from reactivex import abc

from rxupload._events import BatchProgress, BatchSummary, Progress
from rxupload._responses import status
from rxupload._signals import delaying_ctrl_c
from rxupload._threads import run_on_thread
from rxupload._wait import wait_for

from .output import Output
from .report import Report, Shown

_INTERVAL = 0.25  # least seconds between two updates of a display
_TICK = 1.0  # seconds until the next update while no event comes: the rate falls

_logger = logging.getLogger("rxupload")


class Ticker:
    """Updates displays when they are due, on one of the library's threads, which goes while there is nothing to do."""

    def __init__(self) -> None:
        self._changed = Condition(RLock())
        self._due: dict[Display, float] = {}
        self._has_thread = False

    def at(self, display: Display, when: float) -> None:
        """Update a display at this time, unless an earlier one is set. Any thread may call this; it never blocks."""
        with delaying_ctrl_c(), self._changed:
            if self._due.get(display, math.inf) <= when:
                return
            self._due[display] = when
            self._changed.notify()
            if not self._has_thread:
                with suppress(RuntimeError):  # an interpreter that is shutting down starts no threads
                    run_on_thread(self._serve)
                    self._has_thread = True

    def _serve(self) -> None:
        while displays := self._wait():
            for each in displays:
                each.update()

    def _wait(self) -> list[Display]:
        with self._changed:
            while self._due:
                first = min(self._due.values())
                if first <= time.monotonic():
                    displays = [each for each, when in self._due.items() if when <= first]
                    for each in displays:
                        del self._due[each]
                    return displays
                wait_for(self._changed, partial(self._has_before, first), first)
            self._has_thread = False
            return []

    def _has_before(self, when: float) -> bool:
        return min(self._due.values()) < when


ticker = Ticker()


class Display(abc.ObserverBase[Any]):
    """The display of one upload or batch: an observer of its events.

    It never raises. If drawing fails, it logs that once, and draws no more.
    """

    def __init__(
        self, report: Report, *, leave: bool = True, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._report = report
        self._leave = leave
        self._clock = clock
        self._lock = RLock()
        self._kept: deque[tuple[object, float]] = deque()
        self._output: Output | None = None
        self._shown: Shown | None = None
        self._drawn_at = -math.inf
        self._is_over = False

    def open(self, make: Callable[[Shown, bool], Output]) -> None:
        """Draw the first picture, with a function that makes the output. It is told whether the end has come."""
        with self._lock, self._drawing():
            if not self._is_over:
                self._report.begin(self._clock())
            self._shown = self._picture()
            self._drawn_at = self._clock()
            output = make(self._shown, self._is_over)
            if not self._is_over:
                self._output = output
        if self._kept:  # it came meanwhile
            self.touch()

    def on_next(self, value: Any) -> None:
        """Keep an item, for the next picture."""
        is_drawn = isinstance(value, Progress | BatchProgress | BatchSummary) or status(value)
        if is_drawn and not self._is_over:
            self._kept.append((value, self._clock()))
            self.touch()

    def touch(self) -> None:
        """Draw a picture when it is due."""
        if self._output is not None:
            ticker.at(self, self._drawn_at + _INTERVAL)

    def on_error(self, error: Exception) -> None:
        """Draw the end by an error."""
        self._end(partial(self._report.fail, error))

    def on_completed(self) -> None:
        """Draw the successful end."""
        self._end(self._report.complete)

    def stop(self) -> None:
        """Draw the end by a dispose. After another end it does nothing."""
        self._end(self._report.stop)

    def update(self) -> None:
        """Draw a picture, if it is another one. Called by the ticker."""
        with self._lock, self._drawing():
            if self._output is None:
                return
            if self._clock() < self._drawn_at + _INTERVAL:  # it was drawn since this was due
                self.touch()
                return
            shown = self._picture()
            self._drawn_at = self._clock()
            if shown != self._shown:
                self._shown = shown
                self._output.update(shown)
            if self._report.is_moving:
                ticker.at(self, self._drawn_at + _TICK)

    def _picture(self) -> Shown:
        while self._kept:
            self._report.take(*self._kept.popleft())
        return self._report.picture(self._clock())

    def _end(self, take_end: Callable[[], None]) -> None:
        with delaying_ctrl_c(), self._lock, self._drawing():
            if self._is_over:
                return
            self._is_over = True
            output, self._output = self._output, None
            self._picture()
            take_end()
            if output is not None:
                shown = self._picture()
                output.end(shown, shown.bundle if self._leave else {"text/plain": ""})

    @contextmanager
    def _drawing(self) -> Generator[None]:
        """Give up where anything fails, whatever the front end does or an item of another library is."""
        try:
            yield
        except Exception as error:
            self._is_over = True
            self._output = None
            with suppress(Exception):  # a handler of the log may raise
                _logger.warning("The display of an upload failed, and is drawn no more", exc_info=error)
