"""What can be uploaded: its size, opening it, and reading it again.

`make_source` looks at types only. Whatever touches a disk, a pipe or the user's own code happens in
`Source.open` and in the passes of a `Reader`, on the thread that uploads; an Observable has one of its own (`_stream`).
"""

from __future__ import annotations

import errno
import io
import os
import stat
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from threading import Lock
from types import GeneratorType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeGuard
from weakref import WeakKeyDictionary

from reactivex import abc
from reactivex.subject import AsyncSubject, ReplaySubject, Subject

from ._errors import SourceChanged
from ._stream import ObservableReader
from ._transfer import Transfer

if TYPE_CHECKING:
    from typing_extensions import Buffer
else:  # collections.abc has Buffer from Python 3.12 on
    Buffer = bytes | bytearray | memoryview

CHUNK = 896 * 1024  # bytes; with the 128 KiB that the body may hold back, no piece of it exceeds 1 MiB


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


def make_source(  # noqa: PLR0911 - one for each kind
    file: FileSource, *, size: int | None = None, argument: str = "file"
) -> Source:
    """Recognise what is to be uploaded, without opening or reading it.

    Args:
        file: What to upload; a `File` is unwrapped by the caller.
        size: The declared size in bytes, if any.
        argument: What the caller calls the file, for the text of an error.

    Raises:
        TypeError: It is text, or nothing that can be uploaded.
        ValueError: An empty path, a closed or unreadable file object, a negative size.
    """
    _check_size(size, argument)
    if isinstance(file, str | os.PathLike):
        return _PathSource(_checked_path(file, argument), size)
    if _is_buffer(file):
        if not memoryview(file).c_contiguous:
            raise ValueError(f"{argument} must be contiguous in memory; upload bytes({argument}) instead")
        return _BytesSource("the data", size, file)
    if isinstance(file, abc.ObservableBase):
        return _ObservableSource("the Observable", size, file)
    if hasattr(file, "read") and not isinstance(file, type):
        _check_binary(file, argument)
        return _file_source(file, size)
    if callable(file):
        return _FreshSource("what the function returned", size, file)
    if isinstance(file, Iterator) and iter(file) is file:
        return _OnceSource("the iterator", size, file)
    if isinstance(file, Iterable) and not isinstance(file, Mapping | AsyncIterable):
        return _FreshSource("the iterable", size, lambda: file)
    if isinstance(file, AsyncIterable):
        raise TypeError(
            f"{argument} is an asynchronous iterable; give a Subject, and feed it, from the first Progress on, from a "
            "task with `await asyncio.to_thread(subject.on_next, data)`"
        )
    raise TypeError(
        f"{argument} must be a path (str or os.PathLike), bytes, an Observable of bytes, a binary file object, "
        f"an iterable of bytes, or a function that returns one of the last two, not {_type(file)}"
    )


