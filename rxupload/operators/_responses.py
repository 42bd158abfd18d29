"""How the operators know a response and its status: by its names, whatever library it is of."""

from __future__ import annotations

from typing import Any, cast

import httpx


def status(item: object) -> int:
    """The status of a response; 0 for what is none."""
    status = getattr(item, "status_code", 0)
    return status if isinstance(status, int) else 0


def status_error(response: Any) -> Exception:
    try:
        response.raise_for_status()
    except RuntimeError:  # it has no request: it was made by hand
        message = f"{response.status_code} {response.reason_phrase}"
        return httpx.HTTPStatusError(message, request=cast("httpx.Request", None), response=response)
    except Exception as error:  # noqa: BLE001 - the HTTPStatusError of the client's own library
        return error.with_traceback(None)
    raise AssertionError("raise_for_status() accepts what is 400 or more")
