"""Reads and writes a connection after an upgrade (101) or a CONNECT, in any protocol."""

from __future__ import annotations

import math
from typing import Any

import httpx

from rxupload._wait import READ, WRITE, Clock

from . import tls
from .connection import Connection


class Stream:
    """httpx's extension `network_stream`, with the methods of httpcore. For one thread at a time."""

    def __init__(self, connection: Connection, clock: Clock, first: bytearray) -> None:
        self._connection = connection
        self._clock = clock
        self._first = first  # bytes that came together with the head

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Receive at most `max_bytes`; b"" at the end.

        Raises:
            httpx.ReadTimeout: Nothing came for `timeout` seconds.
            httpx.ReadError: The connection broke.
        """
        if self._first:
            data = bytes(self._first[:max_bytes])
            del self._first[:max_bytes]
            return data
        by = self._deadline(timeout)
        while True:
            try:
                return self._connection.recv(max_bytes)
            except tls.WOULD_BLOCK:
                if self._clock.now() >= by:
                    raise httpx.ReadTimeout(f"Nothing came for {timeout:g} s") from None
                self._clock.wait(by, [(self._connection, READ)])
            except OSError as error:
                raise httpx.ReadError(str(error)) from error

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send the whole buffer.

        Raises:
            httpx.WriteTimeout: The server took nothing for `timeout` seconds.
            httpx.WriteError: The connection broke.
        """
        by = self._deadline(timeout)
        done = 0
        while done < len(buffer) or self._connection.pending:
            try:
                done += self._connection.send(buffer[done:])
                by = self._deadline(timeout)
            except tls.WOULD_BLOCK:
                if self._clock.now() >= by:
                    raise httpx.WriteTimeout(f"The server took no data for {timeout:g} s") from None
                self._clock.wait(by, [(self._connection, READ if self._connection.wants_input else WRITE)])
            except OSError as error:
                raise httpx.WriteError(str(error)) from error

    def close(self) -> None:
        """End the connection. Closing the response frees it."""
        self._connection.interrupt()

    def get_extra_info(self, info: str) -> Any:
        """Return `ssl_object`, `client_addr`, `server_addr` or `socket` of the connection; None for other names."""
        sock = self._connection.socket
        match info:
            case "ssl_object":
                return getattr(sock, "object", None)
            case "client_addr":
                return sock.getsockname()
            case "server_addr":
                return sock.getpeername()
            case "socket":
                return sock
            case _:
                return None

    def _deadline(self, timeout: float | None) -> float:
        return math.inf if timeout is None else self._clock.now() + timeout
