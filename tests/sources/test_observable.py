"""An Observable as a source: when it is subscribed to, how its producer waits, and how a pass ends."""

from __future__ import annotations

import array
import asyncio
import queue
import socket
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress

import httpx
import pytest
import reactivex
from hypothesis import given, settings
from hypothesis import strategies as st
from reactivex import abc
from reactivex import operators as ops
from reactivex.disposable import Disposable
from reactivex.internal import DisposedException
from reactivex.scheduler import (
    CurrentThreadScheduler,
    EventLoopScheduler,
    ImmediateScheduler,
    NewThreadScheduler,
)
from reactivex.subject import BehaviorSubject, ReplaySubject, Subject
from support.hand_cranked_client import refuse
from support.held_clock import HeldClock
from support.owner import FakeOwner
from support.pieces import chunks, read_all
from support.recording_observer import check_grammar, observe
from support.scripted_server import PATIENCE, Server, client_context
from support.threads import wait_for_threads

from rxupload import File, Progress, SourceChanged, UploadTimeout, UploadTransport, run, upload
from rxupload._sources import make_source
from rxupload._sources.buffered import LIMIT
from rxupload._sources.observable import ObservableReader
from rxupload._transfer import EXTENSION, Disposed
from rxupload.testing import HandCrankedClient

URL = "http://upload.test/"


class ManualObservable:
    """A cold Observable that the test drives by hand, from any thread."""

    def __init__(self):
        self.observers = queue.SimpleQueue()
        self.threads = []
        self.subscribed = 0
        self.disposed = queue.SimpleQueue()
        self.observable = reactivex.create(self._subscribe)

    def _subscribe(self, observer, scheduler):
        assert scheduler is None
        self.subscribed += 1
        self.threads.append(threading.current_thread())
        self.observers.put(observer)
        return Disposable(lambda: self.disposed.put(None))

    def next_observer(self):
        """Wait for the next subscription."""
        return self.observers.get(timeout=PATIENCE)

    def wait_for_dispose(self):
        self.disposed.get(timeout=PATIENCE)


class Endless:
    """A thread that emits until its subscription is disposed, and counts the bytes that it emitted."""

    def __init__(self, item=bytes(64 * 1024)):
        self.taken = 0
        self.has_ended = threading.Event()
        self.observable = reactivex.create(self._subscribe)
        self._item = item

    def _subscribe(self, observer, scheduler):
        disposed = threading.Event()

        def produce():
            while not disposed.is_set():
                observer.on_next(self._item)
                self.taken += len(self._item)
            self.has_ended.set()

        threading.Thread(target=produce, daemon=True).start()
        return Disposable(disposed.set)


@pytest.fixture
def buffer_full(monkeypatch):
    """Is set each time a producer meets a full buffer, before it waits."""
    buffer_full = threading.Event()
    reason_not_to_wait = ObservableReader._reason_not_to_wait

    def spy(stream):
        buffer_full.set()
        return reason_not_to_wait(stream)

    monkeypatch.setattr(ObservableReader, "_reason_not_to_wait", spy)
    return buffer_full


@pytest.fixture
def threads():
    """Runs the producer's side on threads, which must all end."""
    with ThreadPoolExecutor(4) as threads:
        yield threads


@pytest.fixture(autouse=True)
def small_pieces_wait(monkeypatch):
    """Small pieces are joined, also on a slow machine, until the source has nothing for now."""
    monkeypatch.setattr("rxupload._content._PATIENCE", PATIENCE)


@pytest.fixture(autouse=True)
def no_thread_is_left():
    """No upload leaves its source's thread behind."""
    yield
    wait_for_threads(lambda thread: thread.name == "rxupload-source")


def cranked(file, **kwargs):
    client = HandCrankedClient()
    return upload(URL, file, client=client, progress_interval=0, **kwargs), client


def patient_client(**kwargs):
    """A client without a time limit."""
    return httpx.Client(transport=UploadTransport(**kwargs), timeout=None)


def content_of(body):
    """The content of the body's only file part."""
    _, _, rest = body.partition(b"\r\n\r\n")
    return rest[: rest.rindex(b"\r\n--", 0, -4)]


def content_so_far(body):
    """The content of the only file part, as far as it has come."""
    return body.partition(b"\r\n\r\n")[2]


@pytest.fixture
def owner():
    """An upload for which sources are opened."""
    with closing(FakeOwner()) as owner:
        yield owner


def read(observable, size=None):
    """What one upload of this source sends."""
    with (
        closing(FakeOwner()) as owner,
        closing(make_source(observable, size=size).open(owner)) as reader,
    ):
        return read_all(reader, owner)


def sent(up, client):
    """Run an upload and answer its request once it is complete; return the content of its file."""
    observed, _ = observe(up)
    exchange = client.next_request()
    content = content_of(exchange.take_all())
    exchange.respond()
    assert observed.wait().response.status_code == 200
    check_grammar(observed.items, completed=True)
    return content


