"""Redirects over real sockets: which request follows, what is left out, and how the response describes them."""

from __future__ import annotations

import contextlib
import gc
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import httpx2
import pytest
from reactivex.scheduler import NewThreadScheduler
from support.abort_phases import joinable, start
from support.recording_observer import check_grammar, observe
from support.scripted_server import PATIENCE, Server, client_context, header

import rxupload
from rxupload import RedirectRefused, Upload, upload
from rxupload._client import DefaultClient
from rxupload._redirects import Hop, next_hop
from rxupload.testing import Connection, RecordingObserver

URL = "http://upload.test/photos"


@dataclass
class SeenRequest:
    """A request as the server saw it."""

    head: bytes
    body: bytes

    @property
    def line(self) -> str:
        """Method and target."""
        return self.head.split(b" HTTP/")[0].decode()

    def header(self, name: str) -> str | None:
        value = header(self.head, name.encode())
        return None if value is None else value.decode()


class Redirecting(Server):
    """Answers each target as the table says, and others with 200; keeps the requests in order."""

    def __init__(self, table: dict[str, tuple[int, str]], *, tls: bool = False) -> None:
        self.table = table
        self.seen: list[SeenRequest] = []
        super().__init__(self._serve, tls=tls)

    def _serve(self, connection: Connection) -> None:
        while head := connection.read_head():
            has_body = header(head, b"content-length") or header(head, b"transfer-encoding")
            self.seen.append(SeenRequest(head, connection.read_body() if has_body else b""))
            status, location = self.table.get(head.split(b" ")[1].decode(), (200, ""))
            headers = [f"Location: {location}"] if location else []
            connection.respond(status, b"answered", *headers)

    @property
    def lines(self) -> list[str]:
        return [each.line for each in self.seen]


CLIENTS: dict[str, Callable[..., Any]] = {
    "default": lambda **_: contextlib.closing(DefaultClient()),
    "httpx": lambda **options: httpx.Client(verify=client_context(), trust_env=False, **options),
    "httpx2": lambda **options: httpx2.Client(verify=client_context(), trust_env=False, **options),
    "rxupload": lambda **options: rxupload.Client(verify=client_context(), trust_env=False, **options),
}
OF_USERS = ["httpx", "httpx2", "rxupload"]


@pytest.fixture(params=CLIENTS)
def client(request) -> Iterator[Any]:
    """Each kind of client for an upload."""
    with CLIENTS[request.param]() as made:
        yield made


@pytest.fixture(params=OF_USERS)
def make_client(request) -> Callable[..., Any]:
    """Makes each kind of client that a user may make."""
    return CLIENTS[request.param]


def hop_after(location: str, here: str = URL, status: int = 307, follow: Any = True, **of_hop: Any) -> Hop:
    """Only the decision where an upload goes next."""
    response = httpx.Response(status, headers=[(b"Location", location.encode())])
    response.request = httpx.Request(of_hop.get("method", "POST"), here)
    hop = Hop(**{"url": here, "method": "POST", "headers": [], **of_hop})
    return next_hop(hop, response, follow)


# Which request follows


@pytest.mark.parametrize("status", [301, 307, 308])
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_301_307_and_308_send_the_body_again(client, status, method):
    """301, 307 and 308 keep the method and send the body again, with `attempt` one higher."""
    with Redirecting({"/": (status, "/there")}) as server:
        observed, _ = observe(
            upload(server.url, b"data" * 1000, method=method, client=client, follow_redirects=True)
        )
        observed.wait()
        assert observed.items[-1].status_code == 200
    assert server.lines == [f"{method} /", f"{method} /there"]
    assert server.seen[0].body == server.seen[1].body
    assert server.seen[0].header("content-type") == server.seen[1].header("content-type")
    assert [item.attempt for item in observed.progress if item.sent == item.total] == [1, 2]


