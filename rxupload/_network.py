"""Connections that an upload can abort at any moment, hear on while it sends, and measure.

httpcore works on top of this through its public `NetworkBackend` and `NetworkStream`. All sockets are non-blocking,
and there is one place that waits (`_Waiting`): for at most 50 ms at a time, looking at the clock, the abort and the
progress in between. A stream finds the upload that uses it through `Transfer.current()`; without one (a request that
is no upload) it behaves as httpcore's own.
"""

from __future__ import annotations

import array
import math
import os
import re
import select
import socket
import ssl
import struct
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from threading import Lock
from typing import Any, NoReturn, TypeAlias, TypeVar

import httpcore

from ._throttle import Allowance
from ._transfer import LOOK_SECONDS, Pass, Transfer

T = TypeVar("T")
Socket: TypeAlias = "socket.socket | _TLS"

# Bytes that are encrypted at a time: seven full records (RFC 8446, section 5.1). Together they stay below the 128 KiB
# from which on glibc asks the system for memory each time: so 1 GiB takes 0.33 s in the system, else 0.59 s.
TLS_SLICE = 7 * 16 * 1024
NOTSENT_LOWAT = 128 * 1024  # bytes that the system holds ready to send, where it is to hold few
HEAR = 64 * 1024  # bytes of what the server says that are taken between two sends
CONTINUE_SECONDS = 1.0  # for the server's word after `Expect: 100-continue`
_TOO_LONG = 100 * 1024  # bytes of a response head; h11's own limit
_BLANK_LINE = re.compile(rb"\n\r?\n")

_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_RESET_ON_CLOSE = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


class Backend(httpcore.NetworkBackend):
    """Connects, over TCP or to a Unix socket, without blocking."""

    def __init__(self, *, multiplexed: bool = False) -> None:
        self._multiplexed = multiplexed  # HTTP/2 without TLS, where no handshake tells

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Try each address of the host in turn, for `timeout` seconds each, as socket.create_connection does."""
        where = f"{host}:{port}"
        try:
            addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpcore.ConnectError(f"{where}: {error}") from error
        failure: httpcore.NetworkError | httpcore.TimeoutException | None = None
        for family, kind, protocol, _, address in addresses:
            try:
                sock = socket.socket(family, kind, protocol)
            except OSError as error:  # a family that this machine lacks
                failure = httpcore.ConnectError(f"{where}: {error}")
                continue
            try:
                _set_options(sock, socket_options)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if local_address is not None:
                    sock.bind((local_address, 0))
                _connect(sock, address, where, timeout)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                sock.close()
                failure = error
            except OSError as error:
                sock.close()
                failure = httpcore.ConnectError(f"{where}: {error}")
            except BaseException:
                sock.close()
                raise
            else:
                return Stream(sock, multiplexed=self._multiplexed)
        raise failure or httpcore.ConnectError(f"{where}: the name has no address")

    def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to a Unix socket."""
        sock = socket.socket(socket.AF_UNIX)
        try:
            _set_options(sock, socket_options)
            _connect(sock, path, path, timeout)
        except BaseException:
            sock.close()
            raise
        return Stream(sock, multiplexed=self._multiplexed)

    def sleep(self, seconds: float) -> None:
        """Wait between two attempts to connect (`retries=`); an abort ends it."""
        until = time.monotonic() + seconds
        transfer = Transfer.current()
        while (left := until - time.monotonic()) > 0:
            if transfer is not None:
                transfer.check()
            time.sleep(min(left, LOOK_SECONDS))


def _set_options(sock: socket.socket, options: Iterable[httpcore.SOCKET_OPTION] | None) -> None:
    for option in options or ():
        sock.setsockopt(*option)  # pyright: ignore[reportCallIssue, reportArgumentType]


