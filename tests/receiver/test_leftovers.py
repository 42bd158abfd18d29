"""A receiver that starts removes what a killed one has left, and nothing else."""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import os
import subprocess
import sys
import threading

import httpx
import pytest
from support.forms import CLOSING, FORM, PATIENCE, answer, connected, file_part, head, posix_only, stored

from rxupload import receiver
from rxupload.receiver import files

locked_to_the_end = pytest.mark.skipif(
    sys.platform == "win32",
    reason="Windows renames no open file, so the lock ends just before the last rename",
)

TOKEN = "0123456789abcdef" * 2
TWO_FILES = file_part("first", b"1") + file_part("second", b"2")

# A process that says its receiver's URL, then each time that a file has got some bytes.
RECEIVER = """
import sys, time
from rxupload import receiver
from rxupload.receiver import files
write = files.ReceivedFile.write
def write_and_tell(file, data):
    write(file, data)
    print(file.filename, flush=True)
files.ReceivedFile.write = write_and_tell
with receiver.running(sys.argv[1]) as url:
    print(url, flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def receiver_process(directory):
    """A receiver in its own process, and its URL; the process is killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-c", RECEIVER, os.fspath(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@contextlib.contextmanager
def upload_under_way(process, url):
    """An upload whose first file has arrived, and whose second file is arriving."""
    body = TWO_FILES + CLOSING
    with connected(url) as sock:
        sock.sendall(head(Content_Length=len(body)) + body[: -len(CLOSING) - 2])
        assert process.stdout.readline() == "first\n"
        assert process.stdout.readline() == "second\n"
        yield sock, body[-len(CLOSING) - 2 :]


@pytest.fixture
def leftovers(inbox):
    """What a killed process left in the directory: the hidden files of an upload."""
    with receiver_process(inbox) as (process, url), upload_under_way(process, url):
        process.kill()
        process.wait()
    left = stored(inbox)
    assert sorted(left.values()) == [b"1", b"2"]
    assert all(name.startswith(".") for name in left)
    return set(left)


def test_what_a_killed_process_has_left_is_removed(inbox, leftovers):
    """Both files of its upload are gone as soon as the next receiver runs."""
    with receiver.running(inbox):
        assert stored(inbox) == {}


def test_an_upload_to_another_process_goes_on(inbox, leftovers):
    """A receiver in the same directory starts meanwhile: the upload is stored, and the leftovers are removed."""
    with receiver_process(inbox) as (process, url):
        assert not leftovers & set(stored(inbox))
        with upload_under_way(process, url) as (sock, rest):
            under_way = stored(inbox)
            inbox.joinpath(f".{TOKEN}.part").touch()
            with receiver.running(inbox):
                assert stored(inbox) == under_way
                sock.sendall(rest)
                assert answer(sock)[0] == 200

    assert stored(inbox) == {"first": b"1", "second": b"2"}


def test_an_upload_to_this_process_goes_on(url, inbox, has_begun):
    """The same for two receivers of one process."""
    body = file_part("beach.jpg", b"content") + CLOSING
    with connected(url) as sock:
        sock.sendall(head(Content_Length=len(body)) + body[:-1])
        assert has_begun.wait(PATIENCE)
        with receiver.running(inbox):
            sock.sendall(body[-1:])
            assert answer(sock)[0] == 200

    assert stored(inbox) == {"beach.jpg": b"content"}


@locked_to_the_end
def test_every_moment_of_an_upload_is_safe(client, url, inbox, monkeypatch):
    """Whenever another receiver starts while files are created, stored and renamed, nothing is lost."""
    starts = 0

    def start_before(method):
        def started(*args):
            nonlocal starts
            starts += 1
            files.remove_leftovers(inbox)
            return method(*args)

        return started

    for name in ("claim", "keep", "close", "write"):
        monkeypatch.setattr(files.ReceivedFile, name, start_before(getattr(files.ReceivedFile, name)))
    monkeypatch.setattr(files.ReceivedFiles, "_release", start_before(files.ReceivedFiles._release))
    body = TWO_FILES + file_part("third", b"3") + CLOSING

    assert client.post(url, content=body, headers=FORM).status_code == 200
    assert stored(inbox) == {"first": b"1", "second": b"2", "third": b"3"}
    assert starts > 10


