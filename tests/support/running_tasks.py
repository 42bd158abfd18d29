"""Running tasks for the tests, and servers for them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from support.recording_callbacks import RecordingCallbacks
from support.stepped_server import SteppedServer, Stepper

from rxupload._task import queue
from rxupload.testing import Connection
from rxupload.uploadtask import UploadTask, uploadFile

MIB = 1 << 20


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Hold back the tasks that are made in the block until its end, so that no event comes before their listeners."""
    limit, queue.uploads.limit = queue.uploads.limit, 0
    try:
        yield
    finally:
        queue.uploads.limit = limit
        queue.uploads.advance()


def start(recorder: RecordingCallbacks, url: str, path: Any, **more: Any) -> UploadTask:
    """Start an upload with all listeners."""
    with held_back():
        task = uploadFile(recorder.object(url, path, **more))
        task.onProgressUpdate(recorder.progress)
        task.onHeadersReceived(recorder.headers)
    return task


def under_way(server: SteppedServer, recorder: RecordingCallbacks) -> Stepper:
    """Let the server read some, and wait until the progress says so. An earlier event tells what the system buffers."""
    request = server.next_request()
    count = request.read(2 * MIB)
    recorder.wait_for(lambda recorder: recorder.sent and recorder.sent[-1] >= count)
    return request


def echo(connection: Connection) -> None:
    connection.serve(200, b"thanks", "Connection: close")


async def awaited(task: UploadTask) -> Any:
    return await task
