"""Errors and responses as pickles, so that they survive a process pool."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import httpx
import httpx2
import pytest
import reactivex
from reactivex import operators as ops
from support.held_clock import HeldClock
from support.pooled_uploads import checked, retried
from support.scripted_server import Server

import rxupload
from rxupload import (
    DigestMismatch,
    ItemFailed,
    RedirectRefused,
    ResponseTooLarge,
    SourceChanged,
    UploadAborted,
    UploadTimeout,
    operators,
    upload,
    upload_all,
)
from rxupload.testing import Connection

REQUEST = httpx.Request("POST", "http://upload.test/photos")


def pickled_twice(value: Any) -> Any:
    """Pickle and unpickle twice, because the copy must be picklable too."""
    return pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(value))))


def status_error(response: Any, operator: str) -> Any:
    """The error that an operator makes of a response."""
    made = {
        "raise_for_status": operators.raise_for_status(),
        "retry_backoff": operators.retry_backoff(attempts=1),
    }
    with pytest.raises(Exception) as caught:
        rxupload.run(reactivex.just(response).pipe(made[operator]))
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        UploadTimeout("The upload was not finished", request=REQUEST),
        UploadTimeout("The upload was not finished"),
        ResponseTooLarge("The response has more", request=REQUEST),
        RedirectRefused("The server redirects", request=REQUEST),
        SourceChanged("The file shrank"),
        SourceChanged(5, "The file shrank", "beach.jpg"),
        UploadAborted("user cancel request"),
        DigestMismatch("The sha256 differs", "sha256", ["aa", None], ["bb"]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_our_own_errors_survive(error):
    """Each error keeps its type, text, request and notes."""
    error.add_note("a note")
    found = pickled_twice(error)
    assert type(found) is type(error)
    assert (str(found), found.args, found.__notes__) == (str(error), error.args, ["a note"])
    if isinstance(error, httpx.RequestError) and error._request is not None:
        assert (found.request.method, found.request.url) == ("POST", REQUEST.url)
    if isinstance(error, OSError):
        assert (found.errno, found.filename) == (error.errno, error.filename)


@pytest.mark.parametrize("operator", ["raise_for_status", "retry_backoff"])
@pytest.mark.parametrize("library", [httpx, httpx2])
@pytest.mark.parametrize("copied", [pickled_twice, copy.copy, copy.deepcopy])
def test_status_errors_survive(library, operator, copied):
    """An `HTTPStatusError` of the response's own library keeps its response, its request, `args` and notes."""
    request = library.Request("POST", "http://upload.test/photos")
    response = library.Response(503, request=request, content=b"busy", headers={"Retry-After": "5"})
    error = status_error(response, operator)
    error.add_note("a note")
    found = copied(error)
    assert isinstance(found, library.HTTPStatusError)
    assert type(found) is type(error)
    assert f"{type(found).__module__}.{type(found).__qualname__}" == f"{library.__name__}.HTTPStatusError"
    assert (found.args, str(found), found.__notes__) == (error.args, str(error), ["a note"])
    assert (found.response.status_code, found.response.content) == (503, b"busy")
    assert found.response.headers["Retry-After"] == "5"
    assert (found.request.method, str(found.request.url)) == ("POST", "http://upload.test/photos")
    assert found.response.request.url == found.request.url


def test_events_of_a_batch_survive():
    """The events of a batch and its summary survive, with the errors, and with the texts of the uploads."""

    def script(connection: Connection) -> None:
        while head := connection.read_head():
            connection.read_body()
            connection.respond(404 if b"/missing" in head else 200, b"what?")

    with Server(script) as server:
        uploads = [
            upload(f"{server.url}missing?token=hush", b"data", filename="beach.jpg").pipe(
                operators.retry_backoff(), operators.raise_for_status(), operators.progress_bar(disable=True)
            ),
            upload(server.url, "no-such.jpg"),
            upload(server.url, b"data", filename="sun.jpg"),
        ]
        events = upload_all(uploads, concurrency=1).pipe(ops.to_list()).run()
    found = pickled_twice(events)
    assert [type(each) for each in found] == [type(each) for each in events]
    assert repr(found[-1]) == repr(events[-1])
    assert "hush" not in repr(found)
    summary = found[-1]
    assert (summary.done, summary.failed, summary.statuses) == (1, 2, {200: 1, 404: 1})
    refused, missing = summary.errors
    assert (refused.error.response.status_code, refused.error.response.text) == (404, "what?")
    assert isinstance(missing.error, FileNotFoundError)
    assert "beach.jpg" in str(refused)
    with pytest.raises(RuntimeError, match=r"beach\.jpg.* is in another process"):
        rxupload.run(refused.upload)


def test_a_copied_event_has_its_upload():
    """A copy in the same process has the upload itself."""
    failed = ItemFailed(0, upload("http://upload.test/", b"data"), OSError())
    assert copy.copy(failed).upload is failed.upload


def test_a_status_error_without_a_request_survives():
    """A status error without a request survives too."""
    found = pickled_twice(status_error(httpx.Response(404), "raise_for_status"))
    assert isinstance(found, httpx.HTTPStatusError)
    assert (str(found), found.response.status_code) == ("404 Not Found", 404)


