"""Uploads over HTTP/2: each has a connection of its own, and all that holds over HTTP/1.1 holds there."""

from __future__ import annotations

import gzip
import itertools
import threading
import time
from collections.abc import Callable
from queue import Queue
from typing import Any

import h2.errors
import h2.events
import httpx
import pytest
from reactivex.subject import Subject
from support.abort_phases import LARGE, start
from support.fault_scenarios import SHORT, has_no_active_connections
from support.http2_server import Talk, counting, http2_context, speaking
from support.recording_observer import check_grammar
from support.scripted_server import PATIENCE, Server, client_context

import rxupload
from rxupload import File, ResponseTooLarge, UploadTimeout, UploadTransport, upload

MIB = 1 << 20


@pytest.fixture
def client():
    with httpx.Client(
        transport=UploadTransport(http2=True, verify=client_context()), timeout=PATIENCE
    ) as made:
        yield made


def at(server: Server) -> str:
    return f"https://localhost:{server.port}/"


def body_of(response: httpx.Response) -> int:
    return int(response.text)


# What is sent


@pytest.mark.parametrize("window", [1, 100, 16_384, 65_535, 8 * MIB])
@pytest.mark.parametrize("kind", ["bytes", "file", "unknown length", "nothing"])
def test_an_upload_is_complete(client, tmp_path, kind, window):
    """Every byte arrives, whatever the server's windows are, and the progress ends with all of them."""
    size = 3000 if window < 16_384 else 2 * MIB
    path = tmp_path / "file"
    path.write_bytes(LARGE[:size])
    source: Any = {
        "bytes": LARGE[:size],
        "file": path,
        "unknown length": lambda: [LARGE[:size]],
        "nothing": b"",
    }[kind]
    bodies: list[bytes] = []

    def script(talk: Talk) -> None:
        stream = talk.request()
        bodies.append(talk.body(stream))
        talk.respond(stream, 200, str(len(bodies[0])).encode())
        talk.read()

    with Server(speaking(script, window=window), tls=http2_context()) as server:
        running = start(upload(at(server), source, client=client))
        observed = running.observed.wait()
        running.join()
        server.errors.clear()
    check_grammar(observed.items, completed=True)
    assert observed.response.http_version == "HTTP/2"
    assert observed.response.reason_phrase == "OK"
    assert body_of(observed.response) == observed.progress[-1].sent
    assert (LARGE[:size] if kind != "nothing" else b"--") in bodies[0]


def test_the_request_has_the_fields_of_http2(client):
    """The head has pseudo fields, lower case names, and nothing about the connection."""
    requests: list[dict[str, str]] = []

    def script(talk: Talk) -> None:
        stream = talk.request()
        talk.body(stream)
        requests.append(talk.requests[stream])
        talk.respond(stream)
        talk.read()

    with Server(speaking(script), tls=http2_context()) as server:
        upload(at(server) + "path?query", iter([b"data"]), client=client, headers={"X-Own": "value"}).run()
        server.errors.clear()
        (fields,) = requests
        assert fields[":method"] == "POST"
        assert fields[":path"] == "/path?query"
        assert fields[":authority"] == f"localhost:{server.port}"
        assert fields[":scheme"] == "https"
    assert fields["x-own"] == "value"
    assert not {"host", "connection", "transfer-encoding"} & set(fields)


def test_uploads_do_not_share_a_connection(client):
    """Eight uploads at a time have eight connections, and each is complete."""
    with Server(speaking(counting), tls=http2_context()) as server:
        running = [start(upload(at(server), LARGE[: 2 * MIB], client=client)) for _ in range(8)]
        for each in running:
            observed = each.observed.wait()
            assert body_of(observed.response) == observed.progress[-1].sent == observed.progress[-1].total
            check_grammar(observed.items, completed=True)
            each.join()
        assert 1 <= server.connections <= 8
        assert has_no_active_connections(client)


