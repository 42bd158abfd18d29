"""One request and its response on a connection: both ways at once, and one wait.

The sending goes on while the server takes it. Before each slice, and whenever bytes come, the server is heard:

1. An informational response (1xx) stops nothing.
2. A final status of 300 or more ends the sending, and is the response (RFC 9112, section 9.3 and 9.5).
3. A final status below 300 lets the body go on. What comes of the response meanwhile is kept. It is the response
   also where the body then cannot be finished.
4. What ends the connection before a final status ends the exchange with `httpx.ReadError` or `httpx.WriteError`.

The write limit is a stall's: it runs while neither the bytes written nor those unacknowledged change, also after the
last write; but not in a pause. The read limit begins when every byte has been acknowledged.
"""

from __future__ import annotations

import errno
import math
import ssl
from collections.abc import Iterable, Iterator, Mapping
from typing import NoReturn, cast

import httpx

from rxupload._errors import ResponseTooLarge
from rxupload._wait import READ, WRITE, Clock

from . import tls
from .connection import Connection
from .control import Control
from .request import Count, FileRange, Flow, Unit, is_range
from .response import Head, ResponseParser

RECEIVE = 64 * 1024  # bytes that are received at a time, and at most between two sends
CHUNK = 256 * 1024  # bytes of a file that are read at a time, where the system does not send it by itself
SLICE = 8 * 1024 * 1024  # bytes of a file that the system is asked to send at a time
CONTINUE_SECONDS = 1.0  # for the server's word after `Expect: 100-continue`

_NO_SENDFILE = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EOVERFLOW}


class Stale(Exception):  # noqa: N818 - an event between two modules
    """The connection was closed while it was idle, before a byte of this request went: another one will do."""


class _Answered(Exception):  # noqa: N818
    """No more of the body is wanted, or can be sent; there is a response."""