@pytest.mark.parametrize("status", [302, 303])
@pytest.mark.parametrize(("method", "becomes"), [("POST", "GET"), ("PUT", "GET"), ("HEAD", "HEAD")])
def test_302_and_303_become_get(client, status, method, becomes):
    """302 and 303 become GET without the body, but HEAD stays HEAD."""
    headers = {"Expect": "x", "X-Mine": "1"} if method == "POST" else {"X-Mine": "1"}

    def script(connection: Connection) -> None:
        for path in ("/", "/there"):
            head = connection.read_head()
            body = connection.read_body() if header(head, b"content-length") else b""
            seen.append(SeenRequest(head, body))
            location = "\r\nLocation: /there" if path == "/" else ""
            connection.send(
                f"HTTP/1.1 {status if location else 200} OK\r\nContent-Length: 0{location}\r\n\r\n".encode()
            )

    seen: list[SeenRequest] = []
    with Server(script) as server:
        observed, _ = observe(
            upload(server.url, b"data", method=method, headers=headers, client=client, follow_redirects=True)
        )
        observed.wait()
        assert observed.items[-1].status_code == 200
    assert [each.line for each in seen] == [f"{method} /", f"{becomes} /there"]
    for name in ("content-type", "content-length", "transfer-encoding", "expect"):
        assert seen[1].header(name) is None
    assert seen[1].header("x-mine") == "1"
    assert {item.attempt for item in observed.progress} == {1}


def test_a_get_omits_the_clients_own_body_headers(make_client):
    """A client's default headers for a body are not sent with the GET either."""
    with (
        Redirecting({"/": (303, "/there")}) as server,
        make_client(headers={"Content-Type": "image/png", "Expect": "x"}) as client,
    ):
        upload(server.url, b"data", client=client, follow_redirects=True).run()
    assert server.seen[0].header("content-type").startswith("multipart/form-data")
    assert server.lines[1] == "GET /there"
    assert server.seen[1].header("content-type") is None
    assert server.seen[1].header("expect") is None


def test_a_307_after_a_get_is_a_get(client):
    """A 307 in answer to the GET of a 303 is a GET."""
    with Redirecting({"/": (303, "/a"), "/a": (307, "/b")}) as server:
        upload(server.url, b"data", client=client, follow_redirects=True).run()
    assert server.lines == ["POST /", "GET /a", "GET /b"]
    assert server.seen[2].header("content-type") is None


def test_expect_continue_applies_to_each_pass(client):
    """Each pass asks first; the GET of a 303 does not."""

    def script(connection: Connection) -> None:
        while head := connection.read_head():
            heads.append(head)
            path = head.split(b" ")[1]
            if header(head, b"content-length"):
                connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
                connection.read_body()
            table = {b"/": (307, "Location: /a"), b"/a": (303, "Location: /b")}
            status, location = table.get(path, (200, "X: y"))
            connection.respond(status, b"", location)

    heads: list[bytes] = []
    with Server(script) as server:
        upload(server.url, b"data", client=client, follow_redirects=True, expect_continue=True).run()
    assert [header(head, b"expect") for head in heads] == [b"100-continue", b"100-continue", None]


@pytest.mark.parametrize("follow", [False, None])
def test_redirects_are_not_followed_by_default(client, follow):
    """By default no redirect is followed."""
    with Redirecting({"/": (307, "/there")}) as server:
        observed, _ = observe(upload(server.url, b"data", client=client, follow_redirects=follow))
        assert observed.wait().items[-1].status_code == 307
    assert server.lines == ["POST /"]


def test_the_clients_setting_is_the_default(make_client):
    """None means the client's setting; True and False override it."""
    with Redirecting({"/": (307, "/there")}) as server, make_client(follow_redirects=True) as client:
        assert upload(server.url, b"data", client=client).run().status_code == 200
        assert upload(server.url, b"data", client=client, follow_redirects=False).run().status_code == 307


@pytest.mark.parametrize("status", [300, 305, 306, 399])
def test_other_statuses_are_no_redirects(client, status):
    """Only 301, 302, 303, 307 and 308 are redirects, and only with a Location."""
    with Redirecting({"/": (status, "/there"), "/none": (307, "")}) as server:
        assert upload(server.url, b"data", client=client, follow_redirects=True).run().status_code == status
        assert (
            upload(f"{server.url}none", b"data", client=client, follow_redirects=True).run().status_code
            == 307
        )


@pytest.mark.parametrize("count", [20, 21])
def test_at_most_twenty_redirects(client, count):
    """20 redirects are followed; the 21st is `TooManyRedirects`."""
    table = {f"/{number}": (308, f"/{number + 1}") for number in range(count)}
    with Redirecting(table) as server:
        up = upload(f"{server.url}0", b"data", client=client, follow_redirects=True)
        if count == 20:
            assert len(up.run().history) == 20
        else:
            with pytest.raises(httpx.TooManyRedirects, match="20") as caught:
                up.run()
            assert str(caught.value.request.url) == f"{server.url}20"
    assert len(server.seen) == 21


