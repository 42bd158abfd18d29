"""What can be uploaded: how each kind of source behaves, and what is refused before anything is sent."""

from __future__ import annotations

import array
import ctypes
import dataclasses
import errno
import gzip
import io
import mmap
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from threading import Barrier
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.owner import FakeOwner
from support.pieces import chunks, read_all

from rxupload._errors import SourceChanged
from rxupload._sources import File, iterable, make_source
from rxupload._sources import path as path_module

posix_only = pytest.mark.skipif(os.name != "posix", reason="needs POSIX pipes and permissions")


def open_it(source, **options):
    """Open a source for an upload without wakes; only a pipe ever waits here."""
    return source.open(FakeOwner(), **options)


def read(file, size=None):
    """What one upload of this source sends."""
    with closing(open_it(make_source(file, size=size))) as reader:
        return read_all(reader)


@pytest.fixture
def opened():
    """Opens sources, and closes their readers in the end."""
    readers = []

    def open_(source, **options):
        reader = open_it(source, **options)
        readers.append(reader)
        return reader

    yield open_
    for reader in readers:
        reader.close()


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file.txt"
    path.write_bytes(b"content")
    return path


class PathOf:
    """An os.PathLike of whatever it is given."""

    def __init__(self, path):
        self._path = path

    def __fspath__(self):
        return self._path


class Slotted:
    """A seekable file object that cannot be referenced weakly."""

    __slots__ = ("_file",)

    def __init__(self, file):
        self._file = file

    def __getattr__(self, name):
        return getattr(self._file, name)


class Endless(io.BytesIO):
    """A file object that cannot tell where it ends, as some that decompress."""

    def seek(self, offset, whence=os.SEEK_SET):
        if whence == os.SEEK_END:
            raise ValueError("Seek from end not supported")
        return super().seek(offset, whence)


class Pipe(io.RawIOBase):
    """A file object that cannot seek: each read gives the next item, whatever that is."""

    def __init__(self, *items):
        self._items = list(items)

    def readable(self):
        return True

    def read(self, size=-1):
        return self._items.pop(0) if self._items else b""


class Items:
    """An iterable that counts how many of its iterators were started and closed."""

    def __init__(self, *items):
        self._items = items
        self.begun = self.closed = 0

    def __iter__(self):
        self.begun += 1
        return Iteration(self, iter(self._items))


class Iteration:
    """An iterator with a close(), which is counted once."""

    def __init__(self, owner, items):
        self._owner = owner
        self._items = items

    def __iter__(self):
        return self

    def __next__(self):
        return next(self._items)

    def close(self):
        if self._owner is not None:
            self._owner.closed += 1
            self._owner = None


