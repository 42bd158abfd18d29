"""TLS over a socket, with the records made in memory.

An `ssl.SSLSocket` tells of what it was given only when all of it is written, wants the same again after it blocked, and
makes a system call for each record. Here partial sends are exact, and the same class serves TLS within TLS.
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

# Bytes that are encrypted at a time: seven full records (RFC 8446, section 5.1). Together they stay below the 128 KiB
# from which on glibc asks the system for memory each time: so 1 GiB takes 0.33 s in the system, else 0.59 s.
SLICE = 7 * 16 * 1024

WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class TLS:
    """TLS over a socket, which may be one of these itself: https through an https proxy.

    Attributes:
        object: The `ssl.SSLObject`.
        wants_input: The last `send` can go on only when something has been received (TLS 1.2 renegotiates).
        was_cut: The connection ended without a close_notify (RFC 8446, section 6.1): the end may be an attacker's.
    """

    def __init__(self, beneath: Socket, context: ssl.SSLContext, server_hostname: str | None) -> None:
        self._beneath = beneath
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._records = b""  # from the outgoing ones, and not sent yet
        self._taken = 0  # bytes of records, by the system
        self._lock = Lock()
        self.object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)
        self.wants_input = False
        self.was_cut = False

    def __getattr__(self, name: str) -> Any:
        """What has nothing to do with this layer: options, addresses, shutdown, close."""
        return getattr(self._beneath, name)

    def fileno(self) -> int:
        """The descriptor of the socket at the bottom."""
        return self._beneath.fileno()

    @property
    def pending(self) -> int:
        """Bytes of records that are still to be sent, with the next `send`."""
        beneath = self._beneath.pending if isinstance(self._beneath, TLS) else 0
        return len(self._records) + self._outgoing.pending + beneath

    @property
    def has_input(self) -> bool:
        """Whether there is something to read that the system does not tell of any more."""
        return self._incoming.pending > 0 or (isinstance(self._beneath, TLS) and self._beneath.has_input)

    def shake_hands(self) -> bool:
        """Go on with the handshake; whether it is done.

        Raises:
            ssl.SSLError: It failed: by what the peer sent, or by an alert of its own.
            OSError: The connection broke.
        """
        try:
            self._with_input(self.object.do_handshake)
            self._flush()
        except WOULD_BLOCK:
            return False
        except ssl.SSLError:
            with suppress(OSError):  # the alert by which the server learns why
                self._flush()
            raise
        except OSError:
            self._raise_alert()
            raise
        return True

    def _raise_alert(self) -> None:
        """The connection has broken while sending: the peer may have said why, and closed at once."""
        with suppress(*WOULD_BLOCK, ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError):
            self._with_input(self.object.do_handshake, flush=False)
            self._with_input(partial(self.object.read, 1), flush=False)

    def send(self, data: bytes | memoryview) -> int:
        """Send what is pending, then what the system takes of the data; the last slice of that may become pending."""
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
                # Some of it went, and the caller must know; the next call fails.
        return count

    def recv(self, max_bytes: int) -> bytes:
        """Receive what there is; b"" at the end."""
        with self._lock:
            try:
                # What is pending stays so: a pause may hold it, and a peer that takes no more is heard all the same.
                return self._with_input(partial(self.object.read, max_bytes), flush=not self.pending)
            except ssl.SSLEOFError:
                self.was_cut = True
            except ssl.SSLZeroReturnError:
                pass
        return b""

    def _with_input(self, action: Callable[[], T], *, flush: bool = True) -> T:
        while True:
            try:
                return action()
            except ssl.SSLWantReadError as want:
                if flush:  # what the protocol itself has to say
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
    server_hostname: str | None,
    *,
    clock: Clock,
    control: Control,
    timeout: float | None,
) -> TLS:
    """Go on in TLS over a connected socket, which the caller closes if this fails.

    Raises:
        httpx.ConnectError: The handshake failed; the alert or the certificate's fault is its text.
        httpx.ConnectTimeout: It was not done after `timeout` seconds.
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
        raise httpx.ConnectError(f"TLS with {server_hostname}: {error}") from error
    return tls
