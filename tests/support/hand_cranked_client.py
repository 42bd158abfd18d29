"""An answer for a `HandCrankedClient` that only our tests need."""

from __future__ import annotations

from collections.abc import Callable

import httpx


def refuse(pieces: int = 0) -> Callable[[httpx.Request], httpx.Response]:
    """An answer that takes some pieces of the body and then fails."""

    def script(request: httpx.Request) -> httpx.Response:
        body = iter(request.stream)
        for _ in range(pieces):
            next(body)
        raise httpx.ReadError("Connection reset by peer", request=request)

    return script
