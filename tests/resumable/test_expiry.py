"""When an upload expires: the server says it by its own clock, and only the server knows whether it still has it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from support.resumable_uploads import outcome_of, run
from support.tus_server import broken_after, respond, tus_server

from rxupload.resumable import FileStore, upload_resumable

MIB = 1 << 20
HOUR = timedelta(hours=1)
LIFETIME = timedelta(minutes=30)  # shorter than the difference of the clocks
DIFFERENCES = [-72 * HOUR, -HOUR, timedelta(0), HOUR, 72 * HOUR]


@pytest.fixture(params=["memory", "file"])
def any_store(request, store, tmp_path):
    return store if request.param == "memory" else FileStore(tmp_path / "state")


def begun(tus, server, file, store):
    """An upload whose connection broke when the server had 1 MiB."""
    tus.then("PATCH", broken_after(MIB))
    up = upload_resumable(f"{server.url}files", file, store=store)
    with pytest.raises(httpx.NetworkError):
        up.run()
    tus.asked.clear()
    return up


@pytest.mark.parametrize("difference", DIFFERENCES, ids=str)
def test_an_upload_goes_on_whatever_the_clock_of_the_server_says(file, any_store, content, difference):
    """With a Date, its difference to this machine's clock is taken into account."""
    with tus_server() as (tus, server):
        tus.date = datetime.now(UTC) + difference
        tus.expires = tus.date + LIFETIME
        up = begun(tus, server, file, any_store)
        assert outcome_of(run(up)).resumed_at == MIB
        assert tus.methods_asked == ["HEAD", "PATCH"]
        assert bytes(tus.only.content) == content


@pytest.mark.parametrize("difference", [-23 * HOUR, -HOUR, HOUR, 72 * HOUR], ids=str)
def test_without_a_date_a_clock_may_be_a_day_behind(file, any_store, content, difference):
    """An upload that seems to have expired is asked about."""
    with tus_server() as (tus, server):
        tus.expires = datetime.now(UTC) + difference + LIFETIME
        up = begun(tus, server, file, any_store)
        assert outcome_of(run(up)).resumed_at == MIB
        assert bytes(tus.only.content) == content


@pytest.mark.parametrize("status", [404, 410])
def test_an_upload_that_has_expired_begins_anew(file, any_store, content, status):
    """The server says so when it is asked."""
    with tus_server() as (tus, server):
        tus.expires = datetime.now(UTC) - timedelta(seconds=5)
        up = begun(tus, server, file, any_store)
        tus.then("HEAD", status)
        run(up)
        assert tus.methods_asked == ["HEAD", "POST", "PATCH"]
        assert bytes(tus.uploads["/files/secret1"].content) == content


def test_without_a_date_what_has_expired_two_days_ago_is_not_asked_about(file, any_store, content):
    """No clock is that wrong: the store forgets it."""
    with tus_server() as (tus, server):
        tus.expires = datetime.now(UTC) - 48 * HOUR
        up = begun(tus, server, file, any_store)
        run(up)
        assert tus.methods_asked == ["POST", "PATCH"]
        assert bytes(tus.uploads["/files/secret1"].content) == content


@pytest.mark.parametrize("difference", DIFFERENCES, ids=str)
def test_the_list_has_the_time_of_this_machine(file, tmp_path, difference):
    """A server says when an upload expires; the list says when that is here."""
    store = FileStore(tmp_path / "state")
    with tus_server() as (tus, server):
        tus.date = datetime.now(UTC) + difference
        tus.expires = tus.date + 48 * HOUR
        begun(tus, server, file, store)
    (listed,) = store.uploads()
    assert listed.expires is not None
    assert abs(listed.expires - listed.created - 48 * 3600) < 600
    assert store.clean() == []


FORMATS = {
    "RFC 9110": "%a, %d %b %Y %H:%M:%S GMT",
    "RFC 850": "%A, %d-%b-%y %H:%M:%S GMT",
    "asctime": "%a %b %d %H:%M:%S %Y",
}


@pytest.mark.parametrize("form", FORMATS)
def test_each_form_of_an_http_date_is_of_utc(file, tmp_path, monkeypatch, form):
    """RFC 9110, section 5.6.7, whatever the time zone of this machine is."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    if hasattr(time, "tzset"):
        time.tzset()
    try:
        store = FileStore(tmp_path / "state")
        expires = datetime.now(UTC) + 5 * HOUR
        with tus_server() as (tus, server):

            def created(connection, asked, tus):
                header = expires.strftime(FORMATS[form])
                respond(connection, 201, "Location: /files/secret0", f"Upload-Expires: {header}")

            tus.then("POST", created)
            tus.then("PATCH", 500)
            assert upload_resumable(f"{server.url}files", file, store=store).run().status_code == 500
        (listed,) = store.uploads()
        assert listed.expires == int(expires.timestamp())
    finally:
        monkeypatch.undo()
        if hasattr(time, "tzset"):
            time.tzset()


@pytest.mark.parametrize(
    "date", ["", "now", "Sun, 06 Nov 1994 08:49:37 +9999", "Sun, 06 Nov 99999 08:49:37 GMT"]
)
def test_a_date_that_is_none_is_ignored(file, tmp_path, date):
    """Then this machine's clock counts."""
    store = FileStore(tmp_path / "state")
    expires = datetime.now(UTC) + 5 * HOUR
    with tus_server() as (tus, server):

        def created(connection, asked, tus):
            header = expires.strftime(FORMATS["RFC 9110"])
            respond(connection, 201, "Location: /files/secret0", f"Upload-Expires: {header}", f"Date: {date}")

        tus.then("POST", created)
        tus.then("PATCH", 500)
        upload_resumable(f"{server.url}files", file, store=store).run()
    (listed,) = store.uploads()
    assert listed.expires == int(expires.timestamp())
