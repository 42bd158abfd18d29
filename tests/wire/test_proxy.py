"""Tunnels through proxies: what the proxy is sent, and what its answers lead to."""

from __future__ import annotations

import base64
import math
import socket
import ssl
import subprocess
import sys

import httpx
import pytest

from rxupload._wait import READ, WRITE, SystemClock
from rxupload._wire.control import PLAIN, Plain
from rxupload._wire.proxy import HEAD_LIMIT, check_socks, forward_headers, forward_target, socks5, tunnel

OK = b"HTTP/1.1 200 Connection established\r\n\r\n"


class FakeClock:
    """A clock that does not sleep: a wait ends ready, unless the proxy has nothing more to send."""

    def __init__(self):
        self.time = 0.0
        self.waits = []

    def now(self):
        return self.time

    def wait(self, until, watched=(), wake=None):
        [(stream, events)] = watched
        self.waits.append(events)
        if stream.is_silent and events == READ:
            assert until < math.inf, "it would wait for ever"
            self.time = until
            return []
        return [stream]


class FakeStream:
    """A connection to a proxy that sends the given bytes, or raises the given exception."""

    def __init__(self, *says, takes=1000):
        self.sent = b""
        self.says = list(says)
        self.takes = list(takes) if isinstance(takes, list) else takes
        self.asked = []

    @property
    def is_silent(self):
        return not self.says

    def fileno(self):
        return 1

    def send(self, data):
        takes = self.takes
        if isinstance(takes, list):
            takes = takes.pop(0) if takes else 1000
        if isinstance(takes, BaseException):
            raise takes
        self.sent += data[:takes]
        return len(data[:takes])

    def recv(self, size):
        self.asked.append(size)
        if not self.says:
            raise BlockingIOError
        what = self.says.pop(0)
        if isinstance(what, BaseException):
            raise what
        if len(what) > size:
            self.says.insert(0, what[size:])
        return what[:size]


def trickle(data):
    """Send the bytes one at a time, each after a wait."""
    return [each for octet in data for each in (BlockingIOError(), bytes([octet]))]


def connect(*says, host="example.com", port=443, takes=1000, until=5.0, control=PLAIN, **kwargs):
    stream = FakeStream(*says, takes=takes)
    tunnel(stream, host, port, clock=FakeClock(), control=control, until=until, **kwargs)
    return stream


def talk(*says, host="example.com", port=443, takes=1000, until=5.0, control=PLAIN, **kwargs):
    stream = FakeStream(*says, takes=takes)
    socks5(stream, host, port, clock=FakeClock(), control=control, until=until, **kwargs)
    return stream


# CONNECT


def test_a_connect_request():
    """CONNECT names the server twice, and contains nothing of the request."""
    assert connect(OK).sent == (
        b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\nAccept: */*\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("host", "target"),
    [
        ("::1", b"[::1]:443"),
        ("fe80::1%eth0", b"[fe80::1]:443"),
        ("127.0.0.1", b"127.0.0.1:443"),
        ("bücher.example", b"xn--bcher-kva.example:443"),
    ],
)
def test_the_target_of_a_tunnel(host, target):
    """An IPv6 address is in brackets without its zone, and a name is in ASCII."""
    assert connect(OK, host=host).sent.startswith(b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n" % (target, target))


def test_the_headers_for_a_proxy():
    """The credentials and the caller's headers go to the proxy; the caller's replace the default ones."""
    proxy = httpx.Proxy("http://us%20er:pä:ss@proxy", headers={"X-Team": "a", "host": "other"})
    sent = connect(OK, headers=proxy.headers.raw, auth=proxy.raw_auth).sent
    credentials = base64.b64encode("us er:pä:ss".encode())
    assert sent.split(b"\r\n")[1:-2] == [
        b"Accept: */*",
        b"Proxy-Authorization: Basic " + credentials,
        b"X-Team: a",
        b"host: other",
    ]
    own = [(b"proxy-authorization", b"Bearer t")]
    assert b"Basic" not in connect(OK, headers=own, auth=(b"a", b"b")).sent


