"""How a response is read: its limit, its codings, and that an abort or the time limit ends it."""

from __future__ import annotations

import gzip
import itertools
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from support.abort_phases import start
from support.held_clock import HeldClock
from support.recording_observer import observe
from support.scripted_server import PATIENCE, Server, header

import rxupload
from rxupload import ResponseTooLarge, UploadTimeout, upload
from rxupload._client import DefaultClient
from rxupload.operators import retry_backoff
from rxupload.testing import Connection

MIB = 1 << 20
LIMIT = 100_000


def deflate(data: bytes, *, raw: bool = False) -> bytes:
    """Compress with zlib's frame, as in RFC 9110, or without, as some servers do."""
    encoder = zlib.compressobj(wbits=-zlib.MAX_WBITS if raw else zlib.MAX_WBITS)
    return encoder.compress(data) + encoder.flush()


CODINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "plain": ("", bytes),
    "identity": ("identity", bytes),
    "gzip": ("gzip", gzip.compress),
    "GZIP": ("GZIP", gzip.compress),
    "deflate": ("deflate", deflate),
    "raw deflate": ("deflate", lambda data: deflate(data, raw=True)),
    "unknown": ("x-none", bytes),
}
FRAMINGS = ["length", "chunked", "one byte chunks", "until the end"]


@cache
def zeros(count: int, times: int = 1) -> bytes:
    """So many zeros, compressed so many times with gzip."""
    data = bytes(count)
    for _ in range(times):
        data = gzip.compress(data)
    return data


def answering(body: bytes, coding: str = "", framing: str = "length") -> Callable[[Connection], None]:
    """A server script that answers with this body."""

    def script(connection: Connection) -> None:
        connection.read_request()
        # The connection serves one request, and a client must know that.
        head = "HTTP/1.1 200 OK\r\nConnection: close\r\n" + f"Content-Encoding: {coding}\r\n" * bool(coding)
        if framing == "length":
            connection.send(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        elif framing == "until the end":
            connection.send(f"{head}\r\n".encode() + body)
        else:
            size = 1 if framing == "one byte chunks" else 5000
            chunks = [body[at : at + size] for at in range(0, len(body), size)]
            lines = [b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*chunks, b"")]
            connection.send(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + b"".join(lines))

    return script


CLIENTS: dict[str, Callable[[], Any]] = {
    "default": DefaultClient,
    "httpx": lambda: httpx.Client(trust_env=False),
    "httpx2": lambda: httpx2.Client(trust_env=False),
    "rxupload": lambda: rxupload.Client(trust_env=False),
}


@pytest.fixture(params=CLIENTS)
def client(request) -> Any:
    """Each kind of client for an upload."""
    made = CLIENTS[request.param]()
    yield made
    made.close()


def ended_with(server: Server, client: Any, **options: Any) -> Any:
    """The response or the error."""
    observed, _ = observe(upload(server.url, b"data", client=client, **options))
    observed.wait()
    server.errors.clear()  # the server may have been cut off
    return observed.items[-1] if observed.is_completed else observed.error


# The limit


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("coding", CODINGS)
def test_the_limit_is_exact(client, coding, framing):
    """Decoded bytes are counted, for any coding and framing, and nothing is lost."""
    size = 2000 if framing == "one byte chunks" else LIMIT
    name, encode = CODINGS[coding]
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    with Server(answering(encode(content), name, framing)) as server:
        response = ended_with(server, client, max_response_size=size)
        assert response.content == content
    with Server(answering(encode(content + b"x"), name, framing)) as server:
        error = ended_with(server, client, max_response_size=size)
    assert isinstance(error, ResponseTooLarge)
    assert str(size) in str(error)
    assert str(error.request.url) == server.url


def test_the_limit_may_be_none(client):
    """None is no limit, and the default limit is 64 MiB."""
    with Server(answering(zeros(64 * MIB), "gzip")) as server:
        assert len(ended_with(server, client).content) == 64 * MIB
    with Server(answering(zeros(64 * MIB + 1), "gzip")) as server:
        assert isinstance(ended_with(server, client), ResponseTooLarge)
        assert len(ended_with(server, client, max_response_size=None).content) == 64 * MIB + 1


@pytest.mark.parametrize("body", [b"", b"x"])
def test_a_limit_of_zero_allows_an_empty_response(client, body):
    """0 allows only an empty response."""
    with Server(answering(body)) as server:
        ended = ended_with(server, client, max_response_size=0)
    assert isinstance(ended, ResponseTooLarge) if body else ended.content == b""


@pytest.mark.parametrize("status", [200, 500, 307])
def test_the_limit_applies_to_each_response(client, status):
    """The limit applies whatever the status, even to a redirect."""

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.respond(status, bytes(LIMIT + 1), "Location: /there")

    with Server(script) as server:
        ended = ended_with(server, client, max_response_size=LIMIT, follow_redirects=True)
    assert isinstance(ended, ResponseTooLarge)


