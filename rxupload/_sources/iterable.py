"""Reads an iterator, an iterable, or the result of a function that returns a fresh one."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from threading import Lock
from types import GeneratorType
from typing import Any

from .asynchronous import AsyncFlow, discard, is_asynchronous, items_of
from .base import Buffer, Once, Owner, Reader, Source, is_buffer, type_name, used_up, without_loop
from .hidden import may_lie, rest_of
from .pieces import Flow, Piece
from .reading import (
    bounded,
    bytes_after,
    check_binary,
    check_not_at_its_end,
    is_plain_file,
    position,
    read,
)

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
    """A function or an iterable that starts again for each pass. The content may be asynchronous."""

    def __init__(
        self,
        label: str,
        declared: int | None,
        fresh: Callable[[ExitStack], Any],
        *,
        needs_loop: bool = False,
    ) -> None:
        """Make it from a function that returns fresh content. Closing the stack that it gets ends the content."""
        super().__init__(label, declared)
        self._fresh = fresh
        self.needs_loop = needs_loop

    def open(self, owner: Owner, *, is_next: bool = True) -> Reader:  # noqa: ARG002
        with ExitStack() as opened:
            begun = opened.enter_context(closing(self._begin(owner)))
            size = self._size(begun.size)
            return Reader(self._label, size, partial(self._pass, owner, [begun]), opened.pop_all())

    def _pass(self, owner: Owner, begun: list[_Begun]) -> Generator[Piece]:
        with closing(begun.pop() if begun else self._begin(owner)) as content:
            yield content.flow

    def _begin(self, owner: Owner) -> _Begun:
        """Begin a pass, with its first item, so that an error comes before anything is sent."""
        with ExitStack() as opened:
            content = self._fresh(opened)
            if is_asynchronous(content):
                flow = self._read_on_loop(owner, content)
                opened.callback(flow.close)
                flow.wait_for_begin()
                return _Begun(None, flow, opened.pop_all().close)
            if hasattr(content, "read"):
                opened.callback(getattr(content, "close", _nothing))
                check_binary(content, self._label)
                start = position(content)
                check_not_at_its_end(content, start or 0, self._label)
                size = None if start is None else _size_after(content, start)
                items: Iterator[Buffer] = iter(partial(bounded(partial(read, content), size), READ), b"")
            else:
                iterator = _iterate(content, self._label)
                opened.callback(getattr(iterator, "close", _nothing))
                size = None
                items = _checked(iterator, self._label)
            head = list(islice(items, 1))
            return _Begun(size, Items(chain(head, items)), opened.pop_all().close)

    def _read_on_loop(self, owner: Owner, content: object) -> AsyncFlow:
        if owner.loop is None:
            discard(content)
            raise without_loop(self._label)
        items = partial(items_of, content, self._label)
        return AsyncFlow(self._label, owner, owner.loop, items, partial(discard, content))


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
    flow: Flow
    close: Callable[[], None]


def _size_after(file: Any, start: int) -> int | None:
    if is_plain_file(file) and may_lie(os.fstat(file.fileno())):
        data = rest_of(file.fileno(), start)
        return None if data is None else len(data)
    return bytes_after(file, start)


def _iterate(content: Any, label: str) -> Iterator[object]:
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
