"""`raise_for_status`, in virtual time and in real time."""

from __future__ import annotations

import httpx
import httpx2
import pytest
import reactivex
from reactivex.testing import TestScheduler
from support.hand_cranked_client import ScriptedClient, answer
from support.operator_sources import (
    P0,
    P2,
    REQUEST,
    URL,
    on_completed,
    on_next,
    response,
    subscribe,
)

import rxupload
from rxupload import upload
from rxupload.operators import (
    raise_for_status,
)


class TestRaiseForStatus:
    @pytest.mark.parametrize("status", [400, 404, 413, 500, 599])
    def test_a_status_of_400_or_more_is_an_error(self, status):
        """A response of 400 or more becomes an httpx.HTTPStatusError with that response, and the source is disposed."""
        scheduler = TestScheduler()
        refusal = response(status)
        source = scheduler.create_hot_observable(on_next(210, P0), on_next(220, refusal), on_completed(230))
        results = scheduler.start(lambda: source.pipe(raise_for_status()))
        assert results.messages[0] == on_next(210, P0)
        (failed,) = results.messages[1:]
        error = failed.value.exception
        assert failed.time == 220
        assert isinstance(error, httpx.HTTPStatusError)
        assert error.response is refusal
        assert error.request is REQUEST
        assert str(status) in str(error)
        assert source.subscriptions == [subscribe(200, 220)]

    @pytest.mark.parametrize("status", [200, 204, 302, 304])
    def test_other_responses_pass(self, status):
        """Any other response passes."""
        scheduler = TestScheduler()
        fine = response(status)
        source = scheduler.create_hot_observable(on_next(210, P2), on_next(220, fine), on_completed(230))
        results = scheduler.start(lambda: source.pipe(raise_for_status()))
        assert results.messages == [on_next(210, P2), on_next(220, fine), on_completed(230)]
        assert source.subscriptions == [subscribe(200, 230)]

    def test_a_response_without_a_request_is_an_error_too(self):
        """A response that was made by hand has no request, and becomes the same error."""
        refusal = httpx.Response(404)
        with pytest.raises(httpx.HTTPStatusError, match="404 Not Found") as caught:
            reactivex.of(refusal).pipe(raise_for_status()).run()
        assert caught.value.response is refusal

    def test_a_response_of_httpx2_is_an_error_of_httpx2(self):
        """A response of httpx2 becomes the error of httpx2."""
        refusal = httpx2.Response(404, request=httpx2.Request("POST", URL))
        with pytest.raises(httpx2.HTTPStatusError) as caught:
            reactivex.of(refusal).pipe(raise_for_status()).run()
        assert caught.value.response is refusal

    def test_run_raises_for_a_refused_upload(self):
        """It makes run() raise for a refused upload."""
        up = upload(URL, b"data", client=ScriptedClient(answer(403)))
        with pytest.raises(httpx.HTTPStatusError, match="403"):
            rxupload.run(up.pipe(raise_for_status()))
