"""One exchange on a fake connection and a fake clock: what is sent, heard and reported, and when."""

from __future__ import annotations

import errno
import math
import ssl
from collections.abc import Iterable

import httpx
import pytest
from support.fake_wire import (
    FakeClock,
    FakeConnection,
    FakeFile,
    FakeFlow,
    RecordingControl,
    acknowledges,
    after,
    alerts,
    breaks_the_pipe,
    does,
    ends,
    fails_to_send_the_file,
    resets,
    says,
    takes,
    when_blocked,
    when_sent,
)

from rxupload._errors import ResponseTooLarge, SourceChanged
from rxupload._wait import READ, WRITE
from rxupload._wire.control import PLAIN, Control
from rxupload._wire.exchange import CHUNK, Exchange
from rxupload._wire.hearing import RECEIVE, Stale
from rxupload._wire.request import Framing, Piece, Unit, Units

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
TOO_LARGE = b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig"
PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
DATA = bytes(range(256)) * 4  # 1024 bytes
SIZE = len(DATA)


class StopError(Exception):
    """The reason with which a test stops a control."""


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def control(clock) -> RecordingControl:
    return RecordingControl(clock)


def begin(
    connection: FakeConnection, control: Control, method: str = "POST", **timeouts: float | None
) -> Exchange:
    """Start an exchange on the connection."""
    return Exchange(connection, method, control=control, clock=connection.clock, timeouts=timeouts)


def run(exchange: Exchange, *body: Unit | bytes) -> tuple[int, bytes]:
    """Send a head and a body, and receive the response: its status and its body."""
    exchange.send(Unit(HEAD, 0), [each if isinstance(each, Unit) else Unit(each, len(each)) for each in body])
    return exchange.receive_head().status, b"".join(exchange.body())


def sized(pieces: Iterable[Piece], size: int, clock: FakeClock) -> Iterable[Unit]:
    """Return the units of a body of this size, without the head."""
    units = iter(Units(HEAD, pieces, Framing(size, False), clock, is_head_alone=True))
    assert next(units).data == HEAD
    return units


class TestOrder:
    def test_a_whole_exchange_without_a_wait(self, clock, control):
        """If nothing blocks, the head, the body and the response pass without a wait."""
        connection = FakeConnection(clock, when_sent(len(HEAD) + 2 * SIZE), says(OK))
        assert run(begin(connection, control), DATA, DATA) == (200, b"ok")
        assert connection.sent == HEAD + DATA + DATA
        assert not clock.waits

    def test_the_server_is_heard_before_each_slice(self, clock, control):
        """A final status of 300 or more ends the sending before the next slice."""
        connection = FakeConnection(clock, when_sent(len(HEAD) + SIZE), says(TOO_LARGE))
        exchange = begin(connection, control)
        assert run(exchange, DATA, DATA, DATA) == (413, b"big")
        assert connection.sent == HEAD + DATA
        assert exchange.ends_with_reset
        assert not exchange.leaves_it_usable

    @pytest.mark.parametrize("status", [299, 300, 307])
    def test_a_status_of_300_ends_the_sending_and_299_does_not(self, clock, control, status):
        """A status of 300 or more ends the sending; a lower one does not."""
        response = OK.replace(b"200", str(status).encode())
        connection = FakeConnection(clock, when_sent(len(HEAD)), says(response))
        assert run(begin(connection, control), DATA) == (status, b"ok")
        assert connection.sent == HEAD + DATA * (status < 300)

    def test_a_refusal_stops_reading_the_source(self, clock, control):
        """After a refusal, nothing more is read from the source."""
        connection = FakeConnection(clock, when_sent(len(HEAD) + SIZE), says(TOO_LARGE))
        asked = []

        def body():
            for number in range(10):
                asked.append(number)
                yield Unit(DATA, SIZE)

        exchange = begin(connection, control)
        exchange.send(Unit(HEAD, 0), body())
        assert asked == [0, 1]

    def test_the_status_alone_ends_the_sending(self, clock, control):
        """The sending ends at the status line, before the rest of the head has come."""
        connection = FakeConnection(
            clock, when_sent(len(HEAD)), says(b"HTTP/1.1 413"), after(1), says(TOO_LARGE[12:])
        )
        assert run(begin(connection, control), DATA) == (413, b"big")
        assert connection.sent == HEAD

    def test_an_answer_before_the_first_slice_saves_the_body(self, clock, control):
        """If the answer is there before the body begins, no body is sent."""
        connection = FakeConnection(clock, when_sent(len(HEAD)), says(TOO_LARGE))
        assert run(begin(connection, control), DATA) == (413, b"big")
        assert connection.sent == HEAD

    def test_a_refusal_ends_a_blocked_send(self, clock, control):
        """A refusal ends a blocked send at once."""
        connection = FakeConnection(clock, when_blocked(), after(3), says(TOO_LARGE), room=len(HEAD) + 100)
        assert run(begin(connection, control), DATA) == (413, b"big")
        assert clock.passed == 3
        assert connection.sent == HEAD + DATA[:100]

    def test_a_refusal_ends_the_wait_for_the_source(self, clock, control):
        """A refusal is heard while the source has no data."""
        flow = FakeFlow(clock, (0, DATA), (60, DATA))
        connection = FakeConnection(clock, after(3), says(TOO_LARGE))
        exchange = begin(connection, control)
        exchange.send(Unit(HEAD, 0), sized([flow], 2 * SIZE, clock))
        assert exchange.receive_head().status == 413
        assert clock.passed == 3
        assert connection.sent == HEAD + DATA

    def test_a_refusal_ends_a_pause(self, clock):
        """A refusal is heard during a pause; so is the end of the connection."""
        for what, outcome in (
            (says(TOO_LARGE), None),
            (ends(), httpx.ReadError),
            (resets(), httpx.WriteError),
        ):
            clock = FakeClock()
            control = RecordingControl(clock, is_held_back=True, grants=[(0, math.inf)])
            connection = FakeConnection(clock, after(3), what)
            exchange = begin(connection, control, write=1)
            if outcome is None:
                assert run(exchange, DATA) == (413, b"big")
            else:
                with pytest.raises(outcome):
                    run(exchange, DATA)
            assert clock.passed == 3
            assert connection.sent == HEAD

    def test_a_refusal_ends_a_blocked_last_chunk(self, clock, control):
        """If the empty last chunk is blocked, the answer is heard and the connection is not reused."""
        connection = FakeConnection(clock, when_blocked(), says(TOO_LARGE), room=len(HEAD) + SIZE)
        exchange = begin(connection, control)
        assert run(exchange, DATA, Unit(b"0\r\n\r\n", 0)) == (413, b"big")
        assert connection.sent == HEAD + DATA
        assert not exchange.leaves_it_usable

    @pytest.mark.parametrize("split", [1, 7, 40, 1000])
    def test_informational_answers_do_not_stop_the_body(self, clock, control, split):
        """The body continues beside any number of 1xx answers, split anywhere, and each one is reported."""
        flood = 30 * PROCESSING
        pieces = [flood[start : start + split] for start in range(0, len(flood), split)]
        connection = FakeConnection(
            clock, when_sent(len(HEAD)), says(*pieces), when_sent(len(HEAD) + 3 * SIZE), says(OK)
        )
        assert run(begin(connection, control), DATA, DATA, DATA) == (200, b"ok")
        assert control.recorded("heard") == 30 * [102] + [200]

    def test_a_flood_of_informational_answers_does_not_block_the_body(self, clock, control):
        """At most 64 KiB are heard between two sends, so an endless series of 1xx cannot block the body."""
        flood = 10_000 * PROCESSING
        connection = FakeConnection(clock, when_sent(len(HEAD)), says(flood))
        exchange = begin(connection, control)
        exchange.send(Unit(HEAD, 0), [Unit(DATA, SIZE)])
        assert connection.sent == HEAD + DATA
        assert connection.received <= RECEIVE

    def test_bytes_that_are_not_http_end_the_exchange(self, clock, control):
        """Bytes that are not HTTP end the exchange in the middle of the body."""
        connection = FakeConnection(clock, when_sent(len(HEAD)), says(b"SSH-2.0"))
        with pytest.raises(httpx.RemoteProtocolError):
            run(begin(connection, control), DATA)
        assert connection.sent == HEAD

    def test_a_close_without_an_answer_is_a_read_error(self, clock, control):
        """A server that closes during the body without an answer is a ReadError with the bytes sent so far."""
        connection = FakeConnection(clock, when_sent(len(HEAD)), ends())
        with pytest.raises(httpx.ReadError, match="closed the connection before it answered; so far"):
            run(begin(connection, control), DATA)

    def test_a_request_without_a_body_is_only_a_head(self, clock, control):
        """A request without a body sends its head and reports no bytes."""
        connection = FakeConnection(clock, when_sent(len(HEAD)), after(1), says(OK))
        exchange = begin(connection, control, "GET")
        assert run(exchange) == (200, b"ok")
        assert control.log == [("heard", 200)]
        assert exchange.leaves_it_usable