def test_one_after_another_shares_a_connection(client):
    """A connection is used again, even if frames came while it was idle."""
    idle = threading.Event()

    def script(talk: Talk) -> None:
        for _ in range(3):
            stream = talk.request()
            talk.respond(stream, 200, str(len(talk.body(stream))).encode())
            talk.state.ping(b"12345678")
            talk.flush()
            idle.set()

    with Server(speaking(script), tls=http2_context()) as server:
        for _ in range(3):
            idle.clear()
            assert upload(at(server), b"data", client=client).run().status_code == 200
            assert idle.wait(PATIENCE)
        assert server.connections == 1
        server.errors.clear()


@pytest.mark.parametrize("how", ["GOAWAY", "a close"])
def test_a_connection_that_ended_while_idle_is_replaced(client, how):
    """After GOAWAY or a close, the next upload has a new connection."""
    ended = threading.Event()

    def script(talk: Talk) -> None:
        stream = talk.request()
        talk.body(stream)
        talk.respond(stream)
        if server.connections == 1:
            if how == "GOAWAY":
                talk.state.close_connection()
                talk.flush()
            else:
                talk.connection.sock.close()
            ended.set()
            if how != "GOAWAY":
                return
        talk.read_until(lambda: False)

    with Server(speaking(script), tls=http2_context()) as server:
        for _ in range(2):
            assert upload(at(server), b"data", client=client).run().status_code == 200
            assert ended.wait(PATIENCE)
        assert server.connections == 2
        server.errors.clear()


def test_other_requests_go_over_it(client):
    """A request without a body works too, and a redirect to GET."""

    def script(talk: Talk) -> None:
        while stream := talk.request():
            method = talk.requests[stream][":method"]
            talk.body(stream)
            if method == "POST":
                talk.respond(stream, 303, b"", ("location", "/there"))
            else:
                talk.respond(stream, 200, b"" if method == "HEAD" else method.encode())

    with Server(speaking(script), tls=http2_context()) as server:
        assert client.get(at(server)).text == "GET"
        assert client.head(at(server)).status_code == 200
        response = upload(at(server), b"data", client=client, follow_redirects=True).run()
        assert (response.text, response.url.path) == ("GET", "/there")
        server.errors.clear()


def test_without_asking():
    """With http1=False, HTTP/2 is spoken at once, without TLS too."""
    with (
        Server(speaking(counting)) as server,
        rxupload.Client(http1=False, http2=True, trust_env=False) as client,
    ):
        response = upload(server.url, LARGE[:MIB], client=client).run()
    assert response.http_version == "HTTP/2"
    assert body_of(response) > MIB


def test_limits_of_the_rate_and_pauses_apply(client):
    """A rate limit holds the frames back."""
    with Server(speaking(counting), tls=http2_context()) as server:
        began = time.monotonic()
        response = upload(at(server), bytes(100_000), client=client, rate_limit=400_000).run()
        assert body_of(response) > 100_000
    assert time.monotonic() - began > 0.15


def test_a_ping_is_answered_during_a_pause(client):
    """A server that checks whether the client is alive gets its answer while the body is paused."""
    pause: Subject[bool] = Subject()
    answered = threading.Event()

    def script(talk: Talk) -> None:
        stream = talk.request()
        talk.read_until(lambda: len(talk.bodies[stream]) > 0)
        pause.on_next(True)
        for number in range(3):
            talk.state.ping(b"%08d" % number)
            talk.flush()
            talk.read_until(lambda number=number: len(pongs(talk)) > number)
        answered.set()
        talk.respond(stream, 200, str(len(talk.body(stream))).encode())
        talk.read()

    def pongs(talk: Talk) -> list[Any]:
        return [each for each in talk.other if isinstance(each, h2.events.PingAckReceived)]

    with Server(speaking(script), tls=http2_context()) as server:
        running = start(upload(at(server), LARGE[: 2 * MIB], client=client, pause=pause))
        assert answered.wait(PATIENCE)
        pause.on_next(False)
        assert body_of(running.observed.wait().response) > 2 * MIB
        running.join()
        server.errors.clear()


