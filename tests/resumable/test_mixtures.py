"""Files that change in ways that nothing of one moment shows: what the server has is never a mixture of two."""

from __future__ import annotations

import io
import logging
import math
import os
import re
import threading

import httpx
import pytest
from support.google_server import google_server
from support.recording_observer import observe
from support.resumable_uploads import outcome_of
from support.scripted_server import PATIENCE
from support.tus_server import Gone, broken_after, partial, read_body, respond, take, tus_server

from rxupload import SourceChanged
from rxupload.resumable import FileStore, GoogleResumable, identity, upload_resumable
from rxupload.resumable.guard import FileGuard

MIB = 1 << 20


def edit(path, position):
    """Change a byte, and set the mtime back, as a copy with its times does."""
    before = path.stat()
    with path.open("r+b") as stream:
        stream.seek(position)
        byte = stream.read(1)[0]
        stream.seek(position)
        stream.write(bytes([byte ^ 255]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_stale_offset_does_not_prove_what_comes_after_it(file, store, content):
    """The content is known up to the offset of the first HEAD, and the server has more: that is of the other file."""

    def stale(connection, asked, tus):
        respond(connection, 200, "Upload-Offset: 1000", f"Upload-Length: {len(content)}")

    with tus_server() as (tus, server):
        tus.then("PATCH", broken_after(MIB))
        up = upload_resumable(f"{server.url}files", file, store=store)
        with pytest.raises(httpx.NetworkError):
            up.run()
        edit(file, MIB // 2)
        tus.then("HEAD", stale)
        response = up.run()
        assert bytes(tus.only.content) == file.read_bytes() != content
        assert outcome_of(response).resumed_at == 0


def test_a_file_that_was_another_one_for_a_while_is_sent_anew(file, store, content):
    """It changes while it is sent, the connection breaks, and the file of the start is put back with its times."""
    times = file.stat()
    calls = 0

    def headers():
        nonlocal calls
        calls += 1
        if calls == 2:  # of the PATCH, after the last look at the file
            file.write_bytes(bytes(len(content)))
        return {}

    with tus_server() as (tus, server):
        tus.then("PATCH", broken_after(1000))
        up = upload_resumable(f"{server.url}files", file, store=store, headers=headers)
        with pytest.raises(httpx.NetworkError):
            up.run()
        assert bytes(tus.only.content) == bytes(1000)
        file.write_bytes(content)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        response = up.run()
        assert bytes(tus.only.content) == content
        assert outcome_of(response).resumed_at == 0


def test_a_stale_offset_proves_nothing_for_the_next_attempt(file, store, content):
    """The line breaks before the server can say that the offset is another one. Nothing is known of what it has."""

    def stale(connection, asked, tus):
        respond(connection, 200, "Upload-Offset: 1000", f"Upload-Length: {len(content)}")

    def lost(connection, asked, tus):
        read_body(connection, asked)
        connection.reset()
        raise Gone

    with tus_server() as (tus, server):
        tus.then("PATCH", broken_after(MIB), lost)
        up = upload_resumable(f"{server.url}files", file, store=store)
        with pytest.raises(httpx.NetworkError):
            up.run()
        edit(file, MIB // 2)
        tus.then("HEAD", stale)
        with pytest.raises(httpx.NetworkError):
            up.run()
        response = up.run()
        assert bytes(tus.only.content) == file.read_bytes() != content
        assert outcome_of(response).resumed_at == 0


@pytest.fixture
def checkpoints(monkeypatch):
    """Have a checkpoint made whenever bytes arrive, before their Progress comes."""
    monkeypatch.setattr(identity, "INTERVAL", 0.0)
    monkeypatch.setattr(identity, "run_on_thread", lambda run: run())


@pytest.fixture
def wait_until_saved(monkeypatch, checkpoints):
    """Wait for a checkpoint that says that so many bytes were sent for sure."""
    condition, most = threading.Condition(), -1
    save = FileGuard._save

    def save_and_tell(guard, checkpoint, sent):
        nonlocal most
        save(guard, checkpoint, sent)
        with condition:
            most = max(most, sent)
            condition.notify_all()

    def wait(sent):
        with condition:
            assert condition.wait_for(lambda: most >= sent, PATIENCE)

    monkeypatch.setattr(FileGuard, "_save", save_and_tell)
    return wait


class Kill:
    """A kill of the process that uploads a file, while that was another one.

    Attributes:
        state: The folder of its store.
    """

    def __init__(self, file, state):
        self.state = state
        self._file = file
        self._content, self._times = file.read_bytes(), file.stat()
        self._stored = {}

    def come(self, connection, asked, tus, count):
        """Overwrite the file, keep so many bytes more, and note the state. The client hears of a reset."""
        with self._file.open("r+b") as stream:
            stream.write(bytes(len(self._content)))
        take(connection, asked, tus.only, count)
        self._stored.update((path, path.read_bytes()) for path in self.state.glob("*.json"))
        connection.reset()
        raise Gone

    def put_back(self):
        """Make the state what it was then, and the file what it was before, with its times."""
        for path, data in self._stored.items():
            path.write_bytes(data)
        self._file.write_bytes(self._content)
        os.utime(self._file, ns=(self._times.st_atime_ns, self._times.st_mtime_ns))


@pytest.fixture
def kill(file, tmp_path):
    return Kill(file, tmp_path / "state")


def test_a_file_that_was_another_one_when_the_process_was_killed_is_sent_anew(
    file, content, kill, wait_until_saved
):
    """It changes while it is sent, the process is killed, and the file of the start is put back with its times."""

    def overwritten(connection, asked, tus):
        take(connection, asked, tus.only, MIB // 4)
        wait_until_saved(MIB)
        kill.come(connection, asked, tus, 3 * MIB // 2)

    with tus_server() as (tus, server):
        tus.then("PATCH", partial(MIB), overwritten)
        options = {"store": FileStore(kill.state), "progress_interval": 0, "rate_limit": 8e6}
        up = upload_resumable(f"{server.url}files", file, **options)
        with pytest.raises((httpx.NetworkError, SourceChanged)):
            up.run()
        assert tus.only.content.endswith(bytes(MIB))
        kill.put_back()
        response = up.run()
        assert bytes(tus.only.content) == content
        assert outcome_of(response).resumed_at == 0


def test_what_is_in_the_queue_of_a_server_does_not_count_as_sent(file, content, kill, checkpoints):
    """Bytes have arrived at its system, and it reads them later. Until then they may be pages of the file."""
    has_arrived = threading.Event()

    def overwritten(connection, asked, tus):
        assert has_arrived.wait(PATIENCE)  # a checkpoint was made before that
        kill.come(connection, asked, tus, 1000)

    with tus_server() as (tus, server):
        tus.then("PATCH", overwritten)
        up = upload_resumable(f"{server.url}files", file, store=FileStore(kill.state), progress_interval=0)
        observed, _ = observe(up, lambda item: item.sent >= 1000 and has_arrived.set())
        assert isinstance(observed.wait().error, httpx.NetworkError | SourceChanged)
        kill.put_back()
        response = up.run()
        assert bytes(tus.only.content) == content
        assert outcome_of(response).resumed_at == 0


def test_an_upload_goes_on_after_a_chmod(file, store, content, wait_until_saved):
    """The first part is short: its answer shows that the offset was right. After that, a break costs nothing again."""

    def saved(connection, asked, tus):
        take(connection, asked, tus.only, MIB)
        wait_until_saved(0)
        connection.reset()
        raise Gone

    with tus_server() as (tus, server):
        tus.then("PATCH", saved, None, broken_after(MIB))
        up = upload_resumable(f"{server.url}files", file, store=store, progress_interval=0)
        with pytest.raises(httpx.NetworkError):
            up.run()
        file.chmod(0o600)
        with pytest.raises(httpx.NetworkError):
            up.run()
        response = up.run()
        assert bytes(tus.only.content) == content
        sizes = [int(asked.header("Content-Length")) for asked in tus.asked if asked.method == "PATCH"]
        offset = len(content) - sizes[1] - sizes[2]
        assert sizes[1] == 256 * 1024
        assert offset >= MIB
        assert outcome_of(response).resumed_at == offset + sizes[1] + MIB
        assert tus.created == 1


CHANGES = {
    "touched": (os.utime, "written to, or touched"),
    "longer": (lambda path: path.write_bytes(path.read_bytes() + b"!"), "another size"),
    "begins otherwise": (lambda path: edit(path, 0), "its first or its last 64 KiB"),
    "chmod": (lambda path: path.chmod(0o600), r"server has 1048576 bytes, and only \d+ are known"),
}


@pytest.mark.parametrize(("change", "reason"), CHANGES.values(), ids=CHANGES)
def test_the_log_says_why_a_file_is_sent_anew(file, store, caplog, monkeypatch, change, reason):
    """It names the file and what has changed, and no address."""
    monkeypatch.setattr(identity, "INTERVAL", math.inf)  # no upload is so slow that it has a checkpoint
    with tus_server() as (tus, server):
        tus.then("PATCH", broken_after(MIB))
        up = upload_resumable(f"{server.url}files", file, store=store)
        with pytest.raises(httpx.NetworkError):
            up.run()
        change(file)
        caplog.set_level(logging.INFO, "rxupload")
        assert outcome_of(up.run()).resumed_at == 0
    (text,) = [each.getMessage() for each in caplog.records if "sent anew" in each.getMessage()]
    assert text.startswith(f"{os.path.realpath(file)} is sent anew: ")
    assert re.search(reason, text)
    assert "secret" not in text


class Seekable(io.RawIOBase):
    """A file object that is no file."""

    def __init__(self, content: bytes) -> None:
        self._stream = io.BytesIO(content)

    def readable(self):
        return True

    def seekable(self):
        return True

    def seek(self, *args):
        return self._stream.seek(*args)

    def tell(self):
        return self._stream.tell()

    def readinto(self, buffer):
        return self._stream.readinto(buffer)

    def put(self, content):
        """Replace the content."""
        self._stream = io.BytesIO(content)


@pytest.mark.parametrize("chunk_size", [None, 100_000])
def test_a_file_object_whose_content_was_replaced_is_sent_anew(store, content, chunk_size):
    """It has the same size, and another content where it was sent."""
    source = Seekable(content)
    with tus_server() as (tus, server):
        tus.then("PATCH", broken_after(1000))
        up = upload_resumable(f"{server.url}files", source, store=store, chunk_size=chunk_size)
        with pytest.raises(httpx.NetworkError):
            up.run()
        source.put(content[::-1])
        up.run()
        assert bytes(tus.only.content) == content[::-1]


def test_a_length_that_the_server_makes_up_is_not_the_end(store, content):
    """A server says the offset as the length of an upload whose length it does not know: more is to come."""

    def made_up(connection, asked, tus):
        kept = tus.uploads[asked.path]
        respond(connection, 200, f"Upload-Offset: {len(kept.content)}", f"Upload-Length: {len(kept.content)}")

    pieces = [content[start : start + 100_000] for start in range(0, len(content), 100_000)]
    with tus_server() as (tus, server):
        tus.then("PATCH", None, 409)
        tus.then("HEAD", made_up)
        up = upload_resumable(f"{server.url}files", lambda: iter(pieces), store=store, chunk_size=500_000)
        with pytest.raises(httpx.RemoteProtocolError, match="another length"):
            up.run()


def test_a_last_part_that_was_kept_and_not_acknowledged_is_the_end(store, content):
    """The source is of unknown size and can be read once. The last answer is 503, and the session is whole."""

    def kept(connection, asked, google):
        read_body(connection, asked)
        google.only.content += asked.body
        google.only.is_whole = True
        respond(connection, 503)

    with google_server() as (google, server):
        google.then("PUT", None, None, None, kept)
        up = upload_resumable(
            f"{server.url}upload", iter([content]), protocol=GoogleResumable(), store=store, chunk_size=MIB
        )
        assert up.run().status_code == 200
        assert bytes(google.only.content) == content