def test_retry_backoff_recognises_a_pickled_error():
    """`retry_backoff` recognises a pickled error, with its Retry-After."""
    error = pickled_twice(status_error(httpx.Response(503, request=REQUEST), "raise_for_status"))
    attempts: list[int] = []
    source = reactivex.throw(error).pipe(
        operators.retry_backoff(
            attempts=2, wait_initial=0, wait_jitter=0, on_retry=lambda retry: attempts.append(retry.attempt)
        )
    )
    with pytest.raises(httpx.HTTPStatusError):
        rxupload.run(source)
    assert attempts == [1]


def refuse(connection: Connection) -> None:
    connection.read_request()
    connection.respond(307, b"", "Location: http://other.test/")


def break_off(connection: Connection) -> None:
    connection.read_request()


def babble(connection: Connection) -> None:
    connection.read_request()
    connection.send(b"what is this?\r\n\r\n")


def compress_twice(connection: Connection) -> None:
    connection.read_request()
    connection.respond(200, b"", "Content-Encoding: gzip, gzip")


def redirect_on_and_on(connection: Connection) -> None:
    while connection.read_head():
        connection.read_body()
        connection.respond(307, b"", "Location: /")


@pytest.mark.parametrize(
    ("script", "options", "kind"),
    [
        (refuse, {"follow_redirects": "same-origin"}, RedirectRefused),
        (break_off, {}, httpx.ReadError),
        (babble, {}, httpx.RemoteProtocolError),
        (compress_twice, {}, httpx.DecodingError),
        (redirect_on_and_on, {"follow_redirects": True}, httpx.TooManyRedirects),
        (lambda connection: connection.serve(200, b"too much"), {"max_response_size": 5}, ResponseTooLarge),
    ],
)
def test_errors_of_the_wire_survive(script, options, kind):
    """The error of an upload survives with its request."""
    check_error_of_the_wire(script, options, kind)


def check_error_of_the_wire(script: Any, options: dict[str, Any], kind: type[Exception]) -> None:
    with Server(script) as server, pytest.raises(kind) as caught:
        upload(server.url, b"data", **options).run()
    found = pickled_twice(caught.value)
    assert type(found) is kind
    assert str(found) == str(caught.value)
    assert str(found.request.url) == server.url
    assert found.request.extensions == {}


def test_an_expired_limit_survives(monkeypatch):
    """So does the error of an upload whose time limit has passed while the server says nothing."""
    clock = HeldClock(monkeypatch)

    def say_nothing(connection: Connection) -> None:
        connection.read_request()
        clock.release()
        connection.wait_for_end()

    check_error_of_the_wire(say_nothing, {"timeout": 0.1}, UploadTimeout)


def test_a_connect_error_survives():
    """An error without a connection survives too."""
    with pytest.raises(httpx.ConnectError) as caught:
        upload("http://127.0.0.1:1/", b"data").run()
    found = pickled_twice(caught.value)
    assert (type(found), str(found)) == (httpx.ConnectError, str(caught.value))


@pytest.mark.parametrize("library", [None, httpx, httpx2])
def test_a_pickled_response_contains_no_upload(library):
    """The pickle contains neither the body nor any object of the library."""

    def script(connection: Connection) -> None:
        while head := connection.read_head():
            connection.read_body()
            is_first = b" / " in head
            connection.respond(307 if is_first else 200, b"thanks", "Location: /there")

    client = None if library is None else library.Client(trust_env=False)
    with Server(script) as server:
        response = upload(
            server.url, lambda: iter([b"secret" * 100_000]), client=client, follow_redirects=True
        ).run()
        if client is not None:
            client.close()
    pickled = pickle.dumps(response)
    assert len(pickled) < 10_000
    assert b"secret" not in pickled
    assert b"rxupload." not in pickled
    found = pickle.loads(pickled)
    assert (found.status_code, found.content, str(found.url)) == (200, b"thanks", f"{server.url}there")
    assert [each.status_code for each in found.history] == [307]


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    """A pool of fresh processes."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as made:
        yield made


def test_results_return_from_a_process_pool(pool):
    """Responses and errors return from a pool with their types, and the pool continues."""

    def script(connection: Connection) -> None:
        while head := connection.read_head():
            connection.read_body()
            connection.respond(int(head.split(b" ")[1][1:]), b"busy")

    with Server(script) as server:
        for library, kind in (("httpx", httpx.HTTPStatusError), ("httpx2", httpx2.HTTPStatusError)):
            error = pool.submit(checked, f"{server.url}404", library=library).exception()
            assert isinstance(error, kind)
            assert (error.response.status_code, error.response.content) == (404, b"busy")
        error = pool.submit(retried, f"{server.url}503").exception()
        assert isinstance(error, httpx.HTTPStatusError)
        assert error.response.status_code == 503
        error = pool.submit(checked, f"{server.url}200", max_response_size=1).exception()
        assert isinstance(error, ResponseTooLarge)
        assert isinstance(pool.submit(checked, "http://127.0.0.1:1/").exception(), httpx.ConnectError)
        assert pool.submit(checked, f"{server.url}200").result().content == b"busy"