@contextmanager
def fast_switching():
    """Makes threads switch as often as possible."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def pipe_of(content):
    """The reading end of a pipe with this content and no writer."""
    reading, writing = os.pipe()
    os.write(writing, content)
    os.close(writing)
    return reading


# All kinds that can be read again

KNOWN_SIZE = {
    "path": None,  # made by the fixture
    "bytes": lambda content: content,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "array": lambda content: array.array("B", content),
    "file object": io.BytesIO,
    "function of a file object": lambda content: lambda: io.BytesIO(content),
}
UNKNOWN_SIZE = {
    "file object with an unknown end": Endless,
    "list": lambda content: [content[:3], b"", bytearray(content[3:])],
    "iterable": lambda content: Items(content[:3], b"", memoryview(content[3:])),
    "function of an iterator": lambda content: lambda: iter([content]),
    "function of an iterable": lambda content: lambda: [content],
    "function of a pipe": lambda content: lambda: Pipe(content),
}
KINDS = KNOWN_SIZE | UNKNOWN_SIZE
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def file_of(kind, tmp_path):
    """A function that makes a file of this kind with the given content."""

    def make(content):
        if kind != "path":
            return KINDS[kind](content)
        (tmp_path / "made").write_bytes(content)
        return tmp_path / "made"

    return make


@every_kind
@pytest.mark.parametrize(
    "content", [b"", b"content", bytes(range(256)) * 7000], ids=["none", "small", "large"]
)
def test_each_pass_and_each_upload_reads_everything(kind, file_of, content, opened):
    """A source that can be read again gives the same bytes to every pass of every upload."""
    source = make_source(file_of(content))
    for reader in (opened(source), opened(source)):
        assert reader.size == (len(content) if kind in KNOWN_SIZE else None)
        for _ in range(2):
            assert read_all(reader) == content


@every_kind
def test_uploads_of_one_source_do_not_disturb_each_other(file_of, opened):
    """Two uploads that alternate on one source both get all of it; so does a pass after one that broke off."""
    content = bytes(range(100))
    with mock.patch.object(iterable, "READ", 7):
        source = make_source(file_of(content))
        first, second = opened(source), opened(source)
        by_turns = zip(chunks(first, 7), chunks(second, 7), strict=True)
        assert [b"".join(each) for each in zip(*by_turns, strict=True)] == [content, content]
        broken_off = chunks(first, 7)
        next(broken_off)
        broken_off.close()
        assert read_all(first) == content


@every_kind
def test_a_reader_may_be_closed_twice(file_of, opened):
    """A reader may be closed twice, even after a pass that broke off; it then gives nothing more."""
    reader = opened(make_source(file_of(bytes(100))))
    given = chunks(reader, 7)
    next(given)
    given.close()
    reader.close()
    reader.close()
    assert list(given) == []


@every_kind
def test_a_declared_size_is_the_total(file_of, opened):
    """A declared size is the total of a source without a known size."""
    reader = opened(make_source(file_of(b"content"), size=7))
    assert reader.size == 7
    assert read_all(reader) == b"content"


@every_kind
@pytest.mark.parametrize("size", [5, 9])
def test_a_wrong_declared_size_is_source_changed(kind, file_of, size):
    """A source that does not match its declared size is SourceChanged: at once if it can be measured."""
    source = make_source(file_of(b"content"), size=size)
    if kind in KNOWN_SIZE:
        with pytest.raises(SourceChanged, match=f": {size} bytes were declared, and it has 7"):
            open_it(source)
    else:
        fault = "more than the 5 bytes expected" if size < 7 else "9 bytes expected, and it ended after 7"
        with closing(open_it(source)) as reader, pytest.raises(SourceChanged, match=fault):
            read_all(reader)


def test_bytes_beyond_the_declared_size_are_not_sent(opened):
    """Bytes beyond the declared size are never sent."""
    given = chunks(opened(make_source([b"abc", b"de", b"f"], size=4)))
    assert next(given) == b"abc"
    with pytest.raises(SourceChanged, match="the iterable: more than the 4 bytes expected"):
        next(given)


@pytest.mark.parametrize(
    ("size", "error", "message"),
    [
        (-1, ValueError, "file: size must not be negative, and is -1"),
        (True, TypeError, "file: size must be an int, a number of bytes, not bool"),
        (1.0, TypeError, "file: size must be an int, a number of bytes, not float"),
        ("1", TypeError, "file: size must be an int, a number of bytes, not str"),
    ],
)
def test_an_invalid_size_is_refused(size, error, message):
    """A declared size must be an int of at least zero; anything else is refused at the call."""
    with pytest.raises(error, match=re.escape(message)):
        make_source(b"", size=size)


@pytest.mark.parametrize(
    ("file", "error", "message"),
    [
        ("", ValueError, "it must be a path, and '' is none"),
        (PathOf(b""), ValueError, "it must be a path, and '' is none"),
        ("a\0b", ValueError, r"it must be a path, and 'a\x00b' is none"),
        ("a\ud800", ValueError, r"it must be a path, and 'a\ud800' has characters that none can have"),
        (io.StringIO("text"), TypeError, "it is a file object in text mode; open it in binary mode"),
        (memoryview(b"abcd")[::2], ValueError, "it must be contiguous in memory; upload bytes(it) instead"),
        (None, TypeError, "or a function that returns one of the last two, not NoneType"),
        (
            5,
            TypeError,
            "it must be a path (str or os.PathLike), bytes, an Observable of bytes, a binary file",
        ),
        (1.5, TypeError, "not float"),
        ({b"a": b"b"}, TypeError, "not dict"),
        (object(), TypeError, "not object"),
    ],
)
def test_an_invalid_source_is_refused(file, error, message):
    """An invalid source is refused at the call; the error names the argument and what is accepted."""
    with pytest.raises(error, match=re.escape(message)):
        make_source(file, argument="it")


def test_file_is_a_plain_value():
    """File has defaults for everything but its source, compares by value and is immutable."""
    file = File("a.txt")
    assert (file.name, file.filename, file.content_type, file.size) == (None, None, None, None)
    assert file == File(source="a.txt")
    with pytest.raises(dataclasses.FrozenInstanceError):
        file.size = 1


# Paths


def test_a_path_may_be_str_or_pathlike(path):
    """A path may be a str or any os.PathLike, even one that gives bytes."""
    for given_path in (str(path), path, PathOf(str(path)), PathOf(os.fsencode(path))):
        assert read(given_path) == b"content"
        assert make_source(given_path).default_filename == "file.txt"


def test_a_path_is_opened_when_the_upload_starts(tmp_path):
    """A missing file is not an error at the call, but FileNotFoundError with the path at the start."""
    path = tmp_path / "late"
    source = make_source(path)
    with pytest.raises(FileNotFoundError) as missing:
        open_it(source)
    assert missing.value.filename == str(path) or missing.value.filename == path
    path.write_bytes(b"here now")
    with closing(open_it(source)) as reader:
        assert read_all(reader) == b"here now"


def test_a_directory_is_an_error(tmp_path):
    """A directory is IsADirectoryError, with the path."""
    with pytest.raises(IsADirectoryError, match=re.escape(repr(str(tmp_path)))):
        open_it(make_source(tmp_path))


def test_a_directory_is_the_same_error_on_windows(tmp_path):
    """Windows raises PermissionError for a directory; the upload still raises IsADirectoryError."""
    denied = PermissionError(errno.EACCES, "Permission denied", str(tmp_path))
    with mock.patch.object(os, "open", side_effect=denied) as opened:
        with pytest.raises(IsADirectoryError, match=re.escape(repr(str(tmp_path)))):
            open_it(make_source(tmp_path))
        assert opened.called


UNREADABLE = """
import os, sys
from rxupload._sources import make_source
if os.geteuid() == 0:  # root reads everything
    os.setgroups([])
    os.setuid(65534)  # nobody
