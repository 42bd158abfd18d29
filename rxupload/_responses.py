"""Recognises responses of any library by their attributes, and makes the error for one that is no success."""

from __future__ import annotations

from functools import cache
from typing import Any, cast

import httpx

from ._addresses import readable_url, shown

_REDIRECTS = (301, 302, 303, 307, 308)  # those that can be followed
_KINDS = {3: "Redirect", 4: "Client error", 5: "Server error"}


def status(item: object) -> int:
    """Return the status of a response; 0 for any other item."""
    status = getattr(item, "status_code", 0)
    return status if isinstance(status, int) else 0


def is_resumable(response: Any) -> bool:
    """Whether a response is of a resumable upload, which can go on after it."""
    ours = getattr(response, "extensions", {}).get("rxupload")
    return isinstance(ours, dict) and "resumable" in ours


def is_failure(item: object) -> bool:
    """Whether an item is a response with a status that is not 2xx: the server has not taken the file."""
    return status(item) // 100 not in (0, 2)


def status_error(response: Any) -> Exception:
    """Return the error for a response that is not 2xx: an `HTTPStatusError` of its library that can be pickled.

    Unlike the library's own, its text has no user, password or query. A redirect has a note that names its Location.
    """
    code = response.status_code
    message = f"{code} {getattr(response, 'reason_phrase', '')}".strip()
    request: Any = None
    error: Exception | None = None
    kind: Any = httpx.HTTPStatusError
    attributes: dict[str, Any] = {}
    try:
        response.raise_for_status()
    except (RuntimeError, AttributeError):  # a response made by hand has no request
        pass
    except Exception as raised:  # noqa: BLE001 - the HTTPStatusError of the client's own library
        if type(raised).__name__ == "HTTPStatusError":
            kind, request, attributes = type(raised), cast("Any", raised).request, raised.__dict__
            message = f"{_KINDS.get(code // 100, 'Status')} '{message}' for url '{shown(request.url)}'"
        else:
            error = raised.with_traceback(None)
    if error is None:
        error = cast("Exception", _picklable(kind)(message, request=request, response=response))
        error.__dict__.update(attributes)
    if code in _REDIRECTS and (location := response.headers.get("location")) is not None:
        error.add_note(_not_followed(location, request))
    return error


def _not_followed(location: str, request: Any) -> str:
    here = httpx.URL("" if request is None else str(request.url))
    there = readable_url(location)
    if there is None:
        return "The server redirects to an invalid address"
    there = here.join(there)
    note = f"The server redirects to {shown(there)}"
    if there.scheme not in ("http", "https") or (here.scheme, there.scheme) == ("https", "http"):
        return note  # to where no client of ours follows
    return f"{note}; follow_redirects=True follows it, as -L of the command does"


@cache
def _picklable(kind: Any) -> Any:
    """Make a subclass of a library's HTTPStatusError that can be unpickled.

    Their class cannot, because its keywords are required. A process pool returns errors as pickles, and breaks if it
    cannot load one.
    """

    class HTTPStatusError(kind):  # type: ignore[misc]
        """A response that is not 2xx."""

        def __reduce__(self) -> tuple[Any, ...]:
            # `__dict__` has the request, the response and the notes.
            return _unpickled, (kind, self.args), self.__dict__

    HTTPStatusError.__qualname__ = kind.__qualname__
    HTTPStatusError.__module__ = kind.__module__  # so that a traceback shows the library's name
    return HTTPStatusError


def _unpickled(kind: Any, args: tuple[Any, ...]) -> Any:
    error = _picklable(kind)(*args, request=None, response=None)
    error.args = args
    return error
