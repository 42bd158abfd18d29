"""How an upload ends when its server misbehaves, and that nothing is left over."""

from __future__ import annotations

import contextlib
import random
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reactivex import operators as ops
from support.abort_phases import LARGE, start, transport_client
from support.descriptors import descriptors
from support.fault_scenarios import (
    BEHAVIOURS,
    BUFFER,
    GARBAGE,
    SHORT,
    first_flight,
    has_no_active_connections,
    play,
    scenarios,
    small_client,
)
from support.scripted_proxies import socks_proxy
from support.scripted_server import PATIENCE, Server, server_context
from support.threads import no_thread_left

from rxupload import File, Progress, UploadTimeout, UploadTransport, upload
from rxupload._wait import READ, SystemClock
from rxupload._wire.connection import Connection as WireConnection
from rxupload.testing import Connection

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="the system's buffers and resets differ there"
)

both = pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
known_and_chunked = pytest.mark.parametrize("chunked", [False, True], ids=["known", "chunked"])


@pytest.fixture
def client():
    with small_client() as made:
        yield made


class Deaf:
    """Makes connections hear nothing more after LAST, until the server has broken them and a send has failed."""

    LAST = b"<last>"

    def __init__(self, monkeypatch) -> None:
        self.has_heard = threading.Event()
        self.is_broken = threading.Event()
        self.has_failed = False
        recv, send = WireConnection.recv, WireConnection.send

        def recv_until_last(connection: WireConnection, max_bytes: int) -> bytes:
            if self.has_heard.is_set() and not self.has_failed:
                assert self.is_broken.wait(PATIENCE)
                raise BlockingIOError
            data = recv(connection, max_bytes)
            if data.endswith(self.LAST):
                self.has_heard.set()
            return data

        def send_and_tell(connection: WireConnection, data: bytes | memoryview) -> int:
            try:
                return send(connection, data)
            except BlockingIOError:
                raise
            except OSError:
                self.has_failed = True
                raise

        monkeypatch.setattr(WireConnection, "recv", recv_until_last)
        monkeypatch.setattr(WireConnection, "send", send_and_tell)


@pytest.fixture
def deaf(monkeypatch):
    return Deaf(monkeypatch)


@pytest.mark.parametrize(("says", "then"), BEHAVIOURS)
class TestAnyServer:
    @settings(max_examples=8)
    @given(data=st.data())
    def test_there_is_one_right_end(self, says, then, data):
        """Whatever the server does and whenever the abort comes, there is at most one end, and it is right."""
        play(data.draw(scenarios(says, then)))

    @pytest.mark.slow
    @settings(max_examples=150)
    @given(data=st.data())
    def test_there_is_one_right_end_many_more_times(self, says, then, data):
        """The same with many more servers and moments."""
        play(data.draw(scenarios(says, then)))


