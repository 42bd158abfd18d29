"""The client that uploads use when they are given none."""

from __future__ import annotations

import atexit
import os
import threading
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx

_lock = threading.Lock()
_client: httpx.Client | None = None

# A server may take minutes over the last byte before it answers (a virus scan, a copy to another store).
_TIMEOUT = httpx.Timeout(connect=30.0, write=60.0, read=600.0, pool=None)


def default_client() -> httpx.Client:
    """Return the client that uploads without one of their own share; made on first use, from any thread.

    It stores no cookies, for unrelated uploads share it, and has no limit on connections.
    """
    global _client  # noqa: PLW0603
    with _lock:
        if _client is None:
            _client = httpx.Client(
                timeout=_TIMEOUT,
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            )
        return _client


@atexit.register
def _close() -> None:
    if _client is not None:
        _client.close()


def _forget() -> None:
    """In a forked child: the parent's connections are the parent's, and its lock may be held by no one here."""
    global _lock, _client  # noqa: PLW0603
    _lock = threading.Lock()
    _client = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
