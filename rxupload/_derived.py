"""Lets an Observable that an operator of ours has made still tell of the upload behind it: its file and its size."""

from __future__ import annotations

from typing import Any, TypeVar

from reactivex import Observable, abc, typing

T = TypeVar("T")


class Derived(Observable[T]):
    """The Observable that an operator of ours makes of another one."""

    def __init__(
        self,
        operator: str,
        source: Observable[Any],
        subscribe: typing.Subscription[T],
        *,
        keeps_progress: bool = True,
    ) -> None:
        super().__init__(subscribe)
        self._operator = operator
        self._source = source
        self._keeps_progress = keeps_progress  # whether it passes on all items of Progress

    def __repr__(self) -> str:
        return f"<{self._operator} of {self._source!r}>"

    def _measure(self) -> int | None:
        return measure(self._source) if self._keeps_progress else None


def measure(source: abc.ObservableBase[Any]) -> int | None:
    """Return the bytes of the body of an upload, maybe behind operators of ours; None if unknown.

    It looks at the disk, and opens nothing.
    """
    method = getattr(source, "_measure", None)
    return None if method is None else method()
