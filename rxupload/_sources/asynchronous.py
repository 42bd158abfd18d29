"""Reads asynchronous content: a task on the loop of the upload's scheduler produces, and the worker takes.

Everything of the caller's runs in that task: `__anext__`, `read`, and the end of a generator. So `asyncio.timeout` and
task groups work in it as in any coroutine.

| thread     | what runs on it                                                    |
|------------|--------------------------------------------------------------------|
| the worker | `open`, `read`, `close`                                            |
| the loop   | `_start`, `_run`, `_put`, `_cancel`, and the caller's own content   |
"""

from __future__ import annotations

import asyncio
import inspect
from asyncio import AbstractEventLoop
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
)
from contextlib import AsyncExitStack, ExitStack, aclosing, closing
from functools import partial
from typing import Any, TypeGuard, TypeVar

from reactivex import abc
from reactivex.internal import noop

from .base import Once, Owner, Reader, Source, needed_loop, type_name, used_up
from .buffered import Buffered
from .pieces import Piece
from .reading import bytes_read, check_binary

T = TypeVar("T")
READ = 256 * 1024  # bytes to read at a time from a file object
_TURN = 0.005  # seconds after which content that never waits leaves the loop to others

_tasks: set[asyncio.Task[Any]] = set()  # those that run: a loop itself refers to its tasks only weakly


def has_async_read(file: Any) -> bool:
    """Whether it is a file object whose `read` is a coroutine function."""
    return inspect.iscoroutinefunction(getattr(file, "read", None))


def is_asynchronous(content: object) -> TypeGuard[Any]:
    """Whether what a function has returned must be read on a loop."""
    if hasattr(content, "read"):
        return has_async_read(content)
    if isinstance(content, abc.ObservableBase):  # which is awaitable, too
        return False
    if isinstance(content, Iterable):  # httpx's ByteStream is both
        return False
    return isinstance(content, AsyncIterable) or inspect.isawaitable(content)


class AsyncOnceSource(Source):
    """The caller's asynchronous iterator or stream. Only the first pass over it can read it. It closes a generator."""

    needs_loop = True

    def __init__(self, label: str, declared: int | None, items: AsyncIterable[object]) -> None:
        super().__init__(label, declared)
        self._items = items
        self._once = Once(label)

    def open(self, owner: Owner, *, is_next: bool = True) -> Reader:  # noqa: ARG002
        loop = needed_loop(owner, self._label)
        self._once.check()
        _check_unread(self._items, self._label)
        return Reader(self._label, self._size(None), partial(self._pass, owner, loop), ExitStack())

    def _pass(self, owner: Owner, loop: AbstractEventLoop) -> Generator[Piece]:
        self._once.use()
        items = partial(items_of, self._items, self._label, is_ours=False)
        with closing(AsyncFlow(self._label, owner, loop, items)) as flow:
            yield flow


class AsyncFlow(Buffered):
    """One pass over asynchronous content. The worker makes, reads and closes it."""

    def __init__(
        self,
        label: str,
        owner: Owner,
        loop: AbstractEventLoop,
        items: Callable[[], AsyncGenerator[object]],
        discard: Callable[[], object] = noop,
    ) -> None:
        """Begin to read. `discard` is called on the loop in the end, since the task may end before its first step."""
        super().__init__(label, owner)
        self._loop = loop
        self._produce = items
        self._discard = discard
        self._room = asyncio.Event()
        self._is_waiting = False  # the task waits for room
        self._task: asyncio.Task[None] | None = None
        if not self._call_soon(self._start):
            self._fail(RuntimeError(f"{label}: the event loop is closed"))

    # The worker's side

    def read(self, count: int) -> bytes | None:
        """Take the whole buffer, and let the task continue."""
        data = super().read(count)
        if self._is_waiting:
            self._is_waiting = False
            self._call_soon(self._room.set)
        return data

    def close(self) -> None:
        """Drop further items, and cancel the task, which closes the content."""
        if self._end():
            self._call_soon(self._cancel)

    def _call_soon(self, function: Callable[[], object]) -> bool:
        """Call it on the loop. Return False if the loop is closed, and so has ended the task."""
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:
            return False
        return True

    # The loop's side

    def _start(self) -> None:
        if self._has_ended:
            self._discard()
        else:
            self._task = task_of(self._run())
            self._task.add_done_callback(lambda _: self._discard())

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        since = self._loop.time()
        try:
            async with aclosing(self._produce()) as items:
                async for item in items:
                    await self._put(self._bytes_of(item))
                    if self._loop.time() - since > _TURN:
                        await asyncio.sleep(0)
                        since = self._loop.time()
        except asyncio.CancelledError:
            # After `close` this has no effect.
            self._fail(RuntimeError(f"{self._label} was cancelled on its event loop"))
            raise
        except BaseException as error:
            # After `close` nobody waits for the error of a generator's end. Then asyncio reports it.
            if not self._fail(error) or not isinstance(error, Exception):
                raise
        else:
            self._end()

    async def _put(self, data: bytes) -> None:
        while not self._try_to_add(data):
            await self._room.wait()

    def _try_to_add(self, data: bytes) -> bool:
        with self._changed:
            if has_room := self._has_room(len(data)):
                self._add(data)
            else:
                self._room.clear()
                self._is_waiting = True
        return has_room


async def items_of(content: Any, label: str, *, is_ours: bool = True) -> AsyncGenerator[object]:
    """Yield the items of asynchronous content, and close it in the end.

    Args:
        content: An asynchronous iterable, a file object whose `read` is a coroutine, or an awaitable of either.
        label: Its name in errors.
        is_ours: Whether to close it, whatever it is. Otherwise only a generator is closed.
    """
    if inspect.isawaitable(content):
        content = await content
    async with AsyncExitStack() as opened:
        if has_async_read(content):
            if hasattr(content, "close"):
                opened.push_async_callback(_close, content)
            check_binary(content, label)
            items: Any = read_on(content)
        elif isinstance(content, AsyncIterable):
            _check_unread(content, label)
            items = aiter(content)
        else:
            raise TypeError(
                f"{label} must be an asynchronous iterable of bytes, or a file object whose read() is a "
                f"coroutine, not {type_name(content)}"
            )
        if isinstance(items, AsyncGenerator) or (is_ours and hasattr(items, "aclose")):
            opened.push_async_callback(items.aclose)
        async for item in items:
            yield item


def discard(content: object) -> None:
    """Close a coroutine that was not awaited. Python would warn of it."""
    if inspect.iscoroutine(content) and inspect.getcoroutinestate(content) == inspect.CORO_CREATED:
        content.close()


async def read_on(file: Any) -> AsyncGenerator[bytes]:
    """Read from the current position to the end."""
    while data := bytes_read(await file.read(READ)):
        yield data


async def _close(file: Any) -> None:
    await result_of(file.close())


def _check_unread(items: object, label: str) -> None:
    # A finished generator would look like an empty file. Other iterators do not say whether they are finished.
    if inspect.isasyncgen(items) and items.ag_frame is None:
        raise used_up(label, "an asynchronous generator function")


async def result_of(value: Any) -> Any:
    """Await what a method has returned, if it is a coroutine."""
    return await value if inspect.isawaitable(value) else value


def task_of(coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Start a task on the running loop, and keep it."""
    task = asyncio.get_running_loop().create_task(coroutine)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    return task
