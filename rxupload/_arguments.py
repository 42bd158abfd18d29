"""Checks arguments for several modules. Each check returns the value, or raises an error that names the argument."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from inspect import iscoroutinefunction, signature
from numbers import Real
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, cast

import httpx
from reactivex import Observable, abc

F = TypeVar("F", bound=Callable[..., Any])

HeaderTypes = (
    Mapping[str, str] | Mapping[bytes, bytes] | Sequence[tuple[str, str]] | Sequence[tuple[bytes, bytes]]
)
"""Request headers in any form that httpx takes, `httpx.Headers` included."""


RateLimit: TypeAlias = float | Observable[float | None] | None
Pause: TypeAlias = Observable[bool] | None
FollowRedirects: TypeAlias = bool | Literal["same-origin"] | None


class AuthFlow(Protocol):
    """An `httpx.Auth` or an `httpx2.Auth`."""

    def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        """Yield each request to send, and get its response."""
        ...


Auth: TypeAlias = AuthFlow | tuple[str | bytes, str | bytes] | Callable[[Any], Any] | None

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_NOT_IN_A_FIELD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")  # RFC 9110, section 5.5
_NOT_IN_A_PART = {
    b"content-disposition": "name= and filename= make it",
    b"content-type": "use content_type=",
    b"content-length": "the boundary ends a part",
    b"content-transfer-encoding": "a part is sent as it is (RFC 7578, section 4.7)",
}


def wrong_type(argument: str, expected: str, value: object) -> TypeError:
    """Return the error for a value of the wrong type."""
    return TypeError(f"{argument}: expected {expected}, got {type(value).__name__}")


def if_swapped(url: object, file: object, argument: str = "file") -> str:
    """Return what the error for a URL adds if it seems to be swapped with the file, the argument of this name."""
    is_address = isinstance(file, str) and file.lower().startswith(("http://", "https://"))
    if (is_address or is_url(file)) and not (isinstance(url, str) and "://" in url):
        return f"; url and {argument} look swapped: {argument} is a URL"
    return ""


def is_url(value: object) -> bool:
    """Whether it is the URL of a library, such as an `httpx.URL`."""
    # The property of httpx raises for a host that begins with xn-- and is none.
    return isinstance(value, httpx.URL) or (hasattr(value, "scheme") and hasattr(value, "host"))


NO_LOOP = "an asynchronous function needs a loop to run on; give scheduler=AsyncIOScheduler(loop)"


def needs_call(make: F) -> F:
    """Have `pipe(make)`, which lacks parentheses, raise an error that says so."""

    @functools.wraps(make)
    def checked(*args: Any, **kwargs: Any) -> Any:
        if args and isinstance(args[0], abc.ObservableBase):
            name = make.__name__
            raise TypeError(f"{name} makes the operator; call it: pipe({name}()), and not pipe({name})")
        return make(*args, **kwargs)

    return cast("F", checked)


def is_async(function: object) -> bool:
    """Whether calling it returns a coroutine, as far as its definition says."""
    return iscoroutinefunction(function) or iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def check_client(client: object) -> None:
    """Raise TypeError for anything but a synchronous client."""
    if isinstance(client, type):
        raise TypeError(
            f"client: expected an httpx.Client, got the class {client.__name__}; call it to make one"
        )
    if not callable(getattr(client, "build_request", None)) or not callable(getattr(client, "send", None)):
        raise wrong_type("client", "an httpx.Client", client)
    if iscoroutinefunction(client.send):  # type: ignore[attr-defined]
        raise TypeError(
            "client: an asynchronous client cannot be used; pass an httpx.Client (await works with that too)"
        )


def check_auth(auth: Any, client: Any) -> Any:
    """Return the value if it is a valid `auth`, and one that the client takes. No error quotes it."""
    if auth is None:
        return None
    if isinstance(auth, tuple):
        if len(auth) != _USER_AND_PASSWORD or not all(isinstance(each, str | bytes) for each in auth):
            raise TypeError("auth: as a tuple, it is (user, password), each a str or bytes")
    elif isinstance(auth, type) or not (callable(auth) or hasattr(auth, "sync_auth_flow")):
        raise wrong_type("auth", "(user, password), a function of the request, or an httpx.Auth", auth)
    elif iscoroutinefunction(auth):
        raise TypeError("auth: an asynchronous function cannot be used; pass an ordinary one")
    if client is not None and not takes_auth(client.send):
        raise TypeError("auth: the client's send() takes none; give the auth to the client")
    return auth


_USER_AND_PASSWORD = 2


def takes_auth(send: Any) -> bool:
    """Whether a client's `send` has the keyword `auth`."""
    parameters = signature(send).parameters
    return "auth" in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values())


def check_name(argument: str, value: object) -> str:
    """Return the value if it is a non-empty str."""
    if not isinstance(value, str):
        raise wrong_type(argument, "a str", value)
    if not value:
        raise ValueError(f"{argument}: must not be empty")
    return value


def check_scheduler(scheduler: object) -> None:
    """Raise TypeError for anything but a scheduler or None."""
    if scheduler is not None and not isinstance(scheduler, abc.SchedulerBase):
        raise wrong_type("scheduler", "a reactivex scheduler or None", scheduler)


def check_bool(argument: str, value: object) -> bool:
    """Return the value if it is a bool. Any other one, such as "no", would count as its truth."""
    if not isinstance(value, bool):
        raise wrong_type(argument, "True or False", value)
    return value


