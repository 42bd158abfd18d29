"""The types of the callback API: checked by mypy and pyright, never run.

Each `type: ignore` here is a mistake that both checkers must find, such as a misspelt key; they report it if it is
not needed.
"""
# pyright: reportUnnecessaryTypeIgnoreComment=true

import asyncio
from collections.abc import Generator
from typing import Any, Literal, assert_type

import httpx
import httpx2
from reactivex import Observable
from reactivex.scheduler.eventloop import AsyncIOScheduler

import rxupload
from rxupload import upload
from rxupload.uploadtask import (
    HeadersUpdate,
    ProgressUpdate,
    UploadFileObject,
    UploadResult,
    UploadTask,
    configure,
    uploadFile,
)


def on_success(res: UploadResult) -> None:
    """The keys of a response."""
    assert_type(res["statusCode"], int)
    assert_type(res["data"], str)
    assert_type(res["headers"], dict[str, str | list[str]])
    assert_type(res["url"], str)


def on_progress(res: ProgressUpdate) -> None:
    """The keys of a progress event."""
    assert_type(res["progress"] + res["totalBytesSent"] + res["totalBytesExpectedToSend"], int)
    res["total"]  # type: ignore[typeddict-item]


def on_headers(res: HeadersUpdate) -> None:
    """The keys of a headers event."""
    assert_type(res["headers"], dict[str, str | list[str]])


task = uploadFile({"url": "https://example.org/", "filePath": "a", "name": "file"})
assert_type(task, UploadTask)
assert_type(upload("https://example.org/", "a").start(), UploadTask)
assert_type(task.abort(), None)
assert_type(task.onProgressUpdate(on_progress), None)
assert_type(task.offProgressUpdate(on_progress), None)
assert_type(task.offProgressUpdate(), None)
assert_type(task.onHeadersReceived(on_headers), None)
assert_type(task.offHeadersReceived(), None)
assert_type(task.result(), UploadResult)
assert_type(task.result(timeout=5), UploadResult)
assert_type(task.__await__(), Generator[Any, None, UploadResult])
assert_type(task.events, Observable[rxupload.UploadEvent])
state: Literal["queued", "uploading", "waiting", "done", "failed", "aborted"] = task.state

given: UploadFileObject = {
    "url": "https://example.org/",
    "filePath": "internal://mass/a",
    "name": "file",
    "header": {"A": "b", "C": 1, "D": 1.5},
    "formData": {"a": "b", "c": 1, "d": 1.5, "e": True, "f": None},
    "timeout": 1000,
    "success": on_success,
    "fail": lambda data, code: print(data.upper(), code + 1),
    "complete": lambda: None,
}
uploadFile(given, fileName="b", contentType="text/plain", client=httpx.Client())
uploadFile(url="https://example.org/", filePath="a", name="file", success=on_success, client=httpx2.Client())
uploadFile({"url": "a", "filePath": "b", "name": "c", "success": lambda res: print(res["statusCode"] + 1)})
uploadFile(given, followRedirects=False)
uploadFile(url="https://example.org/", filePath="a", name="file", followRedirects="same-origin")
configure(max_concurrent=3, internal_root="/tmp")


async def on_success_later(res: UploadResult) -> None:
    """A callback may be asynchronous."""
    await asyncio.sleep(res["statusCode"])


async def on_a_loop() -> None:
    """Awaiting a task gives what success gets."""
    scheduler = AsyncIOScheduler(asyncio.get_running_loop())
    uploadFile(
        url="https://example.org/", filePath="a", name="file", success=on_success_later, scheduler=scheduler
    )
    assert_type(await uploadFile(given, scheduler=scheduler), UploadResult)


# Mistakes
uploadFile({"url": "a", "filepath": "b", "name": "c"})  # type: ignore[call-overload]
uploadFile({"url": "a", "filePath": "b", "name": "c", "sucess": on_success})  # type: ignore[call-overload]
uploadFile({"url": "a", "filePath": "b"})  # type: ignore[call-overload]
uploadFile(url="a", filepath="b", name="c")  # type: ignore[call-overload]
uploadFile({"url": "a", "filePath": "b", "name": "c", "timeout": "1"})  # type: ignore[call-overload]
uploadFile({"url": "a", "filePath": "b", "name": "c"}, filename="d")  # type: ignore[call-overload]
uploadFile(given, followRedirects="same_origin")  # type: ignore[call-overload]
task.onProgressUpdate(on_headers)  # type: ignore[arg-type]
