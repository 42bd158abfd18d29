"""The public types: checked by mypy and pyright, never run."""

import asyncio
import importlib.resources
import zipfile
from collections.abc import AsyncIterator, Generator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, assert_type
from uuid import UUID

import httpx
import httpx2
import numpy as np
import reactivex
from reactivex import Observable
from reactivex import operators as ops
from reactivex.subject import BehaviorSubject, Subject

import rxupload
from rxupload import Field, File, Progress, Upload, upload, upload_all

up = upload("https://example.org/", Path("beach.jpg"))

assert_type(up, Upload)
assert_type(up.run(), httpx.Response)
assert_type(up.progress, Observable[Progress])
assert_type(up.__await__(), Generator[Any, None, httpx.Response])
assert_type(rxupload.run(up.progress), Progress)
assert_type(rxupload.run(up), Progress | httpx.Response)

events: Observable[Progress | httpx.Response] = up
retried: Observable[Progress | httpx.Response] = up.pipe(ops.retry(3))
event: rxupload.UploadEvent = rxupload.run(retried)

progress = Progress(1, 2)
assert_type(progress.sent, int)
assert_type(progress.total, int | None)
assert_type(progress.attempt, int)
assert_type(progress.fraction, float | None)
assert_type(progress.percent, int | None)


async def awaited() -> None:
    """Awaiting an Upload gives its response."""
    assert_type(await up, httpx.Response)
    async for event in up:
        assert_type(event, Progress | httpx.Response)
    async for event in rxupload.stream(up.progress):
        assert_type(event, Progress)
    async with rxupload.stream(retried) as events:
        assert_type(await anext(events), Progress | httpx.Response)


upload("https://example.org/", b"bytes", "name", filename="n", content_type="text/plain", method="PUT")
upload(httpx.URL("https://example.org/"), [Path("a"), Path("b")])
upload(httpx.URL("https://example.org/"), ["a", "b"])
upload(httpx.URL("https://example.org/"), (File("a"), File(b"c", filename="c.txt")))
upload("https://example.org/", (piece for piece in [b"a"]), form_data={"a": "b", "c": [1, 2.0, True, b"d"]})
upload(
    "https://example.org/",
    (
        File("a", headers={"Content-ID": "1"}),
        Field("b", content_type="text/plain", headers=[("A", "b")], name="c"),
    ),
    form_data=[("a", "b"), ("c", [UUID(int=1), Decimal(1), date(2024, 2, 29)]), ("d", Field(np.int64(1)))],
)
fields: dict[str, str] = {"a": "b"}
pairs: list[tuple[str, int]] = [("a", 1)]
upload("https://example.org/", "a", form_data=fields)
upload("https://example.org/", "a", form_data=pairs)
upload("https://example.org/", "a", form_data={"a": np.float32(1), "b": Field(b"c")})
upload("https://example.org/", "a", form_data="a=b")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
upload("https://example.org/", "a", form_data={"a": None})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
upload("https://example.org/", File("a", content_type="a/b"), raw=True, method="PUT", content_type="")
upload("https://example.org/", lambda: iter([b"a"]), headers={"A": "b"}, timeout=5, progress_interval=0)
upload("https://example.org/", lambda: Path("a").open("rb"), headers=[("A", "b")], follow_redirects=True)
upload("https://example.org/", File(iter([b"abc"]), size=3), headers=httpx.Headers())
upload("https://example.org/", Path("a").open("rb"), client=httpx.Client())
upload("https://example.org/", bytearray(b"a"), client=httpx2.Client())
upload("https://example.org/", memoryview(b"a"), client=None)
upload("https://example.org/", "a", follow_redirects="same-origin", max_response_size=None)
upload("https://example.org/", "a", follow_redirects="no")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
upload("https://example.org/", "a", rate_limit=2e6, pause=Subject[bool]())
upload("https://example.org/", "a", rate_limit=reactivex.of(1, 2), pause=reactivex.of(True))
upload("https://example.org/", "a", rate_limit=Subject[float]())
upload_all(
    [up, retried], rate_limit=BehaviorSubject[float | None](None), pause=up.progress.pipe(ops.map(bool))
)
upload_all([up], concurrency=2, rate_limit=1)

chunks: Observable[bytes] = reactivex.of(b"a", b"b")
views: Subject[memoryview] = Subject()
upload("https://example.org/", chunks)
upload("https://example.org/", (views, File(chunks, size=2), "a"))


class Download:
    """A file object whose `read` is a coroutine."""

    async def read(self, size: int = -1) -> bytes:
        """Read."""
        return b"a" * size


async def pieces() -> AsyncIterator[bytes]:
    """Give bytes."""
    yield b"a"


async def opened_for_each_pass() -> Download:
    """Open."""
    return Download()


upload("https://example.org/", pieces)
upload("https://example.org/", (pieces(), File(Download(), size=1), opened_for_each_pass, pieces))
upload("https://example.org/", asyncio.StreamReader())
upload("https://example.org/", zipfile.Path("a.zip", "b.txt"))
upload("https://example.org/", importlib.resources.files("rxupload") / "py.typed")
text: Observable[str] = reactivex.of("a")
upload("https://example.org/", text)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def sign(request: httpx.Request) -> httpx.Request:
    """An auth may be a function."""
    return request


upload("https://example.org/", "a", auth=("user", b"password"))
upload("https://example.org/", "a", auth=sign)
upload("https://example.org/", "a", auth=httpx.DigestAuth("user", "password"))
upload("https://example.org/", "a", auth=httpx2.BasicAuth("user", "password"), client=httpx2.Client())
upload("https://example.org/", "a", auth="user")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

assert_type(rxupload.uploadtask.uploadFile(url="a", filePath="b", name="c"), rxupload.uploadtask.UploadTask)
with rxupload.receiver.running() as address:
    assert_type(address, str)
assert_type(up.pipe(rxupload.operators.of_type(Progress)), Observable[Progress])

client = rxupload.Client(
    auth=("user", b"password"),
    params={"a": 1, "b": ["c", "d"]},
    headers={"A": "b"},
    cookies={"a": "b"},
    verify=False,
    cert=("cert.pem", "key.pem"),
    trust_env=False,
    http1=True,
    http2=True,
    proxy=httpx.Proxy("http://example.org:3128"),
    mounts={"all://": httpx.HTTPTransport(), "all://localhost": None},
    timeout=httpx.Timeout(5),
    follow_redirects=True,
    limits=httpx.Limits(max_connections=5),
    max_redirects=5,
    event_hooks={"request": [print], "response": [print]},
    base_url="https://example.org/",
    default_encoding=lambda content: "utf-8",
)
with client as opened:
    assert_type(opened, rxupload.Client)
as_httpx: httpx.Client = client
upload("photos", "a", client=client)
rxupload.Client(
    auth=sign, headers=[("A", "b")], cookies=httpx.Cookies(), timeout=None, proxy="socks5://localhost"
)
rxupload.Client(auth=httpx.DigestAuth("user", "password"), params="a=b", timeout=5, verify="ca.pem")
rxupload.Client(params=[("a", 1)], timeout=(5, None, 5, None), transport=None)
rxupload.Client(transport=rxupload.UploadTransport())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
rxupload.Client(no_such=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
