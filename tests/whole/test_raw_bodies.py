"""Raw bodies over real sockets: what the server gets, and that an upload does with them all that it does with forms."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

import httpx
import httpx2
import pytest
import reactivex
from reactivex.subject import BehaviorSubject
from support.abort_phases import CASES, LARGE, abort, transport_client
from support.recording_observer import check_grammar, observe
from support.scripted_server import PATIENCE, Server, client_context, header

import rxupload
from rxupload import BatchSummary, File, Progress, SourceChanged, upload, upload_all
from rxupload.operators import retry_backoff
from rxupload.testing import Connection

CONTENT = hashlib.shake_256(b"raw").digest((1 << 20) + 17)
CLIENTS: dict[str, Callable[..., Any]] = {
    "ours": transport_client,
    "rxupload": lambda **options: rxupload.Client(verify=client_context(), trust_env=False, **options),
    "httpx": lambda **options: httpx.Client(verify=client_context(), trust_env=False, **options),
    "httpx2": lambda **options: httpx2.Client(verify=client_context(), trust_env=False, **options),
}
both = pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])


@pytest.fixture(params=CLIENTS)
def make_client(request) -> Callable[..., Any]:
    """Makes each kind of client."""
    return CLIENTS[request.param]


@dataclass
class Bucket:
    """A script that keeps each request, and answers with the next status."""

    answers: list[tuple[int, str]] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)
    bodies: list[bytes | None] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, connection: Connection) -> None:
        while head := connection.read_head():
            has_body = header(head, b"content-length") or header(head, b"transfer-encoding")
            body = connection.read_body() if has_body else None
            with self._lock:  # each body has the place of its head, also of several connections
                self.heads.append(head)
                self.bodies.append(body)
            status, location = self.answers.pop(0) if self.answers else (200, "")
            connection.respond(status, b"", *([f"Location: {location}"] if location else []))

    def sent(self, name: str) -> list[bytes | None]:
        """The value of a header in each request."""
        return [header(head, name.lower().encode()) for head in self.heads]


# What the server gets


def pipe_with(content: bytes) -> Any:
    """A file object that cannot seek."""

    class Pipe(io.RawIOBase):
        _left = io.BytesIO(content)

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            return self._left.read(size)

    return Pipe()


def midway(content: bytes) -> io.BytesIO:
    file = io.BytesIO(b"before" + content)
    file.seek(6)
    return file


HALVES = [CONTENT[: 1 << 19], CONTENT[1 << 19 :]]
SOURCES: dict[str, tuple[Callable[[], Any], bool]] = {
    "bytes": (lambda: CONTENT, True),
    "bytearray": (lambda: bytearray(CONTENT), True),
    "memoryview": (lambda: memoryview(CONTENT), True),
    "file object": (lambda: io.BytesIO(CONTENT), True),
    "file object midway": (lambda: midway(CONTENT), True),
    "function of a file object": (lambda: lambda: io.BytesIO(CONTENT), True),
    "iterator with a size": (lambda: File(iter(HALVES), size=len(CONTENT)), True),
    "Observable with a size": (lambda: File(reactivex.from_iterable(HALVES), size=len(CONTENT)), True),
    "empty": (lambda: b"", True),
    "file object that cannot seek": (lambda: pipe_with(CONTENT), False),
    "iterator": (lambda: iter(HALVES), False),
    "list in a function": (lambda: lambda: HALVES, False),
    "Observable": (lambda: reactivex.from_iterable(HALVES), False),
    "empty iterator": (lambda: iter([]), False),
}


@both
@pytest.mark.parametrize("kind", SOURCES)
def test_the_body_is_the_sources_bytes(kind, tls):
    """Every kind of source arrives byte for byte, with its exact length, or in chunks where the length is unknown."""
    make, is_known = SOURCES[kind]
    expected = b"" if "empty" in kind else CONTENT
    bucket = Bucket()
    with Server(bucket, tls=tls) as server, transport_client() as client:
        observed, _ = observe(
            upload(server.url, make(), raw=True, method="PUT", client=client, progress_interval=0)
        )
        assert observed.wait().response.status_code == 200
    assert bucket.bodies == [expected]
    assert bucket.heads[0].startswith(b"PUT / HTTP/1.1\r\n")
    assert bucket.sent("Content-Length") == [str(len(expected)).encode() if is_known else None]
    assert bucket.sent("Transfer-Encoding") == [None if is_known else b"chunked"]
    check_grammar(observed.items, completed=True)
    assert observed.progress[-1] == Progress(len(expected), len(expected) if is_known else None)


@both
def test_a_path_is_sent_from_any_client(make_client, tmp_path, tls):
    """A path is the body with every client; total is the file's size, and the type is guessed from its name."""
    path = tmp_path / "beach.jpg"
    path.write_bytes(CONTENT)
    bucket = Bucket()
    with Server(bucket, tls=tls) as server, make_client() as client:
        observed, _ = observe(upload(server.url, path, raw=True, client=client))
        assert observed.wait().items[-1].status_code == 200
    assert bucket.bodies == [CONTENT]
    assert bucket.sent("Content-Type") == [b"image/jpeg"]
    assert bucket.sent("Content-Length") == [b"%d" % len(CONTENT)]
    assert {item.total for item in observed.progress} == {len(CONTENT)}
    assert observed.progress[-1].percent == 100


