"""`throughput`, in virtual time and in real time."""

from __future__ import annotations

import httpx
import pytest
from reactivex.subject import Subject
from reactivex.testing import TestScheduler
from support.hand_cranked_client import refuse
from support.operator_sources import (
    URL,
    on_completed,
    on_next,
    response,
    subscribe,
)
from support.recording_observer import observe

from rxupload import Progress, upload
from rxupload.operators import (
    Throughput,
    throughput,
)
from rxupload.testing import HandCrankedClient


class TestThroughput:
    def test_rate_and_time_left(self):
        """The rate is that of the window, and 0.0 at first; it gives the time left; the response passes."""
        scheduler = TestScheduler()
        last = response()
        items = [Progress(0, 1000), Progress(100, 1000), Progress(400, 1000), Progress(1000, 1000)]
        source = scheduler.create_hot_observable(
            *(on_next(210 + 2 * n, item) for n, item in enumerate(items)),
            on_next(218, last),
            on_completed(219),
        )
        results = scheduler.start(lambda: source.pipe(throughput(window=4)))
        assert results.messages == [
            on_next(210, Throughput(items[0], 0.0, None)),
            on_next(212, Throughput(items[1], 50.0, 18.0)),
            on_next(214, Throughput(items[2], 100.0, 6.0)),
            on_next(216, Throughput(items[3], 225.0, 0)),
            on_next(218, last),
            on_completed(219),
        ]
        assert source.subscriptions == [subscribe(200, 219)]

    def test_a_stall_lowers_the_rate(self):
        """After a pause longer than the window, the rate is counted from the last item before the pause."""
        scheduler = TestScheduler()
        source = scheduler.create_hot_observable(
            on_next(210, Progress(0, 100)), on_next(211, Progress(50, 100)), on_next(231, Progress(70, 100))
        )
        results = scheduler.start(lambda: source.pipe(throughput(window=5)))
        assert results.messages[-1].value.value == Throughput(Progress(70, 100), 1.0, 30.0)

    def test_a_new_attempt_restarts_the_window(self):
        """A new attempt restarts the window."""
        scheduler = TestScheduler()
        source = scheduler.create_hot_observable(
            on_next(210, Progress(0, 100)),
            on_next(211, Progress(90, 100)),
            on_next(212, Progress(0, 100, 2)),
            on_next(213, Progress(10, 100, 2)),
        )
        results = scheduler.start(lambda: source.pipe(throughput()))
        assert [each.value.value.bytes_per_second for each in results.messages] == [0.0, 90.0, 0.0, 10.0]

    def test_without_a_total_there_is_no_time_left(self):
        """Without a total there is a rate, but no time left."""
        scheduler = TestScheduler()
        source = scheduler.create_hot_observable(
            on_next(210, Progress(0, None)), on_next(211, Progress(5, None))
        )
        results = scheduler.start(lambda: source.pipe(throughput()))
        assert results.messages[-1].value.value == Throughput(Progress(5, None), 5.0, None)

    def test_two_items_at_the_same_moment_have_no_rate(self):
        """Two items at the same moment have no rate, and cause no division by zero."""
        scheduler = TestScheduler()
        source = scheduler.create_hot_observable(
            on_next(210, Progress(0, 10)), on_next(210, Progress(10, 10)), on_next(211, Progress(0, 0, 2))
        )
        results = scheduler.start(lambda: source.pipe(throughput()))
        assert [each.value.value.bytes_per_second for each in results.messages] == [0.0, 0.0, 0.0]
        assert [each.value.value.seconds_left for each in results.messages] == [None, 0, 0]

    def test_each_subscriber_has_its_own_window(self):
        """Two simultaneous subscribers do not see each other's items."""
        source = Subject()
        slow = source.pipe(throughput())
        seen: list[list[Throughput]] = [[], []]
        scheduler = TestScheduler()
        slow.subscribe(seen[0].append, scheduler=scheduler)
        source.on_next(Progress(0, 10))
        scheduler.advance_to(1)
        slow.subscribe(seen[1].append, scheduler=scheduler)
        source.on_next(Progress(10, 10))
        assert [each.bytes_per_second for each in seen[0]] == [0.0, 10.0]
        assert [each.bytes_per_second for each in seen[1]] == [0.0]

    def test_errors_pass_in_real_time(self):
        """Without a scheduler it uses the wall clock, and errors pass."""
        up = upload(URL, bytes(3 << 20), client=HandCrankedClient(refuse(pieces=2)), progress_interval=0)
        observed, _ = observe(up.pipe(throughput()))
        assert isinstance(observed.wait().error, httpx.ReadError)
        assert [type(item) for item in observed.items] == [Throughput] * len(observed.items)
        assert observed.items

    @pytest.mark.parametrize(
        ("window", "error"), [(0, ValueError), (-1, ValueError), (float("inf"), ValueError), ("5", TypeError)]
    )
    def test_an_invalid_window_raises_at_the_call(self, window, error):
        """An invalid window raises at the call."""
        with pytest.raises(error, match="window"):
            throughput(window)
