"""Context variables: what the caller gives is called in the context of the code that has given it."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar

import pytest
import reactivex
from reactivex.scheduler import ImmediateScheduler, ThreadPoolScheduler, TimeoutScheduler
from reactivex.scheduler.eventloop import AsyncIOScheduler
from support.scripted_server import PATIENCE

from rxupload import receiver, upload, upload_all
from rxupload.operators import retry_backoff

WHO: ContextVar[str] = ContextVar("who", default="nobody")


@pytest.fixture(scope="module")
def url():
    with receiver.running() as url:
        yield url


class Witness:
    """An observer, a source and a callback that note who has given them."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.over = threading.Event()

    def note(self, *_: object) -> None:
        self.seen.append(WHO.get())

    def end(self, *_: object) -> None:
        self.note()
        self.over.set()

    def body(self):
        self.note()
        yield b"x"

    def observe(self, source: reactivex.Observable, **options: object) -> None:
        source.subscribe(self.note, self.end, self.end, **options)


def subscribe_to_a_task(url: str, witness: Witness) -> None:
    task = upload(url, witness.body).start()
    task.onProgressUpdate(witness.note)
    witness.observe(task.events)


WAYS = {
    "a thread": lambda url, witness: witness.observe(upload(url, witness.body)),
    "a pool": lambda url, witness: witness.observe(
        upload(url, witness.body), scheduler=ThreadPoolScheduler(1)
    ),
    "a timer": lambda url, witness: witness.observe(upload(url, witness.body), scheduler=TimeoutScheduler()),
    "in place": lambda url, witness: witness.observe(
        upload(url, witness.body), scheduler=ImmediateScheduler()
    ),
    "a batch": lambda url, witness: witness.observe(
        upload_all([upload(url, witness.body)] * 2, concurrency=1)
    ),
    "a task": subscribe_to_a_task,
    "a batch's task": lambda url, witness: witness.observe(
        upload_all([upload(url, witness.body)]).start().events
    ),
    "a second attempt": lambda url, witness: witness.observe(
        upload("http://127.0.0.1:1/", witness.body).pipe(
            retry_backoff(attempts=2, wait_initial=0, wait_jitter=0, on_retry=witness.note)
        )
    ),
    "a setting": lambda url, witness: witness.observe(
        upload(url, b"x", pause=reactivex.defer(lambda _: (witness.note(), reactivex.of(False))[-1]))
    ),
    "an Observable of bytes": lambda url, witness: witness.observe(
        upload(url, reactivex.defer(lambda _: (witness.note(), reactivex.of(b"x"))[-1]))
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_is_given_sees_the_context_of_its_giver(url, way):
    """Observers, callbacks, sources and settings see the variables as they were when they were given."""
    witness = Witness()
    token = WHO.set("giver")
    WAYS[way](url, witness)
    WHO.reset(token)
    assert witness.over.wait(PATIENCE)
    assert set(witness.seen) == {"giver"}


def test_callbacks_of_one_task_have_the_contexts_of_their_givers(url):
    """Also on a loop, and asynchronous ones to their end."""
    seen = []

    async def note(_: object) -> None:
        await asyncio.sleep(0)
        seen.append(WHO.get())

    async def main() -> None:
        task = upload(url, bytes(1000)).start(scheduler=AsyncIOScheduler(asyncio.get_running_loop()))
        for who in ("first", "second"):
            WHO.set(who)
            task.onProgressUpdate(lambda _: note(_))  # noqa: PLW0108 - another function each time
        WHO.set("nobody")
        await task

    asyncio.run(main())
    assert sorted(set(seen)) == ["first", "second"]


def test_what_an_observer_sets_stays_in_its_thread(url):
    """The subscriber's own context does not change."""
    over = threading.Event()
    upload(url, b"x").subscribe(lambda _: WHO.set("observer"), on_completed=over.set)
    assert over.wait(PATIENCE)
    assert WHO.get() == "nobody"


def test_the_hook_of_threads_gets_the_error_that_nobody_takes(monkeypatch):
    """It is called in the context of the subscriber: so a kernel shows the error under the right cell."""
    told = []
    is_told = threading.Event()

    def hook(args: threading.ExceptHookArgs) -> None:
        told.append((WHO.get(), args.exc_type.__name__, args.thread))
        is_told.set()

    monkeypatch.setattr(threading, "excepthook", hook)
    token = WHO.set("subscriber")
    upload("http://127.0.0.1:1/", b"x").subscribe(lambda _: None)
    WHO.reset(token)
    assert is_told.wait(PATIENCE)
    ((who, error, thread),) = told
    assert (who, error) == ("subscriber", "ConnectError")
    assert thread.name == "rxupload"
