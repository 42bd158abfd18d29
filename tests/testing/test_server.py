"""`ScriptedServer`: which script runs, what the test is told of it, and how it ends."""

from __future__ import annotations

import contextlib
import gc
import socket
import ssl
import threading
from functools import partial
from queue import SimpleQueue

import httpx
import pytest
from support.descriptors import descriptors
from support.recording_observer import observe
from support.scripted_server import PATIENCE, client_context, server_context
from support.threads import no_thread_left

from rxupload import Client, upload
from rxupload.testing import Connection, Head, ScriptedServer


async def asynchronous(_: object) -> None:
    """Stand for what would never be awaited."""


LARGE = bytes(64 << 20)  # more than the system's buffers hold


@contextlib.contextmanager
def talking_to(server: ScriptedServer):
    """A connection to a server."""
    with socket.create_connection((server.host, server.port), timeout=PATIENCE) as sock:
        yield sock


def receive_all(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(65536), b""))


class TestScripts:
    def test_each_connection_gets_the_next_script_and_the_last_one_stays(self):
        """Each connection gets the next script, and the last script serves all that follow."""
        with ScriptedServer(
            503, lambda connection: connection.serve(409, b"", "Connection: close"), 201
        ) as server:
            statuses = [upload(server.url, b"data").run().status_code for _ in range(4)]
        assert statuses == [503, 409, 201, 201]
        assert server.connections == 4

    def test_a_status_reads_the_whole_body_first(self):
        """A status reads the whole body before it answers, so every byte has gone."""
        with ScriptedServer(400) as server:
            observed, _ = observe(upload(server.url, LARGE[: 8 << 20]))
            assert observed.wait().response.status_code == 400
        assert observed.progress[-1].percent == 100

    @pytest.mark.parametrize(
        ("scripts", "error", "text"),
        [
            ((), TypeError, r"scripts: .*ScriptedServer\(200\)"),
            ((asynchronous,), TypeError, "scripts: an asynchronous function"),
            (("200",), TypeError, "scripts: .* got str"),
            ((True,), TypeError, "scripts: .* got bool"),
            ((100,), ValueError, "scripts: .* got 100"),
            ((600,), ValueError, "scripts: .* got 600"),
        ],
    )
    def test_wrong_scripts_are_refused_before_it_listens(self, scripts, error, text):
        """Wrong scripts are refused when the server is made; nothing is open then."""
        with pytest.raises(error, match=text):
            ScriptedServer(*scripts)

    @pytest.mark.parametrize(
        ("argument", "value"), [("tls", True), ("receive_buffer", "64"), ("receive_buffer", True)]
    )
    def test_wrong_arguments_are_refused_before_it_listens(self, argument, value):
        """So are other arguments of a wrong type; a socket that stays open would be a warning, and so an error."""
        with pytest.raises(TypeError, match=f"{argument}: expected .* got {type(value).__name__}"):
            ScriptedServer(200, **{argument: value})
        gc.collect()

    def test_it_runs_for_one_block(self):
        """A second block, after the first or within it, says what to do."""
        with ScriptedServer(200) as server:
            with pytest.raises(RuntimeError, match="make another one"):
                server.__enter__()
            assert upload(server.url, b"data").run().status_code == 200
        with pytest.raises(RuntimeError, match="make another one"), server:
            pass

    def test_tls_is_the_caller_s_context(self):
        """With a context it speaks TLS, and its address says https and localhost."""
        with ScriptedServer(200, tls=server_context()) as server, Client(verify=client_context()) as client:
            assert server.url.startswith("https://localhost:")
            assert upload(server.url, b"data", client=client).run().status_code == 200


