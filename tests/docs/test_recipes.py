"""The recipes of the notebook: each does what its title says, alone and unchanged, with servers of the test."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import random
import re
import threading
import time
from pathlib import Path
from queue import SimpleQueue

import httpx
import pytest
from reactivex.testing import TestScheduler
from support.forms import filename_in
from support.pages import ROOT, Page
from support.scripted_server import PATIENCE, Server, header
from support.snippets import FourAtATime, Recipe, run_snippet

from rxupload import receiver
from rxupload.testing import Connection

NOTEBOOK = Page(ROOT / "notebooks" / "recipes.ipynb")
TITLES = re.findall(r"^## (.*)$", NOTEBOOK.text, re.MULTILINE)
RECIPES = dict(zip(TITLES, NOTEBOOK.code_cells[1:-1], strict=True))


def recipe(title: str) -> Recipe:
    """The recipe with this title, ready to run."""
    return Recipe(RECIPES[title])


@pytest.fixture(autouse=True)
def in_folder_with_photo(tmp_path, monkeypatch):
    """A working directory with the photo that the recipes upload, and an empty folder for more."""
    monkeypatch.chdir(tmp_path)
    Path("beach.jpg").write_bytes(bytes(1 << 20))
    Path("photos").mkdir()
    Path("outbox").mkdir()


def test_each_recipe_has_a_test():
    """Each title stands in a test below, and each test's in the notebook."""
    source = Path(__file__).read_text(encoding="utf-8")
    assert set(re.findall(r'recipe\("(.*?)"\)', source)) == set(TITLES)


def test_folder():
    """At most four run at once, all readable files arrive, and the totals and the failure are printed."""
    for number in range(8):
        Path(f"photos/{number}.jpg").write_bytes(bytes([number]) * 1000)
    Path("photos/folder.jpg").mkdir()
    together = FourAtATime()
    with Server(together) as server:
        folder = recipe("A folder with totals of your own").run(url=server.url)
    assert together.most == 4
    assert together.arrived == {b"%d.jpg" % number for number in range(8)}
    lines = folder.all_printed()
    assert "\r9 of 9 files, 0.0 MB" in lines
    assert "\n8 done, 1 failed, 0.0 MB in " in lines
    assert "[Errno 21] Is a directory: 'photos" in lines


def test_stop_everything():
    """The error of the file that fails is the pipeline's, the three running with it are reset, and no more start."""
    for name in ["a", "broken", "c", "d", "e", "f"]:
        Path(f"photos/{name}.jpg").write_bytes(b"data")
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
        stopped = recipe("Stop everything when a file fails").run(url=server.url)
        for _ in range(3):
            aborted.get(timeout=PATIENCE)
    assert stopped.all_printed() == "HTTPStatusError while uploading broken.jpg"
    assert server.connections == 4
    assert not server.errors

    with receiver.running() as url:  # with no failure
        done = recipe("Stop everything when a file fails").run(url=url)
    assert done.names["summary"].done == 6
    assert done.all_printed() == ""


def test_cancel():
    """The button ends the upload: the server sees the reset, and the pipeline says so. Else there is the response."""
    somebody = "asyncio.get_running_loop().call_later(0.3, on_click)  # somebody presses it"
    source = RECIPES["Cancel on a button"]
    assert somebody in source
    begun, ended = threading.Event(), threading.Event()

    def never_reading(connection: Connection) -> None:
        connection.read_head()
        begun.set()
        connection.wait_for_reset()
        ended.set()

    def press(loop, on_click) -> None:
        assert begun.wait(PATIENCE)
        loop.call_soon_threadsafe(on_click, "the button")

    with Server(never_reading) as server:
        pressing = "loop = asyncio.get_running_loop(); loop.run_in_executor(None, press, loop, on_click)"
        cancelled = Recipe(source.replace(somebody, pressing)).run(url=server.url, press=press)
        assert cancelled.all_printed() == "cancelled"
        assert ended.wait(PATIENCE)
    assert not server.errors

    with receiver.running() as url:
        names = recipe("Cancel on a button").run(url=url).names
        run_snippet("response = await pipeline", names)  # nobody presses it
        assert names["response"].status_code == 200
        names["on_click"]()


