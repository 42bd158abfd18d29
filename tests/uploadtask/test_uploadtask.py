"""The callback API over real sockets, each rule under its number: the examples, arguments, the order of callbacks."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from reactivex.scheduler.eventloop import AsyncIOScheduler
from support.recording_callbacks import RecordingCallbacks
from support.running_tasks import MIB, echo, start, under_way
from support.scripted_server import PATIENCE, Server
from support.stepped_server import SteppedServer

import rxupload
from rxupload import UploadAborted, UploadTimeout, upload, uploadtask
from rxupload.uploadtask import arguments, uploadFile

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
    assert json.loads(printed) == {
        "statusCode": 200,
        "data": "thanks",
        "headers": {"Content-Length": "6"},
        "url": server.url,
    }


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
    ("followRedirects", "no"),
    ("followRedirects", "same_origin"),
    ("followRedirects", 1),
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


def test_rule_1_order_of_the_other_keywords(photo):
    """Those that the original does not have come after its own, in the order of their table."""
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
    """An unknown key is a warning that names the known one that is like it, and points to the call."""
    with pytest.warns(UserWarning, match="'filepath'; did you mean 'filePath'") as warned:
        task = uploadFile({"url": "http://127.0.0.1:9/", "filepath": str(photo), "name": "photo"})
    assert warned[0].filename == __file__
    with pytest.raises(TypeError, match=r"^filePath"):
        task.result(PATIENCE)


def test_unknown_key_that_is_like_none(photo):
    """A key that is like none of the known ones is no slip of the pen, and the warning guesses at none."""
    with pytest.warns(UserWarning, match="unknown key 'method'$"):
        uploadFile(url="", filePath=str(photo), name="photo", method="PUT")


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


def test_public_names():
    """`import rxupload` does not import `rxupload.uploadtask`."""
    script = "import sys, rxupload; print('rxupload.uploadtask' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "False\n"
    assert rxupload.UploadAborted is UploadAborted
