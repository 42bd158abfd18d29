"""What an upload writes into its store while it runs, and what it holds meanwhile: as little as can be."""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from support.changing_files import small_steps
from support.recording_observer import observe
from support.scripted_server import PATIENCE
from support.tus_server import broken_after, tus_server

from rxupload.resumable import FileStore, file_store, identity, upload_resumable
from rxupload.resumable import Tus as TusProtocol
from rxupload.resumable.identity import Checkpoints

CHUNK = 1 << 16


@pytest.fixture
def written(monkeypatch):
    """The entries that are written, in their order. No upload is so slow that it has a checkpoint."""
    found: list[Any] = []
    store = file_store._FileSlot._store

    def write(slot, entry):
        found.append(entry)
        store(slot, entry)

    monkeypatch.setattr(file_store._FileSlot, "_store", write)
    monkeypatch.setattr(identity, "INTERVAL", math.inf)
    return found


@pytest.mark.parametrize("checksum", [None, "sha256"])
def test_parts_are_not_written_down(tmp_path, written, checksum):
    """A write is an fsync. Of a new upload, there is one, however many parts there are and whatever they say."""
    file = tmp_path / "video.mp4"
    file.write_bytes(bytes(CHUNK) * 300)
    with tus_server() as (tus, server):
        tus.expires = datetime.now(UTC) + timedelta(days=1)
        store, made = FileStore(tmp_path / "state"), TusProtocol(checksum=checksum)
        up = upload_resumable(f"{server.url}files", file, store=store, chunk_size=CHUNK, protocol=made)
        up.run()
        assert tus.methods_asked.count("PATCH") == 300
    assert len(written) == 1


def test_an_upload_that_goes_on_writes_where_it_goes_on(tmp_path, file, written):
    """At its end, all that was sent is known to be of the file. The first part that is sent again is not any more."""
    with tus_server() as (tus, server):
        tus.then("PATCH", *[None] * 10, broken_after(1000))
        options: dict[str, Any] = {"store": FileStore(tmp_path / "state"), "chunk_size": CHUNK}
        up = upload_resumable(f"{server.url}files", file, **options)
        with pytest.raises(httpx.NetworkError):
            up.run()
        up.run()
    assert [each.sent for each in written] == [0, file.stat().st_size, 10 * CHUNK + 1000]


def test_no_lock_is_held_while_a_function_of_the_callers_runs(tmp_path, file, monkeypatch):
    """Neither the lock of the upload's place nor that of its checkpoints: any other thread could take them."""
    locks: list[Any] = []
    init = Checkpoints.__init__

    def remember(checkpoints, *arguments):
        init(checkpoints, *arguments)
        locks.append(checkpoints._saving)

    def is_free(lock):
        if is_taken := lock.acquire(timeout=PATIENCE):
            lock.release()
        return is_taken

    def function(*_):
        places = [each.lock for each in file_store._places._held.values()]
        called.append(len(places))
        assert all(other.submit(is_free, each).result() for each in [*places, *locks])

    def headers():
        function()
        return {}

    def auth(request):
        function()
        return request

    called: list[int] = []
    monkeypatch.setattr(Checkpoints, "__init__", remember)
    with ThreadPoolExecutor(1) as other, small_steps(), tus_server() as (tus, server):
        tus.then("PATCH", None, 409)
        options: dict[str, Any] = {"store": FileStore(tmp_path / "state"), "chunk_size": 1 << 20}
        options |= {"headers": headers, "auth": auth, "progress_interval": 0}
        observed, _ = observe(upload_resumable(f"{server.url}files", file, **options), function)
        assert observed.wait().response.status_code == 204
    assert locks
    assert len(called) > 10
    assert set(called[:-1]) == {1}


class Challenged(httpx.Auth):
    """Sends each part twice: the first time, the server does not know who it is."""

    def auth_flow(self, request):
        response = yield request
        if response.status_code == 401:
            yield request


def test_bytes_that_go_twice_within_a_request_do_not_count_before_the_server_has_them(
    tmp_path, file, written
):
    """A part is refused when it is whole, and is sent again. Meanwhile the file may have become another one."""
    moved = threading.Event()

    def refused(connection, asked, tus):
        connection.read(CHUNK)
        assert moved.wait(PATIENCE)
        connection.read_body()
        connection.respond(401)

    with small_steps(), tus_server() as (tus, server):
        tus.then("PATCH", refused, broken_after(1000))
        options: dict[str, Any] = {"store": FileStore(tmp_path / "state"), "auth": Challenged()}
        up = upload_resumable(f"{server.url}files", file, progress_interval=0, **options)
        observed, _ = observe(up, lambda item: item.sent > CHUNK // 2 and moved.set())
        assert isinstance(observed.wait().error, httpx.NetworkError)
    assert len(written) > 2
    assert {each.sent for each in written[:-1]} == {0}