class TestContent:
    def test_it_is_sent_chunked(self):
        """An Observable is sent chunked, without a total, and with the default name "upload"."""
        up, client = cranked(reactivex.of(b"one", b"", b"two"))
        observed, _ = observe(up)
        exchange = client.next_request()
        body = exchange.take_all()
        exchange.respond()
        assert observed.wait().progress[-1] == Progress(len(body), None)
        assert exchange.request.headers["Transfer-Encoding"] == "chunked"
        assert b'filename="upload"' in body
        assert content_of(body) == b"onetwo"

    def test_a_declared_size_is_the_length(self):
        """A declared size gives the body its Content-Length and the progress its total."""
        up, client = cranked(File(reactivex.of(b"one", b"two"), size=6))
        observed, _ = observe(up)
        exchange = client.next_request()
        body = exchange.take_all()
        exchange.respond()
        assert observed.wait().progress[-1] == Progress(len(body), len(body))
        assert exchange.request.headers["Content-Length"] == str(len(body))

    @pytest.mark.parametrize(
        ("size", "message"), [(5, "more than the 5"), (7, "7 bytes expected, and it ended after 6")]
    )
    def test_a_wrong_declared_size_is_source_changed(self, size, message):
        """An Observable that does not match its declared size is SourceChanged, and its subscription is disposed."""
        with pytest.raises(SourceChanged, match=f"the Observable: {message}"):
            read(reactivex.of(b"one", b"two"), size)
        manual = ManualObservable()
        up, client = cranked(File(manual.observable, size=2))
        observed, _ = observe(up)
        manual.next_observer().on_next(b"one")
        with pytest.raises(SourceChanged):
            client.next_request().take_all()
        manual.wait_for_dispose()
        assert isinstance(observed.wait().error, SourceChanged)

    @pytest.mark.parametrize(
        "item",
        [
            bytearray(b"bytes"),
            memoryview(b"b y t e s ")[::2],
            memoryview(bytes(24)).cast("B", (4, 6)),
            array.array("d", [1.0]),
        ],
        ids=["bytearray", "strided", "two dimensions", "array of double"],
    )
    def test_items_may_be_any_buffer(self, item):
        """The bytes of any buffer are sent, whatever its format and layout."""
        assert read(reactivex.of(b"<", item, b">")) == b"<" + memoryview(item).tobytes() + b">"

    def test_items_are_copied(self, owner):
        """A producer may reuse a buffer as soon as on_next has returned."""
        subject = Subject()
        with closing(make_source(subject).open(owner)) as reader:
            buffer = bytearray(b"one")
            subject.on_next(buffer)
            buffer[:] = b"two"
            subject.on_next(memoryview(buffer))
            buffer[:] = b"..."
            buffer.append(0)  # no export is left, so it can be resized
            subject.on_completed()
            assert read_all(reader, owner) == b"onetwo"

    def test_a_long_item_is_split_for_other_clients(self):
        """Another client gets a long item in pieces of at most 1 MiB, as from any other source."""
        up, client = cranked(reactivex.of(bytes(3 * LIMIT + 1)))
        observe(up)
        exchange = client.next_request()
        pieces = list(iter(exchange.take, None))
        exchange.respond()
        assert all(0 < len(piece) <= LIMIT for piece in pieces)
        assert content_of(b"".join(pieces)) == bytes(3 * LIMIT + 1)

    def test_no_item_is_an_empty_file(self):
        """An Observable that completes without an item is an empty file."""
        assert sent(*cranked(reactivex.empty())) == b""

    def test_it_may_be_one_of_several_files(self):
        """An Observable may be one of several files, before or after another."""
        client = HandCrankedClient()
        observed, _ = observe(
            upload(URL, [reactivex.of(b"one"), b"two", reactivex.of(b"three")], client=client)
        )
        exchange = client.next_request()
        body = exchange.take_all()
        exchange.respond()
        observed.wait()
        parts = body.split(b"\r\n\r\n")[1:]
        assert [part.partition(b"\r\n--")[0] for part in parts] == [b"one", b"two", b"three"]

    @settings(max_examples=60)
    @given(
        st.lists(st.integers(0, 300) | st.integers(0, 2 << 20), max_size=8),
        st.sampled_from(["in subscribe", "on the trampoline", "on a thread"]),
        st.booleans(),
    )
    def test_items_of_any_size_arrive(self, sizes, how, sized):
        """Items of any size arrive byte for byte, whether emitted within subscribe or from another thread."""
        items = [bytes([index + 1]) * size for index, size in enumerate(sizes)]

        def subscribe(observer, scheduler):
            for item in items:
                observer.on_next(item)
            observer.on_completed()
            return Disposable()

        observable = {
            "in subscribe": reactivex.create(subscribe),
            "on the trampoline": reactivex.from_iterable(items),
            "on a thread": reactivex.from_iterable(items, scheduler=NewThreadScheduler()),
        }[how]
        expected = b"".join(items)
        assert sent(*cranked(File(observable, size=len(expected) if sized else None))) == expected


