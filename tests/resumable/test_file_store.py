"""Where the files of a `FileStore` are, who may read them, and how they are listed and cleaned."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from support.stores import (
    HASH,
    NAME,
    NOW,
    SECRET,
    entry,
    key,
    names,
    no_wait,
    posix,
    put,
    reread,
    stored,
    take,
)

from rxupload.resumable.file_store import FileStore, StoredUpload
from rxupload.resumable.identity import Checkpoint, Identity
from rxupload.resumable.store import Entry, key_of

DAY = 86400


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def store(folder):
    return FileStore(folder)


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


# The list


def test_a_change_that_is_none_writes_nothing(store, folder):
    """To write and fsync a file may take as long as a part of an upload."""
    slot = take(store)
    slot.save(entry(1))
    (path,) = folder.glob("*.json")
    before = path.stat().st_ino
    slot.update(chunk_size=entry(1).chunk_size, sent=0)
    assert path.stat().st_ino == before
    slot.update(sent=1)
    assert path.stat().st_ino != before
    slot.close()


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
    assert (store.uploads(), store.clean(), store.forget("a.mp4")) == ([], [], [])
    assert not folder.exists()


def test_an_upload_that_is_over_is_not_listed_and_is_cleaned(store, folder):
    """What has expired a day ago or is too old goes; the rest stays."""
    take(store, 9).close()  # so that the store does not clean by itself for an hour
    stored(store, Entry(SECRET, time.time() - 31 * DAY), 1)
    stored(store, Entry(SECRET, time.time(), time.time() - DAY - 1), 2)
    stored(store, Entry(SECRET, time.time() - 29 * DAY), 3)
    stored(store, Entry(SECRET, time.time(), time.time() - 1), 4)
    assert [each.path for each in store.uploads()] == [key(3).path, key(4).path]
    assert [each.path for each in store.clean()] == [key(1).path, key(2).path]
    assert names(folder) == [f"{key(3).name}.json", f"{key(4).name}.json"]


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
    assert FileStore(folder).clean() == []
    assert names(folder) == [f"{NAME}.json", f"{NAME}.lock"]
    slot.close()
    assert [each.created for each in FileStore(folder).clean()] == [0]


@pytest.mark.parametrize("days", [29, 31])
def test_what_killed_processes_have_left_goes_after_thirty_days(store, folder, days):
    """Lock files, temporary files and states that cannot be read are removed when they are old."""
    put(folder, b"damaged", days * DAY)
    for name in (f"{NAME}.tmp", f"{key(1).name}.tmp", f"{key(2).name}.lock"):
        (folder / name).touch()
        os.utime(folder / name, (time.time() - days * DAY,) * 2)
    before = names(folder)
    assert store.clean() == []
    assert names(folder) == ([] if days > 30 else before)


def test_all_uploads_of_a_file_are_forgotten_on_request(store, folder, tmp_path, monkeypatch):
    """Those to other endpoints are among them, and those of other files are not."""
    monkeypatch.chdir(tmp_path)
    film = tmp_path / "film.mp4"
    for number, host in enumerate(("one.test", "two.test")):
        slot = store.open(key_of("tus", f"https://{host}/", film, None), no_wait, lambda: False)
        slot.save(replace(entry(), created=NOW + number))
        slot.close()
    stored(store, entry(), 5)
    found = store.forget("film.mp4")
    assert [each.endpoint for each in found] == ["https://one.test/", "https://two.test/"]
    assert [each.path for each in store.uploads()] == [key(5).path]
    assert names(folder) == [f"{key(5).name}.json"]


def test_an_upload_that_runs_is_not_forgotten(store):
    """Its slot goes on to remember it."""
    slot = take(store)
    slot.save(entry())
    assert store.forget(key().path) == []
    assert len(store.uploads()) == 1
    slot.close()
    assert len(store.forget(key().path)) == 1


def test_other_files_in_the_folder_are_left_alone(store, folder, caplog):
    """Files with other names are neither read nor removed."""
    folder.mkdir(0o700)
    others = ["notes.txt", "a.json", f"{NAME}.json.bak", f"{NAME[:-1]}g.lock", f"{NAME}0.tmp"]
    for name in others:
        (folder / name).touch()
        os.utime(folder / name, (0, 0))
    assert store.uploads() == []
    assert store.clean() == []
    stored(store, entry(1))
    assert names(folder) == sorted([*others, f"{NAME}.json"])
    assert caplog.text == ""
