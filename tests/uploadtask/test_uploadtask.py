"""The callback API over real sockets: its examples, its rules and its codes, each under its number."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from reactivex.notification import OnCompleted
from reactivex.scheduler import EventLoopScheduler, NewThreadScheduler
from reactivex.scheduler.eventloop import AsyncIOScheduler
from support.notebook_kernel import run_cells
from support.recording_callbacks import RecordingCallbacks
from support.recording_observer import observe
from support.scripted_server import PATIENCE, Connection, Server, header, unanswered_port
from support.stepped_server import SteppedServer, Stepper
from support.threads import no_thread_left

import rxupload
from rxupload import Progress, UploadAborted, UploadTimeout, receiver, upload, uploadtask
from rxupload._task import task as task_module
from rxupload._task.callbacks import CallbackQueue, Hot
from rxupload.uploadtask import UploadTask, arguments, uploadFile

MIB = 1 << 20


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    """Settings as a fresh process has them, and no thread left after a test."""
    monkeypatch.delenv("RXUPLOAD_INTERNAL_ROOT", raising=False)
    monkeypatch.setattr(arguments, "_internal_root", None)
    with no_thread_left():
        yield
    uploadtask.configure(max_concurrent=5)


@pytest.fixture
def photo(tmp_path) -> Path:
    """A small file."""
    path = tmp_path / "beach.jpg"
    path.write_bytes(b"photo" * 1000)
    return path


@pytest.fixture
def film(tmp_path) -> Path:
    """A file that the system's buffers do not hold."""
    path = tmp_path / "film.mp4"
    with path.open("wb") as file:
        file.truncate(24 * MIB)
    return path


@pytest.fixture
def server():
    """A server that the test takes step by step."""
    with SteppedServer() as server:
        yield server


def start(told: RecordingCallbacks, url: str, path: Any, **more: Any) -> UploadTask:
    """An upload with all listeners."""
    task = uploadFile(told.object(url, path, **more))
    task.onProgressUpdate(told.progress)
    task.onHeadersReceived(told.headers)
    return task


def under_way(server: SteppedServer, told: RecordingCallbacks) -> Stepper:
    """Let the server read until there has been progress."""
    request = server.next_request()
    request.read(2 * MIB)
    told.wait_for(lambda told: told.sent)
    return request


def echo(connection: Connection) -> None:
    connection.serve(200, b"thanks")


# The examples of the original documentation


def test_example_create_abort_listen_stop_listening(tmp_path, server, capsys):
    """The first example, line for line; the upload ends aborted."""
    (tmp_path / "mass/download").mkdir(parents=True)
    (tmp_path / "mass/download/test.png").write_bytes(bytes(MIB))
    uploadtask.configure(internal_root=tmp_path)

    task = uploadtask.uploadFile({
        "url": server.url,
        "filePath": "internal://mass/download/test.png",
        "name": "testImg",
        "success": lambda res: print("uploaded, response =", json.dumps(res)),
        "fail": lambda data, code: print(f"failed, message = {data}, code = {code}"),
    })  # fmt: skip
    task.onProgressUpdate(lambda res: print("progress =", json.dumps(res)))  # listen  # fmt: skip
    task.offProgressUpdate()  # stop listening  # fmt: skip
    task.abort()  # stop the upload  # fmt: skip

    with pytest.raises(UploadAborted):
        task.result(PATIENCE)
    assert capsys.readouterr().out == "failed, message = user cancel request, code = 1002\n"


def test_example_create_and_succeed(tmp_path, capsys):
    """The first example without its abort: what it prints is JSON."""
    (tmp_path / "mass/download").mkdir(parents=True)
    (tmp_path / "mass/download/test.png").write_bytes(b"png")
    uploadtask.configure(internal_root=tmp_path)
    with Server(echo) as server:
        task = uploadtask.uploadFile({
            "url": server.url,
            "filePath": "internal://mass/download/test.png",
            "name": "testImg",
            "success": lambda res: print("uploaded, response =", json.dumps(res)),
            "fail": lambda data, code: print(f"failed, message = {data}, code = {code}"),
        })  # fmt: skip
        task.result(PATIENCE)
    printed = capsys.readouterr().out.removeprefix("uploaded, response =")
    assert json.loads(printed) == {"statusCode": 200, "data": "thanks", "headers": {"Content-Length": "6"}}


def test_example_two_listeners_of_which_one_is_removed(film, server):
    """The second example: after the first is removed, the second goes on hearing."""
    heard: dict[str, list[Any]] = {"first": [], "second": []}
    told = RecordingCallbacks()
    task = uploadFile(told.object(server.url, film))

    def first(res):
        heard["first"].append(res)

    def second(res):
        heard["second"].append(res)
        told.progress(res)

    task.onProgressUpdate(first)
    task.onProgressUpdate(second)
    request = under_way(server, told)
    task.offProgressUpdate(first)
    before = len(heard["first"])
    request.read_all()
    request.respond()
    told.wait()
    assert before <= len(heard["first"]) <= before + 1  # the one that was being delivered
    assert len(heard["second"]) > len(heard["first"])
    assert heard["second"][-1]["progress"] == 100


# Rule 1