readable, unreadable = sys.argv[1:]
make_source(readable).open(None).close()
try:
    make_source(unreadable).open(None)
except PermissionError as error:
    print("refused", error.filename)
"""


@posix_only
def test_an_unreadable_file_is_an_error():
    """A file without read permission is PermissionError, with the path."""
    with tempfile.TemporaryDirectory() as directory:
        readable, unreadable = Path(directory, "readable"), Path(directory, "unreadable")
        readable.touch()
        unreadable.touch()
        Path(directory).chmod(0o755)
        readable.chmod(0o644)
        unreadable.chmod(0o000)
        child = [sys.executable, "-c", UNREADABLE, str(readable), str(unreadable)]
        done = subprocess.run(child, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"refused {unreadable}\n", "")


def test_the_size_is_measured_by_each_upload(path, opened):
    """Each upload measures the size again."""
    source = make_source(path)
    assert opened(source).size == 7
    path.write_bytes(b"longer content")
    reader = opened(source)
    assert reader.size == 14
    assert read_all(reader) == b"longer content"


def test_a_file_that_grows_keeps_its_size(path, opened):
    """A file that grows during the upload is sent with its first size, in each pass."""
    reader = opened(make_source(path))
    with path.open("ab") as file:
        file.write(b" and more")
    assert read_all(reader) == b"content"
    assert read_all(reader) == b"content"


def test_a_file_that_shrinks_is_source_changed(path, opened):
    """A file that shrinks during the upload is SourceChanged, with its path and both sizes."""
    reader = opened(make_source(path))
    os.truncate(path, 4)
    given = chunks(reader)
    assert next(given) == b"cont"
    message = f"{path}: 7 bytes expected, and it ended after 4"
    with pytest.raises(SourceChanged, match=re.escape(message)):
        next(given)


def test_a_file_that_is_replaced_is_source_changed(path, opened):
    """A file is opened when its turn comes; if another file has its name by then, that is SourceChanged."""
    reader = opened(make_source(path))
    assert read_all(reader) == b"content"
    another = path.with_name("another")
    another.write_bytes(b"content")
    another.replace(path)
    message = f"{path}: it was replaced by another file since the upload started"
    with pytest.raises(SourceChanged, match=re.escape(message)):
        read_all(reader)


@posix_only
def test_a_file_that_is_replaced_by_a_pipe_is_source_changed(path, opened):
    """If a pipe without a writer has its name, that is SourceChanged at once."""
    reader = opened(make_source(path), is_next=False)
    path.rename(path.with_name("moved"))
    os.mkfifo(path)
    with pytest.raises(SourceChanged, match="replaced by another file"):
        read_all(reader)


def test_a_file_that_is_deleted_is_an_error(path, opened):
    """A file that is gone when its turn comes is FileNotFoundError, with the path."""
    reader = opened(make_source(path), is_next=False)
    path.unlink()
    with pytest.raises(FileNotFoundError) as missing:
        read_all(reader)
    assert Path(missing.value.filename) == path


@posix_only
def test_a_file_that_is_replaced_during_its_turn_is_sent(path, opened):
    """A file that is open already is sent to its end, even if another file takes its name."""
    given = chunks(opened(make_source(path)), 4)
    assert next(given) == b"cont"
    path.unlink()
    path.write_bytes(b"another")
    assert b"".join(given) == b"ent"


@pytest.fixture
def descriptors(monkeypatch):
    """The descriptors that paths were opened with, in order."""
    opened = []

    def spy(path, inside):
        opened.append(open_path(path, inside))
        return opened[-1]

    open_path = path_module._open
    monkeypatch.setattr(path_module, "_open", spy)
    return opened


def is_open(descriptor):
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def test_a_file_is_open_only_during_its_turn(path, descriptors):
    """A file with a later turn is closed before it and after it, even if the pass breaks off."""
    source = make_source(path)
    assert not descriptors
    reader = open_it(source, is_next=False)
    assert not is_open(descriptors[0])
    for take_all in (False, True):
        given = chunks(reader, 3)
        next(given)
        assert is_open(descriptors[-1])
        if take_all:
            list(given)
        else:
            given.close()
        assert not is_open(descriptors[-1])
    reader.close()
    assert len(descriptors) == 3
    with pytest.raises(SourceChanged):
        open_it(make_source(path, size=1))
    assert not is_open(descriptors[3])


def test_a_file_with_the_first_turn_is_opened_once(path, descriptors):
    """A file with the first turn is opened once for its first pass, and again for each further pass."""
    reader = open_it(make_source(path))
    assert read_all(reader) == b"content"
    assert len(descriptors) == 1
    assert read_all(reader) == b"content"
    assert len(descriptors) == 2
    reader.close()
    assert not any(map(is_open, descriptors))


@posix_only
def test_a_pipe_with_a_path_is_read_once(opened):
    """A file that is not regular has no size and is read once; an upload that failed before reading does not count."""
    with os.fdopen(pipe_of(b"content"), "rb") as pipe:
        path = f"/dev/fd/{pipe.fileno()}"
        source = make_source(path)
        open_it(source).close()  # an upload that could not connect
        reader = opened(source)
        assert reader.size is None
        assert read_all(reader) == b"content"
        used_up = re.escape(f"{path} was read before, and can be read only once")
        with pytest.raises(RuntimeError, match=used_up):
            read_all(reader)
        with pytest.raises(RuntimeError, match=used_up):
            open_it(source)


@posix_only
def test_the_declared_size_of_a_pipe_is_its_total(opened):
    """The size declared for a pipe is its total."""
    with os.fdopen(pipe_of(b"content"), "rb") as pipe:
        reader = opened(make_source(f"/dev/fd/{pipe.fileno()}", size=7))
        assert reader.size == 7
        assert read_all(reader) == b"content"


# Bytes


@pytest.mark.parametrize(
    "data",
    [
        array.array("d", [1.0, 2.0]),
        (ctypes.c_char * 4)(*b"abcd"),
        memoryview(bytes(24)).cast("B", (4, 6)),
        memoryview(b""),
        (ctypes.c_char * 0)(),
    ],
    ids=["array of double", "ctypes", "two dimensions", "empty view", "empty ctypes"],
)
def test_any_buffer_is_sent(data, opened):
    """The bytes of any contiguous buffer are sent, whatever its format."""
    reader = opened(make_source(data))
    content = read_all(reader)
    assert content == memoryview(data).tobytes()
    assert reader.size == len(content)


def test_a_memory_map_is_data(path):
    """A memory-mapped file counts as data in memory, not as a file object."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        data.seek(3)
        assert read(data) == b"content"


