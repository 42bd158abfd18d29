"""The files of a `FileStore`: where they are, who may read them, and what happens to those that it cannot read."""

from __future__ import annotations

import errno
import json
import logging
import os
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.stores import NOW, SECRET, entry, key, no_wait, take

from rxupload.resumable import locked_files
from rxupload.resumable.file_store import FileStore, StoredUpload
from rxupload.resumable.identity import Checkpoint, Identity
from rxupload.resumable.store import Entry, key_of

DAY = 86400
HASH = "ab" * 32
NAME = key().name

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes and no owners by number")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def store(folder):
    return FileStore(folder)


def stored(store: FileStore, made: Entry, number: int = 0) -> None:
    slot = take(store, number)
    slot.save(made)
    slot.close()


def reread(store: FileStore, number: int = 0) -> Entry | None:
    slot = take(store, number)
    slot.close()
    return slot.entry


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


# Where


@pytest.mark.skipif(sys.platform != "linux", reason="the environment variable is that of XDG")
def test_the_folder_is_the_state_folder_of_the_platform(monkeypatch, tmp_path):
    """Without a directory, the files are in `rxupload` in the user's state folder, which is made."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "new" / "state"))
    stored(FileStore(), entry(1))
    assert names(tmp_path / "new" / "state" / "rxupload") == [f"{NAME}.json"]


def test_a_relative_folder_stays_where_it_is(monkeypatch, tmp_path):
    """A relative folder does not move if the working directory changes."""
    monkeypatch.chdir(tmp_path)
    store = FileStore("state")
    monkeypatch.chdir("/")
    stored(store, entry(1))
    assert names(tmp_path / "state") == [f"{NAME}.json"]


@pytest.mark.parametrize("wrong", [b"state", 1, object()])
def test_what_is_no_path_is_an_error(wrong):
    """The error names the argument."""
    with pytest.raises(TypeError, match="directory: expected a str, a Path or None"):
        FileStore(wrong)


def test_platformdirs_is_not_loaded_with_the_module():
    """A program that gives a folder does without platformdirs."""
    code = "import sys, rxupload.resumable.file_store; print('platformdirs' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("False", "")


def test_a_source_without_a_path_is_refused(store, folder):
    """A FileStore could never find such an upload again; the error says what to use."""
    with pytest.raises(ValueError, match=r"store: .* use a MemoryStore"):
        store.open(key_of("tus", "https://server.test", None, None), no_wait, lambda: False)
    assert not folder.exists()


def test_a_path_that_is_no_text_comes_back(store, tmp_path):
    """A filename of any bytes is stored as it is."""
    made = key_of("tus", "https://server.test", os.fsdecode(os.fsencode(tmp_path) + b"/\xff"), None)
    slot = store.open(made, no_wait, lambda: False)
    slot.save(entry(1))
    slot.close()
    assert store.uploads()[0].path == made.path
    slot = store.open(made, no_wait, lambda: False)
    slot.close()
    assert slot.entry == entry(1)


# Who may read


@posix
@pytest.mark.parametrize("umask", [0, 0o777])
def test_only_the_owner_may_read(store, folder, umask):
    """Whatever the umask is, the folder has mode 0700, and the state and the lock have 0600."""
    before = os.umask(umask)
    try:
        slot = take(store)
        slot.save(entry(1))
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in [folder, *folder.iterdir()]}
        slot.close()
    finally:
        os.umask(before)
    assert modes.pop("state") == 0o700
    assert modes == {f"{NAME}.json": 0o600, f"{NAME}.lock": 0o600 & ~umask}


@posix
@pytest.mark.parametrize("mode", [0o770, 0o702, 0o1777])
def test_a_folder_that_others_may_write_to_is_refused(store, folder, mode):
    """Others could put a URL there, and get the file. The error says what to do."""
    folder.mkdir()
    folder.chmod(mode)
    for use in (lambda: take(store), store.uploads, store.clean):
        with pytest.raises(PermissionError, match=r"others may write to the folder.*chmod 700") as caught:
            use()
        assert caught.value.filename == str(folder)
    assert names(folder) == []


@posix
def test_a_folder_of_another_user_is_refused(store, folder, monkeypatch):
    """The owner of the folder could put a URL there, whatever its mode is."""
    folder.mkdir(0o700)
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    with pytest.raises(PermissionError, match="belongs to another user"):
        take(store)


def test_a_file_in_place_of_the_folder_is_an_error(store, folder):
    """The error of the system names the path."""
    folder.touch()
    with pytest.raises(NotADirectoryError, match="state"):
        take(store)


@posix
def test_a_link_in_place_of_a_file_is_not_followed(store, folder, tmp_path, caplog):
    """A link is neither read nor written through."""
    target = tmp_path / "target"
    target.write_text("mine")
    folder.mkdir(0o700)
    for suffix in ("json", "tmp"):
        (folder / f"{NAME}.{suffix}").symlink_to(target)
    slot = take(store)
    assert slot.entry is None
    with pytest.raises(OSError, match="cannot be stored"):
        slot.save(entry(1))
    slot.save(entry(1))  # the link of the temporary file is gone
    slot.close()
    assert target.read_text() == "mine"
    assert reread(store) == entry(1)


# What


def test_the_state_is_json_without_any_secret_but_the_url(store, folder):
    """The file says what it is, and has the values of the entry."""
    identity = Identity(10, 2, 3, 4, HASH)
    made = Entry(SECRET, NOW, NOW + 1, identity, Checkpoint(10, HASH), 65536, {"a": "b"})
    stored(store, made)
    assert json.loads((folder / f"{NAME}.json").read_text()) == {
        "format": 1,
        "name": NAME,
        "protocol": "tus",
        "endpoint": "https://server.test/files",
        "path": str(key().path),
        "entry": {
            "url": SECRET,
            "created": NOW,
            "expires": NOW + 1,
            "identity": {"size": 10, "mtime_ns": 2, "ctime_ns": 3, "inode": 4, "ends": HASH},
            "checkpoint": {"offset": 10, "sha256": HASH},
            "chunk_size": 65536,
            "extra": {"a": "b"},
        },
    }


def whole() -> dict[str, Any]:
    identity = {"size": 10, "mtime_ns": 2, "ctime_ns": 3, "inode": 4, "ends": HASH}
    inner = {"url": SECRET, "created": NOW, "identity": identity, "extra": {}}
    about = {"name": NAME, "protocol": "tus", "endpoint": "https://server.test", "path": "/a"}
    return {"format": 1, **about, "entry": inner}


def with_value(path: str, value: Any) -> bytes:
    made = whole()
    inner = made
    *folders, name = path.split("/")
    for each in folders:
        inner = inner[each]
    inner[name] = value
    return json.dumps(made).encode()


DAMAGED = {
    "empty": (b"", "not JSON"),
    "truncated": (json.dumps(whole()).encode()[:-9], "not JSON"),
    "not text": (b"\xff\xfe\xff" + SECRET.encode(), "not JSON"),
    "nested": (b"[" * 100_000, "not JSON"),
    "a list": (b"[]", "not the state of an upload"),
    "foreign": (b'{"url": "5ecre7"}', "not the state of an upload"),
    "newer": (with_value("format", 2), "has the format 2"),
    "a word as format": (with_value("format", "5ecre7"), "not the state of an upload"),
    "of another upload": (with_value("name", key(1).name), "state of another upload"),
    "no entry": (with_value("entry", None), "state of another upload"),
    "large": (with_value("entry/extra", {"a": "b" * 1024 * 1024}), "too large"),
    "url": (with_value("entry/url", 1), "no valid 'url'"),
    "created": (with_value("entry/created", None), "no valid 'created'"),
    "NaN": (with_value("entry/created", float("nan")), "no valid 'created'"),
    "infinity": (with_value("entry/created", float("inf")), "no valid 'created'"),
    "true": (with_value("entry/created", True), "no valid 'created'"),
    "huge": (with_value("entry/created", 10**400), "no valid 'created'"),
    "expires": (with_value("entry/expires", "soon"), "no valid 'expires'"),
    "identity": (with_value("entry/identity", "5ecre7"), "no valid 'identity'"),
    "size": (with_value("entry/identity/size", -1), "no valid 'size'"),
    "mtime": (with_value("entry/identity/mtime_ns", 1.5), "no valid 'mtime_ns'"),
    "ends": (with_value("entry/identity/ends", "5ecre7"), "no valid 'ends'"),
    "checkpoint": (with_value("entry/checkpoint", {"offset": 10, "sha256": "x"}), "no valid 'sha256'"),
    "offset": (with_value("entry/checkpoint", {"offset": 11, "sha256": HASH}), "does not fit the file"),
    "block": (with_value("entry/checkpoint", {"offset": 9, "sha256": HASH}), "does not fit the file"),
    "start": (with_value("entry/checkpoint", {"offset": 0, "sha256": HASH}), "does not fit the file"),
    "chunk": (with_value("entry/chunk_size", "5ecre7"), "no valid 'chunk_size'"),
    "extra": (with_value("entry/extra", {"a": 1}), "no valid 'extra'"),
    "no extra": (with_value("entry/extra", None), "no valid 'extra'"),
}


def put(folder: Path, data: bytes, age: float = 0) -> Path:
    folder.mkdir(0o700, exist_ok=True)
    path = folder / f"{NAME}.json"
    path.write_bytes(data)
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_the_example_of_a_state_is_whole(store, folder):
    """What the damaged files are made of can be read."""
    put(folder, json.dumps(whole()).encode())
    assert reread(store).url == SECRET


@pytest.mark.parametrize(("data", "reason"), DAMAGED.values(), ids=DAMAGED)
def test_a_state_that_cannot_be_read_is_none(store, folder, caplog, data, reason):
    """A damaged, foreign or newer file is as none. A warning names the file and the reason, and no secret."""
    path = put(folder, data)
    caplog.set_level(logging.WARNING, "rxupload")
    slot = take(store)
    assert slot.entry is None
    (record,) = caplog.records
    warning = record.getMessage()
    assert str(path) in warning
    assert reason in warning
    assert "5ecre7" not in caplog.text
    slot.save(entry(1))
    slot.close()
    assert reread(store) == entry(1)


@posix
@pytest.mark.parametrize("kind", ["a folder", "a pipe"])
def test_what_is_no_file_in_its_place_is_none(store, folder, caplog, kind):
    """A folder or a pipe with the name of a state is as none, and nothing hangs."""
    folder.mkdir(0o700)
    path = folder / f"{NAME}.json"
    path.mkdir() if kind == "a folder" else os.mkfifo(path)
    assert reread(store) is None
    assert str(path) in caplog.text


def test_other_files_in_the_folder_are_left_alone(store, folder, caplog):
    """Files with other names are neither read nor removed."""
    folder.mkdir(0o700)
    others = ["notes.txt", "a.json", f"{NAME}.json.bak", f"{NAME[:-1]}g.lock", f"{NAME}0.tmp"]
    for name in others:
        (folder / name).touch()
        os.utime(folder / name, (0, 0))
    assert store.uploads() == []
    assert store.clean() == 0
    stored(store, entry(1))
    assert names(folder) == sorted([*others, f"{NAME}.json"])
    assert caplog.text == ""


# Errors of the disk


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
        before = len(list(Path("/dev/fd").iterdir()))
        with pytest.raises(OSError, match=r"has no locks .*give FileStore a local folder"):
            take(store)
        assert len(list(Path("/dev/fd").iterdir())) == before
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
    before = sorted(Path("/dev/fd").iterdir())
    slot = take(store)
    slot.save(entry(1))
    slot.remove()
    slot.close()
    assert names(folder) == []
    assert sorted(Path("/dev/fd").iterdir()) == before


# The list


def test_uploads_are_listed_without_secrets(store):
    """The list has what a person may want to know, the oldest upload first."""
    identity = Identity(10, 2, 3, 4, HASH)
    stored(store, replace(entry(1), created=NOW + 1, expires=NOW + 9), 1)
    stored(store, Entry(SECRET, NOW, identity=identity, checkpoint=Checkpoint(10, HASH)), 2)
    assert store.uploads() == [
        StoredUpload(key(2).path, "tus", "https://server.test/files", NOW, None, 10, 10),
        StoredUpload(key(1).path, "tus", "https://server.test/files", NOW + 1, NOW + 9, None, 0),
    ]
    assert "5ecre7" not in repr(store.uploads())


def test_without_a_folder_there_are_no_uploads(store, folder):
    """To list or to clean makes no folder."""
    assert (store.uploads(), store.clean()) == ([], 0)
    assert not folder.exists()


def test_an_upload_that_is_over_is_not_listed_and_is_cleaned(store, folder):
    """What has expired or is too old goes; the rest stays."""
    take(store, 9).close()  # so that the store does not clean by itself for an hour
    stored(store, Entry(SECRET, time.time() - 31 * DAY), 1)
    stored(store, Entry(SECRET, time.time(), time.time() - 1), 2)
    stored(store, Entry(SECRET, time.time() - 29 * DAY), 3)
    assert [each.path for each in store.uploads()] == [key(3).path]
    assert store.clean() == 2
    assert names(folder) == [f"{key(3).name}.json"]


def test_opening_cleans_the_folder_once_an_hour(folder, monkeypatch):
    """Old uploads go although nobody asks for it, also those of other files."""
    stored(FileStore(folder), Entry(SECRET, time.time() - 31 * DAY), 1)
    store = FileStore(folder)
    take(store, 2).close()
    assert names(folder) == []
    stored(store, Entry(SECRET, time.time() - 31 * DAY), 1)
    take(store, 2).close()
    assert names(folder) == [f"{key(1).name}.json"]
    now = time.monotonic() + 3600
    monkeypatch.setattr(time, "monotonic", lambda: now)
    take(store, 2).close()
    assert names(folder) == []


def test_an_upload_that_runs_is_not_cleaned(store, folder):
    """What is over stays as long as its upload runs."""
    slot = take(store)
    slot.save(Entry(SECRET, 0))
    assert FileStore(folder).clean() == 0
    assert names(folder) == [f"{NAME}.json", f"{NAME}.lock"]
    slot.close()
    assert FileStore(folder).clean() == 1


@pytest.mark.parametrize("days", [29, 31])
def test_what_killed_processes_have_left_goes_after_thirty_days(store, folder, days):
    """Lock files, temporary files and states that cannot be read are removed when they are old."""
    put(folder, b"damaged", days * DAY)
    for name in (f"{NAME}.tmp", f"{key(1).name}.tmp", f"{key(2).name}.lock"):
        (folder / name).touch()
        os.utime(folder / name, (time.time() - days * DAY,) * 2)
    before = names(folder)
    assert store.clean() == (3 if days > 30 else 0)
    assert names(folder) == ([] if days > 30 else before)
