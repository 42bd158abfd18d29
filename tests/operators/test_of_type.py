"""`of_type`, in virtual time and in real time."""

from __future__ import annotations

import httpx
import pytest
from reactivex.testing import TestScheduler
from support.operator_sources import (
    LOST,
    P0,
    P2,
    on_completed,
    on_error,
    on_next,
    response,
    subscribe,
)

from rxupload import Progress
from rxupload.operators import (
    of_type,
)


class TestOfType:
    def test_it_keeps_items_of_the_type(self):
        """Items of the type pass, others do not, and the end is the source's."""
        scheduler = TestScheduler()
        last = response()
        source = scheduler.create_hot_observable(
            on_next(210, P0), on_next(220, P2), on_next(230, last), on_completed(240)
        )
        results = scheduler.start(lambda: source.pipe(of_type(Progress)))
        assert results.messages == [on_next(210, P0), on_next(220, P2), on_completed(240)]
        assert source.subscriptions == [subscribe(200, 240)]

    def test_an_error_passes(self):
        """An error passes."""
        scheduler = TestScheduler()
        source = scheduler.create_hot_observable(on_next(210, P0), on_error(220, LOST))
        results = scheduler.start(lambda: source.pipe(of_type(httpx.Response)))
        assert results.messages == [on_error(220, LOST)]
        assert source.subscriptions == [subscribe(200, 220)]

    @pytest.mark.parametrize("kind", [None, "Progress", P0])
    def test_an_argument_that_is_no_type_is_a_type_error(self, kind):
        """An argument that is not a type is a TypeError at the call."""
        with pytest.raises(TypeError, match="kind"):
            of_type(kind)
