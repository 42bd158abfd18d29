"""One connection, plain or TLS: sending, receiving, ending it from another thread, and what the system holds of it."""

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

NOTSENT_LOWAT = 128 * 1024  # bytes that the system holds ready to send, where it is to hold few

_RESET_ON_CLOSE = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
_TCP_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", None)
# Of an upload that is not held back: the system's own, but where nobody tells what is unacknowledged.
_USUAL_LOWAT = 0 if sys.platform in ("linux", "darwin") else NOTSENT_LOWAT

# What the system holds that the peer has not acknowledged

if sys.platform == "linux":
    import fcntl
    import termios

    def _unacknowledged(sock: Socket) -> int:
        """SIOCOUTQ, tcp(7)."""
        count = array.array("i", [0])
        fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, count)
        return count[0]

elif sys.platform == "darwin":
    _SO_NWRITE = 0x1024  # sys/socket.h

    def _unacknowledged(sock: Socket) -> int:
        """SO_NWRITE, of xnu's sys/socket.h."""
        return int(sock.getsockopt(socket.SOL_SOCKET, _SO_NWRITE))

else:

    def _unacknowledged(sock: Socket) -> int:  # noqa: ARG001
        """Nobody tells here: what was handed over counts."""
        return 0


class Connection:
    """A connected socket that does not block. The worker's, but for `interrupt`.

    Attributes:
        socket: The socket, or the TLS over it.
        is_used: A request has been answered on it.
        is_interrupted: It was ended by `interrupt`.
        expires: When it is too old to be used again; of one that is idle.
    """

    def __init__(self, sock: Socket, key: Any = None) -> None:
        self.socket = sock
        self.key = key
        self.is_used = False
        self.is_interrupted = False
        self.expires = float("inf")
        self.can_sendfile = isinstance(sock, socket.socket) and hasattr(os, "sendfile")
        # A Unix socket answers too, but counts its buffers' overhead.
        self._tells = sock.family in (socket.AF_INET, socket.AF_INET6)
        self._is_bounded = False
        if _USUAL_LOWAT:
            self._bound_queue(_USUAL_LOWAT)

    def fileno(self) -> int:
        """The descriptor's number; negative, if it is closed."""
        return self.socket.fileno()

    def send(self, data: bytes | memoryview) -> int:
        """Send what the system takes."""
        return self.socket.send(data)

    def sendfile(self, file: int, offset: int, count: int) -> int:
        """Send so much of a file as the system takes, without a copy; 0 at the file's end."""
        return os.sendfile(self.socket.fileno(), file, offset, count)

    def recv(self, max_bytes: int) -> bytes:
        """Receive what there is; b"" at the end."""
        return self.socket.recv(max_bytes)

    @property
    def pending(self) -> int:
        """Bytes that were sent, and that the system has not taken yet."""
        return self.socket.pending if isinstance(self.socket, TLS) else 0

    @property
    def speaks_http2(self) -> bool:
        """Whether the server chose HTTP/2 in the handshake (RFC 7301)."""
        return isinstance(self.socket, TLS) and self.socket.object.selected_alpn_protocol() == "h2"

    @property
    def wants_input(self) -> bool:
        """Whether sending goes on only when something has been received."""
        return isinstance(self.socket, TLS) and self.socket.wants_input

    @property
    def was_cut(self) -> bool:
        """Whether its end may be another's doing than the peer's."""
        return isinstance(self.socket, TLS) and self.socket.was_cut

    def unacknowledged(self) -> int:
        """Bytes that were sent, and that the peer's system has not acknowledged; 0 where nobody knows."""
        if not self._tells or self.socket.fileno() < 0:
            return 0
        return self.pending + _unacknowledged(self.socket)

    def is_readable(self) -> bool:
        """Whether there is something to read, or an end of it."""
        return (isinstance(self.socket, TLS) and self.socket.has_input) or is_ready(self.socket, READ)

    def keep_queue_short(self, is_short: bool) -> None:  # noqa: FBT001
        """Have the system hold little that was not sent yet, or as much as it likes."""
        if is_short != self._is_bounded:
            self._is_bounded = is_short
            self._bound_queue(NOTSENT_LOWAT if is_short else _USUAL_LOWAT)

    def _bound_queue(self, count: int) -> None:
        if _TCP_NOTSENT_LOWAT is not None:
            with suppress(OSError):  # not on a Unix socket
                self.socket.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, count)

    def close(self, *, reset: bool = False) -> None:
        """Close it; with a reset, the end does not wait behind bytes that the peer does not read."""
        if reset:
            with suppress(OSError):
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.socket.close()

    def interrupt(self) -> None:
        """End it, from another thread than the one that works with it. The caller sees to it that it is not closed.

        The shutdown wakes that thread. Closing then sends a reset: without the linger, the end would wait behind the
        unsent bytes for as long as the server does not read them. But that thread may be busy elsewhere, in a slow
        observer, and closing its descriptor's number under it would be a race: so the number gets another, blank
        socket.
        """
        self.is_interrupted = True
        with suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        if sys.platform != "win32":  # there a socket is no file descriptor, and waits for the worker
            with suppress(OSError), socket.socket(self.socket.family) as blank:
                os.dup2(blank.fileno(), self.socket.fileno(), inheritable=False)
