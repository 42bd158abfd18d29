"""Refuses requests that a page of another origin may have made."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Iterable

from starlette.requests import Request

_AUTHORITY = re.compile(r"(\[[^\[\]/?#@\s]+\]|[^\[\]:/?#@\s]+)(?::([0-9]*))?")
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_HOW = "To let it in, start the receiver with --allow-host NAME or allow_hosts=[NAME]."


class Origins:
    """The origins and hosts whose requests are let in.

    A browser sends Origin with each request that a page makes to another origin (WHATWG Fetch, section 3.2), and
    Sec-Fetch-Site (W3C Fetch Metadata, section 2.3). Programs send neither.

    With DNS rebinding, a page makes its own name an address of this machine. To the browser, the receiver is then of
    the page's origin. But Host has the page's name.

    Args:
        allow_hosts: Further hosts, which may be the Host, and the host of an Origin with any scheme and port.

    Attributes:
        on_loopback: Whether the receiver listens on loopback only, so that the names of its host are known.
    """

    def __init__(self, allow_hosts: Iterable[str]) -> None:
        if isinstance(allow_hosts, str):
            raise TypeError("allow_hosts takes several names: write allow_hosts=[NAME]")
        if not isinstance(allow_hosts, Iterable):
            raise TypeError(f"allow_hosts: expected an iterable of str, got {type(allow_hosts).__name__}")
        self._allowed = {_checked(name) for name in allow_hosts}
        self.on_loopback = True

    def refusal(self, request: Request) -> str | None:
        """Say why the request is refused, or return None."""
        host = request.headers.get("host", "")
        if self.on_loopback and not self._is_local(host):
            return f"The Host {host!r} is neither localhost nor an address of loopback. {_HOW}"
        origins = request.headers.getlist("origin")
        for origin in origins:
            if not self._is_allowed(origin) and not _is_same(origin, host):
                return f"A page of the origin {origin!r} made this request to {host!r}. {_HOW}"
        if request.headers.get("sec-fetch-site") == "cross-site" and not (
            _is_link(request) or (origins and all(map(self._is_allowed, origins)))
        ):
            return f"A page of another site made this request (Sec-Fetch-Site: cross-site). {_HOW}"
        return None

    def _is_local(self, host: str) -> bool:
        name, _ = _split(host)
        return name == "localhost" or name in self._allowed or is_loopback(name)

    def _is_allowed(self, origin: str) -> bool:
        _, _, authority = origin.rpartition("://")  # "null", of a file or a sandbox, is a name too
        return _split(authority)[0] in self._allowed


def is_loopback(address: str) -> bool:
    """Return whether this is an address of loopback. A name is none."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback


def _is_same(origin: str, host: str) -> bool:
    """Return whether the origin is of this Host. The scheme is a proxy's, if one does TLS for the receiver."""
    scheme, _, authority = origin.lower().partition("://")
    default = _DEFAULT_PORTS.get(scheme)
    (name, port), (own_name, own_port) = _split(authority), _split(host)
    return bool(name and default) and (name, port or default) == (own_name, own_port or default)


def _is_link(request: Request) -> bool:
    """Return whether somebody may have followed a link to the page, which changes nothing here."""
    return request.method in {"GET", "HEAD"} and request.headers.get("sec-fetch-mode") == "navigate"


def _split(authority: str) -> tuple[str, str]:
    """Return the host, in one spelling, and the port; both empty if it is malformed."""
    match = _AUTHORITY.fullmatch(authority)
    return (match[1].strip("[]").lower().removesuffix("."), match[2] or "") if match else ("", "")


def _checked(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"allow_hosts: each name must be a str, not {type(name).__name__}")
    host, port = _split(f"[{name}]" if name.count(":") > 1 and name[0] != "[" else name)
    with contextlib.suppress(UnicodeError):
        if host and not port:
            return host if host.isascii() else host.encode("idna").decode()  # as a browser sends it
    raise ValueError(f"allow_hosts (--allow-host) takes names without scheme and port, not {name!r}")
