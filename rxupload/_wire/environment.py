"""Chooses the proxy for a URL by the environment: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, as httpx does.

NO_PROXY is a list, separated by commas or spaces. An entry is one of these, with or without a port:

    *                       everything
    example.com             the host and its subdomains
    .example.com            only its subdomains; *.example.com is the same
    localhost               only that host
    127.0.0.1  ::1  [::1]   an address
    10.0.0.0/8  fd00::/8    a network
    https://example.com     only that host, only for that scheme

It differs from httpx in three cases. httpx fails on an address in brackets and on an invalid network, and it compares
only the first address of a network. Here a bracketed address matches itself, a network matches all its addresses, and
an invalid entry matches nothing.
"""

from __future__ import annotations

import ipaddress
import re
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import httpx

from .names import encode_host

_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

PROXY_FORM = "http, https, socks5 or socks5h, then a host and a port; in a password, write # as %23, / as %2F, ? as %3F"
_AT_BEHIND_HOST = re.compile(r"[^/?#]*//[^/?#]*[/?#].*@", re.DOTALL)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_ZONE = re.compile(r"%[^/]*")
_BRACKETS = re.compile(r"^\[([^\[\]]*)\](/[0-9]+)?$")
_PORT = re.compile(r"(.*):([0-9]{0,5})", re.DOTALL)


class Environment:
    """The proxies that the environment named when this object was made."""

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        """Read the variables.

        Args:
            settings: In the form of `urllib.request.getproxies()`, which is the default. That prefers variables in
                lower case to those in upper case, and both to the system's settings on Windows and macOS.
        """
        settings = urllib.request.getproxies() if settings is None else settings
        self._proxies = {scheme: settings.get(scheme, "") for scheme in ("http", "https", "all")}
        parsed = (_parse(entry) for entry in re.split(r"[\s,]+", settings.get("no", "")))
        self._direct = [rule for rule in parsed if rule is not None]

    def proxy_for(self, url: httpx.URL) -> str | None:
        """Return the URL of the proxy, with user and password; None to connect directly.

        Raises:
            ValueError: The variable is not a proxy's URL. The text does not quote it: it may hold a password.
        """
        scheme = url.scheme if self._proxies.get(url.scheme) else "all"
        value = self._proxies[scheme]
        if not value or any(rule.matches(url) for rule in self._direct):
            return None
        proxy = value if "://" in value else f"http://{value}"
        if parse_proxy(proxy) is None:
            raise ValueError(f"The environment's {scheme.upper()}_PROXY is no proxy's URL: {PROXY_FORM}")
        return proxy


def parse_proxy(proxy: httpx.Proxy | httpx.URL | str) -> httpx.Proxy | None:
    """Return the proxy of a URL; None if the URL is invalid. There is no error that could quote it.

    A slash, a question mark or a number sign in a password must be written as %2F, %3F or %23. Otherwise it ends the
    host, and the beginning of the password would be shown as host and port.
    """
    if _AT_BEHIND_HOST.match(str(proxy.url if isinstance(proxy, httpx.Proxy) else proxy)):
        return None
    try:
        made = proxy if isinstance(proxy, httpx.Proxy) else httpx.Proxy(proxy)
        encode_host(made.url.host)
    except (ValueError, httpx.InvalidURL):
        return None
    return made if (made.url.port or 0) in range(1 << 16) else None


@dataclass(frozen=True, slots=True)
class _Rule:
    """One entry of NO_PROXY."""

    scheme: str = ""  # empty: any
    port: int | None = None  # None: any
    network: _Network | None = None
    host: str = ""  # empty, with no network: any
    with_itself: bool = True
    with_subdomains: bool = False

    def matches(self, url: httpx.URL) -> bool:
        if self.scheme not in {"", url.scheme}:
            return False
        if self.port not in {None, url.port or _DEFAULT_PORTS.get(url.scheme)}:
            return False
        host = url.raw_host.decode("ascii").lower().rstrip(".")
        if self.network is not None:
            address = _network(host)
            return (
                address is not None
                and address.version == self.network.version
                and address.network_address in self.network
            )
        if not self.host:
            return True
        return (self.with_itself and host == self.host) or (
            self.with_subdomains and host.endswith("." + self.host)
        )


def _parse(entry: str) -> _Rule | None:
    """Read an entry; None if it is invalid."""
    scheme, has_scheme, rest = entry.lower().rpartition("://")
    if has_scheme and not scheme:
        return None
    scheme = "" if scheme == "all" else scheme
    rest = rest.rpartition("@")[2]
    if not rest:
        return _Rule(scheme) if has_scheme else None
    network, port = _network(rest), None
    if network is None and (match := _PORT.fullmatch(rest)):
        rest, port = match[1], int(match[2]) if match[2] else None
        network = _network(rest)
    if network is not None:
        return _Rule(scheme, port, network)
    name = rest.partition("/")[0]
    if name == "*":
        return _Rule(scheme, port)
    bare = name.lstrip("*").removeprefix(".").rstrip(".")
    is_alone = name == "localhost" or (bool(has_scheme) and not name.startswith(("*", ".")))
    try:
        host = encode_host(bare).decode("ascii").lower()
    except ValueError:
        return None
    is_below = name.lstrip("*").startswith(".")
    return _Rule(scheme, port, None, host, with_itself=not is_below, with_subdomains=not is_alone)


def _network(text: str) -> _Network | None:
    """Read an address or a network; None if it is neither."""
    if ":" in text:
        text = _ZONE.sub("", _BRACKETS.sub(r"\1\2", text))
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
