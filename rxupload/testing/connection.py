"""The server's side of one connection, as a script sees it, and the head of a request."""

from __future__ import annotations

import contextlib
import http
import socket
import ssl
import struct
import threading
import time

from rxupload._arguments import wrong_type
from rxupload._wait import SystemClock

PATIENCE = 10.0  # seconds that a server waits for a client: a test that passes never waits so long
_PHRASES = {each.value: each.phrase for each in http.HTTPStatus}
_CHUNK = 65536  # bytes: Python allocates the whole count for each call, and fills it in development mode


class Head(bytes):
    """The head of a request as it came: the request line, the headers, and the empty line.

    It is empty if the client closed the connection instead of sending a request.
    """

    @property
    def method(self) -> str:
        """The method, such as `POST`; empty in an empty head."""
        return self._word(0)

    @property
    def target(self) -> str:
        """The path with its query, such as `/photos?album=1`; empty in an empty head."""
        return self._word(1)

    def header(self, name: str) -> str | None:
        """Return the value of the first header with this name, in any case; None if there is none.

        It is decoded as ISO-8859-1, so that `.encode("latin-1")` gives back the bytes (RFC 9110, section 5.5).
        """
        wanted = name.lower().encode("latin-1")
        for line in self.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.lower() == wanted:
                return value.strip().decode("latin-1")
        return None

    def _word(self, index: int) -> str:
        return [*self.partition(b"\r\n")[0].decode("latin-1").split(" "), "", ""][index]


