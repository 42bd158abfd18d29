"""Proxies as scripts for `scripted_server.Server`: HTTP (plain and CONNECT) and SOCKS 5."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading

from rxupload.testing import Connection


def http_proxy(connection: Connection) -> None:
    """Tunnel for CONNECT, and forward anything else unchanged."""
    head = connection.read_head()
    if not head:
        return
    method, target, _ = head.split(b" ", 2)
    if method == b"CONNECT":
        host, _, port = target.decode().rpartition(":")
        connection.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        _relay(connection, socket.create_connection((host, int(port))))
        return
    host, _, port = target.decode().split("/")[2].partition(":")
    upstream = socket.create_connection((host, int(port)))
    upstream.sendall(head + connection._buffered)
    _relay(connection, upstream)


def socks_proxy(connection: Connection) -> None:
    """A SOCKS 5 proxy (RFC 1928) without authentication."""
    connection.recv(2 + 255)
    connection.send(b"\x05\x00")
    _, _, _, kind = connection.recv(4)
    if kind == 1:  # IPv4; otherwise a name
        host = socket.inet_ntoa(connection.recv(4))
    else:
        length = connection.recv(1)[0]
        host = connection.recv(length).decode()
    port = int.from_bytes(connection.recv(2), "big")
    connection.send(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
    _relay(connection, socket.create_connection((host, port)))


def _relay(connection: Connection, upstream: socket.socket) -> None:
    def back() -> None:
        with contextlib.suppress(OSError):
            while data := upstream.recv(65536):
                connection.send(data)
        _end(connection.sock)

    with upstream:
        # A proxy that speaks TLS to its client uses one TLS object from two threads; OpenSSL allows one at a time.
        assert not isinstance(connection.sock, ssl.SSLSocket)
        thread = threading.Thread(target=back)
        thread.start()
        with contextlib.suppress(OSError):
            while data := connection.recv(65536):
                upstream.sendall(data)
        _end(upstream)
        thread.join()


def _end(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def tls_http_proxy(connection: Connection) -> None:
    """A proxy that uses TLS with its client: CONNECT, then a tunnel through one thread."""
    head = connection.read_head()
    host, _, port = head.split(b" ", 2)[1].decode().rpartition(":")
    connection.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
    import select

    with socket.create_connection((host, int(port))) as upstream:
        while True:
            ready = [connection.sock] if connection.sock.pending() else []
            ready = ready or select.select([connection.sock, upstream], [], [], 10)[0]
            for sock in ready:
                data = sock.recv(65536)
                if not data:
                    return
                (upstream if sock is connection.sock else connection.sock).sendall(data)
