"""Reaches an origin directly, over a Unix socket, or through a proxy, and makes the connections for it."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import httpx

from rxupload._wait import Clock

from . import dial, proxy
from .connection import Connection
from .control import Control
from .tls import Socket, start_tls

SOCKS = ("socks5", "socks5h")
PORTS = {"http": 80, "https": 443}


class Origin(NamedTuple):
    """The server of a request: scheme, host and port (RFC 6454)."""

    scheme: str
    host: str
    port: int

    @staticmethod
    def of(url: httpx.URL) -> Origin:
        """Return the origin of a URL."""
        try:
            host = url.host
        except UnicodeError:  # "xn--" and then no valid IDNA: the lookup will fail
            host = url.raw_host.decode("ascii")
        return Origin(url.scheme, host, url.port or PORTS[url.scheme])


class Route:
    """Dials connections to an origin."""

    def __init__(
        self,
        *,
        context: Callable[[], ssl.SSLContext],
        alpn: Sequence[str],
        clock: Clock,
        via: httpx.Proxy | None = None,
        uds: str | None = None,
        local_address: str | None = None,
        socket_options: Iterable[dial.SocketOption] = (),
        retries: int = 0,
    ) -> None:
        self._context = context
        self._alpn = list(alpn)
        self._clock = clock
        self._via = via
        self._uds = uds
        self._local_address = local_address
        self._socket_options = tuple(socket_options)
        self._retries = retries
        if via is not None and via.url.scheme in SOCKS:
            proxy.check_socks()

    def is_forwarded(self, origin: Origin) -> bool:
        """Whether an HTTP proxy forwards the request, so that the request needs the whole URL as its target."""
        return self._via is not None and origin.scheme == "http" and self._via.url.scheme not in SOCKS

    def key(self, origin: Origin, sni_hostname: str | None) -> object:
        """Return the pool's key: requests with the same key may share a connection."""
        return "forwarded" if self.is_forwarded(origin) else (origin, sni_hostname)

    def target(self, origin: Origin, url: httpx.URL) -> bytes:
        """Return the request's target (RFC 9112, section 3.2)."""
        return proxy.forward_target(url) if self.is_forwarded(origin) else url.raw_path or b"/"

    def headers(self, origin: Origin, headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """Return the request's headers, with those for a proxy that forwards it.

        The zone of an IPv6 address means nothing to the server, so it is left out of the Host (RFC 6874, section 4).
        """
        if "%" in origin.host:
            headers = [
                (name, _without_zone(value) if name.lower() == b"host" else value) for name, value in headers
            ]
        if self._via is None or not self.is_forwarded(origin):
            return list(headers)
        named = {name.lower() for name, _ in headers}
        extra = [header for header in proxy.forward_headers(self._via) if header[0].lower() not in named]
        return [*headers, *extra]

    def dial(
        self,
        origin: Origin,
        *,
        control: Control,
        timeouts: Mapping[str, float | None],
        sni_hostname: str | None = None,
    ) -> Connection:
        """Connect, and retry as often as this route allows.

        Raises:
            httpx.ConnectError: The last attempt failed.
            httpx.ConnectTimeout: The last attempt took longer than the connect limit.
            httpx.ProxyError: The proxy refused.
        """
        return dial.attempts(
            self._retries,
            lambda: self._dial(origin, control, timeouts.get("connect"), sni_hostname),
            clock=self._clock,
            control=control,
        )

    def _dial(
        self, origin: Origin, control: Control, timeout: float | None, sni_hostname: str | None
    ) -> Connection:
        sock: Socket = self._first_socket(origin, control, timeout)
        try:
            if self._via is not None:
                sock = self._through_proxy(sock, origin, control, timeout)
            if origin.scheme == "https":
                context = self._context()
                context.set_alpn_protocols(self._alpn)
                sock = self._tls(sock, context, sni_hostname or origin.host, origin.port, control, timeout)
        except BaseException:
            sock.close()
            raise
        return Connection(sock, is_http2=self._alpn == ["h2"] and not self.is_forwarded(origin))

    def _first_socket(self, origin: Origin, control: Control, timeout: float | None) -> Socket:
        if self._uds is not None:
            return dial.connect_unix(
                self._uds,
                clock=self._clock,
                control=control,
                timeout=timeout,
                socket_options=self._socket_options,
            )
        host, port = origin.host, origin.port
        if self._via is not None:
            host = self._via.url.host
            port = self._via.url.port or PORTS.get(self._via.url.scheme, 1080)
        try:
            return dial.connect(
                host,
                port,
                clock=self._clock,
                control=control,
                timeout=timeout,
                local_address=self._local_address,
                socket_options=self._socket_options,
            )
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            if self._via is None:
                raise
            raise _of_the_proxy(error) from error.__cause__

    def _through_proxy(self, sock: Socket, origin: Origin, control: Control, timeout: float | None) -> Socket:
        assert self._via is not None
        via = self._via
        until = float("inf") if timeout is None else self._clock.now() + timeout
        if via.url.scheme == "https":
            context = via.ssl_context or ssl.create_default_context()
            context.set_alpn_protocols(["http/1.1"])
            try:
                sock = self._tls(sock, context, via.url.host, via.url.port or 443, control, timeout)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                raise _of_the_proxy(error) from error.__cause__
        if via.url.scheme in SOCKS:
            proxy.socks5(
                sock, origin.host, origin.port, via.raw_auth, clock=self._clock, control=control, until=until
            )
        elif origin.scheme == "https":
            proxy.tunnel(
                sock,
                origin.host,
                origin.port,
                via.headers.raw,
                via.raw_auth,
                clock=self._clock,
                control=control,
                until=until,
            )
        return sock

    def _tls(
        self,
        sock: Socket,
        context: ssl.SSLContext,
        hostname: str,
        port: int,
        control: Control,
        timeout: float | None,
    ) -> Socket:
        return start_tls(sock, context, hostname, port, clock=self._clock, control=control, timeout=timeout)


def _of_the_proxy(error: httpx.TransportError) -> httpx.TransportError:
    """The error that says whose it is: the address of a proxy may come from the environment, unseen."""
    return type(error)(f"The proxy: {error}")


def _without_zone(host: bytes) -> bytes:
    return re.sub(rb"%[^\]]*", b"", host)
