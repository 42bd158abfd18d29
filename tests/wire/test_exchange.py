"""One exchange on a fake connection and a fake clock: what is sent, heard and told, in which order, and when."""

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
    """Why a test's control stops."""


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def control(clock) -> RecordingControl:
    return RecordingControl(clock)


def begin(
    connection: FakeConnection, control: Control, method: str = "POST", **timeouts: float | None
) -> Exchange:
    """An exchange on that connection."""
    return Exchange(connection, method, control=control, clock=connection.clock, timeouts=timeouts)


def run(exchange: Exchange, *body: Unit | bytes) -> tuple[int, bytes]:
    """Send a head and these, and receive the response: its status and its body."""
    exchange.send(Unit(HEAD, 0), [each if isinstance(each, Unit) else Unit(each, len(each)) for each in body])
    return exchange.receive_head().status, b"".join(exchange.body())


def sized(pieces: Iterable[Piece], size: int, clock: FakeClock) -> Iterable[Unit]:
    """The units of a body of that size, without the first, which is the head."""
    units = iter(Units(HEAD, pieces, Framing(size, False), clock, is_head_alone=True))
    assert next(units).data == HEAD
    return units


class TestOrder:
    def test_a_whole_exchange(self, clock, control):
        """The head, the body and the response, without one wait where nothing blocks."""
        connection = FakeConnection(clock, when_sent(len(HEAD) + 2 * SIZE), says(OK))
        assert run(begin(connection, control), DATA, DATA) == (200, b"ok")
        assert connection.sent == HEAD + DATA + DATA
        assert not clock.waits

    def test_hears_before_each_slice(self, clock, control):
        """A final status of 300 or more ends the sending before the next slice."""
        connection = FakeConnection(clock, when_sent(len(HEAD) + SIZE), says(TOO_LARGE))
        exchange = begin(connection, control)
        assert run(exchange, DATA, DATA, DATA) == (413, b"big")
        assert connection.sent == HEAD + DATA
        assert exchange.ends_with_reset
        assert not exchange.leaves_it_usable

    @pytest.mark.parametrize("status", [299, 300, 307])
    def test_which_status_ends_the_sending(self, clock, control, status):
        """A status of 300 ends it, and one of 299 does not."""
        response = OK.replace(b"200", str(status).encode())
        connection = FakeConnection(clock, when_sent(len(HEAD)), says(response))
        assert run(begin(connection, control), DATA) == (status, b"ok")
        assert connection.sent == HEAD + DATA * (status < 300)

    def test_takes_no_more_of_the_source(self, clock, control):
        """Once the server has refused the body, its source is not asked for more than the slice at hand."""
        connection = FakeConnection(clock, when_sent(len(HEAD) + SIZE), says(TOO_LARGE))
        asked = []

        def body():
            for number in range(10):
                asked.append(number)
                yield Unit(DATA, SIZE)

        exchange = begin(connection, control)
        exchange.send(Unit(HEAD, 0), body())
        assert asked == [0, 1]

    def test_the_status_alone_is_enough(self, clock, control):
        """The sending ends at the status, before the rest of the head has come."""
        connection = FakeConnection(
            clock, when_sent(len(HEAD)), says(b"HTTP/1.1 413"), after(1), says(TOO_LARGE[12:])
        )
        assert run(begin(connection, control), DATA) == (413, b"big")
        assert connection.sent == HEAD

    def test_before_the_first_slice(self, clock, control):
        """An answer that is there before the body begins spares it altogether."""
        connection = FakeConnection(clock, when_sent(len(HEAD)), says(TOO_LARGE))
        assert run(begin(connection, control), DATA) == (413, b"big")
        assert connection.sent == HEAD

    def test_while_the_send_is_blocked(self, clock, control):
        """A blocked send ends as soon as the refusal comes."""
        connection = FakeConnection(clock, when_blocked(), after(3), says(TOO_LARGE), room=len(HEAD) + 100)
        assert run(begin(connection, control), DATA) == (413, b"big")
        assert clock.passed == 3
        assert connection.sent == HEAD + DATA[:100]

    def test_while_the_source_has_nothing(self, clock, control):
        """A refusal is heard while more of the body is waited for."""
        flow = FakeFlow(clock, (0, DATA), (60, DATA))
        connection = FakeConnection(clock, after(3), says(TOO_LARGE))
        exchange = begin(connection, control)
        exchange.send(Unit(HEAD, 0), sized([flow], 2 * SIZE, clock))
        assert exchange.receive_head().status == 413
        assert clock.passed == 3
        assert connection.sent == HEAD + DATA

    def test_while_paused(self, clock):
        """A refusal is heard in a pause, and so is the end of the connection."""
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

    def test_while_the_end_of_a_chunked_body_is_blocked(self, clock, control):
        """The empty last chunk may be blocked as well: the answer is heard, and the connection not used again."""
        connection = FakeConnection(clock, when_blocked(), says(TOO_LARGE), room=len(HEAD) + SIZE)
        exchange = begin(connection, control)
        assert run(exchange, DATA, Unit(b"0\r\n\r\n", 0)) == (413, b"big")
        assert connection.sent == HEAD + DATA
        assert not exchange.leaves_it_usable

    @pytest.mark.parametrize("split", [1, 7, 40, 1000])
    def test_informational_stops_nothing(self, clock, control, split):
        """However many 1xx come, and however they are split, the body goes on and each is told."""
        flood = 30 * PROCESSING
        pieces = [flood[start : start + split] for start in range(0, len(flood), split)]
        connection = FakeConnection(
            clock, when_sent(len(HEAD)), says(*pieces), when_sent(len(HEAD) + 3 * SIZE), says(OK)
        )
        assert run(begin(connection, control), DATA, DATA, DATA) == (200, b"ok")
        assert control.told("heard") == 30 * [102] + [200]

    def test_a_flood_of_informational_answers_lets_the_body_go(self, clock, control):
        """Between two sends at most 64 KiB are heard, so that who says 1xx for ever cannot hold the body."""
        flood = 10_000 * PROCESSING
        connection = FakeConnection(clock, when_sent(len(HEAD)), says(flood))
        exchange = begin(connection, control)
        exchange.send(Unit(HEAD, 0), [Unit(DATA, SIZE)])
        assert connection.sent == HEAD + DATA
        assert connection.received <= RECEIVE

    def test_what_is_no_http(self, clock, control):
        """What is no HTTP ends the exchange amid the body."""
        connection = FakeConnection(clock, when_sent(len(HEAD)), says(b"SSH-2.0"))
        with pytest.raises(httpx.RemoteProtocolError):
            run(begin(connection, control), DATA)
        assert connection.sent == HEAD

    def test_an_end_in_order_without_an_answer(self, clock, control):
        """A server that closes amid the body, and has said nothing, is a ReadError that says how far it was."""
        connection = FakeConnection(clock, when_sent(len(HEAD)), ends())
        with pytest.raises(httpx.ReadError, match="closed the connection before it answered; so far"):
            run(begin(connection, control), DATA)

    def test_no_body(self, clock, control):
        """A request without a body is its head, and nothing is told of bytes."""
        connection = FakeConnection(clock, when_sent(len(HEAD)), after(1), says(OK))
        exchange = begin(connection, control, "GET")
        assert run(exchange) == (200, b"ok")
        assert control.log == [("heard", 200)]
        assert exchange.leaves_it_usable


