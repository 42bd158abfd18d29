"""Defines what all kinds of source share: the types that a caller may give, `Source`, and the `Reader` of one upload.

Only `Source.open` and the passes of a `Reader` touch a disk, a pipe or the user's own code. They run on the thread that
uploads. An Observable has a thread of its own.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterable, Awaitable, Callable, Generator, Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeGuard

from reactivex import abc

from rxupload._arguments import HeaderTypes
from rxupload._errors import SourceChanged
from rxupload._wait import Wake

from .pieces import Counted, Flow, Piece

if TYPE_CHECKING:
    from typing_extensions import Buffer as Buffer  # noqa: PLC0414 - the other sources take it from here
else:  # collections.abc has Buffer from Python 3.12 on
    Buffer = bytes | bytearray | memoryview


class BinaryFile(Protocol):
    """A file object whose `read` returns bytes."""

    def read(self, size: int, /) -> bytes | None: ...


class AsyncBinaryFile(Protocol):
    """A file object whose `read` is a coroutine that returns bytes."""

    async def read(self, size: int, /) -> bytes: ...


class Openable(Protocol):
    """What can be opened, such as a zipfile.Path, a Traversable of importlib.resources, or an OpenFile of fsspec."""

    @property
    def open(self) -> Callable[..., Any]:
        """Return a binary file object."""
        ...


Content: TypeAlias = BinaryFile | Iterable[Buffer]
AsyncContent: TypeAlias = AsyncBinaryFile | AsyncIterable[Buffer]


FileSource: TypeAlias = (
    str
    | os.PathLike[str]
    | os.PathLike[bytes]
    | Buffer
    | Content
    | AsyncContent
    | Openable
    | Callable[[], Content | AsyncContent | Awaitable[AsyncContent]]
    | abc.ObservableBase[Buffer]
)


@dataclass(frozen=True, slots=True, repr=False)
class File:
    """One file part, for when the keywords of `upload()` are not enough.

    If the source is asynchronous, such as an async generator function, a response of httpx (`aiter_bytes()`) or aiohttp
    (`content`), or a file of aiofiles, anyio or Starlette:

    - The upload needs an asyncio loop: `await` it, or subscribe with an AsyncIOScheduler. Otherwise it is a TypeError.
    - A task on that loop reads it. At most 1 MiB, or one longer item, waits to be sent; then the task waits, too.
    - Each pass over the body reads a file object that can seek again, from its position at the start of the first
      upload. It calls a function again. It can read an asynchronous generator only once.
    - The first item of what a function returns is awaited before anything is sent, so that an error comes before that.
    - Its error ends the upload at once.
    - The end of a pass, and so an abort, closes a generator, on its loop. The upload does not wait for that.

    If the source is an Observable of bytes:

    - Each pass over the body subscribes to it, without a scheduler, on a thread of its own. The first pass does so
      before anything is sent, and so before the first `Progress`. The end of a pass disposes the subscription.
    - A further pass gets only what the Observable emits from then on. A cold one and a `ReplaySubject` give everything
      again. A `Subject` that was read before, or that has already completed, is an error.
    - An item goes out within a tenth of a second.
    - At most 1 MiB of its items, or one longer item, waits to be sent. While there is no room, `on_next` blocks its
      producer. If that would block an asyncio loop, the EventLoopScheduler that the upload notifies on, or the thread
      that uploads, the upload ends with `BufferError` instead. In a coroutine, use
      `await asyncio.to_thread(subject.on_next, data)`: it waits for room and leaves the loop free.
    - Its error ends the upload at once.
    - After the end of a pass, its items are dropped. If it emits within its own `subscribe` function, it gets
      `BrokenPipeError` there.

    Attributes:
        source: A path, bytes-like, a binary file object, an iterable of bytes, a callable that returns a
            fresh iterable or file object for each pass over the body, or an Observable of bytes. Iterables, and the
            `read` of a file object, may be asynchronous. The upload opens a path when it starts, and each pass opens
            anything else with `open("rb")` and a name (zipfile.Path, a Traversable of importlib.resources, an OpenFile
            of fsspec). It reads a file object from its position at the call of `upload()`, and never closes it.
        name: The name of the form field; None: the `name` given to `upload()`.
        filename: None: the path's base name, the `filename` or `name` of a file object, or else `"upload"`. What gzip,
            bz2 or lzma decompresses loses the suffix. `""` is what a browser sends where no file was chosen.
        content_type: None: the `content_type` of a file object that a web framework has received, the guess from the
            filename, or else `application/octet-stream`. Such frameworks are werkzeug, Django and Starlette.
        size: How many bytes the source will give, if the caller knows the length of an iterable or an Observable. The
            body then has a Content-Length, and the progress has a total. If the source gives more or fewer bytes, the
            upload ends with `SourceChanged`.
        headers: Further headers of the part, such as Content-ID. Content-Disposition, Content-Type, Content-Length
            and Content-Transfer-Encoding are not among them.
    """

    source: FileSource
    name: str | None = None
    filename: str | None = None
    content_type: str | None = None
    size: int | None = None
    headers: HeaderTypes | None = None

    def __repr__(self) -> str:
        """Show a path, but no contents."""
        names = ("name", "filename", "content_type", "size")
        given = [f"{name}={value!r}" for name in names if (value := getattr(self, name)) is not None]
        return f"File({', '.join([_shown(self.source), *given])})"


def _shown(source: object) -> str:
    if isinstance(source, str | os.PathLike):
        return repr(source)
    if is_buffer(source):
        return f"<{type_name(source)} of {memoryview(source).nbytes} bytes>"
    return f"<{type_name(source)}>"


class Owner(Protocol):
    """The upload that opens a source."""

    @property
    def wake(self) -> Wake:
        """Ends the worker's wait when the source has more."""
        ...

    def wait(self) -> None:
        """Wait until `wake` is set or it is time to check. Raise the reason to stop. On the worker's thread."""

    @property
    def loop(self) -> AbstractEventLoop | None:
        """The asyncio loop of the upload's scheduler, if it has one."""
        ...

    def stop(self, reason: BaseException) -> None:
        """End the upload with this reason."""

    def is_on_loop(self) -> bool:
        """Whether the calling thread runs the loop that the upload notifies on."""
        ...