class Source(ABC):
    """What a file part is read from: shared by all subscriptions of an upload, and thread-safe."""

    default_filename = "upload"

    def __init__(self, label: str, declared: int | None) -> None:
        self._label = label  # what errors call it
        self._declared = declared

    @abstractmethod
    def open(self) -> Reader:
        """Open it for one upload, and find what is wrong with it before anything is sent.

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
        self,
        label: str,
        size: int | None,
        one_pass: Callable[[], Generator[Buffer | None]],
        opened: ExitStack,
    ) -> None:
        self.size = size
        self._label = label
        self._one_pass = one_pass
        self._opened = opened

    def chunks(self) -> Iterator[bytes]:
        """Read it once from the start, as `bytes` that are never longer than `CHUNK`.

        They are empty only where the source, an Observable, has nothing more to give for now.

        Raises:
            SourceChanged: It gives fewer or more bytes than `size`.
            RuntimeError: The source can be read only once, and was.
        """
        chunks = self._chunks()
        # A client that fails in the middle of a body drops this iterator without closing it.
        self._opened.callback(chunks.close)
        return chunks

    def close(self) -> None:
        """Break off a pass, and close what the library opened."""
        self._opened.close()

    def _chunks(self) -> Generator[bytes]:
        count = 0
        with closing(self._one_pass()) as items:
            for item in items:
                if item is None:  # for now
                    yield b""
                    continue
                for chunk in split(item):
                    count += len(chunk)
                    if self.size is not None and count > self.size:
                        raise SourceChanged(f"{self._label}: more than the {self.size} bytes expected")
                    yield chunk
        if self.size is not None and count < self.size:
            raise SourceChanged(f"{self._label}: {self.size} bytes expected, and it ended after {count}")


def split(data: Buffer) -> Generator[bytes]:
    """Cut data into `bytes` of at most `CHUNK`; what is no longer than that passes uncopied."""
    if isinstance(data, bytes) and len(data) <= CHUNK:
        if data:
            yield data
        return
    with memoryview(data).cast("B") as view:
        for start in range(0, len(view), CHUNK):
            yield bytes(view[start : start + CHUNK])


class _PathSource(Source):
    """A file, opened anew for each upload; or a pipe that has a path."""

    def __init__(self, path: Path, declared: int | None) -> None:
        super().__init__(str(path), declared)
        self.default_filename = _base_name(path)
        self._path = path
        self._pipe = _Once(self._label)

    def open(self) -> Reader:
        self._pipe.check()  # before opening it again, which waits for a writer
        with ExitStack() as opened:
            file = opened.enter_context(_open(self._path))
            status = os.fstat(file.fileno())
            regular = stat.S_ISREG(status.st_mode)
            size = self._size(status.st_size if regular else None)
            one_pass = partial(self._from_start, file, size) if regular else partial(self._once, file)
            return Reader(self._label, size, one_pass, opened.pop_all())

    def _from_start(self, file: io.FileIO, size: int | None) -> Generator[bytes]:
        file.seek(0)
        yield from _read_all(partial(_read, file), size)

    def _once(self, file: io.FileIO) -> Generator[bytes]:
        self._pipe.use()
        yield from _read_all(partial(_read, file), None)


class _BytesSource(Source):
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


class _SeekableSource(Source):
    """The caller's file object, read from where it stood at the call."""

    def __init__(self, label: str, declared: int | None, file: Any, start: int) -> None:
        super().__init__(label, declared)
        self._file = file
        self._start = start
        self._lock = _lock_of(file)

    def open(self) -> Reader:
        with self._lock:
            measured = _bytes_after(self._file, self._start)
        return Reader(self._label, self._size(measured), partial(self._pass, measured), ExitStack())

    def _pass(self, measured: int | None) -> Generator[bytes]:
        position = self._start

        def read(count: int) -> bytes:
            nonlocal position
            with self._lock:  # another upload may be reading the same file object
                self._file.seek(position)
                data = _read(self._file, count)
            position += len(data)
            return data

        return _read_all(read, measured)


class _OnceSource(Source):
    """The caller's iterator: the first upload that draws from it has it to itself."""

    def __init__(self, label: str, declared: int | None, items: Iterator[Buffer]) -> None:
        super().__init__(label, declared)
        self._items = items
        self._head: list[Buffer] | None = None  # the first item, drawn by open()
        self._lock = Lock()
        self._once = _Once(label)

    def open(self) -> Reader:
        with self._lock:
            self._once.check()
            if self._head is None:
                _check_unread(self._items, self._label)
                self._head = list(islice(self._items, 1))
            list(_checked(self._head, self._label))
        return Reader(self._label, self._size(None), self._pass, ExitStack())

    def _pass(self) -> Generator[Buffer]:
        self._once.use()
        head, self._head = self._head or [], []
        yield from _checked(chain(head, self._items), self._label)


