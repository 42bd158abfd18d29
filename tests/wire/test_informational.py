"""Informational responses (1xx): a server may send many of them, but not for ever, and they restart no limit."""

from __future__ import annotations

import math

import httpx
import pytest
from support.fake_wire import FakeClock, FakeConnection, RecordingControl, after, says, takes, when_sent

from rxupload._wire.exchange import Exchange
from rxupload._wire.hearing import INFORMATIONAL, RECEIVE
from rxupload._wire.request import Unit

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n\r\n"
DATA = bytes(1024)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HEADS = {
    "100": b"HTTP/1.1 100 Continue\r\n\r\n",
    "the shortest": b"HTTP/1.1 102 \n\n",
    "103": b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n",
    "104": b"HTTP/1.1 104 Upload Resumption Supported\r\nUpload-Offset: 1\r\n\r\n",
    "199": b"HTTP/1.1 199 Unknown\r\n\r\n",
    "HTTP/1.0": b"HTTP/1.0 102 Processing\r\n\r\n",
    "empty lines before it": 1000 * b"\r\n" + b"HTTP/1.1 102 Processing\r\n\r\n",
    "large": b"HTTP/1.1 102 Processing\r\nHeader: " + bytes(90_000).replace(b"\0", b"x") + b"\r\n\r\n",
}
PHASES = [
    "before the body",
    "during the body",
    "a blocked send",
    "a pause",
    "a wait for 100",
    "after the body",
]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def exchange_of(connection: FakeConnection, control: RecordingControl, **timeouts: float | None) -> Exchange:
    return Exchange(connection, "POST", control=control, clock=connection.clock, timeouts=timeouts)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("head", HEADS)
def test_an_endless_flood_ends_the_exchange(clock, head, phase):
    """A flood ends the exchange after a bounded number of bytes, whatever the exchange waits for."""

    def flood(connection: FakeConnection) -> bool:
        if not connection.is_readable():
            connection.say(HEADS[head] * max(1, RECEIVE // len(HEADS[head])))
        return False

    whole = len(HEAD) + 10 * len(DATA)
    begins = {
        "before the body": 0,
        "a wait for 100": len(HEAD),
        "a pause": len(HEAD),
        "after the body": whole,
    }
    control = RecordingControl(
        clock,
        is_held_back=phase == "a pause",
        grants=[(0, math.inf)] * 1000 if phase == "a pause" else [],
        asks_first=phase == "a wait for 100",
    )
    room = len(HEAD) + 100 if phase == "a blocked send" else math.inf
    connection = FakeConnection(clock, when_sent(begins.get(phase, len(HEAD) + 100)), flood, room=room)
    exchange = exchange_of(connection, control)
    with pytest.raises(httpx.RemoteProtocolError, match="informational"):
        exchange.send(Unit(HEAD, 0), [Unit(DATA, len(DATA))] * 10)
        exchange.receive_head()
    assert connection.received <= INFORMATIONAL + 2 * RECEIVE


@pytest.mark.parametrize("head", ["100", "the shortest", "103", "104"])
def test_as_many_as_the_limit_allows_are_fine(clock, head):
    """Up to the limit, they change nothing."""
    count = INFORMATIONAL // len(HEADS[head])
    control = RecordingControl(clock)
    connection = FakeConnection(clock, when_sent(len(HEAD)), says(*[HEADS[head]] * count, OK))
    exchange = exchange_of(connection, control)
    exchange.send(Unit(HEAD, 0), [Unit(DATA, len(DATA))])
    assert exchange.receive_head().status == 200
    assert len(control.recorded("heard")) == count + 1


def test_a_server_may_report_how_much_it_has_stored(clock):
    """A 104 for each 8 KiB of a large body is fine, although all of them are longer than the limit."""
    pieces = 10_000
    steps = [
        step
        for number in range(1, pieces + 1)
        for step in (when_sent(len(HEAD) + 8192 * number), says(HEADS["104"]))
    ]
    assert pieces * len(HEADS["104"]) > 2 * INFORMATIONAL
    connection = FakeConnection(clock, *steps, says(OK))
    exchange = exchange_of(connection, RecordingControl(clock))
    data = bytes(8192)
    exchange.send(Unit(HEAD, 0), (Unit(data, len(data)) for _ in range(pieces)))
    assert exchange.receive_head().status == 200


@pytest.mark.parametrize(
    "says_what",
    [
        [HEADS["100"]] * 20,
        [HEADS["103"]] * 20,
        [HEADS["empty lines before it"]] * 20,
        [b"\r\n"] * 20,
        [bytes([each]) for each in HEADS["100"]],
        [bytes([each]) for each in HEADS["103"]],
        [bytes([each]) for each in OK],
        [HEADS["100"], *(bytes([each]) for each in OK)],
        [b"HTTP/1.1 200 OK\r\n", *[b"Header: x\r\n"] * 20],
        [b"HTTP/1.1 404 No", *[b"t Found" * 10] * 20],
        [HEADS["100"] + HEADS["103"], b"HTTP/1.1 50"],
    ],
)
@pytest.mark.parametrize("pace", [0.25, 0.5, 2.9])
def test_the_read_limit_is_one_for_the_whole_head(clock, says_what, pace):
    """From the last byte of the body on, the head has one limit. What comes in between does not restart it."""
    steps = [step for each in says_what for step in (after(pace), says(each))]
    connection = FakeConnection(clock, when_sent(len(HEAD) + len(DATA)), *steps)
    exchange = exchange_of(connection, RecordingControl(clock), read=3)
    exchange.send(Unit(HEAD, 0), [Unit(DATA, len(DATA))])
    with pytest.raises(httpx.ReadTimeout):
        exchange.receive_head()
    assert clock.passed == 3


@pytest.mark.parametrize("says_what", [[HEADS["100"]] * 50, [bytes([each]) for each in HEADS["103"]]])
def test_the_write_limit_is_not_restarted(clock, says_what):
    """A server that takes nothing and sends 1xx is stalled all the same."""
    steps = [step for each in says_what for step in (after(0.5), says(each))]
    connection = FakeConnection(clock, *steps, room=len(HEAD) + 100)
    exchange = exchange_of(connection, RecordingControl(clock), write=3)
    with pytest.raises(httpx.WriteTimeout):
        exchange.send(Unit(HEAD, 0), [Unit(DATA, len(DATA))])
    assert clock.passed == 3


def test_the_head_of_an_early_refusal_has_the_read_limit(clock):
    """Once a status of 300 or more has come during the body, the rest of the head has the read limit."""
    steps = [step for _ in range(50) for step in (after(0.5), says(b"Header: x\r\n"))]
    connection = FakeConnection(
        clock,
        when_sent(len(HEAD) + 100),
        says(b"HTTP/1.1 413 Too Large\r\n"),
        *steps,
        takes(),
        room=len(HEAD) + 100,
    )
    exchange = exchange_of(connection, RecordingControl(clock), read=3, write=100)
    exchange.send(Unit(HEAD, 0), [Unit(DATA, len(DATA))] * 10)
    with pytest.raises(httpx.ReadTimeout):
        exchange.receive_head()
    assert clock.passed == 3