@pytest.mark.parametrize("size", [1, 8 << 20])
def test_bytes_are_not_copied(size, opened):
    """Bytes are passed on as they are, and any other buffer as a view of itself."""
    data = bytes(size)
    assert next(opened(make_source(data)).pieces()) is data
    writable = bytearray(size)
    view = next(opened(make_source(writable)).pieces())
    writable[-1] = 7
    assert view[-1] == 7


def test_a_bytearray_is_locked_only_during_its_upload():
    """A bytearray cannot be resized during an upload, but can be afterwards, even if a pass broke off."""
    data = bytearray(100)
    source = make_source(data)
    data.append(1)
    reader = open_it(source)
    assert reader.size == 101
    with pytest.raises(BufferError):
        data.append(2)
    given = chunks(reader)
    next(given)
    with pytest.raises(BufferError):
        data.append(2)
    given.close()
    reader.close()
    data.append(3)
    with pytest.raises(SourceChanged):
        open_it(make_source(data, size=1))
    data.append(4)


# File objects


def test_a_file_object_is_read_from_its_position_at_the_call(path, opened):
    """Each pass starts at the file object's position at the call, even if it moves, and leaves it open."""
    with path.open("rb") as file:
        file.read(3)
        source = make_source(file)
        file.seek(0)
        reader = opened(source)
        assert reader.size == 4
        assert read_all(reader) == read_all(reader) == b"tent"
        reader.close()
        assert not file.closed


