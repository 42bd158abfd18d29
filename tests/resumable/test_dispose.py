"""Dispose in each phase, then go on: the connection closes at once, and nothing stays open, here or on the server."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import httpx
import pytest
from reactivex.scheduler import EventLoopScheduler
from reactivex.scheduler.eventloop import AsyncIOScheduler
from support.abort_phases import start
from support.command_line import posix_only
from support.descriptors import descriptors
from support.recording_observer import observe
from support.resumable_uploads import check_passes, outcome_of
from support.scripted_server import PATIENCE
from support.threads import no_thread_left
from support.tus_server import Tus, broken_after, take, tus_server

import rxupload
from rxupload._client import default_client
from rxupload.operators import retry_backoff
from rxupload.resumable import FileStore, upload_resumable
from rxupload.resumable import Tus as TusProtocol

MIB = 1 << 20


class Hanging:
    """Keeps some of the body, then does nothing, and notes when the client has closed."""

    def __init__(self, count: int = 0) -> None:
        self.came, self.closed = threading.Event(), threading.Event()
        self._count = count

    def __call__(self, connection, asked, tus):
        if self._count:
            take(connection, asked, tus.only, self._count)
        self.came.set()
        connection.wait_for_end()
        self.closed.set()


@posix_only
@pytest.mark.parametrize("scheduler", [None, EventLoopScheduler], ids=["thread", "loop"])
@pytest.mark.parametrize("phase", ["OPTIONS", "POST", "PATCH", "HEAD", "PATCH of a resumed one", "DELETE"])
def test_a_dispose_in_each_phase_is_a_pause(file, tmp_path, content, phase, scheduler):
    """The server sees the end at once; the next subscription goes on, and nothing is left over."""
    default_client().close_idle()
    before = descriptors()
    store = FileStore(tmp_path / "state")
    with (
        no_thread_left(),
        contextlib.ExitStack() as stack,
        tus_server(Tus(extensions="checksum", algorithms="sha1")) as (tus, server),
    ):
        loop = scheduler() if scheduler is not None else None
        if loop is not None:
            stack.callback(loop.dispose)
        up = upload_resumable(f"{server.url}files", file, store=store, chunk_size=2 * MIB)
        if phase.startswith(("HEAD", "DELETE", "PATCH of")):
            tus.algorithms = ""
            tus.then("PATCH", broken_after(1000))
            with pytest.raises(httpx.NetworkError):
                up.run()
        hanging = Hanging()
        tus.then(phase.split()[0], hanging)
        observed, subscription = observe(up.discard() if phase == "DELETE" else up, scheduler=loop)
        assert hanging.came.wait(PATIENCE)
        subscription.dispose()
        assert hanging.closed.wait(PATIENCE)
        again, _ = observe(up, scheduler=loop)
        response = again.wait().response
        assert not observed.ended
        check_passes(again.progress)
        assert bytes(tus.only.content) == content
        assert response.status_code == 204
        default_client().close_idle()
    assert not list((tmp_path / "state").glob("*.json"))
    assert descriptors() <= before


def test_a_dispose_before_the_last_response_loses_nothing(file, store, content):
    """The server has everything, and its answer is on its way: the next subscription asks, and sends no byte again."""
    with tus_server() as (tus, server):
        hanging = Hanging(len(content))
        tus.then("PATCH", hanging)
        up = upload_resumable(f"{server.url}files", file, store=store)
        observed, subscription = observe(up)
        assert hanging.came.wait(PATIENCE)
        subscription.dispose()
        assert hanging.closed.wait(PATIENCE)
        assert not observed.ended
        outcome = outcome_of(up.run())
        assert (outcome.resumed_at, outcome.sent_now) == (len(content), 0)
        assert tus.methods_asked == ["POST", "PATCH", "HEAD"]
        assert bytes(tus.only.content) == content


def test_a_dispose_while_the_parts_are_joined_is_a_pause(file, store, content):
    """Whether the server has joined them by then or not: the next subscription sends no byte again."""
    with tus_server(Tus(extensions="concatenation")) as (tus, server):
        hanging = Hanging()
        tus.then("POST", None, None, None, hanging)
        up = upload_resumable(f"{server.url}files", file, store=store, protocol=TusProtocol(parallel=3))
        observed, subscription = observe(up)
        assert hanging.came.wait(PATIENCE)
        subscription.dispose()
        assert hanging.closed.wait(PATIENCE)
        assert not observed.ended
        tus.asked.clear()
        response = up.run()
        assert response.status_code == 201
        assert outcome_of(response).sent_now == 0
        assert sorted(tus.methods_asked) == ["HEAD", "HEAD", "HEAD", "POST"]
        assert bytes(tus.uploads[tus.final].content) == content


def test_cancelling_is_a_pause(file, store, content):
    """In asyncio: the task that awaits is cancelled, and the next `await` goes on."""

    async def main(up, hanging):
        task = asyncio.ensure_future(asyncio.wait_for(_awaited(up), None))
        assert await asyncio.to_thread(hanging.came.wait, PATIENCE)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await up

    with tus_server() as (tus, server):
        hanging = Hanging(MIB)
        tus.then("PATCH", hanging)
        response = asyncio.run(main(upload_resumable(f"{server.url}files", file, store=store), hanging))
        assert outcome_of(response).resumed_at >= MIB
        assert bytes(tus.only.content) == content


async def _awaited(up):
    return await up


def test_a_dispose_during_the_wait_for_another_ends_it(file, store):
    """One that waits for a disposed one to let go can itself be disposed, and gets nothing."""
    with tus_server() as (tus, server):
        blocked, go_on = threading.Event(), threading.Event()

        def block(item):
            blocked.set()
            assert go_on.wait(PATIENCE)

        up = upload_resumable(f"{server.url}files", file, store=store)
        _, first = observe(up, block)
        assert blocked.wait(PATIENCE)
        first.dispose()  # its worker is in the observer, so it cannot let go yet
        running = start(up)
        running.subscription.dispose()
        running.join()
        assert not running.observed.items
        assert not running.observed.ended
        third, _ = observe(up)
        go_on.set()
        assert third.wait().response.status_code == 204
        assert tus.methods_asked.count("POST") == 1


def test_an_observer_that_raises_leaves_the_upload_to_be_continued(file, store, content):
    """Its exception comes through on_error, and the upload is remembered."""
    hanging = Hanging(MIB)

    def raising(item):
        if item.sent:
            assert hanging.came.wait(PATIENCE)  # else the request may never be read, and the next one hangs
            raise ZeroDivisionError

    with tus_server() as (tus, server):
        tus.then("PATCH", hanging)
        up = upload_resumable(f"{server.url}files", file, store=store, progress_interval=0)
        observed, _ = observe(up, raising)
        assert isinstance(observed.wait().error, ZeroDivisionError)
        assert up.run().status_code == 204
        assert bytes(tus.only.content) == content
        assert tus.methods_asked == ["POST", "PATCH", "HEAD", "PATCH"]


@pytest.mark.parametrize("scheduler", [AsyncIOScheduler, None])
def test_a_retry_in_on_error_gets_the_place(file, store, content, scheduler):
    """The place is free before the end is notified, so that `retry` never meets ResumeInUse."""

    async def on_a_loop(source):
        return await source

    with tus_server() as (tus, server):
        tus.then("PATCH", *[broken_after(100_000)] * 20)
        up = upload_resumable(f"{server.url}files", file, store=store)
        retried = up.pipe(retry_backoff(wait_initial=0, wait_jitter=0))
        response = rxupload.run(retried) if scheduler is None else asyncio.run(on_a_loop(retried))
        assert response.status_code == 204
        assert bytes(tus.only.content) == content
        assert tus.methods_asked.count("HEAD") == 20
