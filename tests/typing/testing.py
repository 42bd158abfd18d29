"""The types of `rxupload.testing`: checked by mypy and pyright, never run."""

import ssl
from typing import assert_type

import httpx

from rxupload import HTTPClient, Progress, UploadEvent, upload
from rxupload.operators import raise_for_status
from rxupload.testing import Connection, Exchange, HandCrankedClient, Head, RecordingObserver, ScriptedServer


def script(connection: Connection) -> None:
    """Each method has its type."""
    head = connection.read_head()
    assert_type(head, Head)
    assert_type(head.header("content-length"), str | None)
    assert_type(head.method + head.target, str)
    assert_type(connection.read(10), int)
    assert_type(connection.read_body(), bytes)
    connection.respond(503, b"busy", "Retry-After: 1", "Connection: close")
    assert_type(connection.serve(200), bytes)
    assert_type(connection.wait_for_end(), float)


def answer(request: httpx.Request) -> httpx.Response:
    """A function as an answer."""
    return httpx.Response(200, request=request)


with ScriptedServer(
    script, 503, Connection.serve, tls=ssl.create_default_context(), receive_buffer=1
) as server:
    assert_type(server, ScriptedServer)
    assert_type(server.url, str)
    assert_type(server.connections, int)
    assert_type(server.errors, list[BaseException])

client = HandCrankedClient(503, httpx.ReadError("reset"), answer)
as_client: HTTPClient = client
assert_type(client.requests, list[httpx.Request])
exchange = client.next_request(timeout=1)
assert_type(exchange, Exchange)
assert_type(exchange.take(), bytes | None)
assert_type(exchange.take_all(), bytes)
assert_type(exchange.end(), BaseException | httpx.Response)

observer: RecordingObserver[UploadEvent] = RecordingObserver()
source = upload("https://example.org/", b"data", client=client)
source.subscribe(observer)
source.pipe(raise_for_status()).subscribe(observer)
assert_type(observer.items, list[Progress | httpx.Response])
assert_type(observer.wait(), RecordingObserver[Progress | httpx.Response])
assert_type(observer.progress, list[Progress])
assert_type(observer.response, httpx.Response)

numbers = RecordingObserver[int](print)
assert_type(numbers.items, list[int])
