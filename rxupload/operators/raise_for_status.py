"""`raise_for_status` turns a response of 400 or more into an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import httpx
from reactivex import Observable, abc

from ._responses import status, status_error

T = TypeVar("T")


def raise_for_status() -> Callable[[Observable[T]], Observable[T]]:
    """Turn a response of 400 or more into an `httpx.HTTPStatusError` with that `.response`.

    ::

        ---P0---P1---404-|            ---P0---P1---200-|
          raise_for_status()            raise_for_status()
        ---P0---P1---X                ---P0---P1---200-|

    A response of an `httpx2.Client` becomes that library's own `HTTPStatusError`. Unlike the libraries' own errors, it
    can be pickled, so a process pool can return it. A redirect that was not followed passes, unlike with httpx's own
    `Response.raise_for_status()`; with 301, 307 and 308 the server says that it has not taken the file.
    """

    def operator(source: Observable[T]) -> Observable[T]:
        def subscribe(
            observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            def on_next(item: T) -> None:
                if status(item) >= httpx.codes.BAD_REQUEST:
                    observer.on_error(status_error(item))
                else:
                    observer.on_next(item)

            return source.subscribe(on_next, observer.on_error, observer.on_completed, scheduler=scheduler)

        return Observable(subscribe)

    return operator
