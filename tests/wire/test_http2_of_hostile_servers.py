"""What a hostile or careless server does in HTTP/2 ends in the right response or in an error of httpx, and in time."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable

import hpack
import httpx
import pytest
from support.abort_phases import LARGE, start
from support.fake_wire import (
    FakeClock,
    FakeConnection,
    RecordingControl,
    after,
    breaks_the_pipe,
    says,
    when_sent,
)
from support.fault_scenarios import SHORT, has_no_active_connections
from support.http2_server import Talk, speaking
from support.scripted_server import PATIENCE, Server

from rxupload import UploadTransport, upload
from rxupload._wire.frames import State
from rxupload._wire.hearing import Stale
from rxupload._wire.http2 import Http2Exchange, headers_of
from rxupload._wire.request import Unit

HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, CONTINUATION = 1, 3, 4, 6, 7, 9
END_STREAM, END_HEADERS = 1, 4
CALM = 11  # ENHANCE_YOUR_CALM
MOST = 2**31 - 1


@pytest.fixture
def client():
    """A client that begins with HTTP/2, without TLS."""
    transport = UploadTransport(http1=False, http2=True)
    with httpx.Client(transport=transport, timeout=PATIENCE) as made:
        yield made


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def head(stream: int, *fields: tuple[bytes, bytes], flags: int = END_STREAM) -> bytes:
    """A response's head, also one that no encoder would make."""

    def text(value: bytes) -> bytes:
        return bytes(hpack.hpack.encode_integer(len(value), 7)) + value

    block = b"".join(b"\x00" + text(name) + text(value) for name, value in fields)
    parts = [block[start : start + 16_000] for start in range(0, len(block), 16_000)]
    first, *rest = parts
    whole = frame(HEADERS, flags | (0 if rest else END_HEADERS), stream, first)
    for number, part in enumerate(rest, 1):
        whole += frame(CONTINUATION, END_HEADERS if number == len(rest) else 0, stream, part)
    return whole


def status(stream: int, code: bytes = b"200") -> bytes:
    return head(stream, (b":status", code))


def going_away(last: int, code: int = 0) -> bytes:
    return frame(GOAWAY, 0, 0, last.to_bytes(4, "big") + code.to_bytes(4, "big"))


def answering(*frames: Callable[[int], bytes], is_whole: bool = True) -> Callable[[Talk], None]:
    """A script that sends frames, made for the request's stream, after the body or before it."""

    def script(talk: Talk) -> None:
        stream = talk.request()
        if is_whole:
            talk.body(stream)
        talk.connection.send(b"".join(make(stream) for make in frames))
        talk.connection.wait_for_end()

    return script


def http2_exchange(connection: FakeConnection) -> Http2Exchange:
    """An exchange on a connection that has served a request."""
    connection.http2 = State()
    connection.http2.data_to_send()
    return Http2Exchange(
        connection,
        "POST",
        headers_of("https", b"POST", b"/", [(b"Host", b"localhost")]),
        control=RecordingControl(connection.clock),
        clock=connection.clock,
        timeouts={},
    )


# The status


@pytest.mark.parametrize(
    "code", [b"", b"abc", b"2_0_0", b"+200", b"20", b"0", b"-1", b"0200", b"99999", b"1xx", b"100000", b"\xb2\xb2\xb2"]
)  # fmt: skip
@pytest.mark.parametrize("flags", [0, END_STREAM])
def test_a_status_has_three_digits(client, code, flags):
    """As over HTTP/1.1. Python would read more than that as a number."""
    with Server(speaking(answering(lambda stream: head(stream, (b":status", code), flags=flags)))) as server:
        running = start(upload(server.url, b"data", client=client))
        running.join()
        assert isinstance(running.observed.error, httpx.RemoteProtocolError)
    assert has_no_active_connections(client)


# GOAWAY and errors


@pytest.mark.parametrize("last", [1, MOST])
@pytest.mark.parametrize("when", ["during the body", "with the response"])
def test_a_server_that_shuts_down_finishes_the_upload(client, last, when):
    """GOAWAY without an error concerns later streams only (RFC 9113, section 6.8). The next upload has a new one."""

    def script(talk: Talk) -> None:
        stream = talk.request()
        if when == "during the body":
            talk.read_until(lambda: len(talk.bodies[stream]) >= 1000)
            talk.connection.send(going_away(last))
        body = talk.body(stream)
        answer = frame(0, END_STREAM, stream, b"%d" % len(body))
        goes = going_away(last) if when == "with the response" else b""
        talk.connection.send(goes + head(stream, (b":status", b"200"), flags=0) + answer)
        talk.connection.wait_for_end()

    with Server(speaking(script)) as server:
        for _ in range(2):
            response = upload(server.url, LARGE[:300_000], raw=True, client=client).run()
            assert (response.status_code, response.text) == (200, "300000")
        assert server.connections == 2
        server.errors.clear()