WRONG = [
    ("url", None),
    ("url", ""),
    ("url", 5),
    ("url", "example.com"),
    ("url", "ftp://example.com/"),
    ("url", "http://"),
    ("url", "http://user:hunter/2@example.com/"),
    ("filePath", None),
    ("filePath", ""),
    ("filePath", b"beach.jpg"),
    ("filePath", "a\0b"),
    ("name", None),
    ("name", ""),
    ("name", 5),
    ("header", "A: b"),
    ("header", [("A", "b")]),
    ("header", {1: "b"}),
    ("header", {"A": None}),
    ("header", {"A": "b\r\nC: d"}),
    ("header", {"A\n": "b"}),
    ("formData", "a=b"),
    ("formData", {1: "b"}),
    ("formData", {"a": ["b"]}),
    ("formData", {"a": b"b"}),
    ("timeout", "20000"),
    ("timeout", -1),
    ("timeout", float("nan")),
    ("timeout", True),
    ("success", 5),
    ("complete", "f"),
    ("fileName", 5),
    ("contentType", "a\r\nb"),
    ("client", object()),
    ("scheduler", object()),
]


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_rule_1_wrong_values(photo, key, value):
    """A wrong value is a task that fails with 202 and the argument's name, then completes; nothing is raised."""
    told = RecordingCallbacks()
    task = uploadFile({**told.object("http://127.0.0.1:9/", photo), key: value})
    with pytest.raises((TypeError, ValueError), match=f"^{key}"):
        task.result(PATIENCE)
    assert task.state == "failed"
    if key in ("success", "complete"):
        told.wait_for(lambda told: "fail" in told.kinds)
    else:
        assert told.kinds == ["fail", "complete"]
    (data, code), *_ = told.of("fail")
    assert code == 202
    assert data.startswith(key)
    assert "hunter" not in data


@pytest.mark.parametrize("given", [None, "http://", ["url"], 5])
def test_rule_1_no_object(given):
    """So is what is no dict at all."""
    with pytest.raises(TypeError, match=r"^(OBJECT|url)"):
        uploadFile(given).result(PATIENCE)


def test_rule_1_fail_is_no_function(photo):
    """So is a fail that cannot be called; complete is."""
    told = RecordingCallbacks()
    with pytest.raises(TypeError, match=r"^fail"):
        uploadFile(told.object("http://127.0.0.1:9/", photo, fail="no")).result(PATIENCE)
    assert told.kinds == ["complete"]


def test_rule_1_order_of_the_checks(photo):
    """The first of several wrong values is named, in the order url, filePath, name, header, formData, timeout."""
    wrong = {"url": 5, "filePath": 5, "name": 5, "header": 5, "formData": 5, "timeout": "x"}
    right = {
        "url": "http://127.0.0.1:9/",
        "filePath": str(photo),
        "name": "photo",
        "header": {},
        "formData": {},
    }
    for key in wrong:
        with pytest.raises(TypeError, match=f"^{key}"):
            uploadFile(
                {**wrong, **{name: right[name] for name in list(wrong)[: list(wrong).index(key)]}}
            ).result(PATIENCE)


def test_rule_1_never_on_the_callers_stack(photo):
    """Callbacks of a wrong call come from another thread; with a loop, in a later turn of it."""
    told = RecordingCallbacks()
    uploadFile(told.object("", photo))
    assert threading.current_thread().name not in told.wait().threads

    async def main() -> None:
        told = RecordingCallbacks()
        task = uploadFile(told.object("", photo), scheduler=AsyncIOScheduler(asyncio.get_running_loop()))
        assert not told.calls
        with pytest.raises(ValueError, match=r"^url"):
            await task
        assert told.kinds == ["fail", "complete"]
        assert told.idents == {threading.get_ident()}

    asyncio.run(main())


def test_rule_1_abort_of_a_wrong_call_does_nothing(photo):
    """It has failed already, so abort cannot turn 202 into 1002."""
    told = RecordingCallbacks()
    uploadFile(told.object("", photo)).abort()
    assert told.wait().code == 202


def test_unknown_keys(photo):
    """An unknown key is a warning that names the nearest known one, and points to the call."""
    with pytest.warns(UserWarning, match="'filepath'; did you mean 'filePath'") as warned:
        task = uploadFile({"url": "http://127.0.0.1:9/", "filepath": str(photo), "name": "photo"})
    assert warned[0].filename == __file__
    with pytest.raises(TypeError, match=r"^filePath"):
        task.result(PATIENCE)


def test_keywords_in_place_of_the_dict(photo):
    """The names of OBJECT are keywords as well."""
    told = RecordingCallbacks()
    with Server(echo) as server:
        uploadFile(**told.object(server.url, photo)).result(PATIENCE)
    assert told.kinds == ["success", "complete"]


# Rule 2


def test_rule_2_order_after_success(photo):
    """Last progress, headers, success, complete, each once; complete gets no argument."""
    told = RecordingCallbacks()
    with Server(echo) as server:
        task = start(told, server.url, photo)
        assert task.result(PATIENCE)["data"] == "thanks"
    assert told.kinds == ["progress", "headers", "success", "complete"]
    assert told.of("progress")[-1]["progress"] == 100
    assert told.of("complete") == [()]
    assert task.state == "done"


def test_rule_2_order_after_failure(film, server):
    """Progress, fail, complete; no headers, no success."""
    told = RecordingCallbacks()
    task = start(told, server.url, film)
    under_way(server, told).reset()
    told.wait()
    assert told.kinds[-2:] == ["fail", "complete"]
    assert set(told.kinds[:-2]) == {"progress"}
    assert told.of("complete") == [()]
    assert task.state == "failed"


# Rule 3


def raising(kind: str, value: Any) -> None:
    raise (SystemExit if kind == "headers" else ZeroDivisionError)(kind)


def test_rule_3_callbacks_that_raise(photo, caplog):
    """Each is logged with its traceback, and the others still run, complete too."""
    told = RecordingCallbacks(then=raising)
    others = RecordingCallbacks()
    with caplog.at_level(logging.ERROR, "rxupload"), Server(echo) as server:
        task = start(told, server.url, photo)
        task.onProgressUpdate(others.progress)
        assert task.result(PATIENCE)["statusCode"] == 200
    assert told.kinds == ["progress", "headers", "success", "complete"]
    assert others.kinds == ["progress"]
    assert [record.name for record in caplog.records] == ["rxupload"] * 4
    assert [record.exc_info[1].args[0] for record in caplog.records] == told.kinds