class Source(ABC):
    """The source of a file part. All subscriptions of an upload share it, from any thread."""

    default_filename = "upload"
    default_content_type: str | None = None  # None: guessed from the filename
    calls_back = True  # whether reading it calls the caller's code, which may block
    needs_loop = False  # whether it can be read only on an asyncio loop
    can_begin_anywhere = False  # whether it can be read from any offset on, and again

    def __init__(self, label: str, declared: int | None) -> None:
        self._label = label  # its name in errors
        self._declared = declared

    @abstractmethod
    def open(self, owner: Owner, *, is_next: bool = True) -> Reader:
        """Open it for one upload, and report errors before anything is sent.

        Args:
            owner: The upload.
            is_next: Whether it is read first. If not, a path is closed again until its turn comes.

        Raises:
            OSError: A path cannot be opened; the error has the path.
            TypeError: An iterable or an Observable gives something other than bytes.
            RuntimeError: The source can be read only once, and was read before.
            SourceChanged: Its size is not the declared one.
        """

    def check_loop(self, loop: AbstractEventLoop | None) -> None:
        """Check that there is a loop, if it needs one.

        Raises:
            TypeError: There is none.
        """
        if self.needs_loop and loop is None:
            raise without_loop(self._label)

    def measure(self) -> int | None:
        """Return its size in bytes without opening it; None if unknown. `open` has the last word.

        Raises:
            OSError: It cannot be opened.
        """
        return self._size(None)

    def _size(self, measured: int | None) -> int | None:
        if measured is None or self._declared is None:
            return self._declared if measured is None else measured
        if measured != self._declared:
            raise SourceChanged(f"{self._label}: {self._declared} bytes were declared, and it has {measured}")
        return measured


class Reader:
    """A source opened for one upload. Only one thread may use it.

    Attributes:
        size: Bytes of each pass; None if unknown.
    """

    def __init__(
        self, label: str, size: int | None, one_pass: Callable[[], Generator[Piece]], opened: ExitStack
    ) -> None:
        self.size = size
        self._label = label
        self._one_pass = one_pass
        self._opened = opened

    def pieces(self) -> Generator[Piece]:
        """Make one pass from the start. Use up each piece before drawing the next.

        Raises:
            SourceChanged: The source gives fewer or more bytes than `size`. Reading a piece may raise it, too.
            RuntimeError: The source can be read only once, and was read before.
        """
        with closing(self._one_pass()) as pieces:
            for piece in pieces:
                if isinstance(piece, Flow) and self.size is not None:
                    yield Counted(piece, self.size, self._label)
                else:
                    yield piece

    def close(self) -> None:
        """Close the descriptors, generators and file objects that the library opened."""
        self._opened.close()


class Once:
    """The right to read a source that can be read only once."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._used = False
        self._lock = Lock()

    def check(self) -> None:
        if self._used:
            raise used_up(self._label)

    def use(self) -> None:
        with self._lock:
            self.check()
            self._used = True


def needed_loop(owner: Owner, label: str) -> AbstractEventLoop:
    """Return the loop of the upload's scheduler.

    Raises:
        TypeError: There is none.
    """
    if owner.loop is None:
        raise without_loop(label)
    return owner.loop


def without_loop(label: str) -> TypeError:
    return TypeError(
        f"{label} is asynchronous, and can be read only on an asyncio loop: `await` the upload, or give "
        "`scheduler=AsyncIOScheduler(loop)` to subscribe() or start()"
    )


def used_up(label: str, instead: str = "a function that returns a fresh iterable") -> RuntimeError:
    return RuntimeError(
        f"{label} was read before, and can be read only once; for a retry, a redirect or another upload, "
        f"give a path, bytes, or {instead}"
    )


def is_buffer(data: object) -> TypeGuard[Buffer]:
    try:
        memoryview(data).release()  # type: ignore[arg-type]
    except (TypeError, ValueError):  # ValueError: numpy's dates are in a buffer that it does not export
        return False
    return True


def type_name(value: object) -> str:
    return type(value).__name__
