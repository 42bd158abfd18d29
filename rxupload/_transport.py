"""`UploadTransport`, an httpx transport that sends over our own HTTP/1.1 and HTTP/2 client."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import httpx

from ._decoding import Bound, coding_of, guard
from ._transfer import EXTENSION
from ._wait import SystemClock
from ._wire.control import PLAIN
from ._wire.dial import SocketOption
from ._wire.environment import PROXY_FORM, Environment, parse_proxy
from ._wire.names import check_host as check_host  # noqa: PLC0414 - for modules that must not import the wire
from ._wire.pool import Limits, Pool
from ._wire.requests import Response, send
from ._wire.route import PORTS, Origin, Route
from ._wire.stream import Stream

if TYPE_CHECKING:
    from ._transfer import Transfer

T = TypeVar("T")

DEFAULT_LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20)  # httpx's own
_NO_LIMITS = {"connect": None, "read": None, "write": None, "pool": None}


class UploadTransport(httpx.BaseTransport):
    """An httpx transport for uploads, to use in a client of your own.

    ::

        client = httpx.Client(transport=rxupload.UploadTransport(verify=context), auth=("user", "password"))
        upload(url, "beach.jpg", client=client)

    `rxupload.Client` uses it for all connections, and is the shorter way. What it offers:

    - Disposing an upload closes its connection at once.
    - A status of 300 or more that comes before the whole body is sent stops the sending. It is the response.
    - `Progress.sent` counts bytes that the server's system has acknowledged (Linux, macOS).
    - `httpx.WriteTimeout` means that no byte moved for that many seconds.
    - Other requests than uploads work as with httpx's own transport.

    With `http2=True`, all of this also holds for an origin that chooses HTTP/2. Each upload has a connection of its
    own, so that uploads neither share the server's windows nor wait for each other.

    The keywords are those of `httpx.HTTPTransport`. A client with `transport=` ignores its own `verify`, `cert` and
    `proxy` and the proxy environment variables: give them here.
    """

    def __init__(
        self,
        verify: ssl.SSLContext | str | bool = True,  # noqa: FBT001, FBT002 - as in httpx
        cert: Any = None,
        trust_env: bool = True,  # noqa: FBT001, FBT002
        http1: bool = True,  # noqa: FBT001, FBT002
        http2: bool = False,  # noqa: FBT001, FBT002
        limits: httpx.Limits = DEFAULT_LIMITS,
        proxy: httpx.Proxy | httpx.URL | str | None = None,
        uds: str | None = None,
        local_address: str | None = None,
        retries: int = 0,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> None:
        via = None if proxy is None else parse_proxy(proxy)
        if proxy is not None and via is None:
            raise ValueError(f"proxy: expected the URL of a proxy: {PROXY_FORM}")
        if http2:
            _check_http2()
        context = _context(verify, cert, trust_env=trust_env)
        options = None if socket_options is None else list(socket_options)
        self._clock = SystemClock()
        self._pool = Pool(
            Limits(limits.max_connections, limits.max_keepalive_connections, limits.keepalive_expiry),
            self._clock,
        )
        self._route = Route(
            context=context.get,
            alpn=["h2"] * http2 + ["http/1.1"] * (http1 or not http2),
            clock=self._clock,
            via=via,
            uds=uds,
            local_address=local_address,
            socket_options=options or (),
            retries=retries,
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and return its response with the body unread."""
        if request.url.scheme not in PORTS:
            scheme = request.url.scheme
            raise httpx.UnsupportedProtocol(
                f"Request URL has an unsupported protocol '{scheme}://'."
                if scheme
                else "Request URL is missing an 'http://' or 'https://' protocol."
            )
        origin = Origin.of(request.url)
        try:
            response = self._send(origin, request)
        except httpx.RequestError as error:
            error.request = request
            raise
        head = response.head
        return httpx.Response(
            head.status,
            headers=head.headers,
            stream=_Body(response, request),
            extensions={
                "http_version": head.version,
                "reason_phrase": head.reason,
                "network_stream": Stream(response.connection, self._clock, response.after),
            },
        )

    def _send(self, origin: Origin, request: httpx.Request) -> Response:
        transfer: Transfer | None = request.extensions.get(EXTENSION)
        if transfer is not None:
            transfer.address = str(request.url)
        target = request.extensions.get("target")
        if isinstance(target, str):
            target = target.encode()
        content = None if transfer is None else transfer.content
        # An auth that signs the body has read it into memory. Then send it from there.
        is_ours = content is not None and not isinstance(request.stream, httpx.ByteStream)
        return send(
            origin,
            request.method.encode(),
            self._route.target(origin, request.url) if target is None else target,
            self._route.headers(origin, request.headers.raw),
            content.pieces if is_ours and content is not None else lambda: _pieces(request),
            route=self._route,
            pool=self._pool,
            control=PLAIN if transfer is None else transfer,
            clock=self._clock,
            timeouts=request.extensions.get("timeout", _NO_LIMITS),
            sni_hostname=request.extensions.get("sni_hostname"),
        )

    def close(self) -> None:
        """Close all connections. Running requests fail."""
        self._pool.close()

    def close_idle(self) -> None:
        """Close the connections that no request uses."""
        self._pool.close_idle()


