"""Goes through a proxy: opens a tunnel by CONNECT or SOCKS 5, and prepares requests that a proxy forwards.

Both kinds of tunnel use an open connection to the proxy, plain or TLS. They read nothing beyond the proxy's answer, so
the next byte is the server's. The caller closes the connection when they raise.
"""

from __future__ import annotations

import base64
import re
import ssl
from collections.abc import Iterable
from typing import Protocol

import httpx

from rxupload._wait import READ, WRITE, Clock, Watched

from .control import Control
from .names import encode_host
from .pause import pause
from .response import QUOTED

Headers = Iterable[tuple[bytes, bytes]]
Auth = tuple[bytes, bytes]  # user name and password

HEAD_LIMIT = 100 * 1024  # bytes of the answer to CONNECT, informational responses included
_PIECE = 16 * 1024

_BLANK_LINE = re.compile(rb"\n\r?\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.[0-9] ([0-9]{3})(?: ([^\r\n]*))?\r?\n")
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, section 5.6.2
_VALUE = re.compile(rb"[^\0\r\n]*")

_SOCKS_VERSION = 5
_CREDENTIAL_LIMIT = 255  # bytes, RFC 1929
_IPV4, _NAME_OF_HOST, _IPV6 = 1, 3, 4  # RFC 1928, section 5
_METHODS = {
    0x00: "NO AUTHENTICATION REQUIRED",
    0x01: "GSSAPI",
    0x02: "USERNAME/PASSWORD",
    0xFF: "NO ACCEPTABLE METHODS",
}
_REPLIES = {
    1: "General SOCKS server failure",
    2: "Connection not allowed by ruleset",
    3: "Network unreachable",
    4: "Host unreachable",
    5: "Connection refused",
    6: "TTL expired",
    7: "Command not supported",
    8: "Address type not supported",
}


class Stream(Watched, Protocol):
    """A non-blocking connection: a socket, or TLS over one."""

    def recv(self, size: int, /) -> bytes:
        """Receive some bytes. Raise BlockingIOError, ssl.SSLWantReadError or ssl.SSLWantWriteError if it must wait."""
        ...

    def send(self, data: bytes, /) -> int:
        """Send some bytes; return how many. Raise as `recv` does if it must wait."""
        ...


def tunnel(
    sock: Stream,
    host: str,
    port: int,
    headers: Headers = (),
    auth: Auth | None = None,
    *,
    clock: Clock,
    control: Control,
    until: float,
) -> None:
    """Ask an HTTP proxy for a tunnel (RFC 9110, section 9.3.6).

    Args:
        sock: The connection to the proxy.
        host: The server's name or IP address. The proxy looks a name up.
        port: The server's port.
        headers: Headers for the proxy. They replace the default ones of the same name.
        auth: User name and password for the proxy, as in `httpx.Proxy.raw_auth`.
        clock: The time.
        control: The caller; `check` raises to stop.
        until: The deadline for the tunnel, on the clock.

    Raises:
        httpx.ProxyError: The proxy refused, closed the connection, or sent an invalid answer.
        httpx.ConnectTimeout: `until` has passed.
        httpx.LocalProtocolError: A header is invalid.
    """
    target = _authority(host, port)
    lines = [b"CONNECT %b HTTP/1.1" % target]
    defaults = [(b"Host", target), (b"Accept", b"*/*")]
    for name, value in _merge([*defaults, *_authorization(auth)], headers):
        if not _NAME.fullmatch(name):
            raise httpx.LocalProtocolError("Illegal header for the proxy: its name is not a token")
        if not _VALUE.fullmatch(value):
            raise httpx.LocalProtocolError(f"Illegal header for the proxy: {name!r}")
        lines.append(name + b": " + value)
    proxy = _Dialogue(sock, clock, control, until, f"CONNECT {target.decode()}")
    proxy.send(b"\r\n".join([*lines, b"", b""]))
    status, reason, rest = _read_answer(proxy)
    if not httpx.codes.is_success(status):
        raise httpx.ProxyError(f"{status} {reason}".rstrip())
    if rest:
        raise httpx.ProxyError("The proxy sent more than its answer to CONNECT")


