"""Running tasks for the tests, and servers for them."""

from __future__ import annotations

from typing import Any

from support.recording_callbacks import RecordingCallbacks
from support.stepped_server import SteppedServer, Stepper

from rxupload.testing import Connection
from rxupload.uploadtask import UploadTask, uploadFile

MIB = 1 << 20


def start(recorder: RecordingCallbacks, url: str, path: Any, **more: Any) -> UploadTask:
    """Start an upload with all listeners."""
    task = uploadFile(recorder.object(url, path, **more))
    task.onProgressUpdate(recorder.progress)
    task.onHeadersReceived(recorder.headers)
    return task


def under_way(server: SteppedServer, recorder: RecordingCallbacks) -> Stepper:
    """Let the server read until there has been progress."""
    request = server.next_request()
    request.read(2 * MIB)
    recorder.wait_for(lambda recorder: recorder.sent)
    return request


def echo(connection: Connection) -> None:
    connection.serve(200, b"thanks", "Connection: close")


async def awaited(task: UploadTask) -> Any:
    return await task