def test_rule_3_fail_that_raises(photo, caplog):
    """The same after a failure."""
    told = RecordingCallbacks(then=raising)
    with pytest.raises(TypeError):
        uploadFile(told.object(5, photo)).result(PATIENCE)
    assert told.kinds == ["fail", "complete"]
    assert len(caplog.records) == 2


# Rule 4


@pytest.mark.parametrize("status", [200, 204, 304, 404, 500])
def test_rule_4_any_response_is_a_success(photo, status):
    """A 500 too: the caller reads statusCode."""
    told = RecordingCallbacks()
    with Server(lambda connection: connection.serve(status)) as server:
        start(told, server.url, photo)
        assert told.wait().res["statusCode"] == status


# Rule 5


def test_rule_5_timeout(film, server):
    """The whole transfer is limited, in milliseconds: 204."""
    told = RecordingCallbacks()
    task = start(told, server.url, film, timeout=200)
    server.next_request()
    with pytest.raises(UploadTimeout, match=r"0\.2 s"):
        task.result(PATIENCE)
    assert told.code == 204


def test_rule_5_counted_from_the_queue(film, photo, server):
    """While an upload waits in the queue its time does not run."""
    uploadtask.configure(max_concurrent=1)
    first, second = RecordingCallbacks(), RecordingCallbacks()
    holder = start(first, server.url, film)
    server.next_request()
    task = start(second, server.url, photo, timeout=1000)
    time.sleep(1.2)  # what is measured
    assert task.state == "queued"
    holder.abort()
    server.next_request()  # it has come to the server, later than its time after it was made
    assert second.wait().code == 204


@pytest.mark.parametrize(
    ("timeout", "seconds"), [(None, 20), (0, None), (1500, 1.5), (0.5, 0.0005), (float("inf"), None)]
)
def test_rule_5_default_and_none(photo, timeout, seconds):
    """The default is 20 seconds, 0 is no limit."""
    given = {"url": "http://127.0.0.1:9/", "filePath": str(photo), "name": "photo", "timeout": timeout}
    assert arguments.upload_of(given)._plan.timeout == seconds


def test_rule_5_is_the_only_limit(photo, server):
    """The default client's own limits do not cut it short."""
    up = arguments.upload_of({"url": server.url, "filePath": str(photo), "name": "photo", "timeout": 0})
    request = up._plan.client.build_request("POST", server.url)
    assert set(request.extensions["timeout"].values()) == {None}


# Rule 6


def test_rule_6_progress(film, server):
    """Whole percents rounded down, of the whole body, rising; none at zero; 100 with every byte, before headers."""
    told = RecordingCallbacks()
    began = time.monotonic()
    start(told, server.url, film)
    request = server.next_request()
    total = request.total
    for _ in range(6):
        request.read(3 * MIB)
        count = len(told.sent)
        told.wait_for(lambda told, count=count: len(told.sent) > count or told.sent[-1:] == [total])
    request.read_all()
    told.wait_for(lambda told: told.sent[-1] == total)
    request.respond()
    told.wait()
    elapsed = time.monotonic() - began
    assert told.sent[0] > 0
    assert all(earlier < later for earlier, later in zip(told.sent, told.sent[1:], strict=False))
    for res in told.of("progress"):
        assert res["totalBytesExpectedToSend"] == total
        assert type(res["progress"]) is int
        assert res["progress"] == res["totalBytesSent"] * 100 // total
    assert [res["progress"] for res in told.of("progress")].count(100) == 1
    assert told.kinds[-4:] == ["progress", "headers", "success", "complete"]
    assert 4 <= len(told.sent) <= elapsed / 0.05 + 2


def test_rule_6_early_answer(film, server):
    """A server that answers early brings success with no 100."""
    told = RecordingCallbacks()
    start(told, server.url, film)
    under_way(server, told).respond(413)
    assert told.wait().res["statusCode"] == 413
    assert told.of("progress")[-1]["progress"] < 100


def test_rule_6_empty_file(tmp_path):
    """An empty file has a body too, which comes to 100."""
    (tmp_path / "empty").touch()
    told = RecordingCallbacks()
    with Server(echo) as server:
        start(told, server.url, tmp_path / "empty")
        assert told.wait().of("progress")[-1]["progress"] == 100


def test_rule_6_last_event_of_a_slow_listener(film, server):
    """A listener that is slower than the events misses some between, and hears the last."""
    go_on = threading.Event()
    told = RecordingCallbacks(then=lambda kind, value: go_on.wait(PATIENCE))
    task = start(told, server.url, film)
    request = under_way(server, told)
    for _ in range(5):
        request.read(3 * MIB)
        time.sleep(0.06)  # longer than what lies between two events, so that there are some to be missed
    request.read_all()
    while task.state != "waiting":  # nothing tells of that but a listener
        time.sleep(0.01)
    request.respond()
    go_on.set()
    assert told.wait().of("progress")[-1]["progress"] == 100
    assert len(told.sent) == 2


def test_rule_6_unknown_size():
    """Where nobody knows the size, percent and total are 0."""
    told = RecordingCallbacks()
    with Server(echo) as server:
        task = upload(server.url, iter([b"a" * MIB])).start()
        task.onProgressUpdate(told.progress)
        task.result(PATIENCE)
    assert told.of("progress")[-1]["progress"] == told.of("progress")[-1]["totalBytesExpectedToSend"] == 0
    assert told.sent[-1] > MIB


# Rule 7


