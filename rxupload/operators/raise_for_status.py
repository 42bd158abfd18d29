"""`raise_for_status` turns a response that is not 2xx into an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from reactivex import Observable, abc

from rxupload._arguments import needs_call
from rxupload._derived import Derived
from rxupload._responses import is_failure, status_error

T = TypeVar("T")


@needs_call
def raise_for_status() -> Callable[[Observable[T]], Observable[T]]:
    """Turn a response that is not 2xx into an `httpx.HTTPStatusError` with that `.response`.

    ::

        ---P0---P1---404-|            ---P0---P1---200-|
          raise_for_status()            raise_for_status()
        ---P0---P1---X                ---P0---P1---200-|

    A redirect that was not followed is an error, too, because the server has not taken the file. A note on the error
    names its Location, without what may be a secret; `follow_redirects=True` of `upload()` follows it.

    A response of an `httpx2.Client` becomes that library's own `HTTPStatusError`. Unlike the libraries' own errors, it
    can be pickled, so a process pool can return it.
    """

    def operator(source: Observable[T]) -> Observable[T]:
        def subscribe(
            observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            def on_next(item: T) -> None:
                if is_failure(item):
                    observer.on_error(status_error(item))
                else:
                    observer.on_next(item)

            return source.subscribe(on_next, observer.on_error, observer.on_completed, scheduler=scheduler)

        return Derived("raise_for_status", source, subscribe)

    return operator
