"""One connection, plain or TLS: it sends, receives, counts unacknowledged bytes, and can be ended from any thread."""

from __future__ import annotations

import array
import os
import socket
import struct
import sys
from contextlib import suppress
from typing import Any

from rxupload._wait import READ, is_ready

from .tls import TLS, Socket

NOTSENT_LOWAT = 128 * 1024  # the most unsent bytes in the system's queue, when that is kept short

_RESET_ON_CLOSE = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
_TCP_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", None)
# For an upload without a throttle: 0 leaves the system's own limit. A system that cannot tell the unacknowledged bytes
# gets a short queue, so that the bytes handed over are a good estimate.
_USUAL_LOWAT = 0 if sys.platform in ("linux", "darwin") else NOTSENT_LOWAT

# Bytes that were sent and that the peer has not acknowledged, for each system

if sys.platform == "linux":
    import fcntl
    import termios

    def _unacknowledged(sock: Socket) -> int:
        """Ask Linux: SIOCOUTQ, tcp(7)."""
        count = array.array("i", [0])
        fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, count)
        return count[0]

elif sys.platform == "darwin":
    _SO_NWRITE = 0x1024  # sys/socket.h

    def _unacknowledged(sock: Socket) -> int:
        """Ask macOS: SO_NWRITE of xnu's sys/socket.h."""
        return int(sock.getsockopt(socket.SOL_SOCKET, _SO_NWRITE))

else:

    def _unacknowledged(sock: Socket) -> int:  # noqa: ARG001
        """Return 0: this system cannot tell, so every byte handed over counts as arrived."""
        return 0


class Connection:
    """A connected, non-blocking socket. Only the worker's thread calls it, except for `interrupt`.

    Attributes:
        socket: The socket, or the TLS over it.
        is_used: A request has been answered on it.
        is_interrupted: `interrupt` ended it.
        expires: When it becomes too old for another request, if it is idle.
        http2: The state of HTTP/2, once a request has been sent over it.
    """

    def __init__(self, sock: Socket, key: Any = None, *, is_http2: bool = False) -> None:
        self.socket = sock
        self.key = key
        self.is_used = False
        self.is_interrupted = False
        self.expires = float("inf")
        self.http2: Any = None
        self._is_http2 = is_http2  # whatever the handshake says
        self.can_sendfile = isinstance(sock, socket.socket) and hasattr(os, "sendfile")
        # A Unix socket answers too, but its count includes the overhead of its buffers.
        self._tells = sock.family in (socket.AF_INET, socket.AF_INET6)
        self._is_bounded = False
        if _USUAL_LOWAT:
            self._bound_queue(_USUAL_LOWAT)

    def fileno(self) -> int:
        """The descriptor's number; negative if closed."""
        return self.socket.fileno()

    def send(self, data: bytes | memoryview) -> int:
        """Send as much as the system takes; return how many bytes."""
        return self.socket.send(data)

    def sendfile(self, file: int, offset: int, count: int) -> int:
        """Send as much of a file as the system takes, without a copy; return how many bytes, 0 at the file's end."""
        return os.sendfile(self.socket.fileno(), file, offset, count)

    def recv(self, max_bytes: int) -> bytes:
        """Receive what there is; b"" at the end."""
        return self.socket.recv(max_bytes)

    @property
    def pending(self) -> int:
        """Bytes that `send` took and that the system has not taken yet."""
        return self.socket.pending if isinstance(self.socket, TLS) else 0

    @property
    def speaks_http2(self) -> bool:
        """Whether the server chose HTTP/2 in the handshake (RFC 7301), or the caller did without asking."""
        return self._is_http2 or (
            isinstance(self.socket, TLS) and self.socket.object.selected_alpn_protocol() == "h2"
        )

    @property
    def wants_input(self) -> bool:
        """Whether the next `send` needs input from the peer first."""
        return isinstance(self.socket, TLS) and self.socket.wants_input

    @property
    def was_cut(self) -> bool:
        """Whether the connection may have been ended by someone other than the peer."""
        return isinstance(self.socket, TLS) and self.socket.was_cut

    def unacknowledged(self) -> int:
        """Bytes that were sent and that the peer's system has not acknowledged; 0 if the system cannot tell."""
        if not self._tells or self.socket.fileno() < 0:
            return 0
        return self.pending + _unacknowledged(self.socket)

    def is_readable(self) -> bool:
        """Whether a read would return data or the end."""
        return (isinstance(self.socket, TLS) and self.socket.has_input) or is_ready(self.socket, READ)

    def keep_queue_short(self, is_short: bool) -> None:  # noqa: FBT001
        """Limit the unsent bytes that the system queues, or lift the limit."""
        if is_short != self._is_bounded:
            self._is_bounded = is_short
            self._bound_queue(NOTSENT_LOWAT if is_short else _USUAL_LOWAT)

    def _bound_queue(self, count: int) -> None:
        if _TCP_NOTSENT_LOWAT is not None:
            with suppress(OSError):  # not on a Unix socket
                self.socket.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, count)

    def close(self, *, reset: bool = False) -> None:
        """Close it. With a reset, the system drops unsent bytes instead of waiting for the peer to read them."""
        if reset:
            with suppress(OSError):
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.socket.close()

    def interrupt(self) -> None:
        """End it, from any thread. The caller makes sure that it is not closed meanwhile.

        The shutdown wakes the worker's thread. The linger makes the close a reset. Otherwise the end would wait behind
        the unsent bytes for as long as the server does not read them. The worker may be busy elsewhere, in a slow
        observer, so closing its descriptor here would be a race. Instead `dup2` puts a blank socket under the same
        number, which closes the connection at once.
        """
        self.is_interrupted = True
        with suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        if sys.platform != "win32":  # a Windows socket has no file descriptor; the worker closes it
            with suppress(OSError), socket.socket(self.socket.family) as blank:
                os.dup2(blank.fileno(), self.socket.fileno(), inheritable=False)