def test_rule_7_order_and_the_same_callback_twice(photo):
    """Listeners are called in the order of registration; an equal one counts once; unknown ones do no harm."""

    class Page:
        def listen(self, res: Any) -> None:
            heard.append("page")

    heard: list[str] = []
    page = Page()
    with SteppedServer() as server:
        told = RecordingCallbacks()
        task = uploadFile(told.object(server.url, photo))
        request = server.next_request()
        listeners = [lambda res, each=each: heard.append(each) for each in range(3)]
        task.offProgressUpdate()
        for listener in (listeners[2], page.listen, listeners[0], page.listen, listeners[1], listeners[2]):
            task.onProgressUpdate(listener)
        task.offProgressUpdate(print)
        task.offHeadersReceived(print)
        request.read_all()
        request.respond()
        told.wait()
    assert heard in ([2, "page", 0, 1], [2, "page", 0, 1] * 2)


def test_rule_7_off_with_none_is_off_with_nothing(film, server):
    """`offProgressUpdate(None)` removes all."""
    told, heard = RecordingCallbacks(), RecordingCallbacks()
    task = start(told, server.url, film)
    task.onProgressUpdate(heard.progress)
    task.onHeadersReceived(heard.headers)
    task.offProgressUpdate(None)
    task.offHeadersReceived(None)
    request = server.next_request()
    request.read_all()
    request.respond()
    assert told.wait().kinds == ["success", "complete"]
    assert not heard.calls


def test_rule_7_removed_while_an_event_is_delivered(film, server):
    """It is skipped, in this event already."""
    skipped = RecordingCallbacks()
    told = RecordingCallbacks(
        then=lambda kind, value: kind == "progress" and task.offProgressUpdate(skipped.progress)
    )
    task = start(told, server.url, film)
    task.onProgressUpdate(skipped.progress)
    request = under_way(server, told)
    request.read_all()
    request.respond()
    told.wait()
    assert not skipped.calls


def test_rule_7_added_while_an_event_is_delivered(film, server):
    """It waits for the next event, and hears all that follow."""
    added = RecordingCallbacks()
    told = RecordingCallbacks(
        then=lambda kind, value: kind == "progress" and task.onProgressUpdate(added.progress)
    )
    task = start(told, server.url, film)
    request = under_way(server, told)
    request.read_all()
    request.respond()
    told.wait()
    assert added.of("progress") == told.of("progress")[1:]
    assert added.of("progress")


def test_rule_7_listener_that_is_no_function(photo):
    """What cannot be called is refused at the call."""
    task = uploadFile({})
    with pytest.raises(TypeError, match=r"^callback"):
        task.onProgressUpdate(None)  # type: ignore[arg-type]


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


def test_rule_8_late_while_the_end_is_queued():
    """Whoever joins when the end is on its way, but not yet told, gets the latest item before it."""
    queue = CallbackQueue(None)
    hot: Hot[int] = Hot(queue)
    queue.run(lambda: hot.emit(1))
    go_on = threading.Event()
    queue.post(lambda: go_on.wait(PATIENCE))
    queue.post(lambda: hot.end(OnCompleted()))
    observed, _ = observe(hot)
    go_on.set()
    assert observed.wait().items == [1]


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


async def awaited(task: UploadTask) -> Any:
    return await task


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


# Rules 11 and 12


def test_rule_11_form_data(photo):
    """str, int, float and bool are sent, None is left out, the empty str is kept; the fields come before the file."""
    form_data = {"s": "\u00fc", "i": 5, "f": 1.5, "yes": True, "no": False, "none": None, "empty": ""}
    with receiver.running() as url:
        result = uploadFile(RecordingCallbacks().object(url, photo, formData=form_data)).result(PATIENCE)
    fields = json.loads(result["data"])["fields"]
    assert fields == {"s": "\u00fc", "i": "5", "f": "1.5", "yes": "true", "no": "false", "empty": ""}


def test_rule_12_header(photo, server):
    """Values are str or numbers; the body's own Content-Type wins."""
    told = RecordingCallbacks()
    given = {"X-Text": "a", "X-Int": 5, "X-Float": 1.5, "content-type": "text/plain"}
    start(told, server.url, photo, header=given)
    request = server.next_request()
    assert header(request.head, b"x-text") == b"a"
    assert header(request.head, b"x-int") == b"5"
    assert header(request.head, b"x-float") == b"1.5"
    assert header(request.head, b"content-type").startswith(b"multipart/form-data; boundary=")
    request.read_all()
    request.respond()
    told.wait()


def test_file_name_and_content_type(photo):
    """`fileName` and `contentType` stand in place of what the path says."""
    with receiver.running() as url:
        task = uploadFile(
            RecordingCallbacks().object(url, photo), fileName="\u2605.png", contentType="image/x"
        )
        (file,) = json.loads(task.result(PATIENCE)["data"])["files"]
    assert (file["filename"], file["content_type"], file["size"]) == ("\u2605.png", "image/x", 5000)


# Rules 13 and 14


def test_rule_13_headers(photo):
    """Keys as the server spelled them; a list where a header comes several times, in any spelling."""

    def script(connection: Connection) -> None:
        connection.read_body(connection.read_head())
        connection.respond(200, b"", "X-MiXed: 1", "Set-Cookie: a=1", "set-cookie: b=2", "Set-Cookie: c=3")

    told = RecordingCallbacks()
    with Server(script) as server:
        start(told, server.url, photo)
        told.wait()
    headers = {"Content-Length": "0", "X-MiXed": "1", "Set-Cookie": ["a=1", "b=2", "c=3"]}
    assert told.res["headers"] == headers
    assert told.of("headers") == [{"headers": headers}]


