"""Uploads on disk: when they expire, and what is left of one whose process was killed at any moment."""

from __future__ import annotations

import email.utils
import os
import subprocess
import sys
import threading
import time

import pytest
from support.forms import PATIENCE, posix_only
from support.tus import TusClient, finished, hidden, named, patching

from rxupload import receiver
from rxupload.receiver import appending, uploads


def grow_old(inbox, seconds):
    """Let the last change of the receiver's own files be longer ago."""
    then = time.time() - seconds
    for path in hidden(inbox):
        os.utime(path, (then, then))


# Expiry


def test_an_unfinished_upload_says_when_it_expires(tus):
    """Each response says it, until the upload is finished. A request moves the time on."""
    created = tus.post(Upload_Length=10)
    url = created.headers["Location"]
    responses = [created, tus.patch(url, 0, b"01234"), tus.head(url)]
    done = tus.patch(url, 5, b"56789")

    for response in responses:
        expires = email.utils.parsedate_to_datetime(response.headers["Upload-Expires"]).timestamp()
        assert time.time() < expires <= time.time() + uploads.LIFETIME
    assert "Upload-Expires" not in done.headers


def test_an_expired_upload_is_a_410(tus, inbox):
    """It is none, even before it is removed."""
    url = tus.created(10, b"01234")
    grow_old(inbox, uploads.LIFETIME + 1)

    assert tus.head(url).status_code == 410
    assert tus.patch(url, 5, b"56789").status_code == 410


def test_a_finished_upload_is_forgotten_sooner(tus, inbox):
    """Its file stays."""
    url = tus.created(5, b"01234")
    grow_old(inbox, uploads.REMEMBERED + 1)

    assert tus.head(url).status_code == 410
    assert finished(inbox) == {"upload": b"01234"}


def test_a_receiver_that_starts_removes_what_has_expired(client, inbox):
    """Unfinished uploads and the records of finished ones; what has not expired stays."""
    with receiver.running(inbox) as base:
        tus = TusClient(client, base)
        old = tus.created(10, b"01234").path
        tus.created(5, b"01234", **named("done"))
        tus.created(5, b"01234", Upload_Concat="partial")
        grow_old(inbox, uploads.LIFETIME + 1)
        young = tus.created(10, b"01234").path
    inbox.joinpath(".b.upload").touch()  # not named as the receiver names its files
    with receiver.running(inbox) as base:
        tus = TusClient(client, base)
        assert (tus.head(old).status_code, tus.head(young).status_code) == (404, 200)
        assert len(hidden(inbox)) == 3

    assert finished(inbox) == {"done": b"01234"}


def test_a_running_receiver_removes_what_expires(client, inbox, monkeypatch):
    """No request is needed for that."""
    is_removed = threading.Event()
    remove = uploads.Upload.remove

    def remove_and_tell(upload):
        remove(upload)
        is_removed.set()

    monkeypatch.setattr(uploads.Upload, "remove", remove_and_tell)
    monkeypatch.setattr(uploads, "REMEMBERED", 0.01)
    with receiver.running(inbox) as base:
        TusClient(client, base).created(10, b"01234")
        monkeypatch.setattr(uploads, "LIFETIME", 0.0)
        assert is_removed.wait(PATIENCE)

        assert list(inbox.iterdir()) == []


def test_an_upload_that_takes_bytes_does_not_expire(tus, inbox, monkeypatch):
    """However old it is, its request goes on."""
    url = tus.created(10)
    is_stored = threading.Event()
    write_all = appending.write_all
    monkeypatch.setattr(appending, "write_all", lambda *args: (write_all(*args), is_stored.set()))
    with patching(url, 0, 10) as sock:
        sock.sendall(b"01234")
        assert is_stored.wait(PATIENCE)
        grow_old(inbox, uploads.LIFETIME + 1)
        with receiver.running(inbox):  # in the same directory
            sock.sendall(b"56789")
            assert sock.recv(12) == b"HTTP/1.1 204"

    assert finished(inbox) == {"upload": b"0123456789"}


# Kills

