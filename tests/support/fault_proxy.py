"""A proxy that knows HTTP, before a server of uploads. It does to some requests what proxies and bad lines do.

Each request goes to the server on a connection of its own, and its response ends the client's connection, too.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import httpx
from support.command_line import PROCESS_PATIENCE
from support.scripted_server import Server

from rxupload.testing import Connection, Head

Fault: TypeAlias = Callable[["Connection", "Proxy"], object]

_CHUNK = 65536


class Proxy:
    """What the proxy does, and what it has seen.

    Attributes:
        always: What to do with each request; by default, it is passed on.
        asked: The heads of all requests but OPTIONS, in their order.
        created: The addresses of the uploads, as the server names them.
        statuses: What the client got from the server: the method of the request, and the status.
    """

    def __init__(self, url: str, *lines: str) -> None:
        self._server = httpx.URL(url)
        self._lines = lines
        self.always: Fault = pass_on
        self.asked: list[Head] = []
        self.created: list[str] = []
        self.statuses: list[tuple[str, int]] = []
        self._next: dict[str, deque[Fault]] = defaultdict(deque)
        self._held: list[socket.socket] = []  # connections to the server whose client has gone

    def then(self, method: str, *faults: Fault) -> None:
        """Tell what to do with the next requests of a method."""
        self._next[method] += faults

    def __call__(self, connection: Connection) -> None:
        head = connection.read_head()
        if not head:
            return
        if head.method != "OPTIONS":
            self.asked.append(head)
        queue = self._next[head.method]
        fault = queue.popleft() if queue else self.always
        fault(connection, self)

    @property
    def methods(self) -> list[str]:
        return [each.method for each in self.asked]

    def statuses_of(self, method: str) -> list[int]:
        """What the requests of a method were answered with."""
        return [status for asked, status in self.statuses if asked == method]

    def open(self, head: Head) -> socket.socket:
        """Connect to the server, and send it the head."""
        sock = socket.create_connection((self._server.host, self._server.port), PROCESS_PATIENCE)
        end = "\r\n".join(["", "Connection: close", *self._lines, "", ""])
        sock.sendall(re.sub(rb"\r\nConnection:[^\r]*", b"", head[:-4]) + end.encode())
        return sock

    def hold(self, sock: socket.socket) -> None:
        """Keep a connection to the server that the client has left."""
        self._held.append(sock)

    def end_held(self) -> None:
        """End those connections, and wait until the server has done what it does with that."""
        while self._held:
            finish(self._held.pop())

    def note(self, head: Head, answer: bytes) -> bytes:
        """Take note of a response, and return it."""
        if answer:
            self.statuses.append((head.method, int(answer.split(b" ", 2)[1])))
            if location := Head(answer).header("Location"):
                self.created.append(str(self._server.join(httpx.URL(location).raw_path.decode())))
        return answer


def relay_body(connection: Connection, upstream: socket.socket, most: int | None = None) -> int:
    """Pass on the bytes of a body until its end, the client's, or `most`. Return how many there were."""
    length = int(connection.head.header("Content-Length") or 0)
    left = length if most is None else min(most, length)
    done = 0
    with contextlib.suppress(ConnectionError):
        while done < left and (data := connection.recv(min(left - done, _CHUNK))):
            upstream.sendall(data)
            done += len(data)
    return done


def answer_of(upstream: socket.socket) -> bytes:
    """The whole response: the server closes the connection after it, and the client is told so."""
    answer = b""
    with contextlib.suppress(ConnectionError):
        while data := upstream.recv(_CHUNK):
            answer += data
    answer = re.sub(rb"(?i)\r\n(connection|keep-alive):[^\r]*", b"", answer)
    return answer.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)


def finish(upstream: socket.socket) -> None:
    """Tell the server that no more bytes come, and wait until it closes the connection."""
    with upstream, contextlib.suppress(OSError):
        upstream.shutdown(socket.SHUT_WR)
        answer_of(upstream)