def socks5(
    sock: Stream,
    host: str,
    port: int,
    auth: Auth | None = None,
    *,
    clock: Clock,
    control: Control,
    until: float,
) -> None:
    """Ask a SOCKS 5 proxy for a tunnel (RFC 1928, RFC 1929); arguments as for `tunnel`.

    Raises:
        ImportError: The package `socksio` is missing.
        httpx.ProxyError: The proxy refused, closed the connection, or sent an invalid answer.
        httpx.ConnectTimeout: `until` has passed.
    """
    check_socks()
    from socksio import ProtocolError  # noqa: PLC0415 (optional)

    if auth is not None and max(map(len, auth)) > _CREDENTIAL_LIMIT:
        raise httpx.ProxyError(f"A SOCKS user name or password has at most {_CREDENTIAL_LIMIT} bytes")
    target = _authority(host, port).decode()
    try:
        _negotiate(_Dialogue(sock, clock, control, until, f"SOCKS to {target}"), host, port, auth)
    except ProtocolError as error:
        raise httpx.ProxyError(f"The SOCKS proxy: {error}") from error


def check_socks() -> None:
    """Check that SOCKS is available.

    Raises:
        ImportError: The package `socksio` is missing.
    """
    try:
        import socksio  # noqa: F401, PLC0415 (optional)
    except ImportError:
        raise ImportError(
            "Using SOCKS proxy, but the 'socksio' package is not installed. "
            "Make sure to install httpx using `pip install httpx[socks]`."
        ) from None


def forward_headers(proxy: httpx.Proxy) -> list[tuple[bytes, bytes]]:
    """Return the headers that a forwarded request carries for the proxy. The request's own ones take precedence."""
    return _merge(_authorization(proxy.raw_auth), proxy.headers.raw)


def forward_target(url: httpx.URL) -> bytes:
    """Return the target of a forwarded request: the absolute form without user and fragment (RFC 9112, 3.2.2)."""
    authority = _bracketed(encode_host(url.host))
    if url.port is not None:
        authority += b":%d" % url.port
    return url.raw_scheme + b"://" + authority + url.raw_path


# Sent to the proxy


def _authority(host: str, port: int) -> bytes:
    return b"%b:%d" % (_bracketed(encode_host(host)), port)


def _bracketed(host: bytes) -> bytes:
    address, _, _ = host.partition(b"%")  # a zone means nothing on another machine
    return b"[%b]" % address if b":" in address else host


def _merge(defaults: Headers, headers: Headers) -> list[tuple[bytes, bytes]]:
    headers = list(headers)
    named = {name.lower() for name, _ in headers}
    return [each for each in defaults if each[0].lower() not in named] + headers


def _authorization(auth: Auth | None) -> list[tuple[bytes, bytes]]:
    if auth is None:
        return []
    return [(b"Proxy-Authorization", b"Basic " + base64.b64encode(b":".join(auth)))]


# Received from the proxy