class _FreshSource(Source):
    """A function or an iterable that begins anew for each pass."""

    def __init__(self, label: str, declared: int | None, fresh: Callable[[], Content]) -> None:
        super().__init__(label, declared)
        self._fresh = fresh

    def open(self) -> Reader:
        with ExitStack() as opened:
            begun = opened.enter_context(closing(self._begin()))
            size = self._size(begun.size)
            return Reader(self._label, size, partial(self._pass, [begun]), opened.pop_all())

    def _pass(self, begun: list[_Begun]) -> Generator[Buffer]:
        with closing(begun.pop() if begun else self._begin()) as content:
            yield from content.items

    def _begin(self) -> _Begun:
        content = self._fresh()
        with ExitStack() as opened:
            if hasattr(content, "read"):
                opened.callback(getattr(content, "close", _nothing))
                _check_binary(content, self._label)
                start = _position(content)
                size = None if start is None else _bytes_after(content, start)
                items: Iterator[Buffer] = _read_all(partial(_read, content), size)
            else:
                iterator = _iterate(content, self._label)
                opened.callback(getattr(iterator, "close", _nothing))
                size = None
                items = _checked(iterator, self._label)
            head = list(islice(items, 1))  # what is wrong with it shows before anything is sent
            return _Begun(size, chain(head, items), opened.pop_all().close)


class _ObservableSource(Source):
    """An Observable of bytes, which each pass subscribes to."""

    def __init__(self, label: str, declared: int | None, observable: abc.ObservableBase[Buffer]) -> None:
        super().__init__(label, declared)
        self._observable = observable
        is_replayed = isinstance(observable, ReplaySubject | AsyncSubject)
        self._is_hot = isinstance(observable, Subject) and not is_replayed  # as far as that can be known
        self._heard = threading.Event()

    def open(self) -> Reader:
        begin = partial(self._begin, Transfer.current())
        with ExitStack() as opened:
            # Now, so that a hot one is heard from the first Progress on, and what is wrong with one that emits at once
            # shows before anything is sent. Its first item is not waited for: it may be that Progress that causes it.
            begun = opened.enter_context(closing(begin()))
            return Reader(
                self._label, self._size(None), partial(self._pass, begin, [begun]), opened.pop_all()
            )

    def _pass(
        self, begin: Callable[[], ObservableReader], begun: list[ObservableReader]
    ) -> Generator[Buffer | None]:
        with closing(begun.pop() if begun else begin()) as stream:
            yield from stream.pieces()

    def _begin(self, transfer: Transfer | None) -> ObservableReader:
        if self._is_hot and self._heard.is_set():
            raise _used_up(self._label, "a ReplaySubject")
        stream = ObservableReader(self._observable, self._label, transfer, self._heard)
        if self._is_hot and stream.was_empty:
            raise RuntimeError(
                f"{self._label} completed before the upload listened, and what it had given is lost; give a "
                "ReplaySubject, or begin to feed it with the first Progress"
            )
        return stream


@dataclass(slots=True)
class _Begun:
    """The content of one pass of a _FreshSource."""

    size: int | None
    items: Iterator[Buffer]
    close: Callable[[], None]


