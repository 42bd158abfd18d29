"""Servers on loopback that follow a script, over real sockets, with or without TLS."""

from __future__ import annotations

import contextlib
import functools
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator

import trustme

PATIENCE = 10.0


@functools.cache
def authority() -> trustme.CA:
    """The certificate authority of the tests' servers."""
    return trustme.CA()


@functools.cache
def server_context() -> ssl.SSLContext:
    """The TLS settings of a server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


@functools.cache
def client_context() -> ssl.SSLContext:
    """The TLS settings of a client that trusts those servers."""
    context = ssl.create_default_context()
    authority().configure_trust(context)
    return context


class Connection:
    """A connection as the server's script sees it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._buffered = b""
        self.received = 0  # bytes read of the current request's body

    def start_tls(self, context: ssl.SSLContext | None = None) -> None:
        """Continue in TLS, with a context of the server's own or the usual one."""
        # If the socket was reset before, CPython 3.11 makes an SSLSocket that is never closed.
        self.sock.recv(1, socket.MSG_PEEK)
        self.sock = (context or server_context()).wrap_socket(self.sock, server_side=True)

    def recv(self, count: int = 65536) -> bytes:
        """Receive some bytes; b"" at the end.

        Ask for little: Python allocates the whole count for each call, and fills it in development mode.
        """
        if self._buffered:
            data, self._buffered = self._buffered[:count], self._buffered[count:]
            return data
        return self.sock.recv(count)

    def read_head(self) -> bytes:
        """Read a request's head; b"" if the client closed."""
        head = b""
        while b"\r\n\r\n" not in head:
            data = self.recv()
            if not data:
                return b""
            head += data
        head, _, self._buffered = head.partition(b"\r\n\r\n")
        self.received = 0
        return head + b"\r\n\r\n"

    def read(self, count: int) -> int:
        """Read this many bytes of the body, or what comes before the end; return their number."""
        left = count
        with contextlib.suppress(ConnectionResetError):
            while left and (data := self.recv(min(left, 65536))):
                left -= len(data)
                self.received += len(data)
        return count - left

    def read_body(self, head: bytes) -> bytes:
        """Read a whole body, of known length or chunked."""
        body = bytearray()
        length = header(head, b"content-length")
        if length is not None:
            while len(body) < int(length):
                data = self.recv(min(int(length) - len(body), 65536))
                if not data:
                    raise ConnectionError("the body broke off")
                body += data
                self.received = len(body)
            return bytes(body)
        while size := int(self._line(), 16):
            chunk = bytearray()
            while len(chunk) < size + 2:
                data = self.recv(min(size + 2 - len(chunk), 65536))
                if not data:
                    raise ConnectionError("the body broke off")
                chunk += data
            body += chunk[:-2]
        self._line()
        return bytes(body)

    def _line(self) -> bytes:
        line = b""
        while not line.endswith(b"\r\n"):
            data = self.recv(1)
            if not data:
                raise ConnectionError("the body broke off")
            line += data
        return line

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def respond(self, status: int = 200, body: bytes = b"", *headers: str) -> None:
        """Answer."""
        lines = [f"HTTP/1.1 {status} Status", f"Content-Length: {len(body)}", *headers, "", ""]
        self.send("\r\n".join(lines).encode() + body)

    def serve(self, status: int = 200, body: bytes = b"") -> bytes:
        """Read one whole request, and answer; return the request's body."""
        head = self.read_head()
        received = self.read_body(head)
        self.respond(status, body)
        return received

    def reset(self) -> None:
        """Close with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def wait_for_end(self) -> float:
        """Read until the client ends (with or without a reset); return the time of the monotonic clock."""
        with contextlib.suppress(OSError):
            while self.sock.recv(1 << 20):
                pass
        return time.monotonic()

    def wait_for_reset(self) -> float:
        """Wait, without reading, until the connection is reset; return the time of the monotonic clock."""
        import select

        poll = select.poll()
        poll.register(self.sock.fileno(), 0)  # POLLHUP and POLLERR need no flag
        assert poll.poll(PATIENCE * 1000), "the connection is still there"
        return time.monotonic()


def header(head: bytes, name: bytes) -> bytes | None:
    """The value of a header in a head."""
    for line in head.split(b"\r\n"):
        key, _, value = line.partition(b":")
        if key.lower() == name:
            return value.strip()
    return None


Script = Callable[[Connection], object]


class Server:
    """Runs a script for each connection, each on its own thread."""

    def __init__(
        self, script: Script, *, tls: bool | ssl.SSLContext = False, receive_buffer: int | None = None
    ) -> None:
        self._script = script
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        if receive_buffer is not None:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.port = self._listener.getsockname()[1]
        self.host = "localhost" if tls else "127.0.0.1"
        self.url = f"http{'s' if tls else ''}://{self.host}:{self.port}/"
        self.connections = 0
        self.errors: list[BaseException] = []
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closing = False
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            if self._closing:
                sock.close()
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(PATIENCE)
            self.connections += 1
            thread = threading.Thread(target=self._run, args=(sock,))
            self._threads.append(thread)
            thread.start()

    def _run(self, sock: socket.socket) -> None:
        connection = Connection(sock)
        try:
            if self._tls:
                connection.start_tls(None if isinstance(self._tls, bool) else self._tls)
            with self._lock:
                self._open.add(connection.sock)
            self._script(connection)
        except OSError as error:
            if not self._closing:
                self.errors.append(error)
        except BaseException as error:
            self.errors.append(error)
        finally:
            with self._lock:
                self._open.discard(connection.sock)
            connection.sock.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()  # wakes accept()
        self._listener.close()
        with self._lock:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a script of the server did not end"


@contextlib.contextmanager
def unanswered_port() -> Iterator[int]:
    """A port with a full queue of connections: connecting to it neither succeeds nor fails."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        while True:
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
            import select

            if not select.select([], [sock], [], 0.2)[1]:
                break
        yield listener.getsockname()[1]
