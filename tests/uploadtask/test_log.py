"""What a task says of itself: its repr, and what the log has of callbacks that raise and of errors that nobody saw."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import subprocess
import sys
import threading
import warnings
from typing import Any

import httpx
import pytest
from reactivex.scheduler.eventloop import AsyncIOScheduler
from support.recording_callbacks import RecordingCallbacks
from support.running_tasks import MIB, awaited, echo, held_back
from support.scripted_server import PATIENCE, Server
from support.threads import wait_for_threads

from rxupload import upload
from rxupload._task.queue import uploads
from rxupload._wait import Latch
from rxupload.uploadtask import UploadTask, uploadFile

REFUSED = "http://127.0.0.1:1/photos"


# repr


def test_repr_says_state_file_and_address(film, server):
    """The repr has the state, the file and the address, without what may be secret."""
    url = server.url.replace("//", "//user:secret@") + "photos?token=secret#secret"
    task = uploadFile(url=url, filePath=str(film), name="a")
    request = server.next_request()
    shown = f"{film} to {server.url}photos"
    assert repr(task) == f"<UploadTask uploading: {shown}>"
    request.read_all()
    request.respond()
    task.result(PATIENCE)
    assert repr(task) == f"<UploadTask done: {shown}>"


def test_repr_of_the_task_of_upload_start(photo):
    """It is the same for `Upload.start`. Of many files it names the first."""
    with Server(echo) as server:
        one = upload(server.url, photo).start()
        many = upload(server.url, [photo, b"a", b"b"]).start()
        one.result(PATIENCE)
        many.result(PATIENCE)
        assert repr(one) == f"<UploadTask done: beach.jpg to {server.url}>"
        assert repr(many) == f"<UploadTask done: beach.jpg and 2 more to {server.url}>"


@pytest.mark.parametrize(
    "url", ["user:secret@host/", "ftp://user:secret@host/", "http://user:sec#ret@host/", "", None, 7]
)
def test_repr_of_a_wrong_call(photo, url):
    """An address that is refused is not shown: it may have a secret anywhere."""
    task = uploadFile(url=url, filePath=str(photo), name="a", fail=print)
    assert repr(task) == f"<UploadTask failed: {photo} to an invalid address>"
    task.ended.wait()


@pytest.mark.parametrize("path", ["", None, 7])
def test_repr_without_a_file(path):
    """A call without a path says so."""
    task = uploadFile(url=REFUSED, filePath=path, name="a", fail=print)
    assert repr(task) == f"<UploadTask failed: no file to {REFUSED}>"
    task.ended.wait()


# Callbacks that raise


def on_done(_: object = None, *_more: object) -> None:
    raise ZeroDivisionError("on_done")


class Screen:
    """An object with callbacks."""

    def show(self, _: object) -> None:
        raise ZeroDivisionError("show")

    def __call__(self, *_: object) -> None:
        raise ZeroDivisionError("screen")

    def __repr__(self) -> str:
        return "<Screen>"


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (on_done, "on_done"),
        (Screen().show, "Screen.show"),
        (Screen(), "<Screen>"),
        (functools.partial(on_done, 1), "functools.partial(<function on_done at "),
    ],
    ids=["function", "method", "object", "partial"],
)
@pytest.mark.parametrize("event", ["success", "onProgressUpdate", "onHeadersReceived"])
def test_the_log_names_the_callback_and_the_file(photo, caplog, function, name, event):
    """The log says which callback of which upload raised, with its traceback."""
    with Server(echo) as server:
        task = uploadFile(
            url=server.url.replace("//", "//user:secret@"),
            filePath=str(photo),
            name="a",
            success=function if event == "success" else None,
        )
        if event != "success":
            getattr(task, event)(function)
        task.result(PATIENCE)
        (record,) = caplog.records
        text = record.getMessage()
        assert text.startswith(f"The upload of {photo} to {server.url}: the {event} callback {name}")
        assert text.endswith(" raised")
        assert isinstance(record.exc_info[1], ZeroDivisionError)


def test_the_log_names_fail(photo, caplog):
    """`fail` is named as the caller's function, although its arguments are made in between."""
    with pytest.raises(ValueError, match="name"):
        uploadFile(url=REFUSED, filePath=str(photo), name="", fail=on_done).result(PATIENCE)
    (record,) = caplog.records
    assert record.getMessage() == f"The upload of {photo} to {REFUSED}: the fail callback on_done raised"


def test_a_listener_that_raises_each_time_is_logged_once(film, server, caplog):
    """A listener that raises each time is called each time, and is in the log once; so is each other one."""
    calls: list[Any] = []

    def raise_each_time(res: Any) -> None:
        calls.append(res)
        raise ZeroDivisionError

    recorder = RecordingCallbacks()
    with held_back():
        task = uploadFile(recorder.object(server.url, film))
        task.onProgressUpdate(raise_each_time)
        task.onProgressUpdate(on_done)
        task.onProgressUpdate(recorder.progress)
        task.events.subscribe(on_done)
    request = server.next_request()
    for count in range(1, 4):
        request.read(4 * MIB)
        recorder.wait_for(lambda recorder, count=count: len(recorder.sent) >= count)
    request.read_all()
    request.respond()
    recorder.wait()
    assert len(calls) == len(recorder.sent) > 3
    events = [record.getMessage().split(": the ")[1] for record in caplog.records]
    assert sorted(events) == [
        "events callback of an observer raised",
        "onProgressUpdate callback on_done raised",
        f"onProgressUpdate callback {raise_each_time.__qualname__} raised",
    ]


# Errors that nobody has looked at


