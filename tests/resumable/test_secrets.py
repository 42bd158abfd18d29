"""An upload's address is a key to it: no text has it, and no other origin gets the credentials of the endpoint."""

from __future__ import annotations

import traceback
from contextlib import contextmanager
from typing import Any

import httpx
import httpx2
import pytest
from support.scripted_server import Server, client_context
from support.tus_server import Tus, broken_after, respond, status, tus_server

import rxupload
from rxupload import RedirectRefused, UploadTimeout
from rxupload.operators import raise_for_status, retry_backoff
from rxupload.resumable import FileStore, upload_resumable
from rxupload.resumable.protocol import About, Request

WORD = "secret"  # a part of each upload's path
HUNTER = "hunter2"


def texts_of(error: BaseException | None) -> list[str]:
    """All that is said of an error, of its requests, and of its causes and contexts."""
    said: list[str] = []
    while error is not None:
        said += [str(error), repr(error), *getattr(error, "__notes__", ())]
        said += traceback.format_exception_only(error)
        for request in requests_of(error):
            said += [repr(request), str(request.url)]
        error = error.__cause__ or error.__context__
    return said


def requests_of(error: BaseException) -> list[Any]:
    """The requests that an error leads to."""
    response = getattr(error, "response", None)
    requests = [getattr(error, "_request", None), None if response is None else response.request]
    return [each for each in requests if each is not None]


def never(connection, asked, tus):
    connection.wait_for_end()


def garbage(connection, asked, tus):
    connection.send(b"\0garbage\r\n\r\n")


CASES = {
    "broken": [broken_after(1000)],
    "closed": [broken_after(1000, resets=False)],
    "garbage": [garbage],
    "never": [never],
    "stuck": [409] * 100,
    "500": [500],
    "404": [404],
    "redirect": [status(307, "Location: /elsewhere/secret?token=secret")],
    "other": [status(307, "Location: http://localhost:1/secret")],
    "invalid": [status(307, "Location: http://[secret")],
    "ok": [],
}


@pytest.mark.parametrize("library", [None, rxupload.Client, httpx.Client, httpx2.Client])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("method", ["PATCH", "HEAD", "DELETE"])
def test_no_text_has_the_address_of_the_upload(file, tmp_path, caplog, library, case, method):
    """Neither an error, its request, its causes, a response's request, the log of all levels, nor a repr."""
    said: list[str] = []

    def outcome(source):
        try:
            response = rxupload.run(source)
        except Exception as error:
            said.extend(texts_of(error))
            said.append(str({str(each.url) for each in requests_of(error)} - {url}))
        else:
            said.extend([repr(response), repr(response.request), str(response.url), repr(response.history)])
            said.extend(repr(each.request) for each in response.history)
            said.append(repr(response.next_request))
            said.append(repr(response.extensions["rxupload"]))
            with pytest.raises(Exception) as caught:
                response.raise_for_status()
                raise ValueError
            said.extend(texts_of(caught.value))

    caplog.set_level(0)
    with tus_server() as (tus, server):
        options = {"client": library(trust_env=False, follow_redirects=True)} if library else {}
        tus.then("PATCH", broken_after(1000), *(CASES[case] if method == "PATCH" else ()))
        url = f"{server.url}files"
        up = upload_resumable(url, file, store=FileStore(tmp_path / "state"), timeout=1, **options)
        outcome(up)
        tus.then(method, *(CASES[case] if method != "PATCH" else ()))
        outcome(up.discard() if method == "DELETE" else up.pipe(raise_for_status()))
        said += [repr(up), repr(up._plan), repr(up._plan.about), repr(up._plan.trace)]
        if options:
            options["client"].close()
        server.errors.clear()
    # The library of a client of the user's own logs each address by itself.
    said += [each.getMessage() for each in caplog.records if each.name == "rxupload"]
    assert said
    assert not [text for text in said if WORD in text.replace(str(file), "")]


def test_the_time_limit_names_the_endpoint(file, store):
    """The request of UploadTimeout has the address of the endpoint."""
    with tus_server() as (tus, server):
        tus.then("PATCH", never)
        with pytest.raises(UploadTimeout) as caught:
            upload_resumable(f"{server.url}files", file, store=store, timeout=2).run()
        assert str(caught.value.request.url) == f"{server.url}files"
        assert caught.value.request.method == "PATCH"


def test_a_status_names_the_endpoint(file, store):
    """So does the text of an HTTPStatusError."""
    with tus_server() as (tus, server):
        tus.then("PATCH", 500)
        with pytest.raises(httpx.HTTPStatusError, match=rf"for url '{server.url}files'"):
            rxupload.run(upload_resumable(f"{server.url}files", file, store=store).pipe(raise_for_status()))


