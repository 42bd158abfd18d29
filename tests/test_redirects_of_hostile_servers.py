"""Redirects of a server that means harm, with each kind of client: where the body goes, and what is said of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.scripted_server import Server, client_context, header

import rxupload
from rxupload import RedirectRefused, UploadTransport, upload
from rxupload.testing import Connection

WORD = "hunter2"


def with_credentials(library: Any) -> dict[str, Any]:
    """What a user's own client may have: auth, cookies, headers and params."""
    return {
        "auth": ("user", WORD),
        "cookies": {"session": WORD},
        "headers": {"X-Api-Key": WORD},
        "params": {"api_key": WORD},
        "trust_env": False,
        "timeout": library.Timeout(10),
    }


CLIENTS: dict[str, Callable[[], Any]] = {
    "default": lambda: None,
    "rxupload": lambda: rxupload.Client(**with_credentials(httpx), verify=client_context()),
    "httpx": lambda: httpx.Client(**with_credentials(httpx), verify=client_context()),
    "httpx2": lambda: httpx2.Client(**with_credentials(httpx2), verify=client_context()),
    "httpx that follows": lambda: httpx.Client(**with_credentials(httpx), follow_redirects=True),
    "transport": lambda: httpx.Client(**with_credentials(httpx), transport=UploadTransport()),
}


@pytest.fixture(params=CLIENTS)
def client(request) -> Iterator[Any]:
    """The default client, and users' own clients with auth, cookies, headers and params."""
    with contextlib.nullcontext(CLIENTS[request.param]()) as made:
        yield made
        if made is not None:
            made.close()


class Hostile(Server):
    """Answers each request with a redirect to the next of some Locations, then with 200; keeps the requests' heads."""

    def __init__(self, *locations: str | bytes, status: int = 307, tls: bool = False) -> None:
        self.heads: list[bytes] = []
        self._locations = list(locations)
        self._status = status
        super().__init__(self._serve, tls=tls)

    def _serve(self, connection: Connection) -> None:
        while head := connection.read_head():
            self.heads.append(head)
            if header(head, b"content-length") or header(head, b"transfer-encoding"):
                connection.read_body()
            if not self._locations:
                connection.respond(200, b"stored")
                continue
            location = self._locations.pop(0)
            lines = location if isinstance(location, bytes) else f"Location: {location}".encode()
            connection.send(b"HTTP/1.1 %d Status\r\nContent-Length: 0\r\n%b\r\n\r\n" % (self._status, lines))

    @property
    def targets(self) -> list[str]:
        return [head.split(b" ")[1].decode().partition("?")[0] for head in self.heads]

    def has_credentials(self) -> list[bool]:
        """Whether each request carried any."""
        return [WORD.encode() in head or b"authorization" in head.lower() for head in self.heads]


def outcome(url: str, client: Any, follow: Any = True) -> Any:
    """The response or the error of an upload."""
    try:
        return upload(
            url, b"data", headers={"X-Token": WORD}, client=client, follow_redirects=follow, timeout=10
        ).run()
    except (httpx.HTTPError, httpx2.HTTPError) as error:
        return error


def texts_of(error: BaseException | None) -> str:
    """What an error, its causes and its contexts say."""
    said = ""
    while error is not None:
        said += f"{error} {error!r} {getattr(error, '__notes__', '')}"
        error = error.__cause__ or error.__context__
    return said