class _Once:
    """The right to read what can be read only once."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._used = False
        self._lock = Lock()

    def check(self) -> None:
        if self._used:
            raise _used_up(self._label)

    def use(self) -> None:
        with self._lock:
            self.check()
            self._used = True


def _used_up(label: str, instead: str = "a function that returns a fresh iterable") -> RuntimeError:
    return RuntimeError(
        f"{label} was read before, and can be read only once; for a retry, a redirect or another upload, "
        f"give a path, bytes, or {instead}"
    )


def _open(path: Path) -> io.FileIO:
    try:
        return path.open("rb", buffering=0)
    except PermissionError:
        if path.is_dir():  # Windows answers for a directory as for an unreadable file
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path)) from None
        raise


def _position(file: Any) -> int | None:
    """Where a file object stands; None if it cannot go back there."""
    try:
        return int(file.tell()) if file.seekable() else None
    except (AttributeError, OSError):
        return None


def _bytes_after(file: Any, start: int) -> int | None:
    try:
        file.seek(0, os.SEEK_END)
        return max(0, int(file.tell()) - start)
    except (OSError, ValueError):  # what decompresses or decrypts may not know its end
        return None
    finally:
        file.seek(start)


def _read(file: Any, count: int) -> bytes:
    # The read() of a buffered pipe waits for all of count; read1() takes what is there. Its b"" may also mean
    # "nothing yet", where read() says None.
    data = file.read1(count) or file.read(1) if isinstance(file, io.BufferedReader) else file.read(count)
    if data is None:
        raise BlockingIOError(
            errno.EAGAIN, "the file object is non-blocking and has no data now; make it blocking"
        )
    if not _is_buffer(data):
        raise TypeError(f"the file object's read() returned {_type(data)}, not bytes; open it in binary mode")
    return bytes(data)


def _read_all(read: Callable[[int], bytes], size: int | None) -> Generator[bytes]:
    """Read to the end, or exactly `size` bytes of a file that grows meanwhile."""
    left = CHUNK if size is None else size
    while left > 0 and (data := read(min(left, CHUNK))):
        yield data
        if size is not None:
            left -= len(data)


def _iterate(content: Any, label: str) -> Iterator[object]:
    if not isinstance(content, Iterable) or isinstance(content, str | Mapping) or _is_buffer(content):
        raise TypeError(f"{label} must be an iterable of bytes or a binary file object, not {_type(content)}")
    iterator = iter(content)
    _check_unread(iterator, label)
    return iterator


def _checked(items: Iterable[object], label: str) -> Generator[Buffer]:
    for index, item in enumerate(items):
        if not _is_buffer(item):
            raise TypeError(f"{label} must give bytes, and its item {index} is {_type(item)}{_hint(item)}")
        yield item


def _check_unread(iterator: Iterator[object], label: str) -> None:
    # A generator that has ended gives nothing, which would pass for an empty file. Others do not tell.
    if isinstance(iterator, GeneratorType) and iterator.gi_frame is None:
        raise _used_up(label)


def _file_source(file: Any, declared: int | None) -> Source:
    name = getattr(file, "name", None)
    if not isinstance(name, str) or name.startswith("<"):  # a descriptor's number, or "<stdin>"
        name = None
    label = f"the file object {name!r}" if name else "the file object"
    start = _position(file)
    source: Source
    if start is None:
        source = _OnceSource(label, declared, iter(partial(_read, file, CHUNK), b""))
    else:
        source = _SeekableSource(label, declared, file, start)
    source.default_filename = _base_name(name or "")
    return source


def _base_name(path: str | Path) -> str:
    return Path(path).name or "upload"


_locks: WeakKeyDictionary[object, Lock] = WeakKeyDictionary()


def _lock_of(file: object) -> Lock:
    """One lock for a file object, however many uploads were made of it."""
    try:
        return _locks.setdefault(file, Lock())
    except TypeError:  # it cannot be hashed, or not referenced weakly
        return Lock()


def _check_size(size: object, argument: str) -> None:
    if size is None:
        return
    if isinstance(size, bool) or not isinstance(size, int):
        raise TypeError(f"{argument}: size must be an int, a number of bytes, not {_type(size)}")
    if size < 0:
        raise ValueError(f"{argument}: size must not be negative, and is {size}")


def _checked_path(file: str | os.PathLike[str] | os.PathLike[bytes], argument: str) -> Path:
    path = os.fsdecode(file)
    if not path or "\0" in path:
        raise ValueError(f"{argument} must be a path, and {path!r} is none")
    return Path(path)


def _check_binary(file: Any, argument: str) -> None:
    if isinstance(file, io.TextIOBase) or isinstance(getattr(file, "encoding", None), str):
        raise TypeError(f'{argument} is a file object in text mode; open it in binary mode: open(path, "rb")')
    if getattr(file, "closed", False):
        raise ValueError(f"{argument} is a closed file object")
    if not getattr(file, "readable", _always)():
        raise ValueError(f'{argument} is a file object that was not opened for reading: open(path, "rb")')


def _is_buffer(data: object) -> TypeGuard[Buffer]:
    try:
        memoryview(data).release()  # type: ignore[arg-type]
    except TypeError:
        return False
    return True


def _hint(item: object) -> str:
    return "; encode it: text.encode()" if isinstance(item, str) else ""


def _type(value: object) -> str:
    return type(value).__name__


def _nothing() -> None: ...


def _always() -> bool:
    return True
