"""Asynchronous sources: read on the loop of the upload's scheduler, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import io
import re
import threading

import httpx
import pytest
from reactivex import operators as ops
from reactivex.scheduler import EventLoopScheduler, NewThreadScheduler
from reactivex.scheduler.eventloop import AsyncIOScheduler
from support.held_clock import HeldClock
from support.owner import FakeOwner
from support.pieces import read_all
from support.recording_observer import check_grammar, observe
from support.scripted_server import PATIENCE, Server, header

from rxupload import Client, File, SourceChanged, UploadTimeout, run, upload, upload_all
from rxupload._sources import make_source
from rxupload._sources.asynchronous import AsyncFlow
from rxupload._sources.buffered import LIMIT
from rxupload.operators import retry_backoff

CONTENT = bytes(range(256)) * 5000
PIECES = [CONTENT[start : start + 70_000] for start in range(0, len(CONTENT), 70_000)]


class Taken:
    """A server that takes raw bodies, and answers with the statuses given, the last one for all others."""

    def __init__(self, *statuses):
        self.bodies = []
        self.heads = []
        self._statuses = list(statuses)
        self._server = Server(self._script)
        self.url = self._server.url

    def _script(self, connection):
        while head := connection.read_head():
            self.heads.append(head)
            self.bodies.append(connection.read_body())
            connection.respond(self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0])

    def __enter__(self):
        self._server.__enter__()
        return self

    def __exit__(self, *details):
        self._server.__exit__(*details)


class Recorded:
    """Asynchronous generators of pieces, whose starts and ends are recorded with their loops."""

    def __init__(self, pieces=PIECES, error=None):
        self.begun = []
        self.closed = []
        self.drawn = 0
        self.has_closed = threading.Event()
        self._pieces = pieces
        self._error = error

    async def __call__(self):
        self.begun.append(asyncio.get_running_loop())
        try:
            for piece in self._pieces:
                await asyncio.sleep(0)
                self.drawn += len(piece)
                yield piece
            if self._error is not None:
                raise self._error
        finally:
            self.closed.append(asyncio.get_running_loop())
            self.has_closed.set()

    def function(self):
        """An asynchronous generator function."""

        async def pieces():
            async with contextlib.aclosing(self()) as given:
                async for piece in given:
                    yield piece

        return pieces

    def iterable(self):
        """An asynchronous iterable that can be read again."""
        recorded = self

        class Iterable:
            def __aiter__(self):
                return recorded()

        return Iterable()


class AsyncFile:
    """A file object with coroutines for methods, which counts the reads at the same time."""

    def __init__(self, content, *, seekable=True):
        self._file = io.BytesIO(content)
        self._seekable = seekable
        self.reading = 0
        self.faults = []
        self.is_closed = False

    async def read(self, size=-1):
        self.reading += 1
        position = self._file.tell()
        await asyncio.sleep(0)
        if self.reading > 1 or self._file.tell() != position:
            self.faults.append("another upload moves it")
        self.reading -= 1
        return self._file.read(size)

    async def seek(self, offset, whence=0):
        await asyncio.sleep(0)
        return self._file.seek(offset, whence)

    async def tell(self):
        return self._file.tell()

    async def seekable(self):
        return self._seekable

    async def readable(self):
        return True

    async def close(self):
        self.is_closed = True


@pytest.fixture
def taken():
    with Taken(201) as server:
        yield server


def put(server, source, **kwargs):
    return upload(server.url, source, raw=True, method="PUT", **kwargs)


# What is sent

KINDS = {
    "generator": lambda recorded: recorded(),
    "generator function": lambda recorded: recorded.function(),
    "bound method": lambda recorded: recorded.__call__,
    "callable object": lambda recorded: recorded,
    "function of a generator": lambda recorded: lambda *_: recorded(),
    "iterable": lambda recorded: recorded.iterable(),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
@pytest.mark.parametrize("pieces", [PIECES, [], [b"", b"a", bytearray(b"b"), memoryview(b"c"), b""]])
def test_all_of_it_is_sent_in_order(kind, pieces, taken):
    """An asynchronous source is sent whole and in order, chunked, and is read and closed on the caller's loop."""
    recorded = Recorded(pieces)

    async def main():
        response = await put(taken, KINDS[kind](recorded))
        assert response.status_code == 201
        loop = asyncio.get_running_loop()
        assert recorded.begun == recorded.closed == [loop]

    asyncio.run(main())
    assert taken.bodies == [b"".join(pieces)]
    assert header(taken.heads[0], b"transfer-encoding") == b"chunked"


