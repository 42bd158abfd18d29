"""TLS over a fake socket: how much `send` reports as sent. And records without end, over a real one."""

from __future__ import annotations

import errno
import ssl
import threading
from itertools import repeat

import httpx
import pytest
from support.abort_phases import start
from support.fault_scenarios import SHORT, small_client
from support.scripted_server import PATIENCE, Server

from rxupload import UploadTimeout, upload
from rxupload._wire.tls import SLICE, TLS
from rxupload.testing import Connection


class FakeSocket:
    """Takes this many bytes at each send, then breaks or blocks."""

    def __init__(self, *takes: int | OSError) -> None:
        self.takes = list(takes)

    def send(self, data):
        takes = self.takes.pop(0)
        if isinstance(takes, OSError):
            raise takes
        return min(takes, len(data))


class FakeSSLObject:
    """Replaces an `ssl.SSLObject`, and encrypts nothing."""

    def __init__(self, outgoing: ssl.MemoryBIO) -> None:
        self._outgoing = outgoing

    def write(self, data):
        return self._outgoing.write(data)


def make(*takes: int | OSError) -> TLS:
    tls = TLS(FakeSocket(*takes), ssl.create_default_context(), "localhost")
    tls.object = FakeSSLObject(tls._outgoing)
    return tls


BROKEN = BrokenPipeError(errno.EPIPE, "Broken pipe")
BLOCKED = BlockingIOError(errno.EAGAIN, "would block")


@pytest.mark.parametrize("takes", [[SLICE], [100], [SLICE, 100]])
def test_a_break_during_a_send_is_raised_by_the_next(takes):
    """A partial send returns its count and the next send fails; otherwise the request could be sent twice."""
    tls = make(*takes, BROKEN, BROKEN)
    assert tls.send(bytes(3 * SLICE)) > 0
    with pytest.raises(BrokenPipeError):
        tls.send(b"")


def test_a_break_before_a_send_is_raised():
    """A send of no bytes fails, even if records of an earlier one went."""
    with pytest.raises(BrokenPipeError):
        make(BROKEN).send(b"x")
    tls = make(100, BLOCKED, SLICE, BROKEN)
    assert tls.send(bytes(SLICE)) == SLICE
    with pytest.raises(BrokenPipeError):
        tls.send(b"x")


def test_a_blocked_send_counts_encrypted_bytes():
    """Encrypted bytes count as sent; the part that the system has not taken is pending."""
    tls = make(SLICE, 100, BLOCKED, BLOCKED, SLICE)
    assert tls.send(bytes(3 * SLICE)) == 2 * SLICE
    assert tls.pending == SLICE - 100
    with pytest.raises(BlockingIOError):
        tls.send(b"")
    assert tls.send(b"") == 0
    assert tls.pending == 0


# Records without end, as plain text before the handshake

HELLO_REQUEST = b"\x16\x03\x03\x00\x04\x00\x00\x00\x00"  # OpenSSL skips it (RFC 5246, section 7.4.1.1)
RECORDS = {
    "hello requests": HELLO_REQUEST,
    "warnings": b"\x15\x03\x03\x00\x02\x01\x5a",
    "changes of the cipher": b"\x14\x03\x03\x00\x01\x01",
    "empty records": b"\x16\x03\x03\x00\x00",
    "application data": b"\x17\x03\x03\x00\x01x",
    "zeros": bytes(5),
    "a record of the greatest length": b"\x16\x03\x03\x40\x00" + bytes(0x4000),
    "a message of the greatest length": b"\x16\x03\x03\x40\x00\x02\xff\xff\xff" + bytes(0x3FFC),
    "HTTP": b"HTTP/1.1 200 OK\r\n\r\n",
    "half a record": b"\x16\x03\x03\x40\x00",
}


@pytest.mark.parametrize("records", RECORDS)
@pytest.mark.parametrize("end", ["connect", "whole", "dispose"])
def test_records_without_end_do_not_stop_the_limits(records, end):
    """The connect limit, the limit of the upload and an abort end a handshake, whatever the server sends."""
    going = threading.Event()

    def script(connection: Connection) -> None:
        connection.recv()
        going.set()
        if records == "half a record":
            connection.send(RECORDS[records])
            connection.wait_for_end()
        for data in repeat(RECORDS[records] * 1000):
            connection.send(data)

    with Server(script) as server, small_client() as client:
        client.timeout = httpx.Timeout(None, connect=SHORT if end == "connect" else None)
        url = f"https://localhost:{server.port}/"
        running = start(upload(url, b"data", client=client, timeout=SHORT if end == "whole" else None))
        if end == "dispose":
            assert going.wait(PATIENCE)
            running.subscription.dispose()
        running.join()
        server.errors.clear()
    if end == "dispose":
        assert not running.observed.ended or isinstance(running.observed.error, httpx.ConnectError)
    else:
        limit = httpx.ConnectTimeout if end == "connect" else UploadTimeout
        assert isinstance(running.observed.error, limit | httpx.ConnectError)


def test_an_action_reads_a_bounded_number_of_times():
    """One step of the handshake ends although there is always something to read."""

    class Endless(FakeSocket):
        reads = 0

        def recv(self, size):
            self.reads += 1
            assert self.reads < 100
            return HELLO_REQUEST * 1000

    sock = Endless(*[1 << 20] * 100)
    tls = TLS(sock, ssl.create_default_context(), "localhost")
    for _ in range(3):
        sock.reads = 0
        assert not tls.shake_hands()


def test_a_flood_of_session_tickets_does_not_stop_the_limits():
    """After the handshake, a server may send tickets as long as it likes; the limits hold all the same."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 1_000_000

    def script(connection: Connection) -> None:
        from support.scripted_server import authority

        authority().issue_cert("localhost").configure_cert(context)
        connection.sock = context.wrap_socket(connection.sock, server_side=True)

    with Server(script) as server, small_client() as client:
        running = start(upload(f"https://localhost:{server.port}/", b"data", client=client, timeout=SHORT))
        running.join()
        server.errors.clear()
    assert isinstance(running.observed.error, UploadTimeout | httpx.TransportError)