def test_an_endless_body_ends_at_the_limit(client):
    """An endless body ends at the limit, even one that comes during the upload."""

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.send(bytes(MIB))

    with Server(script) as server:
        assert isinstance(ended_with(server, client, max_response_size=MIB), ResponseTooLarge)


def test_an_endless_answer_to_an_endless_upload_ends_at_the_limit():
    """A response that comes during the body is not kept beyond the limit either."""

    def script(connection: Connection) -> None:
        connection.read_head()
        connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.send(bytes(MIB))

    with Server(script) as server:
        endless = lambda: itertools.repeat(bytes(MIB))  # noqa: E731
        observed, _ = observe(upload(server.url, endless, max_response_size=MIB))
        assert isinstance(observed.wait().error, ResponseTooLarge)
        server.errors.clear()


def test_bytes_after_the_encoded_body_count(client):
    """Endless bytes after a gzip are part of the response: they are counted, and not kept."""

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(b"small"))
        while True:
            connection.send(bytes(MIB))

    with Server(script) as server:
        assert isinstance(ended_with(server, client, max_response_size=8 * MIB), ResponseTooLarge)
    with Server(answering(gzip.compress(b"small") + bytes(5000), "gzip")) as server:
        assert ended_with(server, client, max_response_size=6000).content == b"small"


def test_an_exceeded_limit_is_not_retried():
    """`retry_backoff` does not retry it, because the same response would come."""
    with Server(answering(bytes(LIMIT + 1))) as server:
        up = upload(server.url, b"data", max_response_size=LIMIT).pipe(
            retry_backoff(wait_initial=0, wait_jitter=0)
        )
        with pytest.raises(ResponseTooLarge):
            rxupload.run(up)
        assert server.connections == 1


def test_the_limit_applies_to_a_response_that_a_hook_reads():
    """A response that an event hook reads is measured too."""
    with (
        Server(answering(bytes(LIMIT + 1))) as server,
        httpx.Client(trust_env=False, event_hooks={"response": [lambda response: response.read()]}) as client,
    ):
        assert isinstance(ended_with(server, client, max_response_size=LIMIT), ResponseTooLarge)
        assert len(ended_with(server, client).content) == LIMIT + 1