class TestSubscription:
    def test_a_cold_observable_is_subscribed_to_by_each_upload(self):
        """Each upload subscribes when it starts, on a thread of its own, and not before."""
        manual = ManualObservable()
        up, client = cranked(manual.observable)
        assert manual.subscribed == 0
        for number, content in enumerate([b"one", b"two"], 1):
            observed, _ = observe(up)
            observer = manual.next_observer()
            observer.on_next(content)
            observer.on_completed()
            exchange = client.next_request()
            assert content_of(exchange.take_all()) == content
            exchange.respond()
            observed.wait()
            manual.wait_for_dispose()
            assert manual.subscribed == number
            assert manual.threads[-1].ident not in observed.threads | {threading.get_ident()}

    def test_a_hot_observable_is_heard_from_the_first_progress(self):
        """A hot Observable is subscribed to when Progress(sent=0) comes; earlier items are not sent."""
        subject = Subject()
        subject.on_next(b"before")

        def emit(item):
            if isinstance(item, Progress) and item.sent == 0:
                subject.on_next(b"since")  # on the upload's own thread, which may emit while there is room
                subject.on_completed()

        up, client = cranked(subject)
        observed, _ = observe(up, emit)
        exchange = client.next_request()
        assert content_of(exchange.take_all()) == b"since"
        exchange.respond()
        observed.wait()

    def test_a_replay_subject_gives_all_it_has_kept(self):
        """A ReplaySubject gives what it has kept, even more than the buffer holds, and then what comes."""
        subject = ReplaySubject()
        for _ in range(3):
            subject.on_next(bytes(LIMIT))
        up, client = cranked(subject)
        observed, _ = observe(up)
        exchange = client.next_request()
        subject.on_next(b"live")
        subject.on_completed()
        assert content_of(exchange.take_all()) == bytes(3 * LIMIT) + b"live"
        exchange.respond()
        observed.wait()

    def test_a_second_pass_subscribes_again(self):
        """A further pass disposes the earlier subscription and subscribes again."""
        manual = ManualObservable()
        up, client = cranked(manual.observable)
        observed, _ = observe(up)
        manual.next_observer().on_next(b"one")
        exchange = client.next_request()
        assert b"one" in exchange.take()
        assert manual.disposed.empty()
        exchange.begin_again()
        with ThreadPoolExecutor(1) as thread:
            taken = thread.submit(exchange.take_all)
            observer = manual.next_observer()
            manual.wait_for_dispose()
            observer.on_next(b"two")
            observer.on_completed()
            assert content_of(taken.result()) == b"two"
        exchange.respond()
        assert observed.wait().progress[-1].attempt == 2
        assert manual.subscribed == 2

    def test_a_redirect_subscribes_again(self):
        """After a 307 the Observable is subscribed to again, and that content is sent."""
        bodies = []

        def script(connection):
            for status, headers in ((307, ["Location: /again"]), (200, [])):
                bodies.append(content_of(connection.read_request()))
                connection.respond(status, b"", *headers)

        subscriptions = []
        observable = reactivex.defer(
            lambda _: subscriptions.append(1) or reactivex.of(b"pass %d" % len(subscriptions))
        )
        with Server(script) as server:
            assert upload(server.url, observable, follow_redirects=True).run().status_code == 200
            assert not server.errors
        assert bodies == [b"pass 1", b"pass 2"]

    def test_a_retry_subscribes_again(self):
        """A retry disposes the failed upload's subscription and subscribes again."""
        manual = ManualObservable()
        client = HandCrankedClient(refuse(), 200)
        observed, _ = observe(upload(URL, manual.observable, client=client).pipe(ops.retry(2)))
        manual.next_observer()
        manual.wait_for_dispose()
        manual.next_observer().on_completed()
        assert observed.wait().response.status_code == 200
        assert len(client.requests) == 2

    @pytest.mark.parametrize("kind", [Subject, lambda: BehaviorSubject(b"one")])
    def test_a_second_pass_over_a_subject_is_an_error(self, kind):
        """A Subject does not repeat its items: a second pass is an error, and not an empty body."""
        subject = kind()
        up, client = cranked(subject)
        observed, _ = observe(up.pipe(ops.retry(2)))
        exchange = client.next_request()
        with ThreadPoolExecutor(1) as thread:
            taken = thread.submit(exchange.take_all)
            subject.on_next(b"one")
            subject.on_completed()
            assert b"one" in taken.result()
        exchange.fail(httpx.ReadError("lost"))
        error = observed.wait().error
        assert isinstance(error, RuntimeError)
        assert "the Observable was read before, and can be read only once" in str(error)
        assert "give a path, bytes, or a ReplaySubject" in str(error)

    def test_a_completed_subject_is_an_error(self):
        """A Subject that completed before the upload subscribed is an error, and not an empty file."""
        subject = Subject()
        subject.on_next(b"one")
        subject.on_completed()
        up, client = cranked(subject)
        error = observe(up)[0].wait().error
        assert isinstance(error, RuntimeError)
        assert "the Observable completed before the upload listened" in str(error)
        assert client.no_request()

    def test_a_disposed_subject_raises_its_own_error(self):
        """A disposed Subject raises its own error."""
        subject = Subject()
        subject.dispose()
        assert isinstance(observe(upload(URL, subject))[0].wait().error, DisposedException)

    def test_a_retry_of_a_subject_that_was_heard_is_an_error(self):
        """Items that a first attempt received but did not send are lost to a second one, which is an error."""
        subject = Subject()
        up, client = cranked(subject)
        observed, _ = observe(up.pipe(ops.retry(2)))
        exchange = client.next_request()
        subject.on_next(b"one")
        exchange.fail(httpx.ConnectError("lost"))
        assert "the Observable was read before" in str(observed.wait().error)

    def test_a_replay_subject_can_be_retried(self):
        """A ReplaySubject repeats all its items for the retry."""
        subject = ReplaySubject()
        subject.on_next(b"one")
        subject.on_completed()
        bodies = []

        def lose(request):
            bodies.append(content_of(b"".join(request.stream)))
            raise httpx.ReadError("lost")

        client = HandCrankedClient(lose, 200)
        assert run(upload(URL, subject, client=client).pipe(ops.retry(2))).status_code == 200
        assert bodies == [b"one"]

    def test_a_failed_connection_disposes_it(self):
        """An upload that sends nothing still disposes the subscription."""
        manual = ManualObservable()
        observed, _ = observe(upload("http://127.0.0.1:1/", manual.observable))
        manual.wait_for_dispose()
        assert isinstance(observed.wait().error, httpx.ConnectError)

    def test_a_missing_later_file_disposes_it(self, tmp_path):
        """An upload that cannot open its other files disposes the subscription, and sends nothing."""
        manual = ManualObservable()
        up, client = cranked([manual.observable, tmp_path / "missing"])
        observed, _ = observe(up)
        manual.wait_for_dispose()
        assert isinstance(observed.wait().error, FileNotFoundError)
        assert client.no_request()

    def test_the_source_thread_ends_with_subscribe(self):
        """The thread that subscribes ends when subscribe returns."""
        manual = ManualObservable()
        up, client = cranked(manual.observable)
        _, subscription = observe(up)
        client.next_request()
        manual.threads[0].join(PATIENCE)
        assert not manual.threads[0].is_alive()
        subscription.dispose()
        manual.wait_for_dispose()

    @pytest.mark.parametrize("source_scheduler", [None, CurrentThreadScheduler(), ImmediateScheduler()])
    @pytest.mark.parametrize("scheduler", [CurrentThreadScheduler(), ImmediateScheduler()])
    def test_an_upload_on_the_current_thread_reads_an_observable_on_it(self, scheduler, source_scheduler):
        """If upload and Observable both run on the current thread, content of any length arrives."""
        items = [bytes(LIMIT)] * 3
        observable = reactivex.from_iterable(items, scheduler=source_scheduler)
        client = HandCrankedClient(200)
        observed, _ = observe(upload(URL, observable, client=client), scheduler=scheduler)
        assert observed.ended
        assert observed.response.status_code == 200
        assert observed.progress[-1].sent > 3 * LIMIT