class TestConnections:
    def test_a_head_has_its_parts(self):
        """A head is the bytes that came, with the method, the target, and the headers in any case."""
        head = Head(b"PUT /a?b=c HTTP/1.1\r\nHost: here\r\nX-Name:  caf\xe9 \r\nx-name: other\r\n\r\n")
        assert (head.method, head.target) == ("PUT", "/a?b=c")
        assert head.header("HOST") == "here"
        assert head.header("x-Name") == "caf\xe9"
        assert head.header("none") is None
        assert head.header("PUT /a?b=c HTTP/1.1\r\nhost") is None

    def test_an_empty_head_has_empty_parts(self):
        """After the client has closed, the head is empty, and so are its parts."""
        heads = []
        script = lambda connection: heads.append(connection.read_head())  # noqa: E731
        with ScriptedServer(script) as server, talking_to(server) as sock:
            sock.shutdown(socket.SHUT_WR)
            assert receive_all(sock) == b""
        assert heads == [b""]
        assert (heads[0].method, heads[0].target, heads[0].header("host")) == ("", "", None)

    @pytest.mark.parametrize(
        ("headers", "sent", "body"),
        [
            ("Content-Length: 5", b"hello", b"hello"),
            ("Content-Length: 0", b"", b""),
            ("X-No: body", b"", b""),
            (
                "Transfer-Encoding: chunked",
                b"5;x=y\r\nhello\r\nA\r\n world\r\n!!\r\n0\r\n\r\n",
                b"hello world\r\n!!",
            ),
            ("Transfer-Encoding: chunked", b"1\r\na\r\n0\r\nTrailer: 1\r\nOther: 2\r\n\r\n", b"a"),
        ],
    )
    def test_a_body_ends_where_its_framing_says(self, headers, sent, body):
        """A body is read to its end and no further, so that the next request on the connection is whole."""
        bodies = []

        def script(connection: Connection) -> None:
            bodies.extend(
                [connection.serve(), connection.received, connection.serve(), connection.head.target]
            )

        request = f"POST / HTTP/1.1\r\n{headers}\r\n\r\n".encode() + sent
        with ScriptedServer(script) as server, talking_to(server) as sock:
            sock.sendall(request + b"GET /next HTTP/1.1\r\n\r\n")
            assert receive_all(sock).count(b"HTTP/1.1 200") == 2
        assert bodies == [body, len(body), b"", "/next"]

    def test_reading_stops_at_the_end_of_the_body(self):
        """`read` counts what it reads, stops at the end of the body, and leaves the rest to `read_body`."""
        log = []

        def script(connection: Connection) -> None:
            connection.read_head()
            log.extend([connection.read(3), connection.received, connection.read_body()])
            log.extend([connection.received, connection.read(1), connection.read_head().target])

        with ScriptedServer(script) as server, talking_to(server) as sock:
            sock.sendall(b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhelloGET /next HTTP/1.1\r\n\r\n")
            receive_all(sock)
        assert log == [3, 3, b"lo", 5, 0, "/next"]

    @pytest.mark.parametrize(
        ("answer", "text"),
        [
            ((200, "stored"), "body: expected bytes, got str; call .encode() on it"),
            ((200, None), "body: expected bytes, got NoneType"),
            ((200, {"a": 1}), "body: expected bytes, got dict"),
            ((200, b"", {"ETag": "x"}), 'headers: expected whole lines, such as "Retry-After: 1", got dict'),
            (
                (200, b"", "ETag: x", b"A: b"),
                'headers: expected whole lines, such as "Retry-After: 1", got bytes',
            ),
            (("200",), "status: expected an int, such as 200, got str"),
            ((b"stored",), "status: expected an int, such as 200, got bytes"),
            ((True,), "status: expected an int, such as 200, got bool"),
        ],
        ids=str,
    )
    def test_wrong_arguments_of_an_answer_are_named(self, answer, text):
        """`respond` and `serve` name the argument, and send and read nothing."""
        server_side, client_side = socket.socketpair()
        with server_side, client_side:
            connection = Connection(server_side)
            for call in (connection.respond, connection.serve):
                with pytest.raises(TypeError) as caught:
                    call(*answer)
                assert str(caught.value) == text
            server_side.close()
            assert client_side.recv(1) == b""

    def test_what_is_sent_is_bytes(self):
        """`send` says what to do with a str."""
        server_side, client_side = socket.socketpair()
        with server_side, client_side, pytest.raises(TypeError) as caught:
            Connection(server_side).send("half")
        assert str(caught.value) == "data: expected bytes, got str; call .encode() on it"

    @pytest.mark.parametrize("wait", [Connection.wait_for_end, Connection.wait_for_reset])
    def test_a_wait_for_a_client_that_stays_ends_by_itself(self, wait, monkeypatch):
        """A wait for a client that neither sends nor leaves ends with TimeoutError, and the test gets it."""
        monkeypatch.setattr("rxupload.testing.connection.PATIENCE", 0.05)

        def script(connection: Connection) -> None:
            connection.sock.settimeout(0.05)
            wait(connection)

        with pytest.raises(TimeoutError), ScriptedServer(script) as server, talking_to(server) as sock:
            assert receive_all(sock) == b""


class TestErrors:
    def test_what_a_script_raises_is_raised_at_the_end_of_the_block(self):
        """What a script raises is raised at the end of the block, with the script's line in its traceback."""

        def script(connection: Connection) -> None:
            assert connection.serve() == b"other"

        with pytest.raises(AssertionError) as caught, ScriptedServer(script) as server:
            upload(server.url, b"data").run()
        assert [error for error in server.errors if error is caught.value]
        assert caught.traceback[-1].name == "script"

    def test_several_errors_come_as_a_group(self):
        """Several scripts that raise make an ExceptionGroup."""

        def script(connection: Connection, number: int) -> None:
            connection.serve(200, b"", "Connection: close")
            raise KeyError(number)

        scripts = [partial(script, number=number) for number in (1, 2)]
        with pytest.raises(ExceptionGroup) as caught, ScriptedServer(*scripts) as server:
            for _ in range(2):
                upload(server.url, b"data").run()
        assert {repr(each) for each in caught.value.exceptions} == {"KeyError(1)", "KeyError(2)"}

    def test_an_error_of_the_block_stays_and_tells_of_the_script_s(self):
        """An error of the block is not replaced: the script's error is a note of it."""

        def script(connection: Connection) -> None:
            connection.read_head()
            raise KeyError("mine")

        with pytest.raises(httpx.TransportError) as caught, ScriptedServer(script) as server:
            upload(server.url, b"data").run()
        assert caught.value.__notes__ == [f"A script of the server at {server.url} raised KeyError('mine')"]

    def test_a_client_that_breaks_off_is_no_error_of_the_test(self):
        """A client that breaks off is in `errors`, and is not raised."""
        with ScriptedServer(Connection.serve) as server, talking_to(server) as sock:
            sock.sendall(b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhell")
            sock.shutdown(socket.SHUT_WR)
            assert receive_all(sock) == b""
        assert [type(each) for each in server.errors] == [ConnectionError]

    def test_a_client_that_refuses_the_certificate_is_no_error_of_the_test(self):
        """A client that refuses the certificate is in `errors`, and is not raised."""
        told: SimpleQueue[BaseException] = SimpleQueue()

        class Errors(list[BaseException]):
            def append(self, error: BaseException) -> None:
                super().append(error)
                told.put(error)

        with ScriptedServer(200, tls=server_context()) as server:
            server.errors = Errors()
            with pytest.raises(httpx.ConnectError):
                upload(server.url, b"data").run()
            assert isinstance(told.get(timeout=PATIENCE), ssl.SSLError | ConnectionError)

    def test_a_script_that_does_not_end_is_reported(self, monkeypatch):
        """A script that waits for something that does not come is reported, and does not hold up the test."""
        monkeypatch.setattr("rxupload.testing.server.PATIENCE", 0.05)
        held, threads = threading.Event(), []

        def script(connection: Connection) -> None:
            threads.append(threading.current_thread())
            connection.send(b"!")
            held.wait(PATIENCE)

        with pytest.raises(AssertionError, match="time limit"):  # noqa: SIM117
            with ScriptedServer(script) as server, talking_to(server) as sock:
                sock.recv(1)
        held.set()
        threads[0].join(PATIENCE)
        assert not threads[0].is_alive()


def idle(connection: Connection) -> None:
    connection.sock.sendall(b"!")
    connection.read_head()


def reading_a_body(connection: Connection) -> None:
    connection._length = 10
    connection.sock.sendall(b"!")
    connection.read_body()


def sending(connection: Connection) -> None:
    connection.sock.sendall(b"!")
    connection.send(LARGE)


def waiting_for_the_end(connection: Connection) -> None:
    connection.sock.sendall(b"!")
    connection.wait_for_end()
    connection.recv()


def waiting_for_a_reset(connection: Connection) -> None:
    connection.sock.sendall(b"!")
    connection.wait_for_reset()
    connection.recv()


def shaking_hands(connection: Connection) -> None:
    connection.sock.sendall(b"!")
    connection.recv(1)
    connection.start_tls(server_context())


WAITS = [idle, reading_a_body, sending, waiting_for_the_end, waiting_for_a_reset, shaking_hands]


class TestTheEnd:
    @pytest.mark.parametrize("wait", WAITS)
    def test_a_server_that_is_left_waits_for_nothing(self, wait):
        """The end of the block ends each wait for the client at once, by an error that is not a timeout's."""
        ended: SimpleQueue[BaseException] = SimpleQueue()

        def script(connection: Connection) -> None:
            try:
                wait(connection)
            except BaseException as error:
                ended.put(error)
                raise

        with no_thread_left(), ScriptedServer(script) as server:
            sock = socket.create_connection((server.host, server.port), timeout=PATIENCE)
            assert sock.recv(1) == b"!"
            if wait is shaking_hands:
                sock.sendall(b"x\x16\x03\x01\x02\x00")  # the start of a hello
        with sock:
            error = ended.get(timeout=PATIENCE)
        assert isinstance(error, OSError)
        assert not isinstance(error, TimeoutError)
        assert server.errors == []

    def test_nothing_stays_open(self):
        """After the block no socket and no thread of the server is left, and nothing listens on its port."""
        with no_thread_left():
            before = descriptors()
            with ScriptedServer(Connection.reset, 200, idle) as server, contextlib.ExitStack() as stack:
                for _ in range(5):
                    with contextlib.suppress(ConnectionError):
                        sock = stack.enter_context(talking_to(server))
                        sock.sendall(b"POST / HTTP/1.1\r\n\r\n")
                        sock.recv(1)
            assert descriptors() <= before
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((server.host, server.port), timeout=PATIENCE)

    def test_it_listens_only_in_the_block(self):
        """Outside of its block it refuses connections, so that a test without the `with` fails at once."""
        server = ScriptedServer(200)
        with pytest.raises(httpx.ConnectError):
            upload(server.url, b"data").run()
        with server:
            assert upload(server.url, b"data").run().status_code == 200
        with pytest.raises(httpx.ConnectError):
            upload(server.url, b"data").run()

    def test_no_connection_is_needed(self):
        """A server that nobody connects to ends as well."""
        with no_thread_left(), ScriptedServer(200) as server:
            pass
        assert server.connections == 0

    def test_a_script_that_fails_after_the_block_is_reported(self):
        """A script that fails after the end of the block, of its own accord, is reported."""

        def script(connection: Connection) -> None:
            connection.serve()
            connection.wait_for_end()
            assert connection.is_left
            raise KeyError("late")

        stack = contextlib.ExitStack()
        with pytest.raises(KeyError, match="late"), ScriptedServer(script) as server:
            sock = stack.enter_context(talking_to(server))
            sock.sendall(b"POST / HTTP/1.1\r\n\r\n")
            assert sock.recv(65536)
        stack.close()
