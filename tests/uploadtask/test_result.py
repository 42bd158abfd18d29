"""`result`, `await`, `events` and `state`."""

from __future__ import annotations

import asyncio

import pytest
from support.notebook_kernel import run_cells
from support.recording_callbacks import RecordingCallbacks
from support.recording_observer import observe
from support.running_tasks import awaited, start, under_way
from support.scripted_server import PATIENCE
from support.stepped_server import SteppedServer

from rxupload import uploadtask
from rxupload.uploadtask import uploadFile


def test_result_times_out(photo, server):
    """A wait that times out raises TimeoutError, and the upload continues."""
    recorder = RecordingCallbacks()
    task = start(recorder, server.url, photo)
    request = server.next_request()
    for timeout in (0, 0.3):
        with pytest.raises(TimeoutError):
            task.result(timeout)
    request.read_all()
    request.respond()
    assert task.result(PATIENCE)["statusCode"] == 200


@pytest.mark.parametrize(
    ("timeout", "error"),
    [("5", TypeError), (True, TypeError), (b"", TypeError), (float("nan"), ValueError)],
)
def test_a_wrong_timeout_of_result_names_it(photo, server, timeout, error):
    """A wrong timeout is an error that names the argument, and the upload continues."""
    recorder = RecordingCallbacks()
    task = start(recorder, server.url, photo)
    with pytest.raises(error, match=r"^timeout: .* a number of seconds or None"):
        task.result(timeout)
    request = server.next_request()
    request.read_all()
    request.respond()
    assert task.result(10**400)["statusCode"] == 200


def test_state(film, server):
    """The states are queued, uploading, waiting for the response, done."""
    uploadtask.configure(max_concurrent=1)
    recorder, held = RecordingCallbacks(), RecordingCallbacks()
    holder = start(held, server.url, film)
    server.next_request()
    task = start(recorder, server.url, film)
    assert task.state == "queued"
    holder.abort()
    request = under_way(server, recorder)
    assert task.state == "uploading"
    request.read_all()
    recorder.wait_for(lambda recorder: recorder.of("progress")[-1]["progress"] == 100)
    assert task.state == "waiting"
    request.respond()
    task.result(PATIENCE)
    assert task.state == "done"
    held.wait()


def test_a_cancelled_await_leaves_the_upload_running(photo, server):
    """Others may still wait for the upload; abort() stops it."""

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


def test_events_without_observers_abort_nothing(film, server):
    """Disposing a subscription to `events` aborts nothing; an observer that raises stops nothing."""
    recorder = RecordingCallbacks()
    task = start(recorder, server.url, film)
    _, gone = observe(task.events)
    request = under_way(server, recorder)
    gone.dispose()
    request.read_all()
    request.respond()
    assert recorder.wait().res["statusCode"] == 200


def test_jupyter():
    """In a kernel, callbacks come on its loop, and a task can be awaited, and aborted from another cell."""
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