def _connect(sock: socket.socket, address: Any, where: str, timeout: float | None) -> None:
    sock.setblocking(False)
    waiting = _Waiting(
        sock, httpcore.ConnectTimeout, f"No connection to {where}", timeout, Transfer.current()
    )
    with _interruptible(sock):
        try:
            while True:
                try:
                    sock.connect(address)
                except BlockingIOError:  # in progress; from a Unix socket: its queue is full
                    if sock.family != getattr(socket, "AF_UNIX", None):
                        break
                    waiting.slice()  # no poll would tell when there is room
                else:
                    return
            while not waiting.slice(write=True):
                pass
        except OSError as error:
            raise httpcore.ConnectError(f"{where}: {error.strerror or error}") from error
        if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise httpcore.ConnectError(f"{where}: {os.strerror(code)}")


@contextmanager
def _interruptible(sock: Socket) -> Iterator[None]:
    """Let an abort end a wait on a socket that is no stream yet."""
    transfer = Transfer.current()
    if transfer is None:
        yield
        return

    def interrupt() -> None:
        _reset(sock)

    transfer.attach(interrupt)
    try:
        yield
    finally:
        transfer.detach(interrupt)


def _reset(sock: Socket) -> None:
    """End a connection from another thread than the one that waits for it.

    The shutdown wakes that thread. Closing then sends a reset: without the linger, the end would wait behind the unsent
    bytes for as long as the server does not read them. But that thread may be busy elsewhere, in a slow observer, and
    closing its descriptor's number under it would be a race: so the number gets another, blank socket.
    """
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    if sys.platform != "win32":  # there a socket is no file descriptor, and waits for the worker
        with suppress(OSError), socket.socket(sock.family) as blank:
            os.dup2(blank.fileno(), sock.fileno(), inheritable=False)


class _Waiting:
    """Waiting for a socket: at most 50 ms at a time, and no longer than a limit without any movement."""

    def __init__(
        self,
        sock: Socket,
        timeout_error: type[httpcore.TimeoutException],
        what: str,
        limit: float | None,
        transfer: Transfer | None,
    ) -> None:
        self._sock = sock
        self._transfer = transfer
        self._timeout_error = timeout_error
        self._what = what
        self._limit = math.inf if limit is None else limit
        self._moved: object = None
        self._since = time.monotonic()

    def moved(self, state: object) -> None:
        """Begin to wait anew if the state has changed."""
        if state != self._moved:
            self._moved = state
            self._since = time.monotonic()

    @contextmanager
    def left_out(self) -> Iterator[None]:
        """Inside this with block no time counts."""
        began = time.monotonic()
        yield
        self._since += time.monotonic() - began

    def slice(self, *, read: bool = False, write: bool = False) -> bool:
        """Wait once; whether the socket is ready. Raises the timeout, and the reason to stop if there is one."""
        left = self._limit - (time.monotonic() - self._since)
        left_in_all = math.inf
        if self._transfer is not None:
            self._transfer.check()
            left_in_all = self._transfer.remaining()
        if left <= 0:
            so_far = "" if self._transfer is None else self._transfer.so_far()
            raise self._timeout_error(f"{self._what} for {self._limit:g} s{so_far}")
        seconds = min(left, left_in_all, LOOK_SECONDS)
        return _poll(self._sock, max(0.0, seconds), read=read, write=write)  # negative would be for ever


def _poll(sock: Socket, seconds: float, *, read: bool = False, write: bool = False) -> bool:
    if not read and not write:
        time.sleep(seconds)
        return False
    if sock.fileno() < 0:  # closed by another thread: client.close(), or the pool that thought it idle
        return True
    if not hasattr(select, "poll"):
        # Windows tells of a connection that failed through the third set alone.
        return any(select.select([sock] * read, [sock] * write, [sock] * write, seconds))
    poll = select.poll()
    poll.register(sock, select.POLLIN * read | select.POLLOUT * write)
    return bool(poll.poll(math.ceil(seconds * 1000)))


# What the system holds that the peer has not acknowledged

