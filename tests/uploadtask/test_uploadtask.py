"""The callback API over real sockets, each rule with its number: the examples, arguments, order of callbacks."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from reactivex.scheduler.eventloop import AsyncIOScheduler
from support.recording_callbacks import RecordingCallbacks
from support.running_tasks import MIB, echo, held_back, start, under_way
from support.scripted_server import PATIENCE, Server, unanswered_port
from support.stepped_server import SteppedServer
from support.threads import wait_for_threads

import rxupload
from rxupload import UploadAborted, UploadTimeout, upload, uploadtask
from rxupload.uploadtask import UploadTask, arguments, uploadFile

# The examples of the original documentation


@pytest.fixture
def unanswered():
    """An address to which no connection comes about, so that an upload has no progress."""
    with unanswered_port() as port:
        yield f"http://127.0.0.1:{port}/"


def test_example_create_abort_listen_stop_listening(tmp_path, unanswered, capsys):
    """The first example runs line for line; the upload ends aborted."""
    (tmp_path / "mass/download").mkdir(parents=True)
    (tmp_path / "mass/download/test.png").write_bytes(bytes(MIB))
    uploadtask.configure(internal_root=tmp_path)

    task = uploadtask.uploadFile({
        "url": unanswered,
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
    """The first example without its abort prints JSON."""
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
    assert json.loads(printed) == {
        "statusCode": 200,
        "data": "thanks",
        "headers": {"Content-Length": "6", "Connection": "close"},
        "url": server.url,
    }


def test_example_two_listeners_and_one_is_removed(film, server):
    """In the second example, the second listener stays after the first is removed."""
    heard: dict[str, list[Any]] = {"first": [], "second": []}
    recorder = RecordingCallbacks()

    def first(res):
        heard["first"].append(res)

    def second(res):
        heard["second"].append(res)
        recorder.progress(res)

    with held_back():
        task = uploadFile(recorder.object(server.url, film))
        task.onProgressUpdate(first)
        task.onProgressUpdate(second)
    request = under_way(server, recorder)
    task.offProgressUpdate(first)
    before = len(heard["first"])
    request.read_all()
    request.respond()
    recorder.wait()
    assert before <= len(heard["first"]) <= before + 1  # the event that was being delivered
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
    ("filePath", "a\ud800"),
    ("timeout", "20000"),
    ("timeout", -1),
    ("timeout", float("nan")),
    ("timeout", True),
    ("timeout", -(10**400)),
    ("success", 5),
    ("complete", "f"),
    ("fileName", 5),
    ("contentType", "a\r\nb"),
    ("client", object()),
    ("scheduler", object()),
    ("followRedirects", "no"),
    ("followRedirects", "same_origin"),
    ("followRedirects", 1),
]


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_rule_1_wrong_values(photo, key, value):
    """A wrong value is a task that fails with 202 and the argument's name, then completes; nothing is raised."""
    recorder = RecordingCallbacks()
    task = uploadFile({**recorder.object("http://127.0.0.1:9/", photo), key: value})
    with pytest.raises((TypeError, ValueError), match=f"^{key}"):
        task.result(PATIENCE)
    assert task.state == "failed"
    if key in ("success", "complete"):
        recorder.wait_for(lambda recorder: "fail" in recorder.kinds)
    else:
        assert recorder.kinds == ["fail", "complete"]
    (data, code), *_ = recorder.of("fail")
    assert code == 202
    assert data.startswith(key)
    assert "hunter" not in data


@pytest.mark.parametrize("path", ["video.mp4", "a:b.jpg", __file__, Path("video.mp4")])
def test_rule_1_swapped_values(path):
    """If filePath is a URL and url is none, the message says that they look swapped, and quotes neither."""
    recorder = RecordingCallbacks()
    uploadFile(recorder.object(path, "https://me:hunter@host/"))
    assert recorder.wait().code == 202
    (data, _), *_ = recorder.of("fail")
    assert data.startswith("url: ")
    assert data.endswith("; url and filePath look swapped: filePath is a URL")
    assert "hunter" not in data


@pytest.mark.parametrize("given", [None, "http://", ["url"], 5])
def test_rule_1_an_object_that_is_no_dict(given):
    """An object that is not a dict also fails with 202."""
    with pytest.raises(TypeError, match=r"^(OBJECT|url)"):
        uploadFile(given).result(PATIENCE)


def test_rule_1_a_fail_that_is_no_function(photo):
    """A fail that is not callable is a wrong value too; complete is called."""
    recorder = RecordingCallbacks()
    with pytest.raises(TypeError, match=r"^fail"):
        uploadFile(recorder.object("http://127.0.0.1:9/", photo, fail="no")).result(PATIENCE)
    assert recorder.kinds == ["complete"]


