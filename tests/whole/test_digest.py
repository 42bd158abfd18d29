"""Digests on the way: what was hashed is what arrived, for each kind of source, client and way of ending."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import httpx
import pytest
import reactivex
from reactivex.subject import BehaviorSubject
from support.abort_phases import transport_client
from support.http2_server import Talk, http2_context, speaking
from support.recording_observer import check_grammar, observe
from support.scripted_server import PATIENCE, Server, client_context

from rxupload import Client, DigestMismatch, Field, File, UploadTransport, run, upload
from rxupload.operators import retry_backoff, verify_digest
from rxupload.testing import Connection

SMALL = b"photo" * 1000
LARGE = bytes(range(256)) * 12_000 + b"end"  # 3 MB
LARGE_ENOUGH = 32 << 20  # more than the system's buffers hold
NO_LIMIT = {"progress_interval": 0.0}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def digests_of(response: httpx.Response) -> Any:
    return response.extensions["rxupload"]["digests"]


def echo(bodies: list[bytes]) -> Any:
    """A script that keeps each body."""

    def script(connection: Connection) -> None:
        while connection.read_head():
            bodies.append(connection.read_body())
            connection.respond(200, b"thanks")

    return script


SOURCES: dict[str, Callable[[Path, bytes], Any]] = {
    "path": lambda path, _: path,
    "bytes": lambda _, data: data,
    "bytearray": lambda _, data: bytearray(data),
    "file object": lambda path, _: path.open("rb"),
    "memory": lambda _, data: io.BytesIO(data),
    "iterable": lambda _, data: deque([data[:100], b"", data[100:]]),
    "function": lambda _, data: lambda: io.BytesIO(data),
    "Observable": lambda _, data: reactivex.of(data[:100], data[100:]),
    "declared": lambda _, data: File([data[:7], data[7:]], size=len(data)),
}


def source_of(kind: str, data: bytes, folder: Path) -> Any:
    path = folder / "beach.jpg"
    path.write_bytes(data)
    if kind in SOURCES:
        return SOURCES[kind](path, data)
    path = folder / "pipe"
    os.mkfifo(path)
    threading.Thread(target=path.write_bytes, args=(data,)).start()
    return path


KINDS = [
    *SOURCES,
    pytest.param(
        "pipe", marks=pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
    ),
]


@pytest.mark.parametrize("raw", [False, True], ids=["form", "raw"])
@pytest.mark.parametrize("data", [b"", SMALL, LARGE], ids=len)
@pytest.mark.parametrize("kind", KINDS)
def test_every_source(tmp_path, kind, data, raw):
    """The digest is that of the bytes that arrived, whatever the source and its size; and the progress is exact."""
    source, bodies = source_of(kind, data, tmp_path), []
    with Server(echo(bodies)) as server:
        observed, _ = observe(upload(server.url, source, raw=raw, digest="sha256", **NO_LIMIT))
        response = observed.wait().response
    assert digests_of(response) == [sha256(data)]
    assert response.extensions["rxupload"]["algorithm"] == "sha256"
    assert (bodies[0] == data) if raw else (data in bodies[0])
    check_grammar(observed.items, completed=True)
    assert observed.progress[-1].sent == len(bodies[0])
    if hasattr(source, "close"):
        source.close()


@pytest.mark.parametrize("kind", ["tls", "plain client", "plain client, tls"])
def test_every_client(tmp_path, kind):
    """It is the same over TLS and with a plain client."""
    path, bodies = tmp_path / "beach.jpg", []
    path.write_bytes(LARGE)
    with Server(echo(bodies), tls="tls" in kind) as server:
        made = httpx.Client(verify=client_context()) if "plain" in kind else transport_client()
        with made as client:
            response = upload(server.url, [path, SMALL], digest="sha256", client=client).run()
    assert digests_of(response) == [sha256(LARGE), sha256(SMALL)]
    assert LARGE in bodies[0]


@pytest.mark.parametrize("is_refused", [False, True], ids=["whole", "refused"])
def test_over_http2(is_refused):
    """It is the same over HTTP/2, where the body was sent whole and where it was not."""

    def script(talk: Talk) -> None:
        stream = talk.request()
        if is_refused:
            talk.respond(stream, 413)
            talk.read_until(lambda: False)
        else:
            talk.respond(stream, 200, sha256(talk.body(stream)).encode())

    transport = UploadTransport(verify=client_context(), http2=True)
    with (
        Server(speaking(script), tls=http2_context()) as server,
        httpx.Client(transport=transport) as client,
    ):
        response = upload(
            server.url.replace("127.0.0.1", "localhost"), LARGE, raw=True, digest="sha256", client=client
        ).run()
    assert response.http_version == "HTTP/2"
    assert digests_of(response) == [None if is_refused else response.text]


def test_a_list_has_one_digest_for_each_file():
    """Fields have no digest, wherever they stand."""
    files = [SMALL, Field("value", name="a"), b"", File(LARGE, filename="film.mp4"), Field("value", name="b")]
    with Server(echo([])) as server:
        response = upload(server.url, files, form_data={"c": "d"}, digest="md5").run()
    assert digests_of(response) == [hashlib.md5(each).hexdigest() for each in (SMALL, b"", LARGE)]


def test_an_asynchronous_source():
    """What an asynchronous generator gives is hashed, too."""

    async def pieces() -> Any:
        yield LARGE[:1000]
        await asyncio.sleep(0)
        yield LARGE[1000:]

    async def main(url: str) -> httpx.Response:
        return await upload(url, pieces, digest="sha256")

    with Server(echo([])) as server:
        assert digests_of(asyncio.run(main(server.url))) == [sha256(LARGE)]


def test_awaited():
    """`await` gives the same."""

    async def main(url: str) -> httpx.Response:
        return await upload(url, SMALL, digest="sha256")

    with Server(echo([])) as server:
        assert digests_of(asyncio.run(main(server.url))) == [sha256(SMALL)]


@pytest.mark.skipif(
    not hasattr(os, "sendfile") or not hasattr(os, "pread"), reason="the system has no sendfile"
)
def test_each_byte_is_read_once(tmp_path, monkeypatch):
    """With a digest the file is read once, and not by sendfile; without one it is sent by sendfile, and not read."""
    path = tmp_path / "film.mp4"
    path.write_bytes(LARGE)
    counts = {"pread": 0, "sendfile": 0}
    pread, sendfile = os.pread, os.sendfile

    def counting_pread(*args: Any) -> bytes:
        data = pread(*args)
        counts["pread"] += len(data)
        return data

    def counting_sendfile(*args: Any) -> int:
        count = sendfile(*args)
        counts["sendfile"] += count
        return count

    monkeypatch.setattr(os, "pread", counting_pread)
    monkeypatch.setattr(os, "sendfile", counting_sendfile)
    with Server(echo([])) as server:
        upload(server.url, path, digest="sha256").run()
        assert counts == {"pread": len(LARGE), "sendfile": 0}
        response = upload(server.url, path).run()
        assert counts == {"pread": len(LARGE), "sendfile": len(LARGE)}
    assert "rxupload" not in response.extensions


# Passes


def test_the_digests_are_those_of_the_last_pass():
    """After a redirect that sends the body again, the digest is that of the body that arrived there."""
    passes = iter([SMALL, LARGE])
    bodies: list[bytes] = []

    def script(connection: Connection) -> None:
        while connection.read_head():
            bodies.append(connection.read_body())
            connection.respond(*((307, b"", "Location: /there") if len(bodies) == 1 else (200,)))

    with Server(script) as server:
        up = upload(server.url, lambda: [next(passes)], digest="sha256", follow_redirects=True, raw=True)
        response = up.run()
    assert bodies == [SMALL, LARGE]
    assert digests_of(response) == [sha256(LARGE)]
    assert "rxupload" not in response.history[0].extensions


def test_a_redirect_that_becomes_a_get_keeps_the_digests():
    """After a 303 the digest is that of the body that was sent before."""

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.respond(303, b"", "Location: /there")
        assert connection.read_head().startswith(b"GET /there")
        connection.respond(200)

    with Server(script) as server:
        response = upload(server.url, SMALL, digest="sha256", follow_redirects=True).run()
    assert digests_of(response) == [sha256(SMALL)]


def test_a_retry_begins_a_new_hash():
    """After an attempt that broke off, the digest is that of the attempt that succeeded."""
    heads: list[bytes] = []

    def script(connection: Connection) -> None:
        heads.append(connection.read_head())
        if len(heads) == 1:
            connection.read(1000)
            connection.reset()
            return
        connection.read_body()
        connection.respond(200)

    with Server(script, receive_buffer=65536) as server:
        up = upload(server.url, LARGE * 4, digest="sha256")
        response = run(up.pipe(retry_backoff(wait_initial=0, wait_jitter=0)))
    assert digests_of(response) == [sha256(LARGE * 4)]


class _Signing(httpx.Auth):
    """Reads the body before it is sent, as an auth that signs it does."""

    requires_request_body = True

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response]:
        request.headers["X-Signature"] = sha256(request.content)
        yield request


def test_an_auth_that_reads_the_body():
    """A body that an auth has read into memory has its digest."""
    bodies: list[bytes] = []
    with Server(echo(bodies)) as server, Client(auth=_Signing()) as client:
        response = upload(server.url, SMALL, raw=True, digest="sha256", client=client).run()
    assert bodies == [SMALL]
    assert digests_of(response) == [sha256(SMALL)]


# Bodies that were not sent whole


@pytest.mark.parametrize("status", [413, 303])
def test_an_early_answer_leaves_no_digest(status):
    """A body that was not sent whole has no digest of a file."""

    def script(connection: Connection) -> None:
        connection.read_head()
        connection.respond(status)
        connection.wait_for_end()

    with Server(script, receive_buffer=65536) as server:
        response = upload(server.url, [SMALL, LARGE * 8], digest="sha256").run()
    assert response.status_code == status
    assert digests_of(response) == [None, None]


def test_a_refusal_before_the_body_leaves_no_digest(monkeypatch):
    """With `expect_continue`, a refusal comes before the body."""
    monkeypatch.setattr("rxupload._wire.exchange.CONTINUE_SECONDS", PATIENCE)  # however slow the server is

    def script(connection: Connection) -> None:
        connection.read_head()
        connection.respond(401, b"", "Connection: close")

    with Server(script) as server:
        response = upload(server.url, SMALL, digest="sha256", expect_continue=True).run()
    assert digests_of(response) == [None]


def test_a_success_without_the_whole_body_is_a_mismatch():
    """A 2xx whose connection ends before the whole body was sent is delivered, and `verify_digest` refuses it."""

    def script(connection: Connection) -> None:
        connection.read_head()
        connection.respond(200, sha256(b"part").encode(), "Connection: close")
        connection.read(LARGE_ENOUGH)  # so that the client has heard the response
        connection.reset()

    with Server(script, receive_buffer=65536) as server:
        up = upload(server.url, bytes(2 * LARGE_ENOUGH), digest="sha256")
        with pytest.raises(DigestMismatch) as caught:
            run(up.pipe(verify_digest(lambda response: response.text)))
    assert caught.value.expected == [None]
    assert caught.value.received == [sha256(b"part")]


def test_a_server_that_stores_other_bytes():
    """A server that has lost bytes is found out, and the next attempt is taken."""
    bodies: list[bytes] = []

    def script(connection: Connection) -> None:
        while connection.read_head():
            body = connection.read_body()
            bodies.append(body)
            connection.respond(200, sha256(body[: -1 if len(bodies) == 1 else None]).encode())

    with Server(script) as server:
        up = upload(server.url, LARGE, raw=True, digest="sha256")
        verified = up.pipe(verify_digest(lambda response: response.text))
        response = run(verified.pipe(retry_backoff(wait_initial=0, wait_jitter=0)))
    assert len(bodies) == 2
    assert digests_of(response) == [sha256(LARGE)]


# Beside the throttle


def test_a_rate_limit_holds_beside_a_digest(tmp_path):
    """The body takes the time that the rate gives it."""
    path = tmp_path / "film.mp4"
    path.write_bytes(LARGE)
    with Server(echo([])) as server:
        began = time.monotonic()
        response = upload(server.url, path, digest="sha256", rate_limit=10e6).run()
        assert time.monotonic() - began > 0.2  # 0.3 s, less a burst of 50 ms
    assert digests_of(response) == [sha256(LARGE)]


def test_a_pause_holds_beside_a_digest(tmp_path):
    """A paused body does not leave, and its digest is right when it goes on."""
    path, bodies = tmp_path / "film.mp4", []
    path.write_bytes(LARGE)
    paused = BehaviorSubject(True)
    with Server(echo(bodies)) as server:
        observed, _ = observe(upload(server.url, path, digest="sha256", pause=paused))
        while not observed.items:
            time.sleep(0.001)
        assert not observed.ended
        assert [item.sent for item in observed.progress] == [0]
        paused.on_next(False)
        assert digests_of(observed.wait().response) == [sha256(LARGE)]
    assert LARGE in bodies[0]