def test_the_total_of_a_form_is_its_bodys_size(client):
    """A form's total counts its part heads too, and so is more than the file's size."""
    bucket = Bucket()
    with Server(bucket) as server:
        observed, _ = observe(upload(server.url, CONTENT, client=client))
        observed.wait()
    assert observed.progress[0].total == len(bucket.bodies[0] or b"") > len(CONTENT)


@pytest.mark.skipif(not hasattr(os, "sendfile"), reason="the system has no sendfile")
def test_a_raw_file_goes_by_sendfile(client, tmp_path, monkeypatch):
    """A file over plain http is sent without a copy, from its first byte to its last, as a form's file is."""
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    counts: list[int] = []
    sendfile = os.sendfile

    def record(*args: Any) -> int:
        count = sendfile(*args)
        counts.append(count)
        return count

    monkeypatch.setattr(os, "sendfile", record)
    bucket = Bucket()
    with Server(bucket) as server:
        upload(server.url, path, raw=True, client=client).run()
    assert sum(counts) == len(CONTENT)
    assert bucket.bodies == [CONTENT]


# Headers


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, b"of/client"),
        ({"headers": {"Content-Type": "of/caller"}}, b"of/caller"),
        ({"content_type": "of/argument"}, b"of/argument"),
        ({"content_type": "of/argument", "headers": {"Content-Type": "of/caller"}}, b"of/argument"),
        ({"content_type": ""}, None),
        ({"content_type": "", "headers": {"Content-Type": "of/caller"}}, None),
    ],
    ids=str,
)
def test_the_clients_content_type_comes_before_the_guess(make_client, options, expected):
    """A client's own Content-Type is a caller's too: after the argument and headers, before the guess."""
    bucket = Bucket()
    with Server(bucket) as server, make_client(headers={"Content-Type": "of/client"}) as client:
        upload(server.url, b"data", raw=True, client=client, **options).run()
    assert bucket.sent("Content-Type") == [expected]
    assert bucket.heads[0].lower().count(b"content-type") == (expected is not None)
    assert bucket.bodies == [b"data"]


def test_headers_about_the_length_are_the_bodys(make_client):
    """The caller's Content-Length and Transfer-Encoding never replace the body's."""
    bucket = Bucket()
    wrong = {"content-length": "3", "transfer-encoding": "chunked", "X-Amz-Acl": "private"}
    with Server(bucket) as server, make_client() as client:
        upload(server.url, b"data", raw=True, headers=wrong, client=client).run()
    assert bucket.sent("Content-Length") == [b"4"]
    assert bucket.sent("Transfer-Encoding") == [None]
    assert bucket.sent("X-Amz-Acl") == [b"private"]
    assert bucket.bodies == [b"data"]


@pytest.mark.parametrize(
    "target",
    [
        "/a%2Fb/c%2Bd+e~f%7Eg?X-Amz-Signature=ab%2Fcd%2Be%3D%3D&plus=a+b&tilde=%7E~&lower=%2f%2b",
        "/photos/b%C3%A9ach%20%E2%98%85.jpg?X-Goog-Credential=a%40b%2F20240101&empty=&bare",
        "/a%252Fb?c=%2525&d=a,b;c:d@e!$'()*",
    ],
)
def test_a_presigned_url_leaves_as_it_came(make_client, target):
    """No byte of the path or the query is quoted or decoded again, in the first request or after a redirect."""
    bucket = Bucket([(307, target)])
    with Server(bucket) as server, make_client(follow_redirects=True) as client:
        url = server.url.removesuffix("/")
        upload(url + target, b"data", raw=True, method="PUT", client=client).run()
        upload(httpx.URL(url + target), b"data", raw=True, method="PUT", client=client).run()
    assert [head.split(b"\r\n")[0] for head in bucket.heads] == [f"PUT {target} HTTP/1.1".encode()] * 3


# Further passes