def test_no_repr_of_a_protocol_has_a_secret():
    """Neither what is known of the file nor a request shows metadata or headers."""
    about = About(1, None, {"password": HUNTER}, HUNTER, None)
    assert HUNTER not in repr(about)
    assert HUNTER not in repr(Request("POST", {"Authorization": HUNTER}, content=HUNTER.encode()))


# Other origins


@contextmanager
def two_origins(**options):
    """An endpoint, and a server on another origin that has its uploads."""
    with tus_server(Tus(), **options) as (tus, server), Server(tus, **options) as other:
        tus.location = lambda path: f"{other.url.rstrip('/')}{path}"
        yield tus, server, other


def credentials(how: str, url: str) -> tuple[str, dict[str, Any]]:
    """An address with credentials, and arguments with them."""
    match how:
        case "header":
            return url, {"headers": {"Authorization": "Bearer hunter2", "X-Api-Key": HUNTER, "X-Trace": "1"}}
        case "function":
            return url, {"headers": lambda: {"Authorization": "Bearer hunter2"}}
        case "auth":
            return url, {"auth": ("user", HUNTER)}
        case "client":
            given: Any = {"params": {"token": HUNTER}, "cookies": {"session": HUNTER}}
            return url, {"client": rxupload.Client(auth=("user", HUNTER), **given)}
        case _:
            return url.replace("://", f"://user:{HUNTER}@"), {}


@pytest.mark.parametrize("is_other", [False, True])
@pytest.mark.parametrize("how", ["header", "auth", "client", "url", "function"])
def test_authorization_goes_to_the_origin_of_the_endpoint_only(file, store, content, how, is_other):
    """An upload on another origin gets no credential; one on the same origin gets them with each request."""
    with two_origins() as (tus, server, _):
        if not is_other:
            tus.location = lambda path: path
        url, options = credentials(how, f"{server.url}files")
        tus.then("PATCH", broken_after(1000))
        up = upload_resumable(url, file, store=store, **options)
        response = rxupload.run(up.pipe(retry_backoff(wait_initial=0, wait_jitter=0)))
        assert response.status_code == 204
        assert bytes(tus.only.content) == content
        assert tus.methods_asked == ["POST", "PATCH", "HEAD", "PATCH"]
        assert tus.asked[0].header("Authorization")
        assert [bool(each.header("Authorization")) for each in tus.asked[1:]] == [not is_other] * 3
        if is_other:
            assert not [each for each in tus.asked[1:] if HUNTER.encode() in each.head]
        if how == "header":
            assert {each.header("X-Trace") for each in tus.asked} == {"1"}
        if "client" in options:
            options["client"].close()


def test_an_http_location_from_an_https_endpoint_is_refused(file, store):
    """The error says why a server behind a proxy may do that. Nothing is sent in the clear."""
    with tus_server(tls=True) as (tus, server), rxupload.Client(verify=client_context()) as client:
        tus.location = lambda path: f"http://{server.host}:{server.port}{path}"
        with pytest.raises(RedirectRefused, match="X-Forwarded-Proto") as caught:
            upload_resumable(f"{server.url}files", file, store=store, client=client).run()
        assert tus.methods_asked == ["POST"]
        assert not [text for text in texts_of(caught.value) if WORD in text]


@pytest.mark.parametrize("location", ["", "#secret", "/files", "//127.0.0.1:{port}/files"])
def test_the_endpoint_is_no_address_of_an_upload(file, store, location):
    """Else a DELETE would go to it, and might remove a whole folder."""
    with tus_server() as (tus, server):
        tus.location = lambda _: location.format(port=httpx.URL(server.url).port)
        up = upload_resumable(f"{server.url}files", file, store=store)
        with pytest.raises(httpx.RemoteProtocolError, match="without a valid Location"):
            up.run()
        assert rxupload.run(up.discard()) is None
        assert tus.methods_asked == ["POST"]


def test_the_credentials_are_not_stored(file, tmp_path):
    """Neither headers nor the user and password of the endpoint are in the state."""
    with tus_server() as (tus, server):
        tus.then("PATCH", broken_after(1000))
        up = upload_resumable(
            f"{server.url}files".replace("://", f"://user:{HUNTER}@"),
            file,
            store=FileStore(tmp_path / "state"),
            headers={"X-Token": HUNTER},
        )
        with pytest.raises(httpx.NetworkError):
            up.run()
        states = list((tmp_path / "state").glob("*.json"))
        assert len(states) == 1
        assert HUNTER not in states[0].read_text()
        assert WORD in states[0].read_text()
        tus.then("PATCH", lambda connection, asked, tus: respond(connection, 500))
