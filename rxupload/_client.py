"""`Client`, an httpx client that uses our transport, and the default client that uploads share."""

from __future__ import annotations

import atexit
import logging
import os
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import timedelta
from http.cookiejar import CookieJar
from typing import Any, Protocol, TypeAlias, cast

import httpx

from ._addresses import parse_url, shown
from ._arguments import Auth, HeaderTypes, check_headers
from ._reading import read
from ._transfer import EXTENSION
from ._transport import DEFAULT_LIMITS, RoutingTransport

AuthTypes: TypeAlias = (
    httpx.Auth | tuple[str | bytes, str | bytes] | Callable[[httpx.Request], httpx.Request] | None
)
CookieTypes: TypeAlias = httpx.Cookies | CookieJar | dict[str, str] | list[tuple[str, str]] | None
ParamTypes: TypeAlias = httpx.QueryParams | Mapping[str, Any] | Sequence[tuple[str, Any]] | str | bytes | None
TimeoutTypes: TypeAlias = (
    float | tuple[float | None, float | None, float | None, float | None] | httpx.Timeout | None
)

# After the last byte, a server may take minutes to answer: it scans for viruses, or copies to another store.
_TIMEOUT = httpx.Timeout(connect=30.0, write=60.0, read=600.0, pool=None)


class HTTPClient(Protocol):
    """The methods that a client must have. `httpx.Client` and `httpx2.Client` have them.

    If a client also has `timeout`, `headers` and `stream` like httpx's, the upload uses `stream`, because some clients
    add a token there. A redirect to another origin always uses `build_request` and `send`, with `auth=None` if `send`
    takes it.
    """

    def build_request(self, method: str, url: Any, *, content: Any = ..., headers: Any = ...) -> Any:
        """Return a request that carries the client's own defaults, with `headers`, `url`, `extensions`."""

    def send(self, request: Any, *, stream: bool = ..., follow_redirects: Any = ...) -> Any:
        """Send the request, and return the response with its body unread."""


class Client(httpx.Client):
    """An `httpx.Client` for uploads, with the same keywords: auth, headers, timeouts, TLS settings, proxies.

    ::

        with rxupload.Client(verify=context, auth=("user", "password"), timeout=60) as client:
            upload(url, "beach.jpg", client=client).run()

    An upload does not close it: use it in a `with`, or call `close()` after its last upload.

    It uses `UploadTransport`. It reads the proxy environment variables when it is made: HTTP_PROXY, HTTPS_PROXY,
    ALL_PROXY and NO_PROXY. NO_PROXY may contain hosts, IPv4 and IPv6 addresses, and networks (CIDR). `mounts` take
    precedence, as in httpx. A mount of None means no proxy. The default time limits suit uploads, unlike httpx's: 30 s
    for a connection, 60 s for the server to take a byte, 600 s for the response.

    httpx itself logs the whole address of each request of this client, at INFO to the logger "httpx": with the query,
    and with user and password. The default client, which uploads without a client share, logs neither. What the library
    itself says and logs has no user, password, query or fragment of an address, and no header's value.

    Raises:
        TypeError: `transport` is given, which would replace `UploadTransport`.
        ValueError: A header or the proxy's URL is invalid. The text does not quote it: it may hold a secret.
    """

    def __init__(
        self,
        *,
        auth: AuthTypes = None,
        params: ParamTypes = None,
        headers: HeaderTypes | None = None,
        cookies: CookieTypes = None,
        verify: ssl.SSLContext | str | bool = True,
        cert: str | tuple[str, str] | tuple[str, str, str] | None = None,
        trust_env: bool = True,
        http1: bool = True,
        http2: bool = False,
        proxy: httpx.Proxy | httpx.URL | str | None = None,
        mounts: Mapping[str, httpx.BaseTransport | None] | None = None,
        timeout: TimeoutTypes = _TIMEOUT,
        follow_redirects: bool = False,
        limits: httpx.Limits = DEFAULT_LIMITS,
        max_redirects: int = 20,
        event_hooks: Mapping[str, list[Callable[..., Any]]] | None = None,
        base_url: httpx.URL | str = "",
        transport: None = None,
        default_encoding: str | Callable[[bytes], str] = "utf-8",
    ) -> None:
        if transport is not None:
            raise TypeError(
                "transport: a Client has a transport of its own; use httpx.Client(transport=...) instead"
            )
        routing = RoutingTransport(
            verify=verify,
            cert=cert,
            trust_env=trust_env,
            http1=http1,
            http2=http2,
            proxy=proxy,
            limits=limits,
        )
        direct = {key: routing.direct if each is None else each for key, each in (mounts or {}).items()}
        super().__init__(
            auth=auth,
            params=cast("Any", params),
            headers=check_headers(headers),
            cookies=cookies,
            trust_env=trust_env,
            mounts=direct,
            timeout=timeout,
            follow_redirects=follow_redirects,
            max_redirects=max_redirects,
            event_hooks=event_hooks,
            base_url=base_url,
            transport=routing,
            default_encoding=default_encoding,
        )


