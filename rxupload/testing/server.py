"""`ScriptedServer`, a server on loopback that does what a script says."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Self, TypeAlias

from rxupload._arguments import is_async, wrong_type

from .connection import PATIENCE, Connection

Script: TypeAlias = Callable[[Connection], object]


class ScriptedServer:
    """A server on a free port of 127.0.0.1 that does what your scripts say, over real sockets, in a `with` block.

    The first connection gets the first script, the next one the next, and the last script serves all that follow. A
    status in place of a script reads one whole request, answers, and closes the connection. So this fails once::

        import rxupload
        from rxupload import upload
        from rxupload.operators import retry_backoff
        from rxupload.testing import ScriptedServer

        with ScriptedServer(503, 200) as server:
            response = rxupload.run(upload(server.url, b"data").pipe(retry_backoff(wait_initial=0.01, wait_jitter=0)))
        assert response.status_code == 200
        assert server.connections == 2

    A script is a function that gets the `Connection`, which is closed when it returns. This one resets it when it has
    half of the body, and the next one takes all of it::

        import httpx
        from rxupload import upload
        from rxupload.testing import ScriptedServer

        def breaks(connection):
            length = int(connection.read_head().header("content-length"))
            connection.read(length // 2)
            connection.reset()

        with ScriptedServer(breaks, 200) as server:
            try:
                upload(server.url, bytes(1_000_000)).run()
            except httpx.TransportError as error:
                print("lost:", error)
            assert upload(server.url, bytes(1_000_000)).run().status_code == 200

    This one keeps the bodies that it gets::

        bodies = []

        def keeps(connection):
            bodies.append(connection.read_request())
            connection.respond(201, b"", "Connection: close")

        with ScriptedServer(keeps) as server:
            upload(server.url, b"data", raw=True).run()
        assert bodies == [b"data"]

    A server that answers before it has read the body reads on afterwards, because the answer could be lost otherwise::

        def refuses(connection):
            connection.read_head()
            connection.respond(413, b"too large", "Connection: close")
            connection.wait_for_end()

        with ScriptedServer(refuses) as server:
            assert upload(server.url, bytes(50_000_000)).run().text == "too large"

    A server that does not read is one that waits without it. One that reads slowly waits in between::

        import time

        def reads_nothing(connection):
            connection.read_head()
            connection.wait_for_reset()

        def reads_slowly(connection):
            connection.read_head()
            while connection.read(100_000):
                time.sleep(0.01)
            connection.respond(200, b"at last", "Connection: close")

        with ScriptedServer(reads_nothing, reads_slowly, receive_buffer=65536) as server:
            try:
                upload(server.url, bytes(50_000_000), timeout=0.5).run()
            except httpx.TimeoutException as error:
                print("gave up:", error)
            assert upload(server.url, bytes(1_000_000)).run().text == "at last"

    It listens from the start of the block, and each script has a thread of its own. The end of the block ends all of it
    at once: it cuts the connections off, so that a script's wait for its client raises ConnectionAbortedError, and
    joins the threads. A script that waits for anything else, such as an event, should have a time limit of its own.

    Args:
        *scripts: A function of one `Connection`, or a status from 200 to 599, for each connection in the order in which
            they come.
        tls: The context for TLS from the first byte, with the certificate of the server; None for none.
        receive_buffer: Bytes that the system keeps for a connection before the client has to wait; None for its
            default, which grows to some MB. Linux doubles the number.

    Attributes:
        url: Its address, such as `http://127.0.0.1:54321/`. With TLS the host is `localhost`.
        host: The host in it.
        port: The port in it.
        connections: How many connections have come.
        errors: What the scripts have raised so far. A test that expects an error removes it.

    Raises:
        TypeError: There is no script, or one is neither an ordinary function nor an int; or another argument has the
            wrong type.
        ValueError: A status is not from 200 to 599.
        RuntimeError: At the start of a second block.
        BaseException: At the end of the block: what a script raised. Several come as an ExceptionGroup. If the block
            itself raises, they are added to its error as notes, and so is each request after which a script has ended
            without `respond()` or `send()`. ConnectionError and `ssl.SSLError` are not raised, only listed in
            `errors`: a client may break off at any moment. A script that has not ended 10 s after the block is an
            AssertionError.
    """

    def __init__(
        self,
        *scripts: Script | int,
        tls: ssl.SSLContext | None = None,
        receive_buffer: int | None = None,
    ) -> None:
        if not scripts:
            raise TypeError("scripts: expected at least one function or status, as in ScriptedServer(200)")
        self._scripts = [_script(each) for each in scripts]
        if tls is not None and not hasattr(tls, "wrap_socket"):
            raise wrong_type("tls", "an ssl.SSLContext or None", tls)
        if receive_buffer is not None and (
            isinstance(receive_buffer, bool) or not isinstance(receive_buffer, int)
        ):
            raise wrong_type("receive_buffer", "an int, a number of bytes, or None", receive_buffer)
        self._tls = tls
        self._listener = socket.socket()  # which refuses connections until the block begins
        self._listener.bind(("127.0.0.1", 0))
        if receive_buffer is not None:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.port: int = self._listener.getsockname()[1]
        self.host = "127.0.0.1" if tls is None else "localhost"
        self.url = f"{'http' if tls is None else 'https'}://{self.host}:{self.port}/"
        self.connections = 0
        self.errors: list[BaseException] = []
        self._unanswered: list[str] = []
        self._open: set[Connection] = set()
        self._lock = threading.Lock()
        self._is_closing = False
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, name=f"{self.url} accepts", daemon=True)

    def __enter__(self) -> Self:
        if self._accepting.ident is not None:
            raise RuntimeError("A ScriptedServer runs for one `with` block; make another one")
        self._listener.listen()
        self._accepting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_closing = True
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE).close()  # ends accept()
        self._accepting.join()
        self._listener.close()
        with self._lock:
            for connection in self._open:
                connection.leave()
        until = time.monotonic() + PATIENCE
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
            if thread.is_alive():
                message = (
                    f"A script has not ended {PATIENCE:g} s after its server: give its waits a time limit"
                )
                self.errors.append(AssertionError(message))
        self._report(error)

    def _report(self, of_the_block: BaseException | None) -> None:
        found = [each for each in self.errors if not isinstance(each, ConnectionError | ssl.SSLError)]
        if of_the_block is not None:
            for text in dict.fromkeys([*(f"raised {each!r}" for each in found), *self._unanswered]):
                of_the_block.add_note(f"A script of the server at {self.url} {text}")
        elif len(found) == 1:
            raise found[0]
        elif found:
            raise BaseExceptionGroup(f"Scripts of the server at {self.url} raised", found)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError as error:  # no descriptor is left
                self.errors.append(error)
                return
            if self._is_closing:
                sock.close()
                return
            script = self._scripts[min(self.connections, len(self._scripts) - 1)]
            self.connections += 1
            connection = Connection(sock)
            with self._lock:
                self._open.add(connection)
            name = f"{self.url} connection {self.connections}"
            thread = threading.Thread(target=self._run, args=(connection, script), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self, connection: Connection, script: Script) -> None:
        try:
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sock.settimeout(PATIENCE)
            if self._tls is not None:
                connection.start_tls(self._tls)
            script(connection)
            if connection.is_owed:
                head = connection.head
                request = f" for {head.method} {head.target}" if head else ", and has read no request"
                self._unanswered.append(f"ended without respond() or send(){request}")
        except BaseException as error:  # noqa: BLE001 - the test gets it
            if not (connection.is_left and isinstance(error, OSError)):
                self.errors.append(error)
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.sock.close()


def _script(script: Script | int) -> Script:
    if isinstance(script, int) and not isinstance(script, bool):
        return partial(_answer, status=checked_status("scripts", script))
    if not callable(script):
        raise TypeError(f"scripts: expected a function or a status, got {type(script).__name__}")
    if is_async(script):
        raise TypeError(
            "scripts: an asynchronous function cannot be used; each script has a thread, and may block"
        )
    return script


def _answer(connection: Connection, status: int) -> None:
    connection.serve(status, b"", "Connection: close")


def checked_status(name: str, status: int) -> int:
    """Return the status.

    Raises:
        ValueError: It cannot be the last answer to a request; the message has the argument's name.
    """
    if not 200 <= status <= 599:  # noqa: PLR2004
        raise ValueError(f"{name}: a status must be from 200 to 599, got {status}")
    return status
