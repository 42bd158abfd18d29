"""Reads the values of the command's arguments. An error never quotes a value, which may be a secret."""

from __future__ import annotations

import contextlib
import math
import re
import sys
from argparse import ArgumentError, ArgumentTypeError
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple, TypeVar

import httpx

_AN_URL = "expected a URL that begins with http:// or https:// and a host"
_TYPE = re.compile(r"(.*);\s*type=([\w.+-]+/[\w.+-]+(?:;\s*charset=[\w-]+)?)", re.DOTALL)
_FILENAME = re.compile(r'(.*);\s*filename=("?)([^";]+)\2', re.DOTALL)

T = TypeVar("T")


def checked(name: str, kind: Callable[[str], T], text: str) -> T:
    """Return the value of a positional argument.

    Raises:
        ArgumentError: It is not of this kind.
    """
    try:
        return kind(text)
    except ArgumentTypeError as error:
        raise ArgumentError(None, f"argument {name}: {error}") from error


class FormPart(NamedTuple):
    """One -F: a field with a value, or a file.

    Attributes:
        name: The name of the field.
        value: Its value; for a file, the path.
        is_file: Whether it is a file.
        content_type: The part's media type, if it is given.
        filename: The file's name for the server, if it is given.
    """

    name: str
    value: str
    is_file: bool = False
    content_type: str | None = None
    filename: str | None = None


def url(text: str) -> str:
    """Return the URL. Without a scheme it is http, as for curl and httpie."""
    if "://" not in text:
        text = _with_scheme(text)
    # Check it here: httpx's error would quote the invalid part of a URL, which may be a password.
    with contextlib.suppress(httpx.InvalidURL):
        parsed = httpx.URL(text)
        if parsed.scheme in ("http", "https") and parsed.raw_host:
            return text
    if re.match(r"https?://(?:[^/?#@]*@)?[0-9a-f]*:[0-9a-f:.]*:[0-9a-f.]*(?:[/?#]|$)", text, re.IGNORECASE):
        raise ArgumentTypeError("an IPv6 address stands in brackets, as in http://[::1]:8000/")
    raise ArgumentTypeError(_AN_URL)


def _with_scheme(text: str) -> str:
    if re.match(r":\d*(?:/|$)", text):  # as for httpie
        return f"http://localhost{text}"
    if text.partition("/")[0] != "localhost" and not re.search("[.:/]", text):
        raise ArgumentTypeError(_AN_URL)  # a word is rather a FILE, or a secret
    with contextlib.suppress(OSError, ValueError):
        if Path(text).exists():
            raise ArgumentTypeError(f"{_AN_URL}, and it is a file; the URL comes first")
    return f"http://{text}"


def proxy(text: str) -> str:
    """Return the proxy's URL. Without a scheme it is http, as for curl."""
    address = text if "://" in text else f"http://{text}"
    with contextlib.suppress(httpx.InvalidURL):
        parsed = httpx.URL(address)
        if parsed.scheme in ("http", "https", "socks5", "socks5h") and parsed.raw_host:
            return address
    raise ArgumentTypeError("expected the URL of a proxy: http://host:port, https:// or socks5://")


def file(text: str) -> str:
    if text.lower().startswith(("http://", "https://")):
        raise ArgumentTypeError("expected a path, and it is a URL; the URL comes first, and once")
    return text


def header(text: str) -> tuple[str, str]:
    key, found, value = text.partition(":")
    if not found:
        raise ArgumentTypeError("expected a name, ':' and a value")
    return key, value


def form_string(text: str) -> FormPart:
    """Read NAME=VALUE, with the value as it is."""
    name, found, value = text.partition("=")
    if not found:
        raise ArgumentTypeError("expected a name, '=' and a value")
    return FormPart(name, value)


def form_part(text: str) -> FormPart:
    """Read NAME=VALUE or NAME=@FILE, with `;type=` and `;filename=` behind them, as curl writes it."""
    part = form_string(text)
    is_file = part.value.startswith("@")
    rest, content_type, filename = part.value[is_file:], None, None
    while True:
        if content_type is None and (match := _TYPE.fullmatch(rest)):
            rest, content_type = match.groups()
        elif is_file and filename is None and (match := _FILENAME.fullmatch(rest)):
            rest, _, filename = match.groups()
        else:
            return FormPart(part.name, rest, is_file, content_type, filename)


def user(text: str) -> tuple[str, str | None]:
    """Read USER:PASSWORD, or USER alone; a password of None is to be asked for."""
    name, found, password = text.partition(":")
    return name, password if found else None


def whole(least: int, most: float = math.inf) -> Callable[[str], int]:
    def whole(text: str) -> int:
        if re.fullmatch("[0-9]{1,20}", text) and least <= int(text) <= most:
            return int(text)
        limits = f"of {least} or more" if most == math.inf else f"from {least} to {most}"
        raise ArgumentTypeError(f"expected a whole number {limits}")

    return whole


def seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (number := float(text)) < math.inf:
            return number
    raise ArgumentTypeError("expected a number of seconds, more than 0")


def rate(text: str) -> int:
    number = size(text)
    if not 0 < number < sys.float_info.max:
        raise ArgumentTypeError("must be more than 0, and finite")
    return number


def size(text: str) -> int:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?(?:([KMGT])(I?))?B?", text.upper())
    if match is None:
        raise ArgumentTypeError("expected a size such as 4096, 1.5M or 256MiB")
    number, prefix, binary = match.groups()
    return int(Decimal(number) * (1024 if binary else 1000) ** " KMGT".index(prefix or " "))