def test_the_progress_of_a_source_without_a_size(taken):
    """The progress has the grammar of any upload, and no total."""

    async def main():
        scheduler = AsyncIOScheduler(asyncio.get_running_loop())
        up = put(taken, Recorded()(), progress_interval=0)
        observed, _ = observe(up, scheduler=scheduler)
        await asyncio.to_thread(observed.wait)
        check_grammar(observed.items, completed=True)
        assert {item.total for item in observed.progress} == {None}
        assert observed.progress[-1].sent == len(CONTENT)
        assert observed.threads == {threading.get_ident()}

    asyncio.run(main())


@pytest.mark.parametrize("size", [len(CONTENT), len(CONTENT) - 1, len(CONTENT) + 1])
def test_a_declared_size_is_kept(size, taken):
    """With a declared size there is a Content-Length, and more or fewer bytes are SourceChanged."""

    async def main():
        await put(taken, File(Recorded()(), size=size))

    if size == len(CONTENT):
        asyncio.run(main())
        assert header(taken.heads[0], b"content-length") == b"%d" % size
        assert taken.bodies == [CONTENT]
    else:
        with pytest.raises(SourceChanged):
            asyncio.run(main())


def test_a_form_may_have_several(taken):
    """A form has asynchronous files beside others."""

    async def main():
        files = [Recorded([b"one"])(), b"two", File(Recorded([b"three"]).function(), filename="c.txt")]
        await upload(taken.url, files)

    asyncio.run(main())
    contents = [part.partition(b"\r\n\r\n")[2] for part in taken.bodies[0].split(b"\r\n--")]
    assert contents[:3] == [b"one", b"two", b"three"]
    assert b'filename="c.txt"\r\nContent-Type: text/plain' in taken.bodies[0]


# The loop


@pytest.mark.parametrize(
    "kind", ["generator", "generator function", "bound method", "callable object", "iterable", "file"]
)
@pytest.mark.parametrize("scheduler", [None, NewThreadScheduler, EventLoopScheduler])
def test_without_a_loop_it_is_a_type_error(kind, scheduler, taken):
    """Without an asyncio loop it is a TypeError at subscribe, which says what to do; nothing is sent."""
    source = AsyncFile(b"a") if kind == "file" else KINDS[kind](Recorded())
    up = put(taken, source)
    chosen = None if scheduler is None else scheduler()
    observed, _ = observe(up, scheduler=chosen)
    assert observed.ended, "it came later than at subscribe"
    assert isinstance(observed.error, TypeError)
    message = "is asynchronous, and can be read only on an asyncio loop: `await` the upload, or give"
    assert message in str(observed.error)
    with pytest.raises(TypeError, match=re.escape(message)):
        up.run()
    with pytest.raises(TypeError, match=re.escape(message)):
        run(
            upload_all([up]).pipe(
                ops.map(lambda event: getattr(event, "error", None)),
                ops.filter(bool),
                ops.do_action(raise_it),
            )
        )
    assert not taken.heads
    if chosen is not None and hasattr(chosen, "dispose"):
        chosen.dispose()


def raise_it(error):
    raise error


def test_a_function_that_returns_one_is_the_same_error(taken):
    """What a function returns is known only once it is called; the error is the same, and nothing is sent."""
    recorded = Recorded()

    async def opens():
        return AsyncFile(b"")

    for function in (lambda *_: recorded(), lambda: opens(), lambda: AsyncFile(b"")):  # noqa: PLW0108
        with pytest.raises(TypeError, match=r"what the function returned is asynchronous, .* `await` the up"):
            put(taken, function).run()
    assert not taken.heads


def test_the_callbacks_scheduler_has_the_loop(taken):
    """`start` with an AsyncIOScheduler reads on its loop; without one it fails with the same TypeError."""
    recorded = Recorded()

    async def main():
        loop = asyncio.get_running_loop()
        result = await put(taken, recorded.function()).start(scheduler=AsyncIOScheduler(loop))
        assert result["statusCode"] == 201
        assert recorded.begun == [loop]
        with pytest.raises(TypeError, match="asyncio loop"):
            await put(taken, recorded.function()).start()

    asyncio.run(main())
    assert taken.bodies == [CONTENT]