def test_expect_continue(client, monkeypatch):
    """The body waits for 100, which is a HEADERS frame here."""
    monkeypatch.setattr("rxupload._wire.exchange.CONTINUE_SECONDS", PATIENCE)
    seen: list[int] = []

    def script(talk: Talk) -> None:
        stream = talk.request()
        seen.append(len(talk.bodies[stream]))
        talk.state.send_headers(stream, [(":status", "100")])
        talk.flush()
        talk.respond(stream, 200, str(len(talk.body(stream))).encode())
        talk.read()

    with Server(speaking(script), tls=http2_context()) as server:
        assert body_of(upload(at(server), b"data", client=client, expect_continue=True).run()) > 4
        server.errors.clear()
    assert seen == [0]


# Early responses


def refuse(talk: Talk, stream: int) -> None:
    talk.respond(stream, 413, b"too large")


def refuse_and_reset(talk: Talk, stream: int) -> None:
    talk.respond(stream, 413, b"too large")
    talk.state.reset_stream(stream, h2.errors.ErrorCodes.NO_ERROR)
    talk.flush()


def refuse_and_go_away(talk: Talk, stream: int) -> None:
    talk.respond(stream, 413, b"too large")
    talk.state.close_connection(last_stream_id=stream)
    talk.flush()


@pytest.mark.parametrize("refusal", [refuse, refuse_and_reset, refuse_and_go_away])
@pytest.mark.parametrize("acknowledges", [True, False], ids=["open", "blocked"])
@pytest.mark.parametrize("known", [True, False])
def test_an_early_refusal_is_the_response(client, refusal, acknowledges, known):
    """A 413 is delivered at once, during the body and while the server's window is closed."""

    def script(talk: Talk) -> None:
        stream = talk.request()
        talk.read_until(lambda: len(talk.bodies[stream]) >= 60_000)
        refusal(talk, stream)
        talk.connection.wait_for_end()

    source: Any = LARGE if known else lambda: itertools.repeat(bytes(MIB))
    with Server(speaking(script, acknowledges=acknowledges), tls=http2_context()) as server:
        running = start(upload(at(server), source, client=client))
        response = running.observed.wait().response
        running.join()
        assert (response.status_code, response.text) == (413, "too large")
        assert has_no_active_connections(client)
        server.errors.clear()


def test_after_an_early_success_the_body_is_finished(client):
    """A complete 200 lets the body go on, as over HTTP/1.1."""
    received: Queue[int] = Queue()

    def script(talk: Talk) -> None:
        stream = talk.request()
        talk.respond(stream, 200, b"fine")
        received.put(len(talk.body(stream)))

    with Server(speaking(script), tls=http2_context()) as server:
        observed = start(upload(at(server), LARGE[: 2 * MIB], client=client)).observed.wait()
        assert observed.response.text == "fine"
        assert received.get(timeout=PATIENCE) == observed.progress[-1].total
        server.errors.clear()


def test_after_an_early_success_a_reset_ends_the_body(client):
    """A reset without an error after a complete 200 says that the rest is unwanted (RFC 9113, section 8.1)."""

    def script(talk: Talk) -> None:
        stream = talk.request()
        talk.respond(stream, 200, b"fine")
        talk.state.reset_stream(stream, h2.errors.ErrorCodes.NO_ERROR)
        talk.flush()
        talk.connection.wait_for_end()

    with Server(speaking(script), tls=http2_context()) as server:
        response = upload(at(server), lambda: itertools.repeat(bytes(MIB)), client=client).run()
        server.errors.clear()
    assert response.text == "fine"


# Aborts and limits


