"""Redirects, hop by hop, for every client: where the body may go next, and what must not go with it.

301, 307 and 308 send the body again with the method kept: an endpoint that moved must not turn an upload into a GET
that answers 200. 302 and 303 become GET, as in browsers (WHATWG Fetch, "HTTP-redirect fetch"; RFC 9110, section 15.4).

To another origin no credential of the first goes, and none of the client's. Where the Location itself names a user and
a password, those are the server's own: they are sent to where it says, as curl does, and nowhere else. Those of the
first address go on with it as long as the origin stays the same.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from ._arguments import FollowRedirects
from ._errors import RedirectRefused
from ._transport import check_host

_WITH_BODY = (301, 307, 308)
_AS_GET = (302, 303)
_CREDENTIALS = (
    "auth",
    "bearer",
    "cookie",
    "credential",
    "csrf",
    "jwt",
    "key",
    "passphrase",
    "password",
    "secret",
    "session",
    "signature",
    "token",
    "xsrf",
)
# It names the upload, so that the other origin can recognise a repetition.
_NO_CREDENTIALS = ("idempotency-key",)
_OF_THE_BODY = ("content-type", "content-length", "transfer-encoding", "expect")
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
        is_first: Whether no redirect has led here.
        is_elsewhere: Whether it goes to another origin than the first, so that the client's credentials must not.
    """

    url: str
    method: str
    headers: Sequence[tuple[bytes, bytes]]
    has_body: bool = True
    is_first: bool = True
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
    try:
        there = _target(here, response.headers["location"])
        _check_target(here, there, follow)
    except httpx.RequestError as error:
        error.request = response.request
        raise
    after = _after(hop, response.status_code, here, there)
    if after.has_body and not _is_same_origin(here, there):
        _logger.warning(
            "The upload to %s is redirected, and its body goes to %s", _shown(here), _shown(there)
        )
    return after


def is_of_the_location(error: Exception) -> bool:
    """Whether a client fails because the Location cannot be: httpx reads it also where it is not to follow it."""
    return type(error).__name__ == "InvalidURL" or str(error).startswith("Invalid URL in location header")


def wrong_location(hop: Hop | None = None) -> httpx.RemoteProtocolError:
    """The error for an address that cannot be, with nothing of the address, for it may hold secrets."""
    request = None if hop is None else httpx.Request(hop.method, hop.url)
    return httpx.RemoteProtocolError("The server redirects to an address that cannot be", request=request)


def next_request(hop: Hop, response: Any) -> Any:
    """The request that a redirect asks for which is not followed, without its body; None where there can be none."""
    here = httpx.URL(str(response.request.url))
    try:
        there = _target(here, response.headers["location"])
    except httpx.RequestError:
        return None
    after = _after(hop, response.status_code, here, there)
    library = sys.modules[type(response).__module__.partition(".")[0]]
    request: Any = getattr(library, "Request", httpx.Request)
    return request(after.method, after.url, headers=after.headers)


def prepare(request: Any, hop: Hop) -> None:
    """Take out of a redirected request what a client has put in that must not go with it."""
    if str(request.url) != hop.url:  # the client's `params` would replace the query that the server asks for
        request.url = type(request.url)(hop.url)
    if not hop.has_body:
        for name in _OF_THE_BODY:
            request.headers.pop(name, None)
    if hop.is_elsewhere:
        for name in list(request.headers):
            if _stays_behind(name.encode()) and name != "host":
                del request.headers[name]
        request.headers["Host"] = httpx.URL(hop.url).netloc.decode("ascii")


def is_prepared_by(client: Any, hop: Hop) -> bool:
    """Whether a client's defaults have nothing in them that must not go with this request."""
    if hop.is_elsewhere or (getattr(client, "params", None) and not hop.is_first):
        return False
    unwanted = ("transfer-encoding",) if hop.has_body else _OF_THE_BODY
    return not any(name in client.headers for name in unwanted)


def _target(here: httpx.URL, location: str) -> httpx.URL:
    try:
        url = httpx.URL(location)
        if url.scheme in _PORTS and not url.host:  # "https:///path": as httpx takes it
            url = url.copy_with(host=here.host)
        there = here.join(url)
        if there.scheme in _PORTS:
            check_host(there.host)
            if there.port is not None and not 0 < there.port < 1 << 16:
                raise ValueError("there is no such port")  # noqa: TRY301
    except (httpx.InvalidURL, ValueError):
        raise wrong_location() from None
    if here.fragment and not there.fragment:
        there = there.copy_with(fragment=here.fragment)
    if there.scheme in _PORTS and not there.userinfo and _is_same_origin(here, there):
        there = there.copy_with(userinfo=here.userinfo)
    return there


def _check_target(here: httpx.URL, there: httpx.URL, follow: FollowRedirects) -> None:
    if there.scheme not in _PORTS:
        raise httpx.UnsupportedProtocol(
            f"The server redirects to {there.scheme}:, which is neither http nor https"
        )
    if here.scheme == "https" and there.scheme == "http":
        raise RedirectRefused(
            f"The server redirects from https to http, to {_shown(there)}; that is not followed"
        )
    if follow == "same-origin" and not _is_same_origin(here, there):
        raise RedirectRefused(
            f"The server redirects to another origin, {_shown(there)}; that is not followed"
        )


def _after(hop: Hop, status: int, here: httpx.URL, there: httpx.URL) -> Hop:
    is_other = not _is_same_origin(here, there)
    has_body = hop.has_body and status in _WITH_BODY
    headers = [
        (name, value)
        for name, value in hop.headers
        if not (is_other and _stays_behind(name)) and (has_body or name.lower() != b"expect")
    ]
    becomes_get = status in _AS_GET and hop.method.upper() != "HEAD"
    return Hop(
        str(there),
        "GET" if becomes_get else hop.method,
        headers,
        has_body=has_body,
        is_first=False,
        is_elsewhere=hop.is_elsewhere or is_other,
    )


def _is_same_origin(one: httpx.URL, other: httpx.URL) -> bool:
    """The same host from http to https, each on its own port, is no other."""
    if one.host != other.host or not {one.scheme, other.scheme} <= set(_PORTS):
        return False
    ports = (one.port or _PORTS[one.scheme], other.port or _PORTS[other.scheme])
    if one.scheme == other.scheme:
        return ports[0] == ports[1]
    return (one.scheme, other.scheme) == ("http", "https") and ports == (80, 443)


def _stays_behind(name: bytes) -> bool:
    key = name.decode("latin-1").lower()
    if key in _NO_CREDENTIALS:
        return False
    return key == "host" or any(word in key for word in _CREDENTIALS)


def _shown(url: httpx.URL) -> str:
    """An address without what may be secret in it."""
    return str(url.copy_with(userinfo=b"", query=None, fragment=None))