def _pieces(request: httpx.Request) -> Iterator[bytes | memoryview]:
    stream = request.stream
    if not isinstance(stream, httpx.SyncByteStream):
        raise TypeError("An asynchronous request body cannot be sent by a synchronous transport")
    return map(_checked, stream)


def _checked(piece: Any) -> bytes | memoryview:
    return piece if isinstance(piece, bytes) else memoryview(piece).cast("B")


def _check_http2() -> None:
    try:
        import h2  # noqa: F401, PLC0415 - an optional extra
    except ImportError:
        raise ImportError("http2=True needs an extra: pip install 'rxupload[http2]'") from None


class _Lazy(Generic[T]):
    """Something that is made when it is first needed, once for all threads."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = threading.RLock()  # as that of the default client
        self.made: T | None = None

    def get(self) -> T:
        with self._lock:
            if self.made is None:
                self.made = self._make()
            return self.made


def _context(verify: Any, cert: Any, *, trust_env: bool) -> _Lazy[ssl.SSLContext]:
    """Return the TLS settings. Making them takes 20 ms, so they wait for the first connection."""
    context = _Lazy(partial(httpx.create_ssl_context, verify=verify, cert=cert, trust_env=trust_env))
    if isinstance(verify, ssl.SSLContext) and cert is None:
        context.made = verify
    elif isinstance(verify, str) or cert is not None:
        context.get()  # report errors in the files at once
    return context


class _Body(httpx.SyncByteStream):
    """A response's body as a stream for httpx.

    An auth makes the client read the response to an upload by itself. The upload's limits apply to that, too.
    """

    def __init__(self, response: Response, request: httpx.Request) -> None:
        self._response = response
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        transfer: Transfer | None = self._request.extensions.get(EXTENSION)
        try:
            if transfer is None or transfer.is_reading:
                yield from self._response
            else:
                headers = httpx.Headers(self._response.head.headers)
                coding = coding_of(headers, self._request.headers)
                yield from guard(self._response, coding, Bound(transfer, transfer.keep))
        except httpx.RequestError as error:
            error.request = self._request
            raise

    def close(self) -> None:
        self._response.close()


class RoutingTransport(httpx.BaseTransport):
    """Sends each request over the transport for its proxy, or directly. `proxy` or the environment decides."""

    def __init__(
        self, *, proxy: httpx.Proxy | httpx.URL | str | None = None, trust_env: bool = True, **options: Any
    ) -> None:
        self._proxy = proxy
        self._environment = Environment() if trust_env and proxy is None else None
        self._options = {"trust_env": trust_env, **options}
        self._lock = threading.RLock()  # as that of the default client
        self._transports: dict[str | None, UploadTransport] = {}
        self.direct = UploadTransport(**self._options)  # never uses a proxy
        self._transport(None)  # report an error in `proxy` at once

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and return its response with the body unread."""
        via = None if self._environment is None else self._environment.proxy_for(request.url)
        return self._transport(via).handle_request(request)

    def _transport(self, via: str | None) -> UploadTransport:
        if via is None and self._proxy is None:
            return self.direct
        transport = self._transports.get(via)
        if transport is None:
            with self._lock:
                if via not in self._transports:
                    self._transports[via] = UploadTransport(proxy=via or self._proxy, **self._options)
                transport = self._transports[via]
        return transport

    def _all(self) -> list[UploadTransport]:
        with self._lock:
            return [self.direct, *self._transports.values()]

    def close(self) -> None:
        """Close all connections. Running requests fail."""
        for transport in self._all():
            transport.close()

    def close_idle(self) -> None:
        """Close the connections that no request uses."""
        for transport in self._all():
            transport.close_idle()
