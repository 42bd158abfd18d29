"""Which requests the receiver refuses because a page of another origin may have made them."""

from __future__ import annotations

import socket

import httpx
import pytest
from support.forms import CLOSING, FORM, PATIENCE, file_part, stored

from rxupload import receiver
from rxupload.receiver import server

BODY = file_part("beach.jpg", b"content") + CLOSING
LINK = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
EVIL = "http://evil.example"


@pytest.fixture
def send(client, url):
    """Send a request to the receiver with these headers; {port} is the receiver's."""

    def send(headers, method="POST", url=url):
        port = httpx.URL(url).port
        filled = {name: value.format(port=port) for name, value in headers.items()}
        return client.request(method, url, content=BODY, headers=FORM | filled)

    return send


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "GET"])
@pytest.mark.parametrize(
    "origin",
    [
        EVIL,
        "https://evil.example",
        EVIL + ":{port}",
        "http://127.0.0.1",  # another port
        "http://127.0.0.1:1",
        "https://127.0.0.1",
        "http://localhost:{port}",  # another name
        "http://127.0.0.2:{port}",
        "http://[::1]:{port}",
        "http://127.0.0.1.evil.example:{port}",
        "http://evil.example@127.0.0.1:{port}",
        "ftp://127.0.0.1:{port}",
        "chrome-extension://127.0.0.1",
        "127.0.0.1:{port}",
        "http://127.0.0.1:{port} http://evil.example",
        "http://127.0.0.1:{port}/",
        "http://",
        "null",
        "",
    ],
)
def test_a_foreign_origin_is_refused(send, inbox, origin, method):
    """The answer is 403, says why, and names the flag; nothing is stored."""
    response = send({"Origin": origin}, method)

    assert response.status_code == 403
    assert repr(origin.format(port=response.url.port)) in response.json()["error"]
    assert "--allow-host" in response.json()["error"]
    assert "allow_hosts" in response.json()["error"]
    assert stored(inbox) == {}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://127.0.0.1:{port}"},
        {"Origin": "HTTP://127.0.0.1:{port}"},
        {"Origin": "http://localhost:{port}", "Host": "LocalHost:{port}"},
        {"Origin": "http://localhost", "Host": "localhost"},
        {"Origin": "http://localhost", "Host": "localhost:80"},
        {"Origin": "https://localhost", "Host": "localhost"},  # a proxy does TLS
        {"Origin": "http://[::1]:{port}", "Host": "[::1]:{port}"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_the_own_page_and_programs_are_let_in(send, headers):
    """Programs send neither header, and the receiver's own page sends its own origin."""
    assert send(headers).status_code == 200


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("POST", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("PUT", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("POST", LINK, 403),  # a form of another page
        ("POST", LINK | {"Origin": "http://127.0.0.1:{port}"}, 403),
        ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ("GET", LINK, 200),
        ("HEAD", LINK, 200),
    ],
)
def test_a_request_of_another_site_is_refused_unless_it_is_a_link(send, method, headers, status):
    """Sec-Fetch-Site is enough, even without Origin. A link to the receiver's page works."""
    response = send(headers, method)

    assert response.status_code == status
    if status == 403:
        assert "--allow-host" in response.json()["error"]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:{port}", 200),
        ("localhost.:{port}", 200),
        ("127.0.0.1:{port}", 200),
        ("127.0.0.2", 200),
        ("127.255.255.254:1", 200),
        ("[::1]:{port}", 200),
        ("[0:0:0:0:0:0:0:1]", 200),
        ("[::ffff:127.0.0.1]:{port}", 200),
        ("evil.example", 403),
        ("evil.example:{port}", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("evil-localhost", 403),
        ("10.0.0.1:{port}", 403),
        ("0.0.0.0:{port}", 403),
        ("[::]:{port}", 403),
        ("[::ffff:10.0.0.1]", 403),
        ("localhost:x", 403),
        ("localhost:80:80", 403),
        ("evil.example@localhost", 403),
        ("localhost/", 403),
        ("[localhost", 403),
        ("", 403),
    ],
)
def test_on_loopback_the_host_is_localhost_or_an_address_of_loopback(send, method, host, status):
    """A page whose name has become an address of this machine (DNS rebinding) sends its own name."""
    response = send({"Host": host}, method)

    assert response.status_code == status
    if status == 403:
        assert "--allow-host" in response.json()["error"]