def lost(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What the log has after the garbage collector has run."""
    wait_for_threads(lambda thread: thread.name == "rxupload upload")
    finish_errands()  # the errand thread keeps a task until it has its error
    gc.collect()
    finish_errands()
    return [record for record in caplog.records if "nobody looked" in record.getMessage()]


def finish_errands() -> None:
    is_done = Latch()
    uploads.do(is_done.set)
    assert is_done.wait()


def wait_for_end(task: UploadTask) -> None:
    """Wait until the last callback of a task has returned, and the thread that has called it keeps the task no more."""
    task.ended.wait()
    task._queue.run(lambda: None)


def ended(**more: Any) -> UploadTask:
    """A task that has failed, and whose last callback has returned."""
    task = uploadFile(**{"url": REFUSED, "filePath": __file__, "name": "a", **more})
    wait_for_end(task)
    return task


@pytest.mark.parametrize("more", [{}, {"name": ""}, {"filePath": "missing"}, {"complete": print}], ids=str)
def test_an_error_that_nobody_saw_is_logged(caplog, more):
    """The error of a task that is dropped is logged, with the file and the address."""
    ended(**more)
    (record,) = lost(caplog)
    path = more.get("filePath", __file__)
    first, *rest = record.getMessage().splitlines()
    assert first == f"The upload of {path} to {REFUSED} failed, and nobody looked at its outcome"
    assert rest[-1].partition(": ")[0] in ("httpx.ConnectError", "ValueError", "FileNotFoundError")
    assert record.levelno == logging.ERROR


def test_it_is_logged_only_when_the_task_is_dropped(caplog):
    """Whoever keeps the task may still ask."""
    task = ended()
    assert not lost(caplog)
    with pytest.raises(Exception, match="refused"):
        task.result()
    del task
    assert not lost(caplog)


def test_a_wait_that_expires_looks_at_nothing(film, server, caplog):
    """`result()` with a time limit that passes has not told the error."""
    task = uploadFile(url=server.url, filePath=str(film), name="a")
    request = server.next_request()
    with pytest.raises(TimeoutError):
        task.result(0)
    request.reset()
    wait_for_end(task)
    del task
    assert len(lost(caplog)) == 1


@pytest.mark.parametrize(
    "look",
    [
        UploadTask.result,
        lambda task: asyncio.run(awaited(task)),
        lambda task: task.events.subscribe(print, on_error=print),
    ],
    ids=["result", "await", "events"],
)
def test_whoever_looks_is_told(caplog, look):
    """An error that was looked at is not logged."""
    task = ended()
    with contextlib.suppress(httpx.ConnectError):
        look(task)
    del task
    assert not lost(caplog)


def test_fail_is_told(caplog):
    """With `fail` the error was told, and so it was where `fail` raises."""
    ended(fail=print)
    ended(fail=on_done)
    assert not lost(caplog)


def test_an_asynchronous_fail_without_a_loop_is_not_told(caplog):
    """A `fail` that could not be called has told nobody."""

    async def fail(data: str, code: int) -> None: ...

    ended(fail=fail)
    (record,) = lost(caplog)
    assert "fail: an asynchronous function needs a loop" in record.getMessage()


def test_success_and_abort_are_no_errors(photo, film, server, caplog):
    """Neither a success nor an abort is logged."""
    with Server(echo) as echoing:
        task = uploadFile(url=echoing.url, filePath=str(photo), name="a")
        wait_for_end(task)
    task = uploadFile(url=server.url, filePath=str(film), name="a")
    server.next_request()
    task.abort()
    wait_for_end(task)
    del task
    assert not lost(caplog)


def test_on_a_loop(caplog):
    """It is the same on a loop."""

    async def main() -> None:
        task = uploadFile(
            url=REFUSED, filePath=__file__, name="a", scheduler=AsyncIOScheduler(asyncio.get_running_loop())
        )
        await asyncio.to_thread(task.ended.wait)

    asyncio.run(main())
    assert len(lost(caplog)) == 1


def test_it_is_logged_on_a_thread_of_its_own(caplog):
    """A handler of the log is not called wherever the garbage collector happens to run."""
    ended()
    (record,) = lost(caplog)
    assert record.threadName == "rxupload errands"
    assert record.thread != threading.get_ident()


SCRIPT = """
import sys
from rxupload import upload
from rxupload.uploadtask import uploadFile

def main():
    uploadFile(url=sys.argv[1], filePath=__file__, name="dropped")
    uploadFile(url="", filePath=__file__, name="wrong")

main()
kept = uploadFile(url=sys.argv[1], filePath=__file__, name="kept")
"""


def test_at_the_end_of_a_script(tmp_path):
    """A script that ends without a look at its tasks has their errors on its standard error."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-X", "dev", str(script), REFUSED], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert done.stderr.count(f"The upload of {script} to {REFUSED} failed, and nobody looked") == 2
    assert done.stderr.count("to an invalid address failed, and nobody looked") == 1
    assert done.stderr.count("Connection refused") >= 2
    assert "Exception ignored" not in done.stderr


# Unknown keys


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("filepath", "filePath"),
        ("file_path", "filePath"),
        ("URL", "url"),
        ("headers", "header"),
        ("form_data", "formData"),
        ("formdata", "formData"),
        ("sucess", "success"),
        ("onComplete", "complete"),
        ("Timeout", "timeout"),
        ("follow_redirects", "followRedirects"),
        ("file", None),
        ("files", None),
        ("data", None),
        ("uri", None),
        ("method", None),
        ("path", None),
        ("type", None),
        ("user", None),
        ("enableHttp2", None),
        (7, None),
    ],
)
def test_did_you_mean(key, meant):
    """A warning names a known key only where that is close to the unknown one."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        uploadFile({key: None, "fail": print}).ended.wait()
    (warning,) = caught
    hint = f"; did you mean {meant!r}?" if meant else ""
    assert str(warning.message) == f"uploadFile: unknown key {key!r}{hint}"