class Foreign(abc.ObservableBase):
    """An Observable that is not reactivex's own, so nothing stands between it and its observer."""

    def __init__(self):
        self.disposed = threading.Event()

    def subscribe(self, on_next=None, on_error=None, on_completed=None, *, scheduler=None):
        self.observer = on_next
        return Disposable(self.disposed.set)


class TestErrors:
    @pytest.mark.parametrize("item", ["text", 5, None])
    def test_an_item_that_is_not_bytes_is_a_type_error(self, item):
        """An item that is not bytes-like is a TypeError with its index; if it is the first, nothing is sent."""
        message = f"the Observable must give bytes, and its item {{}} is {type(item).__name__}"
        up, client = cranked(reactivex.of(item))
        observed, _ = observe(up)
        assert str(observed.wait().error) == message.format(0)
        assert client.no_request()
        manual = ManualObservable()
        up, client = cranked(manual.observable)
        observed, _ = observe(up)
        observer = manual.next_observer()
        exchange = client.next_request()
        observer.on_next(b"bytes")
        assert b"bytes" in exchange.take()
        observer.on_next(item)  # nothing is raised here
        manual.wait_for_dispose()
        assert str(observed.wait().error) == message.format(1)
        assert exchange.end() is observed.error

    def test_an_upload_as_a_source_is_refused(self):
        """An Upload is refused at once; behind an operator its items are the error, and it is aborted."""
        inner, inner_client = cranked(b"data")
        with pytest.raises(TypeError, match=r"file: an Upload is not a file; .* use upload_all"):
            upload("http://127.0.0.1/", inner)
        up, _ = cranked(inner.progress)
        observed, _ = observe(up)
        exchange = inner_client.next_request()
        with suppress(Disposed):  # where its `subscribe` has returned before its first item comes
            exchange.take()
        assert isinstance(exchange.end(), Disposed)
        message = "the Observable must give bytes, and its item 0 is Progress"
        assert str(observed.wait().error) == message

    def test_a_function_that_returns_an_observable_is_refused(self, owner):
        """A function must return an iterable or a file object, and the error says so."""
        with pytest.raises(
            TypeError, match="must be an iterable of bytes or a binary file object, not Observable"
        ):
            make_source(lambda: reactivex.of(b"")).open(owner)

    def test_an_unreadable_buffer_is_the_uploads_error(self, owner):
        """An exception from reading an item ends the upload, and does not reach the producer."""
        view = memoryview(b"released")
        view.release()
        subject = Subject()
        with closing(make_source(subject).open(owner)) as reader:
            subject.on_next(view)
            with pytest.raises(ValueError, match="released"):
                read_all(reader, owner)

    def test_an_error_within_subscribe_sends_nothing(self):
        """An error within subscribe is the upload's error, and nothing is sent."""
        error = KeyError("mine")
        up, client = cranked(reactivex.throw(error))
        observed, _ = observe(up)
        assert observed.wait().error is error
        assert client.no_request()

    @pytest.mark.parametrize("error", [KeyError("mine"), SystemExit()], ids=["Exception", "BaseException"])
    def test_an_exception_of_subscribe_is_the_uploads_error(self, error):
        """An exception of subscribe is the upload's error."""

        def subscribe(observer, scheduler):
            raise error

        up, client = cranked(reactivex.create(subscribe))
        observed, _ = observe(up)
        assert observed.wait().error is error
        assert client.no_request()

    def test_a_later_error_is_the_uploads_error(self):
        """A later error is the upload's error, as the same exception, and unsent items are dropped."""
        manual = ManualObservable()
        up, client = cranked(manual.observable)
        observed, _ = observe(up)
        observer = manual.next_observer()
        exchange = client.next_request()
        error = KeyError("mine")
        observer.on_next(b"dropped")
        observer.on_error(error)
        assert exchange.end() is error
        assert observed.wait().error is error
        check_grammar(observed.items, completed=False)
        assert observed.progress == []

    def test_an_error_ends_a_stalled_send(self):
        """The source's error ends the upload at once, even in a stalled send."""
        moved = threading.Event()
        error = KeyError("mine")
        manual = ManualObservable()

        def script(connection):
            connection.read_head()
            connection.wait_for_reset()

        with Server(script, receive_buffer=4096) as server, patient_client() as client:
            up = upload(server.url, manual.observable, client=client, progress_interval=0)
            observed, _ = observe(up, lambda item: item.sent > 1000 and moved.set())
            observer = manual.next_observer()
            observer.on_next(bytes(16 << 20))
            assert moved.wait(PATIENCE)
            observer.on_error(error)
            assert observed.wait().error is error
        assert not server.errors

    def test_items_after_the_pass_do_nothing(self):
        """An Observable that emits after its subscription was disposed does not affect the upload or fill memory."""
        foreign = Foreign()
        up, client = cranked(foreign)
        observed, _ = observe(up)
        exchange = client.next_request()
        foreign.observer.on_next(b"all")
        foreign.observer.on_completed()
        assert content_of(exchange.take_all()) == b"all"
        assert foreign.disposed.is_set()
        for _ in range(3):
            foreign.observer.on_next(bytes(LIMIT))
        assert not foreign.observer._buffer
        foreign.observer.on_next("text")
        foreign.observer.on_error(KeyError("late"))
        exchange.respond()
        assert observed.wait().response.status_code == 200

    def test_an_error_within_subscribe_is_raised_by_open(self, owner):
        """An early error is raised when the source is opened, and its subscription is disposed."""
        error = KeyError("mine")
        with pytest.raises(KeyError) as raised:
            make_source(reactivex.throw(error)).open(owner)
        assert raised.value is error
        with closing(FakeOwner()) as another, pytest.raises(TypeError, match="item 0 is str"):
            make_source(reactivex.of("text").pipe(ops.concat(reactivex.never()))).open(another)

    def test_an_error_after_the_pass_does_nothing(self):
        """What the Observable emits after the pass is ignored, even an error."""
        subject = Subject()
        up, client = cranked(subject.pipe(ops.take(1)))
        observed, _ = observe(up)
        exchange = client.next_request()
        subject.on_next(b"all")
        assert content_of(exchange.take_all()) == b"all"
        subject.on_next(b"more")
        subject.on_error(KeyError("late"))
        exchange.respond()
        assert observed.wait().response.status_code == 200