class Exchange:
    """One request and its response. One thread works with it; its control is asked on that."""

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
        self._write_limit = _limit(timeouts.get("write"))
        self._read_limit = _limit(timeouts.get("read"))
        self._has_continued = False
        self.parser = ResponseParser(method, self._inform)
        self._has_body = False
        self._count = Count()
        self._written = 0  # bytes of the request, before TLS
        self._is_whole = False  # all of them
        self._cut_short = False
        self._was_reset = False  # as far as sending has told
        self._moved: tuple[int, int] = (-1, 0)  # written and unacknowledged, when they last changed
        self._moved_at = 0.0
        self._held_until = 0.0  # by the throttle, or for want of more of the body
        self._read_by: float | None = None
        self._is_attached = False
        control.attach(connection.interrupt)
        self._is_attached = True

    # Sending

    def send(self, first: Unit, rest: Iterable[Unit]) -> None:
        """Send the request; returns also when the server has answered before it was whole.

        Raises:
            Stale: The server had closed the connection before the first byte.
            httpx.WriteError: The connection broke, and no response had come.
            httpx.WriteTimeout: For the write limit neither the written nor the unacknowledged count changed.
            httpx.RemoteProtocolError: What came is not HTTP.
        """
        if self.connection.is_used and self.connection.is_readable():
            raise Stale
        self._control.check()
        if self._control.is_held_back:
            self.connection.keep_queue_short(True)
        try:
            self._send_unit(first)
            for unit in rest:
                if not self._has_body:
                    self._has_body = True
                    if self._control.asks_first:
                        self._await_continue()
                self._hear()
                self._send_unit(unit)
            self._is_whole = True
        except _Answered:
            self._cut_short = True

    def _send_unit(self, unit: Unit) -> None:
        data, content = unit
        if isinstance(data, bytes | memoryview):
            self._has_body = self._has_body or content > 0
            self._count.add(len(data), content)
            self._send_bytes(data)
        elif is_range(data):
            self._count.add(content, content)
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
            self._hear()

    def _send_some(self, data: memoryview) -> int:
        granted = self._grant(len(data)) if len(data) else 0
        count, is_blocked = 0, False
        try:
            count = self.connection.send(data[:granted])
        except tls.WOULD_BLOCK:
            is_blocked = True
        except OSError as error:
            self._break_off(error)
        finally:
            if self._has_body:
                self._control.give_back(granted - count)
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
                self._hear()

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
                self._raise_if_stopped()
                if error.errno not in (errno.ENOTCONN, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EBADF):
                    raise  # the file's
            self._break_off(error)
        finally:
            self._control.give_back(granted - count)
        self._wrote(count)
        if is_blocked:
            self._wait_to_send()
        return count

    def _wrote(self, count: int) -> None:
        self._written += count
        if self._has_body and self._control.is_due():
            self._report()

    def _grant(self, wanted: int) -> int:
        """Wait until some of so many bytes may go. Meanwhile it is not the server that stands still."""
        if not self._has_body:
            return wanted
        while True:
            granted, again = self._control.grant(wanted)
            if granted:
                return granted
            self._note_movement(self.connection.unacknowledged())
            until = min(self._control.check(), self._ask_again())
            is_ready_now = self._wait(min(until, again), READ if self._hears() else 0, is_woken=True)
            self._held_until = self._clock.now()
            if is_ready_now or self._held_until >= until:
                self._control.step_aside()  # the observer may take its time
                self._note_movement(self._report())
                self._hear()

    def _await_flow(self, flow: Flow) -> None:
        """Wait until it has more, or the server speaks."""
        self._note_movement(self.connection.unacknowledged())
        until = min(self._control.check(), self._ask_again())
        more = flow.watched()
        self._wait(until, READ if self._hears() else 0, is_woken=True, more=more)
        self._held_until = self._clock.now()
        self._note_movement(self._report())

    def _await_continue(self) -> None:
        """Hold the body until the server asks for it, or for a second: RFC 9110, section 10.1.1."""
        by = self._clock.now() + CONTINUE_SECONDS
        while not self._has_continued and self.parser.status is None and self._clock.now() < by:
            self._wait(min(by, self._control.check()), READ)
            self._hear()

    def _wait_to_send(self) -> None:
        """Wait until the system takes more, or the server speaks."""
        while True:
            now = self._clock.now()
            until = self._stalled_at(now, self._report())
            if now >= until:
                if self.parser.status is not None:
                    raise _Answered
                raise httpx.WriteTimeout(
                    f"The server took no data for {self._write_limit:g} s{self._control.so_far()}"
                )
            until = min(until, self._control.check(), self._ask_again())
            events = READ if self.connection.wants_input else WRITE | (READ if self._hears() else 0)
            is_ready_now = self._wait(until, events)
            self._note_movement(self._report())  # before the next send fills up what has gone
            self._hear()
            # Ask the throttle only once the socket is writable.
            if is_ready_now and (not self._control.is_held_back or self._wait(0.0, WRITE)):
                return

    # Hearing

    def _hears(self) -> bool:
        return not (self.parser.is_complete or self.parser.has_ended)

    def _hear(self) -> None:
        """Read what the server says while the body is on its way, and see whether that ends the sending."""
        self._raise_if_stopped()
        heard = 0
        while self._hears() and heard < RECEIVE:
            try:
                data = self.connection.recv(RECEIVE)
            except tls.WOULD_BLOCK:
                break
            except OSError as error:
                self._break_off(error)
            heard += len(data)
            self._feed(data)
        status = self.parser.status
        if status is not None and status >= 300:  # noqa: PLR2004
            raise _Answered

    def _feed(self, data: bytes) -> None:
        had_head = self.parser.head is not None
        if data:
            self.parser.feed(data)
        else:
            try:
                self.parser.feed_eof(is_clean=not (self._was_reset or self.connection.was_cut))
            except httpx.ReadError as error:
                self._raise_if_stopped()
                raise httpx.ReadError(f"{error}{self._control.so_far()}") from error
        if not had_head and self.parser.head is not None:
            self._control.heard(self.parser.head)
        keep = self._control.keep
        if keep is not None and self.parser.kept > keep + RECEIVE:
            raise ResponseTooLarge(f"The response is longer than {keep} bytes")

    def _inform(self, head: Head) -> None:
        if head.status == 100:  # noqa: PLR2004
            self._has_continued = True
        self._control.heard(head)

    def _break_off(self, error: OSError) -> NoReturn:
        """The connection is broken. The server may have said why before it closed: read what is there."""
        self._raise_if_stopped()
        # The system tells of a reset once; then receiving ends as after a close. EPIPE comes after a close in order.
        self._was_reset = not isinstance(error, BrokenPipeError)
        cause = error
        while self._hears() and not isinstance(cause, ssl.SSLError):
            try:
                data = self.connection.recv(RECEIVE)
            except tls.WOULD_BLOCK:
                break
            except ssl.SSLError as alert:
                cause = alert
            except OSError:
                break
            else:
                if not data:
                    break
                self._feed(data)
        if self.parser.status is not None:
            raise _Answered
        if self.connection.is_used and not self._written:
            raise Stale from cause
        if isinstance(cause, ssl.SSLError):
            self._raise_alert(cause)
        raise httpx.WriteError(
            f"The connection broke while sending: {cause}{self._control.so_far()}"
        ) from cause

    def _raise_alert(self, alert: ssl.SSLError) -> NoReturn:
        raise httpx.ReadError(
            f"The server ended the TLS connection: {alert}{self._control.so_far()}"
        ) from alert

    def _raise_if_stopped(self) -> None:
        self._control.check()

    # Receiving

    def receive_head(self) -> Head:
        """Receive the head of the response.

        Raises:
            httpx.ReadError: The connection ended or was reset before it was whole.
            httpx.ReadTimeout: It was not whole the read limit after every byte had been acknowledged; informational
                responses do not restart the limit.
            httpx.WriteTimeout: Before that, for the write limit nothing was acknowledged.
            httpx.RemoteProtocolError: What came is not HTTP.
        """
        while self.parser.head is None:
            self._receive(is_head=True)
        self._settle()
        return self.parser.head

    def body(self) -> Iterator[bytes]:
        """Receive the body, which is dechunked and still encoded.

        Raises:
            httpx.ReadError: The connection ended before it was whole.
            httpx.ReadTimeout: Nothing came for the read limit.
        """
        while True:
            if data := self.parser.take():
                yield data
            if self.parser.is_complete:
                return
            self._receive(is_head=False)

    def _receive(self, *, is_head: bool) -> None:
        """Receive some of the response."""
        if not is_head:
            self._read_by = None
        while True:
            until = self._read_until(is_head=is_head)
            try:
                data = self.connection.recv(RECEIVE)
            except tls.WOULD_BLOCK:
                self._wait(until, READ)
            except ssl.SSLError as alert:
                self._raise_if_stopped()
                self._raise_alert(alert)
            except OSError as error:
                self._raise_if_stopped()
                raise httpx.ReadError(
                    f"The connection broke before the response was whole: {error}{self._control.so_far()}"
                ) from error
            else:
                if self._has_body and is_head:
                    self._report()
                if not data:
                    self._raise_if_stopped()
                self._feed(data)
                return

    def _read_until(self, *, is_head: bool) -> float:
        """When to stop waiting for the response, or to look at how far the body has come."""
        until = self._control.check()
        now = self._clock.now()
        is_under_way = is_head and self._has_body and self.parser.status is None and not self._cut_short
        unacknowledged = self._report() if is_under_way else 0
        if unacknowledged:
            self._note_movement(unacknowledged)
            stalled_at = self._stalled_at(now, unacknowledged)
            if now >= stalled_at:
                raise httpx.WriteTimeout(
                    f"The server took no data for {self._write_limit:g} s{self._control.so_far()}"
                )
            return min(until, stalled_at, self._ask_again())
        if self._read_by is None:
            self._read_by = now + self._read_limit
        if now >= self._read_by:
            raise httpx.ReadTimeout(f"No response for {self._read_limit:g} s{self._control.so_far()}")
        return min(until, self._read_by)

    # The end

    def detach(self) -> None:
        """Take the connection from the control: from here on an abort leaves it alone."""
        if self._is_attached:
            self._is_attached = False
            self._control.detach(self.connection.interrupt)

    @property
    def leaves_it_usable(self) -> bool:
        """Whether another request may go over the connection."""
        is_reusable = self.parser.is_reusable and not self._is_last
        return self._is_whole and is_reusable and not self.connection.pending

    @property
    def ends_with_reset(self) -> bool:
        """Whether the connection is to be closed without a wait for what the server has not read."""
        return not self._is_whole or self.parser.status is None

    # Time and progress

    def _wait(
        self,
        until: float,
        events: int,
        *,
        is_woken: bool = False,
        more: tuple[object, int] | None = None,
    ) -> bool:
        """Wait; whether the connection, or what else is watched, is ready."""
        watched: list[object] = [(self.connection, events)] if events else []
        if more is not None:
            watched.append(more)
        wake = self._control.wake if is_woken or not events else None
        is_ready_now = bool(self._clock.wait(until, watched, wake))  # type: ignore[arg-type]
        if wake is not None:
            wake.clear()
        return is_ready_now

    def _report(self) -> int:
        """Tell what has arrived. Returns the bytes that are still on their way."""
        unacknowledged = self.connection.unacknowledged()
        if self._has_body:
            self._control.arrived(self._count.arrived(self._written - unacknowledged))
            if self._is_whole and not unacknowledged:
                self._control.settled(self._count.content)
        return unacknowledged

    def _settle(self) -> None:
        """A response below 300 says that the body has arrived, whatever the system has heard of it."""
        assert self.parser.status is not None
        if self._has_body and self._is_whole and self.parser.status < 300:  # noqa: PLR2004
            self._control.settled(self._count.content)

    def _note_movement(self, unacknowledged: int) -> None:
        moved = (self._written, unacknowledged)
        if moved != self._moved:
            self._moved = moved
            self._moved_at = self._clock.now()

    def _stalled_at(self, now: float, unacknowledged: int) -> float:
        self._note_movement(unacknowledged)
        if self._control.is_paused():  # nobody knows what the server would take
            self._held_until = now
        return max(self._moved_at, self._held_until) + self._write_limit

    def _ask_again(self) -> float:
        """When to ask for the unacknowledged bytes: a quarter of the time since they moved, 50 ms to 1 s."""
        if not self._moved[1]:
            return math.inf
        now = self._clock.now()
        return now + min(max((now - self._moved_at) / 4, 0.05), 1.0)


def _limit(seconds: float | None) -> float:
    return math.inf if seconds is None else seconds