def test_the_clients_max_redirects_applies(make_client):
    """The client's `max_redirects` is the limit, and requests of an auth do not count."""

    class Twice(httpx.Auth):
        requires_response_body = True

        def auth_flow(self, request: Any) -> Any:
            yield request
            yield request

    class Twice2(httpx2.Auth):
        auth_flow = Twice.auth_flow

    with Redirecting({"/": (307, "/1"), "/1": (307, "/2"), "/2": (307, "/3")}) as server:
        for most, ends_well in ((3, True), (2, False)):
            with make_client(max_redirects=most) as client:
                client.auth = Twice2() if isinstance(client, httpx2.Client) else Twice()
                context = contextlib.nullcontext() if ends_well else pytest.raises(httpx.TooManyRedirects)
                with context:
                    upload(server.url, b"data", client=client, follow_redirects=True).run()


def test_a_source_that_can_be_read_once_is_an_error():
    """A second pass over an iterator is an error, and not an empty body."""
    with (
        Redirecting({"/": (307, "/there")}) as server,
        pytest.raises(RuntimeError, match="can be read only once; for a retry, a redirect"),
    ):
        upload(server.url, iter([b"data"]), follow_redirects=True).run()
    with Redirecting({"/": (303, "/there")}) as server:
        assert upload(server.url, iter([b"data"]), follow_redirects=True).run().status_code == 200


def test_a_redirect_during_the_body_is_followed_at_once():
    """A redirect during the body is followed at once, over another connection."""

    def script(connection: Connection) -> None:
        head = connection.read_head()
        if b" / " in head:
            connection.respond(307, b"", "Location: /there", "Connection: close")
        else:
            received.append(connection.read_body())
            connection.respond(200)

    received: list[bytes] = []
    with Server(script) as server:
        with rxupload.Client(trust_env=False) as ours:
            observed, _ = observe(upload(server.url, bytes(16 << 20), client=ours, follow_redirects=True))
            assert observed.wait().response.status_code == 200
        server.errors.clear()
    check_grammar(observed.items, completed=True)
    assert [len(each) > 16 << 20 for each in received] == [True]


# The address


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("/there", "http://upload.test/there"),
        ("there", "http://upload.test/there"),
        ("../there", "http://upload.test/there"),
        ("?a=b", "http://upload.test/photos?a=b"),
        ("", "http://upload.test/photos?x=y"),
        ("//other.test/there", "http://other.test/there"),
        ("http://other.test", "http://other.test"),
        ("http://other.test:80/a?b=c%20d", "http://other.test/a?b=c%20d"),
        ("HTTP://Other.TEST:8080/A", "http://other.test:8080/A"),
        ("https://[::1]:8443/", "https://[::1]:8443/"),
        ("http://b\u00fccher.test/\u00fc", "http://xn--bcher-kva.test/%C3%BC"),
        ("http://xn--bcher-kva.test/", "http://xn--bcher-kva.test/"),
        ("https:///there", "https://upload.test/there"),
        ("/there#mine", "http://upload.test/there#mine"),
    ],
)
def test_location_is_resolved_as_in_httpx(location, url):
    """Relative, scheme-relative and absolute addresses, ports, IDN and upper case are read as in httpx."""
    hop = hop_after(location, f"{URL}?x=y")
    assert httpx.URL(hop.url) == httpx.URL(url)
    assert httpx.URL(hop.url).raw_host == httpx.URL(url).raw_host


def test_a_fragment_is_kept():
    """The fragment is kept if the Location has none (RFC 9110, section 10.2.2), and is never sent."""
    assert hop_after("/there", f"{URL}#part").url == "http://upload.test/there#part"
    assert hop_after("/there#other", f"{URL}#part").url == "http://upload.test/there#other"
    with Redirecting({"/": (307, "/there#other")}) as server:
        response = upload(f"{server.url}#part", b"data", follow_redirects=True).run()
    assert server.lines == ["POST /", "POST /there"]
    assert str(response.url) == f"{server.url}there#other"