class TestWaiting:
    """The producer waits in on_next while the buffer is full."""

    def test_the_producer_waits_for_room(self, buffer_full, threads):
        """While nothing is sent, no more than the limit is taken; each side is woken as soon as it can continue."""
        subject = Subject()
        taken = []

        def produce():
            for number in range(40):
                item = bytes([number]) * (LIMIT // 10)
                subject.on_next(item)
                taken.append(item)
            subject.on_completed()

        up, client = cranked(subject)
        observed, _ = observe(up)
        exchange = client.next_request()
        produced = threads.submit(produce)
        assert buffer_full.wait(PATIENCE)
        assert len(taken) == 10
        assert not produced.done()
        content = content_of(exchange.take_all())
        produced.result(PATIENCE)
        assert content == b"".join(taken)
        assert len(content) == 40 * (LIMIT // 10)
        exchange.respond()
        observed.wait()

    def test_an_item_longer_than_the_buffer_waits_until_it_is_empty(self, buffer_full, threads, owner):
        """An item longer than the buffer is taken once the buffer is empty."""
        subject = Subject()
        with closing(make_source(subject).open(owner)) as reader:
            subject.on_next(bytes(3 * LIMIT))
            assert not buffer_full.is_set()
            produced = threads.submit(subject.on_next, b"x" * 3 * LIMIT)
            assert buffer_full.wait(PATIENCE)
            assert not produced.done()
            given = chunks(reader, owner=owner)
            assert next(given) == bytes(3 * LIMIT)
            produced.result(PATIENCE)
            subject.on_completed()
            assert b"".join(given) == b"x" * 3 * LIMIT

    def test_a_server_that_stops_reading_stops_the_producer(self, buffer_full):
        """An endless producer stops when the server stops reading and all buffers are full."""
        small = 64 * 1024
        stopped = threading.Event()
        producer = Endless()

        def script(connection):
            connection.read_head()
            assert connection.read(6 << 20) == 6 << 20
            buffer_full.clear()  # reads make room from here on, which is filled again
            assert connection.read(2 << 20) == 2 << 20
            stopped.set()
            connection.wait_for_reset()

        client = patient_client(socket_options=[(socket.SOL_SOCKET, socket.SO_SNDBUF, small)])
        with Server(script, receive_buffer=small) as server, client:
            _, subscription = observe(upload(server.url, producer.observable, client=client))
            assert stopped.wait(PATIENCE)
            assert buffer_full.wait(PATIENCE)
            subscription.dispose()
            assert producer.has_ended.wait(PATIENCE)
        assert not server.errors
        # The bytes being sent, those waiting, the item that was let through, and Linux's overhead for socket buffers.
        assert producer.taken <= (8 << 20) + LIMIT + LIMIT + small + 4 * small

    def test_the_buffer_takes_no_more_memory_than_its_bytes(self, owner):
        """The buffer takes as much memory as it has bytes, however small the items are."""
        subject = Subject()
        with closing(make_source(subject).open(owner)):
            tracemalloc.start()
            try:
                for _ in range(LIMIT // 16):
                    subject.on_next(bytes(16))
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        assert LIMIT <= peak < 2.5 * LIMIT  # it grows by an eighth, and may be copied then

    def test_a_producer_within_subscribe_waits_there(self, buffer_full, threads):
        """A producer that emits within subscribe waits there, on a thread of its own."""
        taken = []

        def subscribe(observer, scheduler):
            for _ in range(3):
                observer.on_next(bytes(LIMIT))
                taken.append(LIMIT)
            observer.on_completed()

        up, client = cranked(reactivex.create(subscribe))
        observed, _ = observe(up)
        exchange = client.next_request()
        assert buffer_full.wait(PATIENCE)
        assert taken == [LIMIT]
        assert content_of(exchange.take_all()) == bytes(3 * LIMIT)
        exchange.respond()
        observed.wait()

    def test_a_coroutine_can_wait_on_a_thread(self, buffer_full):
        """A coroutine that emits with asyncio.to_thread waits for room while the loop continues."""

        async def main():
            subject = Subject()
            up, client = cranked(subject)
            done = asyncio.ensure_future(up)
            exchange = await asyncio.to_thread(client.next_request)
            await asyncio.to_thread(subject.on_next, bytes(LIMIT))
            emitted = asyncio.ensure_future(asyncio.to_thread(subject.on_next, b"more"))
            assert await asyncio.to_thread(buffer_full.wait, PATIENCE)
            assert not emitted.done()
            body = asyncio.ensure_future(asyncio.to_thread(exchange.take_all))
            await emitted
            subject.on_completed()
            assert content_of(await body) == bytes(LIMIT) + b"more"
            exchange.respond()
            assert (await done).status_code == 200

        asyncio.run(main())


class TestBufferError:
    """Where a wait would block a loop or the upload itself, a full buffer is the upload's error."""

    def test_on_an_event_loop(self):
        """On an asyncio loop, on_next never waits or raises; the error says what a coroutine can do."""
        manual = ManualObservable()

        async def main():
            up, client = cranked(manual.observable)
            done = asyncio.ensure_future(up)
            observer = await asyncio.to_thread(manual.next_observer)
            exchange = await asyncio.to_thread(client.next_request)
            observer.on_next(bytes(LIMIT))
            assert manual.disposed.empty()
            observer.on_next(b"one too many")
            observer.on_next(b"and one more")
            with pytest.raises(BufferError, match=r"an event loop; emit with `await asyncio\.to_thread"):
                await done
            assert isinstance(exchange.end(), BufferError)

        asyncio.run(main())
        manual.wait_for_dispose()

    def test_a_slow_event_loop_meets_no_error(self):
        """Items from an asyncio loop arrive as long as there is room."""
        subject = Subject()

        async def main():
            up, client = cranked(subject)
            done = asyncio.ensure_future(up)
            exchange = await asyncio.to_thread(client.next_request)
            taken = b""
            for number in range(5):
                subject.on_next(bytes(LIMIT))
                while len(content_so_far(taken)) <= number * LIMIT:  # a read takes the whole buffer
                    taken += await asyncio.to_thread(exchange.take)
            subject.on_completed()
            taken += await asyncio.to_thread(exchange.take_all)
            assert content_of(taken) == bytes(5 * LIMIT)
            exchange.respond()
            await done

        asyncio.run(main())

    def test_on_the_uploads_own_thread(self):
        """An observer that fills the buffer on the upload's own thread ends the upload."""
        subject = Subject()

        def emit(item):
            subject.on_next(bytes(LIMIT))
            subject.on_next(b"one too many")

        up, client = cranked(subject)
        observed, _ = observe(up, emit)
        with pytest.raises(BufferError):
            client.next_request().take()
        error = observed.wait().error
        assert isinstance(error, BufferError)
        assert str(error) == (
            f"the Observable is faster than the upload: {LIMIT} bytes wait to be sent, and the thread that emits "
            "12 more must not wait, for it is the upload's own; emit on another"
        )
        assert not subject.observers

    def test_on_the_loop_of_the_uploads_scheduler(self):
        """The EventLoopScheduler on which an upload notifies is never blocked."""
        subject = Subject()
        loop = EventLoopScheduler()
        up, client = cranked(subject)
        observed, _ = observe(up, scheduler=loop)
        exchange = client.next_request()
        loop.schedule(lambda *_: [subject.on_next(bytes(LIMIT)) for _ in range(2)])
        assert isinstance(exchange.end(), BufferError)
        assert "the loop of the upload's scheduler" in str(observed.wait().error)
        loop.dispose()

    def test_another_scheduler_with_a_thread_may_wait(self, buffer_full):
        """On another EventLoopScheduler a producer waits as on any thread."""
        items = [bytes(LIMIT)] * 3
        loop = EventLoopScheduler()
        up, client = cranked(reactivex.from_iterable(items, scheduler=loop))
        observed, _ = observe(up)
        exchange = client.next_request()
        assert buffer_full.wait(PATIENCE)
        assert len(content_of(exchange.take_all())) == 3 * LIMIT
        exchange.respond()
        observed.wait()
        loop.dispose()

    def test_it_ends_a_stalled_send(self):
        """The error comes at once, even in a stalled send."""
        moved = threading.Event()
        manual = ManualObservable()

        def script(connection):
            connection.read_head()
            connection.wait_for_reset()

        async def main(server, client):
            up = upload(server.url, manual.observable, client=client, progress_interval=0)
            observed, _ = observe(up, lambda item: item.sent > 1000 and moved.set())
            observer = await asyncio.to_thread(manual.next_observer)
            observer.on_next(bytes(16 << 20))
            assert await asyncio.to_thread(moved.wait, PATIENCE)
            observer.on_next(bytes(LIMIT))
            observer.on_next(b"one too many")
            await asyncio.to_thread(observed.wait)
            assert isinstance(observed.error, BufferError)

        with Server(script, receive_buffer=4096) as server, patient_client() as client:
            asyncio.run(main(server, client))
        assert not server.errors


class TestAbort:
    """Disposing the upload ends every wait, and leaves nothing behind."""

    def test_it_ends_the_producers_wait(self, buffer_full, threads):
        """The producer's on_next returns, and its subscription is disposed."""
        manual = ManualObservable()
        up, client = cranked(manual.observable)
        observed, subscription = observe(up)
        observer = manual.next_observer()
        exchange = client.next_request()
        observer.on_next(bytes(LIMIT))
        produced = threads.submit(observer.on_next, b"more")
        assert buffer_full.wait(PATIENCE)
        assert not produced.done()
        subscription.dispose()
        produced.result(PATIENCE)
        manual.wait_for_dispose()
        assert isinstance(exchange.end(), Disposed)
        observer.on_next(bytes(2 * LIMIT))  # dropped
        observer.on_error(KeyError("late"))
        assert not observed.ended

    def test_it_ends_the_workers_wait(self, threads):
        """A worker that waits for the next item ends, and disposes its subscription."""
        manual = ManualObservable()
        up, client = cranked(manual.observable)
        _, subscription = observe(up)
        manual.next_observer().on_next(b"some")
        exchange = client.next_request()
        assert b"some" in exchange.take()
        taken = threads.submit(exchange.take)
        subscription.dispose()
        assert isinstance(taken.exception(PATIENCE), Disposed)
        manual.wait_for_dispose()

    def test_it_closes_the_connection(self):
        """The server sees the end of an upload with a silent source."""
        there = threading.Event()
        manual = ManualObservable()

        def script(connection):
            connection.read_head()
            there.set()
            connection.wait_for_end()

        with Server(script) as server:
            _, subscription = observe(upload(server.url, manual.observable))
            assert there.wait(PATIENCE)
            subscription.dispose()
            manual.wait_for_dispose()
        assert not server.errors

    def test_a_blocked_subscribe_does_not_delay_it(self):
        """A blocked subscribe does not delay an abort, and the subscription that it returns is disposed."""
        blocked, go_on, closed, disposed = (threading.Event() for _ in range(4))

        def subscribe(observer, scheduler):
            blocked.set()
            assert go_on.wait(PATIENCE)
            return Disposable(disposed.set)

        def other_file():
            try:
                yield b""
            finally:
                closed.set()

        up, client = cranked([other_file, reactivex.create(subscribe)])
        _, subscription = observe(up)
        assert blocked.wait(PATIENCE)
        subscription.dispose()
        assert closed.wait(PATIENCE)
        assert client.no_request()
        assert not disposed.is_set()
        go_on.set()
        assert disposed.wait(PATIENCE)

    @pytest.mark.parametrize("waits", [True, False])
    def test_an_endless_producer_within_subscribe_is_ended(self, waits, buffer_full):
        """An endless producer within subscribe gets a BrokenPipeError."""
        raised = queue.SimpleQueue()
        item = bytes(LIMIT) if waits else b""

        def subscribe(observer, scheduler):
            try:
                while True:
                    observer.on_next(item)
            except BrokenPipeError as error:
                raised.put(error)
                raise

        up, client = cranked(reactivex.create(subscribe))
        observed, subscription = observe(up)
        exchange = client.next_request()
        if waits:
            assert buffer_full.wait(PATIENCE)
        subscription.dispose()
        assert isinstance(exchange.end(), Disposed)
        assert "takes no more" in str(raised.get(timeout=PATIENCE))
        assert not observed.ended

    @pytest.mark.parametrize("scheduler", [None, NewThreadScheduler()])
    def test_an_endless_iterable_is_read_no_further(self, buffer_full, scheduler):
        """An endless iterable is read no further, even behind operators such as retry."""
        drawn_by = set()

        def items():
            while True:
                drawn_by.add(threading.current_thread())
                yield LIMIT

        observable = reactivex.from_iterable(items(), scheduler=scheduler).pipe(ops.map(bytes), ops.retry())
        up, client = cranked(observable)
        _, subscription = observe(up)
        exchange = client.next_request()
        assert buffer_full.wait(PATIENCE)
        subscription.dispose()
        assert isinstance(exchange.end(), Disposed)
        (thread,) = drawn_by
        thread.join(PATIENCE)
        assert not thread.is_alive()

    def test_a_producer_that_holds_a_lock_does_not_block_it(self, buffer_full, threads):
        """A producer may wait with a lock that its dispose needs: it is released before it is disposed."""
        lock = threading.Lock()
        subject = Subject()
        disposed = threading.Event()

        def dispose():
            with lock:
                disposed.set()

        def produce():
            with lock:
                subject.on_next(bytes(LIMIT))
                subject.on_next(bytes(LIMIT))

        observable = reactivex.create(
            lambda observer, scheduler: [subject.subscribe(observer), Disposable(dispose)][1]
        )
        up, client = cranked(observable)
        _, subscription = observe(up)
        client.next_request()
        produced = threads.submit(produce)
        assert buffer_full.wait(PATIENCE)
        subscription.dispose()
        produced.result(PATIENCE)
        assert disposed.wait(PATIENCE)

    def test_the_limit_of_the_whole_upload_ends_the_wait(self, monkeypatch):
        """The limit of the whole upload ends the wait for a silent source."""
        clock = HeldClock(monkeypatch)
        manual = ManualObservable()
        up, client = cranked(manual.observable, timeout=0.1)
        observed, _ = observe(up)
        exchange = client.next_request()
        clock.release()
        with pytest.raises(UploadTimeout):
            exchange.take_all()
        manual.wait_for_dispose()
        assert isinstance(observed.wait().error, UploadTimeout)


class TestSilence:
    """While the source is silent, the upload continues."""

    def test_a_few_bytes_are_sent_at_once(self, threads):
        """A few bytes are sent without waiting for more."""
        manual = ManualObservable()
        up, client = cranked(manual.observable)
        observed, _ = observe(up)
        observer = manual.next_observer()
        exchange = client.next_request()
        for number in range(3):
            observer.on_next(b"piece %d" % number)
            piece = exchange.take()
            assert piece.endswith(b"piece %d" % number)
        observer.on_completed()
        assert exchange.take_all().endswith(b"--\r\n")
        exchange.respond()
        observed.wait()

    def test_there_is_no_empty_piece(self, threads, monkeypatch):
        """Every piece that the client gets has bytes in it, however often the worker wakes without any."""
        looked = threading.Semaphore(0)
        read = ObservableReader.read

        def spy(stream, count):
            data = read(stream, count)
            if data is None:
                looked.release()
            return data

        monkeypatch.setattr(ObservableReader, "read", spy)
        manual = ManualObservable()
        up, client = cranked(manual.observable)
        observed, _ = observe(up)
        exchange = client.next_request()
        assert exchange.take().endswith(b"\r\n\r\n")  # the part's head
        taken = threads.submit(exchange.take)
        for _ in range(5):
            assert looked.acquire(timeout=PATIENCE)
            exchange.request.extensions[EXTENSION].wake.set()
        observer = manual.next_observer()
        observer.on_next(b"some")
        observer.on_completed()
        assert taken.result(PATIENCE).startswith(b"some")
        exchange.take_all()
        exchange.respond()
        check_grammar(observed.wait().items, completed=True)

    def test_a_silent_source_is_not_polled(self, threads, monkeypatch, owner):
        """A silent source is not read again until something has come."""
        reads = []
        read = ObservableReader.read
        monkeypatch.setattr(
            ObservableReader, "read", lambda stream, count: reads.append(read(stream, count)) or reads[-1]
        )
        waits = threading.Semaphore(0)
        wait = owner.wait
        monkeypatch.setattr(owner, "wait", lambda *watched: waits.release() or wait(*watched))
        subject = Subject()
        with closing(make_source(subject).open(owner)) as reader:
            while waits.acquire(blocking=False):
                pass  # the wakes of the subscription
            taken = threads.submit(read_all, reader, owner)
            assert waits.acquire(timeout=PATIENCE)
            subject.on_next(b"some")
            subject.on_completed()
            assert taken.result(PATIENCE) == b"some"
        assert reads.count(None) <= 3  # before the item, and after a late wake
        assert [each for each in reads if each] == [b"some"]

    @pytest.mark.parametrize("tls", [False, True])
    def test_progress_continues(self, tls):
        """Progress is reported while the source is silent."""
        arrived = threading.Event()
        manual = ManualObservable()
        client = patient_client(verify=client_context())
        with Server(lambda connection: connection.serve(), tls=tls) as server, client:
            observed, _ = observe(
                upload(server.url, manual.observable, progress_interval=0, client=client),
                lambda item: isinstance(item, Progress) and item.sent > LIMIT and arrived.set(),
            )
            observer = manual.next_observer()
            observer.on_next(bytes(LIMIT))
            observer.on_next(bytes(1000))
            assert arrived.wait(PATIENCE)
            observer.on_completed()
            assert observed.wait().response.status_code == 200
        check_grammar(observed.items, completed=True)

    @pytest.mark.parametrize("tls", [False, True])
    def test_an_early_answer_is_the_response(self, tls):
        """An early answer is the response while the source is silent, and the subscription is disposed."""
        manual = ManualObservable()

        def script(connection):
            connection.read_head()
            connection.respond(413, b"too large")

        client = patient_client(verify=client_context())
        with Server(script, tls=tls) as server, client:
            observed, _ = observe(upload(server.url, manual.observable, client=client))
            manual.wait_for_dispose()
            assert observed.wait().response.text == "too large"

    def test_a_broken_connection_is_the_uploads_error(self):
        """A connection that breaks ends the upload while the source is silent."""
        manual = ManualObservable()

        def script(connection):
            connection.read_head()
            connection.reset()

        with Server(script) as server:
            observed, _ = observe(upload(server.url, manual.observable))
            manual.wait_for_dispose()
            assert isinstance(observed.wait().error, httpx.NetworkError)

    def test_an_exception_of_the_observer_is_the_uploads_error(self):
        """An exception of the observer ends the upload during the wait for the source."""
        error = KeyError("mine")
        manual = ManualObservable()

        def raise_later(item):
            if item.sent:
                raise error

        with Server(lambda connection: connection.read_head() and connection.wait_for_end()) as server:
            observed, _ = observe(upload(server.url, manual.observable, progress_interval=0), raise_later)
            manual.next_observer().on_next(b"some")
            manual.wait_for_dispose()
            assert observed.wait().error is error

    def test_an_early_answer_releases_the_producer(self, buffer_full):
        """Once an answer ends the sending, the producer stops waiting, even if the response is slow."""
        producer = Endless()

        def script(connection):
            connection.read_head()
            assert buffer_full.wait(PATIENCE)
            connection.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\n\r\n")
            assert producer.has_ended.wait(PATIENCE)
            connection.send(b"rest")
            connection.wait_for_end()

        with Server(script) as server:
            assert upload(server.url, producer.observable).run().text == "rest"
        assert not server.errors
