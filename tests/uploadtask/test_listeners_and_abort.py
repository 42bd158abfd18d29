"""The callback API over real sockets, each rule under its number: late listeners, `abort`, threads."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import httpx
import pytest
from reactivex.scheduler import EventLoopScheduler, NewThreadScheduler
from reactivex.scheduler.eventloop import AsyncIOScheduler
from support.recording_callbacks import RecordingCallbacks
from support.recording_observer import observe
from support.running_tasks import MIB, awaited, echo, start, under_way
from support.scripted_server import PATIENCE, Server, unanswered_port
from support.stepped_server import SteppedServer, Stepper

from rxupload import Progress, UploadAborted, uploadtask
from rxupload.uploadtask import uploadFile

# Rule 8


def test_rule_8_late_while_it_runs(film, server):
    """A listener that comes while the upload stalls gets the latest event once, like the others, then what follows."""
    told, late = RecordingCallbacks(), RecordingCallbacks()
    task = start(told, server.url, film)
    request = under_way(server, told)
    latest = told.sent[-1]
    task.onProgressUpdate(
        late.progress
    )  # the server reads no more, so but for this there is no event to come
    observed, _ = observe(task.events)
    late.wait_for(lambda late: late.calls)
    assert late.sent[0] >= latest
    assert "MainThread" not in late.threads
    request.read_all()
    request.respond()
    told.wait()
    assert late.sent == told.sent[told.sent.index(late.sent[0]) :]
    sent = [item.sent for item in observed.wait().progress]
    assert sent == told.sent[told.sent.index(sent[0]) :]
    assert observed.response.status_code == 200


def test_rule_8_late_while_the_response_is_awaited(photo, server):
    """No event is to come any more, and a late listener still gets the latest one, once."""
    told, late = RecordingCallbacks(), RecordingCallbacks()
    task = start(told, server.url, photo)
    request = server.next_request()
    request.read_all()
    told.wait_for(lambda told: told.of("progress")[-1:] and told.of("progress")[-1]["progress"] == 100)
    task.onProgressUpdate(late.progress)
    late.wait_for(lambda late: late.calls)
    request.respond()
    told.wait()
    assert late.of("progress") == told.of("progress")[-1:]


def test_rule_8_late_in_headers(photo):
    """A headers callback that listens for progress hears the latest before success."""
    late: list[str] = []
    told = RecordingCallbacks(
        then=lambda kind, value: (
            kind == "headers" and task.onProgressUpdate(lambda res: late.extend(told.kinds))
        )
    )
    with Server(echo) as server:
        task = uploadFile(told.object(server.url, photo))
        task.onHeadersReceived(told.headers)
        task.result(PATIENCE)
    assert late == ["headers"]


def test_rule_8_late_after_success(photo):
    """It gets the latest event before the registration returns, on a thread of the library."""

    def listen(res: Any) -> None:
        time.sleep(0.05)  # so that returning too early shows
        late.progress(res)

    told, late = RecordingCallbacks(), RecordingCallbacks()
    with Server(echo) as server:
        task = start(told, server.url, photo)
        task.result(PATIENCE)
    task.onProgressUpdate(listen)
    assert late.kinds == ["progress"]
    task.onHeadersReceived(late.headers)
    assert late.kinds == ["progress", "headers"]
    assert late.calls == told.calls[:2]
    assert "MainThread" not in late.threads
    observed, _ = observe(task.events)
    assert observed.ended
    assert [type(item) for item in observed.items] == [Progress, httpx.Response]


def test_rule_8_late_in_success_and_complete(photo):
    """A callback of the end may listen as well."""
    late: list[Any] = []

    def then(kind: str, value: Any) -> None:
        if kind in ("success", "complete"):
            task.onProgressUpdate(lambda res: late.append((kind, res["progress"])))

    told = RecordingCallbacks(then)
    with Server(echo) as server:
        task = uploadFile(told.object(server.url, photo))
        task.result(PATIENCE)
    assert late == [("success", 100), ("complete", 100)]


def test_rule_8_late_while_success_waits_for_it(photo):
    """One that registers while success waits for just that is not left hanging."""
    registered = threading.Event()
    told = RecordingCallbacks(then=lambda kind, value: kind == "success" and registered.wait(PATIENCE))
    late = RecordingCallbacks()
    with Server(echo) as server:
        task = uploadFile(told.object(server.url, photo))
        told.wait_for(lambda told: "success" in told.kinds)
        task.onProgressUpdate(late.progress)
        registered.set()
        task.result(PATIENCE)
    late.wait_for(lambda late: late.kinds == ["progress"])


@pytest.mark.parametrize("aborted", [True, False])
def test_rule_8_late_after_failure_or_abort(film, server, aborted):
    """It gets nothing; `events` tells its error."""
    told, late = RecordingCallbacks(), RecordingCallbacks()
    task = start(told, server.url, film)
    request = under_way(server, told)
    if aborted:
        task.abort()
    else:
        request.reset()
    told.wait()
    with pytest.raises(UploadAborted if aborted else httpx.TransportError):
        task.result(PATIENCE)
    task.onProgressUpdate(late.progress)
    task.onHeadersReceived(late.headers)
    observed, _ = observe(task.events)
    assert observed.ended
    assert not late.calls
    assert not observed.items
    assert isinstance(observed.error, UploadAborted if aborted else httpx.TransportError)


def test_rule_8_on_a_loop_in_the_next_turn(photo):
    """With an asyncio scheduler the late event comes in the next turn, never at once."""

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
    """The connection closes, then fail with 1002 and complete; result, await and events tell of UploadAborted."""
    told = RecordingCallbacks()
    task = start(told, server.url, film)
    request = under_way(server, told)
    observed, _ = observe(task.events)
    assert task.abort() is None
    assert task.state == "aborted"
    request.wait_for_end()
    told.wait()
    task.abort()
    assert told.of("fail") == [("user cancel request", 1002)]
    assert told.kinds[-2:] == ["fail", "complete"]
    with pytest.raises(UploadAborted):
        task.result(PATIENCE)
    with pytest.raises(UploadAborted):
        asyncio.run(awaited(task))
    assert isinstance(observed.wait().error, UploadAborted)


def test_rule_9_abort_from_many_threads(film, server):
    """Any number of times: one end."""
    told = RecordingCallbacks()
    task = start(told, server.url, film)
    under_way(server, told)
    threads = [threading.Thread(target=task.abort) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told.wait()
    assert told.kinds[-2:] == ["fail", "complete"]
    assert told.kinds.count("fail") == 1


@pytest.mark.parametrize("kind", ["progress", "headers"])
def test_rule_9_abort_in_a_callback(photo, kind):
    """No event follows, to no listener, even where the whole body has gone and the response is there."""
    after = RecordingCallbacks()
    told = RecordingCallbacks(then=lambda each, value: each == kind and task.abort())
    with SteppedServer() as server:
        task = start(told, server.url, photo)
        task.onProgressUpdate(after.progress)
        task.onHeadersReceived(after.headers)
        request = server.next_request()
        request.read_all()
        request.respond()
        told.wait()
    assert told.code == 1002
    assert told.kinds[told.kinds.index(kind) :] == [kind, "fail", "complete"]
    assert kind not in after.kinds


@pytest.mark.parametrize("kind", ["success", "complete"])
def test_rule_9_abort_after_the_end(photo, kind):
    """It does nothing, in success and in complete as later."""
    told = RecordingCallbacks(then=lambda each, value: each == kind and task.abort())
    with Server(echo) as server:
        task = start(told, server.url, photo)
        task.result(PATIENCE)
    task.abort()
    assert told.kinds == ["progress", "headers", "success", "complete"]
    assert task.state == "done"


def test_rule_9_abort_while_connecting(photo):
    """It does not wait for a server that does not answer."""
    told = RecordingCallbacks()
    with unanswered_port() as port:
        task = start(told, f"http://127.0.0.1:{port}/", photo)
        task.abort()
        assert told.wait().code == 1002


def test_rule_9_abort_while_queued(photo, film, server):
    """A queued upload never reaches the server, and the one behind it gets its place."""
    uploadtask.configure(max_concurrent=1)
    tolds = [RecordingCallbacks() for _ in range(3)]
    tasks = [start(told, server.url + str(n), film if n == 0 else photo) for n, told in enumerate(tolds)]
    assert [task.state for task in tasks[1:]] == ["queued", "queued"]
    assert server.next_request().path == "/0"
    tasks[1].abort()
    assert tolds[1].wait().kinds == ["fail", "complete"]
    tasks[0].abort()
    request = server.next_request()
    assert request.path == "/2"
    request.read_all()
    request.respond()
    assert tolds[2].wait().res["statusCode"] == 200
    assert server.requests.empty()


def test_rule_9_fail_waits_for_a_callback_that_runs(film, server):
    """After an abort from another thread the running callback ends first, and no other event follows."""
    running, go_on = threading.Event(), threading.Event()

    def then(kind: str, value: Any) -> None:
        if kind == "progress":
            running.set()
            go_on.wait(PATIENCE)

    told = RecordingCallbacks(then)
    task = start(told, server.url, film)
    server.next_request().read(2 * MIB)
    assert running.wait(PATIENCE)
    task.abort()
    assert told.kinds == ["progress"]
    go_on.set()
    assert told.wait().kinds == ["progress", "fail", "complete"]


def test_rule_9_fail_does_not_wait_for_the_worker(photo):
    """A worker that hears nothing, as in a name lookup, holds up neither fail nor complete nor the queue."""
    deaf = DeafClient()
    uploadtask.configure(max_concurrent=1)
    told = RecordingCallbacks()
    task = start(told, "http://upload.test/", photo, client=deaf)
    assert deaf.is_called.wait(PATIENCE)
    with Server(echo) as server:
        behind = uploadFile(RecordingCallbacks().object(server.url, photo))
        task.abort()
        assert told.wait().code == 1002
        assert behind.result(PATIENCE)["statusCode"] == 200
    deaf.go_on.set()


class DeafClient(httpx.Client):
    """Its send returns when the test says so, whatever happens to the upload."""

    def __init__(self) -> None:
        super().__init__()
        self.close()  # it has no need of connections
        self.is_called, self.go_on = threading.Event(), threading.Event()

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        self.is_called.set()
        self.go_on.wait(PATIENCE)
        raise httpx.ConnectError("no such host")


# Rule 10


def test_rule_10_threads_of_the_library(film, server):
    """Callbacks do not overlap, and come on threads of the library; of other schedulers than loops too."""
    told = RecordingCallbacks()
    start(told, server.url, film, scheduler=NewThreadScheduler())
    request = under_way(server, told)
    request.read_all()
    request.respond()
    assert told.wait().threads == {"rxupload callbacks"}


def test_rule_10_on_the_loop(film, server):
    """With an AsyncIOScheduler all callbacks come on its loop."""

    async def main() -> RecordingCallbacks:
        told = RecordingCallbacks()
        task = start(told, server.url, film, scheduler=AsyncIOScheduler(asyncio.get_running_loop()))
        request = server.next_request()
        await asyncio.to_thread(request.read_all)
        await asyncio.to_thread(request.respond)
        assert (await task)["statusCode"] == 200
        assert told.idents == {threading.get_ident()}
        return told

    told = asyncio.run(main())
    assert told.kinds[-4:] == ["progress", "headers", "success", "complete"]


def test_rule_10_on_another_kind_of_loop(photo):
    """A scheduler with a thread of its own has the callbacks on that."""
    scheduler = EventLoopScheduler()
    told = RecordingCallbacks()
    with Server(echo) as server:
        start(told, server.url, photo, scheduler=scheduler).result(PATIENCE)
    scheduler.dispose()
    assert len(told.idents) == 1
    assert told.threads.isdisjoint({"MainThread", "rxupload callbacks"})


def test_rule_10_result_in_a_callback(photo):
    """It would wait for itself, and says so."""
    errors: list[Exception] = []

    def then(kind: str, value: Any) -> None:
        try:
            task.result(PATIENCE)
        except RuntimeError as error:
            errors.append(error)

    told = RecordingCallbacks(then)
    with Server(echo) as server:
        task = start(told, server.url, photo)
        task.result(PATIENCE)
    assert len(errors) == len(told.calls) == 4


def test_rule_10_result_on_the_loop(photo):
    """So does result() on the loop that it would keep from calling back."""

    async def main() -> None:
        with Server(echo) as server:
            scheduler = AsyncIOScheduler(asyncio.get_running_loop())
            task = uploadFile(RecordingCallbacks().object(server.url, photo), scheduler=scheduler)
            with pytest.raises(RuntimeError, match="await"):
                task.result()
            assert await task == task.result()

    asyncio.run(main())


def test_rule_10_loop_that_closes(film, server):
    """When the loop has closed, the end is told on a thread, and the upload is finished."""
    told = RecordingCallbacks()

    async def main() -> Stepper:
        start(told, server.url, film, scheduler=AsyncIOScheduler(asyncio.get_running_loop()))
        return await asyncio.to_thread(server.next_request)

    request = asyncio.run(main())
    request.read_all()
    request.respond()
    assert told.wait().res["statusCode"] == 200


def test_rule_10_loop_that_closes_with_the_end_in_its_queue():
    """The end is told on a thread also where the loop had taken it, and closes before the turn."""
    told = RecordingCallbacks()
    loop = asyncio.new_event_loop()
    uploadFile(told.object("no address", "", scheduler=AsyncIOScheduler(loop)))
    loop.close()
    told.wait()
    assert told.calls[0][1][1] == 202
