"""`auth=` of `upload()`: each form that httpx takes, challenges, redirects, and which thread it is called on."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import httpx2
import pytest
from reactivex.disposable import SerialDisposable
from support.recording_observer import check_grammar, observe
from support.scripted_server import Server, header

import rxupload
from rxupload import Progress, ResponseTooLarge, upload
from rxupload.testing import Connection

BASIC = b"Basic dXNlcjpwYXNzd29yZA=="
USER = ("user", "password")
CHALLENGE = 'WWW-Authenticate: Digest realm="r", nonce="n", qop="auth"'

CLIENTS: dict[str, Callable[[], Any]] = {
    "default": contextlib.nullcontext,
    "httpx": lambda: httpx.Client(trust_env=False, auth=("other", "word")),
    "httpx2": lambda: httpx2.Client(trust_env=False, auth=("other", "word")),
    "rxupload": lambda: rxupload.Client(trust_env=False, auth=("other", "word")),
}


@pytest.fixture(params=CLIENTS)
def client(request) -> Iterator[Any]:
    """Each kind of client; those that can have an auth have another one."""
    with CLIENTS[request.param]() as made:
        yield made


class Guarded(Server):
    """Keeps the Authorization of each request, and answers as `answer` says for it."""

    def __init__(self, answer: Callable[[bytes | None, bytes], tuple[Any, ...]]) -> None:
        self.seen: list[bytes | None] = []
        self.bodies: list[bytes] = []
        self._answer = answer
        super().__init__(self._serve)

    def _serve(self, connection: Connection) -> None:
        while head := connection.read_head():
            self.seen.append(header(head, b"authorization"))
            is_empty = header(head, b"content-length") is None
            self.bodies.append(b"" if is_empty else connection.read_body())
            connection.respond(*self._answer(self.seen[-1], head.split(b" ")[1]))


def signed(request: Any) -> Any:
    """An auth may be a function of the request, which returns it."""
    request.headers["Authorization"] = "Signed"
    return request


def test_user_and_password_are_sent(client):
    """A tuple is the user and the password, instead of those of the client and of the URL."""
    with Guarded(lambda *_: (200, b"")) as server:
        address = server.url.replace("//", "//in:url@")
        for auth in (USER, (b"user", b"password")):
            assert upload(address, b"data", auth=auth, client=client).run().status_code == 200
    assert server.seen == [BASIC] * 2


def test_a_function_gets_the_request(client):
    """A function gets the request, and its result is sent."""
    with Guarded(lambda *_: (200, b"")) as server:
        upload(server.url, b"data", auth=signed, client=client).run()
    assert server.seen == [b"Signed"]


def test_a_challenge_makes_another_pass(client):
    """After a challenge the body goes again, with `attempt` one higher, and the challenge is in the history."""

    def answer(authorization: bytes | None, _: bytes) -> tuple[Any, ...]:
        is_known = authorization is not None and authorization.startswith(b"Digest ")
        return (200, b"stored") if is_known else (401, b"who?", CHALLENGE)

    auth = (httpx2 if isinstance(client, httpx2.Client) else httpx).DigestAuth(*USER)
    with Guarded(answer) as server:
        observed, _ = observe(upload(server.url, b"data" * 1000, auth=auth, client=client))
        observed.wait()
    response = observed.items[-1]
    assert (response.status_code, response.text) == (200, "stored")
    assert [(each.status_code, each.text) for each in response.history] == [(401, "who?")]
    assert server.bodies[0] == server.bodies[1]
    assert len(server.bodies) == 2
    assert [item.attempt for item in observed.progress if item.sent == item.total] == [1, 2]
    if not isinstance(client, httpx2.Client):
        check_grammar(observed.items, completed=True)


def test_a_flow_may_send_a_request_of_its_own():
    """The flow of an auth may fetch a token first, and may want to see the body of each response."""

    class Token(httpx.Auth):
        requires_response_body = True

        def auth_flow(self, request: httpx.Request) -> Any:
            token = yield httpx.Request("GET", request.url.copy_with(raw_path=b"/token"))
            request.headers["Authorization"] = f"Bearer {token.text}"
            response = yield request
            assert response.text == "stored"

    with Guarded(lambda _, path: (200, b"abc" if path == b"/token" else b"stored")) as server:
        observed, _ = observe(upload(server.url, b"data", auth=Token()))
        assert observed.wait().response.text == "stored"
    assert server.seen == [None, b"Bearer abc"]
    assert {item.attempt for item in observed.progress} == {1}


def test_a_challenge_is_bounded():
    """A challenge may be as long as a response may, and no longer."""
    with (
        Guarded(lambda *_: (401, bytes(1001), CHALLENGE)) as server,
        pytest.raises(ResponseTooLarge, match="1000"),
    ):
        upload(server.url, b"data", auth=httpx.DigestAuth(*USER), max_response_size=1000).run()


def test_an_auth_that_raises_ends_the_upload(client):
    """What an auth raises is the error of the upload."""

    def broken(_: Any) -> Any:
        raise ZeroDivisionError

    with Guarded(lambda *_: (200, b"")) as server, pytest.raises(ZeroDivisionError):
        upload(server.url, b"data", auth=broken, client=client).run()
    assert server.seen == []


def test_it_is_sent_to_the_same_origin(client):
    """A redirect that stays on the origin gets the auth too, called anew."""

    def answer(_: Any, path: bytes) -> tuple[Any, ...]:
        return (307, b"", "Location: /there") if path == b"/" else (200, b"")

    for auth, expected in ((USER, BASIC), (signed, b"Signed")):
        with Guarded(answer) as server:
            upload(server.url, b"data", auth=auth, client=client, follow_redirects=True).run()
        assert server.seen == [expected] * 2


@pytest.mark.parametrize("kind", ["tuple", "function", "object"])
def test_it_stays_behind_on_another_origin(client, kind):
    """Another origin gets no auth, and neither does the first one if a later redirect leads back."""
    library = httpx2 if isinstance(client, httpx2.Client) else httpx
    auth = {"tuple": USER, "function": signed, "object": library.BasicAuth(*USER)}[kind]
    with Guarded(lambda *_: (200, b"")) as elsewhere:
        there = f"Location: {elsewhere.url.replace('127.0.0.1', 'localhost')}"
        with Guarded(lambda *_: (307, b"", there)) as server:
            upload(server.url, b"data", auth=auth, client=client, follow_redirects=True).run()
        assert server.seen[0] is not None
        assert elsewhere.seen == [None]
        with Guarded(lambda _, path: (307, b"", there) if path == b"/" else (200, b"")) as server:
            elsewhere._answer = lambda *_: (307, b"", f"Location: {server.url}back")
            upload(server.url, b"data", auth=auth, client=client, follow_redirects=True).run()
        assert server.seen[0] is not None
        assert [elsewhere.seen[-1], server.seen[-1]] == [None, None]
    assert len(server.seen) == 2


def test_a_call_of_an_auth_is_not_on_the_callers_thread():
    """`run` calls a function, and a flow, on the upload's thread: it might block, and Ctrl-C must end the wait."""
    threads: list[int] = []

    def noting(request: Any) -> Any:
        threads.append(threading.get_ident())
        return request

    with Guarded(lambda *_: (200, b"")) as server:
        upload(server.url, b"data", auth=noting).run()
        assert threads[0] != threading.get_ident()
        for auth, runs_here in ((USER, True), (httpx.BasicAuth(*USER), True), (signed, False), (None, True)):
            assert (upload(server.url, b"data", auth=auth)._begin_here is not None) is runs_here


