"""How the operators know a response and its status, by its names, whatever library it is of; and the error for one."""

from __future__ import annotations

from functools import cache
from typing import Any, cast

import httpx


def status(item: object) -> int:
    """The status of a response; 0 for what is none."""
    status = getattr(item, "status_code", 0)
    return status if isinstance(status, int) else 0


def status_error(response: Any) -> Exception:
    """The error for a response of 400 or more: an `HTTPStatusError` of its own library, which can be pickled."""
    try:
        response.raise_for_status()
    except RuntimeError:  # it has no request: it was made by hand
        message = f"{response.status_code} {response.reason_phrase}"
        kind: Any = httpx.HTTPStatusError
        return cast("Exception", _picklable(kind)(message, request=None, response=response))
    except Exception as error:  # noqa: BLE001 - the HTTPStatusError of the client's own library
        theirs: Any = error
        kind = type(error)
        if kind.__name__ != "HTTPStatusError":
            return error.with_traceback(None)
        made = _picklable(kind)(str(error), request=theirs.request, response=response)
        made.__dict__.update(error.__dict__)
        return cast("Exception", made)
    raise AssertionError("raise_for_status() accepts what is 400 or more")


@cache
def _picklable(kind: Any) -> Any:
    """A subclass of a library's HTTPStatusError that can be unpickled, which theirs cannot: its keywords are required.

    A process pool sends errors home as pickles, and breaks at one that it cannot read.
    """

    class HTTPStatusError(kind):  # type: ignore[misc]
        """A response of 400 or more."""

        def __reduce__(self) -> tuple[Any, ...]:
            # The state has the request, the response and the notes.
            return _unpickled, (kind, self.args), self.__dict__

    HTTPStatusError.__qualname__ = kind.__qualname__
    HTTPStatusError.__module__ = kind.__module__  # so that a traceback says whose error it is
    return HTTPStatusError


def _unpickled(kind: Any, args: tuple[Any, ...]) -> Any:
    error = _picklable(kind)(*args, request=None, response=None)
    error.args = args
    return error