@pytest.mark.parametrize(
    "when", ["a closed window", "an unread socket", "the response", "the body of the response"]
)
def test_an_abort_ends_the_connection_at_once(client, when):
    """A dispose closes the connection, whatever the upload waits for, and harms no other upload."""
    reached, ended = threading.Event(), threading.Event()

    def script(talk: Talk) -> None:
        stream = talk.request()
        if "/other" in talk.requests[stream][":path"]:
            talk.respond(stream, 200, str(len(talk.body(stream))).encode())
            talk.connection.wait_for_end()
            return
        if when == "a closed window":
            talk.read_until(lambda: len(talk.bodies[stream]) >= 60_000)
        elif "response" in when:
            talk.body(stream)
            if "body" in when:
                talk.state.send_headers(stream, [(":status", "200")])
                talk.flush()
        reached.set()
        talk.connection.wait_for_reset() if when == "an unread socket" else talk.connection.wait_for_end()
        ended.set()

    is_open = "response" in when
    source = b"data" if is_open else LARGE
    window = 64 * MIB if when == "an unread socket" else 65_535
    with Server(speaking(script, window=window, acknowledges=is_open), tls=http2_context()) as server:
        running = start(upload(at(server), source, client=client))
        assert reached.wait(PATIENCE)
        other = start(upload(at(server) + "other", b"data", client=client))
        running.subscription.dispose()
        assert ended.wait(PATIENCE)
        running.join()
        assert not running.observed.ended
        assert other.observed.wait().response.status_code == 200
        other.join()
        server.errors.clear()


@pytest.mark.parametrize(
    ("acknowledges", "limit", "error"),
    [
        (False, {"write": SHORT}, httpx.WriteTimeout),
        (True, {"read": SHORT}, httpx.ReadTimeout),
        (False, {}, UploadTimeout),
        (True, {}, UploadTimeout),
    ],
)
def test_a_silent_server_falls_under_the_limits(client, acknowledges, limit, error):
    """The write limit ends the wait for a window, the read limit that for a response, and the whole limit both."""
    client.timeout = httpx.Timeout(None, **limit)

    def script(talk: Talk) -> None:
        talk.read_until(lambda: False)

    with Server(speaking(script, acknowledges=acknowledges), tls=http2_context()) as server:
        timeout = None if limit else SHORT
        running = start(upload(at(server), LARGE[: 2 * MIB], client=client, timeout=timeout))
        running.join()
        assert isinstance(running.observed.error, error)
        server.errors.clear()


# Hostile servers


def ping(talk: Talk, stream: int) -> bytes:
    return b"\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678"


def settings(talk: Talk, stream: int) -> bytes:
    return b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


def empty_data(talk: Talk, stream: int) -> bytes:
    return b"\x00\x00\x00\x00\x00" + stream.to_bytes(4, "big")


def window_updates(talk: Talk, stream: int) -> bytes:
    return b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x01"


def priority(talk: Talk, stream: int) -> bytes:
    return b"\x00\x00\x05\x02\x00" + stream.to_bytes(4, "big") + b"\x00\x00\x00\x00\x01"


def processing(talk: Talk, stream: int) -> bytes:
    return b"\x00\x00\x05\x01\x04" + stream.to_bytes(4, "big") + b"\x08\x03102"


def continuations(talk: Talk, stream: int) -> bytes:
    return b"\x00\x00\x01\x09\x00" + stream.to_bytes(4, "big") + b"\x88"


def pushes(talk: Talk, stream: int) -> bytes:
    return b"\x00\x00\x05\x05\x04" + stream.to_bytes(4, "big") + b"\x00\x00\x00\x02\x82"


def unknown(talk: Talk, stream: int) -> bytes:
    return b"\x00\x00\x00\x77\x00\x00\x00\x00\x00"


def huge(talk: Talk, stream: int) -> bytes:
    return b"\xff\xff\xff\x00\x00" + stream.to_bytes(4, "big") + bytes(1000)