@posix_only
def test_a_file_that_is_removed_before_it_is_locked_is_created_again(client, url, inbox, monkeypatch):
    """Another receiver that starts between the creation of a file and its lock takes it for a leftover."""
    lock, is_first = files.lock, [True]

    def lock_late(stream):
        if is_first and is_first.pop():
            files.remove_leftovers(inbox)
        lock(stream)

    monkeypatch.setattr(files, "lock", lock_late)

    assert client.post(url, content=TWO_FILES + CLOSING, headers=FORM).status_code == 200
    assert not is_first
    assert stored(inbox) == {"first": b"1", "second": b"2"}


@posix_only
def test_a_file_that_is_locked_by_a_starting_receiver_is_created_again(client, url, inbox, monkeypatch):
    """The same if the other receiver has the lock, but has not removed the file yet."""
    lock, stopped = files.lock, contextlib.ExitStack()

    def lock_second(stream):
        if not list(inbox.glob("locked")):
            (path,) = inbox.iterdir()
            inbox.joinpath("locked").touch()
            other = stopped.enter_context(path.open("r+b"))
            lock(other)
            stopped.callback(path.unlink)
        lock(stream)

    monkeypatch.setattr(files, "lock", lock_second)

    with stopped:
        assert client.post(url, content=TWO_FILES + CLOSING, headers=FORM).status_code == 200
    assert stored(inbox) == {"locked": b"", "first": b"1", "second": b"2"}


@posix_only
def test_without_locks_nothing_is_removed(client, url, inbox, monkeypatch):
    """On a file system without locks uploads work, and a receiver that starts cannot know what is left over."""

    def lock(_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files, "lock", lock)
    inbox.joinpath(f".{TOKEN}.part").touch()
    with receiver.running(inbox):
        assert client.post(url, content=TWO_FILES + CLOSING, headers=FORM).status_code == 200

    assert stored(inbox) == {f".{TOKEN}.part": b"", "first": b"1", "second": b"2"}


def test_later_files_of_an_upload_whose_first_is_gone_are_removed(inbox):
    """A process may be killed while it removes an upload, whose first file it removes last."""
    inbox.mkdir()
    inbox.joinpath(f".{TOKEN}-1.part").touch()

    with receiver.running(inbox):
        assert stored(inbox) == {}


def test_other_files_stay(inbox):
    """Only what is named as the receiver names it is removed, and only files."""
    inbox.mkdir()
    for name in (
        ".part",
        "a.part",
        ".a.part",
        f"{TOKEN}.part",
        f".{TOKEN}.part.jpg",
        f".{TOKEN}-x.part",
        ".b",
    ):
        inbox.joinpath(name).touch()
    inbox.joinpath(f".{TOKEN}.part").mkdir()
    names = {path.name for path in inbox.iterdir()}

    with receiver.running(inbox):
        assert {path.name for path in inbox.iterdir()} == names


@posix_only
def test_links_and_pipes_stay(inbox):
    """A link is not followed, and a named pipe does not block the start."""
    inbox.mkdir()
    inbox.joinpath("mine").touch()
    inbox.joinpath(f".{TOKEN}.part").symlink_to("mine")
    os.mkfifo(inbox / f".{TOKEN[::-1]}.part")
    names = {path.name for path in inbox.iterdir()}

    with receiver.running(inbox):
        assert {path.name for path in inbox.iterdir()} == names


@locked_to_the_end
def test_many_starts_and_uploads_at_once_lose_nothing(inbox):
    """Receivers that start and stop in one directory never remove a file of an upload to another."""
    done = threading.Event()

    def start():
        while not done.is_set():
            files.remove_leftovers(inbox)

    with receiver.running(inbox) as url, concurrent.futures.ThreadPoolExecutor(3) as pool:
        starts = [pool.submit(start) for _ in range(2)]
        try:
            with httpx.Client(trust_env=False, timeout=PATIENCE) as client:
                for _ in range(100):
                    assert client.post(url, content=TWO_FILES + CLOSING, headers=FORM).status_code == 200
        finally:
            done.set()
        for each in starts:
            each.result(PATIENCE)

    assert sorted(stored(inbox).values()) == [b"1"] * 100 + [b"2"] * 100
