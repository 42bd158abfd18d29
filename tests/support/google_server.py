"""A server of Google's resumable protocol that follows a script, as the documentation of Cloud Storage has it."""

from __future__ import annotations

import contextlib
import json
import re
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from support.ietf_server import status, take
from support.scripted_server import Connection, Server
from support.tus_server import Asked, Gone, read_body, respond

CHUNK = 256 * 1024
RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


@dataclass
class Session:
    """A session as the server has it."""

    resource: Any
    total: int | None
    content_type: str | None
    content: bytearray = field(default_factory=bytearray)
    is_whole: bool = False


Answer = Callable[[Connection, Asked, "Google"], None]


class Google:
    """The state of a server, and its script.

    Attributes:
        sessions: By their path with its query.
        asked: All requests, in their order.
        answers: What to do instead of the right thing with the next requests: for POST, for PUT with bytes, for PUT
            without ("ask"), and for DELETE. None: the right thing.
        faults: What a client has done that the documentation forbids.
    """

    def __init__(self) -> None:
        self.sessions: dict[str, Session] = {}
        self.created = 0
        self.asked: list[Asked] = []
        self.answers: dict[str, deque[Answer | None]] = defaultdict(deque)
        self.faults: list[str] = []
        self.location = lambda path: path
        self.extra: list[str] = []  # headers of each 308

    def then(self, kind: str, *answers: Answer | int | None) -> None:
        """Tell what to do with the next requests of a kind. A number is a status."""
        self.answers[kind] += [status(each) if isinstance(each, int) else each for each in answers]

    @property
    def kinds(self) -> list[str]:
        return [kind_of(each) for each in self.asked]

    @property
    def ranges(self) -> list[str | None]:
        """The Content-Range of each PUT."""
        return [each.header("Content-Range") for each in self.asked if each.method == "PUT"]

    @property
    def only(self) -> Session:
        (session,) = self.sessions.values()
        return session

    def __call__(self, connection: Connection) -> None:
        while head := connection.read_head():
            method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
            asked = Asked(method, path, head)
            self.asked.append(asked)
            queue = self.answers[kind_of(asked)]
            answer = queue.popleft() if queue else None
            if answer is not None:
                answer(connection, asked, self)
            else:
                self.answer(connection, asked)

    def answer(self, connection: Connection, asked: Asked) -> None:
        """Do the right thing."""
        {"POST": self._post, "PUT": self._put, "DELETE": self._delete}[asked.method](connection, asked)

    def _post(self, connection: Connection, asked: Asked) -> None:
        read_body(connection, asked)
        total = asked.header("X-Upload-Content-Length")
        path = f"/upload/o?uploadType=resumable&upload_id=secret{self.created}"
        self.created += 1
        self.sessions[path] = Session(
            json.loads(asked.body),
            None if total is None else int(total),
            asked.header("X-Upload-Content-Type"),
        )
        respond(connection, 200, f"Location: {self.location(path)}")

    def _put(self, connection: Connection, asked: Asked) -> None:
        session = self.sessions.get(asked.path)
        found = RANGE.fullmatch(asked.header("Content-Range") or "")
        if session is None or found is None:
            read_body(connection, asked)
            respond(connection, 400 if session else 404)
            return
        start, end, total = found.groups()
        if total != "*" and session.total is None:
            session.total = int(total)
        if total != "*" and session.total != int(total):
            self.faults.append(f"another total: {total}")
        if start is None:
            if asked.header("Content-Length") != "0":
                self.faults.append("a question with content")
        else:
            size = int(end) + 1 - int(start)
            if size % CHUNK and int(end) + 1 != session.total:
                self.faults.append(f"a part of {size} bytes")
            if int(start) != len(session.content):
                self.faults.append(f"a gap at {start}")
            take(connection, asked, session)
        self.tell(connection, session, is_known=total != "*")

    def tell(self, connection: Connection, session: Session, *, is_known: bool) -> None:
        """Say how much has arrived."""
        if (is_known and len(session.content) == session.total) or session.is_whole:
            session.is_whole = True
            connection.respond(200, b'{"kind": "storage#object"}')
            return
        have = [f"Range: bytes=0-{len(session.content) - 1}"] if session.content else []
        respond(connection, 308, *have, *self.extra)

    def _delete(self, connection: Connection, asked: Asked) -> None:
        if asked.header("Content-Length") != "0":
            self.faults.append("a DELETE without a Content-Length")
        respond(connection, 499 if self.sessions.pop(asked.path, None) else 404)


def kind_of(asked: Asked) -> str:
    is_question = asked.method == "PUT" and (asked.header("Content-Range") or "").startswith("bytes */")
    return "ask" if is_question else asked.method


# What to do instead of the right thing


def broken_after(count: int, *, kept: int | None = None) -> Answer:
    """Break the connection after so many bytes of the body, of which `kept` are kept."""

    def answer(connection: Connection, asked: Asked, google: Google) -> None:
        session = google.sessions[asked.path]
        before = len(session.content)
        assert take(connection, asked, session, count) == count
        if kept is not None:
            del session.content[before + kept :]
        connection.reset()
        raise Gone

    return answer


def unanswered(connection: Connection, asked: Asked, google: Google) -> None:
    """Do the right thing, but break the connection instead of the answer."""
    session = google.sessions[asked.path]
    take(connection, asked, session)
    total = (asked.header("Content-Range") or "").rpartition("/")[2]
    session.is_whole = str(len(session.content)) == total
    connection.reset()
    raise Gone


def partial(count: int) -> Answer:
    """Take the whole body, and keep so many bytes of it."""

    def answer(connection: Connection, asked: Asked, google: Google) -> None:
        session = google.sessions[asked.path]
        read_body(connection, asked)
        session.content += asked.body[:count]
        google.tell(connection, session, is_known=True)

    return answer


@contextlib.contextmanager
def google_server(**options: Any) -> Iterator[tuple[Google, Server]]:
    """Serve. The endpoint is `endpoint(server)`. No client may do what the documentation forbids."""
    google = Google()
    with Server(google, **options) as server:
        yield google, server
        assert all(isinstance(each, Gone) for each in server.errors), server.errors
        assert google.faults == [], google.faults


def endpoint(server: Server) -> str:
    return f"{server.url}upload/o?uploadType=resumable"
