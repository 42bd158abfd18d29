"""The callback API over real sockets, each rule with its number: late listeners, `abort`, threads."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future
from typing import Any

import httpx
import pytest
from reactivex.scheduler import EventLoopScheduler, NewThreadScheduler
from reactivex.scheduler.eventloop import AsyncIOScheduler
from support.recording_callbacks import RecordingCallbacks
from support.recording_observer import observe
from support.running_tasks import MIB, awaited, echo, held_back, start, under_way
from support.scripted_server import PATIENCE, Server, unanswered_port
from support.stepped_server import SteppedServer, Stepper

from rxupload import Progress, UploadAborted, uploadtask
from rxupload.uploadtask import UploadTask, uploadFile

# Rule 8


def test_rule_8_a_late_listener_while_it_runs(film, server):
    """A listener that is added during a stall gets the latest event once, and then the following ones."""
    recorder, late = RecordingCallbacks(), RecordingCallbacks()
    task = start(recorder, server.url, film)
    request = under_way(server, recorder)
    latest = recorder.sent[-1]
    task.onProgressUpdate(late.progress)  # the server has stopped reading, so no other event is to come
    observed, _ = observe(task.events)
    late.wait_for(lambda late: late.calls)
    assert late.sent[0] >= latest
    assert "MainThread" not in late.threads
    request.read_all()
    request.respond()
    recorder.wait()
    assert late.sent == recorder.sent[recorder.sent.index(late.sent[0]) :]
    sent = [item.sent for item in observed.wait().progress]
    assert sent == recorder.sent[recorder.sent.index(sent[0]) :]
    assert observed.response.status_code == 200


def test_rule_8_a_late_listener_while_the_response_is_awaited(photo, server):
    """When no event is to come, a late listener still gets the latest one, once."""
    recorder, late = RecordingCallbacks(), RecordingCallbacks()
    task = start(recorder, server.url, photo)
    request = server.next_request()
    request.read_all()
    recorder.wait_for(
        lambda recorder: recorder.of("progress")[-1:] and recorder.of("progress")[-1]["progress"] == 100
    )
    task.onProgressUpdate(late.progress)
    late.wait_for(lambda late: late.calls)
    request.respond()
    recorder.wait()
    assert late.of("progress") == recorder.of("progress")[-1:]


def test_rule_8_a_late_listener_in_headers(photo):
    """A listener that is added in the headers callback gets the latest event before success."""
    late: list[str] = []
    begun: Future[UploadTask] = Future()
    recorder = RecordingCallbacks(
        then=lambda kind, value: (
            kind == "headers"
            and begun.result(PATIENCE).onProgressUpdate(lambda res: late.extend(recorder.kinds))
        )
    )
    with Server(echo) as server:
        with held_back():
            task = uploadFile(recorder.object(server.url, photo))
            task.onHeadersReceived(recorder.headers)
        begun.set_result(task)
        task.result(PATIENCE)
    assert late == ["headers"]


def test_rule_8_a_late_listener_after_success(photo):
    """It gets the latest event before the registration returns, on a thread of the library."""

    def listen(res: Any) -> None:
        time.sleep(0.05)  # so that an early return would be seen
        late.progress(res)

    recorder, late = RecordingCallbacks(), RecordingCallbacks()
    with Server(echo) as server:
        task = start(recorder, server.url, photo)
        task.result(PATIENCE)
    task.onProgressUpdate(listen)
    assert late.kinds == ["progress"]
    task.onHeadersReceived(late.headers)
    assert late.kinds == ["progress", "headers"]
    assert late.calls == recorder.calls[:2]
    assert "MainThread" not in late.threads
    observed, _ = observe(task.events)
    assert observed.ended
    assert [type(item) for item in observed.items] == [Progress, httpx.Response]


def test_rule_8_a_late_listener_in_success_and_complete(photo):
    """success and complete may add a listener as well."""
    late: list[Any] = []

    def then(kind: str, value: Any) -> None:
        if kind in ("success", "complete"):
            task = begun.result(PATIENCE)
            task.onProgressUpdate(lambda res: late.append((kind, res["progress"])))

    begun: Future[UploadTask] = Future()
    recorder = RecordingCallbacks(then)
    with Server(echo) as server:
        begun.set_result(uploadFile(recorder.object(server.url, photo)))
        begun.result().result(PATIENCE)
    assert late == [("success", 100), ("complete", 100)]


def test_rule_8_a_late_listener_while_success_waits_for_it(photo):
    """If success waits for a registration on another thread, that registration returns."""
    registered = threading.Event()
    recorder = RecordingCallbacks(then=lambda kind, value: kind == "success" and registered.wait(PATIENCE))
    late = RecordingCallbacks()
    with Server(echo) as server:
        task = uploadFile(recorder.object(server.url, photo))
        recorder.wait_for(lambda recorder: "success" in recorder.kinds)
        task.onProgressUpdate(late.progress)
        registered.set()
        task.result(PATIENCE)
    late.wait_for(lambda late: late.kinds == ["progress"])


@pytest.mark.parametrize("aborted", [True, False])
def test_rule_8_a_late_listener_after_failure_or_abort(film, server, aborted):
    """A listener gets nothing after a failure; `events` gives the error."""
    recorder, late = RecordingCallbacks(), RecordingCallbacks()
    task = start(recorder, server.url, film)
    request = under_way(server, recorder)
    if aborted:
        task.abort()
    else:
        request.reset()
    recorder.wait()
    with pytest.raises(UploadAborted if aborted else httpx.TransportError):
        task.result(PATIENCE)
    task.onProgressUpdate(late.progress)
    task.onHeadersReceived(late.headers)
    observed, _ = observe(task.events)
    assert observed.ended
    assert not late.calls
    assert not observed.items
    assert isinstance(observed.error, UploadAborted if aborted else httpx.TransportError)


def test_rule_8_a_late_listener_on_a_loop(photo):
    """With an asyncio scheduler the late event comes in the next turn of the loop."""

    async def main() -> None:
        late = RecordingCallbacks()
        with Server(echo) as server:
            scheduler = AsyncIOScheduler(asyncio.get_running_loop())
            task = uploadFile(RecordingCallbacks().object(server.url, photo), scheduler=scheduler)
            await task
        task.onProgressUpdate(late.progress)
        assert not late.calls
        await asyncio.sleep(0)
        assert late.kinds == ["progress"]

    asyncio.run(main())


# Rule 9


def test_rule_9_abort_while_the_server_does_not_read(film, server):
    """The connection closes, then come fail with 1002 and complete; result, await and events give UploadAborted."""
    recorder = RecordingCallbacks()
    task = start(recorder, server.url, film)
    request = under_way(server, recorder)
    observed, _ = observe(task.events)
    assert task.abort() is None
    assert task.state == "aborted"
    request.wait_for_end()
    recorder.wait()
    task.abort()
    assert recorder.of("fail") == [("user cancel request", 1002)]
    assert recorder.kinds[-2:] == ["fail", "complete"]
    with pytest.raises(UploadAborted):
        task.result(PATIENCE)
    with pytest.raises(UploadAborted):
        asyncio.run(awaited(task))
    assert isinstance(observed.wait().error, UploadAborted)


def test_rule_9_abort_from_many_threads(film, server):
    """Several aborts give one end."""
    recorder = RecordingCallbacks()
    task = start(recorder, server.url, film)
    under_way(server, recorder)
    threads = [threading.Thread(target=task.abort) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorder.wait()
    assert recorder.kinds[-2:] == ["fail", "complete"]
    assert recorder.kinds.count("fail") == 1


@pytest.mark.parametrize("kind", ["progress", "headers"])
def test_rule_9_abort_in_a_callback(photo, kind):
    """After an abort in a callback no listener gets an event, even if the response is there."""
    after = RecordingCallbacks()
    begun: Future[UploadTask] = Future()
    recorder = RecordingCallbacks(then=lambda each, value: each == kind and begun.result(PATIENCE).abort())
    with SteppedServer() as server:
        task = start(recorder, server.url, photo)
        task.onProgressUpdate(after.progress)
        task.onHeadersReceived(after.headers)
        begun.set_result(task)
        request = server.next_request()
        request.read_all()
        request.respond()
        recorder.wait()
    assert recorder.code == 1002
    assert recorder.kinds[recorder.kinds.index(kind) :] == [kind, "fail", "complete"]
    assert kind not in after.kinds


@pytest.mark.parametrize("kind", ["success", "complete"])
def test_rule_9_abort_after_the_end(photo, kind):
    """An abort in success, in complete or later does nothing."""
    begun: Future[UploadTask] = Future()
    recorder = RecordingCallbacks(then=lambda each, value: each == kind and begun.result(PATIENCE).abort())
    with Server(echo) as server:
        task = start(recorder, server.url, photo)
        begun.set_result(task)
        task.result(PATIENCE)
    task.abort()
    assert recorder.kinds == ["progress", "headers", "success", "complete"]
    assert task.state == "done"


def test_rule_9_abort_while_connecting(photo):
    """An abort does not wait for a server that does not answer."""
    recorder = RecordingCallbacks()
    with unanswered_port() as port:
        task = start(recorder, f"http://127.0.0.1:{port}/", photo)
        task.abort()
        assert recorder.wait().code == 1002


def test_rule_9_abort_while_queued(photo, film, server):
    """An aborted upload in the queue never reaches the server, and the next one takes its place."""
    uploadtask.configure(max_concurrent=1)
    recorders = [RecordingCallbacks() for _ in range(3)]
    tasks = [
        start(recorder, server.url + str(n), film if n == 0 else photo)
        for n, recorder in enumerate(recorders)
    ]
    assert [task.state for task in tasks[1:]] == ["queued", "queued"]
    assert server.next_request().path == "/0"
    tasks[1].abort()
    assert recorders[1].wait().kinds == ["fail", "complete"]
    tasks[0].abort()
    request = server.next_request()
    assert request.path == "/2"
    request.read_all()
    request.respond()
    assert recorders[2].wait().res["statusCode"] == 200
    assert server.requests.empty()


def test_rule_9_fail_waits_for_a_running_callback(film, server):
    """After an abort from another thread, the running callback ends first, and no other event follows."""
    running, go_on = threading.Event(), threading.Event()

    def then(kind: str, value: Any) -> None:
        if kind == "progress":
            running.set()
            go_on.wait(PATIENCE)

    recorder = RecordingCallbacks(then)
    task = start(recorder, server.url, film)
    server.next_request().read(2 * MIB)
    assert running.wait(PATIENCE)
    task.abort()
    assert recorder.kinds == ["progress"]
    go_on.set()
    assert recorder.wait().kinds == ["progress", "fail", "complete"]


def test_rule_9_fail_does_not_wait_for_the_worker(photo):
    """A worker that is stuck, as in a name lookup, delays neither fail nor complete nor the queue."""
    deaf = StuckClient()
    uploadtask.configure(max_concurrent=1)
    recorder = RecordingCallbacks()
    task = start(recorder, "http://upload.test/", photo, client=deaf)
    assert deaf.is_called.wait(PATIENCE)
    with Server(echo) as server:
        behind = uploadFile(RecordingCallbacks().object(server.url, photo))
        task.abort()
        assert recorder.wait().code == 1002
        assert behind.result(PATIENCE)["statusCode"] == 200
    deaf.go_on.set()


class StuckClient(httpx.Client):
    """Its send returns when the test says so, whatever happens to the upload."""

    def __init__(self) -> None:
        super().__init__()
        self.close()  # it needs no connections
        self.is_called, self.go_on = threading.Event(), threading.Event()

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        self.is_called.set()
        self.go_on.wait(PATIENCE)
        raise httpx.ConnectError("no such host")


# Rule 10


def test_rule_10_threads_of_the_library(film, server):
    """Callbacks do not overlap, and come on threads of the library, even with other schedulers than loops."""
    recorder = RecordingCallbacks()
    start(recorder, server.url, film, scheduler=NewThreadScheduler())
    request = under_way(server, recorder)
    request.read_all()
    request.respond()
    assert recorder.wait().threads == {"rxupload"}


def test_rule_10_on_the_loop(film, server):
    """With an AsyncIOScheduler all callbacks come on its loop."""

    async def main() -> RecordingCallbacks:
        recorder = RecordingCallbacks()
        task = start(recorder, server.url, film, scheduler=AsyncIOScheduler(asyncio.get_running_loop()))
        request = server.next_request()
        await asyncio.to_thread(request.read_all)
        await asyncio.to_thread(request.respond)
        assert (await task)["statusCode"] == 200
        assert recorder.idents == {threading.get_ident()}
        return recorder

    recorder = asyncio.run(main())
    assert recorder.kinds[-4:] == ["progress", "headers", "success", "complete"]


def test_rule_10_on_another_kind_of_loop(photo):
    """A scheduler with its own thread gets the callbacks on that thread."""
    scheduler = EventLoopScheduler()
    recorder = RecordingCallbacks()
    with Server(echo) as server:
        start(recorder, server.url, photo, scheduler=scheduler).result(PATIENCE)
    scheduler.dispose()
    assert len(recorder.idents) == 1
    assert recorder.threads.isdisjoint({"MainThread", "rxupload"})


def test_rule_10_result_in_a_callback(photo):
    """result() in a callback would wait for itself, and says so."""
    errors: list[Exception] = []
    is_made = threading.Event()

    def then(kind: str, value: Any) -> None:
        assert is_made.wait(PATIENCE)
        try:
            task.result(PATIENCE)
        except RuntimeError as error:
            errors.append(error)

    recorder = RecordingCallbacks(then)
    with Server(echo) as server:
        task = start(recorder, server.url, photo)
        is_made.set()
        task.result(PATIENCE)
    assert len(errors) == len(recorder.calls) == 4


def test_rule_10_result_on_the_loop(photo):
    """So would result() on the loop that delivers the callbacks."""

    async def main() -> None:
        with Server(echo) as server:
            scheduler = AsyncIOScheduler(asyncio.get_running_loop())
            task = uploadFile(RecordingCallbacks().object(server.url, photo), scheduler=scheduler)
            with pytest.raises(RuntimeError, match="await"):
                task.result()
            assert await task == task.result()

    asyncio.run(main())


def test_rule_10_a_loop_that_closes(film, server):
    """After the loop has closed, the end is delivered on a thread, and the upload is finished."""
    recorder = RecordingCallbacks()

    async def main() -> Stepper:
        start(recorder, server.url, film, scheduler=AsyncIOScheduler(asyncio.get_running_loop()))
        return await asyncio.to_thread(server.next_request)

    request = asyncio.run(main())
    request.read_all()
    request.respond()
    assert recorder.wait().res["statusCode"] == 200


def test_rule_10_a_loop_that_closes_with_the_end_in_its_queue():
    """A thread reports the end where the loop had accepted it and closes before that turn."""
    recorder = RecordingCallbacks()
    loop = asyncio.new_event_loop()
    uploadFile(recorder.object("no address", "", scheduler=AsyncIOScheduler(loop)))
    loop.close()
    recorder.wait()
    assert recorder.calls[0][1][1] == 202
