"""Takes the frames of HTTP/2 apart, and keeps h2 (the package) from what it would do with some of them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from .response import MAX_HEAD, QUOTED

FRAME_HEAD = 9  # bytes, RFC 9113, section 4.1

_WINDOW = 2**31 - 1  # the largest: the connection serves one response, so TCP alone holds the server back
_GOAWAY = 7  # a frame's type
_GOAWAY_SIZE = 8  # bytes, without debug data
_ERROR_CODES = frozenset(h2.errors.ErrorCodes)
_QUOTE = re.compile(r"""[ :]+b['"].*""", re.DOTALL)

# Bytes of header fields that the encoder remembers, at most: the protocol's initial value. The server may allow more.
# But the search for a field takes time in proportion to them.
_TABLE = 4096


class State(h2.connection.H2Connection):
    """The protocol's state on one connection, for all requests that it serves.

    After a GOAWAY, h2 takes no further frame. But a server that shuts down sends one, and then finishes the streams
    that it has begun (RFC 9113, section 6.8). So GOAWAY does not go to h2.
    """

    def __init__(self) -> None:
        super().__init__(
            h2.config.H2Configuration(client_side=True, header_encoding=None, validate_inbound_headers=True)
        )
        codes = h2.settings.SettingCodes
        self.local_settings = h2.settings.Settings(
            client=True,
            initial_values={
                codes.ENABLE_PUSH: 0,
                codes.INITIAL_WINDOW_SIZE: _WINDOW,
                codes.MAX_CONCURRENT_STREAMS: 1,
                codes.MAX_HEADER_LIST_SIZE: MAX_HEAD,
            },
        )
        self.decoder.max_header_list_size = MAX_HEAD
        self._unparsed = bytearray()
        self.initiate_connection()
        self.increment_flow_control_window(_WINDOW - self.inbound_flow_control_window)

    def events(self, data: bytes) -> Iterator[h2.events.Event]:
        """Parse one frame at a time. So a wrong frame takes nothing away from those before it.

        Raises:
            h2.exceptions.ProtocolError: A frame is wrong.
        """
        self._unparsed += data
        while (frame := self._next_frame()) is not None:
            if frame[3] == _GOAWAY:
                yield _termination(frame[FRAME_HEAD:])
                continue
            events = self.receive_data(frame)
            self.encoder.header_table_size = min(self.encoder.header_table_size, _TABLE)
            yield from events

    def _next_frame(self) -> bytes | None:
        """Take out the next frame; None if it is not whole."""
        if len(self._unparsed) < FRAME_HEAD:
            return None
        size = int.from_bytes(self._unparsed[:3], "big")
        if size > self.max_inbound_frame_size:
            raise h2.exceptions.FrameTooLargeError(f"A frame has {size} bytes")
        if len(self._unparsed) < FRAME_HEAD + size:
            return None
        frame = bytes(self._unparsed[: FRAME_HEAD + size])
        del self._unparsed[: FRAME_HEAD + size]
        return frame


def _termination(payload: bytes) -> h2.events.ConnectionTerminated:
    """Read a GOAWAY (RFC 9113, section 6.8)."""
    if len(payload) < _GOAWAY_SIZE:
        raise h2.exceptions.ProtocolError("A GOAWAY frame is too short")
    event = h2.events.ConnectionTerminated()
    event.last_stream_id = int.from_bytes(payload[:4], "big") & _WINDOW
    code = int.from_bytes(payload[4:8], "big")
    event.error_code = h2.errors.ErrorCodes(code) if code in _ERROR_CODES else code
    return event


def text_of(error: h2.exceptions.ProtocolError) -> str:
    """What h2 says about an error, without the header's value that it quotes."""
    return _QUOTE.sub("", str(error))[:QUOTED] or type(error).__name__
