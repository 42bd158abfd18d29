"""On which turn of a loop a batch notifies, and who reports what its observer raises."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import httpx
import pytest
import reactivex
from reactivex.disposable import Disposable
from reactivex.scheduler.eventloop import AsyncIOScheduler
from reactivex.subject import Subject
from support.recording_observer import observe
from support.scripted_server import PATIENCE

from rxupload import BatchProgress, BatchSummary, ItemDone, ItemProgress, Progress, upload, upload_all
from rxupload.testing import HandCrankedClient

RESPONSE = httpx.Response(200, request=httpx.Request("POST", "http://h/"))


def emitting() -> reactivex.Observable:
    """An upload that emits all its items while it is subscribed to."""

    def subscribe(observer, scheduler=None):
        observer.on_next(Progress(1, 1))
        observer.on_next(RESPONSE)
        observer.on_completed()
        return Disposable()

    return reactivex.create(subscribe)


def real() -> reactivex.Observable:
    """An upload that emits on the loop, in turns of its own."""
    return upload("http://h/", b"data", client=HandCrankedClient(200))


def by_hand(uploads: list[Any]) -> reactivex.Observable:
    """An upload that the caller's code makes emit on the loop."""
    uploads.append(Subject())
    return uploads[-1]


@pytest.mark.parametrize("make", [real, emitting])
@pytest.mark.parametrize("kind", [ItemProgress, BatchProgress, ItemDone, BatchSummary])
def test_the_loop_reports_the_error_of_an_observer_that_takes_none(make, kind):
    """Without on_error, reactivex raises the error again. No upload may swallow it."""

    async def main() -> None:
        loop, reported = asyncio.get_running_loop(), asyncio.Queue[Any]()
        loop.set_exception_handler(lambda _, context: reported.put_nowait(context["exception"]))

        def on_next(event: object) -> None:
            if isinstance(event, kind):
                raise ZeroDivisionError

        upload_all([make()]).subscribe(on_next, scheduler=AsyncIOScheduler(loop))
        assert isinstance(await asyncio.wait_for(reported.get(), PATIENCE), ZeroDivisionError)

    asyncio.run(main())


def test_the_error_of_an_observer_does_not_reach_the_code_that_emits():
    """That is no part of the batch, and may be in the middle of something else."""

    async def main() -> None:
        loop, reported, subjects = asyncio.get_running_loop(), asyncio.Queue[Any](), []
        loop.set_exception_handler(lambda _, context: reported.put_nowait(context["exception"]))
        begun, is_over = asyncio.Event(), threading.Event()

        def note(event: object) -> None:
            if isinstance(event, ItemProgress):
                raise ZeroDivisionError

        def draw():
            yield by_hand(subjects)
            loop.call_soon_threadsafe(begun.set)
            is_over.wait(PATIENCE)  # the end of the iterable would be another event

        upload_all(draw()).subscribe(note, scheduler=AsyncIOScheduler(loop))
        await asyncio.wait_for(begun.wait(), PATIENCE)
        subjects[0].on_next(Progress(1, 2))
        assert isinstance(await asyncio.wait_for(reported.get(), PATIENCE), ZeroDivisionError)
        is_over.set()

    asyncio.run(main())


@pytest.mark.parametrize("make", [real, emitting])
def test_an_observable_in_an_observer_emits_at_once(make):
    """The observer is called in no trampoline of reactivex's, which would delay `of` to the end of a `subscribe`."""
    counts = []

    def note(_: object) -> None:
        got: list[int] = []
        reactivex.of(1, 2).subscribe(got.append)
        counts.append(len(got))

    async def main() -> None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        upload_all([make()]).subscribe(note, on_completed=ended.set, scheduler=AsyncIOScheduler(loop))
        await asyncio.wait_for(ended.wait(), PATIENCE)

    asyncio.run(main())
    assert set(counts) == {2}


def test_the_error_of_a_setting_comes_in_a_turn_of_its_own():
    """A signal handler may have caused it, in the middle of the observer's own code."""

    async def main() -> None:
        loop, pause, begun, ended = (
            asyncio.get_running_loop(),
            Subject[bool](),
            asyncio.Event(),
            asyncio.Event(),
        )

        def draw():
            loop.call_soon_threadsafe(begun.set)
            yield reactivex.never()

        observed, _ = observe(upload_all(draw(), pause=pause), scheduler=AsyncIOScheduler(loop))
        await asyncio.wait_for(begun.wait(), PATIENCE)
        error = OSError()
        pause.on_error(error)
        assert observed.error is None
        loop.call_soon(ended.set)
        await asyncio.wait_for(ended.wait(), PATIENCE)
        assert observed.error is error

    asyncio.run(main())