def test_a_batch_reads_on_its_loop(taken):
    """The uploads of a batch read on the loop that the batch is awaited on, also under a rate limit."""
    recorded = [Recorded([b"%d" % number]) for number in range(20)]

    async def main():
        uploads = [put(taken, each.function()) for each in recorded]
        return await upload_all(uploads, concurrency=3, rate_limit=1e9)

    summary = asyncio.run(main())
    assert (summary.done, summary.failed) == (20, 0)
    assert sorted(taken.bodies) == sorted(b"%d" % number for number in range(20))


def test_the_loop_stays_free(taken):
    """A generator that never waits leaves turns of the loop to others."""
    turns = 0

    async def greedy():
        start = turns
        while turns < start + 3:
            yield b"a"

    async def count_turns():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def main():
        counting = asyncio.ensure_future(count_turns())
        await put(taken, greedy())
        counting.cancel()

    asyncio.run(main())
    assert set(taken.bodies[0]) == {ord("a")}


# Backpressure


def test_a_generator_waits_for_room(monkeypatch):
    """A server that does not read makes the generator wait; the buffer never has more than its limit."""
    is_full = threading.Event()
    in_buffer = []
    bodies = []
    try_to_add = AsyncFlow._try_to_add

    def spy(flow, data):
        has_room = try_to_add(flow, data)
        in_buffer.append(len(flow._buffer))
        if not has_room:
            is_full.set()
        return has_room

    def script(connection):
        connection.read_head()
        assert is_full.wait(PATIENCE)
        bodies.append(connection.read_body())
        connection.respond()

    monkeypatch.setattr(AsyncFlow, "_try_to_add", spy)
    piece = bytes(64 * 1024)
    with Server(script, receive_buffer=4096) as server:
        asyncio.run(awaited(put(server, Recorded([piece] * 400)())))
    assert bodies == [piece * 400]
    assert max(in_buffer) <= LIMIT


def test_an_item_longer_than_the_buffer_is_sent(taken):
    """Items longer than the buffer go through it, one at a time."""
    items = [bytes([number]) * (LIMIT + 1) for number in range(4)]
    asyncio.run(awaited(put(taken, Recorded(items)())))
    assert taken.bodies == [b"".join(items)]


async def awaited(up):
    return await up


# Passes


def test_a_retry_calls_a_function_again():
    """Each attempt of retry_backoff, on the same loop, reads a fresh generator."""
    recorded = Recorded()
    with Taken(503, 503, 201) as server:
        up = put(server, recorded.function()).pipe(retry_backoff(wait_initial=0, wait_jitter=0))
        assert asyncio.run(awaited(up)).status_code == 201
    assert server.bodies == [CONTENT] * 3
    assert len(recorded.begun) == len(recorded.closed) == 3


def test_a_redirect_calls_a_function_again():
    """A 307 makes a second pass, with a fresh generator."""
    recorded = Recorded()
    bodies = []

    def script(connection):
        while head := connection.read_head():
            bodies.append(connection.read_body())
            if head.startswith(b"PUT /b"):
                connection.respond()
            else:
                connection.respond(307, b"", "Location: /b")

    with Server(script) as server:
        up = put(server, recorded.function(), follow_redirects=True)
        assert asyncio.run(awaited(up)).status_code == 200
    assert bodies == [CONTENT] * 2


@pytest.mark.parametrize("has_begun", [False, True])
def test_a_generator_is_read_once(has_begun):
    """A second pass over a generator is an error that says what to give; one that was read elsewhere is, too."""
    with Taken(503, 201) as server:

        async def main():
            generator = Recorded()()
            if has_begun:
                async for _ in generator:
                    pass
            await put(server, generator).pipe(retry_backoff(wait_initial=0, wait_jitter=0))

        with pytest.raises(RuntimeError, match="was read before, and can be read only once"):
            asyncio.run(main())
    assert len(server.bodies) == (0 if has_begun else 1)


def test_a_generator_survives_an_upload_that_did_not_connect(taken):
    """An upload that could not connect leaves the generator for the next attempt."""
    recorded = Recorded()
    attempts = []

    def connect(request):
        attempts.append(request)
        if len(attempts) == 1:
            raise httpx.ConnectError("refused")

    async def main():
        with Client(event_hooks={"request": [connect]}) as client:
            up = put(taken, recorded(), client=client)
            return await up.pipe(retry_backoff(wait_initial=0, wait_jitter=0))

    assert asyncio.run(main()).status_code == 201
    assert taken.bodies == [CONTENT]