if sys.platform == "linux":
    import fcntl
    import termios

    def _unacknowledged(sock: Socket) -> int | None:
        """SIOCOUTQ, tcp(7); a Unix socket answers too, but counts its buffers' overhead."""
        if sock.family not in (socket.AF_INET, socket.AF_INET6):
            return None
        count = array.array("i", [0])
        fcntl.ioctl(sock, termios.TIOCOUTQ, count)
        return count[0]

elif sys.platform == "darwin":
    _SO_NWRITE = 0x1024  # sys/socket.h

    def _unacknowledged(sock: Socket) -> int | None:
        """SO_NWRITE, of xnu's sys/socket.h."""
        if sock.family not in (socket.AF_INET, socket.AF_INET6):
            return None
        return sock.getsockopt(socket.SOL_SOCKET, _SO_NWRITE)

else:

    def _unacknowledged(sock: Socket) -> int | None:  # noqa: ARG001
        """Nobody tells here: what was handed over counts."""
        return None


_TCP_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", None)
# Of an upload that is not held back: the system's own, but where nobody tells what is unacknowledged.
_USUAL_LOWAT = 0 if sys.platform in ("linux", "darwin") else NOTSENT_LOWAT


class Stream(httpcore.NetworkStream):
    """One connection, plain or TLS."""

    def __init__(self, sock: Socket, *, multiplexed: bool = False) -> None:
        sock.setblocking(False)
        self._sock = sock
        if _USUAL_LOWAT:
            self._bound_queue(_USUAL_LOWAT)
        self._multiplexed = multiplexed  # several uploads share it, so none may stop, measure or hear it
        self._transfer: Transfer | None = None
        self._used = False  # a request has been answered on it
        self._is_bounded = False  # the system's queue is kept short for an upload that is held back
        self._begin_request()

    def _begin_request(self) -> None:
        self._at_start = True
        self._answer = _Answer()
        self._body: Pass | None = None  # once some of it was sent
        self._on_the_wire = _BodyOnTheWire()
        self._written = 0  # bytes of this request, before TLS
        self._write_limit: float | None = None
        self._cut_short = False
        if self._is_bounded:
            self._bound_queue(_USUAL_LOWAT)
        self._is_bounded = False

    # httpcore's interface

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of it.

        Raises:
            httpcore.ConnectionNotAvailable: The server closed it while it was idle; the pool takes another.
            httpcore.WriteError: The connection is broken, or the server has given its final answer: httpcore then
                goes on to read that.
            httpcore.WriteTimeout: For `timeout` seconds neither the written nor the unacknowledged count changed.
        """
        transfer = self._join()
        if self._at_start:
            self._at_start = False
            if self._used and self._is_readable():
                raise httpcore.ConnectionNotAvailable
        self._write_limit = timeout
        if transfer is not None and transfer.body is not None and transfer.body.piece > 0:
            self._begin_piece(transfer.body, len(buffer), asking=transfer.expects_continue)
        elif self._body is None:
            self._answer = _Answer()  # what came until now was a SOCKS proxy's
        waiting = self._waiting(httpcore.WriteTimeout, "The server took no data", timeout)
        with memoryview(buffer) as view:
            self._send_all(view, waiting)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Receive what there is.

        Raises:
            httpcore.ReadError: The connection ended or was reset before a whole response head was there.
            httpcore.RemoteProtocolError: What came is not HTTP.
            httpcore.ReadTimeout: Nothing came for `timeout` seconds after the peer had acknowledged everything.
            httpcore.WriteTimeout: Before that, for the `timeout` of the last write it acknowledged nothing.
        """
        self._join()
        if self._answer.held:
            self._settle()
            return self._answer.take(max_bytes)
        if self._body is not None and self._answer.is_garbage:  # h11 would wait for the end of a line
            raise httpcore.RemoteProtocolError("The server's answer is not HTTP")
        draining = self._waiting(httpcore.WriteTimeout, "The server took no data", self._write_limit)
        waiting: _Waiting | None = None
        while True:
            try:
                data = self._sock.recv(max_bytes)
                break
            except _WOULD_BLOCK:
                unacknowledged = self._report() if self._body is not None and not self._answer.is_final else 0
                if unacknowledged:
                    draining.moved(unacknowledged)
                    with self._unless_paused(draining):
                        draining.slice(read=True)
                else:
                    waiting = waiting or self._waiting(httpcore.ReadTimeout, "No response", timeout)
                    waiting.slice(read=True)
            except OSError as error:
                self._raise_if_stopped()
                raise httpcore.ReadError(
                    f"The connection broke before the response was whole: {error}{self._so_far()}"
                ) from error
        self._report()
        self._answer.feed(data)
        self._settle()
        if not data:
            self._raise_if_stopped()
            if self._answer.is_missing:
                raise httpcore.ReadError(
                    f"The server closed the connection before it answered{self._so_far()}"
                )
        return data

    def close(self) -> None:
        """Close it; with a reset, where the request was not sent whole or has no answer."""
        self.leave()
        if self._cut_short or (self._body is not None and self._answer.status is None):
            with suppress(OSError):
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._sock.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """Go on in TLS."""
        self.leave()
        what = f"No TLS handshake with {server_hostname}"
        waiting = _Waiting(self._sock, httpcore.ConnectTimeout, what, timeout, Transfer.current())
        try:
            tls = _TLS(self._sock, ssl_context, server_hostname)
            with _interruptible(tls):
                while not tls.shake_hands():
                    waiting.slice(read=True, write=tls.pending > 0)
        except OSError as error:
            self._sock.close()
            raise httpcore.ConnectError(f"TLS with {server_hostname}: {error}") from error
        except BaseException:
            self._sock.close()
            raise
        return Stream(tls, multiplexed=tls.object.selected_alpn_protocol() == "h2")

    def get_extra_info(self, info: str) -> Any:
        """What httpcore asks of a stream."""
        match info:
            case "ssl_object":
                return self._sock.object if isinstance(self._sock, _TLS) else None
            case "client_addr":
                return self._sock.getsockname()
            case "server_addr":
                return self._sock.getpeername()
            case "socket":
                return self._sock
            case "is_readable":  # httpcore does not use one again that is, while idle
                return self._cut_short or self._is_readable()
            case _:
                return None

    # The transport's interface

    def leave(self) -> None:
        """Take it from the upload that uses it: from here on an abort leaves it alone."""
        if self._transfer is not None:
            self._transfer.detach(self._interrupt)
            self._transfer = None

    def finish_request(self) -> None:
        """The response has been read, or given up: what comes next is another request."""
        if self._multiplexed:
            return
        self.leave()
        self._used = True
        if not self._cut_short:
            self._begin_request()

    @property
    def has_ended(self) -> bool:
        """Whether the server has closed its side."""
        return self._answer.has_ended

    # The rest

    def _join(self) -> Transfer | None:
        if self._multiplexed:
            return None
        transfer = Transfer.current()
        if transfer is not self._transfer:
            self.leave()
            self._transfer = transfer
            if transfer is not None:
                transfer.attach(self._interrupt, self._listen)
        if transfer is not None:
            transfer.check()
        return transfer

    def _bound_queue(self, count: int) -> None:
        """Have the system take no more while so many bytes are not sent yet; 0 for its default."""
        if _TCP_NOTSENT_LOWAT is not None:
            with suppress(OSError):  # not on a Unix socket
                self._sock.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, count)

    def _interrupt(self) -> None:
        _reset(self._sock)

    def _listen(self) -> None:
        """Look at the server and at the progress, while the worker waits for more of the body."""
        self._report()
        self._hear()

    def _so_far(self) -> str:
        return "" if self._transfer is None else self._transfer.so_far()

    @property
    def _allowance(self) -> Allowance | None:
        return None if self._transfer is None else self._transfer.allowance

    def _unless_paused(self, waiting: _Waiting) -> AbstractContextManager[None]:
        """Inside this with block time counts, but not in a pause: then nobody knows what the server would take."""
        is_paused = self._allowance is not None and self._allowance.paused_for() > 0
        return waiting.left_out() if is_paused else nullcontext()

    def _raise_if_stopped(self) -> None:
        if self._transfer is not None:
            self._transfer.check()

    def _waiting(
        self, timeout_error: type[httpcore.TimeoutException], what: str, limit: float | None
    ) -> _Waiting:
        return _Waiting(self._sock, timeout_error, what, limit, self._transfer)

    def _is_readable(self) -> bool:
        held = isinstance(self._sock, _TLS) and self._sock.has_input
        return held or _poll(self._sock, 0, read=True)

    def _pending(self) -> int:
        """Bytes that were written, and that the system has not taken yet."""
        return self._sock.pending if isinstance(self._sock, _TLS) else 0

    def _begin_piece(self, body: Pass, length: int, *, asking: bool) -> None:
        """What is sent next, so many bytes, has the next piece of the body in it."""
        if self._body is None and self._allowance is not None:
            self._is_bounded = True
            self._bound_queue(NOTSENT_LOWAT)
        self._body = body
        body.measure()
        self._on_the_wire.add(self._written, length, body.piece)
        if asking and body.handed_over == 0:
            self._await_continue()

    def _send_all(self, view: memoryview, waiting: _Waiting) -> None:
        if self._body is not None and view:  # h11 writes an empty end
            self._hear()
        done = 0
        while done < len(view) or self._pending():
            count = self._send_some(view[done:], waiting)
            done += count
            self._written += count
            if self._body is not None and self._body.is_due():
                self._report()

    def _send_some(self, data: memoryview, waiting: _Waiting) -> int:
        """Send what may go and the system takes; where that is nothing, wait for it."""
        allowance = None if self._body is None else self._allowance
        size = len(data) if allowance is None else self._await_grant(allowance, len(data), waiting)
        count, is_blocked = 0, False
        try:
            count = self._sock.send(data[:size])
        except _WOULD_BLOCK:
            is_blocked = True
        except OSError as error:
            self._break_off(f"The connection broke while sending: {error}", error)
        finally:
            if allowance is not None:
                allowance.give_back(size - count)
        while is_blocked:
            self._wait_to_send(waiting)
            # Who has to ask for leave, and perhaps to share, does so when it can use it.
            is_blocked = allowance is not None and not _poll(self._sock, 0, write=True)
        return count

    def _await_grant(self, allowance: Allowance, wanted: int, waiting: _Waiting) -> int:
        """Wait until some bytes may go, and return how many. Meanwhile it is not the server that stands still."""
        assert self._transfer is not None
        with waiting.left_out():
            return self._transfer.await_grant(allowance, wanted)

    def _wait_to_send(self, waiting: _Waiting) -> None:
        waiting.moved((self._written, self._report()))
        try:
            with self._unless_paused(waiting):
                waiting.slice(read=self._body is not None and not self._answer.is_final, write=True)
            waiting.moved((self._written, self._report()))  # before the next send fills up what has gone
        except httpcore.WriteTimeout:
            if not self._answer.is_final:
                raise
            self._break_off("The server has answered, and takes no more data")
        if self._body is not None:
            self._hear()

    def _hear(self) -> None:
        """Look at what the server says while the body is on its way."""
        if self._answer.is_final or not self._is_readable():
            return
        heard = 0
        while not self._answer.is_final and heard < HEAR:
            try:
                data = self._sock.recv(HEAR)
            except _WOULD_BLOCK:
                return
            except OSError as error:
                self._break_off(f"The connection broke while sending: {error}", error)
            heard += len(data)
            self._answer.hold(data)
        if self._answer.ends_the_request:
            self._break_off("The server answered before it had the whole body")

    def _await_continue(self) -> None:
        """Hold the body until the server asks for it, or for a second: RFC 9110, section 10.1.1."""
        until = time.monotonic() + CONTINUE_SECONDS
        waiting = self._waiting(httpcore.WriteTimeout, "No word", None)
        while not self._answer.has_continued and not self._answer.is_final and time.monotonic() < until:
            waiting.slice(read=True)
            self._hear()

    def _break_off(self, message: str, cause: OSError | None = None) -> NoReturn:
        """Send no more of this request, and let httpcore read what the server has said."""
        self._cut_short = True
        self._raise_if_stopped()
        if self._used and not self._written:  # closed while idle, and after the look at the start
            raise httpcore.ConnectionNotAvailable from cause
        raise httpcore.WriteError(message + self._so_far()) from cause

    def _report(self) -> int:
        """Tell the upload what has arrived. Returns the bytes that are still on their way."""
        if self._sock.fileno() < 0:  # closed by another thread
            return 0
        unacknowledged = self._pending() + (_unacknowledged(self._sock) or 0)
        if self._body is not None:
            self._body.arrived(self._on_the_wire.arrived(self._written - unacknowledged))
            if self._body.is_whole and not unacknowledged:
                self._body.all_arrived()
        return unacknowledged

    def _settle(self) -> None:
        """A response below 300 says that the body has arrived, whatever the system has heard of it."""
        if self._body is not None and self._body.is_whole and self._answer.is_success:
            self._body.all_arrived()