class TestEarlySuccess:
    def test_lets_the_body_go_on(self, clock, control):
        """After an early 2xx the body is sent whole, and the response is what came meanwhile."""
        connection = FakeConnection(
            clock, when_sent(len(HEAD)), says(OK), when_blocked(), after(1), takes(), room=len(HEAD) + SIZE
        )
        exchange = begin(connection, control)
        assert run(exchange, DATA, DATA) == (200, b"ok")
        assert connection.sent == HEAD + DATA + DATA
        assert exchange.leaves_it_usable
        assert control.told("settled")[-1] == 2 * SIZE

    def test_an_echo(self, clock, control):
        """A server that echoes 16 MiB as it reads them, and stops when it is not read, ends fine."""
        block = bytes(range(256)) * 256
        count = 256

        def echo(connection: FakeConnection) -> bool:
            # Both systems hold 128 KiB each way: the server reads on when its echo has been read.
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

    def test_an_echo_that_is_too_long(self, clock):
        """What comes of the response while the body is sent is kept up to the limit and little more."""
        control = RecordingControl(clock, keep=100_000)
        blocks = 50 * [bytes(RECEIVE)]
        connection = FakeConnection(clock, when_sent(len(HEAD)), says(b"HTTP/1.1 200 OK\r\n\r\n", *blocks))
        exchange = begin(connection, control)
        with pytest.raises(ResponseTooLarge, match="longer than 100000 bytes"):
            run(exchange, *50 * [DATA])
        assert exchange.parser.kept <= 100_000 + 2 * RECEIVE
        assert connection.received < 10 * RECEIVE

    @pytest.mark.parametrize("fault", ["pipe", "reset", "stall", "alert"])
    def test_is_delivered_when_the_body_cannot_be_finished(self, clock, control, fault):
        """An early 2xx is the response, also if the rest of the body then cannot be sent."""
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
        assert not control.told("settled")

    def test_is_not_delivered_when_its_own_rest_is_missing(self, clock, control):
        """An early 2xx whose head or body breaks off is a ReadError."""
        for cut in (15, 30, len(OK) - 1):
            connection = FakeConnection(clock, when_sent(len(HEAD)), says(OK[:cut]), resets())
            with pytest.raises(httpx.ReadError):
                run(begin(connection, control), DATA, DATA)

    def test_a_half_closed_server_reads_on(self, clock, control):
        """A response that ends with the server's side of the connection lets the body go on as well."""
        response = b"HTTP/1.1 200 OK\r\n\r\nall"
        connection = FakeConnection(
            clock, when_sent(len(HEAD)), says(response), ends(), after(1), takes(), room=len(HEAD)
        )
        exchange = begin(connection, control)
        assert run(exchange, DATA, DATA) == (200, b"all")
        assert connection.sent == HEAD + DATA + DATA
        assert not exchange.leaves_it_usable


