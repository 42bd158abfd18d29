"""`of_type` keeps the items of one type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from reactivex import Observable, abc

from rxupload._arguments import needs_call
from rxupload._derived import Derived

T = TypeVar("T")


@needs_call
def of_type(kind: type[T]) -> Callable[[Observable[Any]], Observable[T]]:
    """Keep only the items of one type.

    ::

        ---P0---P1---P2---Response-|
              of_type(Progress)
        ---P0---P1---P2------------|

    Args:
        kind: The type: `Progress`, `httpx.Response`, `ItemFailed`, or any other.

    Raises:
        TypeError: `kind` is not a type.
    """
    if not isinstance(kind, type):
        raise TypeError(f"kind: expected a type, got {type(kind).__name__}")

    def operator(source: Observable[Any]) -> Observable[T]:
        def subscribe(
            observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            def on_next(item: Any) -> None:
                if isinstance(item, kind):
                    observer.on_next(item)

            return source.subscribe(on_next, observer.on_error, observer.on_completed, scheduler=scheduler)

        return Derived("of_type", source, subscribe, keeps_progress=False)

    return operator