@pytest.mark.parametrize(
    ("content_type", "body", "data"),
    [
        ("", b"", ""),
        ("", "\u00e4".encode(), "\u00e4"),
        ("", b"a\xff", "a\ufffd"),
        ("text/plain; charset=iso-8859-1", b"\xe4", "\u00e4"),
        ("text/plain; charset=utf-16", "\u00e4".encode("utf-16"), "\u00e4"),
        ("text/plain; charset=no-such", "\u00e4".encode(), "\u00e4"),
        ("text/plain; charset=hex", b"\xe4", "\ufffd"),
        ("text/plain; charset=undefined", b"a", "a"),
        ("application/json", b"\xef\xbb\xbf{}", "{}"),
    ],
)
def test_rule_14_data(photo, content_type, body, data):
    """Always a str: by the charset, else UTF-8 with replacement; one leading BOM dropped."""

    def script(connection: Connection) -> None:
        connection.read_body(connection.read_head())
        connection.respond(200, body, *[f"Content-Type: {content_type}"] * bool(content_type))

    with Server(script) as server:
        assert uploadFile(RecordingCallbacks().object(server.url, photo)).result(PATIENCE)["data"] == data


# Rule 15


@pytest.fixture
def internal(tmp_path) -> Path:
    """A root with its folders, and a file beside them."""
    root = tmp_path / "root"
    for folder in ("cache", "files", "mass", "tmp"):
        (root / folder / "sub").mkdir(parents=True)
        (root / folder / "sub" / "a.txt").write_text(folder)
    (tmp_path / "secret").write_text("secret")
    return root


@pytest.mark.parametrize("folder", ["cache", "files", "mass", "tmp"])
@pytest.mark.parametrize("configured", [True, False])
def test_rule_15_internal(internal, folder, configured, monkeypatch):
    """An internal path lies under the root, which configure or the environment sets."""
    if configured:
        uploadtask.configure(internal_root=internal)
    else:
        monkeypatch.setenv("RXUPLOAD_INTERNAL_ROOT", str(internal))
    with receiver.running() as url:
        task = uploadFile(RecordingCallbacks().object(url, f"internal://{folder}/sub/../sub/a.txt"))
        (file,) = json.loads(task.result(PATIENCE)["data"])["files"]
    assert (file["filename"], file["size"]) == ("a.txt", len(folder))


def test_rule_15_no_root():
    """With no root set the message says how to set one."""
    told = RecordingCallbacks()
    uploadFile(told.object("http://127.0.0.1:9/", "internal://mass/a.txt"))
    assert told.wait().code == 202
    (data, _), *_ = told.of("fail")
    assert "configure(internal_root=" in data
    assert "RXUPLOAD_INTERNAL_ROOT" in data


@pytest.mark.parametrize(
    "path",
    [
        "internal://mass/../../secret",
        "internal://mass/../cache/sub/a.txt",
        "internal://mass//etc/hosts",
        "internal://other/a.txt",
        "internal://",
        "internal://mass/sub",
        "internal://mass",
        "internal://mass/link",
        "internal://mass/folder/secret",
    ],
)
def test_rule_15_outside(internal, path):
    """What leads out of its folder is refused, over a symbolic link too; so is a directory."""
    if "link" in path or "folder" in path:
        try:
            (internal / "mass/link").symlink_to(internal.parent / "secret")
            (internal / "mass/folder").symlink_to(internal.parent)
        except OSError:
            pytest.skip("this system makes no symbolic links for us")
    uploadtask.configure(internal_root=internal)
    told = RecordingCallbacks()
    uploadFile(told.object("http://127.0.0.1:9/", path))
    assert told.wait().code == 202
    assert told.of("fail")[0][0].startswith("filePath")


def test_rule_15_link_inside(internal):
    """A symbolic link that stays in its folder is followed, and keeps its name."""
    try:
        (internal / "mass/link.txt").symlink_to(internal / "mass/sub/a.txt")
    except OSError:
        pytest.skip("this system makes no symbolic links for us")
    uploadtask.configure(internal_root=internal)
    with receiver.running() as url:
        task = uploadFile(RecordingCallbacks().object(url, "internal://mass/link.txt"))
        (file,) = json.loads(task.result(PATIENCE)["data"])["files"]
    assert (file["filename"], file["size"]) == ("link.txt", 4)


def test_rule_15_directory(tmp_path):
    """An ordinary path of a directory is a wrong argument too."""
    told = RecordingCallbacks()
    uploadFile(told.object("http://127.0.0.1:9/", tmp_path))
    assert told.wait().code == 202
    assert str(tmp_path) in told.of("fail")[0][0]


# Rule 16


