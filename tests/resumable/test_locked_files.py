"""How the files of an unfinished upload are written, and what becomes of the errors of a disk."""

from __future__ import annotations

import errno
import os
import stat
import sys
from typing import Any

import pytest
from support.descriptors import descriptors
from support.stores import (
    NAME,
    SECRET,
    entry,
    names,
    posix,
    reread,
    stored,
    take,
)

from rxupload.resumable import locked_files
from rxupload.resumable.file_store import FileStore


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def store(folder):
    return FileStore(folder)


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_full_disk_is_an_error_and_the_old_state_stays(store, folder, monkeypatch, call):
    """The error names the file and the reason. The old state is there, and no temporary file."""
    stored(store, entry(1))

    def fail(*_args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    slot = take(store)
    with monkeypatch.context() as patched:
        patched.setattr(locked_files.os, call, fail)
        with pytest.raises(OSError, match="the state of the upload cannot be stored: No space") as caught:
            slot.save(entry(2))
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(folder / f"{NAME}.json"))
    assert SECRET not in str(caught.value)
    assert slot.entry == entry(1)
    slot.close()
    assert reread(store) == entry(1)
    assert names(folder) == [f"{NAME}.json"]


@posix
def test_a_file_system_without_locks_is_an_error(store, monkeypatch):
    """The error says so, and what to do; and nothing stays open."""

    def fail(_descriptor: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    with monkeypatch.context() as patched:
        patched.setattr(locked_files, "_lock", fail)
        before = descriptors()
        with pytest.raises(OSError, match=r"has no locks .*give FileStore a local folder"):
            take(store)
        assert descriptors() <= before
    take(store).close()


def test_a_short_write_is_continued(store, monkeypatch):
    """A system that takes only some bytes of a write gets the others."""
    real = os.write
    with monkeypatch.context() as patched:
        patched.setattr(locked_files.os, "write", lambda descriptor, data: real(descriptor, data[:7]))
        stored(store, entry(1))
    assert reread(store) == entry(1)


def test_a_state_is_durable_when_save_returns(store, folder, monkeypatch):
    """The content is synced before the rename, and the folder after it."""
    slot = take(store)
    calls = []

    def recorded(name: str) -> Any:
        real = getattr(os, name)

        def call(first: Any, *rest: Any) -> Any:
            is_folder = isinstance(first, int) and stat.S_ISDIR(os.fstat(first).st_mode)
            calls.append(f"{name} of the folder" if is_folder else name)
            return real(first, *rest)

        return call

    with monkeypatch.context() as patched:
        for name in ("write", "fsync", "replace"):
            patched.setattr(locked_files.os, name, recorded(name))
        slot.save(entry(1))
    slot.close()
    folder_sync = [] if sys.platform == "win32" else ["fsync of the folder"]
    assert calls == ["write", "fsync", "replace", *folder_sync]


def test_nothing_stays(store, folder):
    """After an upload is forgotten, there is neither a file nor a descriptor."""
    before = descriptors()
    slot = take(store)
    slot.save(entry(1))
    slot.remove()
    slot.close()
    assert names(folder) == []
    assert descriptors() <= before