def kinds(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


@pytest.mark.parametrize(
    "location",
    [
        f"http://a..b/{WORD}",
        f"http://xn--a/{WORD}",
        f"//xn--a/{WORD}",
        f"http://XN--{WORD}--/",
        f"http://a\u200d{WORD}/",
        f"http://[::{WORD}]/",
        f"http://[{WORD}/",
        f"http://256.1.1.1/{WORD}",
        f"http://{'a' * 64}{WORD}/",
        f"http://{'a.' * 130}{WORD}/",
        f"http://a%00b/{WORD}",
        f"http://a%20b/{WORD}",
        f"http://u:{WORD}:x@h:y/",
        f"http://u:{WORD}#x@h/",
        f"http://h:99999/{WORD}",
        f"http://h:0/{WORD}",
        f"http://h:-1/{WORD}",
        f"http://h:1:2/{WORD}",
        f"http:\\\\h\\{WORD}",
        f"/{WORD}\tb",
        f"/{WORD}" + "x" * 70_000,
        f"http:{WORD}",
    ],
)
def test_an_address_that_cannot_be_is_a_protocol_error(client, location):
    """It is httpx's RemoteProtocolError, of no cause or context that quotes it; nothing more is sent."""
    with Hostile(location) as server:
        error = outcome(server.url, client)
    assert type(error) is httpx.RemoteProtocolError
    assert WORD not in texts_of(error)
    assert error.request is not None
    assert len(server.heads) == 1


@pytest.mark.parametrize(
    "location",
    [f"file:///{WORD}", f"ftp://u:{WORD}@h/", f"javascript:{WORD}", f"data:,{WORD}", f"ws://h/{WORD}"],
)
def test_another_scheme_is_refused(client, location):
    """No file is read, and nothing is sent."""
    with Hostile(location) as server:
        error = outcome(server.url, client)
    assert kinds(error) & {"UnsupportedProtocol", "RemoteProtocolError"}
    assert WORD not in texts_of(error)
    assert len(server.heads) == 1


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/there", "/there"),
        ("there", "/a/there"),
        ("../../there", "/there"),
        ("./", "/a/"),
        ("?x=1", "/a/b"),
        ("#part", "/a/b"),
        ("//{host}/there", "/there"),
        ("HTTP://{host}/there", "/there"),
        ("http://{host}/there#part", "/there"),
        ("http://{host}/a/../there", "/there"),
        ("/\\evil.test/", "/\\evil.test/"),
        ("\\\\evil.test\\there", "/a/\\\\evil.test\\there"),
        ("/\\\\evil.test", "/\\\\evil.test"),
        ("/..//evil.test/", "/evil.test/"),
        ("/%2F%2Fevil.test", "/%2F%2Fevil.test"),
        ("/ a", "/%20a"),
        ("/\u00fc", "/%C3%BC"),
    ],
)
def test_relative_locations_stay_on_the_origin(client, location, target):
    """A path with backslashes or double slashes names no other host, and the credentials are sent again."""
    with Hostile() as server:
        server._locations.append(location.format(host=f"127.0.0.1:{server.port}"))
        response = outcome(f"{server.url}a/b", client)
    assert response.status_code == 200
    assert server.targets == ["/a/b", target]
    assert server.has_credentials() == [True, True]


@pytest.mark.parametrize(
    "location",
    [
        "http://{other}/",
        "//{other}/",
        "http://{host}@{other}/",
        "http://user:word@{other}/",
        "http://LOCALHOST:{port}/",
        "http://localhost:{port}/",
        "http://{host}#@{other}/",
    ],
)
def test_another_origin_gets_no_credentials(client, location):
    """Another port, another name of the same machine, or a host after an @: none of ours is sent, nor is it logged."""
    with Hostile() as other, Hostile() as server:
        host = f"127.0.0.1:{server.port}"
        server._locations.append(location.format(host=host, other=f"127.0.0.1:{other.port}", port=other.port))
        response = outcome(server.url, client)
    assert response.status_code == 200
    if location.startswith("http://{host}#"):
        assert server.has_credentials()[:2] == [True, True]
        assert not other.heads
        return
    (head,) = other.heads
    assert WORD.encode() not in head
    assert (b"authorization" in head.lower()) == ("@" in location)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("make", ["rxupload", "httpx", "httpx2"])
def test_https_to_http_is_refused_on_the_way(status, make):
    """After any number of redirects within https, one to http sends nothing more."""
    with Hostile() as plain, Hostile("/a", f"/b?token={WORD}", status=status, tls=True) as server:
        server._locations.append(f"http://u:{WORD}@127.0.0.1:{plain.port}/?{WORD}")
        with CLIENTS[make]() as made:
            error = outcome(server.url, made)
    assert isinstance(error, RedirectRefused)
    assert WORD not in texts_of(error)
    assert len(server.heads) == 3
    assert not plain.heads