def test_empty_pieces_of_another_transport_are_accepted():
    """A transport may give empty pieces."""

    class Pieces(httpx.SyncByteStream):
        def __iter__(self) -> Any:
            return iter([b"", b"a", b"", b"b"])

    class Transport(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            return httpx.Response(200, stream=Pieces())

    with httpx.Client(transport=Transport()) as client:
        assert upload("http://upload.test/", b"data", client=client).run().content == b"ab"


@pytest.mark.parametrize(
    ("size", "error"),
    [("1", TypeError), (1.5, TypeError), (True, TypeError), (b"", TypeError), (-1, ValueError)],
)
def test_an_invalid_limit_is_refused(size, error):
    """An invalid limit raises at the call, and the message names the argument."""
    with pytest.raises(error, match=r"^max_response_size: "):
        upload("http://upload.test/", b"data", max_response_size=size)


# Bombs

BOMB = """
import gzip, resource, sys, time
sys.path.insert(0, {tests!r})
import httpx, rxupload
from rxupload import upload, ResponseTooLarge
from support.scripted_server import Server
from test_reading import answering

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

data = sys.stdin.buffer.read()
client = httpx.Client(trust_env=False) if {plain} else None
with Server(answering(data, {coding!r}, {framing!r})) as server:
    before, since = peak(), time.process_time()
    try:
        response = upload(server.url, b"data", client=client, **{options}).run()
        print(len(response.content) - len(gzip.decompress(data)) if {times} > 1 else len(response.content), end=" ")
    except httpx.RequestError as error:
        print(type(error).__name__, end=" ")
    print(peak() - before, time.process_time() - since)
    if client is not None:
        client.close()
    server.errors.clear()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no resource module")
@pytest.mark.parametrize(("plain", "framing"), [(False, "length"), (True, "chunked")])
@pytest.mark.parametrize(
    ("times", "coding", "options", "ended", "most"),
    [
        (1, "gzip", {"max_response_size": 1000}, "ResponseTooLarge", 8),
        (1, "gzip", {"max_response_size": MIB}, "ResponseTooLarge", 10),
        (1, "gzip", {}, "ResponseTooLarge", 80),
        (3, "gzip, gzip, gzip", {}, "DecodingError", 4),
        (3, "gzip", {}, "0", 4),
    ],
)
def test_a_bomb_is_harmless(times, coding, options, ended, most, framing, plain):
    """100 MB of zeros in 100 KB cost no memory beyond the limit (MiB) and no time; nested codings are refused."""
    script = BOMB.format(
        tests=str(Path(__file__).parent),
        times=times,
        coding=coding,
        framing=framing,
        options=options,
        plain=plain,
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, input=zeros(100 * MIB, times), capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    how, grown, seconds = done.stdout.decode().split()
    assert how == ended
    assert int(grown) <= most
    assert float(seconds) < 2


@cache
def begun_zeros() -> tuple[bytes, Any]:
    """256 MiB of zeros, compressed with deflate, and what compresses the rest: it is to be copied for that."""
    encoder = zlib.compressobj()
    return encoder.compress(bytes(256 * MIB)), encoder


@pytest.mark.parametrize("end", ["dispose", "timeout"])
def test_an_abort_and_the_time_limit_end_the_decoding(client, end, monkeypatch):
    """An endless encoded body of zeros ends at once."""
    clock = HeldClock(monkeypatch)
    going = threading.Event()
    piece, begun = begun_zeros()
    encoder = begun.copy()

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\n\r\n" + piece[:1000])
        clock.pass_time(PATIENCE)
        going.set()
        connection.send(piece[1000:])
        while True:  # for a client that notices an abort only when more comes
            connection.send(encoder.compress(bytes(1000)) + encoder.flush(zlib.Z_SYNC_FLUSH))
            time.sleep(0.01)

    with Server(script) as server:
        timeout = PATIENCE if end == "timeout" else None
        running = start(upload(server.url, b"data", client=client, max_response_size=None, timeout=timeout))
        assert going.wait(PATIENCE)
        if end == "dispose":
            running.subscription.dispose()
        running.join()
        server.errors.clear()
    if end == "timeout":
        assert isinstance(running.observed.error, UploadTimeout)
    else:
        assert not running.observed.ended


# Codings


def test_it_asks_for_codings_that_it_can_decode_in_bounded_steps(client):
    """Accept-Encoding is gzip and deflate, whatever else the client's library supports."""
    assert asked(client) == b"gzip, deflate"


def asked(client: Any, **options: Any) -> bytes | None:
    """The Accept-Encoding that a server receives."""
    heads: list[bytes] = []

    def script(connection: Connection) -> None:
        heads.append(connection.read_head())
        connection.read_body()
        connection.respond()

    with Server(script) as server:
        upload(server.url, b"data", client=client, **options).run()
    return header(heads[0], b"accept-encoding")


@pytest.mark.parametrize("value", ["identity", "br", "gzip;q=0.5"])
def test_headers_of_the_call_override_accept_encoding(client, value):
    """Accept-Encoding in `headers=` of the call is sent unchanged."""
    assert asked(client, headers={"accept-encoding": value}) == value.encode()


@pytest.mark.parametrize(
    ("own", "sent"),
    [("identity", b"identity"), ("gzip", b"gzip"), ("br, gzip", b"gzip, deflate"), ("*", b"gzip, deflate")],
)
def test_the_clients_own_accept_encoding_is_kept_if_it_can_be_decoded(own, sent):
    """The client's own header is sent unless it asks for other codings."""
    with httpx.Client(trust_env=False, headers={"Accept-Encoding": own}) as client:
        assert asked(client) == sent


@pytest.mark.parametrize("coding", ["gzip, gzip", "gzip,identity", "identity, gzip", "gzip, gzip, gzip"])
def test_more_than_one_coding_is_refused(client, coding):
    """Nested codings are refused, even in two headers, because each could hide a bomb."""
    data = gzip.compress(b"small")
    with Server(answering(data, coding)) as server:
        assert type(ended_with(server, client)).__name__ == "DecodingError"
    with Server(answering(data, coding.replace(",", "\r\nContent-Encoding:"))) as server:
        assert type(ended_with(server, client)).__name__ == "DecodingError"


@pytest.mark.parametrize("coding", ["br", "zstd", "BR"])
def test_a_coding_that_was_not_asked_for_is_refused(client, coding):
    """br and zstd are refused if the request did not ask for them."""
    with Server(answering(b"data", coding)) as server:
        ended = ended_with(server, client)
    assert type(ended).__name__ == "DecodingError"
    assert coding.lower() in str(ended)


@pytest.mark.parametrize(
    "body",
    [
        b"not gzip at all",
        gzip.compress(b"small" * 1000)[:-4] + b"oops",
        gzip.compress(bytes(range(256)) * 100)[:-300],
        gzip.compress(b"small")[:5],
    ],
    ids=["none", "wrong checksum", "cut off", "cut off in its head"],
)
@pytest.mark.parametrize("framing", FRAMINGS)
def test_broken_gzip_is_a_decoding_error(client, body, framing):
    """A broken or incomplete gzip is a `DecodingError`."""
    with Server(answering(body, "gzip", framing)) as server:
        assert type(ended_with(server, client)).__name__ == "DecodingError"


def test_broken_deflate_is_a_decoding_error(client):
    """Data that is not deflate, with or without zlib's frame, is a `DecodingError`."""
    with Server(answering(b"\xff\xff\xff\xff", "deflate")) as server:
        assert type(ended_with(server, client)).__name__ == "DecodingError"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "x-none"])
def test_an_encoded_body_without_bytes_is_empty(client, coding):
    """An empty body is no broken gzip: many servers name a coding for an empty response."""
    with Server(answering(b"", coding)) as server:
        assert ended_with(server, client).content == b""
