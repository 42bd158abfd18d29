"""Writes addresses for people: without user, password, query and fragment, which may be secrets.

If a password has an unescaped slash, question mark or number sign, that character ends the host (RFC 3986, section
3.2). The rest of the password is then in the path, the query or the fragment, and an @ follows it. Therefore an @
behind the host makes an address suspect.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import httpx

_AT_BEHIND_HOST = re.compile(r"[^/?#]*//[^/?#]*[/?#].*@", re.DOTALL)
_AT_BEHIND_MARK = re.compile(r"[^/?#]*//[^/?#]*(?:\?|[^#]*#).*@", re.DOTALL)
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")

_LONG = 1000  # characters of an address to show, at most: a server chooses the Location

HINT = "in a user or a password, write special characters with percent signs, such as %23 for #"


@lru_cache(maxsize=32)
def parse_url(text: str) -> httpx.URL:
    """Parse a URL, with a cache: parsing costs more than all other checks, and many uploads have the same URL.

    Raises:
        httpx.InvalidURL: The text is not a URL. The error quotes it.
    """
    return httpx.URL(text)


def readable_url(text: str) -> httpx.URL | None:
    """Return the URL; None if the text is none. There is no error that could quote it."""
    try:
        return parse_url(text)
    except (httpx.InvalidURL, UnicodeEncodeError):  # the second one, for a lone surrogate
        return None


def shown(url: Any) -> str:
    """Return an address without the parts that may contain secrets, and without the end of a very long one.

    A suspect one is shown without its path, too.
    """
    parsed = readable_url(str(url))
    if parsed is None:
        return "an invalid address"
    if _AT_BEHIND_HOST.match(str(parsed)):
        return shown_origin(parsed)
    text = str(parsed.copy_with(userinfo=b"", query=None, fragment=None))
    return text if len(text) <= _LONG else f"{text[:_LONG]}..."


def shown_origin(url: httpx.URL) -> str:
    """Return an address without its path, which is a secret, too."""
    return f"{url.copy_with(userinfo=b'', fragment=None, raw_path=b'/')}..."


def cleaned(text: str) -> str:
    """Return a text of others with each address in it as `shown` writes it."""
    return _ADDRESS.sub(lambda match: shown(match[0]), text)


def seems_cut(url: str) -> bool:
    """Whether a ? behind the host, or a #, seems to be a part of a password: an @ follows it.

    A slash may be one too. But an @ in a path is common, so that is no reason to refuse an address.
    """
    return _AT_BEHIND_MARK.match(url) is not None