@pytest.mark.parametrize(
    "location", ["ftp://other.test/", "file:///etc/passwd", "mailto:a@b.test", "javascript:0"]
)
def test_another_scheme_is_an_unsupported_protocol(location):
    """A scheme other than http and https is `UnsupportedProtocol`, even for a GET."""
    for status in (303, 307):
        with pytest.raises(httpx.UnsupportedProtocol, match=location.partition(":")[0]):
            hop_after(location, status=status)


@pytest.mark.parametrize(
    "location",
    [
        "http://other.test:99999/secret",
        "http://other.test:0/secret",
        "http://secret:x:y@other.test:port/",
        "http://[::secret]/",
        "http://a..secret/",
        "http://" + "secret" * 30 + ".test/",
        "http://secret.test/\x7f",
        "/" + "secret" * 20000,
    ],
)
def test_an_invalid_address_is_a_protocol_error(location):
    """An invalid address is a `RemoteProtocolError` that hides the address, since it may contain a secret."""
    with pytest.raises(httpx.RemoteProtocolError) as caught:
        hop_after(location)
    assert "secret" not in str(caught.value)
    assert caught.value.request.url == URL
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("location", "kinds"),
    [
        ("ftp://other.test/secret", {"UnsupportedProtocol"}),
        ("file:///secret", {"UnsupportedProtocol"}),
        ("mailto:secret@other.test", {"UnsupportedProtocol", "RemoteProtocolError"}),  # httpx cannot read it
        ("http://other.test:99999999/secret", {"RemoteProtocolError"}),
        ("http://a:secret@other.test:secret/", {"RemoteProtocolError"}),
    ],
)
def test_errors_of_the_address_are_the_uploads(client, location, kinds):
    """Those errors end the upload with its request, whichever client has read the Location."""
    with Redirecting({"/": (307, location)}) as server:
        observed, _ = observe(upload(server.url, b"data", client=client, follow_redirects=True))
        error: Any = observed.wait().error
    assert type(error).__name__ in kinds
    assert isinstance(error, httpx.TransportError)
    assert "secret" not in str(error)
    assert str(error.request.url) == server.url
    assert "rxupload" not in error.request.extensions


# What is left out

CREDENTIALS = {
    "Authorization": "Bearer secret",
    "Cookie": "session=secret",
    "Proxy-Authorization": "Basic secret",
    "X-Api-Key": "secret",
    "X-Auth-Token": "secret",
    "X-Amz-Security-Token": "secret",
    "X-Signature": "secret",
    "X-CSRF": "secret",
    "X-Session-Id": "secret",
    "X-Password": "secret",
    "X-Client-Secret": "secret",
    "X-JWT": "secret",
}
HARMLESS = {"X-Album": "summer", "Idempotency-Key": "5", "Accept": "text/plain"}


def test_the_callers_credentials_stay_on_the_origin(client):
    """Headers with names of credentials are sent to the same origin only."""
    with Redirecting({"/there": (200, "")}) as other, Redirecting({}) as server:
        server.table.update({"/": (307, "/same"), "/same": (307, f"{other.url}there")})
        upload(
            server.url, b"data", headers={**CREDENTIALS, **HARMLESS}, client=client, follow_redirects=True
        ).run()
    same, (there,) = server.seen[1], other.seen
    for name, value in CREDENTIALS.items():
        assert same.header(name.lower()) == value
        assert there.header(name.lower()) is None
    for name, value in HARMLESS.items():
        assert there.header(name.lower()) == value
    assert b"secret" not in there.head
    assert there.header("host") == other.url.split("/")[2]
    assert there.body == same.body


@pytest.mark.parametrize("status", [303, 307])
def test_the_clients_credentials_stay_on_the_origin(make_client, status):
    """The client's own auth, cookies, headers and params are sent to the same origin only."""
    with Redirecting({}) as other, Redirecting({}) as server:
        server.table["/first?api_key=secret"] = (status, f"{other.url}there?signed=1")
        with make_client(
            auth=("user", "secret"),
            cookies={"session": "secret"},
            headers={
                "Authorization": "Bearer secret",
                "X-Api-Key": "secret",
                "X-Mine": "1",
                "Host": "upload.test",
            },
            params={"api_key": "secret"},
        ) as client:
            upload(f"{server.url}first", b"data", client=client, follow_redirects=True).run()
    assert server.seen[0].header("authorization").startswith("Basic ")
    assert server.seen[0].header("cookie") == "session=secret"
    (there,) = other.seen
    assert b"secret" not in there.head
    assert there.line.endswith(" /there?signed=1")
    for name in ("authorization", "cookie", "x-api-key"):
        assert there.header(name) is None
    assert there.header("x-mine") == "1"
    assert there.header("host") == other.url.split("/")[2]