class TestWriteLimit:
    def test_its_time(self, clock, control):
        """A server that takes nothing for the limit is a WriteTimeout at exactly that time, with how far it was."""
        connection = FakeConnection(clock, room=len(HEAD) + 10)
        with pytest.raises(httpx.WriteTimeout, match="The server took no data for 7 s; so far"):
            run(begin(connection, control, write=7), DATA)
        assert clock.passed == 7

    def test_from_the_first_byte(self, clock, control):
        """It runs from the send that blocks, also where nothing of the request has gone yet."""
        connection = FakeConnection(clock, room=0)
        with pytest.raises(httpx.WriteTimeout):
            run(begin(connection, control, write=7), DATA)
        assert clock.passed == 7

    def test_a_slow_but_steady_reader(self, clock, control):
        """A reader that takes a few bytes before each limit never trips it, however long it takes."""
        steps = [step for _ in range(32) for step in (after(6.9), takes(SIZE // 32))]
        connection = FakeConnection(clock, *steps, says(OK), room=len(HEAD))
        assert run(begin(connection, control, write=7), DATA) == (200, b"ok")
        assert clock.passed == pytest.approx(32 * 6.9)

    def test_acknowledged_bytes_are_movement(self, clock, control):
        """It counts from the last byte that moved: one that was written, or one that was acknowledged."""
        connection = FakeConnection(
            clock, when_blocked(), after(5), acknowledges(1), room=len(HEAD) + 10, acknowledges=False
        )
        with pytest.raises(httpx.WriteTimeout):
            run(begin(connection, control, write=7), DATA)
        # It is seen when the count is asked for: at most a second later.
        assert 12 <= clock.passed <= 13

    def test_it_goes_on_after_the_last_write(self, clock, control):
        """While the system holds what nobody acknowledges it runs, and the limit of the response does not."""
        connection = FakeConnection(clock, acknowledges=False)
        with pytest.raises(httpx.WriteTimeout):
            run(begin(connection, control, write=7, read=1), DATA)
        assert clock.passed == 7

    def test_not_in_a_pause(self, clock, control):
        """Its time does not run while the body is held, neither amid the body nor after the last write."""
        control.paused = True
        clock.at(100, lambda: setattr(control, "paused", False))
        connection = FakeConnection(clock, room=len(HEAD) + 10, acknowledges=False)
        with pytest.raises(httpx.WriteTimeout):
            run(begin(connection, control, write=7), DATA)
        assert 106 <= clock.passed <= 107

    def test_not_while_nothing_is_granted(self, clock):
        """Its time begins anew when the throttle has held the body for longer than the limit."""
        control = RecordingControl(clock, is_held_back=True, grants=[10, (0, 50), (0, 100)])
        clock.at(100)
        connection = FakeConnection(clock, room=len(HEAD) + 10, acknowledges=False)
        with pytest.raises(httpx.WriteTimeout):
            run(begin(connection, control, write=7), DATA)
        assert clock.passed == 107

    def test_not_while_the_source_has_nothing(self, clock, control):
        """Its time begins anew when the source was waited for."""
        connection = FakeConnection(clock, room=len(HEAD) + SIZE, acknowledges=False)
        flow = FakeFlow(clock, (0, DATA), (100, DATA))
        exchange = begin(connection, control, write=7)
        with pytest.raises(httpx.WriteTimeout):
            exchange.send(Unit(HEAD, 0), sized([flow], 2 * SIZE, clock))
        assert clock.passed == 107

    def test_a_slow_observer_is_not_the_server(self, clock, control):
        """What an observer takes of the time is the server's, if it has moved meanwhile."""
        control.on_arrived = lambda _: clock.pass_time(20)
        steps = [step for _ in range(8) for step in (after(5), takes(SIZE // 8))]
        connection = FakeConnection(clock, *steps, when_sent(len(HEAD) + SIZE), says(OK), room=len(HEAD))
        assert run(begin(connection, control, write=7), DATA) == (200, b"ok")

    def test_bytes_of_tls_that_are_still_here(self, clock, control):
        """What TLS has taken and the system has not is waited for, and has the same limit."""
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
    def test_its_time(self, clock, control):
        """A response that does not come is a ReadTimeout, at exactly that time after the last byte has arrived."""
        connection = FakeConnection(
            clock, when_sent(len(HEAD) + SIZE), after(20), acknowledges(), acknowledges=False
        )
        with pytest.raises(httpx.ReadTimeout, match="No response for 3 s; so far"):
            run(begin(connection, control, read=3), DATA)
        assert 23 <= clock.passed <= 24  # the acknowledgement is seen a second later at most

    def test_informational_does_not_restart_it(self, clock, control):
        """1xx are no response: the limit is over though they come."""
        steps = [step for _ in range(10) for step in (after(0.5), says(PROCESSING))]
        connection = FakeConnection(clock, when_sent(len(HEAD) + SIZE), *steps)
        with pytest.raises(httpx.ReadTimeout):
            run(begin(connection, control, read=3), DATA)
        assert clock.passed == 3

    def test_a_flood_of_informational_does_not_outlast_it(self, clock, control):
        """Where there is always another 1xx to read the limit is kept as well."""

        def flood(connection: FakeConnection) -> bool:
            if not connection.is_readable():
                clock.pass_time(0.01)
                connection.say(PROCESSING)
            return False

        connection = FakeConnection(clock, when_sent(len(HEAD) + SIZE), flood)
        with pytest.raises(httpx.ReadTimeout):
            run(begin(connection, control, read=3), DATA)
        assert clock.passed == pytest.approx(3, abs=0.1)

    def test_each_part_of_the_body_has_its_own(self, clock, control):
        """Once the head has come, the limit is one of each wait."""
        connection = FakeConnection(
            clock, when_sent(len(HEAD) + SIZE), says(OK[:-2]), after(2), says(b"o"), after(2), says(b"k")
        )
        assert run(begin(connection, control, read=3), DATA) == (200, b"ok")
        connection = FakeConnection(clock, when_sent(len(HEAD) + SIZE), says(OK[:-1]), after(3.5), says(b"k"))
        with pytest.raises(httpx.ReadTimeout):
            run(begin(connection, control, read=3), DATA)

    def test_it_begins_when_an_early_response_has_begun(self, clock, control):
        """A response whose status has come has the read limit, whatever is acknowledged."""
        connection = FakeConnection(clock, when_sent(len(HEAD) + SIZE), says(OK[:12]), acknowledges=False)
        with pytest.raises(httpx.ReadTimeout):
            run(begin(connection, control, read=3, write=1), DATA)
        assert clock.passed == 3


class TestTimes:
    def test_when_the_unacknowledged_are_asked_for(self, clock, control):
        """A quarter of the time since they moved, but after 50 ms at least and a second at most."""
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

    def test_no_deadline_without_a_limit(self, clock, control):
        """Where nothing is limited and nothing is unacknowledged, no wait has a deadline."""
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

    def test_the_controls_deadline(self, clock, control):
        """Every wait ends at the time at which the control wants to be asked again."""
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

    def test_the_controls_deadline_in_a_pause_and_without_a_source(self, clock):
        """Also where it is no connection that is waited for."""
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

    def test_plain_requests_have_limits_too(self, clock):
        """A request that is no upload has the same limits."""
        with pytest.raises(httpx.WriteTimeout, match=r"took no data for 2 s$"):
            run(begin(FakeConnection(clock, room=10), PLAIN, write=2), DATA)
        with pytest.raises(httpx.ReadTimeout, match=r"No response for 2 s$"):
            run(begin(FakeConnection(clock), PLAIN, read=2), DATA)


class TestStop:
    @pytest.mark.parametrize(
        "where", ["blocked", "no response", "rest of the response", "pause", "no source", "100"]
    )
    def test_in_every_wait(self, clock, where):
        """Whatever is waited for, a stop ends it at once, and its reason is what comes out."""
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

    def test_before_it_begins(self, clock, control):
        """A control that was stopped before takes no connection."""
        control.stop(StopError())
        connection = FakeConnection(clock)
        with pytest.raises(StopError):
            begin(connection, control)
        assert not connection.is_interrupted

    def test_after_it_was_detached(self, clock, control):
        """A stop that comes after the end leaves the connection alone, however often it is detached."""
        connection = FakeConnection(clock, when_sent(len(HEAD) + SIZE), says(OK))
        exchange = begin(connection, control)
        run(exchange, DATA)
        assert control.is_attached
        exchange.detach()
        exchange.detach()
        control.stop(StopError())
        assert not connection.is_interrupted

    def test_in_sendfile(self, clock, control):
        """The ENOTCONN of a connection that was ended meanwhile is not the file's, but the stop's reason."""
        connection = FakeConnection(clock)
        control.on_arrived = lambda _: control.stop(StopError())
        exchange = begin(connection, control)
        with pytest.raises(StopError):
            run(exchange, DATA, Unit(FakeFile(connection, DATA), SIZE))


class TestProgress:
    def test_never_more_than_acknowledged(self, clock, control):
        """What is told as arrived is what was acknowledged of the body, without the request's head and frames."""
        steps = [step for _ in range(40) for step in (after(0.3), acknowledges(37))]
        connection = FakeConnection(clock, *steps, acknowledges(), after(1), says(OK), acknowledges=False)
        control.on_arrived = lambda count: seen.append(
            (count, connection._acknowledged - len(HEAD) - len(b"400\r\n"))
        )
        seen: list[tuple[int, int]] = []
        run(begin(connection, control), Unit(b"400\r\n" + DATA, SIZE), Unit(b"\r\n0\r\n\r\n", 0))
        assert all(count <= max(0, acknowledged) for count, acknowledged in seen)
        assert len({count for count, _ in seen}) > 20
        assert control.told("settled")[-1] == SIZE

    def test_not_of_a_connection_that_was_ended(self, clock, control):
        """A connection that another thread has ended holds nothing any more; nothing has arrived by that."""
        connection = FakeConnection(clock, acknowledges=False, room=len(HEAD) + SIZE // 2)
        clock.at(0.5, lambda: control.stop(StopError()))
        with pytest.raises(StopError):
            run(begin(connection, control), DATA)
        assert set(control.told("arrived")) == {0}
        assert not control.told("settled")

    def test_settled_once_all_is_acknowledged(self, clock, control):
        """That all has arrived is told when it has, before the response comes."""
        connection = FakeConnection(
            clock,
            when_sent(len(HEAD) + SIZE),
            after(2),
            acknowledges(),
            after(10),
            says(OK),
            acknowledges=False,
        )
        told: list[float] = []
        control.settled = lambda count: told.append(clock.passed)
        run(begin(connection, control), DATA)
        assert 2 <= told[0] <= 3

    def test_a_success_settles_it(self, clock, control):
        """A response below 300 says that all has arrived, whatever the system has heard of it."""
        connection = FakeConnection(clock, when_sent(len(HEAD) + SIZE), says(OK), acknowledges=False)
        run(begin(connection, control), DATA)
        assert control.told("settled") == [SIZE]
        assert control.log[-1] == ("settled", SIZE)

    @pytest.mark.parametrize("status", [301, 404, 500])
    def test_no_other_response_settles_it(self, clock, control, status):
        """One of 300 or more does not say that anything has arrived."""
        response = OK.replace(b"200", str(status).encode())
        connection = FakeConnection(clock, when_sent(len(HEAD) + SIZE), says(response), acknowledges=False)
        run(begin(connection, control), DATA)
        assert not control.told("settled")
        assert set(control.told("arrived")) == {0}

    def test_not_settled_before_it_is_whole(self, clock, control):
        """While there is more of the body to send nothing settles it, though all that went has arrived."""
        connection = FakeConnection(clock, when_sent(len(HEAD) + SIZE), says(TOO_LARGE))
        run(begin(connection, control), DATA, DATA)
        assert control.told("arrived")[-1] == SIZE
        assert not control.told("settled")

    def test_while_the_source_has_nothing(self, clock, control):
        """What arrives while more of the body is waited for is told at once, and not when that comes."""
        connection = FakeConnection(
            clock, when_sent(len(HEAD) + SIZE), after(1), acknowledges(), when_sent(len(HEAD) + 2 * SIZE), says(OK),
            acknowledges=False,
        )  # fmt: skip
        told: dict[int, float] = {}
        control.on_arrived = lambda count: told.setdefault(count, clock.passed)
        exchange = begin(connection, control)
        exchange.send(Unit(HEAD, 0), sized([FakeFlow(clock, (0, DATA), (60, DATA))], 2 * SIZE, clock))
        assert told[SIZE] < 2

    def test_in_a_pause(self, clock):
        """What arrives in a pause is told at once, and not when that is over."""
        control = RecordingControl(clock, is_held_back=True, grants=[SIZE, (0, 60)])
        connection = FakeConnection(
            clock, when_sent(len(HEAD) + SIZE), after(1), acknowledges(), acknowledges=False
        )
        told: dict[int, float] = {}
        control.on_arrived = lambda count: told.setdefault(count, clock.passed)
        exchange = begin(connection, control)
        exchange.send(Unit(HEAD, 0), [Unit(DATA, SIZE), Unit(DATA, SIZE)])
        assert clock.passed == 60
        assert told[SIZE] < 2

    def test_only_when_it_is_due(self, clock):
        """Amid sends that do not block nothing is told before it is time to."""
        control = RecordingControl(clock, is_due=False)
        connection = FakeConnection(clock, when_sent(len(HEAD) + 20 * SIZE), says(OK))
        run(begin(connection, control), *20 * [DATA])
        assert len(connection.asked_at) == 1  # once the body has gone
        assert not [count for count in control.told("arrived") if count < 20 * SIZE]


class TestExpectContinue:
    @pytest.fixture
    def control(self, clock):
        return RecordingControl(clock, asks_first=True)

    @pytest.mark.parametrize(
        ("word", "at"),
        [(CONTINUE, 0.4), (PROCESSING + CONTINUE, 0.4), (OK, 0.4), (b"", 1.0), (PROCESSING, 1.0)],
    )
    def test_the_body_waits(self, clock, control, word, at):
        """The body waits for a 100 or a final status below 300, but a second at most; another 1xx is not the word."""
        times: list[float] = []
        connection = FakeConnection(
            clock, when_sent(len(HEAD)), after(0.4), *([says(word)] if word else []), when_sent(len(HEAD) + 1),
            does(lambda _: times.append(clock.passed)), *([] if word == OK else [says(OK)]),
        )  # fmt: skip
        assert run(begin(connection, control), DATA) == (200, b"ok")
        assert connection.sent == HEAD + DATA
        assert times == [at]

    @pytest.mark.parametrize("status", [401, 417])
    def test_a_refusal_spares_the_body(self, clock, control, status):
        """A status of 300 or more is the response, and nothing of the body is sent."""
        response = OK.replace(b"200", str(status).encode())
        connection = FakeConnection(clock, when_sent(len(HEAD)), after(0.4), says(response))
        exchange = begin(connection, control)
        assert run(exchange, DATA) == (status, b"ok")
        assert connection.sent == HEAD
        assert not exchange.leaves_it_usable
        assert not control.told("arrived")

    def test_an_end_instead_of_a_word(self, clock, control):
        """A server that closes instead of answering ends it at once."""
        connection = FakeConnection(clock, when_sent(len(HEAD)), after(0.4), ends())
        with pytest.raises(httpx.ReadError):
            run(begin(connection, control), DATA)
        assert clock.passed == 0.4
        assert connection.sent == HEAD


class TestBroken:
    def test_an_alert_is_the_errors_text(self, clock, control):
        """A TLS alert that is found behind a broken pipe says why the server closed."""
        connection = FakeConnection(
            clock, when_sent(len(HEAD)), alerts("certificate required"), breaks_the_pipe()
        )
        with pytest.raises(httpx.ReadError, match=r"certificate required.*; so far"):
            run(begin(connection, control), DATA)

    def test_an_alert_behind_what_was_said(self, clock, control):
        """It is found behind informational responses too."""
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

    def test_a_reset_amid_the_body(self, clock, control):
        """A reset with nothing said is a WriteError while the body is sent."""
        connection = FakeConnection(clock, when_blocked(), after(1), resets(), room=len(HEAD))
        with pytest.raises(httpx.WriteError, match=r"broke while sending: .*; so far"):
            run(begin(connection, control), DATA)

    def test_a_reset_instead_of_the_response(self, clock, control):
        """A reset with nothing said is a ReadError once the body has gone."""
        connection = FakeConnection(clock, when_sent(len(HEAD) + SIZE), after(1), resets())
        with pytest.raises(httpx.ReadError, match=r"broke before the response was whole: .*; so far"):
            run(begin(connection, control), DATA)

    @pytest.mark.parametrize("split", [1, 9, 100])
    def test_an_answer_before_a_reset(self, clock, control, split):
        """What the server has said before it reset the connection is the response."""
        pieces = [TOO_LARGE[start : start + split] for start in range(0, len(TOO_LARGE), split)]
        connection = FakeConnection(
            clock, when_blocked(), takes(), breaks_the_pipe(), says(*pieces), resets(), room=len(HEAD)
        )
        assert run(begin(connection, control), DATA) == (413, b"big")

    @pytest.mark.parametrize("answer", [TOO_LARGE, OK, ssl.SSLError(1, "unknown ca"), None])
    def test_an_answer_between_the_look_and_the_send(self, clock, control, answer):
        """What comes after the server was last heard is read when the send breaks."""
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
    def test_closed_while_idle(self, clock, control):
        """A used connection that has something to read before the request is not used again."""
        for what in (ends(), resets(), says(b"HTTP/1.1 408 Timeout\r\n\r\n")):
            connection = FakeConnection(clock, what, is_used=True)
            with pytest.raises(Stale):
                run(begin(connection, control), DATA)
            assert not connection.sent

    def test_closed_after_the_look(self, clock, control):
        """Nor is one that breaks before its first byte has gone, also if it is an alert that ended it."""
        for steps in ([breaks_the_pipe()], [takes(), resets()], [alerts("closed"), breaks_the_pipe()]):
            connection = FakeConnection(clock, when_blocked(), *steps, takes(), room=0, is_used=True)
            with pytest.raises(Stale):
                run(begin(connection, control), DATA)
            assert not connection.sent

    def test_not_once_a_byte_has_gone(self, clock, control):
        """Once a byte has gone, it may be the request that made the server close."""
        connection = FakeConnection(clock, when_sent(1), breaks_the_pipe(), room=1, is_used=True)
        with pytest.raises(httpx.WriteError):
            run(begin(connection, control), DATA)

    def test_not_on_a_new_connection(self, clock, control):
        """A new connection that breaks at once is an error."""
        connection = FakeConnection(clock, resets())
        with pytest.raises(httpx.WriteError):
            run(begin(connection, control), DATA)

    def test_what_a_new_server_says_first(self, clock, control):
        """On a new connection what the server says before it has the request is its response."""
        connection = FakeConnection(clock, says(TOO_LARGE))
        assert run(begin(connection, control), DATA) == (413, b"big")
        assert connection.sent == HEAD


class TestGrant:
    def test_the_bodys_bytes_alone(self, clock):
        """The head needs no grant, and everything after it does; each send is as long as its grant."""
        control = RecordingControl(clock, is_held_back=True, grants=[100, 200, (0, 1), 300])
        connection = FakeConnection(clock, when_sent(len(HEAD) + SIZE), says(OK))
        assert run(begin(connection, control), DATA) == (200, b"ok")
        assert control.told("grant") == [100, 200, 0, 300, SIZE - 600]
        assert control.given_back == 0
        assert clock.passed == 1

    def test_only_once_the_socket_is_writable(self, clock):
        """After a send that blocked the throttle is asked only when the system takes more."""
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

    def test_what_did_not_go_is_given_back(self, clock):
        """What was granted and did not go is given back, before anything is waited for."""
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
        """What was never granted is not given back: neither of a head that blocks, nor of one that cannot be sent."""
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
        """What was granted when the connection broke is given back."""
        control = RecordingControl(clock, is_held_back=True)
        connection = FakeConnection(clock, when_sent(len(HEAD)), fault())
        with pytest.raises(httpx.WriteError):
            run(begin(connection, control), DATA)
        assert control.granted == control.given_back

    def test_steps_aside_before_it_reports(self, clock):
        """The observer is told only after others were let go first: it may take its time."""
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
        assert control.told("step aside")

    def test_a_wake_ends_the_wait(self, clock):
        """A pause that is over lets the body go at once: the wake ends the wait, and is cleared."""
        control = RecordingControl(clock, is_held_back=True, grants=[(0, math.inf)])
        connection = FakeConnection(clock, when_sent(len(HEAD) + SIZE), says(OK))
        clock.at(5, control.release)
        run(begin(connection, control), DATA)
        assert clock.passed == 5
        assert not control.wake.is_set()

    def test_the_systems_queue_is_kept_short(self, clock):
        """Where the body may be held, the system is to hold little of it."""
        for is_held_back in (False, True):
            connection = FakeConnection(clock, when_sent(len(HEAD) + SIZE), says(OK))
            run(begin(connection, RecordingControl(clock, is_held_back=is_held_back)), DATA)
            assert connection.log == ["short queue"] * is_held_back

    def test_pending_records_need_no_grant(self, clock):
        """What TLS holds was granted before, and is not asked for again."""
        control = RecordingControl(clock, is_held_back=True)
        connection = FakeConnection(
            clock, when_blocked(), after(1), takes(), when_sent(len(HEAD) + SIZE), says(OK),
            room=len(HEAD) + 10, tls_slice=SIZE,
        )  # fmt: skip
        run(begin(connection, control), DATA)
        assert control.told("grant") == [SIZE]
        assert control.given_back == 0


class TestSource:
    def test_a_wake_of_a_source_that_has_nothing_to_watch(self, clock, control):
        """A source without a descriptor tells by the control's wake that it has more."""
        flow = FakeFlow(clock, (5, DATA), is_watched=False)
        clock.at(5, control.wake.set)
        connection = FakeConnection(clock, when_sent(len(HEAD) + SIZE), says(OK))
        exchange = begin(connection, control)
        exchange.send(Unit(HEAD, 0), sized([flow], SIZE, clock))
        assert clock.passed == 5
        assert connection.sent == HEAD + DATA
        assert not control.wake.is_set()

    def test_what_it_raises(self, clock, control):
        """What a source raises comes out as it is, and the connection is reset."""

        def body():
            yield Unit(DATA, SIZE)
            raise StopError

        exchange = begin(FakeConnection(clock), control)
        with pytest.raises(StopError):
            exchange.send(Unit(HEAD, 0), body())
        assert exchange.ends_with_reset
        assert not exchange.leaves_it_usable


class TestSendfile:
    def test_short_counts(self, clock, control):
        """What the system takes of a file at a time adds up, from the range's start."""
        steps = [step for _ in range(11) for step in (when_blocked(), takes(100))]
        connection = FakeConnection(clock, *steps, when_sent(len(HEAD) + SIZE), says(OK), room=len(HEAD))
        file = FakeFile(connection, b"before" + DATA + b"after", start=6, size=SIZE)
        assert run(begin(connection, control), Unit(file, SIZE)) == (200, b"ok")
        assert connection.sent == HEAD + DATA
        assert not file.reads
        assert control.told("settled")[-1] == SIZE

    def test_a_grant_bounds_it(self, clock):
        """Of a file no more is sent than was granted."""
        control = RecordingControl(clock, is_held_back=True, grants=[100, (0, 1), 200])
        connection = FakeConnection(clock, when_sent(len(HEAD) + SIZE), says(OK))
        file = FakeFile(connection, DATA)
        run(begin(connection, control), Unit(file, SIZE))
        assert connection.log[1:] == ["sendfile 100", "sendfile 200", f"sendfile {SIZE - 300}"]

    @pytest.mark.parametrize(("is_held_back", "most"), [(True, CHUNK), (False, 3 * CHUNK)])
    def test_how_much_the_system_is_asked_to_send(self, clock, is_held_back, most):
        """Of a body that may be held the system is given less of a file at a time."""
        control = RecordingControl(clock, is_held_back=is_held_back)
        connection = FakeConnection(clock, when_sent(len(HEAD) + 3 * CHUNK), says(OK))
        run(begin(connection, control), Unit(FakeFile(connection, bytes(3 * CHUNK)), 3 * CHUNK))
        assert {line for line in connection.log if line.startswith("sendfile")} == {f"sendfile {most}"}

    @pytest.mark.parametrize("sendfile", [True, False])
    def test_a_file_that_has_shrunk(self, clock, sendfile):
        """A file that ends before its range is SourceChanged, gives its grant back, and leaves nothing to reuse."""
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
    def test_where_the_system_cannot(self, clock, number):
        """Files that the system does not send are read, from where it stopped, and the connection remembers."""
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

    def test_an_error_of_the_file(self, clock, control):
        """An EIO is the file's, and comes out as it is."""
        connection = FakeConnection(clock, when_sent(len(HEAD)), fails_to_send_the_file(errno.EIO))
        with pytest.raises(OSError, match="EIO") as caught:
            run(begin(connection, control), Unit(FakeFile(connection, DATA), SIZE))
        assert caught.value.errno == errno.EIO

    @pytest.mark.parametrize("number", [errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.ETIMEDOUT])
    def test_an_error_of_the_connection(self, clock, control, number):
        """What is the connection's ends it as a send does: by the answer, if the server has given one."""
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

    def test_a_refusal_amid_a_file(self, clock, control):
        """Between two slices of a file the server is heard."""
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
    def test_after_a_whole_request(self, clock, control, response, is_usable):
        """What the response says of the connection decides, if the request was whole."""
        connection = FakeConnection(clock, when_sent(len(HEAD) + SIZE), says(response))
        exchange = begin(connection, control)
        run(exchange, DATA)
        assert exchange.leaves_it_usable is is_usable
        assert not exchange.ends_with_reset

    def test_after_an_abort_that_came_late(self, clock, control):
        """A connection that was ended when the response had come, and before it was detached, is not used again."""
        connection = FakeConnection(clock, when_sent(len(HEAD) + SIZE), says(OK))
        exchange = begin(connection, control)
        run(exchange, DATA)
        assert exchange.leaves_it_usable
        connection.interrupt()
        exchange.detach()
        assert not exchange.leaves_it_usable

    def test_until_the_body_was_read(self, clock, control):
        """A response whose body was not read to its end leaves nothing to reuse."""
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

    def test_an_answer_to_a_request_that_was_cut_short(self, clock, control):
        """A refusal that came amid the body leaves a connection of which the server waits for the rest."""
        connection = FakeConnection(clock, when_sent(len(HEAD)), says(TOO_LARGE))
        exchange = begin(connection, control)
        run(exchange, DATA)
        assert not exchange.leaves_it_usable
        assert exchange.ends_with_reset

    def test_a_response_that_is_whole_while_the_body_still_goes(self, clock, control):
        """An early success that is complete lets the connection be used again only when the body has gone."""
        connection = FakeConnection(clock, when_sent(len(HEAD)), says(OK))
        exchange = begin(connection, control)

        def body():
            yield Unit(DATA, SIZE)
            assert not exchange.leaves_it_usable
            assert exchange.ends_with_reset
            yield Unit(DATA, SIZE)

        exchange.send(Unit(HEAD, 0), body())
        assert exchange.leaves_it_usable

    def test_what_comes_after_a_response_that_is_whole(self, clock, control):
        """While the body still goes, what the server says after its response is seen before the connection is kept."""
        connection = FakeConnection(
            clock,
            when_sent(len(HEAD)),
            says(OK),
            when_sent(len(HEAD) + SIZE),
            says(b"HTTP/1.1 500 No\r\n\r\n"),
        )
        exchange = begin(connection, control)
        assert run(exchange, DATA, DATA) == (200, b"ok")
        # It is not read by this exchange; whoever uses the connection next looks first.
        assert connection.is_readable()
        connection.is_used = True
        with pytest.raises(Stale):
            run(begin(connection, control), DATA)

    def test_an_error_resets_it(self, clock, control):
        """After an exchange that has no response the connection is closed without a wait for what it holds."""
        exchange = begin(FakeConnection(clock), control, read=1)
        with pytest.raises(httpx.ReadTimeout):
            run(exchange, DATA)
        assert exchange.ends_with_reset
        assert not exchange.leaves_it_usable
