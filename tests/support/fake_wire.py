"""A fake clock and a scripted connection: the wire's protocol without a thread, a socket or a sleep.

The script is a list of steps of the server and the system, which are taken in order. A step is taken once it can
be: `after` waits for the clock, `when_sent` and `when_blocked` for the client. The script continues before and
after each call on the connection, and in each wait.
"""

from __future__ import annotations

import errno
import heapq
import itertools
import math
import ssl
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from rxupload._errors import SourceChanged
from rxupload._wait import READ, WRITE, Wake
from rxupload._wire.control import Plain
from rxupload._wire.response import Head

STARTED = 1000.0  # the start of each test on its clock
ENDLESS = 20_000  # waits in one test; more are taken for an endless loop


# The clock


class Wait(NamedTuple):
    """One wait, in seconds since the test began."""

    began: float
    until: float
    events: int
    is_woken: bool  # a wake is watched too


class FakeClock:
    """A clock that does not sleep: a wait jumps to the next moment at which something happens.

    Attributes:
        waits: All waits that did not return at once.
    """

    def __init__(self) -> None:
        self.time = STARTED
        self.waits: list[Wait] = []
        self._looks = 0
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = itertools.count()
        self._connections: list[FakeConnection] = []

    def now(self) -> float:
        return self.time

    @property
    def passed(self) -> float:
        """Seconds since the test began."""
        return round(self.time - STARTED, 6)

    def at(self, seconds: float, action: Callable[[], object] = lambda: None) -> None:
        """Call the action this many seconds after the test began."""
        heapq.heappush(self._due, (STARTED + seconds, next(self._numbers), action))

    def pass_time(self, seconds: float) -> None:
        """Let time pass without a wait, as if the caller were busy; actions that are due are called."""
        until = self.time + seconds
        while self._due and self._due[0][0] <= until:
            self._go_to_next()
        self.time = until

    def join(self, connection: FakeConnection) -> None:
        """Let this connection's script continue during waits."""
        self._connections.append(connection)

    def wait(
        self, until: float, watched: Sequence[tuple[Any, int]] = (), wake: Wake | None = None
    ) -> Sequence[Any]:
        """Wait like `SystemClock.wait`; fail if nothing can end the wait."""
        self._looks += 1
        assert self._looks < ENDLESS, "the waits have no end"
        if until > self.time:
            events = sum(events for _, events in watched)
            self.waits.append(Wait(self.passed, round(until - STARTED, 6), events, is_woken=wake is not None))
        while True:
            for connection in self._connections:
                connection.go_on()
            ready = [each for each, events in watched if each.is_ready_for(events)]
            if ready or self.time >= until or (wake is not None and wake.is_set()):
                return ready
            if not self._due or self._due[0][0] > until:
                assert until < math.inf, "nothing would ever end this wait"
                self.time = until
            else:
                self._go_to_next()

    def _go_to_next(self) -> None:
        moment, _, action = heapq.heappop(self._due)
        self.time = max(self.time, moment)
        action()


# The connection

Step = Callable[["FakeConnection"], bool]  # returns whether it was taken


