"""Reads an iterator, an iterable, or the result of a function that returns a fresh one."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from threading import Lock
from types import GeneratorType
from typing import Any

from .base import Buffer, Content, Once, Owner, Reader, Source, asynchronous, is_buffer, type_name, used_up
from .pieces import Flow, Piece
from .reading import bounded, bytes_after, check_binary, position, read

READ = 256 * 1024  # bytes to read at a time from a file object
LARGE = 1024 * 1024  # a larger item is not copied: it is sent before the next one is drawn


class OnceSource(Source):
    """The caller's iterator. Only the first upload that draws from it can read it."""

    def __init__(self, label: str, declared: int | None, items: Iterator[Buffer]) -> None:
        super().__init__(label, declared)
        self._items = items
        self._head: list[Buffer] | None = None  # the first item, drawn by open()
        self._lock = Lock()
        self._once = Once(label)

    def open(self, owner: Owner, *, is_next: bool = True) -> Reader:  # noqa: ARG002
        with self._lock:
            self._once.check()
            if self._head is None:
                _check_unread(self._items, self._label)
                self._head = list(islice(self._items, 1))
            list(_checked(self._head, self._label))
        return Reader(self._label, self._size(None), self._pass, ExitStack())

    def _pass(self) -> Generator[Piece]:
        self._once.use()
        head, self._head = self._head or [], []
        yield Items(_checked(chain(head, self._items), self._label))


class FreshSource(Source):
    """A function or an iterable that starts again for each pass."""

    def __init__(self, label: str, declared: int | None, fresh: Callable[[], Content]) -> None:
        super().__init__(label, declared)
        self._fresh = fresh

    def open(self, owner: Owner, *, is_next: bool = True) -> Reader:  # noqa: ARG002
        with ExitStack() as opened:
            begun = opened.enter_context(closing(self._begin()))
            size = self._size(begun.size)
            return Reader(self._label, size, partial(self._pass, [begun]), opened.pop_all())

    def _pass(self, begun: list[_Begun]) -> Generator[Piece]:
        with closing(begun.pop() if begun else self._begin()) as content:
            yield Items(content.items)

    def _begin(self) -> _Begun:
        content = self._fresh()
        with ExitStack() as opened:
            if hasattr(content, "read"):
                opened.callback(getattr(content, "close", _nothing))
                check_binary(content, self._label)
                start = position(content)
                size = None if start is None else bytes_after(content, start)
                items: Iterator[Buffer] = iter(partial(bounded(partial(read, content), size), READ), b"")
            else:
                iterator = _iterate(content, self._label)
                opened.callback(getattr(iterator, "close", _nothing))
                size = None
                items = _checked(iterator, self._label)
            head = list(
                islice(items, 1)
            )  # draw the first item now, so that an error comes before anything is sent
            return _Begun(size, chain(head, items), opened.pop_all().close)


class Items(Flow):
    """A flow of the items of an iterator. Reading may block."""

    def __init__(self, items: Iterator[Buffer]) -> None:
        self._items = items

    def read(self, count: int) -> bytes | memoryview:  # noqa: ARG002 - an item is never cut
        for item in self._items:
            if isinstance(item, bytes):
                if item:
                    return item
            elif size := memoryview(item).nbytes:
                # Copy it: the caller may fill the same buffer again for the next item.
                return memoryview(item).cast("B") if size > LARGE else memoryview(item).tobytes()
        return b""


@dataclass(slots=True)
class _Begun:
    """The content of one pass of a FreshSource."""

    size: int | None
    items: Iterator[Buffer]
    close: Callable[[], None]


def _iterate(content: Any, label: str) -> Iterator[object]:
    if isinstance(content, AsyncIterable) and not isinstance(content, Iterable):
        raise asynchronous(label)
    if not isinstance(content, Iterable) or isinstance(content, str | Mapping) or is_buffer(content):
        raise TypeError(
            f"{label} must be an iterable of bytes or a binary file object, not {type_name(content)}"
        )
    iterator = iter(content)
    _check_unread(iterator, label)
    return iterator


def _checked(items: Iterable[object], label: str) -> Generator[Buffer]:
    for index, item in enumerate(items):
        if not is_buffer(item):
            raise TypeError(
                f"{label} must give bytes, and its item {index} is {type_name(item)}{_hint(item)}"
            )
        yield item


def _check_unread(iterator: Iterator[object], label: str) -> None:
    # A finished generator would look like an empty file. Other iterators do not say whether they are finished.
    if isinstance(iterator, GeneratorType) and iterator.gi_frame is None:
        raise used_up(label)


def _hint(item: object) -> str:
    if isinstance(item, str):
        return "; encode it: text.encode()"
    return "; several files are a list or a tuple" if isinstance(item, os.PathLike) else ""


def _nothing() -> None: ...
