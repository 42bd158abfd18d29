"""`async for` over an upload, a batch or any pipeline: its items, its errors, a slow body, and when it aborts."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import httpx
import pytest
import reactivex
from hypothesis import given
from hypothesis import strategies as st
from reactivex import operators as ops
from reactivex.scheduler import NewThreadScheduler
from reactivex.subject import Subject
from support.hand_cranked_client import refuse
from support.recording_observer import check_grammar
from support.scripted_server import PATIENCE, Server

import rxupload
from rxupload import (
    BatchProgress,
    BatchSummary,
    ItemDone,
    ItemFailed,
    ItemProgress,
    Progress,
    stream,
    upload,
    upload_all,
)
from rxupload._backlog import Backlog
from rxupload._transfer import Disposed
from rxupload.operators import retry_backoff, throughput
from rxupload.testing import Exchange, HandCrankedClient

URL = "http://upload.test/"
LOST = httpx.ReadError("Connection reset by peer")


def run(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_an_upload_gives_its_events():
    """An upload gives its Progress and its response, on the loop, and ends."""

    async def main() -> list[Any]:
        return [event async for event in upload(server.url, bytes(1000))]

    with Server(lambda connection: connection.serve(201, b"stored")) as server:
        events = run(main)
    check_grammar(events, completed=True)
    assert (events[-1].status_code, events[-1].text) == (201, "stored")


def test_a_batch_gives_its_events():
    """A batch gives its events, and the summary last; its uploads notify on the loop."""
    threads: set[int] = set()

    async def main() -> list[Any]:
        note = ops.do_action(lambda _: threads.add(threading.get_ident()))
        uploads = [upload(URL, b"data", client=HandCrankedClient(200)).pipe(note) for _ in range(3)]
        return [event async for event in upload_all(uploads)]

    events = run(main)
    assert threads == {threading.get_ident()}
    assert [type(each) for each in events].count(ItemDone) == 3
    assert isinstance(events[-1], BatchSummary)


def test_each_iteration_is_an_upload():
    """Each `async for` over an upload is a subscription of its own."""

    async def main() -> None:
        up = upload(URL, b"data", client=HandCrankedClient(201, 202))
        for status in (201, 202):
            events = [event async for event in up]
            assert events[-1].status_code == status

    run(main)


def test_an_error_is_raised_after_the_items_before_it():
    """An error is raised in the loop, once and after the items; then there is nothing more."""

    async def main() -> None:
        up = upload(URL, b"data", client=HandCrankedClient(refuse(pieces=1), 201))
        events = stream(up)
        seen = []
        with pytest.raises(httpx.ReadError):
            async for event in events:
                seen.append(event)
        assert seen[0] == Progress(0, seen[0].total)
        assert [event async for event in events] == []
        retried = up.pipe(retry_backoff(wait_initial=0, wait_jitter=0))
        assert [event async for event in stream(retried)][-1].status_code == 201

    run(main)


def test_progress_coalesces_while_the_body_is_slow():
    """A slow body gets the first and the last Progress of a pass, and few of those between."""
    client = HandCrankedClient()

    async def main() -> None:
        came: asyncio.Queue[Any] = asyncio.Queue()
        up = upload(URL, bytes(5 << 20), client=client, progress_interval=0)
        seen = []
        there = asyncio.Event()

        async def iterate() -> None:
            async for event in stream(up.pipe(ops.do_action(came.put_nowait))):
                seen.append(event)
                await there.wait()

        iterating = asyncio.ensure_future(iterate())
        exchange = await asyncio.to_thread(client.next_request)
        count = 1
        while await asyncio.to_thread(exchange.take):
            assert isinstance(await came.get(), Progress)  # so that none waits for its turn of the loop
            count += 1
        assert (await came.get()).percent == 100
        exchange.respond()
        assert (await came.get()).status_code == 200
        there.set()
        await iterating
        check_grammar(seen, completed=True)
        first, last, _ = seen
        assert (first.sent, last.sent) == (0, last.total)
        assert count > len(seen)

    run(main)


def test_what_is_no_progress_waits():
    """Whatever is not progress waits as it came; of a batch's progress, the latest of each upload waits."""
    up = reactivex.never()
    source: Subject[Any] = Subject()
    sent = [
        *(ItemProgress(index, up, Progress(sent, 9)) for sent in (0, 3, 6) for index in (0, 1)),
        *(BatchProgress(0, 0, 2, sent, None) for sent in (1, 2)),
        ItemFailed(0, up, LOST),
        ItemProgress(1, up, Progress(0, 9, 2)),
        ItemProgress(1, up, Progress(9, 9, 2)),
        BatchProgress(0, 1, 1, 3, None),
        "other",
        "other",
    ]
    expected = [sent[0], sent[1], sent[4], sent[5], sent[8], sent[9], sent[10], sent[11], "other", "other"]

    async def main() -> list[Any]:
        async with stream(source) as events:
            for each in sent:
                source.on_next(each)
            source.on_completed()
            return [event async for event in events]

    assert run(main) == expected


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 5), st.booleans())))
def test_any_backlog_keeps_the_first_and_the_latest(steps):
    """Whatever is put and taken, each pass has its first item and its latest, and the order is that of the items."""
    backlog = Backlog()
    put, taken = [], []
    for attempt, number, takes in steps:
        item = Progress(number, 5, attempt)
        put.append(item)
        backlog.put(item)
        if takes:
            taken.append(backlog.take())
    while backlog:
        taken.append(backlog.take())
    for attempt in (1, 2, 3):
        for is_first in (True, False):
            group = [each for each in put if each.attempt == attempt and (each.sent == 0) == is_first]
            found = [each for each in taken if each.attempt == attempt and (each.sent == 0) == is_first]
            assert found[-1:] == group[-1:]
            rest = iter(group)
            assert all(each in rest for each in found)


