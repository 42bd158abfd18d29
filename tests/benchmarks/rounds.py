"""Clients that alternate, so that other work of the machine affects all of them alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping

Times = Mapping[str, list[float]]


def take_turns(clients: Mapping[str, Callable[[], float]], rounds: int) -> Times:
    """The seconds of each client in each round; every other round is in reverse order.

    One more round at the start is not counted.
    """
    times: dict[str, list[float]] = {name: [] for name in clients}
    for number in range(rounds + 1):
        for name in clients if number % 2 else reversed(clients):
            seconds = clients[name]()
            if number > 0:
                times[name].append(seconds)
    return times


def speed(times: Times, name: str, peer: str) -> float:
    """How many times as fast as the peer it was: the median of the rounds' ratios."""
    return statistics.median(theirs / own for own, theirs in zip(times[name], times[peer], strict=True))


def beside(ratio: float, goal: float | None) -> str:
    """A ratio with its goal, for a table."""
    return f"{ratio:.2f}" if goal is None else f"{ratio:.2f} (goal {goal:.2f})"
