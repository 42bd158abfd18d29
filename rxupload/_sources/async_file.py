"""Reads a file object whose `read` is a coroutine, such as those of aiofiles, anyio, Starlette and aiohttp."""

from __future__ import annotations

import asyncio
import os
from asyncio import AbstractEventLoop
from collections.abc import AsyncGenerator, Coroutine, Generator
from contextlib import ExitStack, closing
from functools import partial
from threading import Lock
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from .asynchronous import READ, AsyncFlow, read_on, result_of, task_of
from .base import Once, Owner, Reader, Source, needed_loop
from .pieces import Piece
from .reading import at_its_end, bytes_read

T = TypeVar("T")


class AsyncFileSource(Source):
    """A file object whose `read` is a coroutine. It is read from its position at the start of the first upload.

    One that can seek is read again by each pass, and several uploads may read it at the same time.
    """

    needs_loop = True

    def __init__(self, label: str, declared: int | None, file: Any) -> None:
        super().__init__(label, declared)
        self._file = file
        self._shared = _shared_by_uploads_of(file)
        self._start: int | None = None
        self._once = Once(label)  # for one that cannot seek

    def open(self, owner: Owner, *, is_next: bool = True) -> Reader:  # noqa: ARG002
        loop = needed_loop(owner, self._label)
        self._once.check()
        with ExitStack() as opened:
            self._shared.begin()
            opened.callback(self._shared.end)
            measured = _wait_for(owner, loop, self._measure())
            one_pass = partial(self._pass, owner, loop, measured)
            return Reader(self._label, self._size(measured), one_pass, opened.pop_all())

    def _pass(self, owner: Owner, loop: AbstractEventLoop, size: int | None) -> Generator[Piece]:
        if self._start is None:
            self._once.use()
            chunks = partial(read_on, self._file)
        else:
            chunks = partial(self._read, self._start, size)
        with closing(AsyncFlow(self._label, owner, loop, chunks)) as flow:
            yield flow

    async def _measure(self) -> int | None:
        """Find the position, unless it is known. Return the number of bytes after it; None if unknown."""
        shared = self._shared
        async with shared.turn:
            if shared.start is None:  # otherwise another upload is reading, and has moved it
                shared.start = await _position(self._file)
            if self._start is None:
                self._start = shared.start
            if self._start is None:
                return None
            seekable = _seekable(self._file)
            try:
                await result_of(seekable.seek(0, os.SEEK_END))
                end = int(await result_of(seekable.tell()))
            except (OSError, ValueError):  # one that decompresses may not know its end
                return None
            finally:
                await result_of(seekable.seek(self._start))
            if self._start > 0 and end <= self._start:
                raise at_its_end(self._label)
            return end - self._start

    async def _read(self, start: int, size: int | None) -> AsyncGenerator[bytes]:
        done = 0
        while size is None or done < size:
            count = READ if size is None else min(READ, size - done)
            # An executor's thread that reads cannot be cancelled. So let it end, before another pass seeks.
            data = await asyncio.shield(task_of(self._read_at(start + done, count)))
            if not data:
                return
            done += len(data)
            yield data

    async def _read_at(self, position: int, count: int) -> bytes:
        async with self._shared.turn:
            await result_of(_seekable(self._file).seek(position))
            return bytes_read(await self._file.read(count))


# The position of a file object, whose methods may be coroutines or not


def _seekable(file: Any) -> Any:
    """Return the object that knows the position. Starlette's UploadFile does not, but its `file` does."""
    return file if hasattr(file, "tell") else getattr(file, "file", None)


async def _position(file: Any) -> int | None:
    seekable = _seekable(file)
    try:
        return int(await result_of(seekable.tell())) if await result_of(seekable.seekable()) else None
    except (AttributeError, OSError):
        return None


class _Shared:
    """What the uploads of one file object share.

    Attributes:
        turn: Held by the upload that moves it.
        start: Its position before the first of the uploads that are running; None if unknown, or if it cannot seek.
    """

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.start: int | None = None
        self._uploads = 0
        self._lock = Lock()

    def begin(self) -> None:
        with self._lock:
            if not self._uploads:
                self.start = None
            self._uploads += 1

    def end(self) -> None:
        with self._lock:
            self._uploads -= 1


_shared: WeakKeyDictionary[object, _Shared] = WeakKeyDictionary()


def _shared_by_uploads_of(file: object) -> _Shared:
    try:
        return _shared.setdefault(file, _Shared())
    except TypeError:  # it has no hash, or no weak references
        return _Shared()


def _wait_for(owner: Owner, loop: AbstractEventLoop, coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the loop, and wait on the worker's thread for its result."""
    try:
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
    except RuntimeError:  # the loop is closed
        coroutine.close()
        raise
    future.add_done_callback(lambda _: owner.wake.set())
    while not future.done():  # if the upload is to stop, the coroutine still ends by itself
        owner.wait()
    return future.result()