def test_the_clients_credentials_are_sent_to_the_same_origin(make_client):
    """On the same origin they are sent, with new cookies; but `params` do not replace the query of a Location."""

    def script(connection: Connection) -> None:
        while head := connection.read_head():
            heads.append(head)
            connection.read_body()
            is_first = b" /?key=1 " in head
            connection.respond(
                307 if is_first else 200, b"", "Location: /there?signed=1", "Set-Cookie: new=2"
            )

    heads: list[bytes] = []
    with (
        Server(script) as server,
        make_client(auth=("user", "secret"), cookies={"old": "1"}, params={"key": "1"}) as client,
    ):
        upload(server.url, b"data", client=client, follow_redirects=True).run()
    assert heads[1].startswith(b"POST /there?signed=1 ")
    assert header(heads[1], b"authorization") == header(heads[0], b"authorization")
    assert set(header(heads[1], b"cookie").split(b"; ")) == {b"old=1", b"new=2"}


def test_no_credentials_on_the_way_back(make_client):
    """A redirect back to the first origin gets no credentials, because the other origin may have chosen its address."""
    with Redirecting({}) as other, Redirecting({}) as server:
        server.table["/"] = (307, other.url)
        other.table["/"] = (307, f"{server.url}back")
        server.table["/back"] = (307, "/again")
        with make_client(auth=("user", "secret"), cookies={"a": "secret"}) as client:
            upload(
                server.url, b"data", headers={"X-Token": "secret"}, client=client, follow_redirects=True
            ).run()
    assert server.lines == ["POST /", "POST /back", "POST /again"]
    assert [b"secret" in each.head for each in server.seen] == [True, False, False]
    assert [each.header("authorization") is None for each in server.seen] == [False, True, True]
    assert other.seen[0].header("authorization") is None


def test_the_userinfo_of_the_first_address_stays_on_the_origin(client):
    """It is sent to the same origin only, even if an absolute Location does not repeat it."""
    with Redirecting({}) as other, Redirecting({}) as server:
        server.table = {"/": (307, "/a"), "/a": (307, f"{server.url}b"), "/b": (307, other.url)}
        other.table = {"/": (307, f"{server.url}back")}
        url = server.url.replace("http://", "http://user:secret@")
        upload(url, b"data", client=client, follow_redirects=True).run()
    basic = httpx.BasicAuth("user", "secret")
    expected = next(basic.sync_auth_flow(httpx.Request("GET", URL))).headers["Authorization"]
    assert [each.header("authorization") for each in server.seen] == [expected] * 3 + [None]
    assert other.seen[0].header("authorization") is None


def test_the_userinfo_of_a_location_goes_there(client):
    """The userinfo of a Location is sent to that address only."""
    with Redirecting({}) as other, Redirecting({}) as server:
        server.table["/"] = (307, other.url.replace("http://", "http://theirs:word@"))
        other.table["/"] = (307, "/same")
        other.table["/same"] = (307, f"{server.url}back")
        upload(
            server.url, b"data", headers={"Authorization": "mine"}, client=client, follow_redirects=True
        ).run()
    basic = next(httpx.BasicAuth("theirs", "word").sync_auth_flow(httpx.Request("GET", URL)))
    assert [each.header("authorization") for each in other.seen] == [basic.headers["Authorization"]] * 2
    assert [each.header("authorization") for each in server.seen] == ["mine", None]


