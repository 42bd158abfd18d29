"""What a hostile server can cost: memory stays near the limit of a response, and a time limit ends any answer."""

from __future__ import annotations

import gzip
import itertools
import re
import sys
import time
import zlib
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.recording_observer import observe
from support.scripted_server import Server

import rxupload
from rxupload import ResponseTooLarge, upload
from rxupload._client import DefaultClient
from rxupload.operators import raise_for_status
from rxupload.testing import Connection

MIB = 1 << 20
LIMIT = MIB
MARGIN = 40 * MIB  # for what the interpreter, zlib and the server's thread take
OK = b"HTTP/1.1 200 OK\r\n"


@cache
def zeros(block: int = MIB) -> bytes:
    """A MiB of zeros in a kilobyte of raw deflate that may be repeated for ever."""
    encoder = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    return encoder.compress(bytes(block)) + encoder.flush(zlib.Z_FULL_FLUSH)


GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
NAMED_GZIP_HEAD = b"\x1f\x8b\x08\x08\x00\x00\x00\x00\x00\xff"
EMPTY_BLOCK = b"\x00\x00\x00\xff\xff"  # of raw deflate


@cache
def nested(times: int) -> bytes:
    """100 MiB of zeros, compressed several times."""
    encoder = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    data = b"".join([*(encoder.compress(bytes(MIB)) for _ in range(100)), encoder.flush()])
    for _ in range(times - 1):
        data = gzip.compress(data)
    return data


@cache
def brotli_zeros() -> bytes:
    brotli = pytest.importorskip("brotli")
    encoder = brotli.Compressor(quality=9, lgwin=24)
    return b"".join([*(encoder.process(bytes(MIB)) for _ in range(512)), encoder.finish()])


@cache
def zstd_zeros() -> bytes:
    zstandard = pytest.importorskip("zstandard")
    encoder = zstandard.ZstdCompressor().compressobj()
    return b"".join([*(encoder.compress(bytes(MIB)) for _ in range(512)), encoder.flush()])