class TestEarlySuccess:
    def test_the_body_continues(self, clock, control):
        """After an early 2xx the whole body is sent, and the response is what came meanwhile."""
        connection = FakeConnection(
            clock, when_sent(len(HEAD)), says(OK), when_blocked(), after(1), takes(), room=len(HEAD) + SIZE
        )
        exchange = begin(connection, control)
        assert run(exchange, DATA, DATA) == (200, b"ok")
        assert connection.sent == HEAD + DATA + DATA
        assert exchange.leaves_it_usable
        assert control.recorded("settled")[-1] == 2 * SIZE

    def test_an_echo_succeeds(self, clock, control):
        """A server succeeds that echoes 16 MiB while it reads, and stops reading when its echo is not read."""
        block = bytes(range(256)) * 256
        count = 256

        def echo(connection: FakeConnection) -> bool:
            # Both systems hold 128 KiB each way: the server reads again once its echo has been read.
            read = echo.read
            while read < len(connection.sent) and read - connection.received < 2 * len(block):
                data = bytes(connection.sent[read : read + len(block)])
                connection.say(data if read else b"HTTP/1.1 200 OK\r\n\r\n" + data)
                read += len(data)
                connection.room += len(data)
            echo.read = read
            if read == len(HEAD) + count * len(block):
                connection.say(b"")
                return True
            return False

        echo.read = 0
        connection = FakeConnection(clock, echo, room=2 * len(block))
        assert run(begin(connection, control), *count * [block]) == (200, HEAD + count * block)

    def test_an_echo_that_is_too_long_is_bounded(self, clock):
        """The part of the response that is kept during the send stays close to the limit."""
        control = RecordingControl(clock, keep=100_000)
        blocks = 50 * [bytes(RECEIVE)]
        connection = FakeConnection(clock, when_sent(len(HEAD)), says(b"HTTP/1.1 200 OK\r\n\r\n", *blocks))
        exchange = begin(connection, control)
        with pytest.raises(ResponseTooLarge, match="longer than 100000 bytes"):
            run(exchange, *50 * [DATA])
        assert exchange.parser.kept <= 100_000 + 2 * RECEIVE
        assert connection.received < 10 * RECEIVE

    @pytest.mark.parametrize("fault", ["pipe", "reset", "stall", "alert"])
    def test_it_is_delivered_when_the_body_cannot_be_finished(self, clock, control, fault):
        """An early 2xx is the response, even if the rest of the body cannot be sent."""
        steps = {
            "pipe": [breaks_the_pipe(), takes()],
            "reset": [after(1), resets()],
            "alert": [after(1), alerts("internal error"), breaks_the_pipe()],
            "stall": [],
        }[fault]
        connection = FakeConnection(
            clock, when_sent(len(HEAD)), says(OK), when_blocked(), *steps, room=len(HEAD) + 10
        )
        exchange = begin(connection, control, write=5)
        assert run(exchange, DATA) == (200, b"ok")
        assert clock.passed == {"pipe": 0, "reset": 1, "alert": 1, "stall": 5}[fault]
        assert not exchange.leaves_it_usable
        assert exchange.ends_with_reset
        assert not control.recorded("settled")

    def test_it_is_an_error_when_the_response_breaks_off(self, clock, control):
        """An early 2xx with a head or body that breaks off is a ReadError."""
        for cut in (15, 30, len(OK) - 1):
            connection = FakeConnection(clock, when_sent(len(HEAD)), says(OK[:cut]), resets())
            with pytest.raises(httpx.ReadError):
                run(begin(connection, control), DATA, DATA)

    def test_the_body_continues_after_the_server_closes_its_side(self, clock, control):
        """The body also continues if the server ends its response by closing its side."""
        response = b"HTTP/1.1 200 OK\r\n\r\nall"
        connection = FakeConnection(
            clock, when_sent(len(HEAD)), says(response), ends(), after(1), takes(), room=len(HEAD)
        )
        exchange = begin(connection, control)
        assert run(exchange, DATA, DATA) == (200, b"all")
        assert connection.sent == HEAD + DATA + DATA
        assert not exchange.leaves_it_usable