def test_rule_1_order_of_the_checks(photo):
    """Of several wrong values the first is named, in the order url, filePath, name, header, formData, timeout."""
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


def test_rule_1_order_of_the_other_keywords(photo):
    """The library's own keywords are checked after the original ones, in the order of their table."""
    wrong = {
        "timeout": "x",
        "fileName": 5,
        "contentType": 5,
        "client": 5,
        "scheduler": 5,
        "followRedirects": 5,
    }
    for key in list(wrong):
        with pytest.raises(TypeError, match=f"^{key}"):
            uploadFile(RecordingCallbacks().object("http://127.0.0.1:9/", photo, **wrong)).result(PATIENCE)
        del wrong[key]


def test_rule_1_callbacks_never_come_on_the_callers_stack(photo):
    """Callbacks of a wrong call come from another thread or, with a loop, in a later turn."""
    recorder = RecordingCallbacks()
    uploadFile(recorder.object("", photo))
    assert threading.current_thread().name not in recorder.wait().threads

    async def main() -> None:
        recorder = RecordingCallbacks()
        task = uploadFile(recorder.object("", photo), scheduler=AsyncIOScheduler(asyncio.get_running_loop()))
        assert not recorder.calls
        with pytest.raises(ValueError, match=r"^url"):
            await task
        assert recorder.kinds == ["fail", "complete"]
        assert recorder.idents == {threading.get_ident()}

    asyncio.run(main())


def test_rule_1_abort_of_a_wrong_call_does_nothing(photo):
    """The call has failed already, so abort cannot turn 202 into 1002."""
    recorder = RecordingCallbacks()
    uploadFile(recorder.object("", photo)).abort()
    assert recorder.wait().code == 202


def test_unknown_keys(photo):
    """An unknown key is a warning at the call that names a similar known key."""
    with pytest.warns(UserWarning, match="'filepath'; did you mean 'filePath'") as warned:
        task = uploadFile({"url": "http://127.0.0.1:9/", "filepath": str(photo), "name": "photo"})
    assert warned[0].filename == __file__
    with pytest.raises(TypeError, match=r"^filePath"):
        task.result(PATIENCE)


def test_an_unknown_key_without_a_similar_one(photo):
    """For an unknown key that resembles no known key, the warning makes no guess."""
    with pytest.warns(UserWarning, match="unknown key 'method'$"):
        uploadFile(url="", filePath=str(photo), name="photo", method="PUT")


def test_keywords_in_place_of_the_dict(photo):
    """The keys of OBJECT may also be keywords."""
    recorder = RecordingCallbacks()
    with Server(echo) as server:
        uploadFile(**recorder.object(server.url, photo)).result(PATIENCE)
    assert recorder.kinds == ["success", "complete"]


# Rule 2


def test_rule_2_order_after_success(photo):
    """The order is the last progress, headers, success, complete, each once; complete gets no argument."""
    recorder = RecordingCallbacks()
    with Server(echo) as server:
        task = start(recorder, server.url, photo)
        assert task.result(PATIENCE)["data"] == "thanks"
    assert recorder.kinds == ["progress", "headers", "success", "complete"]
    assert recorder.of("progress")[-1]["progress"] == 100
    assert recorder.of("complete") == [()]
    assert task.state == "done"


def test_rule_2_order_after_failure(film, server):
    """The order is progress, fail, complete, without headers and success."""
    recorder = RecordingCallbacks()
    task = start(recorder, server.url, film)
    under_way(server, recorder).reset()
    recorder.wait()
    assert recorder.kinds[-2:] == ["fail", "complete"]
    assert set(recorder.kinds[:-2]) == {"progress"}
    assert recorder.of("complete") == [()]
    assert task.state == "failed"


# Rule 3


def raising(kind: str, value: Any) -> None:
    raise (SystemExit if kind == "headers" else ZeroDivisionError)(kind)


def test_rule_3_callbacks_that_raise(photo, caplog):
    """Each exception is logged with its traceback, and the others still run, complete too."""
    recorder = RecordingCallbacks(then=raising)
    others = RecordingCallbacks()
    with caplog.at_level(logging.ERROR, "rxupload"), Server(echo) as server:
        task = start(recorder, server.url, photo)
        task.onProgressUpdate(others.progress)
        assert task.result(PATIENCE)["statusCode"] == 200
    assert recorder.kinds == ["progress", "headers", "success", "complete"]
    assert others.kinds == ["progress"]
    assert [record.name for record in caplog.records] == ["rxupload"] * 4
    assert [record.exc_info[1].args[0] for record in caplog.records] == recorder.kinds


