"""One request and its response over HTTP/2, on a connection that serves no other request meanwhile.

The exchange is that of HTTP/1.1, with the same waits, limits and early responses. Only the framing differs: h2 (the
package) makes the frames and parses them. A body is sent as far as the server's windows allow.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import h2.errors
import h2.events
import h2.exceptions
import httpx

from rxupload._wait import READ, Clock

from . import tls
from .connection import Connection
from .control import Control
from .exchange import CHUNK, Exchange
from .frames import FRAME_HEAD, State, text_of
from .hearing import RECEIVE, Answered, Stale
from .request import Flow, Unit, is_range
from .response import Head, ResponseParser

_BATCH = 128 * 1024  # bytes of content to frame at a time
# The most bytes of answers to the server's own frames (SETTINGS, PING) that it does not read
_UNSENT = 64 * 1024
# Bytes: for each frame that is sent, a server may open the windows of the stream and of the connection.
_UPDATES = 2 * (FRAME_HEAD + 4)
_STATUS = re.compile(rb"[1-9][0-9][0-9]")
_OF_ONE_HOP = (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"host")


def headers_of(
    scheme: str, method: bytes, target: bytes, headers: Sequence[tuple[bytes, bytes]]
) -> list[tuple[bytes, bytes]]:
    """Return the header fields of a request (RFC 9113, section 8.3)."""
    (authority,) = [value for name, value in headers if name.lower() == b"host"]
    fields = [
        (b":method", method),
        (b":authority", authority),
        (b":scheme", scheme.encode()),
        (b":path", target),
    ]
    lower = [(name.lower(), value.strip(b" \t")) for name, value in headers]
    return fields + [(name, value) for name, value in lower if name not in _OF_ONE_HOP]


class _Parser(ResponseParser):
    """Parses the frames of one stream. It has the attributes of `ResponseParser`.

    Attributes:
        stream: The stream's number.
        is_sent: Whether the request is whole.
        is_over: Whether the connection is of no further use.
    """

    def __init__(
        self,
        state: State,
        method: str,
        on_informational: Callable[[Head], None],
        on_output: Callable[[], None],
    ) -> None:
        super().__init__(method, on_informational)
        self.stream = 0
        self.is_sent = False
        self.is_over = False
        self._state = state
        self._on_output = on_output

    @property
    def goes_on(self) -> bool:
        return not self.has_ended and not (self.is_complete and self.is_sent)

    @property
    def is_reusable(self) -> bool:
        return self.is_complete and not (self.is_over or self.is_refused or self.has_ended)

    def feed(self, data: bytes) -> None:
        self.informational += len(data)
        wrong = ""
        try:
            for event in self._state.events(data):
                self._take_event(event)
        except h2.exceptions.ProtocolError as error:
            wrong = text_of(error)
        if wrong:  # raised here, so that h2's error, which quotes header values, is not its context
            self.is_over = True
            self._break_off(httpx.RemoteProtocolError(f"The server's HTTP/2 is wrong: {wrong}"))
        self._on_output()

    def _take_event(self, event: Any) -> None:
        if isinstance(event, h2.events.ConnectionTerminated):
            self.is_over = True
            if event.error_code or (event.last_stream_id or 0) < self.stream:
                self._break_off(
                    httpx.ReadError(f"The server ended the connection: {_name_of(event.error_code)}")
                )
        elif getattr(event, "stream_id", None) == self.stream:
            self._take_event_of_the_stream(event)

    def _break_off(self, error: httpx.TransportError) -> None:
        """Raise the error, unless the response is whole: then the server only wants no more of the request."""
        if not self.is_complete:
            raise error
        self.is_refused = True

    def _take_event_of_the_stream(self, event: Any) -> None:
        if isinstance(event, h2.events.InformationalResponseReceived):
            assert self._on_informational is not None
            self._on_informational(_head_of(event.headers))
        elif isinstance(event, h2.events.ResponseReceived):
            self.head = _head_of(event.headers)
            self.status = self.head.status
            self.has_begun = True
        elif isinstance(event, h2.events.DataReceived):
            if event.data:
                self._body.append(event.data)
                self.kept += len(event.data)
                self.informational -= len(event.data) + FRAME_HEAD
            self._state.acknowledge_received_data(event.flow_controlled_length, self.stream)
        elif isinstance(event, h2.events.StreamEnded):
            self.is_complete = True
        elif isinstance(event, h2.events.StreamReset):
            # After a whole response it is no error: RFC 9113, section 8.1
            self._break_off(httpx.ReadError(f"The server reset the stream: {_name_of(event.error_code)}"))

    def feed_eof(self, *, is_clean: bool = True) -> None:  # noqa: ARG002 - the frames say where a body ends
        self.has_ended = True
        if not self.is_complete:
            when = "it answered" if self.head is None else "the response was whole"
            raise httpx.ReadError(f"The server closed the connection before {when}")


def _head_of(headers: Any) -> Head:
    fields = [(bytes(name), bytes(value)) for name, value in headers]
    code = dict(fields)[b":status"]
    if not _STATUS.fullmatch(code):
        raise httpx.RemoteProtocolError("The response's status is not a number of three digits")
    status = int(code)
    reason = httpx.codes.get_reason_phrase(status).encode()  # HTTP/2 has none
    return Head(b"HTTP/2", status, reason, [each for each in fields if not each[0].startswith(b":")])


def _name_of(code: Any) -> str:
    return code.name if isinstance(code, h2.errors.ErrorCodes) else f"error {code}"


class Http2Exchange(Exchange):
    """One request and its response on a connection that speaks HTTP/2."""

    def __init__(
        self,
        connection: Connection,
        method: str,
        headers: list[tuple[bytes, bytes]],
        *,
        control: Control,
        clock: Clock,
        timeouts: Mapping[str, float | None],
    ) -> None:
        if connection.http2 is None:
            connection.http2 = State()
        self._state: State = connection.http2
        self._headers = headers
        self._unsent = b""  # frames that the system has not taken
        self._is_sending = False  # a frame may be sent in part
        super().__init__(connection, method, control=control, clock=clock, timeouts=timeouts)

    def _make_parser(self, method: str, on_informational: Callable[[Head], None]) -> ResponseParser:
        return _Parser(self._state, method, on_informational, self._answer)

    @property
    def _stream(self) -> _Parser:
        return cast("_Parser", self._hearing.parser)

    def _check_idle(self) -> None:
        """Read the frames that came while the connection was idle. Raise `Stale` if it has ended."""
        for _ in range(16):
            if not (self.connection.is_used and self.connection.is_readable()):
                return
            try:
                data = self.connection.recv(RECEIVE)
                if not data:
                    break
                self._stream.feed(data)
            except tls.WOULD_BLOCK:
                continue
            except (OSError, httpx.TransportError):
                break
            if self._stream.is_over:
                break
        raise Stale

    def _send_first(self, first: Unit) -> None:  # noqa: ARG002 - the header fields are its head
        wrong = ""
        try:
            self._stream.stream = self._state.get_next_available_stream_id()
            self._state.send_headers(self._stream.stream, self._headers)
        except (h2.exceptions.TooManyStreamsError, h2.exceptions.NoAvailableStreamIDError):
            if self.connection.is_used:
                raise Stale from None
            raise httpx.RemoteProtocolError("The server takes no request over HTTP/2") from None
        except h2.exceptions.ProtocolError as error:
            wrong = text_of(error)
        if wrong:
            raise httpx.LocalProtocolError(f"The request cannot be sent over HTTP/2: {wrong}")
        self._send_frames(0)

    def _send_last(self) -> None:
        self._hearing.hear()
        self._state.end_stream(self._stream.stream)
        self._send_frames(0)
        self._stream.is_sent = True

    def _send_unit(self, unit: Unit) -> None:
        data, content = unit
        if isinstance(data, bytes | memoryview):
            self._movement.has_body = self._movement.has_body or content > 0
            self._send_content(data)
        elif is_range(data):
            done = 0
            while done < data.size:
                part = data.read(done, min(CHUNK, data.size - done))
                self._send_content(part)
                done += len(part)
                self._hearing.hear()
        else:
            self._await_flow(cast("Flow", data))

    def _send_content(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        done = 0
        while done < len(view):
            room = min(self._state.local_flow_control_window(self._stream.stream), _BATCH, len(view) - done)
            if room <= 0:
                self._await_window()
                continue
            # Wait for the throttle before a frame is made: the server's own frames are answered meanwhile.
            granted = self._grant(room)
            room = max(0, min(granted, self._state.local_flow_control_window(self._stream.stream)))
            self._control.give_back(granted - room)
            if not room:
                continue
            size = self._state.max_outbound_frame_size
            for start in range(done, done + room, size):
                self._state.send_data(
                    self._stream.stream, bytes(view[start : min(start + size, done + room)])
                )
                # Not below 0: a server must not save up for a flood.
                self._stream.informational = max(0, self._stream.informational - _UPDATES)
            self._send_frames(room)
            done += room
            if done < len(view):
                self._hearing.hear()

    def _await_window(self) -> None:
        """Wait until the server takes more. Hear it meanwhile."""
        if not self._hearing.goes_on:  # it has answered and closed
            raise Answered
        self._movement.wait(self._look_again(), READ)
        self._movement.note(self._movement.report())
        self._hearing.hear()

    def _send_frames(self, content: int) -> None:
        data = self._state.data_to_send()
        self._movement.count.add(len(data), content)
        data, self._unsent = self._unsent + data, b""
        self._is_sending = True
        self._send_bytes(data)
        self._is_sending = False

    def _grant(self, wanted: int) -> int:
        return wanted if self._is_sending else super()._grant(wanted)

    def _give_back(self, count: int) -> None:
        """Do nothing: what is framed must be sent."""

    def _answer(self) -> None:
        """Send the answers to the server's own frames, as far as the system takes them."""
        if self._is_sending:
            return
        if data := self._state.data_to_send():
            self._movement.count.add(len(data), 0)
        data = self._unsent + data
        if not (data or self.connection.pending):
            return
        count = 0
        try:
            count = self.connection.send(data)
        except (*tls.WOULD_BLOCK, OSError):  # a later send or read reports the end
            pass
        self._movement.written += count
        self._movement.answered += count
        self._unsent = data[count:]
        if len(self._unsent) > _UNSENT:
            raise httpx.RemoteProtocolError("The server sends frames and does not read the answers")

    @property
    def leaves_it_usable(self) -> bool:
        return super().leaves_it_usable and not self._unsent