# Errors


@every_kind
def test_its_error_ends_the_upload(kind, taken):
    """The source's error ends the upload, unchanged."""
    error = KeyError("mine")
    recorded = Recorded([b"a"] * 3, error)

    async def main():
        with pytest.raises(KeyError) as caught:
            await put(taken, KINDS[kind](recorded))
        assert caught.value is error

    asyncio.run(main())
    assert not taken.bodies


def test_the_first_error_of_a_function_comes_before_anything_is_sent(taken):
    """The error of a fresh generator at its first item comes before the server sees a request."""
    error = KeyError("mine")
    with pytest.raises(KeyError):
        asyncio.run(awaited(put(taken, Recorded([], error).function())))
    assert not taken.heads


def test_its_error_ends_a_stalled_send():
    """The error comes at once, while the server does not read."""
    moved = threading.Event()

    def script(connection):
        connection.read_head()
        moved.set()
        connection.wait_for_reset()

    async def pieces():
        yield bytes(16 << 20)
        assert await asyncio.to_thread(moved.wait, PATIENCE)
        raise KeyError("mine")

    with Server(script, receive_buffer=4096) as server, pytest.raises(KeyError):
        asyncio.run(awaited(put(server, pieces())))
    assert not server.errors


@pytest.mark.parametrize("item", ["text", 5, None])
def test_an_item_that_is_not_bytes_is_a_type_error(item, taken):
    """An item that is not bytes-like is a TypeError with its index."""
    with pytest.raises(TypeError, match=f"must give bytes, and its item 2 is {type(item).__name__}"):
        asyncio.run(awaited(put(taken, mixed(item))))


async def mixed(item):
    yield b""
    yield b"a"
    yield item


def test_a_task_that_others_cancel_is_an_error(taken):
    """Where the generator waits for a task that is cancelled, the upload fails; it does not look cancelled itself."""

    async def pieces():
        yield b"a"
        task = asyncio.ensure_future(asyncio.sleep(PATIENCE))
        task.cancel()
        await task

    with pytest.raises(RuntimeError, match="the asynchronous iterator was cancelled on its event loop"):
        asyncio.run(awaited(put(taken, pieces())))


@pytest.mark.parametrize("returned", [b"a", 5, None, ["a"]])
def test_a_coroutine_function_must_return_asynchronous_content(returned, taken):
    """What a coroutine function returns must be asynchronous content, and the error says so."""

    async def function():
        return returned

    with pytest.raises(TypeError, match="must be an asynchronous iterable of bytes, or a file object"):
        asyncio.run(awaited(put(taken, function)))
    assert not taken.heads


def test_an_upload_that_stops_first_leaves_no_coroutine_unawaited():
    """If the upload stops before the loop has a turn, the function's coroutine is closed on the loop."""
    made = []

    async def opens():
        return AsyncFile(b"")

    def function():
        made.append(opens())
        return made[-1]

    owner = FakeOwner()
    owner.loop = asyncio.new_event_loop()
    owner.stop(KeyError("mine"))
    with contextlib.closing(owner), contextlib.closing(owner.loop):
        with pytest.raises(KeyError):
            make_source(function).open(owner)
        assert inspect.getcoroutinestate(made[0]) == inspect.CORO_CREATED
        owner.loop.run_until_complete(asyncio.sleep(0))
        assert inspect.getcoroutinestate(made[0]) == inspect.CORO_CLOSED


@pytest.mark.parametrize("source", ["file", "function", "generator"])
def test_a_closed_loop_is_an_error(source):
    """On a loop that is closed nothing can be read, and the error says so."""

    async def generator():
        yield b"a"

    owner = FakeOwner()
    owner.loop = asyncio.new_event_loop()
    owner.loop.close()
    sources = {"file": AsyncFile(b"a"), "function": generator, "generator": generator()}
    with contextlib.ExitStack() as stack:
        stack.callback(owner.close)
        stack.enter_context(pytest.raises(RuntimeError, match="loop is closed"))
        read_all(stack.enter_context(contextlib.closing(make_source(sources[source]).open(owner))))


def test_a_coroutine_is_refused_at_the_call():
    """A coroutine, instead of its function or its result, is refused at the call."""

    async def function():
        return AsyncFile(b"")

    with contextlib.closing(function()) as coroutine, pytest.raises(TypeError, match="await it, or give"):
        upload("http://server.test", coroutine)


