"""The rate over the last seconds."""

from __future__ import annotations

from rxupload._rates import RateWindow


def rates(*counts):
    """A window of 5 seconds with these counts, one each second from 0 on."""
    window = RateWindow(5.0)
    for second, sent in enumerate(counts):
        window.add(float(second), sent)
    return window


def test_it_covers_the_window():
    """Older counts are forgotten, and the rate is that of the rest until now."""
    assert rates(0, 100, 300).rate(2.0) == 150.0
    assert rates(0, 1000, 1001, 1002, 1003, 1004, 1005, 1006).rate(7.0) == 1.0


def test_one_count_has_no_rate():
    """There is no rate without a count, with one, or at the moment of the first."""
    assert RateWindow(5.0).rate(1.0) == 0.0
    assert rates(100).rate(3.0) == 0.0
    assert rates(100).rate(0.0) == 0.0


def test_it_falls_while_nothing_comes():
    """Without counts the rate falls, and is zero when the window has passed."""
    window = rates(0, 100)
    assert window.rate(2.0) == 50.0
    assert window.rate(6.0) == 0.0


def test_a_smaller_count_begins_anew():
    """When bytes are taken back, the rate is never negative."""
    window = rates(0, 100, 40)
    assert window.rate(2.0) == 0.0
    window.add(3.0, 60)
    assert window.rate(3.0) == 20.0


def test_restart():
    """After a restart, earlier counts have no effect."""
    window = rates(0, 100)
    window.restart()
    window.add(2.0, 100)
    window.add(3.0, 110)
    assert window.rate(3.0) == 10.0
