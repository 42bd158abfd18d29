"""A server that speaks HTTP/2, as a script for `scripted_server.Server`, with or without TLS."""

from __future__ import annotations

import functools
import ssl
from collections.abc import Callable
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
from support.scripted_server import authority

from rxupload.testing import Connection


@functools.cache
def http2_context() -> ssl.SSLContext:
    """The TLS settings of a server that chooses HTTP/2."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert("localhost", "127.0.0.1").configure_cert(context)
    context.set_alpn_protocols(["h2"])
    return context


class Talk:
    """One connection as the script sees it.

    Attributes:
        state: The state of the protocol, for any frame.
        requests: The header fields of each stream, by its number.
        bodies: The body of each stream.
        ended: The streams whose request is whole.
        other: All other events.
    """

    def __init__(self, connection: Connection, *, window: int, acknowledges: bool) -> None:
        self.connection = connection
        self.state = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        )
        self.requests: dict[int, dict[str, str]] = {}
        self.bodies: dict[int, bytearray] = {}
        self.ended: set[int] = set()
        self.other: list[Any] = []
        self._acknowledges = acknowledges
        self._window = window
        self.state.initiate_connection()
        self.state.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.flush()

    def flush(self) -> None:
        self.connection.send(self.state.data_to_send())

    def read(self) -> bool:
        """Read once. Return False at the end of the connection."""
        data = self.connection.recv()
        for event in self.state.receive_data(data) if data else []:
            stream: int = getattr(event, "stream_id", 0)
            if isinstance(event, h2.events.RequestReceived):
                self.requests[stream] = dict(event.headers)
                self.bodies[stream] = bytearray()
            elif isinstance(event, h2.events.DataReceived):
                self.bodies[stream] += event.data
                if self._acknowledges:
                    self.state.acknowledge_received_data(event.flow_controlled_length, stream)
            elif isinstance(event, h2.events.StreamEnded):
                self.ended.add(stream)
            else:
                self.other.append(event)
                if isinstance(event, h2.events.SettingsAcknowledged) and self._acknowledges:
                    self._reopen()
        self.flush()
        return bool(data)

    def _reopen(self) -> None:
        """Open windows that are closed: a smaller first window makes them negative, and h2 leaves them so."""
        for stream in self.requests.keys() - self.ended:
            closed = -self.state.remote_flow_control_window(stream)
            if closed >= 0:
                self.state.increment_flow_control_window(closed + self._window, stream)

    def read_until(self, condition: Callable[[], bool]) -> bool:
        """Read until the condition is true. Return False if the connection ends first."""
        while not condition():
            if not self.read():
                return False
        return True

    def request(self) -> int:
        """Read until a further request has come, without its body. Return its stream; 0 at the end."""
        count = len(self.requests)
        return max(self.requests) if self.read_until(lambda: len(self.requests) > count) else 0

    def body(self, stream: int) -> bytes:
        """Read the whole body of a request."""
        self.read_until(lambda: stream in self.ended)
        return bytes(self.bodies[stream])

    def respond(self, stream: int, status: int = 200, body: bytes = b"", *headers: tuple[str, str]) -> None:
        """Answer. The body is sent as far as the client's window allows."""
        self.state.send_headers(stream, [(":status", str(status)), *headers], end_stream=not body)
        while body:
            self.read_until(lambda: self.state.local_flow_control_window(stream) > 0)
            room = min(self.state.local_flow_control_window(stream), self.state.max_outbound_frame_size)
            part, body = body[:room], body[room:]
            self.state.send_data(stream, part, end_stream=not body)
            self.flush()
        self.flush()


def speaking(
    script: Callable[[Talk], object], *, window: int = 65_535, acknowledges: bool = True
) -> Callable[[Connection], None]:
    """A script for `Server` that speaks HTTP/2."""

    def run(connection: Connection) -> None:
        script(Talk(connection, window=window, acknowledges=acknowledges))

    return run


def counting(talk: Talk) -> None:
    """Answer each request with the number of its body's bytes."""
    while stream := talk.request():
        talk.respond(stream, 200, str(len(talk.body(stream))).encode())