@pytest.mark.parametrize(
    ("here", "there", "is_elsewhere"),
    [
        ("http://a.test/", "https://a.test/", False),
        ("http://a.test:80/", "https://A.test:443/", False),
        ("http://a.test:8080/", "https://a.test/", True),
        ("http://a.test/", "https://a.test:8443/", True),
        ("http://a.test/", "http://a.test:8080/", True),
        ("http://a.test/", "http://b.test/", True),
        ("http://a.test/", "http://sub.a.test/", True),
        ("https://a.test/", "https://a.test:443/b", False),
        ("https://b\u00fccher.test/", "https://xn--bcher-kva.test/", False),
        ("http://[::1]/", "http://[::1]:80/", False),
    ],
)
def test_what_is_another_origin(here, there, is_elsewhere):
    """http and https on their default ports of the same host count as the same origin."""
    hop = hop_after(there, here, headers=[(b"Authorization", b"secret"), (b"X-Album", b"summer")])
    assert hop.is_elsewhere is is_elsewhere
    assert (
        [name for name, _ in hop.headers] == [b"X-Album"] if is_elsewhere else [b"Authorization", b"X-Album"]
    )
    if is_elsewhere:
        with pytest.raises(RedirectRefused):
            hop_after(there, here, follow="same-origin")
    else:
        assert hop_after(there, here, follow="same-origin").url == str(httpx.URL(there))


# What is refused, and what is logged


def test_https_to_http_is_refused(make_client):
    """A redirect from https to http is `RedirectRefused`; its text contains neither userinfo nor a query."""
    table = {"/": (307, "http://user:secret@127.0.0.1/there?token=secret")}
    with Redirecting(table, tls=True) as server, make_client() as client:
        observed, _ = observe(upload(server.url, b"data", client=client, follow_redirects=True))
        error: Any = observed.wait().error
    assert isinstance(error, RedirectRefused)
    assert "http://127.0.0.1/there" in str(error)
    assert "secret" not in str(error)
    assert str(error.request.url) == server.url


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_https_to_http_is_refused_for_a_get_too(status):
    """A GET would reveal to the network that there was an upload, and to which address."""
    with pytest.raises(RedirectRefused):
        hop_after("http://upload.test/", "https://upload.test/", status)


def test_same_origin_refuses_another_origin(client, caplog):
    """With "same-origin", another origin is refused before anything is sent or logged."""
    with Redirecting({}) as other, Redirecting({}) as server:
        server.table = {"/": (307, "/there"), "/there": (307, f"{other.url}?token=secret")}
        observed, _ = observe(upload(server.url, b"data", client=client, follow_redirects="same-origin"))
        error = observed.wait().error
    assert isinstance(error, RedirectRefused)
    assert other.url in str(error)
    assert "secret" not in str(error)
    assert server.lines == ["POST /", "POST /there"]
    assert not other.seen
    assert not [
        each for each in caplog.records if each.name == "rxupload" and each.levelno >= logging.WARNING
    ]


def test_another_origin_is_logged(client, caplog):
    """A body that goes to another origin is logged at WARNING, without userinfo and query."""
    with Redirecting({}) as other, Redirecting({}) as server:
        server.table = {
            "/?token=secret": (307, "/there?token=secret"),
            "/there?token=secret": (307, other.url.replace("//", "//user:secret@") + "a?token=secret"),
            "/get": (303, other.url),
        }
        with caplog.at_level(logging.WARNING, "rxupload"):
            url = server.url.replace("//", "//user:secret@")
            upload(f"{url}?token=secret", b"data", client=client, follow_redirects=True).run()
            upload(f"{url}get", b"data", client=client, follow_redirects=True).run()
    said = [each.getMessage() for each in caplog.records if each.name == "rxupload"]
    assert said == [f"The upload to {server.url}there is redirected, and its body goes to {other.url}a"]


# How the response describes the redirects


def described(response: Any) -> dict[str, Any]:
    """A response's redirects."""
    after = response.next_request
    return {
        "status": response.status_code,
        "url": str(response.url),
        "method": response.request.method,
        "history": [(each.status_code, str(each.url), each.next_request) for each in response.history],
        "histories": [len(each.history) for each in response.history],
        "next": None if after is None else (type(after), after.method, str(after.url)),
        "content": response.content,
        "closed": (response.is_closed, response.is_stream_consumed),
    }


@pytest.mark.parametrize("follow", [True, False])
@pytest.mark.parametrize(
    "table",
    [
        {},
        {"/": (302, "/there")},
        {"/": (303, "/there?a=b#c")},
        {"/": (307, "/a"), "/a": (303, "/b")},
        {"/": (308, "/a"), "/a": (308, "/b"), "/b": (302, "/c")},
        {"/": (300, "/there")},
    ],
    ids=str,
)
def test_the_response_is_as_in_httpx(client, table, follow):
    """`history`, `url` and `next_request` are as in httpx, and the whole history has been read."""
    library = httpx2 if isinstance(client, httpx2.Client) else httpx
    with Redirecting(table) as server:
        with library.Client(trust_env=False, follow_redirects=follow) as theirs:
            expected = theirs.post(server.url, files={"file": b"data"})
        observed, _ = observe(upload(server.url, b"data", client=client, follow_redirects=follow))
        response = observed.wait().items[-1]
    assert described(response) == described(expected)
    assert all(each.content == b"answered" for each in response.history)