def endless(data: bytes, *before: bytes) -> Iterable[bytes]:
    """Something, and then the same for ever, in pieces of about 64 KiB."""
    return itertools.chain(before, itertools.repeat(data * max(1, 65536 // len(data))))


CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
TOO_LARGE, DECODING, PROTOCOL = "ResponseTooLarge", "DecodingError", "RemoteProtocolError"


def coded(coding: bytes, status: bytes = OK) -> bytes:
    return status + b"Content-Encoding: " + coding + b"\r\n\r\n"


# What comes, and how it ends
BOMBS: dict[str, tuple[Callable[[], Iterable[bytes]], str]] = {
    "plain until the end": (lambda: endless(bytes(MIB), OK + b"\r\n"), TOO_LARGE),
    "plain of a huge length": (
        lambda: endless(bytes(MIB), OK + b"Content-Length: 99999999999999\r\n\r\n"),
        TOO_LARGE,
    ),
    "a response of HTTP/1.0": (lambda: endless(bytes(MIB), b"HTTP/1.0 200 OK\r\n\r\n"), TOO_LARGE),
    "large chunks": (lambda: endless(b"10000\r\n" + bytes(0x10000) + b"\r\n", CHUNKED), TOO_LARGE),
    "one huge chunk": (lambda: endless(bytes(MIB), CHUNKED + b"fffffffffff\r\n"), TOO_LARGE),
    "tiny chunks": (lambda: endless(b"1\r\nx\r\n", CHUNKED), TOO_LARGE),
    "tiny chunks with extensions": (
        lambda: endless(b"1;" + b"e" * 1000 + b"\r\nx\r\n", CHUNKED),
        f"{TOO_LARGE}|{PROTOCOL}",
    ),
    "an endless chunk extension": (lambda: endless(b"x", CHUNKED + b"1;"), PROTOCOL),
    "endless trailers": (lambda: endless(b"Trailer: x\r\n", CHUNKED + b"0\r\n"), PROTOCOL),
    "one endless trailer": (lambda: endless(b"x", CHUNKED + b"0\r\nTrailer: "), PROTOCOL),
    "an endless head": (lambda: endless(b"Header: x\r\n", OK), PROTOCOL),
    "one endless header": (lambda: endless(b"x", OK + b"Header: "), PROTOCOL),
    "gzip": (lambda: endless(zeros(), coded(b"gzip"), GZIP_HEAD), TOO_LARGE),
    "x-gzip": (lambda: endless(zeros(), coded(b"x-gzip"), GZIP_HEAD), TOO_LARGE),
    "deflate": (lambda: endless(zeros(), coded(b"deflate"), b"\x78\x9c"), TOO_LARGE),
    "raw deflate": (lambda: endless(zeros(), coded(b"deflate")), TOO_LARGE),
    "gzip in chunks": (
        lambda: endless(
            b"%x\r\n%s\r\n" % (len(zeros()), zeros()),
            OK + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\na\r\n" + GZIP_HEAD + b"\r\n",
        ),
        TOO_LARGE,
    ),
    "gzip members": (lambda: endless(gzip.compress(bytes(MIB)), coded(b"gzip")), TOO_LARGE),
    "empty gzip members": (lambda: endless(gzip.compress(b""), coded(b"gzip")), TOO_LARGE),
    "gzip of nothing": (lambda: endless(EMPTY_BLOCK, coded(b"gzip"), GZIP_HEAD), TOO_LARGE),
    "deflate of nothing": (lambda: endless(EMPTY_BLOCK, coded(b"deflate")), TOO_LARGE),
    "an endless name in gzip": (lambda: endless(b"x", coded(b"gzip"), NAMED_GZIP_HEAD), TOO_LARGE),
    "bytes after gzip": (lambda: endless(bytes(MIB), coded(b"gzip"), gzip.compress(b"x")), TOO_LARGE),
    "bytes after deflate": (lambda: endless(bytes(MIB), coded(b"deflate"), zlib.compress(b"x")), TOO_LARGE),
    "three codings": (lambda: [coded(b"gzip, gzip, gzip"), nested(3)], DECODING),
    "three codings in three headers": (
        lambda: [coded(b"gzip\r\nContent-Encoding: gzip\r\nContent-Encoding: gzip"), nested(3)],
        DECODING,
    ),
    "gzip of gzip of gzip": (lambda: [coded(b"gzip"), nested(3)], "Response"),
    "br that was not asked for": (lambda: [coded(b"br"), brotli_zeros()], DECODING),
    "zstd that was not asked for": (lambda: [coded(b"zstd"), zstd_zeros()], DECODING),
    "a redirect": (lambda: endless(bytes(MIB), b"HTTP/1.1 301 Moved\r\nLocation: /\r\n\r\n"), TOO_LARGE),
    "a redirect in gzip": (
        lambda: endless(zeros(), coded(b"gzip", b"HTTP/1.1 307 Moved\r\nLocation: /\r\n"), GZIP_HEAD),
        TOO_LARGE,
    ),
    "an error": (lambda: endless(bytes(MIB), b"HTTP/1.1 500 Error\r\n\r\n"), TOO_LARGE),
    "an error in gzip": (
        lambda: endless(zeros(), coded(b"gzip", b"HTTP/1.1 413 Too Large\r\n"), GZIP_HEAD),
        TOO_LARGE,
    ),
}
CLIENTS: dict[str, Callable[..., Any]] = {
    "default": lambda **_: DefaultClient(),
    "rxupload": lambda **options: rxupload.Client(trust_env=False, **options),
    "httpx": lambda **options: httpx.Client(trust_env=False, **options),
}


def saying(pieces: Callable[[], Iterable[bytes]]) -> Callable[[Connection], None]:
    """A server script that answers with these pieces, whatever the client does."""

    def script(connection: Connection) -> None:
        connection.read_request()
        for piece in pieces():
            connection.send(piece)

    return script


def peak_of(action: Callable[[], Any]) -> tuple[Any, int]:
    """Run something. Return its result, and by how many bytes the process grew in between."""
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux can measure the peak of a part of a process's life")

    def status(name: str) -> int:
        found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1024

    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again
    result = action()
    return result, status("VmHWM") - before


def end_of(up: Any) -> Any:
    """The last item or the error of an upload."""
    observed, _ = observe(up)
    observed.wait()
    return observed.items[-1] if observed.is_completed else observed.error


@pytest.fixture(params=CLIENTS)
def client(request) -> Any:
    made = CLIENTS[request.param]()
    yield made
    made.close()


@pytest.mark.parametrize("bomb", BOMBS)
def test_memory_stays_near_the_limit(client, bomb):
    """Whatever comes, the process grows by little more than the limit of the response."""
    pieces, how = BOMBS[bomb]
    pieces()  # makes what it is made of
    limit = 20_000 if "tiny" in bomb else LIMIT  # h11 takes 10 us for a chunk
    with Server(saying(pieces)) as server:
        up = upload(server.url, b"data", client=client, max_response_size=limit, follow_redirects=True)
        end, grown = peak_of(lambda: end_of(up))
        server.errors.clear()
    assert type(end).__name__ in how.split("|")
    assert grown < MARGIN


@pytest.mark.parametrize("bomb", BOMBS)
def test_the_time_limit_ends_any_response(client, bomb):
    """Without a limit of its size, an endless response ends soon after the time limit of the upload."""
    pieces, how = BOMBS[bomb]
    pieces()  # makes what it is made of, which takes a second
    with Server(saying(pieces)) as server:
        up = upload(server.url, b"data", client=client, max_response_size=None, timeout=0.1)
        since = time.monotonic()
        end = end_of(up)
        lasted = time.monotonic() - since
        server.errors.clear()
    assert type(end).__name__ in [*how.split("|"), "UploadTimeout"]
    assert not isinstance(end, ResponseTooLarge)
    assert lasted < 5


@pytest.mark.parametrize("coding", ["br", "zstd"])
@pytest.mark.parametrize("is_limited", [True, False])
def test_a_coding_that_the_caller_asks_for(client, coding, is_limited):
    """The client's library decodes br and zstd, a few bytes at a time. So their bombs are small, too."""
    data = brotli_zeros() if coding == "br" else zstd_zeros()
    with Server(saying(lambda: [coded(coding.encode()), data])) as server:
        options: Any = {"max_response_size": LIMIT} if is_limited else {"timeout": 0.02}
        up = upload(server.url, b"data", client=client, headers={"Accept-Encoding": coding}, **options)
        end, grown = peak_of(lambda: end_of(up))
        server.errors.clear()
    if is_limited:
        assert isinstance(end, ResponseTooLarge)
        assert grown < 2 * MARGIN
    elif isinstance(end, httpx.Response):  # a fast machine
        assert len(end.content) == 512 * MIB


@pytest.mark.parametrize("coding", ["br", "zstd"])
def test_a_coding_that_the_caller_asks_for_is_decoded(client, coding):
    """Cutting the body into a few bytes loses nothing."""
    module: Any = pytest.importorskip({"br": "brotli", "zstd": "zstandard"}[coding])
    content = b"".join(b"%d" % number for number in range(20_000))
    data = module.compress(content)
    with Server(saying(lambda: [coded(coding.encode()), data])) as server:
        response = end_of(upload(server.url, b"data", client=client, headers={"Accept-Encoding": coding}))
    assert response.content == content
    assert response.headers["Content-Encoding"] == coding


class Challenged(httpx.Auth):
    """An auth that reads the response before it answers."""

    requires_response_body = True

    def auth_flow(self, request: httpx.Request) -> Any:
        response = yield request
        if response.status_code == 401:
            request.headers["Authorization"] = "answer"
            yield request


AUTHS: dict[str, Callable[[], Any]] = {
    "of the user": Challenged,
    "digest": lambda: httpx.DigestAuth("user", "password"),
}
UNAUTHORIZED = b'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Digest realm="r", nonce="n"\r\n'
CHALLENGES: dict[str, Callable[[], Iterable[bytes]]] = {
    "plain": lambda: endless(bytes(MIB), UNAUTHORIZED + b"\r\n"),
    "gzip": lambda: endless(zeros(), coded(b"gzip", UNAUTHORIZED), GZIP_HEAD),
    "gzip members": lambda: endless(gzip.compress(bytes(MIB)), coded(b"gzip", UNAUTHORIZED)),
    "raw deflate": lambda: endless(zeros(), coded(b"deflate", UNAUTHORIZED)),
    "gzip of nothing": lambda: endless(EMPTY_BLOCK, coded(b"gzip", UNAUTHORIZED), GZIP_HEAD),
    "tiny chunks": lambda: endless(b"1\r\nx\r\n", UNAUTHORIZED + b"Transfer-Encoding: chunked\r\n\r\n"),
}


@pytest.mark.parametrize("auth", AUTHS)
@pytest.mark.parametrize("challenge", CHALLENGES)
@pytest.mark.parametrize("is_limited", [True, False])
def test_a_response_that_an_auth_reads(auth, challenge, is_limited):
    """Both limits apply to a response that an auth makes the client read, over our transport."""
    with (
        Server(saying(CHALLENGES[challenge])) as server,
        rxupload.Client(trust_env=False, auth=AUTHS[auth]()) as client,
    ):
        options: Any = {"max_response_size": LIMIT} if is_limited else {"timeout": 0.1}
        since = time.monotonic()
        end, grown = peak_of(lambda: end_of(upload(server.url, b"data", client=client, **options)))
        server.errors.clear()
    if is_limited:
        assert isinstance(end, ResponseTooLarge)
        assert grown < MARGIN
    else:
        assert type(end).__name__ in (TOO_LARGE, "UploadTimeout")
        assert time.monotonic() - since < 5


def test_an_auth_gets_the_response_whole():
    """The limits change nothing of a response that an auth reads."""
    seen: list[bytes] = []

    class Reading(Challenged):
        def auth_flow(self, request: httpx.Request) -> Any:
            response = yield request
            seen.append(response.content)
            yield request

    content = b"challenge" * 50_000

    def script(connection: Connection) -> None:
        for status in (401, 200):
            connection.read_request()
            connection.respond(status, gzip.compress(content), "Content-Encoding: gzip")

    with Server(script) as server, rxupload.Client(trust_env=False, auth=Reading()) as client:
        response = end_of(upload(server.url, b"data", client=client))
        assert server.connections == 1
    assert (response.content, seen) == (content, [content])


def test_raise_for_status_does_not_read_an_endless_error(client):
    """The body of an error has the limit of any response."""
    with Server(saying(BOMBS["an error"][0])) as server:
        up = upload(server.url, b"data", client=client, max_response_size=LIMIT).pipe(raise_for_status())
        end, grown = peak_of(lambda: end_of(up))
        server.errors.clear()
    assert isinstance(end, ResponseTooLarge)
    assert grown < MARGIN


@pytest.mark.parametrize("head", [OK + b"\r\n", CHUNKED + b"fffffffffff\r\n", coded(b"gzip") + GZIP_HEAD])
def test_an_endless_response_during_the_body(head):
    """What comes while the body is sent is not kept beyond the limit."""

    def script(connection: Connection) -> None:
        connection.read_head()
        for piece in endless(zeros(), head):
            connection.send(piece)

    with Server(script) as server:
        up = upload(server.url, lambda: itertools.repeat(bytes(MIB)), max_response_size=LIMIT)
        end, grown = peak_of(lambda: end_of(up))
        server.errors.clear()
    assert isinstance(end, ResponseTooLarge)
    assert grown < MARGIN


@pytest.mark.parametrize("coding", ["", "gzip"])
def test_a_large_response_is_held_once(client, coding):
    """A response of 100 MiB takes 100 MiB, and not twice as much while it is put together."""
    pieces = [bytes(MIB)] * 100
    head = OK + b"Connection: close\r\n\r\n"
    if coding:
        pieces = [gzip.compress(bytes(MIB))] * 100
        head = coded(b"gzip", OK + b"Connection: close\r\n")
    with Server(saying(lambda: [head, *pieces])) as server:
        end, grown = peak_of(
            lambda: end_of(upload(server.url, b"data", client=client, max_response_size=None))
        )
        server.errors.clear()
    assert len(end.content) == 100 * MIB
    assert grown < 100 * MIB + 2 * MARGIN  # and not 200 MiB
