"""Reads bytes in memory."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack
from functools import partial

from .base import Buffer, Owner, Reader, Source
from .pieces import Piece


class BytesSource(Source):
    """Data in memory. The reader holds it, without a copy, until it is closed."""

    calls_back = False
    can_begin_anywhere = True

    def __init__(self, label: str, declared: int | None, data: Buffer) -> None:
        super().__init__(label, declared)
        self._data = data

    def open(self, owner: Owner, *, is_next: bool = True) -> Reader:  # noqa: ARG002
        data = self._data
        if isinstance(data, bytes):
            return Reader(self._label, self._size(len(data)), partial(self._pass, data), ExitStack())
        with ExitStack() as opened:
            view = opened.enter_context(memoryview(data))
            # A view without bytes may have a shape that cannot be cast.
            flat = opened.enter_context(view.cast("B") if view.nbytes else memoryview(b""))
            size = self._size(flat.nbytes)
            return Reader(self._label, size, partial(self._pass, flat), opened.pop_all())

    def measure(self) -> int | None:
        return self._size(memoryview(self._data).nbytes)

    def _pass(self, data: bytes | memoryview) -> Generator[Piece]:
        yield data