class _Dialogue:
    """Sends and receives within one time limit."""

    def __init__(self, sock: Stream, clock: Clock, control: Control, until: float, what: str) -> None:
        self._sock = sock
        self._clock = clock
        self._control = control
        self._until = until
        self._what = what

    def send(self, data: bytes) -> None:
        """Send all of it."""
        while data:
            try:
                data = data[self._sock.send(data) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._wait(WRITE)
            except ssl.SSLWantReadError:
                self._wait(READ)
            except OSError as error:
                raise self._broken(error) from error

    def receive(self, size: int) -> bytes:
        """Receive at least one byte, and at most `size`."""
        while True:
            try:
                data = self._sock.recv(size)
            except (BlockingIOError, ssl.SSLWantReadError):
                self._wait(READ)
            except ssl.SSLWantWriteError:
                self._wait(WRITE)
            except OSError as error:
                raise self._broken(error) from error
            else:
                if not data:
                    raise httpx.ProxyError(
                        f"The proxy closed the connection before its answer to {self._what}"
                    )
                return data

    def receive_exactly(self, size: int) -> bytes:
        """Receive exactly `size` bytes."""
        data = b""
        while len(data) < size:
            data += self.receive(size - len(data))
        return data

    def _wait(self, events: int) -> None:
        if self._clock.now() >= self._until:
            raise httpx.ConnectTimeout(f"The proxy did not answer to {self._what} in time")
        pause(self._clock, self._control, self._until, [(self._sock, events)])

    def _broken(self, error: OSError) -> httpx.ProxyError:
        return httpx.ProxyError(f"The connection to the proxy broke: {error.strerror or error}")


def _read_answer(proxy: _Dialogue) -> tuple[int, str, bytes]:
    """Read the head of the final answer. Return its status, its reason, and any bytes that came after it."""
    buffer = bytearray()
    room = HEAD_LIMIT
    while True:
        searched = 0
        while (end := _BLANK_LINE.search(buffer, searched)) is None:
            if buffer[:5] != b"HTTP/"[: len(buffer)]:
                raise httpx.ProxyError("The proxy's answer is not HTTP")
            if not room:
                raise httpx.ProxyError(
                    f"The head of the proxy's answer is longer than {HEAD_LIMIT // 1024} KiB"
                )
            searched = max(0, len(buffer) - 2)
            data = proxy.receive(min(room, _PIECE))
            room -= len(data)
            buffer += data
        line = _STATUS_LINE.match(buffer)
        if line is None:
            raise httpx.ProxyError("The proxy's answer is not HTTP")
        status, reason = int(line[1]), (line[2] or b"")[:QUOTED].decode("ascii", errors="ignore")
        del buffer[: end.end()]
        if not httpx.codes.is_informational(status) or status == httpx.codes.SWITCHING_PROTOCOLS:
            return status, "".join(filter(str.isprintable, reason)), bytes(buffer)


def _negotiate(proxy: _Dialogue, host: str, port: int, auth: Auth | None) -> None:
    """Speak SOCKS. socksio makes and parses the messages, and needs each answer whole."""
    from socksio import socks5 as socks  # noqa: PLC0415 (optional)

    methods = socks.SOCKS5AuthMethod
    method = methods.NO_AUTH_REQUIRED if auth is None else methods.USERNAME_PASSWORD
    proxy.send(socks.SOCKS5AuthMethodsRequest([method]).dumps())
    answer = proxy.receive_exactly(2)
    _check_version(answer)
    if answer[1:] != method:
        wanted, chosen = (_METHODS.get(each, "UNKNOWN") for each in (method[0], answer[1]))
        raise httpx.ProxyError(f"Requested {wanted} from proxy server, but got {chosen}.")

    if auth is not None:
        proxy.send(socks.SOCKS5UsernamePasswordRequest(*auth).dumps())
        if not socks.SOCKS5UsernamePasswordReply.loads(proxy.receive_exactly(2)).success:
            raise httpx.ProxyError("Invalid username/password")

    name, _, _ = encode_host(host).decode().partition("%")
    proxy.send(socks.SOCKS5CommandRequest.from_address(socks.SOCKS5Command.CONNECT, (name, port)).dumps())
    answer = proxy.receive_exactly(4)
    _check_version(answer)
    if answer[1]:  # refused: the rest of the answer has no meaning, and may never come
        raise httpx.ProxyError(f"Proxy Server could not connect: {_REPLIES.get(answer[1], 'UNKNOWN')}.")
    answer += proxy.receive_exactly(1)
    length = {_IPV4: 4, _IPV6: 16, _NAME_OF_HOST: 1 + answer[4]}.get(answer[3], 1)
    socks.SOCKS5Reply.loads(answer + proxy.receive_exactly(length - 1 + 2))


def _check_version(answer: bytes) -> None:
    if answer[0] != _SOCKS_VERSION:
        raise httpx.ProxyError("The proxy's answer is not SOCKS 5")