def no_frames(talk: Talk, stream: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\n\r\n"


FLOODS: list[Callable[[Talk, int], bytes]] = [
    ping, settings, empty_data, window_updates, priority, processing, continuations, pushes, unknown, huge, no_frames,
]  # fmt: skip


@pytest.mark.parametrize("phase", ["during the body", "after the body", "during the response"])
@pytest.mark.parametrize("flood", FLOODS, ids=lambda flood: flood.__name__)
def test_a_flood_of_frames_ends_the_upload(client, flood, phase):
    """Frames without content do not go on for ever, and take no core for long."""

    def script(talk: Talk) -> None:
        stream = talk.request()
        if phase != "during the body":
            talk.body(stream)
        if phase == "during the response":
            talk.state.send_headers(stream, [(":status", "200")])
            talk.state.send_data(stream, b"data")
            talk.flush()
        data = flood(talk, stream) * 500
        while True:
            talk.connection.send(data)

    source: Any = LARGE if phase == "during the body" else b"data"
    with Server(speaking(script, acknowledges=phase != "during the body"), tls=http2_context()) as server:
        running = start(upload(at(server), source, client=client))
        running.join()
        assert isinstance(running.observed.error, httpx.RemoteProtocolError | httpx.ReadError)
        server.errors.clear()


@pytest.mark.parametrize("how", ["plain", "gzip", "small frames"])
def test_an_endless_response_ends_at_the_limit(client, how):
    """The limit of a response holds, and frames of a few bytes are fine until then."""

    def script(talk: Talk) -> None:
        stream = talk.request()
        talk.body(stream)
        encoded = [("content-encoding", "gzip")] if how == "gzip" else []
        talk.state.send_headers(stream, [(":status", "200"), *encoded])
        data = gzip.compress(bytes(MIB)) if how == "gzip" else bytes(50 if how == "small frames" else 16_000)
        while True:
            talk.state.send_data(stream, data[:16_000])
            talk.flush()

    with Server(speaking(script), tls=http2_context()) as server:
        running = start(upload(at(server), b"data", client=client, max_response_size=100_000))
        running.join()
        assert isinstance(running.observed.error, ResponseTooLarge)
        server.errors.clear()


def test_a_large_response_is_whole(client):
    """A response of several windows comes whole."""

    def script(talk: Talk) -> None:
        stream = talk.request()
        talk.body(stream)
        talk.respond(stream, 200, LARGE[: 5 * MIB])
        talk.read()

    with Server(speaking(script), tls=http2_context()) as server:
        assert upload(at(server), b"data", client=client).run().content == LARGE[: 5 * MIB]
        server.errors.clear()


def reset(talk: Talk, stream: int) -> None:
    talk.state.reset_stream(stream, h2.errors.ErrorCodes.INTERNAL_ERROR)


def go_away(talk: Talk, stream: int) -> None:
    talk.state.close_connection(h2.errors.ErrorCodes.ENHANCE_YOUR_CALM, last_stream_id=stream)


def not_processed(talk: Talk, stream: int) -> None:
    talk.state.close_connection(last_stream_id=0)


def half(talk: Talk, stream: int) -> None:
    talk.state.send_headers(stream, [(":status", "200"), ("content-length", "10")])
    talk.state.send_data(stream, b"half")


def half_and_reset(talk: Talk, stream: int) -> None:
    half(talk, stream)
    reset(talk, stream)


def nothing(talk: Talk, stream: int) -> None: ...


@pytest.mark.parametrize("end", [reset, go_away, not_processed, half, half_and_reset, nothing])
@pytest.mark.parametrize("source", [b"data", LARGE], ids=["after the body", "during the body"])
def test_an_end_without_a_whole_response_is_an_error(client, end, source):
    """A reset, GOAWAY and a close are network errors, and nothing stays open."""

    def script(talk: Talk) -> None:
        stream = talk.request()
        if source == b"data":
            talk.body(stream)
        end(talk, stream)
        talk.flush()

    with Server(speaking(script, window=64 * MIB), tls=http2_context()) as server:
        running = start(upload(at(server), source, client=client))
        running.join()
        assert isinstance(running.observed.error, httpx.ReadError | httpx.WriteError)
        server.errors.clear()
    assert has_no_active_connections(client)


def test_a_source_that_changes_ends_it(client):
    """A body of another length than declared never completes."""
    with Server(speaking(counting), tls=http2_context()) as server:
        for pieces in ([b"ab"], [b"abcd"]):
            file = File(lambda pieces=pieces: iter(pieces), size=3)
            with pytest.raises(OSError, match="bytes"):
                upload(at(server), file, client=client).run()
        server.errors.clear()
    assert has_no_active_connections(client)
