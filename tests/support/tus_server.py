"""A tus server that follows a script: it keeps uploads in memory, and answers as it is told instead of right."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import format_datetime
from typing import Any

from support.scripted_server import PATIENCE, Connection, Server, header

from rxupload._client import default_client


@dataclass
class Kept:
    """An upload as the server has it."""

    length: int | None
    metadata: dict[str, bytes]
    content: bytearray = field(default_factory=bytearray)
    owner: Asked | None = (
        None  # the last HEAD or PATCH: it displaces an earlier one, which keeps nothing more
    )
    lock: threading.Lock = field(default_factory=threading.Lock)

    def displace(self, asked: Asked) -> int:
        """Let a request have the upload. Return the offset."""
        with self.lock:
            self.owner = asked
            return len(self.content)

    def keep(self, asked: Asked, data: bytes) -> bool:
        """Keep data of a request. Return whether it still has the upload."""
        with self.lock:
            if self.owner is asked:
                self.content += data
            return self.owner is asked


@dataclass
class Asked:
    """A request."""

    method: str
    path: str
    head: bytes
    body: bytes = b""
    has_begun: bool = False  # whether some of its body was taken

    def header(self, name: str) -> str | None:
        value = header(self.head, name.lower().encode())
        return None if value is None else value.decode()

    def __repr__(self) -> str:
        return f"{self.method} {self.path}"


Answer = Callable[[Connection, Asked, "Tus"], None]


class Tus:
    """The state of a server, and its script.

    Attributes:
        uploads: By path.
        asked: All requests but OPTIONS, in their order.
        answers: For each method, what to do instead of the right thing with the next requests; None: the right thing.
    """

    def __init__(self, *, extensions: str = "", algorithms: str = "", prefix: str = "/files/") -> None:
        self.extensions = extensions
        self.algorithms = algorithms
        self.prefix = prefix
        self.uploads: dict[str, Kept] = {}
        self.asked: list[Asked] = []
        self.created = 0
        self.final: str | None = None  # the path of the joined upload
        self.lock = threading.Lock()
        self.is_down = False  # if so, each connection ends before its next request
        self.answers: dict[str, deque[Answer | None]] = defaultdict(deque)
        self.location = lambda path: path
        self.expires: Any = None
        self.date: Any = None  # what its clock says; None: it sends no Date
        self.methods = {"POST", "HEAD", "PATCH", "DELETE", "OPTIONS"}
        self.created_status = 201
        self.server: Server | None = None  # which `tus_server` has started
        self._left = threading.Condition()
        self._ended = 0  # connections
        self.most: int | None = None  # bytes of a request's body; more is a 413, before it is read

    def then(self, method: str, *answers: Answer | int | None) -> None:
        """Tell what to do with the next requests of a method. A number is a status."""
        self.answers[method] += [status(each) if isinstance(each, int) else each for each in answers]

    @property
    def methods_asked(self) -> list[str]:
        return [each.method for each in self.asked]

    @property
    def only(self) -> Kept:
        (kept,) = self.uploads.values()
        return kept

    def wait_until_left(self) -> None:
        """Wait until every connection has ended, so that no request is still to be read. Idle ones are closed."""
        default_client().close_idle()
        server = self.server
        with socket.create_connection((server.host, server.port), PATIENCE) as last:
            last.shutdown(socket.SHUT_WR)
            assert last.recv(1) == b""  # it was accepted, and so were all before it
        with self._left:
            assert self._left.wait_for(lambda: self._ended == server.connections, PATIENCE)

    def __call__(self, connection: Connection) -> None:
        try:
            self._serve(connection)
        finally:
            with self._left:
                self._ended += 1
                self._left.notify_all()

    def _serve(self, connection: Connection) -> None:
        while not self.is_down and (head := connection.read_head()):
            method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
            asked = Asked(method, path, head)
            if method != "OPTIONS":
                self.asked.append(asked)
            if method != "OPTIONS" and (kept := self.uploads.get(path)) is not None:
                kept.displace(asked)
            if self.most is not None and int(asked.header("Content-Length") or 0) > self.most:
                respond(connection, 413, "Connection: close")
                connection.wait_for_end()
                return
            queue = self.answers[method]
            answer = queue.popleft() if queue else None
            if answer is not None:
                answer(connection, asked, self)
            else:
                self.answer(connection, asked)

    def answer(self, connection: Connection, asked: Asked) -> None:
        """Do the right thing."""
        method = asked.header("X-HTTP-Method-Override") or asked.method
        if asked.method not in self.methods:
            read_body(connection, asked)
            respond(connection, 405)
            return
        {
            "OPTIONS": self._options,
            "POST": self._post,
            "HEAD": self._head,
            "PATCH": self._patch,
            "DELETE": self._delete,
        }[method](connection, asked)

    def _options(self, connection: Connection, asked: Asked) -> None:
        headers = [f"Tus-Extension: {self.extensions}"] if self.extensions else []
        headers += [f"Tus-Checksum-Algorithm: {self.algorithms}"] if self.algorithms else []
        respond(connection, 204, *headers)

    def _post(self, connection: Connection, asked: Asked) -> None:
        read_body(connection, asked)
        with self.lock:
            path = f"{self.prefix}secret{self.created}"
            self.created += 1
        length = asked.header("Upload-Length")
        metadata = {}
        for each in (asked.header("Upload-Metadata") or "").split(","):
            key, _, value = each.strip().partition(" ")
            metadata[key] = base64.b64decode(value)
        metadata.pop("", None)
        kept = Kept(None if length is None else int(length), metadata)
        concat = asked.header("Upload-Concat") or ""
        if concat.startswith("final;"):
            for url in concat.removeprefix("final;").split():
                part = self.uploads["/" + url.split("/", 3)[3]]
                assert len(part.content) == part.length
                kept.content += part.content
            kept.length = len(kept.content)
            self.final = path
        self.uploads[path] = kept
        kept.content += asked.body
        headers = [f"Location: {self.location(path)}", *self._expiry()]
        if asked.body:
            headers.append(f"Upload-Offset: {len(kept.content)}")
        respond(connection, self.created_status, *headers)

    def _head(self, connection: Connection, asked: Asked) -> None:
        kept = self.uploads.get(asked.path)
        if kept is None:
            respond(connection, 404)
            return
        length = [] if kept.length is None else [f"Upload-Length: {kept.length}"]
        respond(connection, 200, f"Upload-Offset: {len(kept.content)}", *length, *self._expiry())

    def _patch(self, connection: Connection, asked: Asked) -> None:
        kept = self.uploads.get(asked.path)
        if kept is None:
            read_body(connection, asked)
            respond(connection, 404)
            return
        if asked.header("Upload-Offset") != str(len(kept.content)):
            read_body(connection, asked)
            respond(connection, 409)
            return
        if not declare(asked, kept):
            read_body(connection, asked)
            respond(connection, 400)
            return
        if (checksum := asked.header("Upload-Checksum")) is not None:
            read_body(connection, asked)
            algorithm, _, value = checksum.partition(" ")
            if base64.b64encode(hashlib.new(algorithm, asked.body).digest()).decode() != value:
                respond(connection, 460)
                return
            if not kept.keep(asked, asked.body):
                raise Gone
        else:
            take(connection, asked, kept)
        respond(connection, 204, f"Upload-Offset: {len(kept.content)}", *self._expiry())

    def _delete(self, connection: Connection, asked: Asked) -> None:
        respond(connection, 204 if self.uploads.pop(asked.path, None) else 404)

    def _expiry(self) -> list[str]:
        times = {"Upload-Expires": self.expires, "Date": self.date}
        return [f"{name}: {format_datetime(each, usegmt=True)}" for name, each in times.items() if each]


def respond(connection: Connection, code: int, *headers: str) -> None:
    """Answer without a body."""
    lines = [f"HTTP/1.1 {code} Status", *headers]
    if code != 204:
        lines.append("Content-Length: 0")
    connection.send("\r\n".join([*lines, "", ""]).encode())


def read_body(connection: Connection, asked: Asked) -> None:
    """Read the whole body."""
    if asked.header("Content-Length") is not None or asked.header("Transfer-Encoding") is not None:
        asked.body = connection.read_body()


def declare(asked: Asked, kept: Kept) -> bool:
    """Take the length that was not known before. It may be said once."""
    length = asked.header("Upload-Length")
    if length is None:
        return True
    if kept.length is not None:
        return False
    kept.length = int(length)
    return True


def take(connection: Connection, asked: Asked, kept: Kept, most: int | None = None) -> int:
    """Keep the body as it comes, or so many bytes of it. Return how many came."""
    with kept.lock:
        if not asked.has_begun and asked.header("Upload-Offset") not in (None, str(len(kept.content))):
            raise Gone  # the request was read late, after those of the next attempt
        asked.has_begun = True
    left = int(asked.header("Content-Length") or 0)
    left = left if most is None else min(left, most)
    came = 0
    while came < left:
        try:
            data = connection.recv(min(left - came, 65536))
        except ConnectionError:
            break
        if not data:
            break
        if not kept.keep(asked, data):
            raise Gone
        came += len(data)
    return came


# What to do instead of the right thing


def is_in_place(asked: Asked, tus: Tus) -> bool:
    """Whether a part is of a known upload, and begins where that ends."""
    kept = tus.uploads.get(asked.path)
    return kept is not None and asked.header("Upload-Offset") == str(len(kept.content))


def status(code: int, *headers: str) -> Answer:
    """Read the body, and answer with a status."""

    def answer(connection: Connection, asked: Asked, tus: Tus) -> None:
        read_body(connection, asked)
        respond(connection, code, *headers)

    return answer


def broken_after(count: int, *, kept: int | None = None, resets: bool = True) -> Answer:
    """Break the connection after so many bytes of the body, of which `kept` are kept."""

    def answer(connection: Connection, asked: Asked, tus: Tus) -> None:
        if not is_in_place(asked, tus):
            tus.answer(connection, asked)
            return
        upload = tus.uploads[asked.path]
        assert declare(asked, upload)
        before = len(upload.content)
        if take(connection, asked, upload, count) < count:
            raise Gone  # by the client
        if kept is not None:
            del upload.content[before + kept :]
        if resets:
            connection.reset()
        else:
            connection.sock.close()
        raise Gone

    return answer


def partial(count: int) -> Answer:
    """Take the whole body, and keep so many bytes of it: 204 with a lesser offset."""

    def answer(connection: Connection, asked: Asked, tus: Tus) -> None:
        if not is_in_place(asked, tus):
            tus.answer(connection, asked)
            return
        read_body(connection, asked)
        upload = tus.uploads[asked.path]
        assert declare(asked, upload)
        if not upload.keep(asked, asked.body[:count]):
            raise Gone
        respond(connection, 204, f"Upload-Offset: {len(upload.content)}")

    return answer


class Gone(ConnectionError):  # noqa: N818
    """The script has closed the connection."""


@contextlib.contextmanager
def tus_server(tus: Tus | None = None, **options: Any) -> Iterator[tuple[Tus, Server]]:
    """Serve. The endpoint is `server.url` + "files"."""
    tus = tus or Tus()
    with Server(tus, **options) as server:
        tus.server = server
        yield tus, server
