"""Speaks TLS over a socket, and encrypts the records in memory.

An `ssl.SSLSocket` reports a write only when all of it is written, requires the same data again after it blocked, and
makes a system call for each record. This class reports partial sends exactly, and also works for TLS within TLS.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import httpx

from rxupload._wait import READ, WRITE, Clock

if TYPE_CHECKING:
    import socket

    from .control import Control

T = TypeVar("T")
Socket: TypeAlias = "socket.socket | TLS"

# Bytes to encrypt at a time: seven full records (RFC 8446, section 5.1). Together they stay below 128 KiB. From that
# size on, glibc asks the system for memory each time: 1 GiB then takes 0.59 s of system time instead of 0.33 s.
SLICE = 7 * 16 * 1024

_READS = 8  # how often to read from the socket for one action, before the caller looks at the time and for an abort

# OpenSSL's reasons for an answer that is no TLS, by its versions.
_NOT_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST")
WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class TLS:
    """TLS over a socket, or over another TLS: https through an https proxy.

    Attributes:
        object: The `ssl.SSLObject`.
        wants_input: Whether the last `send` needs input from the peer first (TLS 1.2 renegotiates).
        was_cut: Whether the connection ended without a close_notify (RFC 8446, section 6.1). An attacker may have
            ended it.
    """

    def __init__(self, beneath: Socket, context: ssl.SSLContext, server_hostname: str | None) -> None:
        self._beneath = beneath
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._records = b""  # taken from `_outgoing`, and not sent yet
        self._taken = 0  # bytes of records that the system has taken
        self._lock = Lock()
        self.object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)
        self.wants_input = False
        self.was_cut = False

    def __getattr__(self, name: str) -> Any:
        """Pass on everything that TLS does not change: options, addresses, shutdown, close."""
        return getattr(self._beneath, name)

    def fileno(self) -> int:
        """The descriptor of the socket at the bottom."""
        return self._beneath.fileno()

    @property
    def pending(self) -> int:
        """Bytes of records that the next `send` has to send first."""
        beneath = self._beneath.pending if isinstance(self._beneath, TLS) else 0
        return len(self._records) + self._outgoing.pending + beneath

    @property
    def has_input(self) -> bool:
        """Whether there is input here that the system no longer reports as readable."""
        return self._incoming.pending > 0 or (isinstance(self._beneath, TLS) and self._beneath.has_input)

    def shake_hands(self) -> bool:
        """Continue the handshake. Return whether it is done.

        Raises:
            ssl.SSLError: The handshake failed here, or the peer sent an alert.
            OSError: The connection broke.
        """
        try:
            self._with_input(self.object.do_handshake)
            self._flush()
        except WOULD_BLOCK:
            return False
        except ssl.SSLError:
            with suppress(OSError):  # send the alert that tells the server why
                self._flush()
            raise
        except OSError:
            self._raise_alert()
            raise
        return True

    def _raise_alert(self) -> None:
        """Raise the peer's alert, if it sent one before it closed: it explains why sending failed."""
        with suppress(*WOULD_BLOCK, ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError):
            self._with_input(self.object.do_handshake, flush=False)
            self._with_input(partial(self.object.read, 1), flush=False)

    def send(self, data: bytes | memoryview) -> int:
        """Send pending records, then as much data as the system takes. Return how many bytes of data were encrypted.

        The last slice of them may stay pending.
        """
        count = 0
        self.wants_input = False
        with self._lock:
            before = self._taken
            try:
                self._flush()
                before = self._taken
                while count < len(data):
                    part = data[count : count + SLICE]
                    count += self._with_input(partial(self.object.write, part))
                    self._flush()
            except ssl.SSLWantReadError:
                self.wants_input = True
                if not count:
                    raise
            except BlockingIOError:
                if not count:
                    raise
            except OSError:
                if not count or self._taken == before:
                    raise
                # Report the bytes that were sent; the next call raises.
        return count

    def recv(self, max_bytes: int) -> bytes:
        """Receive at most `max_bytes`; b"" at the end."""
        with self._lock:
            try:
                # Do not flush pending records: a pause may hold them, and the peer must be heard even if it takes none.
                return self._with_input(partial(self.object.read, max_bytes), flush=not self.pending)
            except ssl.SSLEOFError:
                self.was_cut = True
            except ssl.SSLZeroReturnError:
                pass
        return b""

    def _with_input(self, action: Callable[[], T], *, flush: bool = True) -> T:
        """Do something that needs input. OpenSSL skips some records, so a server could send them without end."""
        reads = 0
        while True:
            try:
                return action()
            except ssl.SSLWantReadError as want:
                # The system does not report what is in memory as readable. So use it up.
                is_used_up = not (isinstance(self._beneath, TLS) and self._beneath.has_input)
                if reads >= _READS and is_used_up:
                    raise
                reads += 1
                if flush:  # the protocol's own messages
                    with suppress(OSError):
                        self._flush()
                try:
                    data = self._beneath.recv(65536)
                except WOULD_BLOCK:
                    raise want from None
                self._incoming.write(data) if data else self._incoming.write_eof()

    def _flush(self) -> None:
        while records := self._records or self._outgoing.read():
            self._records = records
            count = self._beneath.send(records)
            self._records = records[count:]
            self._taken += count
        if isinstance(self._beneath, TLS):
            self._beneath.send(b"")


def start_tls(
    beneath: Socket,
    context: ssl.SSLContext,
    server_hostname: str,
    port: int,
    *,
    clock: Clock,
    control: Control,
    timeout: float | None,
) -> TLS:
    """Start TLS over a connected socket. The caller closes the socket if this fails.

    Raises:
        httpx.ConnectError: The handshake failed; the text is the alert or what is wrong with the certificate, or that
            the server may speak plain http at this port.
        httpx.ConnectTimeout: The handshake took longer than `timeout` seconds.
    """
    by = float("inf") if timeout is None else clock.now() + timeout
    tls = TLS(beneath, context, server_hostname)
    try:
        while not tls.shake_hands():
            until = control.check()
            if clock.now() >= by:
                raise httpx.ConnectTimeout(f"No TLS handshake with {server_hostname} for {timeout:g} s")
            events = READ | WRITE if tls.pending else READ
            clock.wait(min(until, by), [(tls, events)], control.wake)
    except OSError as error:
        control.check()
        host = f"[{server_hostname}]" if ":" in server_hostname else server_hostname
        is_other = getattr(error, "reason", None) in _NOT_TLS
        hint = f"; this port may be one for plain http: http://{host}:{port}/" if is_other else ""
        raise httpx.ConnectError(f"TLS with {host}:{port}: {error}{hint}") from error
    return tls
