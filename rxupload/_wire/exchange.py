"""One request and its response on a connection: it sends and hears at once, with a single wait for both.

It hears the server before each slice that it sends, and whenever bytes come:

1. An informational response (1xx) changes nothing.
2. A final status of 300 or more stops the sending. It is the response (RFC 9112, section 9.3 and 9.5).
3. A final status below 300 lets the body go on, and the bytes of the response are kept. It stays the response even if
   the rest of the body cannot be sent.
4. If the connection ends before a final status, the exchange raises `httpx.ReadError` or `httpx.WriteError`.

The write limit is a stall's. Its clock runs while the written and the unacknowledged bytes both stay the same, even
after the last write. A pause stops it. The read limit begins when every byte has been acknowledged.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import cast

from rxupload._wait import READ, WRITE, Clock

from . import tls
from .connection import Connection
from .control import Control
from .hearing import Answered, Hearing, Stale
from .movement import Movement
from .request import FileRange, Flow, Unit, is_range
from .response import Head, ResponseParser

CHUNK = 256 * 1024  # bytes of a file to read at a time, where sendfile does not work
SLICE = 8 * 1024 * 1024  # bytes of a file to pass to sendfile at a time
CONTINUE_SECONDS = 1.0  # how long to wait for 100 after `Expect: 100-continue`

_NO_SENDFILE = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EOVERFLOW}


class Exchange:
    """One request and its response. One thread works with it, and calls its control."""

    def __init__(
        self,
        connection: Connection,
        method: str,
        *,
        control: Control,
        clock: Clock,
        timeouts: Mapping[str, float | None],
        is_last: bool = False,
    ) -> None:
        self.connection = connection
        self._is_last = is_last  # on this connection
        self._control = control
        self._clock = clock
        self._movement = Movement(connection, control, clock, timeouts.get("write"))
        self._hearing = Hearing(
            connection,
            method,
            control=control,
            clock=clock,
            movement=self._movement,
            read_limit=timeouts.get("read"),
            make_parser=self._make_parser,
        )
        self._is_attached = False
        control.attach(connection.interrupt)
        self._is_attached = True

    def _make_parser(self, method: str, on_informational: Callable[[Head], None]) -> ResponseParser:
        return ResponseParser(method, on_informational)

    # Sending

    def send(self, first: Unit, rest: Iterable[Unit]) -> None:
        """Send the request. Return early if the server answers before it is whole.

        Raises:
            Stale: The server had closed the connection before the first byte.
            httpx.WriteError: The connection broke before a response.
            httpx.WriteTimeout: The server took no data for the write limit.
            httpx.RemoteProtocolError: The response is not HTTP.
        """
        self._check_idle()
        self._control.check()
        if self._control.is_held_back:
            self.connection.keep_queue_short(True)
        try:
            self._send_first(first)
            for unit in rest:
                if not self._movement.has_body:
                    self._movement.has_body = True
                    if self._control.asks_first:
                        self._await_continue()
                self._hearing.hear()
                self._send_unit(unit)
            self._send_last()
            self._movement.is_whole = True
            self._control.written()
        except Answered:
            self._hearing.is_cut_short = True

    def _check_idle(self) -> None:
        """Raise `Stale` if anything came while the connection was idle."""
        if self.connection.is_used and self.connection.is_readable():
            raise Stale

    def _send_first(self, first: Unit) -> None:
        self._send_unit(first)

    def _send_last(self) -> None:
        """Do nothing: the framing of the body tells its end."""

    def _send_unit(self, unit: Unit) -> None:
        data, content = unit
        if isinstance(data, bytes | memoryview):
            self._movement.has_body = self._movement.has_body or content > 0
            self._movement.count.add(len(data), content)
            self._send_bytes(data)
        elif is_range(data):
            self._movement.count.add(content, content)
            self._send_range(data)
        else:
            self._await_flow(cast("Flow", data))

    def _send_bytes(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        done = 0
        while True:
            count = self._send_some(view[done:])
            done += count
            if done == len(view) and not self.connection.pending:
                return
            self._hearing.hear()

    def _send_some(self, data: memoryview) -> int:
        granted = 0
        if len(data):
            granted = self._grant(len(data))
        elif self._movement.has_body and self._control.is_paused():  # a pause holds encrypted records, too
            self._give_back(self._grant(1))
        count, is_blocked = 0, False
        try:
            count = self.connection.send(data[:granted])
        except tls.WOULD_BLOCK:
            is_blocked = True
        except OSError as error:
            self._hearing.break_off(error)
        finally:
            if self._movement.has_body:
                self._give_back(granted - count)
        self._wrote(count)
        if is_blocked or (count < granted and self.connection.pending):
            self._wait_to_send()
        return count

    def _send_range(self, part: FileRange) -> None:
        done = 0
        while done < part.size:
            if not self.connection.can_sendfile:
                size = tls.SLICE if isinstance(self.connection.socket, tls.TLS) else CHUNK
                data = part.read(done, min(size, part.size - done))
                self._send_bytes(data)
                done += len(data)
            else:
                done += self._sendfile(part, done)
            if done < part.size:
                self._hearing.hear()

    def _sendfile(self, part: FileRange, done: int) -> int:
        most = CHUNK if self._control.is_held_back else SLICE
        granted = self._grant(min(part.size - done, most))
        count, is_blocked = 0, False
        try:
            count = self.connection.sendfile(part.fileno(), part.start + done, granted)
            if not count:
                raise part.ends_at(done)
        except BlockingIOError:
            is_blocked = True
        except OSError as error:
            if error.errno in _NO_SENDFILE:
                self.connection.can_sendfile = False
                return 0
            if error.errno is None or not isinstance(error, ConnectionError | TimeoutError):
                self._control.check()
                if error.errno not in (errno.ENOTCONN, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EBADF):
                    raise  # reading the file failed, not the connection
            self._hearing.break_off(error)
        finally:
            self._give_back(granted - count)
        self._wrote(count)
        if is_blocked:
            self._wait_to_send()
        return count

    def _wrote(self, count: int) -> None:
        self._movement.written += count
        if self._movement.has_body and self._control.is_due():
            self._movement.report()

    def _grant(self, wanted: int) -> int:
        """Wait until the throttle grants some of the bytes. The wait does not count as a stall of the server."""
        if not self._movement.has_body:
            return wanted
        while True:
            granted, again = self._control.grant(wanted)
            if granted:
                return granted
            self._movement.note(self.connection.unacknowledged())
            until = min(self._control.check(), self._movement.ask_again())
            is_ready_now = self._movement.wait(
                min(until, again), READ if self._hearing.goes_on else 0, is_woken=True
            )
            self._movement.hold()
            if is_ready_now or self._clock.now() >= until:
                self._control.step_aside()  # the observer may be slow
                self._movement.note(self._movement.report())
                self._hearing.hear()

    def _give_back(self, count: int) -> None:
        self._control.give_back(count)

    def _await_flow(self, flow: Flow) -> None:
        """Wait until the flow has more, or the server sends something."""
        self._movement.note(self.connection.unacknowledged())
        until = min(self._control.check(), self._movement.ask_again())
        more = flow.watched()
        self._movement.wait(until, READ if self._hearing.goes_on else 0, is_woken=True, more=more)
        self._movement.hold()
        self._movement.note(self._movement.report())

    def _await_continue(self) -> None:
        """Wait for the server to ask for the body, at most a second (RFC 9110, section 10.1.1)."""
        by = self._clock.now() + CONTINUE_SECONDS
        while (
            not self._hearing.has_continued and self._hearing.parser.status is None and self._clock.now() < by
        ):
            self._movement.wait(min(by, self._control.check()), READ)
            self._hearing.hear()

    def _wait_to_send(self) -> None:
        """Wait until the system takes more. Hear the server meanwhile."""
        while True:
            until = self._look_again()
            events = READ if self.connection.wants_input else WRITE | (READ if self._hearing.goes_on else 0)
            is_ready_now = self._movement.wait(until, events)
            # Note the count now: the next send may fill the queue to the same size, and hide that bytes have gone.
            self._movement.note(self._movement.report())
            self._hearing.hear()
            # Ask the throttle only once the socket is writable.
            if is_ready_now and (not self._control.is_held_back or self._movement.wait(0.0, WRITE)):
                return

    def _look_again(self) -> float:
        """Return when a wait for the server must end. Raise if it has taken nothing for the write limit."""
        now = self._clock.now()
        until = self._movement.stalled_at(now, self._movement.report())
        if now >= until:
            if self._hearing.parser.status is not None:
                raise Answered
            self._movement.raise_stall()
        return min(until, self._control.check(), self._movement.ask_again())

    # Receiving

    @property
    def parser(self) -> ResponseParser:
        """The parser of the response."""
        return self._hearing.parser

    def receive_head(self) -> Head:
        """Receive the head of the response; see `Hearing.receive_head`."""
        return self._hearing.receive_head()

    def body(self) -> Iterator[bytes]:
        """Receive the body of the response; see `Hearing.body`."""
        return self._hearing.body()

    # The end

    def detach(self) -> None:
        """Detach the connection from the control: from here on an abort does not end it."""
        if self._is_attached:
            self._is_attached = False
            self._control.detach(self.connection.interrupt)

    @property
    def leaves_it_usable(self) -> bool:
        """Whether another request may use the connection. Ask only after `detach`."""
        if self.connection.is_interrupted or self.connection.pending:
            return False
        return self._movement.is_whole and self._hearing.parser.is_reusable and not self._is_last

    @property
    def ends_with_reset(self) -> bool:
        """Whether to close the connection with a reset, so that it does not wait for the server to read."""
        return not self._movement.is_whole or self._hearing.parser.status is None