def test_rule_16_redirect(film, server):
    """A 307 sends the body again, and what a listener sees never falls: it waits until it is overtaken."""
    told, late = RecordingCallbacks(), RecordingCallbacks()
    task = start(told, server.url, film)
    observed, _ = observe(task.events)
    passes = RecordingCallbacks()
    task.events.subscribe(lambda item: passes.headers(item.attempt) if isinstance(item, Progress) else None)
    under_way(server, told).respond(307, b"", "Location: /again")
    second = server.next_request()
    assert second.path == "/again"
    passes.wait_for(lambda passes: 2 in passes.of("headers"))
    before = told.sent[-1]
    second.read(before // 2)
    task.onProgressUpdate(late.progress)  # while the second pass has not overtaken
    late.wait_for(lambda late: late.sent == [before])
    second.read_all()
    second.respond(201)
    assert told.wait().res["statusCode"] == 201
    assert all(earlier < later for earlier, later in zip(told.sent, told.sent[1:], strict=False))
    assert told.of("progress")[-1]["progress"] == 100
    assert late.sent == told.sent[-len(late.sent) :]
    assert {item.attempt for item in observed.wait().progress} == {1, 2}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_rule_16_redirect_after_the_whole_body(photo, status):
    """100 is not told twice; the response is the last one's."""

    def script(connection: Connection) -> None:
        head = connection.read_head()
        body = connection.read_body(head) if header(head, b"content-length") else b""
        again = head.split(b" ")[1] == b"/again"
        connection.respond(
            200 if again else status, str(len(body)).encode(), "Location: /again", "Connection: close"
        )

    told = RecordingCallbacks()
    with Server(script) as server:
        start(told, server.url, photo)
        assert told.wait().res["data"] == (str(told.sent[-1]) if status in (307, 308) else "0")
    assert [res["progress"] for res in told.of("progress")].count(100) == 1


@pytest.mark.parametrize("count", [20, 21])
def test_rule_16_twenty_at_most(photo, count):
    """20 redirects are followed, a 21st fails with 200."""

    def script(connection: Connection) -> None:
        head = connection.read_head()
        number = int(head.split(b" ")[1][1:])
        if length := header(head, b"content-length"):
            connection.read(int(length))
        connection.respond(
            303 if number < count else 200, b"", f"Location: /{number + 1}", "Connection: close"
        )

    told = RecordingCallbacks()
    with Server(script) as server:
        start(told, server.url + "0", photo)
        told.wait()
    if count == 20:
        assert told.res["statusCode"] == 200
    else:
        assert told.code == 200
        assert "redirect" in told.of("fail")[0][0]


def test_rule_16_start_keeps_the_uploads_own(photo):
    """`Upload.start()` follows no redirect unless the upload does, and has the upload's time limit."""
    with Server(lambda connection: connection.serve(307)) as server:
        task = upload(server.url, photo).start()
        assert isinstance(task, UploadTask)
        assert task.result(PATIENCE)["statusCode"] == 307
    with SteppedServer() as server, pytest.raises(UploadTimeout):
        upload(server.url, photo, timeout=0.1).start().result(PATIENCE)


def test_start_listens_and_aborts(film, server):
    """A task from `Upload.start()` has the listeners, abort, await and the loop, as one from uploadFile."""

    async def main() -> None:
        told = RecordingCallbacks()
        task = upload(server.url, film).start(scheduler=AsyncIOScheduler(asyncio.get_running_loop()))
        task.onProgressUpdate(told.progress)
        request = await asyncio.to_thread(server.next_request)
        await asyncio.to_thread(request.read, 2 * MIB)
        await asyncio.to_thread(told.wait_for, lambda told: told.calls)
        assert task.state == "uploading"
        task.abort()
        with pytest.raises(UploadAborted):
            await task
        assert told.idents == {threading.get_ident()}

    asyncio.run(main())


# Rule 17


def test_rule_17_two_hundred_at_once(photo):
    """At most 5 are on the wire at any moment, first in first out, all end; an aborted one never gets there."""
    lock = threading.Lock()
    on_the_wire = peak = 0
    arrived: list[int] = []

    def script(connection: Connection) -> None:
        nonlocal on_the_wire, peak
        head = connection.read_head()
        with lock:
            on_the_wire += 1
            peak = max(peak, on_the_wire)
            arrived.append(int(head.split(b" ")[1][1:]))
        connection.read_body(head)
        with lock:
            on_the_wire -= 1
        connection.respond(200, b"", "Connection: close")

    with Server(script) as server:
        tolds = [RecordingCallbacks() for _ in range(200)]
        tasks = [uploadFile(told.object(f"{server.url}{n}", photo)) for n, told in enumerate(tolds)]
        aborted = [n for n in range(100, 200, 7) if tasks[n].state == "queued"]
        for n in aborted:
            tasks[n].abort()
        for told in tolds:
            told.wait()
    assert aborted
    assert peak <= 5
    assert [n for n, told in enumerate(tolds) if "fail" in told.kinds] == aborted
    assert sorted(arrived) == sorted(set(range(200)) - set(aborted))
    # Five threads race each other to the server, so when one arrives, four that began before may still be on their way.
    missing = sorted(arrived)
    for n in arrived:
        assert missing.index(n) <= 4
        missing.remove(n)


def test_rule_17_first_in_first_out(photo):
    """With one at a time they come in the very order."""
    uploadtask.configure(max_concurrent=1)
    arrived: list[bytes] = []

    def script(connection: Connection) -> None:
        head = connection.read_head()
        arrived.append(head.split(b" ")[1])
        connection.read_body(head)
        connection.respond(200, b"", "Connection: close")

    with Server(script) as server:
        tasks = [uploadFile(RecordingCallbacks().object(f"{server.url}{n}", photo)) for n in range(20)]
        for task in reversed(tasks):
            task.result(PATIENCE)
    assert arrived == [b"/%d" % n for n in range(20)]


def test_rule_17_configure(photo, server):
    """A higher limit starts those that wait; wrong settings are refused."""
    uploadtask.configure(max_concurrent=1)
    tasks = [uploadFile(RecordingCallbacks().object(f"{server.url}{n}", photo)) for n in range(3)]
    assert server.next_request().path == "/0"
    assert [task.state for task in tasks[1:]] == ["queued"] * 2
    uploadtask.configure(max_concurrent=3)
    assert {server.next_request().path for _ in range(2)} == {"/1", "/2"}
    for task in tasks:
        task.abort()
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="max_concurrent"):
            uploadtask.configure(max_concurrent=wrong)
    for wrong in (1.5, "2", True):
        with pytest.raises(TypeError, match="max_concurrent"):
            uploadtask.configure(max_concurrent=wrong)
    for task in tasks:
        with pytest.raises(UploadAborted):
            task.result(PATIENCE)


SCRIPT = """
import sys, threading, time
from rxupload.uploadtask import uploadFile
url, path = sys.argv[1:]
def there():
    print("there", flush=True)
for _ in range({count}):
    task = uploadFile({{
        "url": url, "filePath": path, "name": "file",
        "success": lambda res: time.sleep(0.3) or print(f"success {{res['statusCode']}}\\n", end="", flush=True),
        "fail": lambda data, code: print(f"fail {{code}}\\n", end="", flush=True),
        "complete": lambda: print("complete\\n", end="", flush=True),
    }})
{rest}
"""