def pass_on(connection: Connection, proxy: Proxy, change: Callable[[bytes], bytes] = bytes) -> None:
    """Pass a request on, and its response back as soon as that comes, changed by `change`."""
    head = connection.head

    def back() -> None:
        with contextlib.suppress(OSError):
            connection.send(change(proxy.note(head, answer_of(upstream))))
            connection.sock.shutdown(socket.SHUT_WR)

    with proxy.open(head) as upstream:
        answering = threading.Thread(target=back)
        answering.start()
        with contextlib.suppress(OSError):
            length = int(head.header("Content-Length") or 0)
            if relay_body(connection, upstream) < length:
                upstream.shutdown(socket.SHUT_WR)
        connection.wait_for_end()
        with contextlib.suppress(OSError):
            upstream.shutdown(socket.SHUT_WR)
        answering.join()


# Lines that break


def cut_after(count: int, *, resets: bool = False, first: Callable[[], object] | None = None) -> Fault:
    """Cut both connections after so many bytes of the body. The server has noticed it before the client does.

    `first` is called before that.
    """

    def cut(connection: Connection, proxy: Proxy) -> None:
        upstream = proxy.open(connection.head)
        relay_body(connection, upstream, count)
        if first is not None:
            first()
        if resets:
            upstream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            upstream.close()
            connection.reset()
        else:
            finish(upstream)

    return cut


def left_after(count: int) -> Fault:
    """Cut the client's connection after so many bytes of the body. The server hears of it only at `end_held`."""

    def leave(connection: Connection, proxy: Proxy) -> None:
        upstream = proxy.open(connection.head)
        relay_body(connection, upstream, count)
        proxy.hold(upstream)

    return leave


def silent_after(count: int, is_silent: threading.Event | None = None) -> Fault:
    """Pass on so many bytes of the body, and nothing more in this direction. What the server says comes back."""

    def be_silent(connection: Connection, proxy: Proxy) -> None:
        with proxy.open(connection.head) as upstream:
            relay_body(connection, upstream, count)
            head = connection.head

            def back() -> None:
                with contextlib.suppress(OSError):
                    connection.send(proxy.note(head, answer_of(upstream)))
                    connection.sock.shutdown(socket.SHUT_WR)

            answering = threading.Thread(target=back)
            answering.start()
            if is_silent is not None:
                is_silent.set()
            connection.sock.settimeout(PROCESS_PATIENCE)
            connection.wait_for_end()
            with contextlib.suppress(OSError):
                upstream.shutdown(socket.SHUT_WR)
            answering.join()

    return be_silent


# Proxies that know better


def refusing(method: str, status: int) -> Fault:
    """A proxy that does not know a method."""

    def refuse(connection: Connection, proxy: Proxy) -> None:
        if connection.head.method == method:
            connection.respond(status, b"", "Connection: close")
            connection.wait_for_end()
        else:
            pass_on(connection, proxy)

    return refuse


def at_most(count: int) -> Fault:
    """A proxy that takes bodies of so many bytes, and refuses longer ones before it has read them."""

    def limit(connection: Connection, proxy: Proxy) -> None:
        if int(connection.head.header("Content-Length") or 0) > count:
            connection.respond(413, b"", "Connection: close")
            connection.wait_for_end()
        else:
            pass_on(connection, proxy)

    return limit


def buffering(connection: Connection, proxy: Proxy) -> None:
    """A proxy that passes nothing on before it has the whole request."""
    body = connection.read_body()
    with proxy.open(connection.head) as upstream:
        upstream.sendall(body)
        connection.send(proxy.note(connection.head, answer_of(upstream)))


def renaming(old: bytes, new: bytes) -> Fault:
    """A proxy that rewrites the Location of a response."""

    def rename(connection: Connection, proxy: Proxy) -> None:
        def change(answer: bytes) -> bytes:
            return re.sub(rb"(?i)(\r\nlocation: *)" + re.escape(old), rb"\1" + new, answer, count=1)

        pass_on(connection, proxy, change)

    return rename


@contextlib.contextmanager
def proxied(url: str, *lines: str, tls: bool = False) -> Iterator[tuple[Proxy, str, Any]]:
    """A proxy before the server, its URL, and the `Server` that it is. `lines` are headers that it adds."""
    proxy = Proxy(url, *lines)
    with Server(proxy, tls=tls) as server:
        yield proxy, server.url, server
        proxy.end_held()