WRONG = {
    "GOAWAY with an error": going_away(1, CALM),
    "GOAWAY for an earlier stream": going_away(0),
    "a short GOAWAY": frame(GOAWAY, 0, 0, b"abc"),
    "a huge frame": b"\xff" * 50,
    "a wrong setting": frame(SETTINGS, 0, 0, b"\x00\x05\x00\x00\x00\x00"),
}
RESET = frame(RST_STREAM, 0, 1, bytes(4))


@pytest.mark.parametrize(
    ("wrong", "code", "is_whole"),
    [
        *[(wrong, b"413", False) for wrong in [*WRONG.values(), RESET]],
        *[(wrong, b"200", False) for wrong in [*WRONG.values(), RESET]],
        *[(wrong, b"200", True) for wrong in WRONG.values()],  # a reset after both ends changes nothing
    ],
)
def test_a_whole_response_stays_the_response(client, wrong, code, is_whole):
    """What comes after it only ends the connection, in the same packet or not."""
    script = answering(lambda stream: status(stream, code) + wrong, is_whole=is_whole)
    with Server(speaking(script, acknowledges=is_whole)) as server:
        for _ in range(2):
            response = upload(server.url, b"data" if is_whole else LARGE, client=client).run()
            assert response.status_code == int(code)
        assert server.connections == 2
        server.errors.clear()
    assert has_no_active_connections(client)


@pytest.mark.parametrize("wrong", [*WRONG.values(), RESET], ids=[*WRONG, "a reset"])
def test_before_a_response_it_is_an_error(client, wrong):
    """The same frames without a response end the upload as an error of the network or of the server."""
    with Server(speaking(answering(lambda stream: wrong + status(stream)))) as server:
        running = start(upload(server.url, b"data", client=client))
        running.join()
        assert isinstance(running.observed.error, httpx.ReadError | httpx.RemoteProtocolError)
        server.errors.clear()


def test_a_server_that_takes_no_more_streams_gets_a_new_connection(client):
    """The limit of streams may fall to none while the connection is idle."""
    told = threading.Event()

    def script(talk: Talk) -> None:
        stream = talk.request()
        talk.body(stream)
        talk.connection.send(status(stream) + frame(SETTINGS, 0, 0, b"\x00\x03\x00\x00\x00\x00"))
        told.set()
        talk.connection.wait_for_end()

    with Server(speaking(script)) as server:
        for _ in range(2):
            told.clear()
            assert upload(server.url, b"data", client=client).run().status_code == 200
            assert told.wait(PATIENCE)
        assert server.connections == 2
        server.errors.clear()


def test_a_connection_that_breaks_after_an_answer_is_not_reused():
    """To answer a PING that came meanwhile is not to send the request. So that may go on another connection."""
    clock = FakeClock()
    ping = frame(PING, 0, 0, b"12345678")
    connection = FakeConnection(clock, says(ping), when_sent(len(ping)), breaks_the_pipe(), is_used=True)
    exchange = http2_exchange(connection)
    with pytest.raises(Stale):
        exchange.send(Unit(b"", 0), [Unit(b"data", 4)])
    assert len(connection.sent) == len(ping)


@pytest.mark.parametrize("how", ["close", "reset", "byte by byte"])
def test_a_response_is_whole_or_an_error(client, how):
    """A response that breaks off after any of its bytes is no response, and the bytes may come one by one."""
    answer = (
        frame(SETTINGS, 0, 0)
        + head(1, (b":status", b"103"), flags=0)
        + head(1, (b":status", b"200"), flags=0)
        + frame(PING, 0, 0, b"12345678")
        + frame(0, 0, 1, b"whole")
        + head(1, (b"trailer", b"x"))
    )
    cuts = iter(range(len(answer) + 1))

    def script(talk: Talk) -> None:
        talk.body(talk.request())
        if how == "byte by byte":
            for byte in answer:
                talk.connection.send(bytes([byte]))
            talk.connection.wait_for_end()
            return
        talk.connection.send(answer[: next(cuts)])
        if how == "reset":
            talk.connection.reset()

    with Server(speaking(script)) as server:
        for _ in range(len(answer) if how != "byte by byte" else 0):
            running = start(upload(server.url, b"data", client=client))
            running.join()
            assert isinstance(running.observed.error, httpx.ReadError | httpx.WriteError)
        if how != "reset":  # which may overtake the response
            assert upload(server.url, b"data", client=client).run().content == b"whole"
        server.errors.clear()
    assert has_no_active_connections(client)


# Limits of time


def test_an_answer_and_an_end_while_the_window_is_closed_are_the_end(client):
    """Nobody can open the window any more. So the upload neither waits for that nor takes a core until its limit."""
    answered = threading.Event()

    def script(talk: Talk) -> None:
        stream = talk.request()
        talk.read_until(lambda: len(talk.bodies[stream]) == 65_535)
        talk.connection.send(status(stream))
        talk.connection.sock.shutdown(1)
        answered.set()
        talk.connection.wait_for_end()

    client.timeout = None
    with Server(speaking(script, acknowledges=False)) as server:
        running = start(upload(server.url, LARGE, client=client))
        assert answered.wait(PATIENCE)
        assert running.observed.wait().response.status_code == 200
        running.join()
        server.errors.clear()


