"""The meter of one upload: which byte counts become Progress."""

from __future__ import annotations

from rxupload import Progress
from rxupload._meter import Meter


def test_what_the_server_says_that_it_has_counts_as_sent():
    """The count of a part may be behind. So the next part begins in the same pass, and nothing is counted twice."""
    items = []
    meter = Meter(0, items.append, clock=lambda: 0.0)
    meter.go_on(20, 5)
    meter.update(3)
    meter.reach(12)
    meter.reach(10)
    meter.go_on(20, 12)
    meter.settle(8)
    assert items == [Progress(each, 20, 1, 5) for each in (5, 8, 12, 20)]
    assert meter.gone == 15