def test_a_loop_of_origins_ends(client):
    """Two servers that redirect to each other are left after 20 redirects, and the second never gets credentials."""
    with Hostile() as other, Hostile() as server:
        server._locations += [f"{other.url}{number}" for number in range(20)]
        other._locations += [f"{server.url}{number}" for number in range(20)]
        error = outcome(server.url, client)
    assert "TooManyRedirects" in kinds(error)
    assert len(server.heads) + len(other.heads) == 21
    assert server.has_credentials() == [True, *[False] * (len(server.heads) - 1)]
    assert not any(other.has_credentials())


def test_an_empty_location_is_the_same_address(client):
    """An empty Location is a loop that ends after 20 redirects, as in httpx."""
    with Hostile(*[""] * 30) as server:
        error = outcome(server.url, client)
    assert "TooManyRedirects" in kinds(error)
    assert len(server.heads) == 21


@pytest.mark.parametrize(
    ("lines", "target"),
    [
        (b"Location: /a\r\nLocation: /b", None),
        (b"Location: /a\r\nlocation: http://127.0.0.1:1/", None),
        (b"Location: \r\nLocation: /a", None),
        (b"Location: /a\r\nLocation: /a", "/a"),
        (b"LOCATION:/a", "/a"),
        (b"Location: /a, /b", "/a,%20/b"),
        (b"Location: /\xfc", "/%C3%BC"),
    ],
)
def test_several_locations_are_an_error(client, lines, target):
    """Several addresses are none, as in browsers; the same one twice is one."""
    with Hostile(lines) as server:
        result = outcome(server.url, client)
    if target is None:
        assert type(result) is httpx.RemoteProtocolError
        assert len(server.heads) == 1
    else:
        assert result.status_code == 200
        assert server.targets == ["/", target]


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text(alphabet="/\\?#@:.%[]ahx-1\u00fc\u3002\u200d \t\x7f", max_size=12),
    st.sampled_from(["", "/", "//", "http:", "http://", "http://xn--", "https:/", "http://u:hunter2@", "x:"]),
)
def test_any_location_ends_in_a_response_or_an_error_of_httpx(text, begin):
    """Whatever a Location is, the decision raises nothing else, and its error quotes nothing of userinfo."""
    from rxupload._redirects import Hop, next_hop, next_request

    here = "http://127.0.0.1:9/a?b"
    response = httpx.Response(307, headers=[(b"Location", f"{begin}{text}".encode())])
    response.request = httpx.Request("POST", here)
    hop = Hop(here, "POST", [(b"Authorization", b"x")])
    next_request(hop, response)
    after, said = None, ""
    try:
        after = next_hop(hop, response, follow=True)
    except httpx.RequestError as error:
        said = texts_of(error)
    assert WORD not in said
    if after is not None:
        there = httpx.URL(after.url)
        assert there.scheme in ("http", "https")
        assert there.host
        is_here = (there.scheme, there.host, there.port) == ("http", "127.0.0.1", 9)
        assert bool(after.headers) == is_here


def test_a_followed_or_refused_redirect_leaves_the_cookies_at_home():
    """A cookie that the first origin sets goes back to it only."""

    def script(connection: Connection) -> None:
        while head := connection.read_head():
            connection.read_body()
            heads.append(head)
            is_first = b" / " in head
            where = f"Location: {other.url if len(heads) > 1 else '/there'}"
            connection.respond(307, b"", where, *([f"Set-Cookie: id={WORD}"] if is_first else []))

    heads: list[bytes] = []
    with Hostile() as other, Server(script) as server:
        for make in (httpx.Client, httpx2.Client, rxupload.Client):
            heads.clear()
            with make(trust_env=False) as made:
                assert outcome(server.url, made).status_code == 200
            assert header(heads[1], b"cookie") == f"id={WORD}".encode()
    assert len(other.heads) == 3
    assert all(WORD.encode() not in head for head in other.heads)