@pytest.mark.parametrize(
    ("status", "location", "method", "url"),
    [
        (301, "/there", "POST", "/there"),  # httpx says GET
        (307, "/there", "POST", "/there"),
        (302, "/there", "GET", "/there"),
        (307, "http://other.test/", "POST", "http://other.test/"),
        (307, "ftp://other.test/", "POST", "ftp://other.test/"),
    ],
)
def test_next_request_has_our_method_and_url(client, status, location, method, url):
    """For a redirect that is not followed, it has our method and URL, and no upload."""
    with Redirecting({"/": (status, location)}) as server:
        observed, _ = observe(upload(server.url, b"data", client=client, headers={"X-Token": "secret"}))
        response = observed.wait().items[-1]
    after = response.next_request
    assert (after.method, str(after.url)) == (method, str(httpx.URL(server.url).join(url)))
    assert "rxupload" not in after.extensions
    assert ("x-token" in after.headers) == location.startswith("/")


def test_next_request_of_a_refused_redirect():
    """It is set for https to http too, and None for an invalid address."""
    with CLIENTS["rxupload"]() as client, Redirecting({}, tls=True) as server:
        server.table = {"/": (307, "http://other.test/")}
        after = upload(server.url, b"data", client=client).run().next_request
        assert (after.method, str(after.url)) == ("POST", "http://other.test/")
        assert "rxupload" not in after.extensions
    with Redirecting({"/": (307, "http://other.test:99999999/")}) as server:
        response = upload(server.url, b"data").run()
        assert (response.status_code, response.next_request) == (307, None)


class WeakBytes(bytearray):
    """Bytes that allow weak references."""


def test_the_response_keeps_nothing_of_the_upload(make_client):
    """The response's requests have no transfer, and the source's bytes are released with the Upload."""
    data = [WeakBytes(b"data" * 1000)]
    gone = weakref.ref(data[0])
    with Redirecting({"/": (307, "/there")}) as server, make_client(auth=("user", "password")) as client:
        response = upload(server.url, data[0], client=client, follow_redirects=True).run()
        for each in (response, *response.history):
            assert "rxupload" not in each.request.extensions
        data.clear()
        assert died(gone)
        assert response.status_code == 200


def test_the_response_keeps_no_file(tmp_path):
    """The response does not keep the upload's file open."""
    path = tmp_path / "beach.jpg"
    path.write_bytes(b"data")
    with Redirecting({"/": (307, "/there")}) as server:
        files = [path.open("rb")]
        gone = weakref.ref(files[0])
        response = upload(server.url, files[0], follow_redirects=True).run()
        files.pop().close()
        assert died(gone)
        assert response.status_code == 200


def died(reference: weakref.ref[Any]) -> bool:
    """Whether the object is gone, once the worker's thread has released its references."""
    gone = threading.Event()
    if (alive := reference()) is not None:
        weakref.finalize(alive, gone.set)
        del alive
    return reference() is None or any(gc.collect() < 0 or gone.wait(0.1) for _ in range(100))


def test_the_error_keeps_nothing_of_the_upload(client):
    """An error's request has no transfer either."""
    with Server(lambda connection: connection.reset()) as server:
        observed, _ = observe(upload(server.url, b"data", client=client))
        error: Any = observed.wait().error
        server.errors.clear()
    assert "rxupload" not in error.request.extensions


# Other requests of the client


