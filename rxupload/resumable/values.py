"""Checks values of JSON that others may have written, as they are taken. No error quotes one: it may be a secret."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import httpx

from rxupload._transport import check_host

_LATEST = 1e12  # seconds since the epoch; NaN and Infinity, which Python reads from JSON, are not less
_MOST = 2**63 - 1  # bytes of a file that a system can have
_HASH = re.compile(r"[0-9a-f]{64}")


class Values:
    """An object of JSON. Each method returns one of its values, or raises a ValueError that says which is wrong."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def has(self, name: str) -> bool:
        """Whether there is a value that is not null."""
        return self._values.get(name) is not None

    def text(self, name: str) -> str:
        """Return a text."""
        value: str = self._checked(name, isinstance(self._values.get(name), str))
        return value

    def address(self, name: str) -> str:
        """Return an http or https address to which a request can go."""
        value: str = self._checked(name, _is_address(self.text(name)))
        return value

    def whole_number(self, name: str) -> int:
        """Return a whole number, which may be negative."""
        value: int = self._checked(name, is_whole_number(self._values.get(name)))
        return value

    def count(self, name: str) -> int:
        """Return a whole number of 0 or more."""
        value: int = self._checked(name, self.whole_number(name) >= 0)
        return value

    def size(self, name: str, least: int = 0) -> int:
        """Return a number of bytes."""
        value: int = self._checked(name, least <= self.whole_number(name) <= _MOST)
        return value

    def seconds(self, name: str) -> float:
        """Return a time, in seconds since the epoch."""
        value = self._values.get(name)
        is_fit = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LATEST
        return float(self._checked(name, is_fit))

    def hash(self, name: str) -> str:
        """Return a SHA-256 in hex."""
        value: str = self._checked(name, _HASH.fullmatch(self.text(name)) is not None)
        return value

    def inner(self, name: str) -> Values | None:
        """Return an inner object; None if it is null or missing."""
        if not self.has(name):
            return None
        return Values(self._checked(name, isinstance(self._values[name], dict)))

    def texts(self, name: str) -> dict[str, str]:
        """Return an object whose values are all texts."""
        found = self._values.get(name)
        is_fit = isinstance(found, dict) and all(isinstance(each, str) for each in found.values())
        return dict(self._checked(name, is_fit))

    def _checked(self, name: str, is_fit: bool) -> Any:  # noqa: FBT001
        if not is_fit:
            raise ValueError(f"it has no valid {name!r}")
        return self._values[name]


def read_json(data: bytes | str) -> Any:
    """Read JSON.

    Raises:
        ValueError: It is none, or is nested too deeply.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None


def is_whole_number(value: object) -> bool:
    """Whether a value of JSON is a whole number. A Boolean is none."""
    return isinstance(value, int) and not isinstance(value, bool)


def _is_address(text: str) -> bool:
    try:
        url = httpx.URL(text)
        check_host(url.host)
    except (httpx.InvalidURL, ValueError):  # the second one of IDNA, too
        return False
    return url.scheme in ("http", "https") and (url.port is None or 0 < url.port < 1 << 16)
