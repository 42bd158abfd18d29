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


def test_what_the_server_tells_counts_until_the_request_ends():
    """From then on, what the connection has taken does not. The next request begins with the connection's count."""
    items = []
    meter = Meter(0, items.append, clock=lambda: 0.0)
    meter.go_on(20, 0)
    meter.update(2)
    meter.tell(4)
    meter.update(9)
    meter.settle(10)
    meter.tell(3)
    meter.reach(10)
    meter.go_on(20, 10)
    meter.update(5)
    assert [each.sent for each in items] == [0, 2, 4, 10, 15]


def test_what_the_server_tells_is_an_item_when_one_is_due():
    """At most one for each interval, as ever."""
    now = [0.0]
    items = []
    meter = Meter(1.0, items.append, clock=lambda: now[0])
    meter.go_on(20, 0)
    meter.tell(4)
    now[0] = 1.0
    meter.tell(6)
    assert [each.sent for each in items] == [0, 6]