def run_script(url: str, path: Path, rest: str = "", count: int = 1) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", SCRIPT.format(rest=rest, count=count), url, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("count", [1, 7])
def test_rule_17_script_that_ends(tmp_path, count):
    """A script that reaches its end still uploads its 50 MB whole, those that wait too, and exits by itself with 0."""
    path = tmp_path / "50MB"
    with path.open("wb") as file:
        file.truncate(50_000_000)
    sizes: list[int] = []

    def script(connection: Connection) -> None:
        head = connection.read_head()
        length = int(header(head, b"content-length"))
        sizes.append(connection.read(length) - length)
        assert length > 50_000_000
        connection.respond(200, b"", "Connection: close")

    with Server(script) as server, run_script(server.url, path, count=count) as process:
        out, err = process.communicate(timeout=60)
    assert not server.errors
    assert (process.returncode, err) == (0, "")
    assert sizes == [0] * count
    assert sorted(out.split("\n")) == sorted(["success 200", "complete"] * count + [""])


# The main thread has ended when the interpreter begins to wait for the others.
TELLS_ITS_END = (
    "threading.Thread(target=lambda: [threading.main_thread().join(), there()], daemon=True).start()"
)
IN_ASYNCIO = """
import asyncio
async def main():
    there()
    await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.mark.skipif(os.name != "posix", reason="there is no other way to send Ctrl-C to one process")
@pytest.mark.parametrize(
    ("rest", "count"),
    [
        (TELLS_ITS_END, 1),
        (TELLS_ITS_END, 7),
        ("there(); time.sleep(60)", 1),
        ("there(); task.result()", 1),
        (IN_ASYNCIO, 1),
    ],
    ids=["ended", "ended with some that wait", "sleeping", "result", "asyncio"],
)
def test_rule_17_ctrl_c(tmp_path, server, rest, count):
    """Ctrl-C during the upload, wherever the script is: fail with 1002, complete, and exit within a second."""
    path = tmp_path / "50MB"
    with path.open("wb") as file:
        file.truncate(50_000_000)
    with run_script(server.url, path, rest, count) as process:
        for _ in range(min(count, 5)):
            server.next_request().read(MIB)
        assert process.stdout.readline() == "there\n"
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        out, err = process.communicate(timeout=60)
        took = time.monotonic() - began
    assert sorted(out.split()) == sorted(["fail", "1002", "complete"] * count), err
    assert took < 1
    assert "KeyboardInterrupt" in err


def test_rule_17_ctrl_c_in_result(photo, server, monkeypatch):
    """A wait that Ctrl-C breaks off aborts the upload, as in `Upload.run()`."""

    def interrupted(*args: Any) -> None:
        raise KeyboardInterrupt

    told = RecordingCallbacks()
    task = start(told, server.url, photo)
    server.next_request()
    monkeypatch.setattr(task_module, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        task.result()
    assert told.wait().code == 1002


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_rule_17_forked_child(photo, film, server):
    """The uploads of a parent hold no places in a forked child."""
    script = f"""
import os, threading
from rxupload.uploadtask import uploadFile, configure
configure(max_concurrent=1)
under_way = threading.Event()
task = uploadFile(url={server.url!r}, filePath={str(film)!r}, name="a")
task.onProgressUpdate(lambda res: under_way.set())
under_way.wait(10)
child = os.fork()
if child == 0:
    try:
        uploadFile(url="http://127.0.0.1:1/", filePath={str(photo)!r}, name="a").result(10)
    except Exception as error:
        print(type(error).__name__, flush=True)
    os._exit(0)
os.waitpid(child, 0)
task.abort()
"""
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, timeout=60)
    assert done.stdout == "ConnectError\n"


# The codes


def failed(url: str, path: Any, **more: Any) -> tuple[str, int]:
    """What fail is told."""
    told = RecordingCallbacks()
    uploadFile(told.object(url, path, **more))
    (end,) = told.wait().of("fail")
    return end


def test_code_200_connection_refused(photo):
    """A refused connection; the message says what failed on what, and nothing of a password or a token."""
    data, code = failed("http://user:secret@127.0.0.1:1/photos?token=secret", photo)
    assert code == 200
    assert "http://127.0.0.1:1/photos" in data
    assert str(photo) in data
    assert "secret" not in data
    assert "\n" not in data


def test_code_200_no_such_host(photo):
    """A name that is not resolved."""
    assert failed("http://no-such-host.invalid/", photo)[1] == 200


def test_code_200_certificate(photo):
    """A certificate that cannot be trusted."""
    with Server(lambda connection: None, tls=True) as server:
        data, code = failed(server.url, photo)
        server.errors.clear()
    assert code == 200
    assert "certificate" in data.lower()


def test_code_200_not_http(photo):
    """Bytes that are not HTTP."""

    def script(connection: Connection) -> None:
        connection.read_body(connection.read_head())
        connection.send(b"220 mail.example.com ESMTP\r\n\r\n")
        connection.wait_for_end()

    with Server(script) as server:
        assert failed(server.url, photo)[1] == 200


def test_code_200_error_that_quotes_the_address(photo):
    """What a client's own hook says of the address is told without its password."""
    with Server(lambda connection: connection.serve(401)) as server:
        url = server.url.replace("http://", "http://user:secret@") + "?token=secret"
        hooks = {"response": [lambda response: response.raise_for_status()]}
        with httpx.Client(event_hooks=hooks) as client:
            data, code = failed(url, photo, client=client)
    assert code == 200
    assert "401" in data
    assert "secret" not in data


def test_code_202(photo):
    """Wrong arguments; rule 1 has them all."""
    assert failed("", photo)[1] == 202