def test_rule_3_fail_that_raises(photo, caplog):
    """The same holds after a failure."""
    recorder = RecordingCallbacks(then=raising)
    with pytest.raises(TypeError):
        uploadFile(recorder.object(5, photo)).result(PATIENCE)
    assert recorder.kinds == ["fail", "complete"]
    assert len(caplog.records) == 2


# Rule 4


@pytest.mark.parametrize("status", [200, 204, 304, 404, 500])
def test_rule_4_any_response_is_a_success(photo, status):
    """Even a 500 is a success: the caller reads statusCode."""
    recorder = RecordingCallbacks()
    with Server(lambda connection: connection.serve(status)) as server:
        start(recorder, server.url, photo)
        assert recorder.wait().res["statusCode"] == status


# Rule 5


def test_rule_5_timeout(film, server):
    """The limit in milliseconds covers the whole transfer, and fails with 204."""
    recorder = RecordingCallbacks()
    task = start(recorder, server.url, film, timeout=200)
    with pytest.raises(UploadTimeout, match=r"0\.2 s"):
        task.result(PATIENCE)
    assert recorder.code == 204


def test_rule_5_counted_from_the_queue(film, photo, server):
    """The time in the queue does not count."""
    uploadtask.configure(max_concurrent=1)
    first, second = RecordingCallbacks(), RecordingCallbacks()
    holder = start(first, server.url, film)
    server.next_request()
    task = start(second, server.url, photo, timeout=500)
    time.sleep(0.7)  # the time in the queue
    assert task.state == "queued"
    began = time.monotonic()
    holder.abort()
    assert second.wait().code == 204
    assert time.monotonic() - began >= 0.5


@pytest.mark.parametrize(
    ("timeout", "seconds"), [(None, 20), (0, None), (1500, 1.5), (0.5, 0.0005), (float("inf"), None)]
)
def test_rule_5_default_and_none(photo, timeout, seconds):
    """The default is 20 seconds, and 0 is no limit."""
    given = {"url": "http://127.0.0.1:9/", "filePath": str(photo), "name": "photo", "timeout": timeout}
    assert arguments.upload_of(given)._plan.timeout == seconds


def test_rule_5_is_the_only_limit(photo, server):
    """The default client's own limits do not apply."""
    up = arguments.upload_of({"url": server.url, "filePath": str(photo), "name": "photo", "timeout": 0})
    request = up._plan.client.build_request("POST", server.url)
    assert set(request.extensions["timeout"].values()) == {None}


# Rule 6


def test_rule_6_progress(film, server):
    """Percents of the body are whole and rising, never 0; 100 comes with the last byte, before headers."""
    recorder = RecordingCallbacks()
    began = time.monotonic()
    start(recorder, server.url, film)
    request = server.next_request()
    total = request.total
    for _ in range(6):
        count = len(recorder.sent)
        request.read(3 * MIB)
        recorder.wait_for(
            lambda recorder, count=count: len(recorder.sent) > count or recorder.sent[-1:] == [total]
        )
    request.read_all()
    recorder.wait_for(lambda recorder: recorder.sent[-1] == total)
    request.respond()
    recorder.wait()
    elapsed = time.monotonic() - began
    assert recorder.sent[0] > 0
    assert all(earlier < later for earlier, later in zip(recorder.sent, recorder.sent[1:], strict=False))
    for res in recorder.of("progress"):
        assert res["totalBytesExpectedToSend"] == total
        assert type(res["progress"]) is int
        assert res["progress"] == res["totalBytesSent"] * 100 // total
    assert [res["progress"] for res in recorder.of("progress")].count(100) == 1
    assert recorder.kinds[-4:] == ["progress", "headers", "success", "complete"]
    assert 4 <= len(recorder.sent) <= elapsed / 0.05 + 2


def test_rule_6_early_answer(film, server):
    """A server that answers early gives success without 100."""
    recorder = RecordingCallbacks()
    start(recorder, server.url, film)
    under_way(server, recorder).respond(413)
    assert recorder.wait().res["statusCode"] == 413
    assert recorder.of("progress")[-1]["progress"] < 100


def test_rule_6_empty_file(tmp_path):
    """An empty file has a body too, which reaches 100."""
    (tmp_path / "empty").touch()
    recorder = RecordingCallbacks()
    with Server(echo) as server:
        start(recorder, server.url, tmp_path / "empty")
        assert recorder.wait().of("progress")[-1]["progress"] == 100


