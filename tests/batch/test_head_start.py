"""When the next upload of a batch begins: after the one before has sent something or has ended, or after a moment."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
from collections import Counter

import httpx
import pytest
import reactivex
from reactivex.disposable import Disposable
from reactivex.scheduler import EventLoopScheduler
from support.recording_observer import observe
from support.scripted_server import PATIENCE

from rxupload import Progress, upload_all
from rxupload._batch import batch as module
from rxupload._wait import Latch

RESPONSE = httpx.Response(200, request=httpx.Request("POST", "http://h/"))


def acting(act) -> reactivex.Observable:
    """An upload that does something on a thread of its own when it has begun."""

    def subscribe(observer, scheduler=None):
        threading.Thread(target=act, args=[observer]).start()
        return Disposable()

    return reactivex.create(subscribe)


async def _awaited(source):
    return await source


def check_that_the_next_begins(first, on_a_loop: bool) -> None:
    """Run a batch of two until the second one has begun."""
    begun = threading.Event()
    batch = upload_all([first, acting(lambda _: begun.set())])

    async def on_the_loop():
        task = asyncio.ensure_future(_awaited(batch))
        assert await asyncio.to_thread(begun.wait, PATIENCE)
        task.cancel()

    if on_a_loop:
        asyncio.run(on_the_loop())
    else:
        _, subscription = observe(batch)
        assert begun.wait(PATIENCE)
        subscription.dispose()


ACTS = {
    "sends something": lambda observer: observer.on_next(Progress(1, 2)),
    "goes on and sends something": lambda observer: observer.on_next(Progress(2, 3, start=1)),
    "has a response": lambda observer: observer.on_next(RESPONSE),
    "fails": lambda observer: observer.on_error(OSError()),
    "completes": lambda observer: observer.on_completed(),
}


@pytest.mark.parametrize("on_a_loop", [False, True])
@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_the_next_upload_begins_once_the_one_before_is_on_its_way(monkeypatch, act, on_a_loop):
    """It does not wait for the end of the other one, nor for as long as that may take to send something."""
    monkeypatch.setattr(module, "_HEAD_START", 10 * PATIENCE)
    check_that_the_next_begins(acting(act), on_a_loop)


@pytest.mark.parametrize("on_a_loop", [False, True])
@pytest.mark.parametrize(
    "act", [lambda _: None, lambda observer: observer.on_next(Progress(0, 2))], ids=["nothing", "no byte"]
)
def test_an_upload_that_sends_nothing_does_not_hold_up_the_next(act, on_a_loop):
    """It may be paused, or wait for its source or its server."""
    check_that_the_next_begins(acting(act), on_a_loop)


@pytest.mark.parametrize("on_a_loop", [False, True])
def test_after_many_uploads_that_send_nothing_no_other_one_waits(monkeypatch, on_a_loop):
    """On a slow line, or in a pause, each of them would wait for nothing."""
    waits = Counter()
    wait = Latch.wait

    def noted(latch, until=math.inf):
        waits[threading.get_ident(), until < math.inf] += 1
        return wait(latch, until)

    monkeypatch.setattr(Latch, "wait", noted)
    begun = threading.Event()
    batch = upload_all([*[reactivex.never()] * 100, acting(lambda _: begun.set())], concurrency=101)
    with contextlib.ExitStack() as stack:
        loop = EventLoopScheduler() if on_a_loop else None
        if loop is not None:
            stack.callback(loop.dispose)
        _, subscription = observe(batch, scheduler=loop)
        stack.callback(subscription.dispose)
        assert begun.wait(PATIENCE)
    assert max(count for (_, is_bounded), count in waits.items() if is_bounded) == 16
