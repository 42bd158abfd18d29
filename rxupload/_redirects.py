"""Redirects, hop by hop, for every client: where the body may go next, and what must not go with it.

301, 307 and 308 send the body again with the method kept: an endpoint that moved must not turn an upload into a GET
that answers 200. 302 and 303 become GET, as in browsers (WHATWG Fetch, "HTTP-redirect fetch"; RFC 9110, section 15.4).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import httpx

from ._arguments import FollowRedirects
from ._errors import RedirectRefused
from ._transport import check_host

_WITH_BODY = (301, 307, 308)
_AS_GET = (302, 303)
_CREDENTIALS = ("auth", "token", "key", "secret", "session", "signature", "cookie")
_PORTS = {"http": 80, "https": 443}

_logger = logging.getLogger("rxupload")


@dataclass(frozen=True, slots=True)
class Hop:
    """One request of an upload.

    Attributes:
        url: Where to.
        method: The request method.
        headers: The caller's headers.
        has_body: Whether the body goes.
        is_elsewhere: Whether it goes to another origin than the first, so that the client's credentials must not.
    """

    url: str
    method: str
    headers: Sequence[tuple[bytes, bytes]]
    has_body: bool = True
    is_elsewhere: bool = False


def is_redirect(response: Any) -> bool:
    """Whether it says where to go instead."""
    return response.status_code in (*_WITH_BODY, *_AS_GET) and "location" in response.headers


def next_hop(hop: Hop, response: Any, follow: FollowRedirects) -> Hop:
    """The request that a redirect asks for.

    Raises:
        RedirectRefused: It leads from https to http, or to another origin where that is not wanted.
        httpx.RemoteProtocolError: It leads to an address that cannot be.
        httpx.UnsupportedProtocol: It leads to something else than http or https.
    """
    here = httpx.URL(str(response.request.url))
    there = _target(here, response.headers["location"])
    if here.scheme == "https" and there.scheme == "http":
        raise RedirectRefused(
            f"The server redirects from https to http, to {_shown(there)}; that is not followed"
        )
    is_other = not _is_same_origin(here, there)
    if is_other and follow == "same-origin":
        raise RedirectRefused(
            f"The server redirects to another origin, {_shown(there)}; that is not followed"
        )
    has_body = hop.has_body and response.status_code in _WITH_BODY
    if is_other and has_body:
        _logger.warning(
            "The upload to %s is redirected, and its body goes to %s", _shown(here), _shown(there)
        )
    headers = [
        (name, value)
        for name, value in hop.headers
        if not (is_other and _stays_behind(name)) and (has_body or name.lower() != b"expect")
    ]
    method = hop.method
    if response.status_code in _AS_GET and method != "HEAD":
        method = "GET"
    return replace(
        hop,
        url=str(there),
        method=method,
        headers=headers,
        has_body=has_body,
        is_elsewhere=hop.is_elsewhere or is_other,
    )


def strip_credentials(headers: Any) -> None:
    """Take out of a request's headers what a client has put in for the first origin."""
    for name in list(headers):
        if _stays_behind(name.encode()) and name.lower() != "host":
            del headers[name]


def _target(here: httpx.URL, location: str) -> httpx.URL:
    try:
        there = here.join(httpx.URL(location))
        if there.scheme in _PORTS:
            if not there.host:
                raise ValueError("there is no host")  # noqa: TRY301
            check_host(there.host)
            if there.port is not None and not 0 < there.port < 1 << 16:
                raise ValueError("there is no such port")  # noqa: TRY301
    except (httpx.InvalidURL, ValueError):  # no text of theirs: the Location may hold secrets
        raise httpx.RemoteProtocolError("The server redirects to an address that cannot be") from None
    if there.scheme not in _PORTS:
        raise httpx.UnsupportedProtocol(
            f"The server redirects to {there.scheme}:, which is neither http nor https"
        )
    if here.fragment and not there.fragment:
        there = there.copy_with(fragment=here.fragment)
    return there


def _is_same_origin(one: httpx.URL, other: httpx.URL) -> bool:
    """The same host from http to https, each on its own port, is no other."""
    if one.host != other.host:
        return False
    ports = (one.port or _PORTS[one.scheme], other.port or _PORTS[other.scheme])
    if one.scheme == other.scheme:
        return ports[0] == ports[1]
    return (one.scheme, other.scheme) == ("http", "https") and ports == (80, 443)


def _stays_behind(name: bytes) -> bool:
    key = name.decode("latin-1").lower()
    return key == "host" or any(word in key for word in _CREDENTIALS)


def _shown(url: httpx.URL) -> str:
    """An address without what may be secret in it."""
    return str(url.copy_with(userinfo=b"", query=None, fragment=None))
