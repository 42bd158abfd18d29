"""Tasks that a test starts, and servers for them."""

from __future__ import annotations

from typing import Any

from support.recording_callbacks import RecordingCallbacks
from support.scripted_server import Connection
from support.stepped_server import SteppedServer, Stepper

from rxupload.uploadtask import UploadTask, uploadFile

MIB = 1 << 20


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


async def awaited(task: UploadTask) -> Any:
    return await task
