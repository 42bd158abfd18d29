"""What type checkers must say of `rxupload.resumable`. It is checked, and never run."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

import httpx
import reactivex
from reactivex import Observable

import rxupload
from rxupload import Progress, Upload
from rxupload.operators import progress_bar, raise_for_status, retry_backoff
from rxupload.resumable import (
    FileStore,
    MemoryStore,
    Outcome,
    ResumableUpload,
    Tus,
    upload_resumable,
)

up = upload_resumable("https://h/", "video.mp4")
assert_type(up, ResumableUpload)
upload: Upload = up
assert_type(up.discard(), Observable[httpx.Response | None])
assert_type(up.run(), httpx.Response)
rxupload.run(up.pipe(retry_backoff(attempts=8), progress_bar(), raise_for_status()))

upload_resumable(
    httpx.URL("https://h/"), Path("a"), protocol=Tus(checksum=None, parallel=4), store=FileStore()
)
upload_resumable("https://h/", b"data", metadata={"a": "b", "c": b"d"}, store=MemoryStore(), verify="content")
upload_resumable("https://h/", [b"data"], headers={"a": "b"}, chunk_size=1 << 20, client=httpx.Client())
upload_resumable("https://h/", reactivex.of(b"data"), headers=lambda: {"a": "b"}, chunk_size=1 << 20)
upload_resumable("https://h/", "a", verify="size")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
upload_resumable("https://h/", "a", "b")  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]

assert_type(Progress(1, 2).start, int)


def outcome(found: Outcome) -> None:
    assert_type(found.url, str | None)
    assert_type(found.resumed_at, int)
    assert_type(found.sent_now, int)