_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=20)
_HEADERS = (
    (b"Accept", b"*/*"),
    (b"Accept-Encoding", b"gzip, deflate"),
    (b"Connection", b"keep-alive"),
    (b"User-Agent", f"python-httpx/{httpx.__version__}".encode()),
)

_logger = logging.getLogger("rxupload")


class DefaultClient:
    """The client of uploads that have none: it stores no cookies, and does not limit the number of connections."""

    follow_redirects = False
    max_redirects = 20

    def __init__(self, timeout: httpx.Timeout = _TIMEOUT) -> None:
        self._timeout = timeout.as_dict()
        self._transport = RoutingTransport(limits=_LIMITS)

    def build_request(
        self, method: str, url: Any, *, content: Any = None, headers: Any = None
    ) -> httpx.Request:
        """Return a request."""
        parsed = parse_url(str(url))
        named = {name.lower() for name, _ in headers or ()}
        extra = [(name, value) for name, value in _HEADERS if name.lower() not in named]
        host = [] if b"host" in named else [(b"Host", parsed.netloc.rpartition(b"@")[2])]
        return httpx.Request(
            method,
            parsed,
            headers=[*host, *extra, *(headers or ())],
            stream=httpx.ByteStream(content or b"") if isinstance(content, bytes | None) else content,
            extensions={"timeout": dict(self._timeout)},
        )

    def send(
        self,
        request: httpx.Request,
        *,
        stream: bool = True,
        follow_redirects: bool = False,
        auth: Auth = None,
    ) -> httpx.Response:
        """Send the request, and return the response with its body unread."""
        assert stream
        assert not follow_redirects
        url = request.url
        if auth is not None:
            return self._send_with(auth, request)
        if "Authorization" not in request.headers and (url.username or url.password):
            request = next(httpx.BasicAuth(url.username, url.password).sync_auth_flow(request))
        return self._send(request)

    def _send_with(self, auth: Any, request: httpx.Request) -> httpx.Response:
        """Send the requests that an auth makes of one, as an `httpx.Client` does."""
        if isinstance(auth, tuple):
            auth = httpx.BasicAuth(*auth)
        elif not hasattr(auth, "sync_auth_flow"):
            return self._send(auth(request))
        transfer = request.extensions[EXTENSION]
        history: list[httpx.Response] = []
        with closing(auth.sync_auth_flow(request)) as flow:
            request = next(flow)
            while True:
                request.extensions.setdefault("timeout", dict(self._timeout))  # one of its own has none
                response = self._send(request)
                response.history = list(history)
                try:
                    if auth.requires_response_body:
                        read(response, transfer, transfer.keep)
                    request = flow.send(response)
                    read(response, transfer, transfer.keep)
                except StopIteration:
                    return response
                except BaseException:
                    response.close()
                    raise
                history.append(response)

    def _send(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        since = time.perf_counter()
        response = self._transport.handle_request(request)
        response.request = request
        response.elapsed = timedelta(seconds=time.perf_counter() - since)
        if _logger.isEnabledFor(logging.INFO):
            transfer = request.extensions.get(EXTENSION)
            name = shown(getattr(transfer, "alias", None) or url)
            _logger.info("%s %s: %d %s", request.method, name, response.status_code, response.reason_phrase)
        return response

    def close(self) -> None:
        """Close all connections. Running uploads fail."""
        self._transport.close()

    def close_idle(self) -> None:
        """Close the connections that no upload uses."""
        self._transport.close_idle()


_lock = threading.RLock()  # reentrant, because a signal handler may upload while its own thread holds it
_client: DefaultClient | None = None


def default_client() -> DefaultClient:
    """Return the client that uploads without a client share. Any thread may call this; the first call makes it."""
    global _client  # noqa: PLW0603
    if (client := _client) is not None:
        return client
    with _lock:
        if _client is None:
            client = DefaultClient()
            _client = _client or client  # a signal handler may have made one meanwhile
        return _client


@atexit.register
def _close_idle() -> None:
    # Leave the connections in use open: running tasks must end as aborted, and not by an error.
    if _client is not None:
        _client.close_idle()


def _forget_default_client() -> None:
    """Start afresh in a forked child: the connections are the parent's, and a thread of it may have held the lock."""
    global _lock, _client  # noqa: PLW0603
    _lock = threading.RLock()
    _client = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_default_client)