def test_dispose_in_a_flow_ends_the_upload():
    """An upload that is disposed while its auth works sends nothing after it."""
    under_way = SerialDisposable()
    is_there, disposed = threading.Event(), threading.Event()

    def disposing(request: Any) -> Any:
        assert is_there.wait(10)
        under_way.dispose()
        disposed.set()
        return request

    with Guarded(lambda *_: (200, b"")) as server:
        observed, under_way.disposable = observe(upload(server.url, b"data", auth=disposing))
        is_there.set()
        assert disposed.wait(10)
    assert server.seen == []
    assert [item for item in observed.items if not isinstance(item, Progress)] == []


async def asynchronous(request: Any) -> Any:
    return request


class Plain:
    """A client without auth."""

    build_request = None
    send = None

    def __init__(self) -> None:
        self.build_request = self.send = lambda request: request


@pytest.mark.parametrize(
    ("auth", "client", "error", "text"),
    [
        (["user", "hush"], None, TypeError, r"^auth: expected \(user, password\), .* got list$"),
        ("hush", None, TypeError, "^auth: expected .* got str$"),
        (("user", "hush", "more"), None, TypeError, "^auth: as a tuple"),
        (("user", None), None, TypeError, "^auth: as a tuple"),
        (httpx.BasicAuth, None, TypeError, "^auth: expected .* got type$"),
        (asynchronous, None, TypeError, "^auth: an asynchronous function"),
        (USER, Plain(), TypeError, "^auth: the client's send"),
    ],
)
def test_a_wrong_auth_raises_at_the_call(auth, client, error, text):
    """A wrong auth raises at the call, with the argument's name, and its text does not quote it."""
    with pytest.raises(error, match=text) as caught:
        upload("http://upload.test/", b"data", auth=auth, client=client)
    assert "hush" not in str(caught.value)
    assert "hush" not in repr(upload("http://upload.test/", b"data", auth=("user", "hush")))
