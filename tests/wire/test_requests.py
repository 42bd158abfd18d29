"""Whole requests on fake connections: which connection each takes, what becomes of it, and random servers."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import httpx
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from support.fake_wire import (
    FakeClock,
    FakeConnection,
    FakeFile,
    FakeFlow,
    RecordingControl,
    Step,
    acknowledges,
    after,
    alerts,
    breaks_the_pipe,
    does,
    ends,
    resets,
    says,
    takes,
    when_blocked,
    when_sent,
)

from rxupload._errors import SourceChanged
from rxupload._wire.pool import Limits, Pool
from rxupload._wire.requests import Response, send
from rxupload._wire.route import Origin

ORIGIN = Origin("http", "x", 80)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
TOO_LARGE = b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig"
HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"
BODY = b"0123456789" * 100


class StopError(Exception):
    """The reason with which a test stops a control or a source."""


class FakeRoute:
    """Dials the connections that the test has made."""

    def __init__(self, *connections: FakeConnection) -> None:
        self.connections = list(connections)
        self.dialled = 0

    def key(self, origin, sni_hostname):
        return origin

    def dial(self, origin, **options):
        self.dialled += 1
        return self.connections.pop(0)


class Client:
    """Sends requests over what `FakeRoute` dials."""

    def __init__(self, clock: FakeClock, *connections: FakeConnection, limits: Limits | None = None) -> None:
        self.clock = clock
        self.route = FakeRoute(*connections)
        self.pool = Pool(limits or Limits(), clock)
        self.control = RecordingControl(clock)
        self.passes = 0

    def post(
        self, *pieces: object, length: int | None = None, is_chunked: bool = False, **timeouts
    ) -> Response:
        size = sum(map(len, pieces)) if length is None else length
        framing = (b"Transfer-Encoding", b"chunked") if is_chunked else (b"Content-Length", b"%d" % size)

        def make():
            self.passes += 1
            yield from pieces

        return send(
            ORIGIN,
            b"POST",
            b"/",
            [(b"Host", b"x"), framing],
            make,
            route=self.route,
            pool=self.pool,
            control=self.control,
            clock=self.clock,
            timeouts=timeouts,
        )


def head(length: int = len(BODY)) -> bytes:
    return HEAD + b"Content-Length: %d\r\n\r\n" % length


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


class TestConnections:
    def test_it_is_used_again(self, clock):
        """After a response that was read to its end, the next request uses the same connection."""
        whole = len(head()) + len(BODY)
        connection = FakeConnection(clock, when_sent(whole), says(OK), when_sent(2 * whole), says(OK))
        client = Client(clock, connection)
        for _ in range(2):
            response = client.post(BODY)
            assert b"".join(response) == b"ok"
            response.close()
            assert not client.control.is_attached
        assert connection.sent == 2 * (head() + BODY)
        assert client.route.dialled == 1
        assert client.pool.counts() == (0, 1)

    def test_a_response_is_closed_once(self, clock):
        """A second close leaves the connection alone, because another request may have it by then."""
        connection = FakeConnection(clock, when_sent(len(head()) + len(BODY)), says(OK))
        client = Client(clock, connection)
        response = client.post(BODY)
        assert b"".join(response) == b"ok"
        response.close()
        response.close()
        assert client.pool.counts() == (0, 1)

    def test_an_unread_response_closes_it(self, clock):
        """Closing an unread response closes the connection without a reset, because the server has the body."""
        connection = FakeConnection(clock, when_sent(len(head()) + len(BODY)), says(OK[:-1]))
        client = Client(clock, connection)
        client.post(BODY).close()
        assert connection.is_closed
        assert not connection.was_reset
        assert client.pool.counts() == (0, 0)

    def test_a_refusal_during_the_body_resets_it(self, clock):
        """A connection with a request that was cut short is reset once the response is closed."""
        connection = FakeConnection(clock, when_blocked(), says(TOO_LARGE), room=500)
        client = Client(clock, connection)
        response = client.post(BODY)
        assert b"".join(response) == b"big"
        assert not connection.is_closed
        response.close()
        assert connection.is_closed
        assert connection.was_reset

    @pytest.mark.parametrize("fault", [ends(), resets(), says(b"SSH-2.0")])
    def test_an_error_resets_it(self, clock, fault):
        """After an error the connection is reset and gone, and no control is attached to it."""
        connection = FakeConnection(clock, when_blocked(), fault, room=500)
        client = Client(clock, connection)
        with pytest.raises(httpx.TransportError):
            client.post(BODY)
        assert connection.is_closed
        assert connection.was_reset
        assert client.pool.counts() == (0, 0)
        assert not client.control.is_attached

    def test_a_stop_closes_it(self, clock):
        """A stop ends the connection, and the request then closes it."""
        connection = FakeConnection(clock, room=500)
        client = Client(clock, connection)
        clock.at(1, lambda: client.control.stop(StopError()))
        with pytest.raises(StopError):
            client.post(BODY)
        assert connection.is_interrupted
        assert connection.is_closed
        assert client.pool.counts() == (0, 0)

    def test_a_stop_during_the_dial_closes_it(self, clock):
        """A control that was stopped during the dial gets no connection, and the new one is closed."""
        connection = FakeConnection(clock)
        client = Client(clock, connection)
        client.control.stop(StopError())
        with pytest.raises(StopError):
            client.post(BODY)
        assert connection.is_closed
        assert client.passes == 0
        assert client.pool.counts() == (0, 0)

    def test_it_is_not_reused_after_source_changed(self, clock):
        """After SourceChanged the connection is not reused."""
        connection = FakeConnection(clock)
        client = Client(clock, connection)
        with pytest.raises(SourceChanged):
            client.post(FakeFile(connection, bytes(200_000), size=300_000), length=300_000)
        assert connection.is_closed
        assert connection.was_reset

    @pytest.mark.parametrize("length", [len(BODY) - 1, len(BODY) + 1])
    def test_a_body_of_the_wrong_length_never_completes(self, clock, length):
        """A body that does not match its Content-Length never completes its request."""
        connection = FakeConnection(clock, when_sent(10_000), says(OK))
        client = Client(clock, connection)
        with pytest.raises(httpx.LocalProtocolError):
            client.post(BODY, length=length)
        assert len(connection.sent) < len(head(length)) + length
        assert connection.is_closed

    def test_closing_the_pool_ends_its_requests(self, clock):
        """Closing the pool ends the requests that are running."""
        connection = FakeConnection(clock, room=500)
        client = Client(clock, connection)
        clock.at(1, client.pool.close)
        with pytest.raises(httpx.WriteError):
            client.post(BODY)
        assert connection.is_closed
        assert client.pool.counts() == (0, 0)


class TestStale:
    def used(self, clock: FakeClock, *steps: Step) -> FakeConnection:
        """A connection that serves one request, and then follows these steps."""
        return FakeConnection(clock, when_sent(len(head()) + len(BODY)), says(OK), *steps)

    def serve_one(self, client: Client) -> None:
        response = client.post(BODY)
        assert b"".join(response) == b"ok"
        response.close()
        client.passes = 0

    @pytest.mark.parametrize("when", ["before", "in the first send"])
    def test_it_is_replaced_before_the_body_is_read(self, clock, when):
        """A connection that was closed while idle costs no byte of a body that can be read only once."""
        stale = self.used(clock)
        fresh = FakeConnection(clock, when_sent(len(head()) + len(BODY)), says(OK))
        client = Client(clock, stale, fresh)
        self.serve_one(client)
        served = bytes(stale.sent)
        if when == "before":
            stale.add(ends())
        else:
            stale.room = 0
            stale.add(when_blocked(), breaks_the_pipe())
        assert b"".join(client.post(BODY)) == b"ok"
        assert stale.sent == served
        assert stale.is_closed
        assert fresh.sent == head() + BODY
        assert client.passes == 1
        assert client.route.dialled == 2

    def test_no_other_idle_connection_is_tried(self, clock):
        """After a stale connection a new one is dialled, because the other idle ones may be stale too."""
        first, second = self.used(clock), self.used(clock)
        fresh = FakeConnection(clock, when_sent(len(head()) + len(BODY)), says(OK))
        client = Client(clock, first, second, fresh)
        responses = [client.post(BODY) for _ in range(2)]
        for response in responses:
            assert b"".join(response) == b"ok"
            response.close()
        assert client.pool.counts() == (0, 2)
        for connection in (first, second):
            connection.room = 0
            connection.add(when_blocked(), breaks_the_pipe())
        assert b"".join(client.post(BODY)) == b"ok"
        assert fresh.sent == head() + BODY
        assert client.route.dialled == 3
        assert second.is_closed
        assert not first.is_closed

    def test_there_is_no_second_try_after_a_byte(self, clock):
        """Once a byte has gone, the request is not repeated, because that may not be safe."""
        stale = self.used(clock)
        client = Client(clock, stale)
        self.serve_one(client)
        stale.room = 1
        stale.add(when_blocked(), breaks_the_pipe())
        with pytest.raises(httpx.WriteError):
            client.post(BODY)
        assert client.route.dialled == 1

    def test_there_is_no_third_try(self, clock):
        """A new connection that breaks is an error, and no third one is tried."""
        stale = self.used(clock)
        client = Client(clock, stale, FakeConnection(clock, breaks_the_pipe()))
        self.serve_one(client)
        stale.add(ends())
        with pytest.raises(httpx.WriteError):
            client.post(BODY)
        assert client.route.dialled == 2
        assert client.pool.counts() == (0, 0)


# Any server


RESPONSES = [
    OK,
    TOO_LARGE,
    b"HTTP/1.1 204 No\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 503 No\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nnot\r\n5\r\n now!\r\n0\r\n\r\n",
    b"HTTP/1.1 201 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nshort",
]
BODIES = {
    "200": [b"ok", b"short"],
    "201": [b"ok"],
    "204": [b""],
    "413": [b"big"],
    "503": [b"not now!"],
}


@st.composite
def speeches(draw: st.DrawFn) -> list[bytes]:
    """What a server sends, split anywhere, and perhaps cut off."""
    informational = draw(
        st.lists(st.sampled_from([b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 E\r\nX: y\r\n\r\n"]))
    )
    speech = b"".join(informational[:3]) + draw(st.sampled_from(RESPONSES))
    if draw(st.integers(0, 4)) == 0:
        speech = speech[: draw(st.integers(0, len(speech)))]
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(speech) - 1)), max_size=4)))
    return [speech[start:end] for start, end in pairwise([0, *cuts, len(speech)]) if start < end]


STEPS: list[st.SearchStrategy[Step]] = [
    st.integers(1, 800).map(takes),
    st.builds(takes),
    st.integers(1, 1000).map(acknowledges),
    st.floats(0.001, 3).map(after),
    st.integers(0, 1200).map(when_sent),
    st.builds(when_blocked),
]
FAULTS = [None, None, ends, resets, breaks_the_pipe, lambda: alerts("bad")]


@st.composite
def servers(draw: st.DrawFn) -> list[Step]:
    """What a server and the system do: a list of steps that may end the connection anywhere."""
    steps = draw(st.lists(st.one_of(STEPS), max_size=10))
    places = sorted(draw(st.lists(st.integers(0, len(steps)), max_size=5)), reverse=True)
    speech = draw(speeches())
    said, rest = speech[: len(places)], speech[len(places) :]
    for place, part in zip(places[len(places) - len(said) :], reversed(said), strict=True):
        steps.insert(place, says(part))
    fault = draw(st.sampled_from(FAULTS))
    if fault is not None:
        steps.insert(draw(st.integers(0, len(steps))), fault())
    if draw(st.booleans()):
        steps += [takes(), does(lambda connection: connection.acknowledge()), *map(says, rest)]
    return steps


@st.composite
def bodies(draw: st.DrawFn) -> list[tuple[str, bytes]]:
    """The pieces of a body: bytes, a file, or a flow."""
    kinds = st.sampled_from(["bytes", "file", "flow"])
    sizes = st.integers(0, 600)
    return [
        (kind, bytes(size % 251 for size in range(draw(sizes)))) for kind in draw(st.lists(kinds, max_size=5))
    ]


def make_pieces(clock: FakeClock, connection: FakeConnection, body: list[tuple[str, bytes]]) -> list[object]:
    pieces: list[object] = []
    for number, (kind, data) in enumerate(body):
        if kind == "bytes":
            pieces.append(data)
        elif kind == "file":
            pieces.append(FakeFile(connection, data))
        else:
            half = len(data) // 2
            pieces.append(FakeFlow(clock, *[(number, part) for part in (data[:half], data[half:]) if part]))
    return pieces


def dechunked(data: bytes) -> bytes:
    """The content of a chunked body, as far as it has come."""
    content = b""
    while data:
        line, found, data = data.partition(b"\r\n")
        if not found or not int(line, 16):
            break
        size = int(line, 16)
        content += data[:size]
        data = data[size + 2 :]
    return content


@settings(max_examples=600)
@given(
    steps=servers(),
    body=bodies(),
    is_chunked=st.booleans(),
    room=st.sampled_from([0, 1, 50, 400, 1000, math.inf]),
    is_acknowledged=st.booleans(),
    tls_slice=st.sampled_from([None, None, 100, 5000]),
    grants=st.lists(st.integers(1, 300) | st.tuples(st.just(0), st.floats(0, 5)), max_size=5),
    asks_first=st.booleans(),
    is_used=st.booleans(),
    stop=st.none() | st.floats(0, 8),
    small=st.sampled_from([16, 200, 128 * 1024]),
)
def test_any_server_leads_to_one_end(
    monkeypatch_small: Callable[[int], None],
    steps, body, is_chunked, room, is_acknowledged, tls_slice, grants, asks_first, is_used, stop, small,
):  # fmt: skip
    """In any order of events there is one end, only the request is sent, and no connection is left over."""
    monkeypatch_small(small)
    clock = FakeClock()
    connection = FakeConnection(
        clock,
        *steps,
        room=room,
        acknowledges=is_acknowledged,
        tls_slice=tls_slice,
        sendfile=tls_slice is None,
    )
    fresh = FakeConnection(clock, when_sent(1), after(0.5), says(TOO_LARGE))
    client = Client(clock, connection, fresh)
    client.control = control = RecordingControl(
        clock, keep=1000, asks_first=asks_first, is_held_back=bool(grants), grants=grants
    )
    if is_used:  # idle in the pool, as after another request
        assert client.pool.acquire(ORIGIN, lambda: client.route.dial(ORIGIN), control=control, timeout=None)
        client.pool.keep(connection)
        connection.log.clear()
    if stop is not None:
        clock.at(stop, lambda: control.stop(StopError()))
    content = b"".join(data for _, data in body)
    pieces = make_pieces(clock, connection, body)
    fresh.files = connection.files
    response = None
    try:
        response = client.post(*pieces, length=len(content), is_chunked=is_chunked, read=4, write=4)
        received = b"".join(response)
    except (httpx.TransportError, StopError) as error:
        outcome = type(error).__name__
        if response is not None:
            response.close()
    else:
        outcome = str(response.head.status)
        was_used = response.connection
        response.close()
        # The length of a body that ends with the connection depends on when that ends.
        assert received in BODIES[outcome] or (outcome == "200" and b"until the end".startswith(received))
        if client.pool.counts() == (0, 1):
            assert not was_used.is_closed
            assert not was_used.pending
            assert check_sent(bytes(was_used.sent), content, is_chunked=is_chunked)
    event(outcome)

    used = [each for each in (connection, fresh) if each not in client.route.connections]
    check_nothing_is_left(client, used)
    assert len(clock.waits) < 200

    assert not (connection.sent and fresh.sent)
    sent = bytes(connection.sent or fresh.sent)
    is_whole = check_sent(sent, content, is_chunked=is_chunked)
    if outcome in ("413", "503") and control.recorded("settled"):
        assert is_whole
    assert {*control.recorded("settled")} <= {len(content)}
    assert max(control.recorded("arrived"), default=0) <= len(content)
    if grants:
        assert control.granted - control.given_back <= len(sent) + connection.pending


def check_nothing_is_left(client: Client, used: list[FakeConnection]) -> None:
    """Assert that no control has a connection, and that every connection is idle or closed."""
    assert not client.control.is_attached
    active, idle = client.pool.counts()
    assert active == 0
    assert len([each for each in used if not each.is_closed]) == idle
    client.pool.close()
    assert all(each.is_closed for each in used)


def check_sent(sent: bytes, content: bytes, *, is_chunked: bool) -> bool:
    """Assert that the sent bytes are the start of the request; return whether they are all of it."""
    framing = b"Transfer-Encoding: chunked" if is_chunked else b"Content-Length: %d" % len(content)
    start = HEAD + framing + b"\r\n\r\n"
    assert sent[: len(start)] == start[: len(sent)]
    went = dechunked(sent[len(start) :]) if is_chunked else sent[len(start) :]
    assert content.startswith(went)
    return sent.endswith(b"0\r\n\r\n") if is_chunked else sent == start + content


@pytest.fixture(scope="module")
def monkeypatch_small():
    """Lower the size up to which pieces are joined."""
    with pytest.MonkeyPatch.context() as patch:
        yield lambda size: patch.setattr("rxupload._wire.request.SMALL", size)