class Connection:
    """One connection of a `ScriptedServer`, for its script. Only the script's own thread may use it.

    A method that waits for the client raises TimeoutError after 10 s without a byte. It raises ConnectionError if the
    client breaks off within a request, and once the test has left the server. A script need not catch any of them.

    Attributes:
        sock: The socket, for what the methods do not offer. It has a timeout of 10 s.
        head: The head of the current request; empty before the first.
        received: How many bytes of the current request's body have been read.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.head = Head()
        self.received = 0
        self._buffered = b""
        self._length: int | None = None  # bytes of the current body; None if they are not known
        self._lock = threading.Lock()  # for the change to TLS, which replaces the socket
        self._is_left = False
        self._is_owed = True

    # Reading

    def read_head(self) -> Head:
        """Read the head of the next request. It is empty if the client closed the connection instead."""
        head = b""
        self.head, self.received, self._length = Head(), 0, None
        while b"\r\n\r\n" not in head:
            data = self.recv()
            if not data:
                return self.head
            head += data
        head, end, self._buffered = head.partition(b"\r\n\r\n")
        self.head = Head(head + end)
        self._is_owed = True
        if not self._is_chunked():
            self._length = int(self.head.header("content-length") or 0)
        return self.head

    def read(self, count: int) -> int:
        """Read so many bytes of the body and forget them. Return how many there were before its end, or the client's.

        The framing of a chunked body counts, and its end is not found.
        """
        left = count if self._length is None else min(count, self._length - self.received)
        done = 0
        with contextlib.suppress(ConnectionResetError):
            while done < left and (data := self.recv(min(left - done, _CHUNK))):
                done += len(data)
                self.received += len(data)
        return done

    def read_body(self) -> bytes:
        """Read the rest of the current request's body, of known length or chunked (RFC 9112, section 6)."""
        if self._length is not None:
            return self._exactly(self._length - self.received)
        body = bytearray()
        while size := int(self._line().partition(b";")[0], 16):
            body += self._exactly(size)
            self._line()
        while self._line() != b"\r\n":
            pass
        return bytes(body)

    def read_request(self) -> bytes:
        """Read a whole request, and return its body. `head` has the rest."""
        if not self.read_head():
            raise ConnectionError("the client closed the connection, and sent no request")
        return self.read_body()

    def recv(self, count: int = _CHUNK) -> bytes:
        """Receive at most so many bytes of whatever comes next; b"" once the client has closed its side."""
        if self._buffered:
            data, self._buffered = self._buffered[:count], self._buffered[count:]
            return data
        try:
            data = self.sock.recv(count)
        except (ConnectionError, ssl.SSLError):
            self._is_owed = False
            raise
        if not data:
            self._is_owed = False
            if self._is_left:
                raise ConnectionAbortedError("the test has left the server")
        return data

    # Answering

    def respond(self, status: int = 200, body: bytes = b"", *headers: str) -> None:
        """Answer the current request.

        If the script ends after it, add `"Connection: close"`: otherwise the client may send its next request on this
        connection, and lose it. If the body has not been read to its end, call `wait_for_end` afterwards: the answer
        may be lost if the connection is closed while bytes are unread (RFC 9112, section 9.6).

        Args:
            status: The status code.
            body: The body of the answer. Its Content-Length is added.
            *headers: Whole lines, such as `"Retry-After: 1"`.

        Raises:
            TypeError: An argument has the wrong type; the message names it.
        """
        self.send(_composed(status, body, headers))

    def serve(self, status: int = 200, body: bytes = b"", *headers: str) -> bytes:
        """Read a whole request and answer it, as `respond` does. Return the request's body.

        Raises:
            TypeError: As `respond`, before it reads.
        """
        answer = _composed(status, body, headers)
        received = self.read_request()
        self.send(answer)
        return received

    def send(self, data: bytes) -> None:
        """Send bytes as they are, such as half an answer.

        Raises:
            TypeError: They are no bytes.
        """
        _check_bytes("data", data)
        self._is_owed = False
        self.sock.sendall(data)

    # Ending

    def reset(self) -> None:
        """Close the connection with a reset, as a server does that crashes. The client may lose what was sent to it."""
        self._is_owed = False
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def wait_for_end(self) -> float:
        """Read on until the client closes, with or without a reset, or the test leaves the server.

        Returns:
            When that was, in seconds on the monotonic clock.
        """
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while self.recv():
                pass
        return time.monotonic()

    def wait_for_reset(self) -> float:
        """Read nothing until the client resets the connection, or the test leaves the server.

        A client resets it that closes it with bytes unsent. It needs a system with `select.poll`, so not Windows.

        Returns:
            When that was, in seconds on the monotonic clock.
        """
        if not SystemClock.wait(time.monotonic() + PATIENCE, [(self.sock, 0)]):
            raise TimeoutError(f"the client has not reset the connection within {PATIENCE:g} s")
        self._is_owed = False
        return time.monotonic()

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Continue in TLS, as a proxy or a server does that begins without."""
        # If the socket was reset before, CPython 3.11 makes an SSLSocket that is never closed.
        self.sock.recv(1, socket.MSG_PEEK)
        with self._lock:
            sock = context.wrap_socket(self.sock, server_side=True, do_handshake_on_connect=False)
            self.sock = sock
        sock.do_handshake()

    def leave(self) -> None:
        """End each wait of the script, now and later. The server calls this, on the test's thread."""
        with self._lock, contextlib.suppress(OSError):
            self._is_left = True
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)

    @property
    def is_left(self) -> bool:
        """Whether the test has left the server."""
        return self._is_left

    @property
    def is_owed(self) -> bool:
        """Whether the client still waits for an answer, or a part of one, as far as these methods tell.

        It does not once they have seen that it has left, or have reset the connection. A use of `sock` does not count.
        """
        return self._is_owed

    def _is_chunked(self) -> bool:
        return "chunked" in (self.head.header("transfer-encoding") or "").lower()

    def _exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            more = self.recv(min(count - len(data), _CHUNK))
            if not more:
                raise ConnectionError("the client closed the connection within a body")
            data += more
            self.received += len(more)
        return bytes(data)

    def _line(self) -> bytes:
        line = b""
        while not line.endswith(b"\r\n"):
            data = self.recv(1)
            if not data:
                raise ConnectionError("the client closed the connection within a body")
            line += data
        return line


def _composed(status: int, body: bytes, headers: tuple[str, ...]) -> bytes:
    """Return an answer as it is sent, if the arguments have the right types."""
    if isinstance(status, bool) or not isinstance(status, int):
        raise wrong_type("status", "an int, such as 200", status)
    _check_bytes("body", body)
    for each in headers:
        if not isinstance(each, str):
            raise wrong_type("headers", 'whole lines, such as "Retry-After: 1"', each)
    first = f"HTTP/1.1 {status} {_PHRASES.get(status, '')}"
    lines = [first, f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def _check_bytes(argument: str, value: object) -> None:
    if not isinstance(value, bytes | bytearray | memoryview):
        advice = "; call .encode() on it" if isinstance(value, str) else ""
        raise TypeError(f"{argument}: expected bytes, got {type(value).__name__}{advice}")
