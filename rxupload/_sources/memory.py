"""Bytes in memory as the source."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack

from .base import Buffer, Reader, Source


class BytesSource(Source):
    """Data in memory, which the reader holds as it is until it is closed."""

    def __init__(self, label: str, declared: int | None, data: Buffer) -> None:
        super().__init__(label, declared)
        self._data = data

    def open(self) -> Reader:
        with ExitStack() as opened:
            view = opened.enter_context(memoryview(self._data))
            size = self._size(view.nbytes)
            return Reader(self._label, size, self._pass, opened.pop_all())

    def _pass(self) -> Generator[Buffer]:
        yield self._data