def check_method(method: object) -> str:
    """Return the request method if it is a token (RFC 9110, section 9.1)."""
    if not isinstance(method, str):
        raise wrong_type("method", "a str", method)
    if not _TOKEN.fullmatch(method.encode("utf-8", "replace")):
        raise ValueError(f"method: not an HTTP method: {method!r}")
    return method


def check_seconds(argument: str, value: object, *, zero: bool = True) -> float:
    """Return the seconds. 0 is valid only if `zero` is True."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise wrong_type(argument, "a number of seconds", value)
    seconds = as_float(value)
    if not math.isfinite(seconds) or seconds < 0 or (seconds == 0 and not zero):
        least = "0 or more" if zero else "more than 0 (None for no limit)"
        raise ValueError(f"{argument}: must be a finite number of seconds, {least}; got {seconds}")
    return seconds


def check_wait(value: object) -> float:
    """Return the most seconds to wait: `math.inf` for None. A negative number means that the time is over."""
    if value is None:
        return math.inf
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise wrong_type("timeout", "a number of seconds or None", value)
    if math.isnan(seconds := as_float(value)):
        raise ValueError("timeout: must be a number of seconds or None; got nan")
    return seconds


def as_float(value: Any) -> float:
    """Return the number as a float; `math.inf` or `-math.inf` for an int or a fraction that is too large."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def check_headers(headers: Any, argument: str = "headers") -> list[tuple[bytes, bytes]]:
    """Return the headers in the form in which they are sent, if all of them are valid.

    No error quotes a value, or what stands in the place of a name: both may be secrets.
    """
    items = []
    for number, (name, value) in enumerate(_header_pairs(headers, argument), 1):
        if not isinstance(name, str | bytes):
            raise wrong_type(f"{argument}: the name of number {number}", "a str or bytes", name)
        key = name if isinstance(name, bytes) else name.encode("utf-8", "replace")
        if not _TOKEN.fullmatch(key):
            raise ValueError(f"{argument}: the name of number {number} is not a header name")
        shown = repr(key.decode())
        if not isinstance(value, str | bytes):
            raise wrong_type(f"{argument}: the value of {shown}", "a str or bytes", value)
        if isinstance(value, str) and not value.isascii():
            raise ValueError(
                f"{argument}: a str may contain only ASCII, unlike the value of {shown}; "
                "encode other characters, and pass bytes"
            )
        content = value if isinstance(value, bytes) else value.encode()
        if _NOT_IN_A_FIELD_VALUE.search(content):
            raise ValueError(f"{argument}: CR, LF or another control character in the value of {shown}")
        items.append((key, content.strip(b" \t")))
    return items


def _header_pairs(headers: Any, argument: str) -> Iterable[tuple[object, object]]:
    """Return the headers as pairs of anything."""
    if headers is None:
        return []
    if isinstance(headers, httpx.Headers):
        return headers.raw  # as they were written, each line of a repeated one
    if isinstance(headers, Mapping):
        return headers.items()
    if not isinstance(headers, Iterable) or isinstance(headers, str | bytes | bytearray | memoryview):
        raise wrong_type(argument, "a mapping, or a list of (name, value) pairs", headers)
    pairs = list(headers)
    for index, pair in enumerate(pairs):
        if not isinstance(pair, list | tuple):
            raise wrong_type(f"{argument}[{index}]", "a (name, value) pair", pair)
        if len(pair) != 2:  # noqa: PLR2004
            raise ValueError(f"{argument}[{index}]: expected a (name, value) pair, got {len(pair)} items")
    return pairs


def check_part_headers(headers: Any, argument: str) -> list[tuple[bytes, bytes]]:
    """Return the headers of a part, if they are valid and none of them says what the part says already."""
    items = check_headers(headers, argument)
    for key, _ in items:
        if (instead := _NOT_IN_A_PART.get(key.lower())) is not None:
            raise ValueError(f"{argument}: {key.decode()} is not one of them; {instead}")
    return items


def check_content_type(content_type: str, argument: str = "content_type") -> None:
    """Check that a content type fits into a header line.

    Raises:
        TypeError: The value is not a str.
        ValueError: It is empty, or contains a line break or another control character.
    """
    if not isinstance(content_type, str):
        raise TypeError(f"{argument} must be a str, not {type(content_type).__name__}")
    if not content_type.strip() or not content_type.isprintable():
        raise ValueError(f"{argument} must be one line of printable characters, not {content_type!r}")


def check_rate_limit(value: object) -> Any:
    """Return the value if it is a valid `rate_limit`."""
    return value if value is None or isinstance(value, abc.ObservableBase) else check_rate(value)


def check_rate(value: object) -> float:
    """Return the bytes per second, if they are valid."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(
            "rate_limit: expected a number of bytes per second, an Observable of them, or None, "
            f"got {type(value).__name__}"
        )
    rate = as_float(value)
    if not math.isfinite(rate) or rate <= 0:
        raise ValueError(
            "rate_limit: must be a finite number of bytes per second, more than 0 (None for no limit); "
            f"got {rate}"
        )
    return rate


def check_pause(value: object) -> Any:
    """Return the value if it is a valid `pause`."""
    if value is not None and not isinstance(value, abc.ObservableBase):
        raise TypeError(
            f"pause: expected an Observable of bool, such as a BehaviorSubject, or None, got {type(value).__name__}"
        )
    return value