def test_a_request_of_an_auth_is_not_the_uploads(make_client):
    """A request that an auth sends has no transfer, and a dispose of the upload does not end it."""
    asked, go_on = threading.Event(), threading.Event()
    extensions: list[Any] = []
    tokens: list[str] = []

    def script(connection: Connection) -> None:
        head = connection.read_head()
        assert b"/token" in head
        asked.set()
        assert go_on.wait(PATIENCE)
        connection.respond(200, b"the token")
        # A plain client sends the head of the upload's own request before it asks for the body.
        assert not connection.read_head() or not isinstance(client, rxupload.Client)
        assert connection.read(1) == 0

    def flow(_self: Any, request: Any) -> Any:
        token = yield type(request)("GET", f"{server.url}token")
        extensions.append(token.request.extensions)
        tokens.append(token.text)
        request.headers["Authorization"] = token.text
        yield request

    with Server(script) as server, make_client() as client:
        base = httpx2.Auth if isinstance(client, httpx2.Client) else httpx.Auth
        client.auth = type("Token", (base,), {"auth_flow": flow, "requires_response_body": True})()
        running = start(upload(server.url, b"data", client=client))
        assert asked.wait(PATIENCE)
        running.subscription.dispose()
        go_on.set()
        running.join()
        assert not running.observed.ended
    assert tokens == ["the token"]
    assert "rxupload" not in extensions[0]


def test_requests_of_hooks_and_observers_are_not_the_uploads(make_client):
    """A request that an event hook or an observer sends continues after a dispose."""
    answers: list[str] = []
    subscriptions: list[Any] = []

    def hook(request: Any) -> None:
        if request.method == "POST":
            answers.append(client.get(f"{server.url}hook").text)

    def on_next(item: Any) -> None:
        subscriptions[0].dispose()
        answers.append(client.get(f"{server.url}observer").text)

    with Redirecting({}) as server, make_client(event_hooks={"request": [hook]}) as client:
        observed = RecordingObserver(on_next)
        threads: list[threading.Thread] = []
        ready = threading.Event()
        source = upload(server.url, lambda: iter([b"data"] if ready.wait(PATIENCE) else []), client=client)
        subscriptions.append(source.subscribe(observed, scheduler=NewThreadScheduler(joinable(threads))))
        ready.set()
        threads[0].join(PATIENCE)
    assert answers[0] == "answered"
    assert set(answers) == {"answered"}
    assert not observed.ended


# Clients that add a token to a request


class TokenClient(httpx.Client):
    """Like OAuth clients (Authlib's): the token is added in `request` and `stream`, not in `send`."""

    def request(self, method: str, url: Any, **options: Any) -> httpx.Response:
        return super().request(method, url, **self._with_token(options))

    @contextlib.contextmanager
    def stream(self, method: str, url: Any, **options: Any) -> Iterator[httpx.Response]:
        with super().stream(method, url, **self._with_token(options)) as response:
            yield response

    def _with_token(self, options: dict[str, Any]) -> dict[str, Any]:
        headers = httpx.Headers(options.pop("headers", None))
        headers["Authorization"] = "Bearer token"
        return {**options, "headers": headers}


def test_a_client_that_adds_a_token_in_request():
    """Each pass on the same origin has the token, and another origin does not get it."""
    with Redirecting({}) as other, Redirecting({}) as server, TokenClient(trust_env=False) as client:
        server.table = {"/": (307, "/there"), "/there": (307, other.url)}
        observed, _ = observe(upload(server.url, b"data", client=client, follow_redirects=True))
        assert observed.wait().response.status_code == 200
    assert [each.header("authorization") for each in server.seen] == ["Bearer token"] * 2
    assert other.seen[0].header("authorization") is None
    assert server.seen[0].body == other.seen[0].body
    assert server.seen[0].header("transfer-encoding") is None


class MinimalClient:
    """A client with the two methods of the Protocol."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def build_request(
        self, method: str, url: Any, *, content: Any = None, headers: Any = None
    ) -> httpx.Request:
        return self._client.build_request(method, url, content=content, headers=headers)

    def send(
        self, request: httpx.Request, *, stream: bool = False, follow_redirects: bool = False
    ) -> httpx.Response:
        return self._client.send(request, stream=stream, follow_redirects=follow_redirects)


def test_a_client_with_only_build_request_and_send():
    """It uploads, and follows redirects on request, even to another origin."""
    with Redirecting({}) as other, Redirecting({}) as server, httpx.Client(trust_env=False) as inner:
        server.table = {"/": (307, "/there"), "/there": (307, other.url)}
        up: Upload = upload(server.url, b"data", client=MinimalClient(inner), follow_redirects=True)
        assert up.run().status_code == 200
        assert upload(server.url, b"data", client=MinimalClient(inner)).run().status_code == 307
    assert len(other.seen) == 1