# The end


@every_kind
@pytest.mark.parametrize("is_waiting", [True, False], ids=["in the generator", "for room"])
def test_a_cancelled_upload_closes_the_generator(kind, is_waiting):
    """Cancelling closes the generator on its loop, whether it waits in itself or for room; the connection is reset."""
    begun = threading.Event()

    def script(connection):
        connection.read_head()
        begun.set()
        connection.wait_for_reset()

    class Waiting(Recorded):
        async def __call__(self):
            self.begun.append(asyncio.get_running_loop())
            try:
                yield b"a"
                if is_waiting:
                    await asyncio.Event().wait()
                while True:
                    yield bytes(LIMIT)
            finally:
                await asyncio.sleep(0)  # a generator's end may wait
                self.closed.append(asyncio.get_running_loop())
                self.has_closed.set()

    recorded = Waiting()

    async def main(server):
        task = asyncio.ensure_future(put(server, KINDS[kind](recorded)))
        assert await asyncio.to_thread(begun.wait, PATIENCE)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(recorded.has_closed.wait, PATIENCE)
        assert recorded.closed == [asyncio.get_running_loop()]

    with Server(script, receive_buffer=4096) as server:
        asyncio.run(main(server))
    assert not server.errors


def test_a_timeout_closes_the_generator(monkeypatch):
    """The upload's time limit ends a generator that waits."""
    recorded = Recorded()
    clock = HeldClock(monkeypatch)

    async def pieces():
        async with contextlib.aclosing(recorded()) as given:
            async for piece in given:
                yield piece
                clock.release()
                await asyncio.Event().wait()

    async def main(server):
        with pytest.raises(UploadTimeout):
            await put(server, pieces(), timeout=0.2)
        assert await asyncio.to_thread(recorded.has_closed.wait, PATIENCE)

    with Server(lambda connection: connection.wait_for_end()) as server:
        asyncio.run(main(server))


def test_an_early_answer_closes_the_generator():
    """An answer before the end of the body is the response, and ends the generator."""
    recorded = Recorded([bytes(LIMIT)] * 1000)

    def script(connection):
        connection.read_head()
        connection.respond(413)
        connection.wait_for_end()

    async def main(server):
        assert (await put(server, recorded.function())).status_code == 413
        assert await asyncio.to_thread(recorded.has_closed.wait, PATIENCE)

    with Server(script) as server:
        asyncio.run(main(server))
    assert recorded.drawn < 1000 * LIMIT


def test_an_abort_closes_the_generator_of_a_task():
    """`abort()` of a task with a loop closes the generator."""
    recorded = Recorded()
    begun = threading.Event()

    async def pieces():
        async with contextlib.aclosing(recorded()) as given:
            async for piece in given:
                yield piece
                begun.set()
                await asyncio.Event().wait()

    async def main(server):
        task = put(server, pieces()).start(scheduler=AsyncIOScheduler(asyncio.get_running_loop()))
        assert await asyncio.to_thread(begun.wait, PATIENCE)
        task.abort()
        assert await asyncio.to_thread(recorded.has_closed.wait, PATIENCE)

    with Server(lambda connection: connection.wait_for_end()) as server:
        asyncio.run(main(server))


def test_the_callers_iterator_is_not_closed(taken):
    """An iterator that is no generator, such as a stream, stays open; one that the library made is closed."""

    class Stream:
        def __init__(self):
            self.items = [b"a", b"b"]
            self.closed = 0

        def __aiter__(self):
            return self

        async def __anext__(self):
            if not self.items:
                raise StopAsyncIteration
            return self.items.pop(0)

        async def aclose(self):
            self.closed += 1

    class Streams:
        def __init__(self, stream):
            self.stream = stream

        def __aiter__(self):
            return self.stream

    stream, inner = Stream(), Stream()
    asyncio.run(awaited(put(taken, stream)))
    asyncio.run(awaited(put(taken, Streams(inner))))
    assert taken.bodies == [b"ab", b"ab"]
    assert (stream.closed, inner.closed) == (0, 1)


def test_a_closed_loop_leaves_no_thread(taken):
    """A loop that ends while the upload runs ends the upload, and cancels the generator."""
    recorded = Recorded()

    async def pieces():
        async with contextlib.aclosing(recorded()) as given:
            async for piece in given:
                yield piece
                await asyncio.Event().wait()

    async def main():
        has_begun = asyncio.Event()
        scheduler = AsyncIOScheduler(asyncio.get_running_loop())
        observe(put(taken, pieces()), lambda item: item.sent and has_begun.set(), scheduler=scheduler)
        await has_begun.wait()

    asyncio.run(main())
    assert recorded.closed == recorded.begun


