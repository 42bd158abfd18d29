"""A server of draft-ietf-httpbis-resumable-upload that follows a script, with interop version 8."""

from __future__ import annotations

import contextlib
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from support.scripted_server import Connection, Server
from support.tus_server import Asked, Gone, read_body, respond

DONE = b'{"stored": true}'


@dataclass
class Kept:
    """An upload as the server has it."""

    length: int | None
    content_type: str | None = None
    disposition: str | None = None
    content: bytearray = field(default_factory=bytearray)
    is_complete: bool = False


Answer = Callable[[Connection, Asked, "Ietf"], None]


class Ietf:
    """The state of a server, and its script.

    Attributes:
        uploads: By path.
        asked: All requests, in their order.
        answers: For each method, what to do instead of the right thing with the next requests; None: the right thing.
        informs: Whether it sends 104 (Upload Resumption Supported).
        limits: Its Upload-Limit; "" for none.
        repeats: Whether it repeats the response of a complete upload.
        version: Its interop version.
        tells: Whether the response to a part has Upload-Offset, which the draft does not ask for.
        tells_length: Whether the response to HEAD has Upload-Length, which the draft asks for.
        faults: What a client has done that the draft forbids.
    """

    def __init__(self) -> None:
        self.uploads: dict[str, Kept] = {}
        self.created = 0
        self.asked: list[Asked] = []
        self.answers: dict[str, deque[Answer | None]] = defaultdict(deque)
        self.informs = True
        self.limits = ""
        self.repeats = True
        self.version = "8"
        self.tells = False
        self.tells_length = True
        self.faults: list[str] = []
        self.location = lambda path: path

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

    @property
    def last(self) -> Kept:
        return [*self.uploads.values()][-1]

    def __call__(self, connection: Connection) -> None:
        while head := connection.read_head():
            method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
            asked = Asked(method, path, head)
            self.asked.append(asked)
            if asked.header("Upload-Draft-Interop-Version") != "8":
                self.faults.append(f"{asked} without its version")
            queue = self.answers[method]
            answer = queue.popleft() if queue else None
            if answer is not None:
                answer(connection, asked, self)
            else:
                self.answer(connection, asked)

    def answer(self, connection: Connection, asked: Asked) -> None:
        """Do the right thing."""
        {"POST": self._post, "HEAD": self._head, "PATCH": self._patch, "DELETE": self._delete}[asked.method](
            connection, asked
        )

    def inform(self, connection: Connection, *headers: str) -> None:
        """Send 104."""
        lines = ["HTTP/1.1 104 Status", f"Upload-Draft-Interop-Version: {self.version}", *headers, "", ""]
        connection.send("\r\n".join(lines).encode())

    def limit(self) -> list[str]:
        return [f"Upload-Limit: {self.limits}"] if self.limits else []

    def begin(self, connection: Connection, asked: Asked) -> Kept:
        """Make the upload of a POST, and tell its address."""
        path = f"/uploads/secret{self.created}"
        self.created += 1
        length = asked.header("Upload-Length")
        kept = self.uploads[path] = Kept(
            None if length is None else int(length),
            asked.header("Content-Type"),
            asked.header("Content-Disposition"),
        )
        asked.path = path
        if self.informs:
            self.inform(connection, f"Location: {self.location(path)}", *self.limit())
        return kept

    def _post(self, connection: Connection, asked: Asked) -> None:
        kept = self.begin(connection, asked)
        take(connection, asked, kept)
        self.finish(connection, asked, kept)

    def finish(self, connection: Connection, asked: Asked, kept: Kept) -> None:
        """Answer for a part that is stored."""
        if asked.header("Upload-Complete") == "?1":
            kept.length = len(kept.content) if kept.length is None else kept.length
            if kept.length != len(kept.content):
                self.faults.append(f"{asked} completes {len(kept.content)} of {kept.length} bytes")
            kept.is_complete = True
            connection.respond(200, DONE, "Upload-Complete: ?1", "Location: /elsewhere/result")
            return
        named = [f"Location: {self.location(asked.path)}"] if asked.method == "POST" else []
        offset = [f"Upload-Offset: {len(kept.content)}"] if self.tells else []
        respond(connection, 201 if named else 204, "Upload-Complete: ?0", *named, *offset, *self.limit())

    def _head(self, connection: Connection, asked: Asked) -> None:
        kept = self.uploads.get(asked.path)
        if kept is None:
            respond(connection, 404)
            return
        is_told = kept.length is not None and self.tells_length
        length = [f"Upload-Length: {kept.length}"] if is_told else []
        complete = "?1" if kept.is_complete else "?0"
        offset = f"Upload-Offset: {len(kept.content)}"
        respond(connection, 204, offset, f"Upload-Complete: {complete}", *length, *self.limit())

    def _patch(self, connection: Connection, asked: Asked) -> None:
        kept = self.uploads.get(asked.path)
        if kept is None or asked.header("Content-Type") != "application/partial-upload":
            read_body(connection, asked)
            respond(connection, 404 if kept is None else 415)
            return
        if kept.is_complete:
            read_body(connection, asked)
            if asked.body:
                self.faults.append("bytes for a complete upload")
            if self.repeats:
                connection.respond(200, DONE, "Upload-Complete: ?1")
            else:
                problem = b'{"type": "https://iana.org/assignments/http-problem-types#completed-upload"}'
                kind = "Content-Type: application/problem+json"
                connection.respond(400, problem, "Upload-Complete: ?0", kind)
            return
        if asked.header("Upload-Offset") != str(len(kept.content)):
            read_body(connection, asked)
            mismatch(connection, len(kept.content))
            return
        take(connection, asked, kept)
        self.finish(connection, asked, kept)

    def _delete(self, connection: Connection, asked: Asked) -> None:
        respond(connection, 204 if self.uploads.pop(asked.path, None) else 404)