@pytest.mark.parametrize(
    "header", [(b"X", b"a\r\nY: b"), (b"X\n", b"a"), (b"", b"a"), (b"X:", b"a"), (b"X", b"\0")]
)
def test_an_invalid_header_for_a_proxy_is_refused(header):
    """A header with a line end or without a name is refused before anything is sent."""
    stream = FakeStream(OK)
    with pytest.raises(httpx.LocalProtocolError, match="Illegal header"):
        tunnel(stream, "h", 1, [header], clock=FakeClock(), control=PLAIN, until=1.0)
    assert stream.sent == b""


@pytest.mark.parametrize(
    "says",
    [
        [OK],
        trickle(OK),
        [b"HTTP/1.0 200\r\n\r\n"],
        [b"HTTP/1.1 204 None\n\n"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nVia: x\r\n\r\n"],
        [b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 \r\nA: b\r\n\r\n" + OK],
        trickle(b"HTTP/1.1 103 Hints\r\n\r\n" + OK),
        [ssl.SSLWantReadError(), OK],
        [ssl.SSLWantWriteError(), OK[:30], BlockingIOError(), OK[30:]],
    ],
)
def test_answers_that_open_a_tunnel(says):
    """Any 2xx opens the tunnel, split anywhere, even after informational answers."""
    assert connect(*says).says == []


@pytest.mark.parametrize(
    ("says", "text"),
    [
        ([b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\nbody"],
         "407 Proxy Authentication Required"),
        (trickle(b"HTTP/1.1 502 Bad Gateway\r\n\r\n"), "502 Bad Gateway"),
        ([b"HTTP/1.1 503\r\n\r\n"], "503"),
        ([b"HTTP/1.1 500 \x1b[31m\xffred\r\n\r\n"], "500 [31mred"),
        ([b"HTTP/1.1 101 Switching Protocols\r\n\r\n"], "101 Switching Protocols"),
        ([b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n"], "302 Found"),
        ([OK + b"\x16"], "The proxy sent more than its answer to CONNECT"),
        ([b"SSH-2.0-x\r\n"], "The proxy's answer is not HTTP"),
        ([b"HTTP/2 200 OK\r\n\r\n"], "The proxy's answer is not HTTP"),
        ([b"HTTP/1.1 20 OK\r\n\r\n"], "The proxy's answer is not HTTP"),
        ([b"\x05\xff"], "The proxy's answer is not HTTP"),
        ([b""], "The proxy closed the connection before its answer to CONNECT example.com:443"),
        ([OK[:-2], b""], "The proxy closed the connection before its answer to CONNECT example.com:443"),
        ([ConnectionResetError(104, "Connection reset by peer")],
         "The connection to the proxy broke: Connection reset by peer"),
        ([b"HTTP/1.1 200 OK\r\n", b"A: " + b"a" * HEAD_LIMIT], "The head of the proxy's answer is longer than 100 KiB"),
        ([b"HTTP/1.1 100 C\r\n\r\n" * HEAD_LIMIT], "The head of the proxy's answer is longer than 100 KiB"),
    ],
)  # fmt: skip
def test_answers_that_open_no_tunnel(says, text):
    """Any other answer is a ProxyError with the proxy's text, or with what is wrong with it."""
    with pytest.raises(httpx.ProxyError) as raised:
        connect(*says)
    assert str(raised.value) == text


def test_a_head_in_single_bytes_costs_little():
    """A long head that comes byte by byte is not searched from its start each time."""
    connect(*[bytes([octet]) for octet in OK[:-2] + b"A: " + b"a" * 50_000 + b"\r\n\r\n"])


def test_a_short_send_to_the_proxy_is_continued():
    """What the proxy does not take at once is sent later."""
    takes = [5, BlockingIOError(), 1, ssl.SSLWantWriteError(), 7, ssl.SSLWantReadError()]
    stream = FakeStream(OK, takes=takes)
    clock = FakeClock()
    tunnel(stream, "example.com", 443, clock=clock, control=PLAIN, until=5.0)
    assert stream.sent == connect(OK).sent
    assert clock.waits == [WRITE, WRITE, READ]
    with pytest.raises(httpx.ProxyError, match="The connection to the proxy broke: Broken pipe"):
        connect(OK, takes=[5, BrokenPipeError(32, "Broken pipe")])


class StopError(Exception):
    pass


class StoppingControl(Plain):
    def check(self):
        raise StopError


@pytest.mark.parametrize("says", [[], [OK[:20]], trickle(OK[:20])])
def test_a_silent_proxy_is_a_connect_timeout(says):
    """A proxy that does not finish its answer is a ConnectTimeout that names it; an abort ends the wait."""
    with pytest.raises(
        httpx.ConnectTimeout, match=r"The proxy did not answer to CONNECT example.com:443 in time"
    ):
        connect(*says)
    with pytest.raises(StopError):
        connect(*says, control=StoppingControl())


def test_a_tunnel_over_a_real_connection():
    """A tunnel over a real connection reads only the answer, and the tunnel is then usable."""
    ours, proxys = socket.socketpair()
    with ours, proxys:
        ours.setblocking(False)
        proxys.send(OK)
        tunnel(ours, "example.com", 443, clock=SystemClock(), control=PLAIN, until=math.inf)
        assert proxys.recv(1000).startswith(b"CONNECT example.com:443 HTTP/1.1\r\n")
        proxys.send(b"hello")
        assert ours.recv(10) == b"hello"
        with pytest.raises(httpx.ConnectTimeout):
            tunnel(ours, "h", 1, clock=SystemClock(), control=PLAIN, until=SystemClock.now() + 0.02)
        assert not ours.getblocking()


# SOCKS 5

GREETING = b"\x05\x01\x00"
METHOD = b"\x05\x00"
DONE = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50"
REQUEST = b"\x05\x01\x00\x03\x0bexample.com\x01\xbb"


@pytest.mark.parametrize(
    "done",
    [
        DONE,
        b"\x05\x00\x00\x04" + b"\0" * 16 + b"\x00\x50",
        b"\x05\x00\x00\x03\x04host\x00\x50",
        b"\x05\x00\x00\x03\x00\x00\x50",
    ],
)
@pytest.mark.parametrize("cut", [lambda data: [data], trickle])
def test_a_socks_tunnel(done, cut):
    """The proxy resolves the name; its answers may be split anywhere, and the bytes after them stay."""
    stream = talk(*cut(METHOD), *cut(done), b"more")
    assert stream.sent == GREETING + REQUEST
    assert stream.says == [b"more"]


def test_socks_answers_in_one_piece():
    """Answers that come together are read one by one."""
    assert talk(METHOD + DONE + b"more").says == [b"more"]


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", b"\x01\x7f\x00\x00\x01"),
        ("::1", b"\x04" + b"\0" * 15 + b"\x01"),
        ("fe80::1%eth0", b"\x04\xfe\x80" + b"\0" * 13 + b"\x01"),
        ("faß.example", b"\x03\x12xn--fa-hia.example"),
    ],
)
def test_the_target_of_a_socks_tunnel(host, address):
    """An address is sent as an address, and a name in ASCII."""
    assert talk(METHOD, DONE, host=host).sent == GREETING + b"\x05\x01\x00" + address + b"\x01\xbb"


def test_socks_with_a_password():
    """With a user name and a password, only that method is offered, and both are sent (RFC 1929)."""
    stream = talk(b"\x05\x02", b"\x01\x00", DONE, auth=(b"user", b"secret"))
    assert stream.sent == b"\x05\x01\x02" + b"\x01\x04user\x06secret" + REQUEST


@pytest.mark.parametrize(
    ("says", "auth", "text"),
    [
        ([b"\x05\xff"], None, "Requested NO AUTHENTICATION REQUIRED from proxy server, but got NO ACCEPTABLE METHODS."),
        ([b"\x05\x02"], None, "Requested NO AUTHENTICATION REQUIRED from proxy server, but got USERNAME/PASSWORD."),
        ([b"\x05\x00"], (b"u", b"p"),
         "Requested USERNAME/PASSWORD from proxy server, but got NO AUTHENTICATION REQUIRED."),
        ([b"\x05\x77"], None, "Requested NO AUTHENTICATION REQUIRED from proxy server, but got UNKNOWN."),
        ([b"\x05\x02", b"\x01\x01"], (b"u", b"p"), "Invalid username/password"),
        ([METHOD, b"\x05\x05\x00\x01"], None, "Proxy Server could not connect: Connection refused."),
        ([METHOD, b"\x05\x02\x00\x00\x00"], None, "Proxy Server could not connect: Connection not allowed by ruleset."),
        ([METHOD, b"\x05\x63\x00\x01"], None, "Proxy Server could not connect: UNKNOWN."),
        ([METHOD, b"\x05\x00\x00\x09\x00\x00\x00"], None, "The SOCKS proxy: Malformed reply"),
        ([METHOD, b"\x04\x00\x00\x01"], None, "The proxy's answer is not SOCKS 5"),
        ([b"HTTP/1.1 400 Bad\r\n\r\n"], None, "The proxy's answer is not SOCKS 5"),
        ([b""], None, "The proxy closed the connection before its answer to SOCKS to example.com:443"),
        ([METHOD, DONE[:5], b""], None,
         "The proxy closed the connection before its answer to SOCKS to example.com:443"),
        ([], (b"u" * 256, b"p"), "A SOCKS user name or password has at most 255 bytes"),
    ],
)  # fmt: skip
def test_a_socks_refusal_is_a_proxy_error(says, auth, text):
    """A refusal is a ProxyError with httpcore's text, at once, even if the rest of the answer never comes."""
    with pytest.raises(httpx.ProxyError) as raised:
        talk(*says, auth=auth)
    assert str(raised.value) == text


@pytest.mark.parametrize("says", [[], [METHOD], [METHOD, DONE[:7]]])
def test_a_silent_socks_proxy_is_a_connect_timeout(says):
    """A SOCKS proxy that does not finish its answer is a ConnectTimeout that names it; an abort ends the wait."""
    with pytest.raises(
        httpx.ConnectTimeout, match=r"The proxy did not answer to SOCKS to example.com:443 in time"
    ):
        talk(*says)
    with pytest.raises(StopError):
        talk(*says, control=StoppingControl())


def test_socks_without_socksio_raises_the_error_of_httpx():
    """Without socksio the error is that of httpx, and comes when SOCKS is needed."""
    check_socks()
    script = """
import sys
import rxupload._wire.proxy as proxy
sys.modules["socksio"] = None
try:
    proxy.socks5(None, "h", 1, clock=None, control=None, until=1.0)
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("Using SOCKS proxy, but the 'socksio' package is not installed. "), (
        done.stderr
    )


# Forwarding


def test_forward_headers():
    """A forwarded request has the credentials and the headers for the proxy."""
    assert forward_headers(httpx.Proxy("http://proxy")) == []
    proxy = httpx.Proxy("http://user:pass@proxy", headers={"X-Team": "a"})
    assert forward_headers(proxy) == [
        (b"Proxy-Authorization", b"Basic " + base64.b64encode(b"user:pass")),
        (b"X-Team", b"a"),
    ]
    proxy = httpx.Proxy("http://user:pass@proxy", headers={"Proxy-Authorization": "Bearer t"})
    assert forward_headers(proxy) == [(b"Proxy-Authorization", b"Bearer t")]


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://example.com", b"http://example.com/"),
        ("http://example.com:80/a", b"http://example.com/a"),
        ("http://example.com:8080/a%20b?c=d#e", b"http://example.com:8080/a%20b?c=d"),
        ("http://user:pass@example.com/", b"http://example.com/"),
        ("http://[::1]:8080/", b"http://[::1]:8080/"),
        ("http://[fe80::1%25eth0]/", b"http://[fe80::1]/"),
        ("http://faß.example/", b"http://xn--fa-hia.example/"),
    ],
)
def test_forward_target(url, target):
    """The target is in absolute form, without user, fragment and zone."""
    assert forward_target(httpx.URL(url)) == target
