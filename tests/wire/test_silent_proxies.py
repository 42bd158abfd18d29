"""A proxy that does not answer, or not to the end, falls under the connect limit, whatever it sends meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable

import httpx
import pytest
from support.abort_phases import start
from support.fault_scenarios import SHORT
from support.scripted_server import PATIENCE, Server, client_context

import rxupload
from rxupload import UploadTimeout, upload
from rxupload.testing import Connection


def silent(*after: int) -> Callable[[Connection], None]:
    """Read this often, answer each time as SOCKS does, and then say nothing."""

    def script(connection: Connection) -> None:
        for _ in after:
            connection.recv()
            connection.send(b"\x05\x00")
        connection.wait_for_end()

    return script


def saying(data: bytes) -> Callable[[Connection], None]:
    """Say this, and then nothing."""

    def script(connection: Connection) -> None:
        connection.recv()
        connection.send(data)
        connection.wait_for_end()

    return script


def dripping(data: bytes, pace: float = SHORT / 20) -> Callable[[Connection], None]:
    """Say this again and again, slowly."""
    never = threading.Event()

    def script(connection: Connection) -> None:
        connection.recv()
        while not never.wait(pace):
            connection.send(data)

    return script


def flooding(data: bytes) -> Callable[[Connection], None]:
    """Say this again and again, as fast as possible."""

    def script(connection: Connection) -> None:
        connection.recv()
        while True:
            connection.send(data * (65536 // len(data)))

    return script


PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"
PROXIES: dict[str, tuple[str, Callable[[Connection], None]]] = {
    "SOCKS, no greeting": ("socks5", silent()),
    "SOCKS, half a greeting": ("socks5", saying(b"\x05")),
    "SOCKS, no answer": ("socks5", silent(1)),
    "SOCKS, half an answer": ("socks5", saying(b"\x05\x00\x05\x00\x00\x03\xff")),
    "SOCKS, a slow answer": ("socks5", dripping(b"\x05")),
    "CONNECT, no answer": ("http", silent()),
    "CONNECT, half a line": ("http", saying(b"HTTP/1.1 20")),
    "CONNECT, no blank line": ("http", saying(b"HTTP/1.1 200 OK\r\nHeader: x\r\n")),
    "CONNECT, slow headers": ("http", dripping(b"HTTP/1.1 ")),
    "CONNECT, slow 1xx": ("http", dripping(PROCESSING)),
    "CONNECT, 1xx without end": ("http", flooding(PROCESSING)),
    "CONNECT, 1xx and no answer": ("http", saying(PROCESSING)),
    "TLS, no answer": ("https", silent()),
    "TLS, half a record": ("https", saying(b"\x16\x03\x03\x40\x00")),
    "TLS, slow records": ("https", dripping(b"\x16\x03\x03\x00\x04\x00\x00\x00\x00")),
    "TLS, records without end": ("https", flooding(b"\x16\x03\x03\x00\x04\x00\x00\x00\x00")),
}


@pytest.mark.parametrize("end", ["connect", "whole", "dispose"])
@pytest.mark.parametrize("kind", PROXIES)
def test_the_connect_limit_ends_it(kind, end):
    """The connect limit, the limit of the upload and an abort end the wait for a proxy."""
    scheme, answer = PROXIES[kind]
    has_come = threading.Event()

    def script(connection: Connection) -> None:
        has_come.set()
        answer(connection)

    with Server(script) as server:
        timeout = httpx.Timeout(None, connect=SHORT if end == "connect" else None)
        with rxupload.Client(
            proxy=httpx.Proxy(f"{scheme}://127.0.0.1:{server.port}", ssl_context=client_context())
            if scheme == "https"
            else f"{scheme}://127.0.0.1:{server.port}",
            verify=client_context(),
            timeout=timeout,
        ) as client:
            whole = SHORT if end == "whole" else None
            running = start(upload("https://upload.test/", b"data", client=client, timeout=whole))
            if end == "dispose":
                assert has_come.wait(PATIENCE)
                running.subscription.dispose()
            running.join()
        server.errors.clear()
    error = running.observed.error
    refused = isinstance(error, httpx.ProxyError) and ("without end" in kind or "slow" in kind)
    if end == "dispose":
        assert error is None or refused
    else:
        assert refused or isinstance(error, httpx.ConnectTimeout if end == "connect" else UploadTimeout)
