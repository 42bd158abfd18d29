"""Resumable uploads over real sockets: created, sent, resumed after what can go wrong, and forgotten in the end."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import httpx
import pytest
from reactivex.scheduler import EventLoopScheduler
from support.recording_observer import observe
from support.resumable_uploads import outcome_of
from support.tus_server import broken_after, tus_server

import rxupload
from rxupload import Progress
from rxupload.resumable import FileStore, upload_resumable


def test_a_file_is_created_and_sent(file, store, content):
    """One POST creates the upload, and one PATCH sends all of it."""
    with tus_server() as (tus, server):
        up = upload_resumable(f"{server.url}files", file, metadata={"album": "summer"}, store=store)
        observed, _ = observe(up)
        response = observed.wait().response
        assert tus.methods_asked == ["POST", "PATCH"]
        assert bytes(tus.only.content) == content
        assert tus.only.metadata == {"album": b"summer", "filename": b"video.mp4", "filetype": b"video/mp4"}
    assert response.status_code == 204
    outcome = outcome_of(response)
    assert (outcome.resumed_at, outcome.sent_now) == (0, len(content))
    assert outcome.url == f"{server.url}files/secret0"
    assert observed.progress[0] == Progress(0, len(content))
    assert observed.progress[-1] == Progress(len(content), len(content))


def test_the_next_subscription_goes_on_where_the_server_is(file, store, content):
    """After a broken connection, the offset of the HEAD is where the next PATCH begins."""
    with tus_server() as (tus, server):
        tus.then("PATCH", broken_after(1 << 20))
        up = upload_resumable(f"{server.url}files", file, store=store)
        with pytest.raises(httpx.NetworkError):
            up.run()
        observed, _ = observe(up)
        response = observed.wait().response
        assert tus.methods_asked == ["POST", "PATCH", "HEAD", "PATCH"]
        assert bytes(tus.only.content) == content
    outcome = outcome_of(response)
    assert (outcome.resumed_at, outcome.sent_now) == (1 << 20, len(content) - (1 << 20))
    assert observed.progress[0] == Progress(1 << 20, len(content), 1, 1 << 20)
    assert {each.start for each in observed.progress} == {1 << 20}
    sent = [each.sent for each in observed.progress]
    assert sent == sorted(set(sent))
    assert sent[-1] == len(content)


def test_the_first_progress_of_a_pass_comes_on_a_busy_loop_too(file, store, content):
    """Progress that waits for a busy loop is replaced by newer, but for the first of a pass, which tells the start."""
    with tus_server() as (tus, server):
        tus.then("PATCH", broken_after(1 << 20))
        up = upload_resumable(f"{server.url}files", file, store=store, progress_interval=0)
        with pytest.raises(httpx.NetworkError):
            up.run()
        busy, free = threading.Event(), threading.Event()

        def late(connection, asked, tus):
            tus.answer(connection, asked)
            free.set()

        tus.then("PATCH", late)
        loop = EventLoopScheduler()
        loop.schedule(lambda *_: (busy.set(), free.wait(10)))
        assert busy.wait(10)
        observed, _ = observe(up, scheduler=loop)
        assert free.wait(10)
        observed.wait()
        loop.dispose()
    assert observed.progress[0] == Progress(1 << 20, len(content), 1, 1 << 20)
    assert observed.progress[-1].percent == 100


def test_events_can_be_iterated_over(file, store, content):
    """`async for` gives the first Progress of a pass to a slow body, too."""

    async def main(up):
        found = []
        async for event in up:
            found.append(event)
            await asyncio.sleep(0.01)
        return found

    with tus_server() as (tus, server):
        tus.then("PATCH", broken_after(1 << 20))
        up = upload_resumable(f"{server.url}files", file, store=store, progress_interval=0)
        with pytest.raises(httpx.NetworkError):
            up.run()
        events = asyncio.run(main(up))
    assert events[0] == Progress(1 << 20, len(content), 1, 1 << 20)
    assert events[-1].status_code == 204


def test_a_running_task_goes_on(file, store, content):
    """`start()` returns the task of any upload."""
    with tus_server() as (tus, server):
        tus.then("PATCH", broken_after(1 << 20))
        up = upload_resumable(f"{server.url}files", file, store=store)
        with pytest.raises(httpx.NetworkError):
            up.start().result()
        task = up.start()
        assert task.result()["statusCode"] == 204
        assert bytes(tus.only.content) == content


def test_it_is_loaded_only_when_it_is_used():
    """`import rxupload` loads neither this room nor what only that needs."""
    rooms = "[name for name in sys.modules if 'resumable' in name or 'platformdirs' in name]"
    code = f"import rxupload, sys; print({rooms})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
    assert rxupload.resumable.upload_resumable is upload_resumable


def test_an_upload_that_cannot_be_remembered_is_discarded(file, tmp_path):
    """The disk of the store fails, here because a folder is in the way. Nothing is left on the server."""
    folder = tmp_path / "state"
    with tus_server() as (tus, server):
        up = upload_resumable(f"{server.url}files", file, store=FileStore(folder))
        (folder / f"{up._plan.key().name}.tmp").mkdir(parents=True)
        folder.chmod(0o700)
        with pytest.raises(OSError, match="the state of the upload cannot be stored"):
            up.run()
        assert tus.methods_asked == ["POST", "DELETE"]
        assert tus.uploads == {}