def test_a_file_object_that_shrinks_is_source_changed(opened):
    """A file object that shrinks during the upload is SourceChanged, with both sizes."""
    file = io.BytesIO(b"content")
    reader = opened(make_source(file))
    file.truncate(4)
    with pytest.raises(SourceChanged, match="the file object: 7 bytes expected, and it ended after 4"):
        read_all(reader)


def test_a_file_object_that_grows_keeps_its_size(path, opened):
    """A file object that grows during the upload is sent with its first size."""
    with path.open("rb") as file:
        reader = opened(make_source(file))
        with path.open("ab") as writer:
            writer.write(b" and more")
        assert read_all(reader) == b"content"


def test_a_compressed_file_is_sent_decompressed(tmp_path, opened):
    """A file object that decompresses gives its decompressed content in every pass."""
    with gzip.open(tmp_path / "a.gz", "wb") as file:
        file.write(b"content" * 1000)
    with gzip.open(tmp_path / "a.gz") as file:
        reader = opened(make_source(file))
        assert reader.size in {7000, None}
        assert read_all(reader) == read_all(reader) == b"content" * 1000


@pytest.mark.parametrize(
    "sources_of",
    [lambda file: [make_source(file), make_source(file)], lambda file: [make_source(Slotted(file))] * 2],
    ids=["two sources", "one source"],
)
@pytest.mark.parametrize("has_pread", [True, False])
def test_one_file_object_can_be_read_on_two_threads(sources_of, has_pread, path, monkeypatch):
    """Simultaneous uploads of one file object never mix their bytes, even on Windows."""
    if not has_pread:
        monkeypatch.delattr(os, "pread", raising=False)
    content = bytes(range(256)) * 16
    path.write_bytes(content)
    together = Barrier(2)

    def upload(source):
        together.wait()
        readers = [open_it(source) for _ in range(20)]
        return [b"".join(chunks(reader, 16)) == content and reader.close() is None for reader in readers]

    with path.open("rb") as file, fast_switching():
        sources = sources_of(file)
        with ThreadPoolExecutor(2) as threads:
            assert all(map(all, threads.map(upload, sources)))


def test_a_read_that_returns_too_much_loses_nothing(opened):
    """If read() returns more than was asked for, nothing is lost."""
    content = bytes(range(256)) * 8192
    file = Pipe(content, bytearray(3))
    assert read_all(opened(make_source(file))) == content + bytes(3)


@posix_only
def test_a_file_object_that_is_closed_during_the_upload_is_sent(path, tmp_path, opened):
    """The owner may close the file object: it is read on, and never the file that gets its descriptor."""
    file = path.open("rb")
    number = file.fileno()
    reader = opened(make_source(file))
    given = chunks(reader, 4)
    assert next(given) == b"cont"
    file.close()
    with ExitStack() as stack:
        another = stack.enter_context((tmp_path / "another").open("w+b"))
        while another.fileno() < number:  # where one of an earlier test was just closed
            another = stack.enter_context((tmp_path / "another").open("w+b"))
        assert another.fileno() == number
        another.write(b"the secret of another file")
        another.flush()
        assert b"".join(given) == b"ent"
        assert read_all(reader) == b"content"
        reader.close()
        assert another.read() == b""  # still open, at the same position


@posix_only
def test_a_file_object_keeps_its_position(path, opened):
    """Reading a file of the system does not move the caller's file object."""
    with path.open("rb") as file:
        file.seek(2)
        reader = opened(make_source(file))
        given = chunks(reader, 1)
        assert next(given) == b"n"
        assert file.tell() == 2
        assert file.read() == b"ntent"
        assert b"".join(given) == b"tent"


def test_a_file_object_needs_only_read(opened):
    """A file object with only read() is read once; its class is a function that returns one."""

    class Minimal:
        def __init__(self):
            self._left = [b"content"]

        def read(self, size):
            return self._left.pop() if self._left else b""

    reader = opened(make_source(Minimal()))
    assert reader.size is None
    assert read_all(reader) == b"content"
    with pytest.raises(RuntimeError, match="the file object was read before"):
        read_all(reader)
    assert read(Minimal) == b"content"