class _TLS:
    """TLS over a socket, with as much of a socket's interface as a stream uses.

    That socket may be one of these itself: https through an https proxy.

    The records are made here, in memory, and not by an `ssl.SSLSocket`. That tells of what it was given only when all
    of it is written, and after it blocked wants the same again; and it makes a system call for each record.
    """

    def __init__(self, beneath: Socket, context: ssl.SSLContext, server_hostname: str | None) -> None:
        self._beneath = beneath
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._records = b""  # from the outgoing ones, and not sent yet
        self._lock = Lock()  # over HTTP/2 one thread may read while another writes
        self.object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)

    def __getattr__(self, name: str) -> Any:
        """What has nothing to do with this layer: options, addresses, shutdown, close."""
        return getattr(self._beneath, name)

    def fileno(self) -> int:
        """The descriptor of the socket at the bottom."""
        return self._beneath.fileno()

    @property
    def pending(self) -> int:
        """Bytes of records that are still to be sent, with the next `send`."""
        beneath = self._beneath.pending if isinstance(self._beneath, _TLS) else 0
        return len(self._records) + self._outgoing.pending + beneath

    @property
    def has_input(self) -> bool:
        """Whether there is something to read that the system does not tell of any more."""
        return self._incoming.pending > 0 or (isinstance(self._beneath, _TLS) and self._beneath.has_input)

    def shake_hands(self) -> bool:
        """Go on with the handshake; whether it is done."""
        try:
            self._with_input(self.object.do_handshake)
            self._flush()
        except _WOULD_BLOCK:
            return False
        except ssl.SSLError:
            with suppress(OSError):  # the alert by which the server learns why
                self._flush()
            raise
        return True

    def send(self, data: bytes | memoryview) -> int:
        """Send what is pending, then what the system takes of the data; the last slice of that may become pending."""
        count = 0
        with self._lock:
            try:
                self._flush()
                while count < len(data):
                    part = data[count : count + TLS_SLICE]
                    count += self._with_input(partial(self.object.write, part))
                    self._flush()
            except _WOULD_BLOCK:
                if not count:
                    raise
        return count

    def recv(self, max_bytes: int) -> bytes:
        """Receive what there is; b"" at the end."""
        with self._lock, suppress(ssl.SSLEOFError, ssl.SSLZeroReturnError):
            # What is pending stays so: a pause may hold it, and a peer that takes no more is heard all the same.
            return self._with_input(partial(self.object.read, max_bytes), flush=not self.pending)
        return b""

    def _with_input(self, action: Callable[[], T], *, flush: bool = True) -> T:
        while True:
            try:
                return action()
            except ssl.SSLWantReadError:
                if flush:  # what the protocol itself has to say
                    with suppress(OSError):
                        self._flush()
                data = self._beneath.recv(65536)
                self._incoming.write(data) if data else self._incoming.write_eof()

    def _flush(self) -> None:
        while records := self._records or self._outgoing.read():
            self._records = records
            self._records = records[self._beneath.send(records) :]
        if isinstance(self._beneath, _TLS):
            self._beneath.send(b"")


