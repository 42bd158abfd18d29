"""Sizes that lie: files whose size only reading tells, and files that grow meanwhile."""

from __future__ import annotations

import os
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from support.owner import FakeOwner
from support.pieces import chunks, read_all
from support.scripted_server import Server, header

from rxupload import SourceChanged, upload
from rxupload._sources import hidden, make_source

VERSION = Path("/proc/version")
LARGE = Path("/proc/kallsyms")

linux_only = pytest.mark.skipif(not VERSION.exists(), reason="needs /proc")


def attribute_of_sysfs():
    """A file in /sys that says 4096 bytes and has fewer."""
    for path in (Path("/sys/kernel/mm/transparent_hugepage/enabled"), *Path("/sys/kernel").glob("*")):
        try:
            if path.is_file() and path.stat().st_size == 4096 and 0 < len(path.read_bytes()) < 4096:
                return path
        except OSError:
            continue
    return None


SYSFS = attribute_of_sysfs()


@contextmanager
def opened(source, **options):
    with closing(make_source(source).open(FakeOwner(), **options)) as reader:
        yield reader


@contextmanager
def source_of(kind, path):
    """The same file as a path, a file object, or a function of one."""
    if kind == "path":
        yield path
    elif kind == "function":
        yield lambda: path.open("rb")
    else:
        with path.open("rb", buffering=0 if kind == "raw file object" else -1) as file:
            yield file


every_kind = pytest.mark.parametrize("kind", ["path", "file object", "raw file object", "function"])


@linux_only
@every_kind
def test_a_file_in_proc_has_its_content_and_an_exact_length(kind):
    """A file of 0 bytes by stat is read to find out; every pass sends the same."""
    assert VERSION.stat().st_size == 0
    with source_of(kind, VERSION) as source, opened(source) as reader:
        content = VERSION.read_bytes()
        assert reader.size == len(content) > 0
        assert read_all(reader) == read_all(reader) == content


@pytest.mark.skipif(SYSFS is None, reason="needs a /sys with files")
@every_kind
def test_a_file_in_sys_is_as_long_as_it_is_not_as_it_says(kind):
    """A file that says 4096 bytes, and has fewer, is sent as long as it is."""
    with source_of(kind, SYSFS) as source, opened(source) as reader:
        assert reader.size == len(SYSFS.read_bytes()) < 4096
        assert read_all(reader) == SYSFS.read_bytes()


@linux_only
@pytest.mark.parametrize("kind", ["path", "file object"])
@pytest.mark.parametrize("raw", [True, False])
def test_a_server_gets_a_file_in_proc(kind, raw):
    """A server gets its content, with a Content-Length."""
    got = []

    def script(connection):
        head = connection.read_head()
        got.append((head, connection.read_body()))
        connection.respond()

    with Server(script) as server, source_of(kind, VERSION) as source:
        upload(server.url, source, raw=raw).run()
    ((head, body),) = got
    assert header(head, b"content-length") == b"%d" % len(body)
    assert VERSION.read_bytes() in body


@linux_only
def test_a_file_object_in_proc_is_read_from_its_position():
    """A file object in /proc is read from its position at the call."""
    with VERSION.open("rb") as file:
        file.read(5)
        with opened(file) as reader:
            assert reader.size == len(VERSION.read_bytes()) - 5
            assert read_all(reader) == VERSION.read_bytes()[5:]


@pytest.mark.parametrize("kind", ["path", "file object"])
@pytest.mark.parametrize("is_next", [True, False])
@pytest.mark.parametrize("size", [0, 1, 100, 101, 1000])
def test_more_than_fits_is_sent_without_a_length(kind, is_next, size, tmp_path, monkeypatch):
    """More than the library reads to find out has no size, and is read again by each pass; less has its size."""
    path = tmp_path / "file"
    path.write_bytes(os.urandom(size))
    monkeypatch.setattr(hidden, "_MOST", 100)
    monkeypatch.setattr(hidden, "_STEP", 7)
    state_nothing(monkeypatch)
    with source_of(kind, path) as source, opened(source, is_next=is_next) as reader:
        assert reader.size == (size if size <= 100 else None)
        for count in (7, 1 << 20):
            assert b"".join(chunks(reader, count)) == path.read_bytes()


def state_nothing(monkeypatch):
    """Have every file state 0 bytes, as a FUSE mount with direct I/O does."""
    fstat = os.fstat

    def lying(descriptor):
        values = list(fstat(descriptor))
        values[6] = 0
        return os.stat_result(values, {"st_blocks": 0})

    monkeypatch.setattr(os, "fstat", lying)


def test_a_declared_size_is_checked_against_what_is_found(tmp_path, monkeypatch):
    """A declared size is compared with the size that reading finds, and not with the stated one."""
    path = tmp_path / "file"
    path.write_bytes(b"content")
    state_nothing(monkeypatch)
    with closing(make_source(path, size=7).open(FakeOwner())) as reader:
        assert read_all(reader) == b"content"
    with pytest.raises(SourceChanged, match="8 bytes were declared, and it has 7"):
        make_source(path, size=8).open(FakeOwner())


@every_kind
def test_an_empty_file_stays_empty(kind, tmp_path):
    """An empty file has the exact length 0."""
    path = tmp_path / "empty"
    path.touch()
    with source_of(kind, path) as source, opened(source) as reader:
        assert reader.size == 0
        assert read_all(reader) == b""


@every_kind
def test_an_empty_file_that_grows_meanwhile_stays_empty(kind, tmp_path):
    """A log that is empty when the upload starts is sent as empty, even if it grows before its turn."""
    path = tmp_path / "log"
    path.touch()
    with source_of(kind, path) as source, opened(source) as reader:
        path.write_bytes(b"a line\n")
        assert reader.size == 0
        assert read_all(reader) == b""


@every_kind
@pytest.mark.parametrize("size", [1, 100_000])
def test_a_log_that_grows_meanwhile_is_sent_as_long_as_it_was(kind, size, tmp_path):
    """A log is sent as long as it was at the start."""
    path = tmp_path / "log"
    path.write_bytes(bytes(size))
    with source_of(kind, path) as source, opened(source) as reader:
        with path.open("ab") as log:
            log.write(b"a line\n")
        assert reader.size == size
        assert read_all(reader) == bytes(size)


@every_kind
def test_a_sparse_file_without_blocks_is_whole(kind, tmp_path):
    """A small file without a block on the disk may say the truth."""
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(5000)
    with source_of(kind, path) as source, opened(source) as reader:
        assert reader.size == 5000
        assert read_all(reader) == bytes(5000)


def test_a_large_file_is_not_read_ahead(tmp_path, monkeypatch):
    """A file that says more than 64 KiB, or that is on the disk, is not read before its turn."""
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(65 * 1024)
    monkeypatch.setattr(hidden, "read_at", None)
    with opened(path) as reader:
        assert reader.size == 65 * 1024
