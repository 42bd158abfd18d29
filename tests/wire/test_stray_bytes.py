"""Bytes after a response are nobody's answer, and a TLS connection that is cut does not end a body."""

from __future__ import annotations

import contextlib
import gzip
import socket
import threading

import httpx
import pytest
from support.abort_phases import transport_client
from support.scripted_server import PATIENCE, Server

from rxupload import upload
from rxupload.testing import Connection

both = pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])

STOLEN = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen"
OK = b"HTTP/1.1 200 OK\r\n"
ZIPPED = gzip.compress(b"first", mtime=0)
RESPONSES: dict[str, tuple[str, bytes, bytes]] = {
    "a length": ("POST", OK + b"Content-Length: 5\r\n\r\nfirst", b"first"),
    "no bytes": ("POST", OK + b"Content-Length: 0\r\n\r\n", b""),
    "chunks": ("POST", OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n0\r\n\r\n", b"first"),
    "chunks and trailers": (
        "POST",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n0\r\nT: x\r\n\r\n",
        b"first",
    ),
    "gzip": (
        "POST",
        OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s" % (len(ZIPPED), ZIPPED),
        b"first",
    ),
    "204": ("POST", b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "204 with a length": ("POST", b"HTTP/1.1 204 No Content\r\nContent-Length: 69\r\n\r\n", b""),
    "304": ("POST", b"HTTP/1.1 304 Not Modified\r\n\r\n", b""),
    "304 with a length": ("POST", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 69\r\n\r\n", b""),
    "HEAD": ("HEAD", OK + b"Content-Length: 69\r\n\r\n", b""),
    "HEAD with chunks": ("HEAD", OK + b"Transfer-Encoding: chunked\r\n\r\n", b""),
    "an error": ("POST", b"HTTP/1.1 500 Error\r\nContent-Length: 5\r\n\r\nfirst", b"first"),
    "a 1xx before it": (
        "POST",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK + b"Content-Length: 5\r\n\r\nfirst",
        b"first",
    ),
}
STRAYS = {
    "a response": STOLEN,
    "half a response": STOLEN[:10],
    "a 1xx": b"HTTP/1.1 100 Continue\r\n\r\n",
    "a byte": b"x",
    "a line end": b"\r\n",
}


@pytest.fixture
def client():
    with transport_client() as made:
        yield made


@both
@pytest.mark.parametrize("when", ["with the response", "later"])
@pytest.mark.parametrize("stray", STRAYS)
@pytest.mark.parametrize("kind", RESPONSES)
def test_bytes_after_a_response_are_not_the_next_answer(client, kind, stray, when, tls):
    """The connection is closed, and the next upload gets its own answer on another one."""
    method, response, content = RESPONSES[kind]
    is_read, is_sent = threading.Event(), threading.Event()

    def script(connection: Connection) -> None:
        is_first = server.connections == 1
        connection.read_request()
        if not is_first:
            connection.respond(200, b"its own")
            return
        if when == "later":
            connection.send(response)
            assert is_read.wait(PATIENCE)
            connection.send(STRAYS[stray])
            is_sent.set()
        else:
            connection.send(response + STRAYS[stray])
        connection.wait_for_end()

    with Server(script, tls=tls) as server:
        assert upload(server.url, b"data", client=client, method=method).run().content == content
        is_read.set()
        if when == "later":
            assert is_sent.wait(PATIENCE)
        assert upload(server.url, b"data", client=client).run().content == b"its own"
        assert server.connections == 2


@both
@pytest.mark.parametrize("kind", RESPONSES)
def test_without_such_bytes_the_connection_is_used_again(client, kind, tls):
    """The counterpart: the same responses leave the connection usable."""
    method, response, content = RESPONSES[kind]

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.send(response)
        connection.serve(200, b"its own")

    with Server(script, tls=tls) as server:
        assert upload(server.url, b"data", client=client, method=method).run().content == content
        assert upload(server.url, b"data", client=client).run().content == b"its own"
        assert server.connections == 1


# TLS that is cut

UNTIL_THE_END: dict[str, tuple[bytes, bytes]] = {
    "some bytes": (OK + b"\r\nfirst", b"first"),
    "no bytes": (OK + b"\r\n", b""),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\n\r\nfirst", b"first"),
    "Connection: close": (OK + b"Connection: close\r\n\r\nfirst", b"first"),
    "gzip": (OK + b"Content-Encoding: gzip\r\n\r\n" + ZIPPED, b"first"),
    "an error": (b"HTTP/1.1 500 Error\r\n\r\nfirst", b"first"),
}
BROKEN = {
    "a length": OK + b"Content-Length: 6\r\n\r\nfirst",
    "chunks": OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n",
    "chunks and a last one without its end": OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n0\r\n",
    "a head": OK[:-2],
    "a head without its blank line": OK,
    "nothing": b"",
}


def saying(response: bytes, *, is_cut: bool) -> object:
    """A script that answers, and ends TLS with or without a close_notify."""

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.send(response)
        if is_cut:
            socket.socket.shutdown(connection.sock, socket.SHUT_WR)
        else:
            with contextlib.suppress(OSError):  # the client closes without an answer
                connection.sock.unwrap()
        connection.wait_for_end()

    return script


@pytest.mark.parametrize("kind", UNTIL_THE_END)
def test_a_cut_does_not_end_a_body_of_unknown_length(client, kind):
    """Only the server's close_notify ends such a body: an attacker may have cut the connection (RFC 8446, 6.1)."""
    response, content = UNTIL_THE_END[kind]
    with (
        Server(saying(response, is_cut=True), tls=True) as server,
        pytest.raises(httpx.ReadError, match="cut off"),
    ):
        upload(server.url, b"data", client=client).run()
    with Server(saying(response, is_cut=False), tls=True) as server:
        assert upload(server.url, b"data", client=client).run().content == content


@pytest.mark.parametrize("is_cut", [True, False], ids=["cut", "closed"])
@pytest.mark.parametrize("kind", RESPONSES)
def test_a_whole_response_is_whole_even_if_the_connection_is_cut_then(client, kind, is_cut):
    """A response that says where it ends needs no close_notify."""
    method, response, content = RESPONSES[kind]
    with Server(saying(response, is_cut=is_cut), tls=True) as server:
        assert upload(server.url, b"data", client=client, method=method).run().content == content


@pytest.mark.parametrize("is_cut", [True, False], ids=["cut", "closed"])
@pytest.mark.parametrize("kind", BROKEN)
def test_a_response_that_breaks_off_is_an_error(client, kind, is_cut):
    """No end of the connection makes half a response whole."""
    with Server(saying(BROKEN[kind], is_cut=is_cut), tls=True) as server, pytest.raises(httpx.ReadError):
        upload(server.url, b"data", client=client).run()