def test_code_204(photo, server):
    """A limit of the client's own is a timeout too, whichever httpx it is."""
    for module in (httpx, httpx2):
        with module.Client(timeout=0.1) as client:
            data, code = failed(server.url, photo, client=client, timeout=0)
        assert code == 204
        assert "timed out" in data or "within" in data or "imeout" in data


def test_code_300_reset(film, server):
    """The connection is reset while sending."""
    told = RecordingCallbacks()
    start(told, server.url, film)
    under_way(server, told).reset()
    assert told.wait().code == 300


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nand"])
def test_code_300_closed(photo, answer):
    """The connection ends before the response, and in its midst."""

    def script(connection: Connection) -> None:
        connection.read_body(connection.read_head())
        connection.send(answer)

    with Server(script) as server:
        assert failed(server.url, photo)[1] == 300


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_code_300_unreadable(photo):
    """A file that may not be read."""
    photo.chmod(0)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)  # root may read anything
        data, code = failed("http://127.0.0.1:1/", photo)
    finally:
        os.seteuid(user)
    assert code == 300
    assert str(photo) in data


def test_code_300_shrank(film, server):
    """A file that shrinks while it is sent."""
    told = RecordingCallbacks()
    start(told, server.url, film)
    request = under_way(server, told)
    with film.open("r+b") as file:
        file.truncate(100)
    request.read(24 * MIB)
    assert told.wait().code == 300
    assert str(film) in told.of("fail")[0][0]


@pytest.mark.parametrize("path", ["missing.jpg", "beach.jpg/missing"])
def test_code_301(photo, path):
    """A file that does not exist."""
    data, code = failed("http://127.0.0.1:1/", photo.parent / path)
    assert code == 301
    assert str(photo.parent / path) in data


def test_code_301_internal(internal):
    """The same under the root."""
    uploadtask.configure(internal_root=internal)
    assert failed("http://127.0.0.1:1/", "internal://mass/missing")[1] == 301


def test_code_1002(photo, server):
    """Aborted; rule 9 has every way."""
    told = RecordingCallbacks()
    start(told, server.url, photo).abort()
    assert told.wait().of("fail") == [("user cancel request", 1002)]


# result, await, events, state


def test_result_times_out(photo, server):
    """A wait that expires raises TimeoutError, and the upload goes on."""
    told = RecordingCallbacks()
    task = start(told, server.url, photo)
    request = server.next_request()
    for timeout in (0, 0.3):
        with pytest.raises(TimeoutError):
            task.result(timeout)
    request.read_all()
    request.respond()
    assert task.result(PATIENCE)["statusCode"] == 200


def test_state(film, server):
    """queued, uploading, waiting for the response, done."""
    uploadtask.configure(max_concurrent=1)
    told, held = RecordingCallbacks(), RecordingCallbacks()
    holder = start(held, server.url, film)
    server.next_request()
    task = start(told, server.url, film)
    assert task.state == "queued"
    holder.abort()
    request = under_way(server, told)
    assert task.state == "uploading"
    request.read_all()
    told.wait_for(lambda told: told.of("progress")[-1]["progress"] == 100)
    assert task.state == "waiting"
    request.respond()
    task.result(PATIENCE)
    assert task.state == "done"
    held.wait()


def test_await_that_is_cancelled_leaves_the_upload_running(photo, server):
    """Others may be waiting for it; abort() stops it."""

    async def main() -> None:
        task = uploadFile(RecordingCallbacks().object(server.url, photo))
        request = await asyncio.to_thread(server.next_request)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(awaited(task), 0.05)
        assert task.state in ("uploading", "waiting")
        await asyncio.to_thread(request.read_all)
        await asyncio.to_thread(request.respond)
        assert (await task)["statusCode"] == 200

    asyncio.run(main())


def test_events_of_which_all_go(film, server):
    """Disposing a subscription to `events` aborts nothing; an observer that raises stops nothing."""
    told = RecordingCallbacks()
    task = start(told, server.url, film)
    _, gone = observe(task.events)
    request = under_way(server, told)
    gone.dispose()
    request.read_all()
    request.respond()
    assert told.wait().res["statusCode"] == 200


def test_jupyter():
    """In a kernel callbacks come on its loop, a task can be awaited, and aborted from another cell."""
    setup = """
import asyncio, threading, tempfile, os
from reactivex.scheduler.eventloop import AsyncIOScheduler
from rxupload import receiver, UploadAborted
from rxupload.uploadtask import uploadFile
server = receiver.running()
path = os.path.join(tempfile.mkdtemp(), "file")
with open(path, "wb") as file:
    file.truncate(1 << 20)
said = []
scheduler = AsyncIOScheduler(asyncio.get_running_loop())
main = threading.get_ident()
def start(url, **more):
    return uploadFile(url=url, filePath=path, name="file", scheduler=scheduler, timeout=0, **more,
                      success=lambda res: said.append(("success", threading.get_ident() == main)),
                      fail=lambda data, code: said.append((code, threading.get_ident() == main)))
"""
    with SteppedServer() as stalled:
        outputs = run_cells(
            setup,
            "task = start(server.__enter__())",
            "print((await task)['statusCode'], said)",
            f"said.clear(); task = start({stalled.url!r})",
            "task.abort()",
            "try:\n    await task\nexcept UploadAborted as error:\n    print(error, said)",
            "server.__exit__(None, None, None)",
        )
    assert [output.strip() for output in outputs if output.strip()] == [
        "200 [('success', True)]",
        "user cancel request [(1002, True)]",
    ]


def test_public_names():
    """`import rxupload` does not import `rxupload.uploadtask`."""
    script = "import sys, rxupload; print('rxupload.uploadtask' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "False\n"
    assert rxupload.UploadAborted is UploadAborted
