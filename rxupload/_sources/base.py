"""What every kind of source has in common: what may be given, `Source`, and the `Reader` of one upload.

Whatever touches a disk, a pipe or the user's own code happens in `Source.open` and in the passes of a `Reader`, on the
thread that uploads; an Observable has a thread of its own.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeGuard

from reactivex import abc

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


Content: TypeAlias = BinaryFile | Iterable[Buffer]


FileSource: TypeAlias = (
    str
    | os.PathLike[str]
    | os.PathLike[bytes]
    | Buffer
    | Content
    | Callable[[], Content]
    | abc.ObservableBase[Buffer]
)


@dataclass(frozen=True, slots=True)
class File:
    """One file part, when the keywords of `upload()` are not enough.

    An Observable of bytes as the source is subscribed to before anything is sent, and so before the first
    `Progress`, with no scheduler and on a thread of its own; and again for each further pass, which gets what it
    emits from then on: only a cold one, or a `ReplaySubject`, gives the whole again, and a `Subject` that was read
    before is an error, as an iterator is, and one that has already completed. The subscription is disposed when the
    pass ends.

    At most 1 MiB of what it emits (or one item that is longer) waits to be sent, and `on_next` makes its producer
    wait while there is no room. Where that would block an asyncio loop, the EventLoopScheduler that the upload
    notifies on, or the thread that uploads, the upload ends with `BufferError` instead: in a coroutine,
    `await asyncio.to_thread(subject.on_next, data)` waits for room and leaves the loop free. An error of the
    Observable is the upload's, at once. One that emits within its own `subscribe` function gets `BrokenPipeError`
    there once the pass has ended; any other producer is told nothing, and what it emits then is dropped.

    Attributes:
        source: A path, bytes-like, a binary file object, an iterable of bytes, a callable that returns a
            fresh iterable or file object, once for each pass over the body, or an Observable of bytes. A path is
            opened when the upload starts. A file object is read from where it stood at the call of `upload()`,
            and never closed.
        name: The form field under which the server finds the file; None: the `name` given to `upload()`.
        filename: None: the path's base name, else `"upload"`.
        content_type: None: guessed from the filename, else `application/octet-stream`.
        size: The bytes that the source will give, for an iterable or an Observable whose length the caller
            knows: the body then has a Content-Length, and its progress a total. Where the source gives more or
            fewer, the upload ends with `SourceChanged`.
    """

    source: FileSource
    name: str | None = None
    filename: str | None = None
    content_type: str | None = None
    size: int | None = None


class Owner(Protocol):
    """The upload that a source is opened for, as far as a source must know it."""

    @property
    def wake(self) -> Wake:
        """Ends the worker's wait: more has come."""
        ...

    def wait(self) -> None:
        """Wait until `wake` is set or it is time to look; raises the reason to stop. On the worker's thread."""

    def stop(self, reason: BaseException) -> None:
        """End the upload for this reason."""

    def is_on_loop(self) -> bool:
        """Whether the calling thread runs the loop on which the upload notifies."""
        ...


class Source(ABC):
    """What a file part is read from: shared by all subscriptions of an upload, and thread-safe."""

    default_filename = "upload"

    def __init__(self, label: str, declared: int | None) -> None:
        self._label = label  # what errors call it
        self._declared = declared

    @abstractmethod
    def open(self, owner: Owner, *, is_next: bool = True) -> Reader:
        """Open it for one upload, and find what is wrong with it before anything is sent.

        Args:
            owner: The upload.
            is_next: Whether its turn comes first; what can be opened again then is closed until then otherwise.

        Raises:
            OSError: A path cannot be opened; the error has the path.
            TypeError: An iterable or an Observable gives something other than bytes.
            RuntimeError: The source can be read only once, and was.
            SourceChanged: Its size is not the declared one.
        """

    def _size(self, measured: int | None) -> int | None:
        if measured is None or self._declared is None:
            return self._declared if measured is None else measured
        if measured != self._declared:
            raise SourceChanged(f"{self._label}: {self._declared} bytes were declared, and it has {measured}")
        return measured


class Reader:
    """A source opened for one upload, to be used by one thread.

    Attributes:
        size: The bytes of each pass; None when unknown.
    """

    def __init__(
        self, label: str, size: int | None, one_pass: Callable[[], Generator[Piece]], opened: ExitStack
    ) -> None:
        self.size = size
        self._label = label
        self._one_pass = one_pass
        self._opened = opened

    def pieces(self) -> Generator[Piece]:
        """Make one pass from the start: a flat list of pieces, each of which is to be used up before the next is drawn.

        Raises:
            SourceChanged: It gives fewer or more bytes than `size`; also when a piece is read.
            RuntimeError: The source can be read only once, and was.
        """
        with closing(self._one_pass()) as pieces:
            for piece in pieces:
                if isinstance(piece, Flow) and self.size is not None:
                    yield Counted(piece, self.size, self._label)
                else:
                    yield piece

    def close(self) -> None:
        """Close what the library opened."""
        self._opened.close()


class Once:
    """The right to read what can be read only once."""

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


def asynchronous(label: str) -> TypeError:
    """The error for an asynchronous iterable, which a thread that uploads could not read."""
    return TypeError(
        f"{label} is an asynchronous iterable; give a Subject, and feed it, from the first Progress on, from a "
        "task with `await asyncio.to_thread(subject.on_next, data)`"
    )


def used_up(label: str, instead: str = "a function that returns a fresh iterable") -> RuntimeError:
    return RuntimeError(
        f"{label} was read before, and can be read only once; for a retry, a redirect or another upload, "
        f"give a path, bytes, or {instead}"
    )


def is_buffer(data: object) -> TypeGuard[Buffer]:
    try:
        memoryview(data).release()  # type: ignore[arg-type]
    except TypeError:
        return False
    return True


def type_name(value: object) -> str:
    return type(value).__name__