def test_a_closed_file_object_is_refused(path):
    """A closed file object is refused at the call; one that is closed later, before anything is sent."""
    with path.open("rb") as file:
        source = make_source(file)
    with pytest.raises(ValueError, match="closed"):
        open_it(source)
    with pytest.raises(ValueError, match="it is a closed file object"):
        make_source(file, argument="it")


def test_a_file_object_open_for_writing_is_refused(path):
    """A file object open for writing is refused at the call."""
    with (
        path.open("ab") as file,
        pytest.raises(ValueError, match="it is a file object that was not opened for reading"),
    ):
        make_source(file, argument="it")


def test_a_text_file_is_refused(path):
    """A file object in text mode is refused at the call, even behind a wrapper; the error says what to do."""
    with (
        path.open() as file,
        pytest.raises(TypeError, match=re.escape('text mode; open it in binary mode: open(path, "rb")')),
    ):
        make_source(file)
    with tempfile.NamedTemporaryFile("w+") as file, pytest.raises(TypeError, match="text mode"):
        make_source(file)


@posix_only
@pytest.mark.parametrize("buffering", [0, -1])
def test_a_pipe_is_read_once(buffering, opened):
    """A file object that cannot seek has no size, and a second pass over it is an error."""
    with os.fdopen(pipe_of(b"content"), "rb", buffering=buffering) as pipe:
        source = make_source(pipe)
        open_it(source).close()  # an upload that could not connect
        reader = opened(source)
        assert reader.size is None
        assert read_all(reader) == b"content"
        for again in (lambda: read_all(reader), lambda: open_it(source)):
            with pytest.raises(
                RuntimeError, match="the file object was read before, and can be read only once"
            ):
                again()
        reader.close()
        assert not pipe.closed


@posix_only
def test_a_pipe_gives_what_it_has(opened):
    """The content of a pipe is read before its writer has filled a chunk."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as pipe, os.fdopen(writing, "wb", buffering=0) as writer:
        writer.write(b"one")
        given = chunks(opened(make_source(pipe)))
        assert next(given) == b"one"
        writer.write(b"two")
        assert next(given) == b"two"


@posix_only
@pytest.mark.parametrize("buffering", [0, -1])
def test_an_empty_nonblocking_pipe_is_an_error(buffering, opened):
    """An empty non-blocking pipe is BlockingIOError, and not an empty file."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with (
        os.fdopen(reading, "rb", buffering=buffering) as pipe,
        os.fdopen(writing, "wb", buffering=0) as writer,
    ):
        source = make_source(pipe)
        with pytest.raises(BlockingIOError, match="non-blocking and has no data now"):
            open_it(source)
        writer.write(b"content")
        writer.close()
        assert read_all(opened(source)) == b"content"


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("text", "read() returned str, not bytes; open it in binary mode"),
        (5, "read() returned int, not bytes"),
    ],
)
def test_a_read_that_returns_no_bytes_is_a_type_error(item, message):
    """A read() that does not return bytes is a TypeError; without seek, it comes before anything is sent."""
    with pytest.raises(TypeError, match=re.escape(message)):
        open_it(make_source(Pipe(item)))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("/directory/file.txt", "file.txt"),
        ("file.txt", "file.txt"),
        ("<stdin>", "upload"),
        ("/", "upload"),
        ("", "upload"),
        (3, "upload"),
        (None, "upload"),
        (b"/directory/file.txt", "file.txt"),
        (os.fsencode("\udcff.txt"), "\udcff.txt"),
    ],
)
def test_the_filename_of_a_file_object(name, expected):
    """A file object's name is used if it is a path, but not if it is a descriptor or a placeholder."""
    seekable, pipe = io.BytesIO(), Pipe()
    seekable.name = pipe.name = name
    assert make_source(seekable).default_filename == expected
    assert make_source(pipe).default_filename == expected


@pytest.mark.parametrize(
    "file", [b"", [], iter([]), list, io.BytesIO()], ids=lambda file: type(file).__name__
)
def test_the_default_filename(file):
    """A source without a name is called "upload"."""
    assert make_source(file).default_filename == "upload"


def test_a_path_without_a_base_name():
    """A path that ends in a slash has no base name."""
    assert make_source(os.sep).default_filename == "upload"


# Iterators and iterables