def mismatch(connection: Connection, offset: int) -> None:
    """Answer as to a wrong offset."""
    problem = b'{"type": "https://iana.org/assignments/http-problem-types#mismatching-upload-offset"}'
    kind = "Content-Type: application/problem+json"
    connection.respond(409, problem, "Upload-Complete: ?0", f"Upload-Offset: {offset}", kind)


def take(connection: Connection, asked: Asked, kept: Any, most: int | None = None) -> int:
    """Keep the body as it comes, or so many bytes of it. Return how many came."""
    left = int(asked.header("Content-Length") or 0)
    left = left if most is None else min(left, most)
    came = 0
    with contextlib.suppress(ConnectionError):
        while came < left and (data := connection.recv(min(left - came, 65536))):
            kept.content += data
            came += len(data)
    return came


# What to do instead of the right thing


def status(code: int, body: bytes = b"", *headers: str) -> Callable[[Connection, Asked, Any], None]:
    """Read the body, and answer with a status, whatever the server."""

    def answer(connection: Connection, asked: Asked, _: Any) -> None:
        read_body(connection, asked)
        connection.respond(code, body, *headers)

    return answer


def broken_after(count: int, *, kept: int | None = None) -> Answer:
    """Break the connection after so many bytes of the body, of which `kept` are kept."""

    def answer(connection: Connection, asked: Asked, ietf: Ietf) -> None:
        upload = ietf.begin(connection, asked) if asked.method == "POST" else ietf.uploads[asked.path]
        before = len(upload.content)
        assert take(connection, asked, upload, count) == count
        if kept is not None:
            del upload.content[before + kept :]
        connection.reset()
        raise Gone

    return answer


def unanswered(connection: Connection, asked: Asked, ietf: Ietf) -> None:
    """Do the right thing, but break the connection instead of the answer."""
    kept = ietf.uploads[asked.path]
    take(connection, asked, kept)
    kept.is_complete = asked.header("Upload-Complete") == "?1"
    connection.reset()
    raise Gone


@contextlib.contextmanager
def ietf_server(**options: Any) -> Iterator[tuple[Ietf, Server]]:
    """Serve. The endpoint is `server.url` + "photos". No client may do what the draft forbids."""
    ietf = Ietf()
    with Server(ietf, **options) as server:
        yield ietf, server
        assert all(isinstance(each, Gone) for each in server.errors), server.errors
        assert ietf.faults == [], ietf.faults
