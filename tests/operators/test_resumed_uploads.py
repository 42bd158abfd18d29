"""The operators and the sums of a batch with the Progress of uploads that go on: `start` is what was there before."""

from __future__ import annotations

import io

import httpx
import pytest
import reactivex
from hypothesis import given
from hypothesis import strategies as st
from reactivex import operators as ops
from reactivex.testing import TestScheduler
from support.operator_sources import (
    LOST,
    Attempts,
    on_completed,
    on_error,
    on_next,
    response,
    started_at,
)

import rxupload
from rxupload import BatchProgress, BatchSummary, Progress, upload_all
from rxupload.operators import Retry, Throughput, progress_bar, raise_for_status, retry_backoff, throughput


def resumable(status: int) -> httpx.Response:
    """The response of a resumable upload."""
    answer = response(status)
    answer.extensions["rxupload"] = {"resumable": object()}
    return answer


def attempt_from(start: int, error: Exception = LOST):
    """An attempt that goes on at an offset, and fails."""
    return [on_next(1, Progress(start, 100, 1, start)), on_error(2, error)]


NOTHING = [on_error(2, LOST)]  # an attempt that does not reach the server


class TestRetryBackoff:
    @pytest.mark.parametrize(
        ("attempts", "begun"),
        [
            ([NOTHING] * 9, 3),
            ([attempt_from(0)] * 9, 3),
            # Once the server has more, three attempts follow that bring nothing.
            ([attempt_from(0), attempt_from(10), attempt_from(20), attempt_from(30), NOTHING], 6),
            ([attempt_from(0), NOTHING, attempt_from(10), NOTHING, attempt_from(20), NOTHING], 7),
            ([attempt_from(50)] * 9, 3),
            # It began anew: what it had before is not new.
            ([attempt_from(50), attempt_from(0), attempt_from(40), attempt_from(50)], 3),
        ],
    )
    def test_attempts_are_counted_anew_once_the_offset_has_grown(self, attempts, begun):
        """`attempts` limits those in a row that bring nothing; otherwise there is no limit."""
        scheduler = TestScheduler()
        source = Attempts(scheduler, *attempts)
        results = scheduler.start(
            lambda: source.observable.pipe(retry_backoff(attempts=3, wait_initial=1, wait_jitter=0)),
            disposed=1000,
        )
        assert results.messages[-1].value.exception is LOST
        assert len(source.subscriptions) == begun

    def test_the_waits_begin_anew_too(self):
        """After an attempt that found more, the wait is the first one again, and `Retry.attempt` goes on."""
        scheduler = TestScheduler()
        source = Attempts(scheduler, NOTHING, NOTHING, attempt_from(10), NOTHING)
        seen: list[Retry] = []
        scheduler.start(
            lambda: source.observable.pipe(
                retry_backoff(attempts=4, wait_initial=10, wait_max=100, wait_jitter=0, on_retry=seen.append)
            ),
            disposed=1000,
        )
        assert started_at(source)[:4] == [200, 212, 234, 246]
        assert [(each.attempt, each.wait) for each in seen[:4]] == [(1, 10), (2, 20), (3, 10), (4, 20)]

    @pytest.mark.parametrize("status", [409, 423, 460])
    def test_it_tries_again_after_the_statuses_of_resumable_uploads(self, status):
        """They pass at any other response, as an item or as an error."""
        scheduler = TestScheduler()
        for raises in (False, True):
            for answer, count in ((resumable(status), 2), (response(status), 1)):
                source = Attempts(scheduler, [on_next(1, answer), on_completed(2)])
                piped = source.observable.pipe(raise_for_status()) if raises else source.observable
                piped.pipe(retry_backoff(attempts=2, wait_initial=1, wait_jitter=0)).subscribe(
                    on_error=lambda _: None, scheduler=scheduler
                )
                scheduler.advance_by(100)
                assert len(source.subscriptions) == count


def test_throughput_counts_what_is_sent_now():
    """The rate begins at 0 with what was there before, in each attempt."""
    scheduler = TestScheduler()
    items = [
        (210, Progress(50, 100, 1, 50)),
        (211, Progress(60, 100, 1, 50)),
        (220, Progress(70, 100, 2, 70)),
        (222, Progress(80, 100, 2, 70)),
    ]
    source = scheduler.create_hot_observable(*(on_next(*each) for each in items))
    results = scheduler.start(lambda: source.pipe(throughput()))
    rates = [each.value.value for each in results.messages]
    assert all(isinstance(each, Throughput) for each in rates)
    assert [each.bytes_per_second for each in rates] == [0, 10, 0, 5]
    assert [each.seconds_left for each in rates] == [None, 4, None, 4]