@pytest.mark.parametrize(
    ("limit", "phase", "error"),
    [
        ("write", "the body", httpx.WriteTimeout),
        ("read", "the head", httpx.ReadTimeout),
        ("read", "the response's body", httpx.ReadTimeout),
    ],
)
def test_frames_without_content_restart_no_limit(client, limit, phase, error):
    """A server that only sends PINGs takes no data and sends no response, however often it does so."""
    ended = threading.Event()

    def script(talk: Talk) -> None:
        stream = talk.request()
        if phase != "the body":
            talk.body(stream)
        if phase == "the response's body":
            talk.connection.send(head(stream, (b":status", b"200"), flags=0) + frame(0, 0, stream, b"half"))
        while not ended.wait(SHORT / 5):
            talk.connection.send(frame(PING, 0, 0, b"12345678"))

    client.timeout = httpx.Timeout(None, **{limit: SHORT})
    with Server(speaking(script, acknowledges=phase != "the body")) as server:
        source = LARGE if phase == "the body" else b"data"
        running = start(upload(server.url, source, client=client, timeout=PATIENCE))
        running.join()
        ended.set()
        assert isinstance(running.observed.error, error)
        server.errors.clear()


def test_a_server_that_opens_its_window_byte_by_byte_is_no_flood(client):
    """Some servers open both windows for each frame. An upload in many small frames stays whole."""
    size = 65_535 + 12_500

    def script(talk: Talk) -> None:
        stream = talk.request()
        talk.read_until(lambda: len(talk.bodies[stream]) == 65_535)
        while stream not in talk.ended:
            talk.state.increment_flow_control_window(1, stream)
            talk.state.increment_flow_control_window(1)
            talk.flush()
            talk.read()
        talk.respond(stream, 200, b"%d" % len(talk.bodies[stream]))
        talk.connection.wait_for_end()

    with Server(speaking(script, acknowledges=False)) as server:
        assert upload(server.url, bytes(size), raw=True, client=client).run().text == str(size)
        server.errors.clear()


# Heads


@pytest.mark.parametrize("size", [75, 95])
def test_a_head_may_be_as_long_as_over_http1(client, size):
    """The limit of 100 KiB that the client announces holds. Each field counts 32 bytes more there."""
    fields = [(b"a%d" % number, bytes(1000).replace(b"\0", b"x")) for number in range(size)]
    with Server(speaking(answering(lambda stream: head(stream, (b":status", b"200"), *fields)))) as server:
        response = upload(server.url, b"data", client=client).run()
        assert len(response.headers) == size
        server.errors.clear()


@pytest.mark.parametrize("value", [b" sid=secret", b"sid=secret\n", b'sid="secret\x00\'"'])
def test_no_text_quotes_a_header(client, value):
    """An error about a header says what is wrong with it, without its value."""
    script = answering(lambda stream: head(stream, (b":status", b"200"), (b"set-cookie", value)))
    with Server(speaking(script)) as server:
        running = start(upload(server.url, b"data", client=client))
        running.join()
        assert isinstance(running.observed.error, httpx.RemoteProtocolError)
        assert "header value" in str(running.observed.error)
        assert "secret" not in "".join(traceback.format_exception(running.observed.error))
        server.errors.clear()


def test_a_response_in_tiny_pieces_leaves_nothing_behind():
    """What was read and given on takes no memory, however many reads it took."""
    clock = FakeClock()
    pieces = [frame(0, 0, 1, b"x")] * 1000 + [frame(0, END_STREAM, 1)]
    first = head(1, (b":status", b"200"), flags=0)
    connection = FakeConnection(clock, after(1), says(first), after(1), says(*pieces), is_used=True)
    exchange = http2_exchange(connection)
    exchange.send(Unit(b"", 0), [Unit(b"data", 4)])
    exchange.receive_head()
    assert b"".join(exchange.body()) == b"x" * 1000
    assert len(exchange._movement.count._parts) < 10


def test_the_server_does_not_choose_how_many_fields_are_remembered(client):
    """The search for a field in that table takes time in proportion to it."""

    def script(talk: Talk) -> None:
        talk.connection.send(frame(SETTINGS, 0, 0, b"\x00\x01" + MOST.to_bytes(4, "big")))
        talk.state.decoder.max_allowed_table_size = MOST
        while stream := talk.request():
            talk.body(stream)
            tables.append(talk.state.decoder.header_table_size)
            talk.respond(stream)

    tables: list[int] = []
    with Server(speaking(script)) as server:
        for _ in range(3):
            assert upload(server.url, b"data", client=client).run().status_code == 200
        assert server.connections == 1
        server.errors.clear()
    assert tables == [4096] * 3
