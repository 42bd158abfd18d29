"""The README: its examples run unchanged, and its commands are where `.ci/run` looks for them."""

from __future__ import annotations

import ast
import asyncio
import datetime as dt
import hashlib
import inspect
import json
import os
import random
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import httpx
import pytest
from reactivex.testing import TestScheduler
from support.scripted_server import PATIENCE, Server, header

from rxupload import receiver
from rxupload._threads import retire_idle
from rxupload.testing import Connection

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
RECIPES: dict[str, str] = dict(
    re.findall(
        r"^\*\*(.*?)\.\*\*.*?^```python\n(.*?)^```$",
        README.partition("\n## Recipes\n")[2].partition("\n## ")[0],
        re.DOTALL | re.MULTILINE,
    )
)


@pytest.fixture
def in_folder_with_photo(tmp_path, monkeypatch):
    """A working directory with the photo that the examples upload."""
    monkeypatch.chdir(tmp_path)
    Path("beach.jpg").write_bytes(bytes(1 << 20))


def test_examples(in_folder_with_photo, capfd):
    """The examples run one after the other, with the receiver instead of port 8000."""
    names: dict[str, object] = {}

    async def run(source: str) -> None:
        code = compile(source, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        result = eval(code, names)
        if inspect.iscoroutine(result):
            await result

    with receiver.running() as url:
        others = set(threading.enumerate())
        for example in EXAMPLES:
            asyncio.run(run(example.replace("http://127.0.0.1:8000/", url)))
            assert names.get("error") is None
            if "watching" in names:
                stop_watcher(names)
            retire_idle()
            for thread in set(threading.enumerate()) - others:
                # Threads of an upload that the example left running; not those of tqdm, the receiver or the errands.
                if type(thread) is threading.Thread and not thread.name.startswith(
                    ("asyncio", "rxupload errands")
                ):
                    thread.join(10)
        assert names["response"].status_code == 200
    names["client"].close()
    assert "answered 200" in capfd.readouterr().out


class Recipe:
    """A recipe of the README, run alone in its own namespace, with its output in a queue."""

    def __init__(self, title: str) -> None:
        self.printed: SimpleQueue[str] = SimpleQueue()
        self.names: dict[str, Any] = {"print": self._print}
        self._source = RECIPES[title]

    def _print(self, *values: object, end: str = "\n") -> None:
        self.printed.put(" ".join(map(str, values)))

    def run(self, url: str, second_url: str = "") -> Recipe:
        """Run the recipe unchanged, with these servers instead of ports 8000 and 8001."""
        source = self._source.replace("http://127.0.0.1:8000/", url)
        if second_url:
            source = source.replace("http://127.0.0.1:8001/", second_url)
        exec(compile(source, "README.md", "exec"), self.names)
        return self

    def all_printed(self) -> str:
        """What it has printed so far, a line for each call."""
        return "\n".join(self.printed.get() for _ in range(self.printed.qsize()))


Check = Callable[[Callable[[], Recipe], pytest.MonkeyPatch], None]
CHECKS: dict[str, Check] = {}


def check(title: str) -> Callable[[Check], Check]:
    """Register the check for the recipe with this title."""

    def register(function: Check) -> Check:
        CHECKS[title] = function
        return function

    return register


@pytest.mark.parametrize("title", RECIPES)
def test_recipe_does_what_its_title_says(title, in_folder_with_photo, monkeypatch):
    """Each recipe does what its title says, alone and unchanged."""
    CHECKS[title](lambda: Recipe(title), monkeypatch)


def test_checks_have_recipes():
    """Every check belongs to a recipe."""
    assert set(CHECKS) == set(RECIPES)


@check("Retry with backoff")
def _(recipe, monkeypatch):
    """The 503 is followed by a second attempt with the same key."""
    heads: list[bytes] = []

    def busy_at_first(connection: Connection) -> None:
        while head := connection.read_head():
            connection.read_body()
            heads.append(head)
            if len(heads) == 1:
                connection.respond(503, b"", "Retry-After: 0")  # no jitter
            else:
                connection.respond(200)

    with Server(busy_at_first) as server:
        names = recipe().run(server.url).names
        assert names["response"].status_code == 200
        assert len(heads) == 2
        key = header(heads[0], b"idempotency-key")
        assert key
        assert header(heads[1], b"idempotency-key") == key


@check("A folder, four at a time, with totals")
def _(recipe, monkeypatch):
    """At most four run at once, all readable files arrive, and the totals and the failure are printed."""
    for number in range(7):
        Path(f"{number}.jpg").write_bytes(bytes([number]) * 1000)
    Path("folder.jpg").mkdir()
    all_four = threading.Barrier(4)
    lock = threading.Lock()
    under_way: list[int] = [0]
    most: list[int] = [0]
    arrived: set[bytes] = set()

    def together(connection: Connection) -> None:
        while connection.read_head():
            with lock:
                under_way[0] += 1
                most[0] = max(most[0], under_way[0])
            body = connection.read_body()
            all_four.wait(PATIENCE)  # 8 uploads arrive, in two groups of four
            with lock:
                under_way[0] -= 1
                arrived.add(filename_in(body))
            connection.respond(200)

    with Server(together) as server:
        folder = recipe().run(server.url)
        assert most == [4]
        assert arrived == {b"beach.jpg", *(b"%d.jpg" % number for number in range(7))}
    lines = folder.all_printed()
    assert "\r9 of 9 files, 1.1 MB" in lines
    assert "\n8 done, 1 failed, 1.1 MB in " in lines
    assert "folder.jpg [Errno 21] Is a directory" in lines


@check("Stop everything when a file fails")
def _(recipe, monkeypatch):
    """The error of the file that fails is raised, the three running with it are reset, and no more start."""
    for name in ["broken", "c", "d", "e", "f"]:
        Path(f"{name}.jpg").write_bytes(b"data")
    all_four = threading.Barrier(4)
    aborted: SimpleQueue[float] = SimpleQueue()

    def one_breaks(connection: Connection) -> None:
        body = connection.read_request()
        all_four.wait(PATIENCE)
        if filename_in(body) == b"broken.jpg":
            connection.respond(500)
        else:
            aborted.put(connection.wait_for_reset())

    with Server(one_breaks) as server:
        with pytest.raises(httpx.HTTPStatusError, match="500") as caught:
            recipe().run(server.url)
        for _ in range(3):
            aborted.get(timeout=PATIENCE)
    assert caught.value.__notes__ == ["while uploading broken.jpg"]
    assert server.connections == 4
    assert not server.errors

    with receiver.running() as url:  # with no failure
        assert recipe().run(url).names["summary"].done == 6


@check("Cancel on a button")
def _(recipe, monkeypatch):
    """The handler ends the upload: the server sees the reset, and the pipeline says so; else there is the response."""
    arrived, ended = threading.Event(), threading.Event()

    def never_reading(connection: Connection) -> None:
        connection.read_head()
        arrived.set()
        connection.wait_for_reset()
        ended.set()

    with Server(never_reading) as server:
        cancelled = recipe().run(server.url)
        assert arrived.wait(PATIENCE)
        cancelled.names["on_click"]("the button")
        assert cancelled.printed.get(timeout=PATIENCE) == "cancelled"
        assert ended.wait(PATIENCE)
    assert not server.errors

    with receiver.running() as url:
        left_alone = recipe().run(url)
        assert left_alone.printed.get(timeout=PATIENCE) == "200"
        left_alone.names["on_click"]()
        assert left_alone.printed.empty()


@check("Show the rate and the time left")
def _(recipe, monkeypatch):
    """A line comes during the upload, and another at its end."""
    slow = recipe()
    lines: list[str] = []

    def half_until_released(connection: Connection) -> None:
        head = connection.read_head()
        length = int(header(head, b"content-length"))
        connection.read(length // 2)
        lines.append(slow.printed.get(timeout=PATIENCE))
        connection.read(length - length // 2)
        connection.respond(200)

    with Server(half_until_released, receive_buffer=65536) as server:
        slow.run(server.url)
    during = re.fullmatch(r"(\d+) %, (\d+\.\d) MB/s, (\d+) s left", lines[0])
    assert during
    assert int(during[1]) < 100
    assert float(during[2]) > 0
    assert re.search(r"^100 %, \d+\.\d MB/s, 0 s left$", slow.all_printed(), re.MULTILINE)


@check("Limit the rate in office hours")
def _(recipe, monkeypatch):
    """In office hours the limit holds from the first byte; outside there is none; the clock is read again."""
    monday = moment = dt.datetime.fromisoformat("2024-01-08 16:59:30")

    class Clock(dt.datetime):
        @classmethod
        def now(cls, tz=None):
            return moment

    monkeypatch.setattr(dt, "datetime", Clock)
    with receiver.running() as url:
        office = recipe()
        began = time.monotonic()
        office.run(url)
        # 1 MiB at 2 MB/s, less the 50 ms' worth that may go at once.
        assert time.monotonic() - began > 0.45
        assert office.names["response"].status_code == 200

        threads: list[threading.Thread] = []
        with office.names["limits"].subscribe(lambda _: threads.append(threading.current_thread())):
            assert threads == [threading.current_thread()]  # within subscribe(), before the first byte

        scheduler, values = TestScheduler(), []
        with office.names["limits"].subscribe(values.append, scheduler=scheduler):
            scheduler.advance_to(1)
            assert values == [2_000_000]
            moment = monday + dt.timedelta(minutes=1)
            scheduler.advance_to(61)
            assert values == [2_000_000, None]

        moment = monday - dt.timedelta(days=1)
        sunday = recipe().run(url)
        assert sunday.names["limit"](None) is None
        assert sunday.names["response"].status_code == 200


@check("Upload each new file that a watcher finds")
def _(recipe, monkeypatch):
    """A new file arrives once and complete; an old one only after it changes."""
    Path("outbox").mkdir()
    Path("outbox/old.jpg").write_bytes(b"old")
    arrived: SimpleQueue[bytes] = SimpleQueue()

    def receive(connection: Connection) -> None:
        while connection.read_head():
            body = connection.read_body()
            connection.respond(200)
            arrived.put(body)

    with Server(receive) as server:
        watcher = recipe().run(server.url)
        Path("beach.jpg").rename("outbox/beach.jpg")
        body = arrived.get(timeout=PATIENCE)
        assert filename_in(body) == b"beach.jpg"
        assert bytes(1 << 20) in body
        stop_watcher(watcher.names)
        assert arrived.empty()
        assert watcher.printed.empty()

    scheduler, files = TestScheduler(), []
    with watcher.names["watcher"].subscribe(lambda file: files.append(file[0].name), scheduler=scheduler):
        scheduler.advance_to(0.1)
        for second, data in enumerate([b"a", b"ab", b"abc"]):  # it still grows, so it is not uploaded yet
            Path("outbox/growing.jpg").write_bytes(data)
            scheduler.advance_to(0.6 + second / 2)
            assert files == []
        scheduler.advance_to(5)
        assert files == ["growing.jpg"]
        os.utime("outbox/old.jpg", (0, 0))  # another version
        Path("outbox/gone.jpg").symlink_to("nowhere")
        scheduler.advance_to(10)
        assert files == ["growing.jpg", "old.jpg"]


@check("Fall back to a second server")
def _(recipe, monkeypatch):
    """The second server gets the file if the first is down or answers 503, but not if it answers 422."""
    bodies: list[bytes] = []
    with Server(lambda connection: bodies.append(connection.serve(200, b"second"))) as second:
        with Server(lambda connection: connection.serve(503)) as first:
            assert recipe().run(first.url, second.url).names["response"].text == "second"
        # It is closed by now, so its port refuses connections.
        assert recipe().run(first.url, second.url).names["response"].text == "second"
        with (
            Server(lambda connection: connection.serve(422)) as first,
            pytest.raises(httpx.HTTPStatusError, match="422"),
        ):
            recipe().run(first.url, second.url)
        Path("beach.jpg").unlink()
        with Server(lambda connection: None) as first, pytest.raises(FileNotFoundError):
            recipe().run(first.url, second.url)
    assert [bytes(1 << 20) in body for body in bodies] == [True, True]


@check("Hash while uploading")
def _(recipe, monkeypatch):
    """The hash is the file's, even if a first attempt broke off, and a second one was stored wrongly."""
    data = os.urandom(1 << 24)  # more than the system buffers
    Path("beach.jpg").write_bytes(data)
    heads: list[bytes] = []
    bodies: list[bytes] = []

    def fails_twice(connection: Connection) -> None:
        while head := connection.read_head():
            heads.append(head)
            if len(heads) == 1:
                connection.read(1 << 20)
                connection.respond(503, b"", "Retry-After: 0")  # no jitter
                connection.wait_for_end()
                return
            bodies.append(connection.read_body())
            stored = data if len(heads) == 3 else data[1:]
            report = {"files": [{"sha256": hashlib.sha256(stored).hexdigest()}]}
            connection.respond(200, json.dumps(report).encode())

    monkeypatch.setattr(random, "uniform", lambda *_: 0.0)
    with Server(fails_twice, receive_buffer=65536) as server:
        hashing = recipe().run(server.url)
    assert len(heads) == 3
    assert int(header(heads[0], b"content-length")) > 1 << 24
    assert data in bodies[1]
    assert filename_in(bodies[1]) == b"beach.jpg"
    assert hashing.all_printed() == str([hashlib.sha256(data).hexdigest()])


@check("Upload to a presigned URL")
def _(recipe, monkeypatch):
    """The body is the file and nothing else, with its type and length, and the target is as it stands."""
    seen: list[tuple[bytes, bytes]] = []

    def store(connection: Connection) -> None:
        head = connection.read_head()
        seen.append((head, connection.read_body()))
        connection.respond(200)

    with Server(store) as server:
        assert recipe().run(server.url).names["response"].status_code == 200
    ((head, body),) = seen
    target = b"/bucket/beach.jpg?X-Amz-Expires=3600&X-Amz-Signature=a%2Fb%2Bc"
    assert head.startswith(b"PUT " + target + b" HTTP/1.1\r\n")
    assert header(head, b"content-type") == b"image/jpeg"
    assert header(head, b"content-length") == b"%d" % (1 << 20)
    assert body == bytes(1 << 20)


@check("Send JSON beside the file")
def _(recipe, monkeypatch):
    """The JSON is a part with its type and without a filename, before the file."""
    bodies: list[bytes] = []
    with Server(lambda connection: bodies.append(connection.serve())) as server:
        assert recipe().run(server.url).names["response"].status_code == 200
    field, file = bodies[0].split(b"\r\n--")[:2]
    assert field.endswith(
        b'form-data; name="payload_json"\r\nContent-Type: application/json\r\n\r\n{"content": "Look!"}'
    )
    assert b'name="files[0]"; filename="beach.jpg"\r\n' in file


def filename_in(body: bytes) -> bytes:
    """The filename of the file in a multipart body."""
    return re.search(rb'filename="(.*?)"', body)[1]


def stop_watcher(names: dict[str, Any]) -> None:
    """End the watcher's recipe as the README says."""
    names.pop("watching").dispose()
    names["found"].put(None)


@pytest.mark.parametrize("name", ["demo", "tests", "demo-windows", "tests-windows"])
def test_commands_are_found_by_ci(name):
    """Each command is one line in its own code block, after the marker that `.ci/run` looks for."""
    block = re.search(rf"<!-- command: {name} -->\n```\w+\n(.*)\n```\n", README)
    assert block
    assert "\n" not in block[1]
    assert ".venv-" + name.partition("-")[0] in block[1]