def test_rate():
    """A line comes during the upload, and another at its end."""
    slow = recipe("Show the rate and the time left")
    lines: list[str] = []

    def half_until_released(connection: Connection) -> None:
        head = connection.read_head()
        length = int(header(head, b"content-length"))
        connection.read(length // 2)
        lines.append(slow.printed.get(timeout=PATIENCE))
        connection.read(length - length // 2)
        connection.respond(200)

    with Server(half_until_released, receive_buffer=65536) as server:
        slow.run(url=server.url)
    during = re.fullmatch(r"(\d+) %, (\d+\.\d) MB/s, (\d+\.\d) s left", lines[0])
    assert during
    assert int(during[1]) < 100
    assert float(during[2]) > 0
    assert re.search(r"^100 %, \d+\.\d MB/s, 0\.0 s left$", slow.all_printed(), re.MULTILINE)


def test_office_hours(monkeypatch):
    """In office hours the limit holds from the first byte; outside there is none; the clock is read again."""
    monday = moment = dt.datetime.fromisoformat("2024-01-08 16:59:30")

    class Clock(dt.datetime):
        @classmethod
        def now(cls, tz=None):
            return moment

    monkeypatch.setattr(dt, "datetime", Clock)
    with receiver.running() as url:
        began = time.monotonic()
        office = recipe("Limit the rate in office hours").run(url=url)
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
        sunday = recipe("Limit the rate in office hours").run(url=url)
        assert sunday.names["limit"](None) is None
        assert sunday.names["response"].status_code == 200


def test_rate_and_pause():
    """The upload begins paused, and goes on at the rate that is set last."""
    with receiver.running() as url:
        changed = recipe("Change the rate, and pause").run(url=url)
    assert changed.all_printed() == "200"
    assert (changed.names["rate"].value, changed.names["paused"].value) == (None, False)


def test_watcher():
    """A new file arrives once and complete; an old one only after it changes."""
    Path("outbox/old.jpg").write_bytes(b"old")
    bodies: list[bytes] = []

    def receive(connection: Connection) -> None:
        while connection.read_head():
            body = connection.read_body()
            bodies.append(body)
            report = {"files": [{"filename": filename_in(body).decode()}]}
            connection.respond(200, json.dumps(report).encode())

    with Server(receive) as server:
        watching = recipe("Upload each new file that a watcher finds").run(url=server.url)
    assert watching.all_printed() == "done: beach.jpg"
    (body,) = bodies
    assert bytes(1 << 20) in body

    scheduler, files = TestScheduler(), []
    with watching.names["watcher"].subscribe(lambda file: files.append(file[0].name), scheduler=scheduler):
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


def test_second_server():
    """The second server gets the file if the first is down or answers 503, but not if it answers 422."""
    source = RECIPES["Fall back to a second server"]
    down = "with receiver.running() as first_url:\n    pass"
    assert down in source
    bodies: list[bytes] = []
    with Server(lambda connection: bodies.append(connection.serve(200, b"second"))) as second:
        fell_back = recipe("Fall back to a second server").run(url=second.url)
        assert fell_back.names["response"].text == "second"
        assert fell_back.all_printed().startswith("not taken by the first: ConnectError")

        def run_with(first: Server) -> Recipe:
            return Recipe(source.replace(down, f"first_url = {first.url!r}\nif True:\n    pass")).run(
                url=second.url
            )

        with Server(lambda connection: connection.serve(503)) as first:
            assert run_with(first).names["response"].text == "second"
        with (
            Server(lambda connection: connection.serve(422)) as first,
            pytest.raises(httpx.HTTPStatusError, match="422"),
        ):
            run_with(first)
        Path("beach.jpg").unlink()
        with Server(lambda connection: None) as first, pytest.raises(FileNotFoundError):
            run_with(first)
    assert [bytes(1 << 20) in body for body in bodies] == [True, True]


def test_hash(monkeypatch):
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
        hashing = recipe("Hash while uploading").run(url=server.url)
    assert len(heads) == 3
    assert int(header(heads[0], b"content-length")) > 1 << 24
    assert data in bodies[1]
    assert filename_in(bodies[1]) == b"beach.jpg"
    assert hashing.all_printed() == str([hashlib.sha256(data).hexdigest()])


def test_json():
    """The JSON is a part with its type and without a filename, before the file."""
    bodies: list[bytes] = []
    answer = b'{"fields": {}}'
    with Server(lambda connection: bodies.append(connection.serve(200, answer))) as server:
        assert recipe("Send JSON beside the file").run(url=server.url).names["response"].status_code == 200
    field, file = bodies[0].split(b"\r\n--")[:2]
    assert field.endswith(
        b'form-data; name="payload_json"\r\nContent-Type: application/json\r\n\r\n{"content": "Look!"}'
    )
    assert b'name="files[0]"; filename="beach.jpg"\r\n' in file


def test_async_generator(tmp_path):
    """What the generator makes arrives as one file."""
    with receiver.running(tmp_path / "inbox") as url:
        assert recipe("Send what an async generator makes").run(url=url).all_printed() == "20"
    assert (tmp_path / "inbox" / "numbers.txt").read_text() == "".join(f"{number}\n" for number in range(10))


def test_stream(tmp_path):
    """What the Observable emits arrives as one file."""
    with receiver.running(tmp_path / "inbox") as url:
        assert recipe("Send a stream").run(url=url).all_printed() == "20"
    assert (tmp_path / "inbox" / "numbers.txt").read_text() == "".join(f"{number}\n" for number in range(10))
