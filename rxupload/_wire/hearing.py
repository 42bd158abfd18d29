"""Reads the response: hears the server while the body is sent, and receives the rest afterwards."""

from __future__ import annotations

import math
import ssl
from collections.abc import Callable, Iterator
from typing import NoReturn

import httpx

from rxupload._errors import ResponseTooLarge
from rxupload._wait import READ, Clock

from . import tls
from .connection import Connection
from .control import Control
from .movement import Movement
from .response import Head, ResponseParser

RECEIVE = 64 * 1024  # bytes to receive at a time, and at most between two sends

# The most bytes of informational heads (1xx) in all: curl's limit for all heads of a response. A server that reports
# how much it has stored (104, Upload Resumption Supported) may send more: one byte for each 64 bytes of the request.
INFORMATIONAL = 300 * 1024
_SENT_FOR_ONE = 64


class Stale(Exception):  # noqa: N818 - an event between two modules
    """The server closed the connection while it was idle. None of this request was sent, so another one will do."""


class Answered(Exception):  # noqa: N818
    """There is a response, and the rest of the body is unwanted or cannot be sent."""


class Hearing:
    """What the server sends in one exchange.

    Attributes:
        parser: Parses the response.
        has_continued: The server has sent 100 (Continue).
        is_cut_short: The response came before the whole request was sent.
    """

    def __init__(
        self,
        connection: Connection,
        method: str,
        *,
        control: Control,
        clock: Clock,
        movement: Movement,
        read_limit: float | None,
        make_parser: Callable[[str, Callable[[Head], None]], ResponseParser] = ResponseParser,
    ) -> None:
        self._connection = connection
        self._control = control
        self._clock = clock
        self._movement = movement
        self._read_limit = math.inf if read_limit is None else read_limit
        self._read_by: float | None = None
        self.parser = make_parser(method, self._inform)
        self.has_continued = False
        self.is_cut_short = False
        self._was_reset = False  # a send has failed because of a reset

    # While the body is sent

    @property
    def goes_on(self) -> bool:
        """Whether more of the response may come."""
        return self.parser.goes_on

    def hear(self) -> None:
        """Read what has come while the body is sent. Raise `Answered` if it ends the sending."""
        self._control.check()
        heard = 0
        while self.goes_on and heard < RECEIVE:
            try:
                data = self._connection.recv(RECEIVE)
            except tls.WOULD_BLOCK:
                break
            except OSError as error:
                self.break_off(error)
            heard += len(data)
            self._feed(data)
        status = self.parser.status
        if self.parser.is_refused or (status is not None and status >= 300):  # noqa: PLR2004
            raise Answered

    def _feed(self, data: bytes) -> None:
        had_head = self.parser.head is not None
        if data:
            self.parser.feed(data)
        else:
            try:
                self.parser.feed_eof(is_clean=not (self._was_reset or self._connection.was_cut))
            except httpx.ReadError as error:
                self._control.check()
                raise httpx.ReadError(f"{error}{self._control.so_far()}") from error
        if self.parser.informational > INFORMATIONAL + self._movement.written // _SENT_FOR_ONE:
            raise httpx.RemoteProtocolError(
                f"The server sent {self.parser.informational} bytes of informational responses (1xx) or empty frames"
            )
        if not had_head and self.parser.head is not None:
            self._control.heard(self.parser.head)
        keep = self._control.keep
        if keep is not None and self.parser.kept > keep + RECEIVE:
            raise ResponseTooLarge(f"The response is longer than {keep} bytes")

    def _inform(self, head: Head) -> None:
        if head.status == 100:  # noqa: PLR2004
            self.has_continued = True
        self._control.heard(head)

    def break_off(self, error: OSError) -> NoReturn:
        """Raise for a connection that broke. Read what is left first: the server may have said why it closed."""
        self._control.check()
        # The system reports a reset only once, and a later read looks like an orderly close. So remember it here. EPIPE
        # comes after an orderly close.
        self._was_reset = not isinstance(error, BrokenPipeError)
        cause = error
        while self.goes_on and not isinstance(cause, ssl.SSLError):
            try:
                data = self._connection.recv(RECEIVE)
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
            raise Answered
        if self._connection.is_used and self._movement.written == self._movement.answered:
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

    # After the body

    def receive_head(self) -> Head:
        """Receive the head of the response.

        Raises:
            httpx.ReadError: The connection ended or was reset before the head was whole.
            httpx.ReadTimeout: The head was not whole within the read limit, which starts when every byte has been
                acknowledged. Informational responses do not restart it.
            httpx.WriteTimeout: Bytes were still unacknowledged, and none was acknowledged for the write limit.
            httpx.RemoteProtocolError: The response is not HTTP.
        """
        while self.parser.head is None:
            self._receive(is_head=True)
        self._movement.settle(self.parser.head.status)
        return self.parser.head

    def body(self) -> Iterator[bytes]:
        """Receive the body, without the framing of chunks but still content-encoded.

        Raises:
            httpx.ReadError: The connection ended before the body was whole.
            httpx.ReadTimeout: Nothing of the body came for the read limit. Framing, and what else the server says,
                does not restart it.
        """
        self._read_by = None
        while True:
            if data := self.parser.take():
                self._read_by = None
                yield data
            if self.parser.is_complete:
                return
            self._receive(is_head=False)

    def _receive(self, *, is_head: bool) -> None:
        """Receive some of the response."""
        while True:
            until = self._read_until(is_head=is_head)
            try:
                data = self._connection.recv(RECEIVE)
            except tls.WOULD_BLOCK:
                self._movement.wait(until, READ)
            except ssl.SSLError as alert:
                self._control.check()
                self._raise_alert(alert)
            except OSError as error:
                self._control.check()
                raise httpx.ReadError(
                    f"The connection broke before the response was whole: {error}{self._control.so_far()}"
                ) from error
            else:
                if not data:
                    self._control.check()
                self._feed(data)
                if is_head and self._movement.has_body and self.parser.head is None:
                    self._movement.report()
                return

    def _read_until(self, *, is_head: bool) -> float:
        """When to stop waiting for the response, or to count again how much of the body has arrived."""
        until = self._control.check()
        now = self._clock.now()
        is_under_way = (
            is_head
            and self._read_by is None  # else only answers to the server's own frames are on their way
            and self._movement.has_body
            and self.parser.status is None
            and not self.is_cut_short
        )
        unacknowledged = self._movement.report() if is_under_way else 0
        if unacknowledged:
            self._movement.note(unacknowledged)
            stalled_at = self._movement.stalled_at(now, unacknowledged)
            if now >= stalled_at:
                self._movement.raise_stall()
            return min(until, stalled_at, self._movement.ask_again())
        if self._read_by is None:
            self._read_by = now + self._read_limit
        if now >= self._read_by:
            raise httpx.ReadTimeout(f"No response for {self._read_limit:g} s{self._control.so_far()}")
        return min(until, self._read_by)