# File objects


@pytest.mark.parametrize("start", [0, 7])
def test_an_asynchronous_file_object_is_read_from_its_position(start):
    """Each pass reads it from its position, its size is exact, and it stays open."""
    with Taken(503, 201) as server:

        async def main():
            file = AsyncFile(CONTENT)
            await file.seek(start)
            up = put(server, file)
            await up.pipe(retry_backoff(wait_initial=0, wait_jitter=0))
            await up
            assert not file.faults
            assert not file.is_closed

        asyncio.run(main())
    assert server.bodies == [CONTENT[start:]] * 3
    assert header(server.heads[0], b"content-length") == b"%d" % (len(CONTENT) - start)


def test_several_uploads_may_read_one_asynchronous_file_object(taken):
    """Uploads at the same time, of one Upload or of several, each send all of it."""

    async def main():
        file = AsyncFile(CONTENT)
        up = put(taken, file)
        await asyncio.gather(awaited(up), awaited(up), *(put(taken, file) for _ in range(4)))
        assert not file.faults

    asyncio.run(main())
    assert taken.bodies == [CONTENT] * 6


def test_an_asynchronous_file_object_that_cannot_seek_is_read_once():
    """One that cannot seek has no size, and a second pass is an error."""
    with Taken(503, 201) as server:

        async def main():
            up = put(server, AsyncFile(CONTENT, seekable=False))
            with pytest.raises(RuntimeError, match="the file object was read before"):
                await up.pipe(retry_backoff(wait_initial=0, wait_jitter=0))

        asyncio.run(main())
    assert server.bodies == [CONTENT]
    assert header(server.heads[0], b"transfer-encoding") == b"chunked"


def test_an_asynchronous_file_object_at_its_end_is_refused(taken):
    """One that was read to its end is a ValueError, before anything is sent; an empty one is sent."""

    async def main():
        file = AsyncFile(CONTENT)
        await file.read()
        with pytest.raises(
            ValueError, match=re.escape("stands at its end, so that nothing would be sent; seek(0)?")
        ):
            await put(taken, file)
        assert not taken.heads
        await put(taken, AsyncFile(b""))

    asyncio.run(main())
    assert taken.bodies == [b""]


def test_a_coroutine_function_opens_a_file_for_each_pass():
    """A coroutine function that opens a file is called for each pass, and each file is closed."""
    files = []

    async def fresh():
        files.append(AsyncFile(CONTENT))
        return files[-1]

    with Taken(503, 201) as server:
        asyncio.run(awaited(put(server, fresh).pipe(retry_backoff(wait_initial=0, wait_jitter=0))))
    assert server.bodies == [CONTENT] * 2
    assert [file.is_closed for file in files] == [True, True]


def test_a_cancelled_upload_lets_a_read_end_before_the_next_pass_seeks(taken):
    """A read that cannot be cancelled, as in an executor's thread, ends before another upload moves the file."""
    goes_on, reads = threading.Event(), threading.Event()

    class InThread(AsyncFile):
        async def read(self, size=-1):
            def read():
                position = self._file.tell()
                reads.set()
                assert goes_on.wait(PATIENCE)
                if self._file.tell() != position:
                    self.faults.append("another upload moves it")
                return self._file.read(size)

            return await asyncio.to_thread(read)

    async def main():
        file = InThread(CONTENT)
        up = put(taken, file)
        task = asyncio.ensure_future(up)
        assert await asyncio.to_thread(reads.wait, PATIENCE)
        task.cancel()
        second = asyncio.ensure_future(up)
        with pytest.raises(asyncio.CancelledError):
            await task
        goes_on.set()
        await second
        assert not file.faults

    asyncio.run(main())
    assert taken.bodies[-1] == CONTENT


def test_progress_items_come_on_the_loop(taken):
    """The items of an awaited pipeline pass its operators on the loop's thread."""
    threads = set()

    async def main():
        up = put(taken, Recorded()()).pipe(ops.do_action(lambda item: threads.add(threading.get_ident())))
        assert isinstance(await up, httpx.Response)

    asyncio.run(main())
    assert threads == {threading.get_ident()}