class TestWriteLimit:
    def test_it_ends_a_stalled_send_at_its_time(self, clock, control):
        """A server that takes nothing for the limit is a WriteTimeout at that time, with the bytes sent so far."""
        connection = FakeConnection(clock, room=len(HEAD) + 10)
        with pytest.raises(httpx.WriteTimeout, match="The server took no data for 7 s; so far"):
            run(begin(connection, control, write=7), DATA)
        assert clock.passed == 7

    def test_it_starts_with_the_first_blocked_send(self, clock, control):
        """The limit starts when a send blocks, even before the first byte has gone."""
        connection = FakeConnection(clock, room=0)
        with pytest.raises(httpx.WriteTimeout):
            run(begin(connection, control, write=7), DATA)
        assert clock.passed == 7

    def test_a_slow_but_steady_reader_never_exceeds_it(self, clock, control):
        """A reader that takes a few bytes before each limit never exceeds it."""
        steps = [step for _ in range(32) for step in (after(6.9), takes(SIZE // 32))]
        connection = FakeConnection(clock, *steps, says(OK), room=len(HEAD))
        assert run(begin(connection, control, write=7), DATA) == (200, b"ok")
        assert clock.passed == pytest.approx(32 * 6.9)

    def test_acknowledged_bytes_restart_it(self, clock, control):
        """The limit restarts at each byte that is written or acknowledged."""
        connection = FakeConnection(
            clock, when_blocked(), after(5), acknowledges(1), room=len(HEAD) + 10, acknowledges=False
        )
        with pytest.raises(httpx.WriteTimeout):
            run(begin(connection, control, write=7), DATA)
        # The acknowledgement is noticed when the count is read: at most a second later.
        assert 12 <= clock.passed <= 13

    def test_it_continues_after_the_last_write(self, clock, control):
        """While the system holds unacknowledged bytes, the write limit runs and the read limit does not."""
        connection = FakeConnection(clock, acknowledges=False)
        with pytest.raises(httpx.WriteTimeout):
            run(begin(connection, control, write=7, read=1), DATA)
        assert clock.passed == 7

    def test_it_stops_during_a_pause(self, clock, control):
        """The limit does not run during a pause, neither within the body nor after the last write."""
        control.paused = True
        clock.at(100, lambda: setattr(control, "paused", False))
        connection = FakeConnection(clock, room=len(HEAD) + 10, acknowledges=False)
        with pytest.raises(httpx.WriteTimeout):
            run(begin(connection, control, write=7), DATA)
        assert 106 <= clock.passed <= 107

    def test_it_restarts_after_a_wait_for_the_throttle(self, clock):
        """The limit restarts after the throttle has held the body for longer than the limit."""
        control = RecordingControl(clock, is_held_back=True, grants=[10, (0, 50), (0, 100)])
        clock.at(100)
        connection = FakeConnection(clock, room=len(HEAD) + 10, acknowledges=False)
        with pytest.raises(httpx.WriteTimeout):
            run(begin(connection, control, write=7), DATA)
        assert clock.passed == 107

    def test_it_restarts_after_a_wait_for_the_source(self, clock, control):
        """The limit restarts after a wait for the source."""
        connection = FakeConnection(clock, room=len(HEAD) + SIZE, acknowledges=False)
        flow = FakeFlow(clock, (0, DATA), (100, DATA))
        exchange = begin(connection, control, write=7)
        with pytest.raises(httpx.WriteTimeout):
            exchange.send(Unit(HEAD, 0), sized([flow], 2 * SIZE, clock))
        assert clock.passed == 107

    def test_a_slow_observer_does_not_count_as_a_stall(self, clock, control):
        """The time that an observer takes is no stall, if bytes moved meanwhile."""
        control.on_arrived = lambda _: clock.pass_time(20)
        steps = [step for _ in range(8) for step in (after(5), takes(SIZE // 8))]
        connection = FakeConnection(clock, *steps, when_sent(len(HEAD) + SIZE), says(OK), room=len(HEAD))
        assert run(begin(connection, control, write=7), DATA) == (200, b"ok")

    def test_it_covers_pending_bytes_of_tls(self, clock, control):
        """The wait for bytes that TLS still holds has the same limit."""
        connection = FakeConnection(clock, room=len(HEAD) + 10, tls_slice=512)
        with pytest.raises(httpx.WriteTimeout):
            run(begin(connection, control, write=7), DATA[:100])
        assert clock.passed == 7
        connection = FakeConnection(
            clock,
            when_blocked(),
            after(1),
            takes(50),
            after(1),
            takes(),
            says(OK),
            room=len(HEAD),
            tls_slice=512,
        )
        assert run(begin(connection, control, write=7), DATA, DATA) == (200, b"ok")
        assert connection.sent == HEAD + DATA + DATA


class TestReadLimit:
    def test_it_starts_at_the_last_acknowledged_byte(self, clock, control):
        """A missing response is a ReadTimeout, counted from the last acknowledged byte."""
        connection = FakeConnection(
            clock, when_sent(len(HEAD) + SIZE), after(20), acknowledges(), acknowledges=False
        )
        with pytest.raises(httpx.ReadTimeout, match="No response for 3 s; so far"):
            run(begin(connection, control, read=3), DATA)
        assert 23 <= clock.passed <= 24  # the acknowledgement is noticed at most a second later

    def test_informational_answers_do_not_restart_it(self, clock, control):
        """A 1xx is not a response, and does not restart the limit."""
        steps = [step for _ in range(10) for step in (after(0.5), says(PROCESSING))]
        connection = FakeConnection(clock, when_sent(len(HEAD) + SIZE), *steps)
        with pytest.raises(httpx.ReadTimeout):
            run(begin(connection, control, read=3), DATA)
        assert clock.passed == 3

    def test_a_flood_of_informational_answers_does_not_outlast_it(self, clock, control):
        """The limit holds even if there is always another 1xx to read."""

        def flood(connection: FakeConnection) -> bool:
            if not connection.is_readable():
                clock.pass_time(0.01)
                connection.say(PROCESSING)
            return False

        connection = FakeConnection(clock, when_sent(len(HEAD) + SIZE), flood)
        with pytest.raises(httpx.ReadTimeout):
            run(begin(connection, control, read=3), DATA)
        assert clock.passed == pytest.approx(3, abs=0.1)

    def test_each_part_of_the_body_has_its_own_limit(self, clock, control):
        """After the head, each wait has the limit anew."""
        connection = FakeConnection(
            clock, when_sent(len(HEAD) + SIZE), says(OK[:-2]), after(2), says(b"o"), after(2), says(b"k")
        )
        assert run(begin(connection, control, read=3), DATA) == (200, b"ok")
        connection = FakeConnection(clock, when_sent(len(HEAD) + SIZE), says(OK[:-1]), after(3.5), says(b"k"))
        with pytest.raises(httpx.ReadTimeout):
            run(begin(connection, control, read=3), DATA)

    def test_framing_does_not_restart_it(self, clock, control):
        """A chunk's extension that grows byte by byte is nothing of the body."""
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;"
        drips = [step for _ in range(10) for step in (after(1), says(b"x"))]
        connection = FakeConnection(clock, when_sent(len(HEAD) + SIZE), says(head), *drips)
        with pytest.raises(httpx.ReadTimeout):
            run(begin(connection, control, read=3), DATA)
        assert clock.passed == 3

    def test_it_starts_when_an_early_response_starts(self, clock, control):
        """Once the status has come, the read limit runs, whatever is acknowledged."""
        connection = FakeConnection(clock, when_sent(len(HEAD) + SIZE), says(OK[:12]), acknowledges=False)
        with pytest.raises(httpx.ReadTimeout):
            run(begin(connection, control, read=3, write=1), DATA)
        assert clock.passed == 3


class TestTimes:
    def test_how_often_the_unacknowledged_bytes_are_read(self, clock, control):
        """The interval is a quarter of the time since they moved, between 50 ms and a second."""
        connection = FakeConnection(
            clock, when_sent(len(HEAD) + SIZE), after(20), says(OK), acknowledges=False
        )
        assert run(begin(connection, control), DATA) == (200, b"ok")
        steps = [round(wait.until - wait.began, 4) for wait in clock.waits]
        assert steps[:4] == 4 * [0.05]
        for wait, step in zip(clock.waits, steps, strict=True):
            assert step == pytest.approx(min(max(wait.began / 4, 0.05), 1.0), abs=1e-4)
        assert steps[-1] == 1.0
        assert set(connection.asked_at) >= {wait.until for wait in clock.waits[:-1]}

    def test_without_a_limit_no_wait_has_a_deadline(self, clock, control):
        """With no limit and nothing unacknowledged, no wait has a deadline."""
        connection = FakeConnection(
            clock, when_blocked(), after(1000), takes(), after(1000), says(OK[:20]), after(1000), says(OK[20:]),
            room=len(HEAD),
        )  # fmt: skip
        exchange = begin(connection, control)
        assert run(exchange, DATA) == (200, b"ok")
        assert [(wait.began, wait.until, wait.events) for wait in clock.waits] == [
            (0, math.inf, READ | WRITE),
            (1000, math.inf, READ),
            (2000, math.inf, READ),
        ]

    def test_every_wait_ends_at_the_controls_deadline(self, clock, control):
        """Every wait ends at the control's deadline."""
        kinds = {
            "blocked": lambda: FakeConnection(clock, room=len(HEAD)),
            "no response": lambda: FakeConnection(clock),
            "no rest of the response": lambda: FakeConnection(
                clock, when_sent(len(HEAD) + SIZE), says(OK[:-1])
            ),
        }
        for make in kinds.values():
            control = RecordingControl(clock)
            control.stop_at(clock.passed + 30, StopError())
            began = clock.passed
            with pytest.raises(StopError):
                run(begin(make(), control), DATA)
            assert clock.passed == began + 30

    def test_a_pause_and_a_wait_for_the_source_end_at_the_controls_deadline(self, clock):
        """The same holds for waits that do not involve the connection."""
        control = RecordingControl(clock, is_held_back=True, grants=[(0, math.inf)])
        control.stop_at(30, StopError())
        with pytest.raises(StopError):
            run(begin(FakeConnection(clock), control), DATA)
        assert clock.passed == 30
        control = RecordingControl(clock)
        control.stop_at(60, StopError())
        with pytest.raises(StopError):
            begin(FakeConnection(clock), control).send(
                Unit(HEAD, 0), sized([FakeFlow(clock, (1000, DATA))], SIZE, clock)
            )
        assert clock.passed == 60

    def test_other_requests_have_the_same_limits(self, clock):
        """A request that is not an upload has the same limits."""
        with pytest.raises(httpx.WriteTimeout, match=r"took no data for 2 s$"):
            run(begin(FakeConnection(clock, room=10), PLAIN, write=2), DATA)
        with pytest.raises(httpx.ReadTimeout, match=r"No response for 2 s$"):
            run(begin(FakeConnection(clock), PLAIN, read=2), DATA)


class TestStop:
    @pytest.mark.parametrize(
        "where", ["blocked", "no response", "rest of the response", "pause", "no source", "100"]
    )
    def test_a_stop_ends_every_wait(self, clock, where):
        """A stop ends any wait at once, and its reason is raised."""
        control = RecordingControl(
            clock,
            is_held_back=where == "pause",
            grants=[(0, math.inf)] if where == "pause" else [],
            asks_first=where == "100",
        )
        connection = FakeConnection(
            clock,
            *([when_sent(len(HEAD)), says(OK[:-1])] if where == "rest of the response" else []),
            room=len(HEAD) + 10 if where == "blocked" else math.inf,
        )
        clock.at(0.5, lambda: control.stop(StopError()))
        flow = FakeFlow(clock, (0, DATA), (1000 if where == "no source" else 0, DATA))
        exchange = begin(connection, control)
        with pytest.raises(StopError):
            exchange.send(Unit(HEAD, 0), sized([flow], 2 * SIZE, clock))
            exchange.receive_head()
            list(exchange.body())
        assert clock.passed == 0.5
        assert connection.is_interrupted

    def test_a_stopped_control_takes_no_connection(self, clock, control):
        """A control that has already stopped takes no connection."""
        control.stop(StopError())
        connection = FakeConnection(clock)
        with pytest.raises(StopError):
            begin(connection, control)
        assert not connection.is_interrupted

    def test_a_stop_after_detach_leaves_the_connection_alone(self, clock, control):
        """A stop after detach leaves the connection alone, even if detach was called twice."""
        connection = FakeConnection(clock, when_sent(len(HEAD) + SIZE), says(OK))
        exchange = begin(connection, control)
        run(exchange, DATA)
        assert control.is_attached
        exchange.detach()
        exchange.detach()
        control.stop(StopError())
        assert not connection.is_interrupted

    def test_a_stop_during_sendfile_raises_its_reason(self, clock, control):
        """An ENOTCONN after a stop raises the stop's reason, and is not taken for an error of the file."""
        connection = FakeConnection(clock)
        control.on_arrived = lambda _: control.stop(StopError())
        exchange = begin(connection, control)
        with pytest.raises(StopError):
            run(exchange, DATA, Unit(FakeFile(connection, DATA), SIZE))


class TestProgress:
    def test_it_never_exceeds_what_was_acknowledged(self, clock, control):
        """Progress is the acknowledged bytes of the body, without the head and the framing."""
        steps = [step for _ in range(40) for step in (after(0.3), acknowledges(37))]
        connection = FakeConnection(clock, *steps, acknowledges(), after(1), says(OK), acknowledges=False)
        control.on_arrived = lambda count: seen.append(
            (count, connection._acknowledged - len(HEAD) - len(b"400\r\n"))
        )
        seen: list[tuple[int, int]] = []
        run(begin(connection, control), Unit(b"400\r\n" + DATA, SIZE), Unit(b"\r\n0\r\n\r\n", 0))
        assert all(count <= max(0, acknowledged) for count, acknowledged in seen)
        assert len({count for count, _ in seen}) > 20
        assert control.recorded("settled")[-1] == SIZE

    def test_an_ended_connection_acknowledges_nothing(self, clock, control):
        """The empty send queue of an ended connection does not mean that its bytes were acknowledged."""
        connection = FakeConnection(clock, acknowledges=False, room=len(HEAD) + SIZE // 2)
        clock.at(0.5, lambda: control.stop(StopError()))
        with pytest.raises(StopError):
            run(begin(connection, control), DATA)
        assert set(control.recorded("arrived")) == {0}
        assert not control.recorded("settled")

    def test_it_settles_once_all_is_acknowledged(self, clock, control):
        """Progress settles when the last byte is acknowledged, before the response comes."""
        connection = FakeConnection(
            clock,
            when_sent(len(HEAD) + SIZE),
            after(2),
            acknowledges(),
            after(10),
            says(OK),
            acknowledges=False,
        )
        times: list[float] = []
        control.settled = lambda count: times.append(clock.passed)
        run(begin(connection, control), DATA)
        assert 2 <= times[0] <= 3

    def test_a_success_settles_it(self, clock, control):
        """A response below 300 settles the progress, whatever the system has counted."""
        connection = FakeConnection(clock, when_sent(len(HEAD) + SIZE), says(OK), acknowledges=False)
        run(begin(connection, control), DATA)
        assert control.recorded("settled") == [SIZE]
        assert control.log[-1] == ("settled", SIZE)

    @pytest.mark.parametrize("status", [301, 404, 500])
    def test_a_response_of_300_or_more_does_not_settle_it(self, clock, control, status):
        """A response of 300 or more does not mean that anything has arrived."""
        response = OK.replace(b"200", str(status).encode())
        connection = FakeConnection(clock, when_sent(len(HEAD) + SIZE), says(response), acknowledges=False)
        run(begin(connection, control), DATA)
        assert not control.recorded("settled")
        assert set(control.recorded("arrived")) == {0}

    def test_it_does_not_settle_before_the_body_is_complete(self, clock, control):
        """While more of the body is to come, progress does not settle, even if all sent bytes have arrived."""
        connection = FakeConnection(clock, when_sent(len(HEAD) + SIZE), says(TOO_LARGE))
        run(begin(connection, control), DATA, DATA)
        assert control.recorded("arrived")[-1] == SIZE
        assert not control.recorded("settled")

    def test_it_is_reported_during_a_wait_for_the_source(self, clock, control):
        """Bytes that arrive during a wait for the source are reported at once."""
        connection = FakeConnection(
            clock, when_sent(len(HEAD) + SIZE), after(1), acknowledges(), when_sent(len(HEAD) + 2 * SIZE), says(OK),
            acknowledges=False,
        )  # fmt: skip
        times: dict[int, float] = {}
        control.on_arrived = lambda count: times.setdefault(count, clock.passed)
        exchange = begin(connection, control)
        exchange.send(Unit(HEAD, 0), sized([FakeFlow(clock, (0, DATA), (60, DATA))], 2 * SIZE, clock))
        assert times[SIZE] < 2

    def test_it_is_reported_during_a_pause(self, clock):
        """Bytes that arrive during a pause are reported at once."""
        control = RecordingControl(clock, is_held_back=True, grants=[SIZE, (0, 60)])
        connection = FakeConnection(
            clock, when_sent(len(HEAD) + SIZE), after(1), acknowledges(), acknowledges=False
        )
        times: dict[int, float] = {}
        control.on_arrived = lambda count: times.setdefault(count, clock.passed)
        exchange = begin(connection, control)
        exchange.send(Unit(HEAD, 0), [Unit(DATA, SIZE), Unit(DATA, SIZE)])
        assert clock.passed == 60
        assert times[SIZE] < 2

    def test_it_is_reported_only_when_it_is_due(self, clock):
        """Between sends that do not block, nothing is reported before it is due."""
        control = RecordingControl(clock, is_due=False)
        connection = FakeConnection(clock, when_sent(len(HEAD) + 20 * SIZE), says(OK))
        run(begin(connection, control), *20 * [DATA])
        assert len(connection.asked_at) == 1  # at the end of the body
        assert not [count for count in control.recorded("arrived") if count < 20 * SIZE]


class TestExpectContinue:
    @pytest.fixture
    def control(self, clock):
        return RecordingControl(clock, asks_first=True)

    @pytest.mark.parametrize(
        ("word", "at"),
        [(CONTINUE, 0.4), (PROCESSING + CONTINUE, 0.4), (OK, 0.4), (b"", 1.0), (PROCESSING, 1.0)],
    )
    def test_the_body_waits_for_an_answer(self, clock, control, word, at):
        """The body waits for a 100 or a final status below 300, at most a second; other 1xx do not count."""
        times: list[float] = []
        connection = FakeConnection(
            clock, when_sent(len(HEAD)), after(0.4), *([says(word)] if word else []), when_sent(len(HEAD) + 1),
            does(lambda _: times.append(clock.passed)), *([] if word == OK else [says(OK)]),
        )  # fmt: skip
        assert run(begin(connection, control), DATA) == (200, b"ok")
        assert connection.sent == HEAD + DATA
        assert times == [at]

    @pytest.mark.parametrize("status", [401, 417])
    def test_a_refusal_saves_the_body(self, clock, control, status):
        """A status of 300 or more is the response, and no body is sent."""
        response = OK.replace(b"200", str(status).encode())
        connection = FakeConnection(clock, when_sent(len(HEAD)), after(0.4), says(response))
        exchange = begin(connection, control)
        assert run(exchange, DATA) == (status, b"ok")
        assert connection.sent == HEAD
        assert not exchange.leaves_it_usable
        assert not control.recorded("arrived")

    def test_a_close_instead_of_an_answer_ends_it(self, clock, control):
        """A server that closes instead of answering ends the exchange at once."""
        connection = FakeConnection(clock, when_sent(len(HEAD)), after(0.4), ends())
        with pytest.raises(httpx.ReadError):
            run(begin(connection, control), DATA)
        assert clock.passed == 0.4
        assert connection.sent == HEAD


class TestBroken:
    def test_an_alert_is_the_text_of_the_error(self, clock, control):
        """A TLS alert behind a broken pipe is the text of the error."""
        connection = FakeConnection(
            clock, when_sent(len(HEAD)), alerts("certificate required"), breaks_the_pipe()
        )
        with pytest.raises(httpx.ReadError, match=r"certificate required.*; so far"):
            run(begin(connection, control), DATA)

    def test_an_alert_is_found_behind_informational_answers(self, clock, control):
        """The alert is also found behind informational answers."""
        connection = FakeConnection(
            clock,
            when_blocked(),
            breaks_the_pipe(),
            takes(),
            says(PROCESSING),
            alerts("bad record"),
            room=len(HEAD),
        )
        with pytest.raises(httpx.ReadError, match="bad record"):
            run(begin(connection, control), DATA)

    def test_an_alert_while_waiting_for_the_response(self, clock, control):
        """An alert instead of the response is a ReadError that says so."""
        connection = FakeConnection(clock, when_sent(len(HEAD) + SIZE), after(1), alerts("unknown ca"))
        with pytest.raises(httpx.ReadError, match=r"ended the TLS connection: .*unknown ca.*; so far"):
            run(begin(connection, control), DATA)

    def test_a_reset_during_the_body_is_a_write_error(self, clock, control):
        """A reset without an answer during the body is a WriteError."""
        connection = FakeConnection(clock, when_blocked(), after(1), resets(), room=len(HEAD))
        with pytest.raises(httpx.WriteError, match=r"broke while sending: .*; so far"):
            run(begin(connection, control), DATA)

    def test_a_reset_instead_of_the_response_is_a_read_error(self, clock, control):
        """A reset without an answer after the body is a ReadError."""
        connection = FakeConnection(clock, when_sent(len(HEAD) + SIZE), after(1), resets())
        with pytest.raises(httpx.ReadError, match=r"broke before the response was whole: .*; so far"):
            run(begin(connection, control), DATA)

    @pytest.mark.parametrize("split", [1, 9, 100])
    def test_an_answer_before_a_reset_is_the_response(self, clock, control, split):
        """What the server sent before the reset is the response."""
        pieces = [TOO_LARGE[start : start + split] for start in range(0, len(TOO_LARGE), split)]
        connection = FakeConnection(
            clock, when_blocked(), takes(), breaks_the_pipe(), says(*pieces), resets(), room=len(HEAD)
        )
        assert run(begin(connection, control), DATA) == (413, b"big")

    @pytest.mark.parametrize("answer", [TOO_LARGE, OK, ssl.SSLError(1, "unknown ca"), None])
    def test_an_answer_between_the_last_look_and_the_send_is_the_response(self, clock, control, answer):
        """An answer that comes after the last look is read when the send breaks."""
        connection = FakeConnection(clock)
        grant = control.grant

        def grant_late(wanted: int) -> tuple[int, float]:
            if answer is not None:
                connection.say(PROCESSING, answer)
            connection.refuse(BrokenPipeError(errno.EPIPE, "Broken pipe"))
            return grant(wanted)

        control.grant = grant_late
        exchange = begin(connection, control)
        if isinstance(answer, bytes):
            assert run(exchange, DATA) == ((413, b"big") if answer == TOO_LARGE else (200, b"ok"))
        elif answer is not None:
            with pytest.raises(httpx.ReadError, match="unknown ca"):
                run(exchange, DATA)
        else:
            with pytest.raises(httpx.WriteError, match="Broken pipe"):
                run(exchange, DATA)


class TestStale:
    def test_a_connection_closed_while_idle_is_not_reused(self, clock, control):
        """A used connection with something to read before the request is not reused."""
        for what in (ends(), resets(), says(b"HTTP/1.1 408 Timeout\r\n\r\n")):
            connection = FakeConnection(clock, what, is_used=True)
            with pytest.raises(Stale):
                run(begin(connection, control), DATA)
            assert not connection.sent

    def test_a_connection_closed_after_the_last_look_is_not_reused(self, clock, control):
        """The same holds if it breaks before the first byte has gone, even by an alert."""
        for steps in ([breaks_the_pipe()], [takes(), resets()], [alerts("closed"), breaks_the_pipe()]):
            connection = FakeConnection(clock, when_blocked(), *steps, takes(), room=0, is_used=True)
            with pytest.raises(Stale):
                run(begin(connection, control), DATA)
            assert not connection.sent

    def test_a_break_after_the_first_byte_is_an_error(self, clock, control):
        """Once a byte has gone, the request itself may be why the server closed."""
        connection = FakeConnection(clock, when_sent(1), breaks_the_pipe(), room=1, is_used=True)
        with pytest.raises(httpx.WriteError):
            run(begin(connection, control), DATA)

    def test_a_break_of_a_new_connection_is_an_error(self, clock, control):
        """A new connection that breaks at once is an error."""
        connection = FakeConnection(clock, resets())
        with pytest.raises(httpx.WriteError):
            run(begin(connection, control), DATA)

    def test_an_answer_before_the_request_on_a_new_connection_is_the_response(self, clock, control):
        """On a new connection, what the server sends before the request is its response."""
        connection = FakeConnection(clock, says(TOO_LARGE))
        assert run(begin(connection, control), DATA) == (413, b"big")
        assert connection.sent == HEAD


class TestGrant:
    def test_it_covers_the_body_and_not_the_head(self, clock):
        """Every byte but the head needs a grant, and each send is as long as its grant."""
        control = RecordingControl(clock, is_held_back=True, grants=[100, 200, (0, 1), 300])
        connection = FakeConnection(clock, when_sent(len(HEAD) + SIZE), says(OK))
        assert run(begin(connection, control), DATA) == (200, b"ok")
        assert control.recorded("grant") == [100, 200, 0, 300, SIZE - 600]
        assert control.given_back == 0
        assert clock.passed == 1

    def test_only_once_the_socket_is_writable(self, clock):
        """After a blocked send, the throttle is asked once the socket is writable."""
        control = RecordingControl(clock, is_held_back=True)
        connection = FakeConnection(
            clock, when_blocked(), after(1), says(PROCESSING), after(1), says(PROCESSING), after(1), takes(),
            when_sent(len(HEAD) + SIZE), says(OK), room=len(HEAD) + 10,
        )  # fmt: skip
        times: list[float] = []
        grant = control.grant
        control.grant = lambda wanted: times.append(clock.passed) or grant(wanted)
        run(begin(connection, control), DATA)
        assert times == [0, 0, 3]

    def test_unsent_bytes_are_given_back(self, clock):
        """Granted bytes that were not sent are given back before any wait."""
        control = RecordingControl(clock, is_held_back=True)
        connection = FakeConnection(
            clock,
            when_blocked(),
            after(1),
            takes(),
            when_sent(len(HEAD) + SIZE),
            says(OK),
            room=len(HEAD) + 10,
        )
        control.on_arrived = lambda _: given_back.append((clock.passed, control.granted - control.given_back))
        given_back: list[tuple[float, int]] = []
        run(begin(connection, control), DATA)
        assert control.granted - control.given_back == SIZE
        assert all(count == 10 for at, count in given_back if at < 1)

    def test_the_heads_bytes_are_not_given_back(self, clock):
        """The head was never granted, so it is not given back when it blocks or fails."""
        control = RecordingControl(clock, is_held_back=True)
        connection = FakeConnection(
            clock, when_blocked(), after(1), takes(), when_sent(len(HEAD) + SIZE), says(OK), room=5
        )
        run(begin(connection, control), DATA)
        assert control.given_back == 0
        with pytest.raises(httpx.WriteError):
            run(begin(FakeConnection(clock, breaks_the_pipe()), control), DATA)
        assert control.given_back == 0

    @pytest.mark.parametrize("fault", [breaks_the_pipe, resets])
    def test_a_fault_gives_it_back(self, clock, fault):
        """The unsent grant is given back when the connection breaks."""
        control = RecordingControl(clock, is_held_back=True)
        connection = FakeConnection(clock, when_sent(len(HEAD)), fault())
        with pytest.raises(httpx.WriteError):
            run(begin(connection, control), DATA)
        assert control.granted == control.given_back

    def test_it_steps_aside_before_it_reports(self, clock):
        """Other uploads may go before the observer is called, because the observer may be slow."""
        control = RecordingControl(clock, is_held_back=True, grants=[100, (0, 10), (0, 10)])
        connection = FakeConnection(
            clock, when_sent(len(HEAD) + 100), after(1), acknowledges(), says(PROCESSING),
            when_sent(len(HEAD) + SIZE), acknowledges(), says(OK), acknowledges=False,
        )  # fmt: skip
        run(begin(connection, control), DATA)
        is_refused = False
        for name, *rest in control.log:
            if name in ("grant", "step aside"):
                is_refused = rest == [0]
            else:
                assert not is_refused, "the observer is told while others wait"
        assert control.recorded("step aside")

    def test_a_wake_ends_the_wait(self, clock):
        """The end of a pause sets the wake, which ends the wait and is cleared."""
        control = RecordingControl(clock, is_held_back=True, grants=[(0, math.inf)])
        connection = FakeConnection(clock, when_sent(len(HEAD) + SIZE), says(OK))
        clock.at(5, control.release)
        run(begin(connection, control), DATA)
        assert clock.passed == 5
        assert not control.wake.is_set()

    def test_the_systems_send_queue_is_kept_short(self, clock):
        """If the body may be held back, the system's send queue is kept short."""
        for is_held_back in (False, True):
            connection = FakeConnection(clock, when_sent(len(HEAD) + SIZE), says(OK))
            run(begin(connection, RecordingControl(clock, is_held_back=is_held_back)), DATA)
            assert connection.log == ["short queue"] * is_held_back

    def test_pending_records_need_no_grant(self, clock):
        """Bytes that TLS holds already have a grant, and need no second one."""
        control = RecordingControl(clock, is_held_back=True)
        connection = FakeConnection(
            clock, when_blocked(), after(1), takes(), when_sent(len(HEAD) + SIZE), says(OK),
            room=len(HEAD) + 10, tls_slice=SIZE,
        )  # fmt: skip
        run(begin(connection, control), DATA)
        assert control.recorded("grant") == [SIZE]
        assert control.given_back == 0


class TestSource:
    def test_a_wake_says_that_a_source_without_a_descriptor_has_more(self, clock, control):
        """A source without a descriptor sets the control's wake when it has more."""
        flow = FakeFlow(clock, (5, DATA), is_watched=False)
        clock.at(5, control.wake.set)
        connection = FakeConnection(clock, when_sent(len(HEAD) + SIZE), says(OK))
        exchange = begin(connection, control)
        exchange.send(Unit(HEAD, 0), sized([flow], SIZE, clock))
        assert clock.passed == 5
        assert connection.sent == HEAD + DATA
        assert not control.wake.is_set()

    def test_its_exception_is_raised_unchanged(self, clock, control):
        """The source's exception is raised unchanged, and the connection is reset."""

        def body():
            yield Unit(DATA, SIZE)
            raise StopError

        exchange = begin(FakeConnection(clock), control)
        with pytest.raises(StopError):
            exchange.send(Unit(HEAD, 0), body())
        assert exchange.ends_with_reset
        assert not exchange.leaves_it_usable


class TestSendfile:
    def test_short_counts_add_up(self, clock, control):
        """Short counts of sendfile add up, from the start of the range."""
        steps = [step for _ in range(11) for step in (when_blocked(), takes(100))]
        connection = FakeConnection(clock, *steps, when_sent(len(HEAD) + SIZE), says(OK), room=len(HEAD))
        file = FakeFile(connection, b"before" + DATA + b"after", start=6, size=SIZE)
        assert run(begin(connection, control), Unit(file, SIZE)) == (200, b"ok")
        assert connection.sent == HEAD + DATA
        assert not file.reads
        assert control.recorded("settled")[-1] == SIZE

    def test_it_sends_no_more_than_the_grant(self, clock):
        """No more of a file is sent than was granted."""
        control = RecordingControl(clock, is_held_back=True, grants=[100, (0, 1), 200])
        connection = FakeConnection(clock, when_sent(len(HEAD) + SIZE), says(OK))
        file = FakeFile(connection, DATA)
        run(begin(connection, control), Unit(file, SIZE))
        assert connection.log[1:] == ["sendfile 100", "sendfile 200", f"sendfile {SIZE - 300}"]

    @pytest.mark.parametrize(("is_held_back", "most"), [(True, CHUNK), (False, 3 * CHUNK)])
    def test_a_body_that_may_be_held_back_is_sent_in_smaller_parts(self, clock, is_held_back, most):
        """The system gets less of a file at a time if the body may be held back."""
        control = RecordingControl(clock, is_held_back=is_held_back)
        connection = FakeConnection(clock, when_sent(len(HEAD) + 3 * CHUNK), says(OK))
        run(begin(connection, control), Unit(FakeFile(connection, bytes(3 * CHUNK)), 3 * CHUNK))
        assert {line for line in connection.log if line.startswith("sendfile")} == {f"sendfile {most}"}

    @pytest.mark.parametrize("sendfile", [True, False])
    def test_a_file_that_has_shrunk_is_source_changed(self, clock, sendfile):
        """A file that is too short is SourceChanged; its grant is given back and the connection is not reused."""
        control = RecordingControl(clock, is_held_back=True)
        connection = FakeConnection(clock, sendfile=sendfile)
        file = FakeFile(connection, DATA, size=2 * SIZE)
        exchange = begin(connection, control)
        with pytest.raises(SourceChanged, match="ends at 1024"):
            run(exchange, Unit(file, 2 * SIZE))
        assert control.granted - control.given_back == SIZE
        assert exchange.ends_with_reset
        assert not exchange.leaves_it_usable

    @pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
    def test_a_file_that_the_system_cannot_send_is_read(self, clock, number):
        """A file that the system cannot send is read from where it stopped, and the connection remembers it."""
        control = RecordingControl(clock, is_held_back=True)
        connection = FakeConnection(
            clock, when_sent(len(HEAD) + 100), fails_to_send_the_file(number), takes(),
            when_sent(len(HEAD) + SIZE), says(OK), room=len(HEAD) + 100,
        )  # fmt: skip
        file = FakeFile(connection, DATA)
        assert run(begin(connection, control), Unit(file, SIZE)) == (200, b"ok")
        assert connection.sent == HEAD + DATA
        assert file.reads == [SIZE - 100]
        assert not connection.can_sendfile
        assert control.granted - control.given_back == SIZE

    def test_an_error_of_the_file_is_raised_unchanged(self, clock, control):
        """An EIO is an error of the file, and is raised unchanged."""
        connection = FakeConnection(clock, when_sent(len(HEAD)), fails_to_send_the_file(errno.EIO))
        with pytest.raises(OSError, match="EIO") as caught:
            run(begin(connection, control), Unit(FakeFile(connection, DATA), SIZE))
        assert caught.value.errno == errno.EIO

    @pytest.mark.parametrize("number", [errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.ETIMEDOUT])
    def test_an_error_of_the_connection_yields_to_an_answer(self, clock, control, number):
        """An error of the connection ends it as in a send: with the answer, if there is one."""
        for answer in (b"", TOO_LARGE):
            connection = FakeConnection(
                clock, when_blocked(), fails_to_send_the_file(number), *([says(answer)] if answer else []), takes(),
                room=len(HEAD),
            )  # fmt: skip
            exchange = begin(connection, control)
            if answer:
                assert run(exchange, Unit(FakeFile(connection, DATA), SIZE)) == (413, b"big")
            else:
                with pytest.raises(httpx.WriteError, match="broke while sending"):
                    run(exchange, Unit(FakeFile(connection, DATA), SIZE))

    def test_a_refusal_is_heard_between_two_slices_of_a_file(self, clock, control):
        """The server is heard between two slices of a file."""
        connection = FakeConnection(clock, when_sent(len(HEAD) + 100), says(TOO_LARGE), room=len(HEAD) + 100)
        file = FakeFile(connection, DATA)
        assert run(begin(connection, control), Unit(file, SIZE)) == (413, b"big")
        assert connection.sent == HEAD + DATA[:100]


class TestReuse:
    @pytest.mark.parametrize(
        ("response", "is_usable"),
        [
            (OK, True),
            (TOO_LARGE, True),
            (b"HTTP/1.1 204 No Content\r\n\r\n", True),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", True),
            (PROCESSING + OK, True),
            (OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), False),
            (OK.replace(b"HTTP/1.1", b"HTTP/1.0"), False),
            (OK.replace(b"1.1", b"1.0").replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n"), True),
            (OK + b"H", False),
            (OK + OK, False),
            (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", False),
        ],
    )
    def test_the_response_decides_after_a_whole_request(self, clock, control, response, is_usable):
        """After a whole request, the response decides whether the connection can be reused."""
        connection = FakeConnection(clock, when_sent(len(HEAD) + SIZE), says(response))
        exchange = begin(connection, control)
        run(exchange, DATA)
        assert exchange.leaves_it_usable is is_usable
        assert not exchange.ends_with_reset

    def test_not_after_a_late_abort(self, clock, control):
        """A connection that was ended between the response and detach is not reused."""
        connection = FakeConnection(clock, when_sent(len(HEAD) + SIZE), says(OK))
        exchange = begin(connection, control)
        run(exchange, DATA)
        assert exchange.leaves_it_usable
        connection.interrupt()
        exchange.detach()
        assert not exchange.leaves_it_usable

    def test_not_before_the_response_was_read(self, clock, control):
        """A connection with an unread response is not reused."""
        connection = FakeConnection(
            clock, when_sent(len(HEAD)), says(OK[:-1]), when_sent(len(HEAD) + SIZE), after(1), says(OK[-1:])
        )
        exchange = begin(connection, control)
        exchange.send(Unit(HEAD, 0), [Unit(DATA, SIZE)])
        exchange.receive_head()
        assert not exchange.leaves_it_usable
        assert not exchange.ends_with_reset
        assert b"".join(exchange.body()) == b"ok"
        assert exchange.leaves_it_usable

    def test_not_after_a_refusal_during_the_body(self, clock, control):
        """After a refusal during the body the server still waits for the rest, so the connection is not reused."""
        connection = FakeConnection(clock, when_sent(len(HEAD)), says(TOO_LARGE))
        exchange = begin(connection, control)
        run(exchange, DATA)
        assert not exchange.leaves_it_usable
        assert exchange.ends_with_reset

    def test_a_complete_early_success_is_reused_after_the_body(self, clock, control):
        """After a complete early success, the connection is reusable once the body has gone."""
        connection = FakeConnection(clock, when_sent(len(HEAD)), says(OK))
        exchange = begin(connection, control)

        def body():
            yield Unit(DATA, SIZE)
            assert not exchange.leaves_it_usable
            assert exchange.ends_with_reset
            yield Unit(DATA, SIZE)

        exchange.send(Unit(HEAD, 0), body())
        assert exchange.leaves_it_usable

    def test_not_if_bytes_follow_a_complete_early_response(self, clock, control):
        """Bytes that follow the response during the body are noticed before the connection is kept."""
        connection = FakeConnection(
            clock,
            when_sent(len(HEAD)),
            says(OK),
            when_sent(len(HEAD) + SIZE),
            says(b"HTTP/1.1 500 No\r\n\r\n"),
        )
        exchange = begin(connection, control)
        assert run(exchange, DATA, DATA) == (200, b"ok")
        # This exchange does not read it; the next user of the connection looks first.
        assert connection.is_readable()
        connection.is_used = True
        with pytest.raises(Stale):
            run(begin(connection, control), DATA)

    def test_an_error_resets_the_connection(self, clock, control):
        """Without a response the connection is closed without waiting for its unsent bytes."""
        exchange = begin(FakeConnection(clock), control, read=1)
        with pytest.raises(httpx.ReadTimeout):
            run(exchange, DATA)
        assert exchange.ends_with_reset
        assert not exchange.leaves_it_usable
