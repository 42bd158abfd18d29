"""What a client must offer, and the default client that all uploads without one of their own share."""

from __future__ import annotations

import atexit
import os
import threading
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Protocol

import httpx

from ._transport import UploadTransport


class HTTPClient(Protocol):
    """What a client must offer: `httpx.Client` does, and `httpx2.Client`."""

    def build_request(self, method: str, url: Any, *, content: Any = ..., headers: Any = ...) -> Any:
        """Return a request that carries the client's own defaults, with `headers`, `url`, `extensions`."""

    def send(self, request: Any, *, stream: bool = ..., follow_redirects: Any = ...) -> Any:
        """Send it, and return the response with its body still unread."""


# A server may take minutes after the last byte (a virus scan, a copy to another store) before it answers.
_TIMEOUT = httpx.Timeout(connect=30.0, write=60.0, read=600.0, pool=None)
_lock = threading.Lock()
_client: httpx.Client | None = None


class _DefaultClient(httpx.Client):
    """A client all of whose transports are ours: with `transport=`, httpx would ignore the proxy variables."""

    def _init_transport(self, *, transport: None = None, **options: Any) -> httpx.BaseTransport:  # type: ignore[override]  # noqa: ARG002
        return UploadTransport(**options)

    def _init_proxy_transport(self, proxy: httpx.Proxy, **options: Any) -> httpx.BaseTransport:  # type: ignore[override]
        return UploadTransport(proxy=proxy, **options)


def default_client() -> httpx.Client:
    """Return the client that uploads without one of their own share; made on first use, from any thread.

    It stores no cookies, for unrelated uploads share it, and has no limit on connections.
    """
    global _client  # noqa: PLW0603
    with _lock:
        if _client is None:
            _client = _DefaultClient(
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
                timeout=_TIMEOUT,
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            )
        return _client


@atexit.register
def _close_default_client() -> None:
    if _client is not None:
        _client.close()


def _forget_default_client() -> None:
    """In a forked child: the connections are the parent's, and the lock may be held by a thread that is not here."""
    global _lock, _client  # noqa: PLW0603
    _lock = threading.Lock()
    _client = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_default_client)
