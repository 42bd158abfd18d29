"""A server that sends its response while it still reads the body blocks neither side."""

from __future__ import annotations

import hashlib

import httpx
import pytest
from support.fault_scenarios import BUFFER
from support.scripted_server import Server, header

from rxupload import upload
from rxupload.testing import Connection

LARGE = bytes(range(256)) * (64 << 12)  # 64 MiB
both = pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])


def echo(connection: Connection) -> None:
    """Send each piece of the body back before the next is read."""
    head = connection.read_head()
    left = int(header(head, b"content-length") or 0)
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % left)
    while left and (data := connection.recv(min(left, 65536))):
        left -= len(data)
        connection.send(data)


@both
@pytest.mark.parametrize("receive_buffer", [None, BUFFER], ids=["large buffers", "small buffers"])
class TestEcho:
    def test_an_upload_gets_a_response_as_long_as_its_body(self, client, tls, receive_buffer):
        """The response of an upload arrives complete, even when it is as long as the body."""
        client.timeout = httpx.Timeout(5.0)
        with Server(echo, tls=tls, receive_buffer=receive_buffer) as server:
            response = upload(server.url, LARGE, client=client, max_response_size=2 * len(LARGE)).run()
        start = response.content.index(b"\r\n\r\n") + 4
        assert same(response.content[start : start + len(LARGE)])

    def test_another_request_gets_a_response_as_long_as_its_body(self, client, tls, receive_buffer):
        """The same holds for a request that is not an upload."""
        client.timeout = httpx.Timeout(5.0)
        with Server(echo, tls=tls, receive_buffer=receive_buffer) as server:
            assert same(client.post(server.url, content=LARGE).content)


def same(content: bytes) -> bool:
    """Compare outside the assert, so that pytest does not print 64 MiB."""
    return hashlib.sha256(content).digest() == hashlib.sha256(LARGE).digest()