@pytest.mark.parametrize("status", [301, 307, 308])
def test_a_redirect_sends_the_raw_body_again(make_client, status):
    """301, 307 and 308 send the body, its type and its length again, with attempt one higher."""
    bucket = Bucket([(status, "/there")])
    with Server(bucket) as server, make_client() as client:
        observed, _ = observe(
            upload(
                server.url,
                CONTENT,
                raw=True,
                method="PUT",
                headers={"Content-Type": "a/b"},
                client=client,
                follow_redirects=True,
            )
        )
        assert observed.wait().items[-1].status_code == 200
    assert [head.split(b" HTTP")[0] for head in bucket.heads] == [b"PUT /", b"PUT /there"]
    assert bucket.bodies == [CONTENT] * 2
    assert bucket.sent("Content-Type") == [b"a/b"] * 2
    assert observed.progress[-1] == Progress(len(CONTENT), len(CONTENT), 2)


def test_a_303_is_a_get_without_the_callers_type(make_client):
    """A 303 becomes a GET with no header about a body."""
    bucket = Bucket([(303, "/there")])
    with Server(bucket) as server, make_client() as client:
        upload(
            server.url,
            b"data",
            raw=True,
            headers={"Content-Type": "a/b"},
            client=client,
            follow_redirects=True,
        ).run()
    assert bucket.heads[1].startswith(b"GET /there ")
    assert bucket.sent("Content-Type")[1] is None
    assert bucket.bodies == [b"data", None]


def test_content_type_stays_away_on_another_origin(make_client):
    """Where no type is asked for, none is sent after a redirect to another origin either."""
    there, here = Bucket(), Bucket()
    with (
        Server(there) as other,
        Server(here) as server,
        make_client(headers={"Content-Type": "of/client"}) as client,
    ):
        here.answers.append((307, other.url))
        upload(server.url, b"data", raw=True, content_type="", client=client, follow_redirects=True).run()
    assert here.sent("Content-Type") == there.sent("Content-Type") == [None]
    assert there.bodies == [b"data"]


def test_an_auth_challenge_sends_the_raw_body_again(make_client):
    """A Digest challenge makes a second pass with the same bytes."""
    digest = 'Digest realm="r", nonce="n", qop="auth", algorithm=MD5'
    seen: list[bytes] = []

    def script(connection: Connection) -> None:
        while head := connection.read_head():
            seen.append(connection.read_body())
            if header(head, b"authorization"):
                connection.respond(200)
            else:
                connection.respond(401, b"", f"WWW-Authenticate: {digest}")

    library = httpx2 if make_client is CLIENTS["httpx2"] else httpx
    auth = library.DigestAuth("user", "password")
    with Server(script) as server, make_client(auth=auth) as client:
        observed, _ = observe(upload(server.url, CONTENT, raw=True, client=client))
        assert observed.wait().items[-1].status_code == 200
    assert seen == [CONTENT] * 2
    assert observed.progress[-1].attempt == 2


def test_a_retry_sends_the_raw_body_again(client, tmp_path):
    """retry_backoff sends the same bytes, length and type again."""
    path = tmp_path / "a.txt"
    path.write_bytes(CONTENT)
    bucket = Bucket([(503, ""), (503, "")])
    with Server(bucket) as server:
        source = upload(server.url, path, raw=True, method="PUT", client=client)
        response = rxupload.run(source.pipe(retry_backoff(attempts=3, wait_initial=0.001, wait_jitter=0)))
    assert response.status_code == 200
    assert bucket.bodies == [CONTENT] * 3
    assert bucket.sent("Content-Type") == [b"text/plain"] * 3


def test_what_can_be_read_once_is_an_error_in_a_second_pass(client):
    """An iterator cannot be sent again after a redirect: an error, and never an empty body."""
    bucket = Bucket([(307, "/there")])
    with Server(bucket) as server:
        up = upload(server.url, iter([b"data"]), raw=True, client=client, follow_redirects=True)
        with pytest.raises(RuntimeError, match="once"):
            up.run()
    assert bucket.bodies == [b"data"]


# The server's side of it


@both
def test_an_early_answer_is_the_response(client, tls):
    """A 413 that comes while the body is still being sent ends the sending, and is the response."""

    def script(connection: Connection) -> None:
        connection.read_head()
        connection.read(1)
        connection.respond(413, b"too large")
        connection.wait_for_end()

    with Server(script, tls=tls) as server:
        observed, _ = observe(upload(server.url, LARGE, raw=True, method="PUT", client=client))
        assert observed.wait().response.text == "too large"
    assert observed.progress[-1].sent < observed.progress[-1].total == len(LARGE)