class FakeConnection:
    """The part of `Connection` that `Exchange` and `Pool` use.

    Attributes:
        sent: What the system has taken, in order.
        room: Bytes that it takes before a send blocks.
        received: Bytes that were received.
        log: The other calls on the connection.
    """

    def __init__(
        self,
        clock: FakeClock,
        *steps: Step,
        room: float = math.inf,
        acknowledges: bool = True,
        is_used: bool = False,
        sendfile: bool = True,
        tls_slice: int | None = None,
    ) -> None:
        """Make one.

        Args:
            clock: The test's clock.
            steps: The steps of the server and the system.
            room: Bytes that the system takes until the steps allow more.
            acknowledges: Everything is acknowledged at once; otherwise the steps say when.
            is_used: The connection has served a request before.
            sendfile: The system can send files itself.
            tls_slice: The connection is TLS, and encrypts this many bytes before it offers them to the system.
        """
        self.clock = clock
        self.key: object = None
        self.socket = object()
        self.is_used = is_used
        self.expires = math.inf
        self.can_sendfile = sendfile
        self.speaks_http2 = False
        self.wants_input = False
        self.was_cut = False
        self.room = room
        self.sent = bytearray()
        self.received = 0
        self.is_closed = self.was_reset = self.is_interrupted = False
        self.is_blocked = False  # since the last byte that was taken
        self.log: list[str] = []
        self.asked_at: list[float] = []  # when the count of unacknowledged bytes was read
        self.heard_at: list[tuple[int, float]] = []
        self.files: dict[int, bytes] = {}
        self._steps = list(steps)
        self._acknowledges = acknowledges
        self._acknowledged = 0
        self._incoming: list[bytes | OSError] = []
        self._send_errors: list[OSError] = []
        self._file_errors: list[OSError] = []
        self._slice = tls_slice
        self._records = b""
        self._is_going_on = False
        clock.join(self)

    def go_on(self) -> None:
        """Take all steps that can be taken."""
        if self._is_going_on:
            return
        self._is_going_on = True
        while self._steps and self._steps[0](self):
            del self._steps[0]
        self._is_going_on = False

    def add(self, *steps: Step) -> None:
        """Append these steps."""
        self._steps += steps

    # The exchange's side

    def send(self, data: bytes | memoryview) -> int:
        self._check()
        return self._send_records(bytes(data), self._slice) if self._slice else self._take(bytes(data))

    def _send_records(self, data: bytes, size: int) -> int:
        count = 0
        try:
            self._flush()
            before = len(self.sent)
            while count < len(data):
                self._records = data[count : count + size]
                count += len(self._records)
                self._flush()
        except BlockingIOError:
            if not count:
                raise
        except OSError:
            if not count or len(self.sent) == before:
                raise
        return count

    def _flush(self) -> None:
        while self._records:
            self._records = self._records[self._take(self._records) :]

    def _take(self, data: bytes) -> int:
        if self._send_errors:
            raise self._send_errors[0]
        count = int(min(len(data), self.room))
        if data and not count:
            self.is_blocked = True
            self.go_on()  # the script may wait for this; the current call does not see the result
            raise BlockingIOError(errno.EAGAIN, "would block")
        self.is_blocked = self.is_blocked and not count
        self.room -= count
        self.sent += data[:count]
        self.go_on()
        return count

    def sendfile(self, file: int, offset: int, count: int) -> int:
        self._check()
        if self._file_errors:
            raise self._file_errors.pop(0)
        if self.is_interrupted:
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")
        data = self.files[file][offset : offset + count]
        self.log.append(f"sendfile {len(data)}")
        return self._take(data)

    def recv(self, max_bytes: int) -> bytes:
        self._check()
        if not self._incoming:
            raise BlockingIOError(errno.EAGAIN, "would block")
        first = self._incoming[0]
        if isinstance(first, OSError):
            self._incoming[:] = [b""]  # as a socket reports its failure once
            raise first
        if first:
            self._incoming[:1] = [first[max_bytes:]] if len(first) > max_bytes else []
        self.received += len(first[:max_bytes])
        self.go_on()
        return first[:max_bytes]

    @property
    def pending(self) -> int:
        return len(self._records)

    def unacknowledged(self) -> int:
        self.go_on()
        self.asked_at.append(self.clock.passed)
        if self.is_interrupted:
            return 0  # like a blank socket
        return self.pending + (0 if self._acknowledges else len(self.sent) - self._acknowledged)

    def is_readable(self) -> bool:
        assert not self.is_closed
        self.go_on()
        return bool(self._incoming)

    def is_ready_for(self, events: int) -> bool:
        """Answer the clock."""
        assert not self.is_closed, "a closed connection is watched"
        can_send = self.room > 0 or bool(self._send_errors)
        return bool((events & READ and self._incoming) or (events & WRITE and can_send))

    def keep_queue_short(self, is_short: bool) -> None:
        self.log.append("short queue" if is_short else "usual queue")

    def close(self, *, reset: bool = False) -> None:
        assert not self.is_closed, "closed twice"
        self.is_closed, self.was_reset = True, reset

    def interrupt(self) -> None:
        assert not self.is_closed, "a closed connection is interrupted"
        self.is_interrupted = True
        self._incoming[:] = [OSError(errno.ENOTCONN, "Transport endpoint is not connected")]
        self._send_errors[:] = [BrokenPipeError(errno.EPIPE, "Broken pipe")]

    def _check(self) -> None:
        assert not self.is_closed, "a closed connection is used"
        self.go_on()

    # The steps' side

    def say(self, *what: bytes | OSError) -> None:
        self._incoming += what

    def acknowledge(self, count: float = math.inf) -> None:
        self._acknowledged = int(min(len(self.sent), self._acknowledged + count))

    def refuse(self, error: OSError) -> None:
        self._send_errors[:] = [error]

    def refuse_file(self, error: OSError) -> None:
        self._file_errors.append(error)