class TestConnecting:
    def test_a_refused_connection_is_a_connect_error(self, client):
        """A refused connection is a ConnectError that names the address."""
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{unused.getsockname()[1]}"
            with pytest.raises(httpx.ConnectError, match=rf"{address}: Connection refused"):
                upload(f"http://{address}/", b"x", client=client).run()

    @pytest.mark.parametrize("how", ["closed", "reset", "garbage", "cut short"])
    def test_a_failed_handshake_is_a_connect_error(self, client, how):
        """A TLS handshake that breaks off or meets no TLS is a ConnectError that says so."""

        def script(connection: Connection) -> None:
            hello = connection.recv()
            if how == "reset":
                connection.reset()
            elif how == "garbage":
                connection.send(b"HTTP/1.0 400 Bad Request\r\n\r\n")
            elif how == "cut short":
                connection.send(first_flight(hello)[:100])

        with Server(script) as server, pytest.raises(httpx.ConnectError, match=r"TLS with localhost:\d+: "):
            upload(f"https://localhost:{server.port}/", b"x", client=client).run()

    @pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.6\r\n"])
    def test_a_port_without_tls_is_named_with_what_to_try(self, client, answer):
        """Where the answer is no TLS, the error has the port, and the address of plain http."""

        def script(connection: Connection) -> None:
            connection.recv()
            connection.send(answer)

        with Server(script) as server, pytest.raises(httpx.ConnectError) as caught:
            upload(f"https://localhost:{server.port}/x?secret", b"x", client=client).run()
        assert str(caught.value).endswith(f"may be one for plain http: http://localhost:{server.port}/")

    def test_an_untrusted_certificate_is_a_connect_error(self):
        """An untrusted certificate is a ConnectError that says why, and the server gets the alert."""
        alerts: SimpleQueue[str] = SimpleQueue()

        def script(connection: Connection) -> None:
            try:
                connection.start_tls(server_context())
            except OSError as error:
                alerts.put(str(error))

        with Server(script) as server, httpx.Client(transport=UploadTransport()) as client:
            with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
                upload(f"https://localhost:{server.port}/", b"x", client=client).run()
            assert "UNKNOWN_CA" in alerts.get(timeout=PATIENCE)

    def test_an_unanswered_handshake_is_a_connect_timeout(self, client):
        """A TLS handshake that the server does not answer is a ConnectTimeout that says so."""
        client.timeout = httpx.Timeout(None, connect=SHORT)
        with (
            Server(Connection.wait_for_end) as server,
            pytest.raises(httpx.ConnectTimeout, match=rf"No TLS handshake with localhost for {SHORT} s"),
        ):
            upload(f"https://localhost:{server.port}/", b"x", client=client).run()


