"""A text that quotes a server stays short, however much the server sends."""

from __future__ import annotations

import logging

import httpx
import pytest
from support.scripted_server import Server, client_context

import rxupload
from rxupload import run, upload
from rxupload.operators import raise_for_status
from rxupload.testing import Connection

MUCH = b"1" * 60_000
MOST = 1500  # characters of a text

HEADS = {
    "a coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: %b\r\n\r\n" % MUCH,
    "a length": b"HTTP/1.1 200 OK\r\nContent-Length: %b\r\n\r\n" % MUCH,
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: %b\r\n\r\n" % MUCH,
    "a reason": b"HTTP/1.1 404 %b\r\nContent-Length: 0\r\n\r\n" % MUCH,
    "a scheme": b"HTTP/1.1 307 Moved\r\nContent-Length: 0\r\nLocation: x%b:y\r\n\r\n" % MUCH,
    "another origin": b"HTTP/1.1 307 Moved\r\nContent-Length: 0\r\nLocation: http://localhost/%b\r\n\r\n"
    % MUCH,
    "no status line": MUCH,
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_an_error_quotes_little_of_the_server(head, caplog):
    """The text of the error has at most a few lines, and so has what is logged."""
    caplog.set_level(logging.DEBUG, "rxupload")

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.send(head)
        connection.wait_for_end()

    with Server(script) as server, pytest.raises(Exception) as caught:
        run(upload(server.url, b"data", follow_redirects="same-origin", timeout=10).pipe(raise_for_status()))
    assert 10 < len(str(caught.value)) < MOST
    assert all(len(record.getMessage()) < MOST for record in caplog.records)


def test_a_proxy_is_quoted_as_little():
    """Neither does the reason of a proxy that refuses."""

    def script(connection: Connection) -> None:
        connection.read_head()
        connection.send(b"HTTP/1.1 502 %b\r\n\r\n" % MUCH)

    with (
        Server(script) as server,
        rxupload.Client(proxy=server.url, verify=client_context()) as client,
        pytest.raises(httpx.ProxyError) as caught,
    ):
        upload("https://localhost/", b"data", client=client).run()
    assert 10 < len(str(caught.value)) < MOST