# The steps


def does(action: Callable[[FakeConnection], object]) -> Step:
    """Call the action."""

    def step(connection: FakeConnection) -> bool:
        action(connection)
        return True

    return step


def takes(count: float = math.inf) -> Step:
    """Make room for this many more bytes."""
    return does(lambda connection: setattr(connection, "room", connection.room + count))


def says(*what: bytes) -> Step:
    """Send each of these as the result of one `recv`."""
    return does(lambda connection: connection.say(*what))


def acknowledges(count: float = math.inf) -> Step:
    """Acknowledge this many more of the sent bytes."""
    return does(lambda connection: connection.acknowledge(count))


def ends() -> Step:
    """The server closes its side properly."""
    return does(lambda connection: connection.say(b""))


def resets() -> Step:
    """The server resets the connection; what it sent before can be read."""

    def action(connection: FakeConnection) -> None:
        connection.say(ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"))
        connection.refuse(BrokenPipeError(errno.EPIPE, "Broken pipe"))

    return does(action)


def breaks_the_pipe() -> Step:
    """Nothing more can be sent."""
    return does(lambda connection: connection.refuse(BrokenPipeError(errno.EPIPE, "Broken pipe")))


def alerts(text: str) -> Step:
    """The server ends TLS with an alert."""
    return does(lambda connection: connection.say(ssl.SSLError(1, text)))


def fails_to_send_the_file(number: int) -> Step:
    """The next `sendfile` fails with this error number."""
    return does(lambda connection: connection.refuse_file(OSError(number, errno.errorcode[number])))


def after(seconds: float) -> Step:
    """Continue this many seconds later."""
    times: list[float] = []

    def step(connection: FakeConnection) -> bool:
        clock = connection.clock
        if not times:
            times.append(clock.now() + seconds)
            clock.at(times[0] - STARTED)
        return clock.now() >= times[0]

    return step


def when_sent(count: int) -> Step:
    """Continue once the system has taken this many bytes in all."""
    return lambda connection: len(connection.sent) >= count


def when_blocked() -> Step:
    """Continue once a send blocks."""
    return lambda connection: connection.is_blocked


# The control


class RecordingControl(Plain):
    """Records its calls, and returns what the test wants.

    Attributes:
        log: The calls, such as `("arrived", 10)` and `("heard", 413)`.
        grants: The next results of `grant`: a number of bytes, or `(0, time)` for none until this time in seconds since
            the test began. If the list is empty, everything is granted.
    """

    def __init__(
        self,
        clock: FakeClock,
        *,
        keep: int | None = None,
        asks_first: bool = False,
        is_held_back: bool = False,
        grants: Sequence[int | tuple[int, float]] = (),
        is_due: bool = True,
    ) -> None:
        self.wake = Wake()
        self.keep = keep
        self.asks_first = asks_first
        self.is_held_back = is_held_back
        self.grants = list(grants)
        self.paused = False
        self.log: list[tuple[Any, ...]] = []
        self.on_arrived: Callable[[int], object] = lambda count: None
        self.granted = 0
        self.given_back = 0
        self._clock = clock
        self._is_due = is_due
        self._reason: BaseException | None = None
        self._deadline = math.inf
        self._interrupts: list[Callable[[], None]] = []

    def stop(self, reason: BaseException) -> None:
        """Do what `Transfer.stop` does."""
        self._reason = reason
        for interrupt in self._interrupts:
            interrupt()
        self.wake.set()

    def stop_at(self, seconds: float, reason: BaseException) -> None:
        """Set a time limit in seconds since the test began, which only `check` notices."""
        self._deadline, self._late = STARTED + seconds, reason

    def recorded(self, what: str) -> list[Any]:
        """The arguments of the calls of this name."""
        return [rest[0] if rest else None for name, *rest in self.log if name == what]

    def check(self) -> float:
        if self._reason is not None:
            raise self._reason
        if self._clock.now() >= self._deadline:
            raise self._late
        return self._deadline

    def attach(self, interrupt: Callable[[], None]) -> None:
        self.check()
        self._interrupts.append(interrupt)

    def detach(self, interrupt: Callable[[], None]) -> None:
        self._interrupts.remove(interrupt)

    @property
    def is_attached(self) -> bool:
        """Whether a connection is attached to this control."""
        return bool(self._interrupts)

    def grant(self, wanted: int) -> tuple[int, float]:
        assert wanted > 0
        again = 0.0
        granted = wanted
        while self.grants:
            answer = self.grants[0]
            if isinstance(answer, tuple):
                granted, again = 0, STARTED + answer[1]
                if self._clock.now() < again:
                    break
                granted = wanted
                del self.grants[0]
            else:
                granted = min(answer, wanted)
                del self.grants[0]
                break
        self.log.append(("grant", granted))
        self.granted += granted
        return granted, again

    def release(self) -> None:
        """End a refusal early, like the end of a pause."""
        del self.grants[0]
        self.wake.set()

    def step_aside(self) -> None:
        self.log.append(("step aside",))

    def give_back(self, count: int) -> None:
        assert count >= 0
        if count:
            self.log.append(("give back", count))
            self.given_back += count

    def is_paused(self) -> bool:
        return self.paused

    def is_due(self) -> bool:
        return self._is_due

    def arrived(self, count: int) -> None:
        self.log.append(("arrived", count))
        self.on_arrived(count)

    def settled(self, count: int) -> None:
        self.log.append(("settled", count))

    def written(self) -> None:
        """Do nothing."""

    def heard(self, head: Head) -> None:
        self.log.append(("heard", head.status))

    def so_far(self) -> str:
        return "; so far"


# The body


class FakeFile:
    """A range of an open file, which is in a connection's `files`."""

    def __init__(self, connection: FakeConnection, content: bytes, *, start: int = 0, size: int = -1) -> None:
        self._number = len(connection.files) + 7
        connection.files[self._number] = content
        self.start = start
        self.size = len(content) - start if size < 0 else size
        self.reads: list[int] = []
        self._content = content

    def fileno(self) -> int:
        return self._number

    def read(self, offset: int, count: int) -> bytes:
        data = self._content[self.start + offset : self.start + min(offset + count, self.size)]
        if not data:
            raise self.ends_at(offset)
        self.reads.append(len(data))
        return data

    def ends_at(self, offset: int) -> Exception:
        return SourceChanged(f"the file ends at {offset}")


class FakeFlow:
    """Gives each piece at its time, in seconds since the test began."""

    def __init__(self, clock: FakeClock, *pieces: tuple[float, bytes], is_watched: bool = True) -> None:
        self._clock = clock
        self._pieces = list(pieces)
        self._is_watched = is_watched
        for at, _ in pieces:
            clock.at(at)

    def read(self, count: int) -> bytes | None:
        if not self._pieces:
            return b""
        at, data = self._pieces[0]
        if self._clock.now() < STARTED + at:
            return None
        del self._pieces[0]
        return data

    def watched(self) -> tuple[FakeFlow, int] | None:
        return (self, READ) if self._is_watched else None

    def is_ready_for(self, events: int) -> bool:
        return not self._pieces or self._clock.now() >= STARTED + self._pieces[0][0]