class TestBroken:
    @both
    @known_and_chunked
    def test_a_reset_during_the_body_is_a_network_error(self, client, tls, chunked):
        """A reset during the body is a ReadError or a WriteError, depending on what the client does at the time."""

        def script(connection: Connection) -> None:
            connection.read_head()
            connection.read(1 << 20)
            connection.reset()

        file = (lambda: iter([LARGE])) if chunked else LARGE
        with Server(script, tls=tls) as server, pytest.raises((httpx.ReadError, httpx.WriteError)):
            upload(server.url, file, client=client).run()

    @both
    def test_a_close_before_the_answer_is_a_read_error(self, client, tls):
        """A server that takes the body and closes is a ReadError that says so."""
        with (
            Server(lambda connection: connection.read_request(), tls=tls) as server,
            pytest.raises(httpx.ReadError, match="The server closed the connection before it answered"),
        ):
            upload(server.url, b"x", client=client).run()

    @both
    @pytest.mark.parametrize("framing", ["Content-Length: 100", "Transfer-Encoding: chunked"])
    def test_a_response_cut_short_is_a_read_error(self, client, tls, framing):
        """A response that breaks off is a ReadError, whatever its framing."""

        def script(connection: Connection) -> None:
            connection.read_request()
            connection.send(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n5\r\nhello\r\n".encode())

        with (
            Server(script, tls=tls) as server,
            pytest.raises(httpx.ReadError, match="closed the connection before the response was whole"),
        ):
            upload(server.url, b"x", client=client).run()

    def test_a_reset_noticed_by_a_send_is_a_read_error(self, client, deaf):
        """A reset does not complete a body of unknown length, even if a send noticed the reset first."""

        def script(connection: Connection) -> None:
            connection.read_head()
            connection.read(1)
            connection.send(b"HTTP/1.1 200 Status\r\n\r\nhalf" + deaf.LAST)
            assert deaf.has_heard.wait(PATIENCE)
            connection.reset()
            deaf.is_broken.set()

        with Server(script) as server, pytest.raises(httpx.ReadError, match="The response was cut off"):
            upload(server.url, bytes(8 << 20), client=client).run()
        assert deaf.has_failed

    def test_a_close_noticed_by_a_send_completes_the_response(self, client, deaf):
        """A proper close completes the body, even if the rest of the upload is then refused."""

        def script(connection: Connection) -> None:
            connection.read_head()
            connection.read(1)
            connection.send(b"HTTP/1.1 200 Status\r\n\r\nall of it" + deaf.LAST)
            connection.sock.shutdown(socket.SHUT_WR)
            assert deaf.has_heard.wait(PATIENCE)
            connection.reset()
            deaf.is_broken.set()

        with Server(script) as server:
            response = upload(server.url, bytes(8 << 20), client=client).run()
        assert response.content == b"all of it" + deaf.LAST
        assert deaf.has_failed

    @pytest.mark.parametrize("file", [b"x", LARGE], ids=["small", "large"])
    @pytest.mark.parametrize("garbage", GARBAGE)
    def test_bytes_that_are_not_http_are_a_protocol_error(self, client, file, garbage):
        """Bytes that are not HTTP are a RemoteProtocolError at once, even without a line end or during the body."""

        def script(connection: Connection) -> None:
            connection.read_head()
            connection.send(garbage)
            connection.wait_for_reset()

        with Server(script) as server, pytest.raises(httpx.RemoteProtocolError):
            upload(server.url, file, client=client).run()

    @pytest.mark.parametrize("file", [b"x", LARGE], ids=["small", "large"])
    def test_an_endless_head_is_a_protocol_error(self, client, file):
        """A head without an end is a RemoteProtocolError, even during the body."""

        def script(connection: Connection) -> None:
            connection.read_head()
            connection.send(b"HTTP/1.1 102 Processing\r\nX: ")
            with contextlib.suppress(OSError):
                while True:
                    connection.send(bytes(BUFFER))

        with Server(script, receive_buffer=BUFFER) as server, pytest.raises(httpx.RemoteProtocolError):
            upload(server.url, file, client=client).run()

    @both
    def test_closing_the_client_ends_its_uploads(self, client, tls):
        """Closing the client ends its uploads with a network error."""
        begun = threading.Event()

        def script(connection: Connection) -> None:
            connection.read_head()
            begun.set()
            connection.wait_for_reset()

        with Server(script, tls=tls) as server:
            running = start(upload(server.url, LARGE, client=client))
            assert begun.wait(PATIENCE)
            client.close()
            running.join()
        assert isinstance(running.observed.error, (httpx.ReadError, httpx.WriteError))


class TestLimits:
    @both
    def test_a_stalled_send_is_a_write_timeout(self, client, tls):
        """A server that takes no data is a WriteTimeout with the time and the bytes sent; the server sees a reset."""
        client.timeout = httpx.Timeout(None, write=SHORT)
        is_reset = threading.Event()

        def script(connection: Connection) -> None:
            connection.read_head()
            connection.wait_for_reset()
            is_reset.set()

        with Server(script, tls=tls, receive_buffer=BUFFER) as server:
            running = start(upload(server.url, LARGE, client=client))
            running.join()
            assert is_reset.wait(PATIENCE)
        last = running.observed.progress[-1]
        message = (
            f"The server took no data for {SHORT} s; {last.sent} of {last.total} bytes of the body had gone"
        )
        assert isinstance(running.observed.error, httpx.WriteTimeout)
        assert str(running.observed.error) == message
        assert 0 < last.sent < len(LARGE)

    @both
    def test_the_write_limit_continues_after_the_last_write(self, client, tls):
        """The write limit runs on while the system holds bytes that the server has not taken."""
        client.timeout = httpx.Timeout(None, write=SHORT, read=PATIENCE)
        with (
            held_by_the_system(tls=tls) as (url, file, _, _),
            pytest.raises(httpx.WriteTimeout, match=rf"took no data for {SHORT} s; \d+ of \d+ bytes"),
        ):
            upload(url, file, client=client).run()

    @both
    def test_the_read_limit_starts_when_the_body_has_arrived(self, client, tls):
        """While the system holds some of the body, the read limit does not run."""
        client.timeout = httpx.Timeout(None, write=PATIENCE, read=SHORT)
        with held_by_the_system(tls=tls) as (url, file, is_written, may_read):
            running = start(upload(url, file, client=client))
            assert is_written.wait(PATIENCE)
            assert not running.observed._ended.wait(3 * SHORT)
            assert running.observed.progress[-1].fraction < 1
            may_read.set()
            running.join()
        assert isinstance(running.observed.error, httpx.ReadTimeout)
        assert running.observed.progress[-1].fraction == 1

    @both
    def test_a_missing_response_is_a_read_timeout(self, client, tls):
        """A server that takes the body and does not answer is a ReadTimeout that gives the time."""
        client.timeout = httpx.Timeout(None, read=SHORT)

        def script(connection: Connection) -> None:
            connection.read_request()
            connection.wait_for_end()

        with Server(script, tls=tls) as server:
            running = start(upload(server.url, b"x", client=client))
            running.join()
        total = running.observed.progress[-1].total
        assert running.observed.progress[-1] == Progress(total, total)
        assert isinstance(running.observed.error, httpx.ReadTimeout)
        message = f"No response for {SHORT} s; {total} of {total} bytes of the body had gone"
        assert str(running.observed.error) == message

    @both
    def test_a_slow_but_steady_reader_is_no_stall(self, client, tls):
        """The write limit is for a standstill: a slow reader may take longer in all."""
        limit = 1.5  # seconds; far more than a pause between two reads, also on a slow machine
        client.timeout = httpx.Timeout(None, write=limit)
        pace = threading.Event()

        def script(connection: Connection) -> None:
            head = connection.read_head()
            for _ in range(20):
                connection.read(BUFFER)
                pace.wait(limit / 15)
            connection.read(int(re.search(rb"Content-Length: (\d+)", head)[1]) - connection.received)
            connection.respond()

        with Server(script, tls=tls, receive_buffer=BUFFER) as server:
            began = time.monotonic()
            assert upload(server.url, bytes(21 * BUFFER), client=client).run().status_code == 200
        assert time.monotonic() - began > limit

    @both
    def test_a_flood_of_informational_answers_ends_the_upload(self, client, tls):
        """A server that sends 1xx for ever and reads nothing is no HTTP server."""

        def script(connection: Connection) -> None:
            connection.read_head()
            while True:
                connection.send(1000 * b"HTTP/1.1 102 Processing\r\n\r\n")

        with Server(script, tls=tls, receive_buffer=BUFFER) as server:
            running = start(upload(server.url, LARGE, client=client))
            running.join()
            assert isinstance(running.observed.error, httpx.RemoteProtocolError)
            server.errors.clear()  # the reset

    @both
    def test_slow_informational_answers_do_not_stop_the_limits(self, client, tls):
        """The limits hold against a server that sends a 1xx now and then, and reads nothing."""
        is_over = threading.Event()

        def script(connection: Connection) -> None:
            connection.read_head()
            while not is_over.wait(SHORT / 10):
                connection.send(b"HTTP/1.1 102 Processing\r\n\r\n")

        with Server(script, tls=tls, receive_buffer=BUFFER) as server:
            running = start(upload(server.url, LARGE, client=client, timeout=SHORT))
            running.join()
            assert isinstance(running.observed.error, UploadTimeout)
            client.timeout = httpx.Timeout(None, write=SHORT)
            running = start(upload(server.url, LARGE, client=client))
            running.join()
            assert isinstance(running.observed.error, httpx.WriteTimeout)
            is_over.set()
            server.errors.clear()  # the resets

    def test_a_wait_is_never_negative(self, monkeypatch):
        """A wait with a past deadline returns at once; poll(-1) would wait for ever."""
        seconds: list[float] = []
        monkeypatch.setattr("rxupload._wait._poll", lambda watched, wait: seconds.append(wait) or [])
        with socket.socket() as sock:
            assert SystemClock.wait(time.monotonic() - 0.01, [(sock, READ)]) == []
        assert seconds == [0]


@contextlib.contextmanager
def held_by_the_system(*, tls: bool) -> Iterator[tuple[str, File, threading.Event, threading.Event]]:
    """A server that reads no body until it is told to and never answers, and a file that fits into the buffers.

    Yields:
        The server's URL, the file, the event that all of it was written, and the one that lets the server read. The
        last is set in the end.
    """
    is_written, may_read = threading.Event(), threading.Event()
    size = BUFFER

    def pieces() -> Iterator[bytes]:
        yield bytes(size)
        is_written.set()  # the next piece was asked for

    def script(connection: Connection) -> None:
        connection.read_head()
        assert is_written.wait(PATIENCE)
        assert may_read.wait(PATIENCE)
        with contextlib.suppress(OSError):
            connection.read_body()
            connection.wait_for_end()

    with Server(script, tls=tls, receive_buffer=BUFFER // 4) as server:
        try:
            yield server.url, File(pieces, size=size), is_written, may_read
        finally:
            may_read.set()


class TestEarlyAnswer:
    def test_bytes_of_a_socks_proxy_are_not_the_answer(self):
        """The bytes of a SOCKS proxy before the request are not the answer; the server's answer is still heard."""
        is_heard = threading.Event()

        def script(connection: Connection) -> None:
            connection.read_head()
            connection.respond(413)
            assert is_heard.wait(PATIENCE)

        with Server(script, receive_buffer=BUFFER) as server, Server(socks_proxy) as proxy:
            transport = UploadTransport(proxy=f"socks5://127.0.0.1:{proxy.port}")
            with httpx.Client(transport=transport, timeout=PATIENCE) as client:
                assert upload(server.url, LARGE, client=client).run().status_code == 413
            is_heard.set()


class TestReuse:
    @both
    def test_a_reset_after_the_last_look_fails_no_upload(self, client, tls, monkeypatch):
        """An upload survives a connection that was reset while idle, even after the last look at it."""
        is_reset = threading.Event()

        def script(connection: Connection) -> None:
            connection.serve()
            if not is_reset.is_set():
                connection.reset()
                is_reset.set()

        monkeypatch.setattr(WireConnection, "is_readable", lambda connection: False)
        with Server(script, tls=tls) as server:
            assert upload(server.url, b"x", client=client).run().status_code == 200
            assert is_reset.wait(PATIENCE)
            assert upload(server.url, b"x", client=client).run().status_code == 200
            assert server.connections == 2


class TestLeftOver:
    @pytest.mark.parametrize("count", [200, pytest.param(2000, marks=pytest.mark.slow)])
    def test_nothing_is_left_over(self, tmp_path, count):
        """After uploads with random aborts, no thread, file, socket or connection is left."""
        path = tmp_path / "file"
        path.write_bytes(bytes(1 << 20))
        upload_and_abort_half(path, 8)  # warm up: create what is created once
        before = descriptors()
        with no_thread_left():
            upload_and_abort_half(path, count)
        assert descriptors() <= before


def upload_and_abort_half(path: Path, count: int) -> None:
    """Run this many uploads, eight at a time, and abort half of them at random moments."""
    chance = random.Random(count)
    with Server(serve_by_path) as plain, Server(serve_by_path, tls=True) as tls, transport_client() as client:
        for _ in range(count // 8):
            urls = [chance.choice([plain, tls]).url for _ in range(8)]
            whole = [start(upload(url, path, client=client)) for url in urls[:4]]
            doomed = [
                start(upload(url + chance.choice(["", "stall", "silence"]), path, client=client))
                for url in urls[4:7]
            ]
            taking = ops.take(chance.randint(1, 5))  # disposes inside an item, on the upload's thread
            taken = start(upload(urls[7], path, client=client, progress_interval=0).pipe(taking))
            for running in doomed:
                running.observed._ended.wait(chance.uniform(0, 0.01))
                running.subscription.dispose()
            for running in [*whole, *doomed, taken]:
                running.join()
                assert not running.observed.faults
                assert running.observed.error is None
            assert [running.observed.response.status_code for running in whole] == 4 * [200]
            assert has_no_active_connections(client)
        assert all(isinstance(error, OSError) for error in plain.errors + tls.errors)  # aborted handshakes


def serve_by_path(connection: Connection) -> None:
    """Serve uploads; read nothing from /stall, and close /silence without an answer."""
    with contextlib.suppress(OSError):  # the aborts
        while head := connection.read_head():
            if head.startswith(b"POST /stall"):
                connection.wait_for_reset()
            connection.read_body()
            if head.startswith(b"POST /silence"):
                connection.wait_for_end()
            connection.respond()