def test_throughput_coalesces_too():
    """Throughput, which has a Progress, coalesces as that does."""

    async def main() -> list[Any]:
        source: Subject[Any] = Subject()
        async with stream(source.pipe(throughput())) as events:
            for count in range(10):
                source.on_next(Progress(count, 9))
            source.on_completed()
            return [event.progress.sent async for event in events]

    assert run(main) == [0, 9]


async def begun(events: Any, client: HandCrankedClient) -> Exchange:
    """Begin to iterate, and return the exchange of the upload, which has sent nothing."""
    waiting = asyncio.ensure_future(anext(events))
    exchange = await asyncio.to_thread(client.next_request)
    exchange._steps.put(lambda: exchange._next_piece() and None)
    assert (await waiting).sent == 0
    return exchange


@pytest.mark.parametrize("how", ["aclose", "with", "break in with", "last reference", "cancelled", "timeout"])
def test_closing_aborts_the_upload(how):
    """The upload is aborted by aclose(), the end of `async with`, the last reference going, and a cancelled wait."""
    client = HandCrankedClient()

    async def main() -> Exchange:
        events = stream(upload(URL, b"data", client=client))
        exchange = await begun(events, client)
        if how == "aclose":
            await events.aclose()
            await events.aclose()
        elif how == "with":
            async with events:
                pass
        elif how == "break in with":
            with contextlib.suppress(ZeroDivisionError):
                async with events as same:
                    assert same is events
                    raise ZeroDivisionError
        elif how == "last reference":
            gc.disable()  # it goes at once, and not with the next collection
            del events
        elif how == "timeout":
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(events), 0.01)
        else:
            waiting = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        assert isinstance(await asyncio.to_thread(exchange.end), Disposed)
        if how != "last reference":
            assert [event async for event in events] == []
        return exchange

    try:
        run(main)
    finally:
        gc.enable()


def test_a_break_aborts_the_upload():
    """A `break` out of `async for` over an upload closes its connection."""
    gone = threading.Event()

    def script(connection: Any) -> None:
        connection.read_head()
        connection.wait_for_end()
        gone.set()

    async def main() -> None:
        async for event in upload(server.url, bytes(50 << 20)):
            assert event == Progress(0, event.total)
            break
        assert await asyncio.to_thread(gone.wait, PATIENCE)

    with Server(script) as server:
        run(main)


def test_nothing_begins_before_the_first_item():
    """Making the iterator subscribes to nothing."""
    client = HandCrankedClient()
    aiter(upload(URL, b"data", client=client))
    stream(upload_all([upload(URL, b"data", client=client)]))
    assert client.no_request()


def test_a_pipeline_may_emit_on_any_thread():
    """Items that come on other threads wake the loop."""

    async def main() -> list[Any]:
        elsewhere = reactivex.range(0, 100).pipe(ops.observe_on(NewThreadScheduler()))
        return [item async for item in stream(elsewhere)]

    assert run(main) == list(range(100))


def test_two_tasks_cannot_wait_for_the_same_item():
    """A second task that asks for the next item meanwhile gets a RuntimeError, and the first still gets its item."""

    async def main() -> None:
        source: Subject[int] = Subject()
        events = stream(source)
        first = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task"):
            await anext(events)
        source.on_next(1)
        assert await first == 1

    run(main)


def test_a_loop_that_has_closed_is_no_error():
    """Items that come after the end of the loop are dropped."""
    source: Subject[int] = Subject()
    events = stream(source)

    async def main() -> None:
        with contextlib.suppress(TimeoutError):
            await events.__aenter__()

    run(main)
    source.on_next(1)
    source.on_completed()


@pytest.mark.parametrize("source", [None, 5, [1]])
def test_anything_else_is_a_type_error(source):
    """Anything but an Observable raises at the call."""
    with pytest.raises(TypeError, match="source: expected an Observable"):
        rxupload.stream(source)