def test_an_iterator_is_read_once(opened):
    """A second pass over an iterator, in the same upload or another, is an error that says what to do."""
    source = make_source(iter([b"one", b"two"]))
    reader = opened(source)
    assert read_all(reader) == b"onetwo"
    message = (
        "the iterator was read before, and can be read only once; for a retry, a redirect or another upload, "
        "give a path, bytes, or a function that returns a fresh iterable"
    )
    for again in (lambda: read_all(reader), lambda: open_it(source)):
        with pytest.raises(RuntimeError, match=re.escape(message)):
            again()


def test_an_iterator_survives_an_upload_that_failed_before_reading(opened):
    """Opening reads one item; an upload that could not connect leaves it for the next upload."""
    source = make_source(iter([b"one", b"two"]))
    open_it(source).close()
    open_it(source).close()
    assert read_all(opened(source)) == b"onetwo"


def test_an_iterator_of_two_uploads_goes_to_the_first(opened):
    """The first upload that reads an iterator gets all of it, and the other gets an error and no byte."""
    source = make_source(iter([b"one", b"two"]))
    first, second = opened(source), opened(source)
    given = chunks(first)
    assert next(given) == b"one"
    with pytest.raises(RuntimeError, match="the iterator was read before"):
        next(chunks(second))
    assert list(given) == [b"two"]


def test_an_empty_iterator_is_an_empty_file(opened):
    """An iterator without items is an empty file."""
    assert read_all(opened(make_source(iter([])))) == b""
    assert read_all(opened(make_source(chunk for chunk in ()))) == b""


def test_an_exhausted_generator_is_an_error():
    """A generator that was read elsewhere is an error, and not an empty file."""
    generator = (chunk for chunk in [b"content"])
    list(generator)
    for source in (make_source(generator), make_source(lambda: generator)):
        with pytest.raises(RuntimeError, match="was read before"):
            open_it(source)


def test_a_function_that_returns_the_same_generator_is_an_error(opened):
    """A function must return a new generator each time."""
    generator = (chunk for chunk in [b"content"])
    reader = opened(make_source(lambda: generator))
    assert read_all(reader) == b"content"
    with pytest.raises(RuntimeError, match="what the function returned was read before"):
        read_all(reader)


@pytest.mark.parametrize(
    "of", [iter, list, lambda items: lambda: items], ids=["iterator", "iterable", "function"]
)
@pytest.mark.parametrize("item", ["text", 5, None])
def test_an_item_that_is_not_bytes_is_a_type_error(of, item, opened):
    """An item that is not bytes-like is a TypeError with its index; if it is the first, nothing is sent."""
    for _ in range(2):
        source = make_source(of([item]))
        with pytest.raises(TypeError, match=f"must give bytes, and its item 0 is {type(item).__name__}"):
            open_it(source)
    given = chunks(opened(make_source(of([b"", b"one", item]))))
    assert next(given) == b"one"
    with pytest.raises(TypeError, match=f"must give bytes, and its item 2 is {type(item).__name__}"):
        next(given)


def test_an_iterable_of_paths_is_an_error():
    """An iterable of paths is a TypeError that says how to give several files."""
    for paths in ({Path("a.jpg")}, iter([Path("a.jpg")])):
        with pytest.raises(TypeError, match=r"item 0 is .*Path; several files are a list or a tuple"):
            open_it(make_source(paths))


def test_an_iterator_of_text_is_the_same_error_again():
    """A second attempt does not skip the wrong item."""
    source = make_source(iter(["text", b"bytes"]))
    for _ in range(2):
        with pytest.raises(TypeError, match="item 0 is str"):
            open_it(source)


@pytest.mark.parametrize("of", [lambda items: items(), lambda items: items], ids=["generator", "function"])
def test_an_exception_of_an_iterable_is_raised_unchanged(of, opened):
    """An iterable's exception is raised unchanged; at the first item, it comes before anything is sent."""

    def at_once():
        raise KeyError("mine")
        yield

    def later():
        yield b"one"
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        open_it(make_source(of(at_once)))
    given = chunks(opened(make_source(of(later))))
    assert next(given) == b"one"
    with pytest.raises(KeyError, match="mine"):
        next(given)


def test_items_are_passed_on_one_by_one(opened):
    """Items are neither joined nor read ahead, except the one that opening reads."""
    drawn = []

    def items():
        for item in (b"one", b"two", b"three"):
            drawn.append(item)
            yield item

    given = chunks(opened(make_source(items)))
    assert drawn == [b"one"]
    assert next(given) == b"one"
    assert next(given) == b"two"
    assert drawn == [b"one", b"two"]