class _Answer:
    """The response as far as it has come: enough of it to know whether to go on sending.

    RFC 9112, section 9.3 lets a server answer at any time; RFC 9110, section 15.2: 1xx is not the final answer.
    """

    def __init__(self) -> None:
        self.status: int | None = None  # the final one
        self.has_continued = False  # it said 100
        self.is_garbage = False
        self.has_ended = False
        self._head = bytearray()
        self._head_is_whole = False
        self._held = bytearray()

    @property
    def held(self) -> bool:
        """Whether there is something for httpcore to read."""
        return bool(self._held)

    @property
    def is_final(self) -> bool:
        """Whether nothing more needs to be heard while the body is sent."""
        return self.status is not None or self.is_garbage or self.has_ended

    @property
    def is_success(self) -> bool:
        """Whether the final status is below 300."""
        return self.status is not None and self.status < 300  # noqa: PLR2004

    @property
    def ends_the_request(self) -> bool:
        """Whether it is of no use to send more of the body."""
        return self.is_final and not self.is_success

    @property
    def is_missing(self) -> bool:
        """Whether the server closed before a whole head; what is no HTTP is not missing but wrong."""
        return self.has_ended and not self._head_is_whole and not self.is_garbage

    def hold(self, data: bytes) -> None:
        """Take what came while the body was sent, and keep it until httpcore reads it."""
        self._held += data
        self.feed(data)

    def take(self, max_bytes: int) -> bytes:
        """What was kept."""
        data = bytes(self._held[:max_bytes])
        del self._held[:max_bytes]
        return data

    def feed(self, data: bytes) -> None:
        """Look at what came."""
        if not data:
            self.has_ended = True
        if self._head_is_whole or self.is_garbage:
            return
        self._head += data
        while self._head and not self._head_is_whole and not self.is_garbage:
            if not self._look():
                break

    def _look(self) -> bool:
        """Look at the head at the front; whether there may be another one behind it."""
        begin = bytes(self._head[:12])  # HTTP/1.1 200
        if begin[:5] != b"HTTP/"[: len(begin)]:
            self.is_garbage = True
            return False
        if len(begin) < 12:  # noqa: PLR2004
            return False
        if not begin[9:].isdigit():
            self.is_garbage = True
            return False
        status = int(begin[9:])
        is_final = status >= 200 or status == 101  # noqa: PLR2004
        self.has_continued |= status == 100  # noqa: PLR2004
        if is_final:
            self.status = status
        end = _BLANK_LINE.search(self._head)
        if end is None:
            self.is_garbage = len(self._head) > _TOO_LONG
            return False
        if not is_final:  # nobody asks for it, and no number of them may fill the memory
            del self._held[: end.end()]
        del self._head[: end.end()]
        self._head_is_whole = is_final
        return True


class _BodyOnTheWire:
    """Which bytes of the request are the body's: a chunked one has frames, and a head comes before it."""

    def __init__(self) -> None:
        self._pieces: deque[tuple[int, int, int]] = (
            deque()
        )  # first byte on the wire, bytes of frame, of content
        self._arrived = 0  # bytes of the pieces that are no longer in the deque

    def add(self, start: int, length: int, content: int) -> None:
        """A piece of so much content begins at `start` and is `length` bytes long on the wire."""
        self._pieces.append((start, length - content, content))

    def arrived(self, wire: int) -> int:
        """Bytes of the body among the first `wire` bytes of the request."""
        while self._pieces:
            start, frame, content = self._pieces[0]
            into = wire - start - frame  # as if the whole frame stood in front: never too many
            if into < content:
                return self._arrived + max(0, into)
            self._arrived += content
            self._pieces.popleft()
        return self._arrived