# Ends at the operation of the file system with this number, as a kill would.
KILLED_AT = """
import itertools, os, sys
from pathlib import Path
from rxupload.receiver import uploads

STEPS = {"open", "os.rename", "os.remove", "os.truncate"}

def until_killed_at(number, work):
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    left = itertools.count(number, -1)
    sys.addaudithook(lambda event, _: event in STEPS and not next(left) and os._exit(9))
    work()
    os._exit(0)

CONTENT = b"0123456789"

def receive():
    store = uploads.Uploads(directory, lambda _: None)
    token, upload = store.create(uploads.Record("tus", len(CONTENT), "file"))
    os.write(3, token.encode())
    with upload.opened() as stream:
        upload.trust(0)
        uploads.write_all(stream, b"XXXXX")
        stream.truncate(0)
        upload.trust(None)
    with upload.opened() as stream:
        uploads.write_all(stream, CONTENT[:5])
    with upload.opened() as stream:
        uploads.write_all(stream, CONTENT[5:])
    upload.keep()
    upload.remove()

root = Path(sys.argv[1])
for number in itertools.count():
    directory = root / str(number)
    directory.mkdir()
    os.dup2(os.open(directory.with_suffix(".token"), os.O_RDWR | os.O_CREAT), 3)
    if not until_killed_at(number, receive):
        break
"""


@posix_only
def test_a_kill_at_any_moment_leaves_a_whole_upload_or_its_beginning(tmp_path):
    """Before each operation of the file system. What counts are the right bytes, and a whole upload is one file."""
    script = [sys.executable, "-c", KILLED_AT, os.fspath(tmp_path)]
    subprocess.run(script, check=True, timeout=60)
    seen = set()
    for number in range(len(list(tmp_path.glob("*.token")))):
        directory = tmp_path / str(number)
        token = directory.with_suffix(".token").read_text()
        store = uploads.Uploads(directory, lambda _: None)
        store.tidy()
        files = [
            data for data in finished(directory).values() if data
        ]  # besides a name that was just claimed
        try:
            upload = store.find(token)
        except uploads.Unknown:
            assert files in ([], [b"0123456789"])
            seen.add(f"unknown, {len(files)} files")
            continue
        assert files == ([b"0123456789"] if upload.is_over else [])
        if not upload.is_over:
            assert upload.data.read_bytes()[: upload.offset] == b"0123456789"[: upload.offset]
        seen.add(upload.offset)

    assert seen == {"unknown, 0 files", 0, 5, 10, "unknown, 1 files"}


def test_what_a_kill_has_left_halfway_is_removed_in_the_end(tmp_path):
    """Bytes without a record, and a record that was being written, go when they are old."""
    names = [".{}.upload", ".{}.upload.json.new"]
    for number, name in enumerate(names):
        tmp_path.joinpath(name.format(f"{number:032x}")).touch()
    store = uploads.Uploads(tmp_path, lambda _: None)

    assert store.tidy() is None
    assert len(hidden(tmp_path)) == 2
    grow_old(tmp_path, uploads.LIFETIME + 1)
    store.tidy()
    assert hidden(tmp_path) == []


def test_a_name_that_is_taken_between_the_record_and_the_renaming_is_not_replaced(tmp_path):
    """Somebody has stored a file there after the kill."""
    store = uploads.Uploads(tmp_path, lambda _: None)
    token, upload = store.create(uploads.Record("tus", 0, "file", stored_as="file"))
    tmp_path.joinpath("file").write_bytes(b"mine")

    assert store.find(token).record.stored_as == "file (1)"
    assert finished(tmp_path) == {"file": b"mine", "file (1)": b""}
    assert not upload.data.exists()


DAMAGED = {
    "truncated": '{"protocol": "tus", "len',
    "nested": "[" * 100_000,
    "a list": "[]",
    "another member": '{"protocol": "tus", "more": 1}',
    "length": '{"protocol": "tus", "length": "5"}',
    "negative": '{"protocol": "tus", "length": -1}',
    "true": '{"protocol": "tus", "length": true}',
    "trusted": '{"protocol": "tus", "length": 5, "trusted": "x"}',
    "filename": '{"protocol": "tus", "length": 5, "filename": 1}',
    "stored_as": '{"protocol": "tus", "length": 5, "stored_as": 1}',
    "response": '{"protocol": "tus", "length": 5, "response": []}',
    "another folder": '{"protocol": "tus", "length": 5, "stored_as": "../outside"}',
}


@pytest.mark.parametrize("record", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_record_is_none(client, tmp_path, record):
    """A receiver starts all the same, no upload comes of it, and no file of another folder is replaced."""
    inbox, outside = tmp_path / "inbox", tmp_path / "outside"
    inbox.mkdir()
    outside.touch()
    token = "t" * 43
    data = inbox / f".{uploads.key_of(token)}.upload"
    data.write_bytes(b"01234")
    data.with_name(f"{data.name}.json").write_text(record)

    with receiver.running(inbox) as url:
        tus = TusClient(client, url)
        assert tus.head(f"/files/{token}").status_code == 404
        assert tus.post(Upload_Length=0).status_code == 201
    assert outside.read_bytes() == b""
    assert data.read_bytes() == b"01234"
