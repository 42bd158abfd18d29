"""Recognises responses of any library by their attributes, and makes the error for a status of 400 or more."""

from __future__ import annotations

from functools import cache
from typing import Any, cast

import httpx

from rxupload._addresses import shown


def status(item: object) -> int:
    """Return the status of a response; 0 for any other item."""
    status = getattr(item, "status_code", 0)
    return status if isinstance(status, int) else 0


def status_error(response: Any) -> Exception:
    """Return the error for a response of 400 or more: an `HTTPStatusError` of its library that can be pickled.

    Unlike the library's own, its text has no user, password or query.
    """
    message = f"{response.status_code} {response.reason_phrase}"
    try:
        response.raise_for_status()
    except RuntimeError:  # a response made by hand has no request
        kind: Any = httpx.HTTPStatusError
        return cast("Exception", _picklable(kind)(message, request=None, response=response))
    except Exception as error:  # noqa: BLE001 - the HTTPStatusError of the client's own library
        theirs: Any = error
        kind = type(error)
        if kind.__name__ != "HTTPStatusError":
            return error.with_traceback(None)
        whose = "Client" if response.status_code < httpx.codes.INTERNAL_SERVER_ERROR else "Server"
        message = f"{whose} error '{message}' for url '{shown(theirs.request.url)}'"
        made = _picklable(kind)(message, request=theirs.request, response=response)
        made.__dict__.update(error.__dict__)
        return cast("Exception", made)
    raise AssertionError("raise_for_status() accepts what is 400 or more")


@cache
def _picklable(kind: Any) -> Any:
    """Make a subclass of a library's HTTPStatusError that can be unpickled.

    Their class cannot, because its keywords are required. A process pool returns errors as pickles, and breaks if it
    cannot load one.
    """

    class HTTPStatusError(kind):  # type: ignore[misc]
        """A response of 400 or more."""

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