def test_on_loopback_a_request_without_a_host_is_refused(url):
    """HTTP/1.0 allows it, but no browser sends it."""
    address = httpx.URL(url)
    with socket.create_connection((address.host, address.port), timeout=PATIENCE) as sock:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")

        assert sock.recv(13) == b"HTTP/1.1 403 "


def test_elsewhere_any_host_is_let_in(client, inbox, monkeypatch):
    """A receiver that others can reach does not know its names. But a foreign origin is refused there, too."""
    monkeypatch.setattr(server, "is_loopback", lambda address: False)
    with receiver.running(inbox) as url:
        named = client.post(url, content=BODY, headers=FORM | {"Host": "name.example"})
        own = client.post(
            url, content=BODY, headers=FORM | {"Host": "name.example", "Origin": "http://name.example"}
        )
        foreign = client.post(url, content=BODY, headers=FORM | {"Host": "name.example", "Origin": EVIL})

    assert [named.status_code, own.status_code, foreign.status_code] == [200, 200, 403]


@pytest.mark.parametrize(
    ("name", "headers"),
    [
        ("evil.example", {"Host": "evil.example:{port}"}),
        ("evil.example", {"Origin": EVIL}),
        ("Evil.Example.", {"Origin": "https://evil.example:444", "Sec-Fetch-Site": "cross-site"}),
        ("evil.example", {"Host": "evil.example", "Origin": EVIL + ":1"}),
        ("bücher.example", {"Origin": "http://xn--bcher-kva.example"}),
        ("localhost", {"Origin": "http://localhost:3000"}),
        ("fe80::1", {"Host": "[fe80::1]:{port}"}),
        ("[FE80::1]", {"Host": "[fe80::1]:{port}"}),
        ("10.0.0.1", {"Host": "10.0.0.1"}),
        ("abcdef", {"Origin": "chrome-extension://abcdef"}),
        ("null", {"Origin": "null", "Sec-Fetch-Site": "cross-site"}),
    ],
)
def test_an_allowed_host_is_let_in(client, inbox, send, name, headers):
    """It may stand in Host, and in Origin with any scheme and port; without allow_hosts it is refused."""
    assert send(headers).status_code == 403
    with receiver.running(inbox, allow_hosts=["other.example", name]) as url:
        assert send(headers, url=url).status_code == 200
        assert send({"Origin": "http://third.example"}, url=url).status_code == 403
        assert send({"Sec-Fetch-Site": "cross-site"}, url=url).status_code == 403


@pytest.mark.parametrize(
    "name",
    [
        "http://a.example",
        "a.example:80",
        "a.example/",
        "a b",
        "",
        "[::1]:80",
        "me@a.example",
        "*@",
        "é" * 70,
        "\ud800",
    ],
)
def test_what_is_no_host_is_a_value_error(inbox, name):
    """The error says what is expected, before anything runs."""
    with (
        pytest.raises(ValueError, match=r"allow_hosts .*without scheme and port"),
        receiver.running(inbox, allow_hosts=[name]),
    ):
        pass
    assert not inbox.exists()


def test_one_name_in_place_of_several_is_a_type_error(inbox):
    """A str is a sequence of letters."""
    with (
        pytest.raises(TypeError, match=r"allow_hosts=\[NAME\]"),
        receiver.running(inbox, allow_hosts="a.example"),
    ):
        pass


@pytest.mark.parametrize(
    ("keywords", "error"),
    [
        ({"allow_hosts": None}, TypeError),
        ({"allow_hosts": [None]}, TypeError),
        ({"allow_hosts": [b"a.example"]}, TypeError),
        ({"allow_hosts": b"a.example"}, TypeError),
        ({"max_size": "1M"}, TypeError),
        ({"max_size": True}, TypeError),
        ({"max_size": 1e6}, TypeError),
        ({"max_size": -1}, ValueError),
        ({"directory": 3}, TypeError),
        ({"directory": b"inbox"}, TypeError),
        ({"directory": "in\0box"}, ValueError),
        ({"directory": "in\ud800box"}, ValueError),
    ],
)
def test_a_wrong_argument_is_an_error_that_names_it(inbox, keywords, error):
    """The error names the argument, before anything runs."""
    (name,) = keywords
    with pytest.raises(error, match=f"^{name}"), receiver.running(**{"directory": inbox, **keywords}):
        pass
    assert not inbox.exists()
