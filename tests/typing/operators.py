"""The types of the operators and of batches: checked by mypy and pyright, never run."""

from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, Literal, assert_type

import httpx
from reactivex import Observable

import rxupload
from rxupload import (
    BatchEvent,
    BatchProgress,
    BatchSummary,
    ItemDone,
    ItemFailed,
    ItemProgress,
    Progress,
    UploadAll,
    UploadEvent,
    upload,
    upload_all,
)
from rxupload.operators import (
    Throughput,
    of_type,
    progress_bar,
    raise_for_status,
    record,
    retry_backoff,
    throughput,
    verify_digest,
)

up = upload("https://example.org/", Path("beach.jpg"))

assert_type(up.pipe(of_type(Progress)), Observable[Progress])
assert_type(up.pipe(of_type(httpx.Response)), Observable[httpx.Response])
assert_type(up.pipe(raise_for_status()), Observable[Progress | httpx.Response])
assert_type(up.pipe(retry_backoff()), Observable[Progress | httpx.Response])
assert_type(up.pipe(progress_bar(desc="beach.jpg")), Observable[Progress | httpx.Response])
rows: list[dict[str, Any]] = []
assert_type(up.pipe(record(rows)), Observable[Progress | httpx.Response])
assert_type(up.pipe(retry_backoff(), raise_for_status(), of_type(Progress)), Observable[Progress])
assert_type(rxupload.run(up.pipe(retry_backoff(), of_type(httpx.Response))), httpx.Response)

rates = up.pipe(throughput())
assert_type(rates.pipe(of_type(Throughput)), Observable[Throughput])
rate: Throughput | Progress | httpx.Response = rxupload.run(rates)
timed = Throughput(Progress(1, 2), 3.0, None)
assert_type(timed.progress, Progress)
assert_type(timed.bytes_per_second, float)
assert_type(timed.seconds_left, float | None)

up.pipe(retry_backoff(attempts=3, wait_initial=1, wait_max=60, wait_jitter=0.5, on=OSError))
up.pipe(retry_backoff(on=(OSError, httpx.TransportError)))
up.pipe(retry_backoff(on=lambda error: isinstance(error, OSError)))
up.pipe(retry_backoff(on_retry=lambda retry: print(retry.attempt, retry.error, retry.wait)))

assert_type(up.pipe(verify_digest()), Observable[UploadEvent])
up.pipe(verify_digest(lambda response: response.json()["files"][0]["sha256"]))
up.pipe(verify_digest(lambda response: [file["sha256"] for file in response.json()["files"]]))


def uploads() -> Iterator[Observable[UploadEvent]]:
    """Uploads, with operators and without."""
    yield up
    yield up.pipe(retry_backoff(), raise_for_status())


batch = upload_all(uploads(), concurrency=2)
assert_type(batch, UploadAll)
assert_type(batch.run(), BatchSummary)
assert_type(batch.__await__(), Generator[Any, None, BatchSummary])
assert_type(
    rxupload.run(batch.pipe(progress_bar())),
    ItemProgress | ItemDone | ItemFailed | BatchProgress | BatchSummary,
)
assert_type(batch.pipe(of_type(ItemFailed)), Observable[ItemFailed])
event: BatchEvent = rxupload.run(batch.pipe(of_type(BatchProgress)))
upload_all([up], total=5)
upload_all(upload("https://example.org/", path) for path in Path().iterdir())
upload_all(up.pipe(retry_backoff()) for _ in range(3))

task = batch.start(scheduler=None)
assert_type(task, rxupload.BatchTask)
assert_type(task.result(timeout=5), BatchSummary)
assert_type(task.__await__(), Generator[Any, None, BatchSummary])
assert_type(task.events, Observable[BatchEvent])
assert_type(task.abort(), None)
state: Literal["running", "done", "failed", "aborted"] = task.state

done = ItemDone(0, up, httpx.Response(200))
assert_type(done.index, int)
assert_type(done.upload, Observable[Progress | httpx.Response])
assert_type(done.response, httpx.Response)
assert_type(ItemProgress(0, up, Progress(1, 2)).progress, Progress)
assert_type(ItemFailed(0, up, OSError()).error, Exception)
assert_type(BatchProgress(1, 0, 2, 3, None).total, int | None)
assert_type(BatchProgress(1, 0, 2, 3, None, 4).count, int | None)
summary = batch.run()
assert_type(summary.statuses, Counter[int])
assert_type(summary.errors, list[ItemFailed])
assert_type(summary.seconds, float)


async def awaited() -> None:
    """Awaiting a batch gives its summary."""
    assert_type(await batch, BatchSummary)
    async for each in batch:
        assert_type(each, ItemProgress | ItemDone | ItemFailed | BatchProgress | BatchSummary)