def test_rule_6_last_event_of_a_slow_listener(film, server):
    """A listener that is slower than the events misses some, but gets the last."""
    go_on = threading.Event()
    recorder = RecordingCallbacks(then=lambda kind, value: go_on.wait(PATIENCE))
    start(recorder, server.url, film)
    request = server.next_request()
    request.read(2 * MIB)
    recorder.wait_for(lambda recorder: recorder.sent)
    for _ in range(5):
        request.read(3 * MIB)
        time.sleep(0.06)  # longer than the interval of events, so that some are missed
    request.read_all()
    request.respond()
    # The upload itself has ended, and all its events wait for the listener.
    wait_for_threads(lambda thread: thread.name == "rxupload upload")
    go_on.set()
    assert recorder.wait().of("progress")[-1]["progress"] == 100
    assert len(recorder.sent) == 2


def test_rule_6_unknown_size():
    """If the size is unknown, percent and total are 0."""
    recorder = RecordingCallbacks()
    with Server(echo) as server:
        task = upload(server.url, iter([b"a" * MIB])).start()
        task.onProgressUpdate(recorder.progress)
        task.result(PATIENCE)
    assert (
        recorder.of("progress")[-1]["progress"]
        == recorder.of("progress")[-1]["totalBytesExpectedToSend"]
        == 0
    )
    assert recorder.sent[-1] > MIB


# Rule 7


def test_rule_7_order_and_the_same_callback_twice(photo):
    """Listeners are called in order; an equal one counts once; removing an unknown one does nothing."""

    class Page:
        def listen(self, res: Any) -> None:
            heard.append("page")

    heard: list[str] = []
    page = Page()
    with SteppedServer() as server:
        recorder = RecordingCallbacks()
        task = uploadFile(recorder.object(server.url, photo))
        request = server.next_request()
        listeners = [lambda res, each=each: heard.append(each) for each in range(3)]
        task.offProgressUpdate()
        for listener in (listeners[2], page.listen, listeners[0], page.listen, listeners[1], listeners[2]):
            task.onProgressUpdate(listener)
        task.offProgressUpdate(print)
        task.offHeadersReceived(print)
        request.read_all()
        request.respond()
        recorder.wait()
    assert heard in ([2, "page", 0, 1], [2, "page", 0, 1] * 2)


def test_rule_7_off_with_none_removes_all(film, server):
    """`offProgressUpdate(None)` removes all listeners."""
    recorder, heard = RecordingCallbacks(), RecordingCallbacks()
    with held_back():
        task = start(recorder, server.url, film)
        task.onProgressUpdate(heard.progress)
        task.onHeadersReceived(heard.headers)
        task.offProgressUpdate(None)
        task.offHeadersReceived(None)
    request = server.next_request()
    request.read_all()
    request.respond()
    assert recorder.wait().kinds == ["success", "complete"]
    assert not heard.calls


def test_rule_7_removed_while_an_event_is_delivered(film, server):
    """A listener that is removed during an event does not get that event."""
    skipped = RecordingCallbacks()
    begun: Future[UploadTask] = Future()
    recorder = RecordingCallbacks(
        then=lambda kind, value: (
            kind == "progress" and begun.result(PATIENCE).offProgressUpdate(skipped.progress)
        )
    )
    task = start(recorder, server.url, film)
    task.onProgressUpdate(skipped.progress)
    begun.set_result(task)
    request = under_way(server, recorder)
    request.read_all()
    request.respond()
    recorder.wait()
    assert not skipped.calls


def test_rule_7_added_while_an_event_is_delivered(film, server):
    """A listener that is added during an event gets the next event and all that follow."""
    added = RecordingCallbacks()
    begun: Future[UploadTask] = Future()
    recorder = RecordingCallbacks(
        then=lambda kind, value: (
            kind == "progress" and begun.result(PATIENCE).onProgressUpdate(added.progress)
        )
    )
    begun.set_result(start(recorder, server.url, film))
    request = under_way(server, recorder)
    request.read_all()
    request.respond()
    recorder.wait()
    assert added.of("progress") == recorder.of("progress")[1:]
    assert added.of("progress")


def test_rule_7_a_listener_that_is_no_function_is_refused(photo):
    """A listener that is not callable is refused at the call."""
    task = uploadFile({})
    with pytest.raises(TypeError, match=r"^callback"):
        task.onProgressUpdate(None)  # type: ignore[arg-type]


def test_public_names():
    """`import rxupload` does not import `rxupload.uploadtask`."""
    script = "import sys, rxupload; print('rxupload.uploadtask' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "False\n"
    assert rxupload.UploadAborted is UploadAborted
