"""Requests that are refused before they are sent because a server could misread them; and the last request."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from support.scripted_server import Server

from rxupload import upload
from rxupload._wire.request import Framing, head_of
from rxupload.testing import Connection

HOST = (b"Host", b"x")


@pytest.mark.parametrize(
    ("method", "target", "headers", "message"),
    [
        (b"", b"/", [HOST], "The request method is not a token"),
        (b"A B", b"/", [HOST], "The request method is not a token"),
        ("GÉT".encode(), b"/", [HOST], "The request method is not a token"),
        (b"GET", b"", [HOST], "The request's target is empty"),
        (b"GET", b"/a b", [HOST], "is not visible ASCII"),
        (b"GET", b"/a\r\nX: y", [HOST], "is not visible ASCII"),
        (b"GET", "/é".encode(), [HOST], "is not visible ASCII"),
        (b"GET", b"/", [HOST, (b"", b"a")], "The name of a header is not a token"),
        (b"GET", b"/", [HOST, (b"X:Y", b"a")], "The name of a header is not a token"),
        (b"GET", b"/", [HOST, (b"X Y", b"a")], "The name of a header is not a token"),
        (b"GET", b"/", [HOST, (b"X\r\nY", b"a")], "The name of a header is not a token"),
        (b"GET", b"/", [HOST, (b"X", b"a\nY: b")], "line break or a NUL"),
        (b"GET", b"/", [HOST, (b"X", b"a\0")], "line break or a NUL"),
        (b"GET", b"/", [], "one Host header, and this one has 0"),
        (b"GET", b"/", [HOST, HOST], "one Host header, and this one has 2"),
    ],
)
def test_an_ambiguous_head_is_refused(method, target, headers, message):
    """A head that another reader could misread is not sent (RFC 9112, section 11)."""
    with pytest.raises(httpx.LocalProtocolError, match=message):
        head_of(method, target, headers)


@pytest.mark.parametrize(
    "headers",
    [
        [(b"Content-Length", b"x")],
        [(b"Content-Length", b"-1")],
        [(b"Content-Length", b"+1")],
        [(b"Content-Length", "\N{SUPERSCRIPT TWO}".encode("latin-1"))],
        [(b"Content-Length", b"1"), (b"content-length", b"2")],
        [(b"Content-Length", b"1"), (b"Transfer-Encoding", b"chunked")],
        [(b"Transfer-Encoding", b"gzip")],
        [(b"Transfer-Encoding", b"gzip, chunked")],
        [(b"Transfer-Encoding", b"chunked"), (b"Transfer-Encoding", b"chunked")],
    ],
)
def test_ambiguous_framing_is_refused(headers):
    """A body with no end or two ends in its headers is not sent (RFC 9112, section 6)."""
    with pytest.raises(httpx.LocalProtocolError, match=r"Content-Length|Transfer-Encoding"):
        Framing.of(headers)


@pytest.mark.parametrize(
    ("headers", "framing"),
    [
        ([], (None, False, False)),
        ([(b"content-length", b" 12 ")], (12, False, False)),
        ([(b"transfer-encoding", b"Chunked")], (None, True, False)),
        ([(b"Connection", b"x, Close")], (None, False, True)),
        ([(b"Connection", b"closed"), (b"Connection", b"close")], (None, False, True)),
    ],
)
def test_framing(headers, framing):
    """The headers decide how the body ends, and whether the connection ends with it."""
    assert Framing.of(headers) == framing


def serve_all(connection: Connection) -> None:
    while head := connection.read_head():
        if b"POST" in head:
            connection.read_body()
        connection.respond(200, b"tunnel" if b"CONNECT" in head else b"ok")


def test_no_request_follows_connection_close(client):
    """After `Connection: close` the connection carries no other request (RFC 9112, section 9.6)."""
    with Server(serve_all) as server:
        for _ in range(2):
            response = upload(server.url, b"x", headers={"Connection": "close"}, client=client).run()
            assert response.content == b"ok"
            client.get(server.url, headers={"Connection": "close"})
        assert server.connections == 4


def test_a_tunnel_is_not_reused(client):
    """After a successful CONNECT the connection belongs to the tunnel (RFC 9110, section 9.3.6)."""
    with Server(serve_all) as server:
        assert client.request("CONNECT", server.url).status_code == 200
        assert client.get(server.url).content == b"ok"
        assert server.connections == 2


@pytest.mark.parametrize("piece", [bytearray(b"abc"), memoryview(b"abc"), b"abc"])
def test_pieces_of_a_plain_request_may_be_any_buffer(client, piece):
    """A body of httpx's own may consist of any bytes-like objects."""
    received = []
    with Server(lambda connection: received.append(connection.serve())) as server:
        assert client.post(server.url, content=iter([piece, piece])).status_code == 200
    assert received == [b"abcabc"]


def test_text_in_a_body_is_a_type_error(client):
    """Text in a body is a TypeError."""
    pieces: Any = iter(["text"])
    with (
        Server(Connection.wait_for_end) as server,
        pytest.raises(TypeError, match="a bytes-like object is required, not 'str'"),
    ):
        client.post(server.url, content=pieces)


def test_the_target_may_be_text(client):
    """The extension `target` may be text, as with httpx's own transport."""
    heads = []

    def script(connection: Connection) -> None:
        heads.append(connection.read_head())
        connection.respond()

    with Server(script) as server:
        client.get(server.url, extensions={"target": "/other?x"})
    assert heads[0].startswith(b"GET /other?x HTTP/1.1\r\n")