@settings(max_examples=100)
@given(st.lists(st.binary(max_size=30) | st.binary(max_size=30).map(bytearray)))
def test_pieces_of_an_iterable(items):
    """Empty items are skipped, and all bytes arrive in order."""
    assert list(chunks(open_it(make_source(items)))) == [bytes(item) for item in items if item]


def test_a_long_item_is_not_copied(opened):
    """An item of more than 1 MiB is passed on as it is; a shorter one is copied, so that its buffer can be reused."""
    long, short = bytearray((1 << 20) + 1), bytearray(1 << 20)
    [flow] = opened(make_source([long, short])).pieces()
    view = flow.read(1)
    copy = flow.read(1)
    long[0] = short[0] = 7
    assert view[0] == 7
    assert copy == bytes(1 << 20)


def test_the_callers_iterator_is_not_closed():
    """An iterator belongs to the caller, who may continue with it after an upload that broke off."""
    generator = (chunk for chunk in [b"one", b"two", b"three"])
    reader = open_it(make_source(generator))
    next(chunks(reader))
    reader.close()
    assert next(generator) == b"two"
    items = Items(b"one")
    assert read(iter(items)) == b"one"
    assert items.closed == 0


@pytest.mark.parametrize(
    "of", [lambda items: items, lambda items: items.__iter__], ids=["iterable", "function"]
)
def test_the_librarys_iterators_are_closed(of):
    """The library closes the iterators that it creates, even if the pass breaks off or never starts."""
    items = Items(b"one", b"two")
    reader = open_it(make_source(of(items)))
    assert (items.begun, items.closed) == (1, 0)
    assert read_all(reader) == b"onetwo"
    assert (items.begun, items.closed) == (1, 1)
    given = chunks(reader)
    next(given)
    assert (items.begun, items.closed) == (2, 1)
    given.close()
    assert (items.begun, items.closed) == (2, 2)
    open_it(make_source(of(items))).close()
    assert (items.begun, items.closed) == (3, 3)


# Functions


def test_a_function_is_called_once_for_each_pass(opened):
    """The first call is made when the upload starts, for its first pass."""
    calls = []

    def content():
        calls.append(len(calls))
        return [bytes([len(calls)])]

    source = make_source(content)
    assert not calls
    reader = opened(source)
    assert len(calls) == 1
    assert read_all(reader) == b"\1"
    assert read_all(reader) == b"\2"
    assert read_all(opened(source)) == b"\3"


def test_a_functions_file_object_is_closed_after_its_pass(opened):
    """The file object is read from its position, gives the size, and is closed after its pass."""
    files = []

    def content():
        files.append(io.BytesIO(b"content"))
        files[-1].seek(3)
        return files[-1]

    reader = opened(make_source(content))
    assert reader.size == 4
    assert read_all(reader) == b"tent"
    assert files[0].closed
    next(chunks(reader))
    reader.close()
    assert files[1].closed


def test_a_functions_file_object_is_closed_if_never_read():
    """A file object that a function returned is closed, even if the upload failed before reading it."""
    file, text = io.BytesIO(b"content"), io.StringIO("text")
    open_it(make_source(lambda: file)).close()
    assert file.closed
    with pytest.raises(TypeError, match="what the function returned is a file object in text mode"):
        open_it(make_source(lambda: text))
    assert text.closed


def test_a_function_with_changing_content_is_source_changed(opened):
    """The first pass fixes the length of the body, so a pass of another size is SourceChanged."""
    contents = [b"content", b"cont"]
    reader = opened(make_source(lambda: io.BytesIO(contents.pop(0))))
    assert read_all(reader) == b"content"
    with pytest.raises(SourceChanged, match="7 bytes expected, and it ended after 4"):
        read_all(reader)


def test_an_exception_of_a_function_is_raised_unchanged():
    """The function's exception is raised unchanged, before anything is sent."""
    with pytest.raises(ZeroDivisionError):
        open_it(make_source(lambda: 1 / 0))


@pytest.mark.parametrize(
    "returned", [b"content", "path", {}, None, 5, bytearray()], ids=lambda value: type(value).__name__
)
def test_a_function_that_returns_something_else_is_a_type_error(returned):
    """A function must return an iterable or a file object; the error says so before anything is sent."""
    message = "what the function returned must be an iterable of bytes or a binary file object, not "
    with pytest.raises(TypeError, match=message + type(returned).__name__):
        open_it(make_source(lambda: returned))
