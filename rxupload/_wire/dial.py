"""Connects, over TCP or to a Unix socket, to whichever address of a host answers first.

Every wait is a `pause`: readiness, a deadline or the caller's abort ends it. No descriptor stays open after a failure.
"""

from __future__ import annotations

import errno
import math
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import zip_longest
from typing import Any, TypeAlias, TypeVar

import httpx

from rxupload._wait import WRITE, Clock, Watched

from .control import Control
from .names import Address, resolve
from .pause import pause

T = TypeVar("T")

SocketOption: TypeAlias = (
    tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]
)
Resolve: TypeAlias = Callable[[str, int, Clock, Control, float], Sequence[Address]]
MakeSocket: TypeAlias = Callable[[int, int, int], socket.socket]

# Seconds between two attempts to connect: the "Connection Attempt Delay" of RFC 8305, section 5.
ATTEMPT_DELAY = 0.25
RETRY_DELAY = 0.5  # seconds before the second retry, doubled for each later one, as in httpcore

# Seconds between two tries at a full Unix socket: the first, doubled up to the second
_FIRST_LOOK, _LAST_LOOK = 0.001, 0.1


# TCP


def connect(
    host: str,
    port: int,
    *,
    clock: Clock,
    control: Control,
    timeout: float | None,
    local_address: str | None = None,
    socket_options: Iterable[SocketOption] = (),
    resolver: Resolve = resolve,
    make_socket: MakeSocket = socket.socket,
) -> socket.socket:
    """Connect to whichever address of a host answers first.

    A new attempt begins after 250 ms, or as soon as one fails. The address families take turns (RFC 8305).

    Args:
        host: A name or an IP address.
        port: The port.
        clock: The time.
        control: The caller; `check` raises to stop.
        timeout: Seconds for all of it, the name's lookup included; None for no limit.
        local_address: The IP address to connect from. Only addresses of its family are tried.
        socket_options: Arguments of `setsockopt`, for each attempt's socket.
        resolver: Finds the addresses.
        make_socket: Makes a socket of a family, a type and a protocol.

    Returns:
        A non-blocking socket with TCP_NODELAY.

    Raises:
        httpx.ConnectError: All attempts failed; the text is that of the last one.
        httpx.ConnectTimeout: It took longer than `timeout`.
    """
    where = f"{host}:{port}"
    until = _deadline(clock, timeout)
    control.check()
    local: dict[int, Any] = {}  # the address to bind to, by family
    try:
        addresses = resolver(host, port, clock, control, until)
        if local_address is not None:
            local = {each[0]: each[3] for each in resolver(local_address, 0, clock, control, until)}
            addresses = [each for each in addresses if each[0] in local]
    except httpx.ConnectTimeout:
        raise _timeout(where, timeout) from None
    if not addresses:
        like = f" like {local_address}" if local else ""
        raise httpx.ConnectError(f"{where}: the host has no address{like}")
    options = [*socket_options, (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    with closing(_Race(interleave(addresses), make_socket, options, local)) as race:
        while race.is_on:
            sock = race.start_due(clock)
            if sock is None and race.running:
                if clock.now() >= until:
                    raise _timeout(where, timeout)
                watched = [(each, WRITE) for each in race.running]
                sock = race.winner(pause(clock, control, min(until, race.next_at), watched))
            if sock is not None:
                return sock
        raise _error(where, race.failure)


def interleave(addresses: Iterable[Address]) -> list[Address]:
    """Alternate between address families, starting with that of the first address (RFC 8305, section 4)."""
    families: dict[int, list[Address]] = {}
    for address in addresses:
        families.setdefault(address[0], []).append(address)
    return [address for row in zip_longest(*families.values()) for address in row if address is not None]


class _Race:
    """Attempts to connect in parallel. `close` closes all of them but the winner."""

    def __init__(
        self,
        addresses: Iterable[Address],
        make_socket: MakeSocket,
        options: Sequence[SocketOption],
        local: Mapping[int, Any],
    ) -> None:
        self._left = deque(addresses)
        self._make_socket = make_socket
        self._options = options
        self._local = local
        self._next_at = -math.inf
        self.running: list[socket.socket] = []
        self.failure: OSError | None = None

    @property
    def is_on(self) -> bool:
        """Whether an attempt may still succeed."""
        return bool(self._left or self.running)

    @property
    def next_at(self) -> float:
        """When the next attempt is due."""
        return self._next_at if self._left else math.inf

    def start_due(self, clock: Clock) -> socket.socket | None:
        """Start the attempt that is due, or the next if that fails at once. Return a socket that connects at once."""
        while self._left and clock.now() >= self._next_at:
            family, kind, protocol, sockaddr = self._left.popleft()
            try:
                sock = self._make_socket(family, kind, protocol)
            except (
                OSError
            ) as error:  # this machine lacks the family: any other failure says more about the host
                self.failure = self.failure or error
                continue
            self.running.append(sock)
            try:
                sock.setblocking(False)
                _set_options(sock, self._options)
                if family in self._local:
                    sock.bind(self._local[family])
                sock.connect(sockaddr)
            except BlockingIOError:
                self._next_at = clock.now() + ATTEMPT_DELAY
            except OSError as error:
                self._lose(sock, error)
            else:
                return self._win(sock)
        return None

    def winner(self, ready: Sequence[Watched]) -> socket.socket | None:
        """Return the first ready attempt that connected. Drop the ready ones that failed."""
        for sock in [each for each in self.running if each in ready]:
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if not code:
                return self._win(sock)
            self._lose(sock, OSError(code, os.strerror(code)))
            self._next_at = -math.inf
        return None

    def close(self) -> None:
        """Close every attempt but the winner."""
        while self.running:
            self.running.pop().close()

    def _win(self, sock: socket.socket) -> socket.socket:
        self.running.remove(sock)
        return sock

    def _lose(self, sock: socket.socket, error: OSError) -> None:
        self.failure = error
        self.running.remove(sock)
        sock.close()


# Unix sockets


def connect_unix(
    path: str,
    *,
    clock: Clock,
    control: Control,
    timeout: float | None,
    socket_options: Iterable[SocketOption] = (),
    make_socket: MakeSocket = socket.socket,
) -> socket.socket:
    """Connect to a Unix socket.

    If the listener's queue is full, Linux returns EAGAIN, and no event tells when there is room again. So this place
    has to poll, unlike all others: after 1 ms, then after twice as long each time, up to 100 ms.

    Raises:
        httpx.ConnectError: It failed.
        httpx.ConnectTimeout: It took longer than `timeout` seconds.
    """
    until = _deadline(clock, timeout)
    if not hasattr(socket, "AF_UNIX"):
        raise httpx.ConnectError(f"{path}: this system has no Unix sockets")
    try:
        sock = make_socket(socket.AF_UNIX, socket.SOCK_STREAM, 0)
    except OSError as error:
        raise _error(path, error) from error
    look = _FIRST_LOOK
    try:
        sock.setblocking(False)
        try:
            _set_options(sock, socket_options)
        except OSError as error:
            raise _error(path, error) from error
        while code := _knock(sock, path):
            if clock.now() >= until:
                raise _timeout(path, timeout)  # noqa: TRY301
            if code == errno.EAGAIN:
                pause(clock, control, min(until, clock.now() + look))
                look = min(2 * look, _LAST_LOOK)
            else:
                pause(clock, control, until, [(sock, WRITE)])
    except BaseException:
        sock.close()
        raise
    return sock


def _knock(sock: socket.socket, path: str) -> int:
    """Try to connect. Return 0 once connected, otherwise the errno that says why to wait."""
    try:
        code = sock.connect_ex(path)
    except OSError as error:  # the path is too long
        raise _error(path, error) from error
    if code in {0, errno.EISCONN}:
        return 0
    if code in {errno.EAGAIN, errno.EINPROGRESS, errno.EALREADY}:
        return code
    raise _error(path, OSError(code, os.strerror(code)))


# Retries


def attempts(retries: int, dial: Callable[[], T], *, clock: Clock, control: Control) -> T:
    """Dial; after a failure dial again, after 0, 0.5, 1, 2, 4 seconds and so on, as httpx.HTTPTransport does.

    Args:
        retries: How often to dial again.
        dial: Connects.
        clock: The time.
        control: The caller; `check` raises to stop, which also ends a wait.

    Raises:
        httpx.ConnectError: The last one.
        httpx.ConnectTimeout: The last one.
    """
    delays = _delays()
    while True:
        try:
            return dial()
        except (httpx.ConnectError, httpx.ConnectTimeout):
            if retries <= 0:
                raise
        retries -= 1
        until = clock.now() + next(delays)
        pause(clock, control, until)
        while clock.now() < until:
            pause(clock, control, until)


def _delays() -> Iterator[float]:
    yield 0.0
    delay = RETRY_DELAY
    while True:
        yield delay
        delay *= 2


# Shared by all


def _deadline(clock: Clock, timeout: float | None) -> float:
    return math.inf if timeout is None else clock.now() + timeout


def _set_options(sock: socket.socket, options: Iterable[SocketOption]) -> None:
    for option in options:
        sock.setsockopt(*option)  # pyright: ignore[reportCallIssue, reportArgumentType]


def _error(where: str, error: OSError | None) -> httpx.ConnectError:
    failure = httpx.ConnectError(f"{where}: {(error and error.strerror) or error}")
    failure.__cause__ = error
    return failure


def _timeout(where: str, timeout: float | None) -> httpx.ConnectTimeout:
    return httpx.ConnectTimeout(f"No connection to {where} for {timeout:g} s")
