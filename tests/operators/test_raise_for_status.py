"""`raise_for_status`, in virtual time and in real time."""

from __future__ import annotations

from types import SimpleNamespace

import httpx
import httpx2
import pytest
import reactivex
from reactivex.testing import TestScheduler
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
from support.scripted_server import Server

import rxupload
from rxupload import upload
from rxupload.operators import (
    raise_for_status,
)
from rxupload.testing import Connection, HandCrankedClient


class TestRaiseForStatus:
    @pytest.mark.parametrize("status", [300, 302, 304, 307, 399, 400, 404, 413, 500, 599])
    def test_a_status_that_is_not_2xx_is_an_error(self, status):
        """A response that is not 2xx becomes an HTTPStatusError with that response, and the source is disposed."""
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

    @pytest.mark.parametrize("status", [200, 204, 299])
    def test_other_responses_pass(self, status):
        """Any other response passes."""
        scheduler = TestScheduler()
        fine = response(status)
        source = scheduler.create_hot_observable(on_next(210, P2), on_next(220, fine), on_completed(230))
        results = scheduler.start(lambda: source.pipe(raise_for_status()))
        assert results.messages == [on_next(210, P2), on_next(220, fine), on_completed(230)]
        assert source.subscriptions == [subscribe(200, 230)]

    @pytest.mark.parametrize(
        ("location", "shown", "is_followed"),
        [
            ("/there?token=hush#hush", "http://upload.test/there", True),
            ("https://user:hush@other.test:8443/a", "https://other.test:8443/a", True),
            ("https://user:7/hush@other.test/", "https://user:7/...;", True),
            ("ftp://other.test/a", "ftp://other.test/a", False),
            ("https://user:hush/@other.test/", "an invalid address", False),
        ],
    )
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_a_redirect_names_its_location(self, status, location, shown, is_followed):
        """A note names the Location without what may be a secret, and what follows it, if anything does."""
        redirect = httpx.Response(status, headers={"Location": location}, request=REQUEST)
        with pytest.raises(httpx.HTTPStatusError, match=f"^Redirect '{status} ") as caught:
            reactivex.of(redirect).pipe(raise_for_status()).run()
        (note,) = caught.value.__notes__
        assert note.startswith(f"The server redirects to {shown}")
        assert ("follow_redirects=True" in note) == is_followed
        assert "hush" not in note + str(caught.value)

    def test_https_to_http_is_not_followed(self):
        """Of a redirect from https to http, the note does not say that it can be followed."""
        request = httpx.Request("POST", "https://upload.test/")
        redirect = httpx.Response(307, headers={"Location": "http://upload.test/"}, request=request)
        with pytest.raises(httpx.HTTPStatusError) as caught:
            reactivex.of(redirect).pipe(raise_for_status()).run()
        assert caught.value.__notes__ == ["The server redirects to http://upload.test/"]

    @pytest.mark.parametrize("status", [200, 201, 300, 304, 404])
    def test_a_location_of_another_status_is_no_redirect(self, status):
        """The Location of any other status is not one to follow, so there is no note."""
        other = httpx.Response(status, headers={"Location": "/there"}, request=REQUEST)
        source = reactivex.of(other).pipe(raise_for_status())
        if status < 300:
            assert source.run() is other
            return
        with pytest.raises(httpx.HTTPStatusError) as caught:
            source.run()
        assert not hasattr(caught.value, "__notes__")

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

    def test_a_response_of_any_other_kind_is_an_error_too(self):
        """A response of a client of your own, without a method that raises, becomes an error of httpx."""
        other = SimpleNamespace(status_code=307, headers={})
        with pytest.raises(httpx.HTTPStatusError, match=r"^307$"):
            reactivex.of(other).pipe(raise_for_status()).run()

    def test_a_redirect_of_a_server_is_an_error(self):
        """A redirect that an upload has not followed is an error, and one that it has followed is none."""

        def script(connection: Connection) -> None:
            while head := connection.read_head():
                connection.read_body()
                is_first = b" / " in head
                connection.respond(308 if is_first else 200, b"", "Location: /there?token=hush")

        with Server(script) as server:
            with pytest.raises(httpx.HTTPStatusError, match="308") as caught:
                rxupload.run(upload(server.url, b"data").pipe(raise_for_status()))
            assert f"The server redirects to {server.url}there;" in caught.value.__notes__[0]
            followed = upload(server.url, b"data", follow_redirects=True)
            assert rxupload.run(followed.pipe(raise_for_status())).status_code == 200

    def test_run_raises_for_a_refused_upload(self):
        """It makes run() raise for a refused upload."""
        up = upload(URL, b"data", client=HandCrankedClient(403))
        with pytest.raises(httpx.HTTPStatusError, match="403"):
            rxupload.run(up.pipe(raise_for_status()))
