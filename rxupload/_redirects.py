"""Follows redirects for every client: decides where the body may go, and removes credentials for another origin.

301, 307 and 308 send the body again with the same method. Otherwise an endpoint that has moved would turn an upload
into a GET that answers 200. 302 and 303 become GET, as in browsers (WHATWG Fetch, "HTTP-redirect fetch"; RFC 9110,
section 15.4).

Another origin gets no credential of the first request, and none of the client's. If the Location itself has a user and
a password, the server chose them: they go to that address, as with curl, and nowhere else. The user and password of the
first URL are kept while the origin stays the same.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from ._addresses import shown, shown_origin
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
# It identifies the upload, so that the other origin can recognise a repeated request.
_NO_CREDENTIALS = ("idempotency-key",)
_OF_THE_BODY = ("content-type", "content-length", "transfer-encoding", "expect")
_PORTS = {"http": 80, "https": 443}

_logger = logging.getLogger("rxupload")


@dataclass(frozen=True, slots=True, repr=False)  # address and headers may contain secrets
class Hop:
    """One request of an upload.

    Attributes:
        url: The address.
        method: The request method.
        headers: The caller's headers.
        has_body: Whether it has the body.
        is_first: Whether it is the first request, before any redirect.
        is_elsewhere: Whether a redirect has led to another origin. Then the client's credentials are removed.
        alias: What the log and errors name instead of the address, if the address is itself a secret.
    """

    url: str
    method: str
    headers: Sequence[tuple[bytes, bytes]]
    has_body: bool = True
    is_first: bool = True
    is_elsewhere: bool = False
    alias: str | None = None


def hop_to(first: Hop, there: httpx.URL, *, method: str, has_body: bool, alias: str) -> Hop:
    """Return a request for an address that the server has named, with what of the first one's headers may go there.

    Args:
        first: The request whose origin may have the credentials.
        there: The address.
        method: The request method.
        has_body: Whether it has a body.
        alias: See `Hop`.
    """
    here = httpx.URL(first.url)
    is_other = not _is_same_origin(here, there)
    if not is_other and not there.userinfo:
        there = there.copy_with(userinfo=here.userinfo)
    headers = [each for each in first.headers if not (is_other and _stays_behind(each[0]))]
    return Hop(
        str(there), method, headers, has_body=has_body, is_first=False, is_elsewhere=is_other, alias=alias
    )


def location_of(response: Any) -> httpx.URL | None:
    """Return the address of a Location, relative to that of the request; None if it is invalid or missing.

    It has the user and password of the request's own address if the origin is the same.
    """
    if "location" not in response.headers:
        return None
    return _target(httpx.URL(str(response.request.url)), response)


def is_redirect(response: Any) -> bool:
    """Whether the response is a redirect with a Location."""
    return response.status_code in (*_WITH_BODY, *_AS_GET) and "location" in response.headers


def next_hop(hop: Hop, response: Any, follow: FollowRedirects) -> Hop:
    """Return the request that a redirect asks for.

    Raises:
        RedirectRefused: It leads from https to http, or to another origin although `follow` is "same-origin".
        httpx.RemoteProtocolError: Its address is invalid, or there are several.
        httpx.UnsupportedProtocol: Its scheme is neither http nor https.
    """
    here = httpx.URL(str(response.request.url))
    try:
        there = _target(here, response)
        if there is None:
            raise wrong_location()
        _check_target(here, there, follow, is_secret=hop.alias is not None)
    except httpx.RequestError as error:
        error.request = response.request
        raise
    after = _after(hop, response.status_code, here, there)
    if after.has_body and not _is_same_origin(here, there):
        is_secret = hop.alias is not None
        names = (shown(hop.alias), shown_origin(there)) if is_secret else (shown(here), shown(there))
        _logger.warning("The upload to %s is redirected, and its body goes to %s", *names)
    return after


def is_of_the_location(error: Exception) -> bool:
    """Whether a client failed because of an invalid Location: httpx parses it even if it does not follow it."""
    kind = type(error)
    return (
        kind.__name__ == "InvalidURL"
        or kind.__module__.partition(".")[0] == "idna"
        or str(error).startswith("Invalid URL in location header")
    )


def wrong_location(hop: Hop | None = None) -> httpx.RemoteProtocolError:
    """Return the error for an invalid address. It does not quote the address, which may contain secrets."""
    request = None if hop is None else httpx.Request(hop.method, hop.alias or hop.url)
    return httpx.RemoteProtocolError("The server redirects to an address that cannot be", request=request)


def next_request(hop: Hop, response: Any) -> Any:
    """Return the request, without its body, for a redirect that is not followed; None if its address is invalid."""
    here = httpx.URL(str(response.request.url))
    there = _target(here, response)
    if there is None:
        return None
    after = _after(hop, response.status_code, here, there)
    library = sys.modules[type(response).__module__.partition(".")[0]]
    request: Any = getattr(library, "Request", httpx.Request)
    return request(after.method, after.url, headers=after.headers)


def prepare(request: Any, hop: Hop) -> None:
    """Remove what a client has added to a redirected request: its params, and credentials for another origin."""
    if str(request.url) != hop.url:  # the client's `params` have replaced the query of the Location
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
    """Whether a client's defaults can all go with this request."""
    if hop.is_elsewhere or (getattr(client, "params", None) and not hop.is_first):
        return False
    unwanted = ("transfer-encoding",) if hop.has_body else _OF_THE_BODY
    return not any(name in client.headers for name in unwanted)


def _target(here: httpx.URL, response: Any) -> httpx.URL | None:
    """Return the address of a redirect; None if it is invalid, or if there are several, as in browsers.

    It raises nothing: an error would quote the address.
    """
    locations = set(response.headers.get_list("location"))
    if len(locations) > 1:
        return None
    try:
        url = httpx.URL(locations.pop())
        if url.scheme in _PORTS and not url.host:  # "https:///path": httpx takes the current host
            url = url.copy_with(host=here.host)
        there = here.join(url)
        if there.scheme in _PORTS:
            check_host(there.host)
            if there.port is not None and not 0 < there.port < 1 << 16:
                return None
    except (httpx.InvalidURL, ValueError):
        return None
    if here.fragment and not there.fragment:
        there = there.copy_with(fragment=here.fragment)
    if there.scheme in _PORTS and not there.userinfo and _is_same_origin(here, there):
        there = there.copy_with(userinfo=here.userinfo)
    return there


def _check_target(here: httpx.URL, there: httpx.URL, follow: FollowRedirects, *, is_secret: bool) -> None:
    name = shown_origin if is_secret else shown
    if there.scheme not in _PORTS:
        raise httpx.UnsupportedProtocol(
            f"The server redirects to {there.scheme[:20]}:, which is neither http nor https"
        )
    if here.scheme == "https" and there.scheme == "http":
        raise RedirectRefused(
            f"The server redirects from https to http, to {name(there)}; that is not followed"
        )
    if follow == "same-origin" and not _is_same_origin(here, there):
        raise RedirectRefused(f"The server redirects to another origin, {name(there)}; that is not followed")


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
        alias=hop.alias,
    )


def _is_same_origin(one: httpx.URL, other: httpx.URL) -> bool:
    """Whether two addresses have the same origin. http to https on the same host and default ports counts as one."""
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
