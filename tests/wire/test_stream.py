"""The connection after an upgrade or a CONNECT, as httpx's extension `network_stream`."""

from __future__ import annotations

import httpx
import pytest
from support.scripted_server import Server, client_context

from rxupload import UploadTransport
from rxupload.testing import Connection

both = pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
UPGRADE = {"Connection": "Upgrade", "Upgrade": "echo"}


def echo(connection: Connection) -> None:
    """Upgrade, and send the first bytes of the new protocol with the head; then echo."""
    connection.read_head()
    connection.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\n\r\nhello")
    while data := connection.recv():
        connection.send(data)


@pytest.fixture
def client():
    with httpx.Client(transport=UploadTransport(verify=client_context())) as made:
        yield made


@both
def test_bytes_go_both_ways(client, tls):
    """Bytes that came with the head are read first; then reads and writes of any size follow."""
    with (
        Server(echo, tls=tls) as server,
        client.stream("GET", server.url, headers=UPGRADE) as response,
    ):
        assert response.status_code == 101
        stream = response.extensions["network_stream"]
        assert stream.read(3) + stream.read(100) == b"hello"
        stream.write(b"x" * 100_000)
        received = b""
        while len(received) < 100_000:
            received += stream.read(65536, timeout=10)
        assert received == b"x" * 100_000
        with pytest.raises(httpx.ReadTimeout, match=r"Nothing came for 0\.05 s"):
            stream.read(1, timeout=0.05)
        stream.close()
        server.errors.clear()  # the reset


@both
def test_a_read_after_the_servers_close_is_empty(client, tls):
    """When the server closes, a read returns no bytes."""

    def script(connection: Connection) -> None:
        connection.read_head()
        connection.send(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")

    with (
        Server(script, tls=tls) as server,
        client.stream("GET", server.url, headers=UPGRADE) as response,
    ):
        assert response.extensions["network_stream"].read(100) == b""


def test_a_blocked_write_is_a_write_timeout(client):
    """A write that blocks for its limit is a WriteTimeout."""

    def script(connection: Connection) -> None:
        connection.read_head()
        connection.send(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        connection.wait_for_reset()

    with (
        Server(script, receive_buffer=4096) as server,
        client.stream("GET", server.url, headers=UPGRADE) as response,
    ):
        stream = response.extensions["network_stream"]
        with pytest.raises(httpx.WriteTimeout, match=r"took no data for 0\.05 s"):
            stream.write(bytes(1 << 25), timeout=0.05)
        stream.close()


def test_extra_info_of_the_connection(client):
    """The addresses, the socket and the TLS object are available, as in httpx."""

    def script(connection: Connection) -> None:
        connection.read_head()
        connection.respond()

    with Server(script, tls=True) as server, client.stream("GET", server.url) as response:
        stream = response.extensions["network_stream"]
        assert stream.get_extra_info("server_addr")[1] == server.port
        assert stream.get_extra_info("client_addr")[0] == stream.get_extra_info("socket").getsockname()[0]
        assert stream.get_extra_info("ssl_object").version().startswith("TLS")
        assert stream.get_extra_info("something else") is None