def drawings(items: list[object], **options: object) -> list[str]:
    """What a bar draws for these items, in order."""
    drawn = io.StringIO()
    bar = progress_bar(file=drawn, ascii=True, **options)
    reactivex.from_iterable(items).pipe(bar).subscribe()
    shown = [each.strip() for each in drawn.getvalue().replace("\n", "\r").split("\r") if each.strip()]
    return list(dict.fromkeys(shown))


def test_a_bar_begins_with_what_was_there_before():
    """It is in the bar from its first drawing on, also in a further attempt."""
    items = [Progress(5, 10, 1, 5), Progress(8, 10, 1, 5), Progress(7, 10, 2, 7), Progress(10, 10, 2, 7)]
    shown = drawings(items, mininterval=0, bar_format="<{n}/{total}>")
    assert shown == ["<5/10>", "<8/10>", "<0/10>", "<7/10>", "<10/10>"]


def test_a_bar_shows_at_once_where_a_further_attempt_begins():
    """It does not wait for the next update that is due, so that it does not stand at 0 meanwhile."""
    items = [Progress(5, 10, 1, 5), Progress(7, 10, 2, 7)]
    assert drawings(items, mininterval=3600, bar_format="<{n}>", leave=False)[-1] == "<7>"


MB = 1_000_000


@pytest.mark.parametrize(
    ("options", "note"),
    [
        ({}, ", 5.00MB before]"),
        ({"unit_divisor": 1024}, ", 4.77MB before]"),
        ({"unit_scale": False}, ", 5000000B before]"),
        ({"postfix": "mine"}, ", mine]"),
    ],
)
def test_a_bar_says_how_much_was_there_before(options, note):
    """It says so in its own unit from the first drawing on, unless it has a postfix of the caller's."""
    items = [Progress(5 * MB, 9 * MB, 1, 5 * MB), Progress(9 * MB, 9 * MB, 1, 5 * MB)]
    shown = drawings(items, mininterval=0, **options)
    assert len(shown) >= 2
    assert all(each.endswith(note) for each in shown)
    assert shown[0].startswith("56%|")
    assert shown[-1].startswith("100%|")


def test_a_bar_says_so_of_each_attempt():
    """A new attempt has its own number; one that begins anew has none, and so has a batch."""
    items = [Progress(0, 9), Progress(5, 9, 2, 5), Progress(6, 9, 3, 6), Progress(1, 9, 4)]
    shown = drawings(items, mininterval=0, bar_format="<{n_fmt}{postfix}>")
    begun = [each for each in shown if not each.startswith("<0.00, ")]  # tqdm draws it at 0 first
    assert begun == ["<0.00>", "<5.00, 5.00B before>", "<6.00, 6.00B before>", "<1.00>"]
    assert drawings([BatchProgress(0, 0, 1, 5, 9)], bar_format="<{n_fmt}{postfix}>")[-1] == "<5.00>"


def summary_of(*items: Progress) -> tuple[BatchProgress, BatchSummary]:
    """The last sums of a batch of one upload with these items, and its summary."""
    events: list[object] = []
    batch = upload_all([reactivex.of(*items, response(200))])
    summary = rxupload.run(batch.pipe(ops.do_action(events.append)))
    last = [each for each in events if isinstance(each, BatchProgress)][-1]
    assert isinstance(summary, BatchSummary)
    return last, summary


@given(start=st.integers(0, 90), then=st.integers(0, 90))
def test_a_batch_counts_what_is_sent_now(start, then):
    """What was there before is neither sent nor in the total; what an earlier attempt sent is both."""
    first = [Progress(start, 100, 1, start), Progress(95, 100, 1, start)]
    last, summary = summary_of(*first, Progress(100, 100, 1, start))
    assert (last.sent, last.total, summary.sent) == (100 - start, 100 - start, 100 - start)
    again = [Progress(then, 100, 2, then), Progress(100, 100, 2, then)]
    last, summary = summary_of(*first, *again)
    now = 100 - min(start, then)
    assert (last.sent, last.total, summary.sent) == (now, now, now)