@pytest.mark.parametrize("answer", [200, 403])
def test_expect_continue_asks_before_the_body(client, answer, monkeypatch):
    """The server is asked first; a refusal is the response, without a byte of the body sent."""
    monkeypatch.setattr("rxupload._wire.exchange.CONTINUE_SECONDS", PATIENCE)  # however slow the server is
    rest: SimpleQueue[int] = SimpleQueue()

    def script(connection: Connection) -> None:
        head = connection.read_head()
        assert header(head, b"expect") == b"100-continue"
        if answer == 200:
            connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            connection.read_body()
        connection.respond(answer)
        rest.put(connection.read(1))

    with Server(script) as server:
        up = upload(server.url, CONTENT, raw=True, method="PUT", client=client, expect_continue=True)
        observed, _ = observe(up)
        assert observed.wait().response.status_code == answer
        client.close()
        assert rest.get(timeout=PATIENCE) == 0
    assert not server.errors
    assert observed.progress[-1].sent == (len(CONTENT) if answer == 200 else 0)


def test_an_empty_body_expects_nothing(make_client):
    """A request without content does not expect 100 (RFC 9110, section 10.1.1)."""
    bucket = Bucket()
    with Server(bucket) as server, make_client() as client:
        observed, _ = observe(
            upload(server.url, b"", raw=True, method="PUT", client=client, expect_continue=True)
        )
        observed.wait()
    assert bucket.sent("Expect") == [None]
    assert bucket.sent("Content-Length") == [b"0"]
    assert observed.progress == [Progress(0, 0)]
    assert observed.progress[0].percent == 100


def test_a_pause_and_a_rate_hold_a_raw_body(client, tmp_path):
    """While paused only the head is sent; the rate then applies to the file's bytes."""
    path = tmp_path / "file"
    path.write_bytes(bytes(250_000))
    paused = BehaviorSubject(True)
    head_read = threading.Event()

    def script(connection: Connection) -> None:
        connection.read_head()
        assert not connection._buffered
        head_read.set()
        connection.read_body()
        connection.respond(200)

    with Server(script) as server:
        up = upload(
            server.url, path, raw=True, client=client, pause=paused, rate_limit=500_000, progress_interval=0
        )
        observed, _ = observe(up)
        assert head_read.wait(PATIENCE)
        assert [item.sent for item in observed.progress] == [0]
        began = time.monotonic()
        paused.on_next(False)
        assert observed.wait().response.status_code == 200
    assert not server.errors
    assert observed.progress[-1] == Progress(250_000, 250_000)
    assert time.monotonic() - began >= 0.4  # the burst is 25 KB


@pytest.mark.parametrize(
    ("phase", "tls", "reused"),
    CASES,
    ids=[f"{phase.name}{' https' * tls}{' reused' * reused}" for phase, tls, reused in CASES],
)
def test_an_abort_ends_a_raw_upload(phase, tls, reused):
    """In every phase a dispose ends the connection, and the client goes on to work."""
    abort(phase, tls=tls, reused=reused, raw=True, method="PUT")


def test_a_source_that_gives_less_than_declared_is_an_error(client):
    """A source that gives less than its declared size ends the upload, not the request."""

    def script(connection: Connection) -> None:
        with contextlib.suppress(ConnectionError):
            connection.read_request()

    with Server(script) as server:
        up = upload(server.url, File(iter([b"data"]), size=5), raw=True, client=client)
        with pytest.raises(SourceChanged, match="5 bytes expected"):
            up.run()


# In a batch, and beside forms


def test_raw_uploads_in_a_batch_count_their_files(client, tmp_path):
    """upload_all takes raw uploads like any others, and its totals are the files' sizes."""
    paths = [tmp_path / f"{number}.bin" for number in range(5)]
    for path in paths:
        path.write_bytes(secrets.token_bytes(1000))
    bucket = Bucket()
    with Server(bucket) as server:
        uploads = [
            upload(server.url + path.name, path, raw=True, method="PUT", client=client) for path in paths
        ]
        summary = rxupload.run(upload_all(uploads))
    assert isinstance(summary, BatchSummary)
    assert (summary.done, summary.failed, summary.sent) == (5, 0, 5000)
    targets = {
        head.split(b" ")[1].decode(): body for head, body in zip(bucket.heads, bucket.bodies, strict=True)
    }
    assert targets == {f"/{path.name}": path.read_bytes() for path in paths}


def test_a_raw_upload_as_a_task_counts_the_file(client):
    """`start()` gives a task whose counts are the file's bytes, and whose result is the answer."""
    counts: list[tuple[int, int]] = []
    paused = BehaviorSubject(True)
    with Server(Bucket()) as server:
        task = upload(server.url, CONTENT, raw=True, method="PUT", client=client, pause=paused).start()
        task.onProgressUpdate(
            lambda res: counts.append((res["totalBytesSent"], res["totalBytesExpectedToSend"]))
        )
        paused.on_next(False)
        assert task.result()["statusCode"] == 200
    assert counts[-1] == (len(CONTENT), len(CONTENT))
