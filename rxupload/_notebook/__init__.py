"""Shows running uploads in the cells of a notebook. It is imported only inside a Jupyter kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reactivex import Observable

from rxupload._kernel import kernel
from rxupload._rates import Tally
from rxupload._schedulers import is_on_a_loop

from .display import Display
from .output import CellOutput, Place
from .report import Report

__all__ = ["Bars", "Display", "show_task"]


def show_task(
    events: Observable[Any], title: str, state: Callable[[], str], abort: Callable[[], object], tally: Tally
) -> Display:
    """Show a running task in the cell that this thread runs, with a button that aborts it."""
    place = Place()
    display = Display(Report(title, state, tally))
    events.subscribe(display)  # first, because a task that has ended tells so now
    display.open(lambda shown, is_over: CellOutput(place, shown, None if is_over else abort))
    return display


class Bars:
    """The bars of a `progress_bar()`: each subscription has one, in the cell that subscribes.

    A thread runs no cell. If a thread subscribes, as for a retry, the bar is in the cell of the subscription before.
    """

    def __init__(self, title: str, *, leave: bool, is_shown: bool) -> None:
        self._title = title
        self._leave = leave
        self._is_shown = is_shown
        self._place = _place()

    def make(self) -> Display:
        """Draw a bar, for a subscription that is about to begin. It observes that."""
        display = Display(Report(self._title), leave=self._leave)
        if not self._is_shown or kernel() is None:  # as in a forked child of the kernel
            display.stop()
            return display
        here = _place() if is_on_a_loop() else None  # the kernel runs a cell in a turn of its loop
        self._place = place = here or self._place
        if place is not None:
            display.open(lambda shown, _: CellOutput(place, shown, None, is_in_cell=here is not None))
        else:
            display.stop()
        return display


def _place() -> Place | None:
    try:
        return Place()
    except LookupError:  # of ipykernel 7.0, on a thread
        return None
