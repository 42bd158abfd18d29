"""Whole uploads of real files: to aiohttp's server, to the embedded receiver, of 4 GiB, and in a Jupyter kernel."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from aiohttp import web
from support.notebook_kernel import run_cells
from support.recording_observer import check_grammar, observe
from support.scripted_server import PATIENCE

import rxupload
from rxupload import receiver, upload

MIB = 1 << 20


@contextlib.contextmanager
def aiohttp_server() -> Iterator[str]:
    """aiohttp's server, with its own multipart parser, on a loop in a thread."""

    async def receive(request: web.Request) -> web.Response:
        parts = []
        async for part in await request.multipart():
            digest = hashlib.sha256()
            while chunk := await part.read_chunk(MIB):
                digest.update(chunk)
            parts.append([part.name, part.filename, part.headers.get("Content-Type"), digest.hexdigest()])
        return web.json_response(parts)

    loop = asyncio.new_event_loop()
    started = threading.Event()
    address: list[str] = []

    async def serve() -> None:
        app = web.Application(client_max_size=1 << 40)
        app.router.add_post("/", receive)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        address.append(f"http://127.0.0.1:{runner.addresses[0][1]}/")
        started.set()
        await stop.wait()
        await runner.cleanup()

    stop = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert started.wait(PATIENCE)
        yield address[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


@pytest.fixture(scope="module")
def random_file(tmp_path_factory) -> tuple[Path, str]:
    """A file of a little more than 32 MiB, and its SHA-256."""
    path = tmp_path_factory.mktemp("files") / "b\u00e9ach \u2605.jpg"
    content = hashlib.shake_256(b"rxupload").digest(32 * MIB + 12345)
    path.write_bytes(content)
    return path, hashlib.sha256(content).hexdigest()


def test_aiohttp_receives_the_file(random_file):
    """The bytes, names and types that arrive at aiohttp's server are the file's."""
    path, digest = random_file
    with aiohttp_server() as url:
        observed, _ = observe(upload(url, path, "photo", form_data={"album": "s\u00fcmmer\n"}))
        parts = observed.wait().response.json()
    album = hashlib.sha256("s\u00fcmmer\r\n".encode()).hexdigest()
    assert parts == [["album", None, None, album], ["photo", path.name, "image/jpeg", digest]]
    check_grammar(observed.items, completed=True)


def test_aiohttp_receives_a_chunked_file(random_file):
    """The same holds for a source of unknown size."""
    path, digest = random_file

    def pieces() -> Iterator[bytes]:
        with path.open("rb") as file:
            while piece := file.read(10_007):
                yield piece

    with aiohttp_server() as url:
        parts = upload(url, pieces).run().json()
    assert [part[3] for part in parts] == [digest]


def test_the_embedded_receiver_receives_the_file(random_file):
    """The receiver's SHA-256 is the file's, with every way to wait for an upload."""
    path, digest = random_file

    async def awaited(up: rxupload.Upload) -> httpx.Response:
        return await up

    with receiver.running() as url:
        up = upload(url, [path, path], "photos")
        for response in (up.run(), asyncio.run(awaited(up))):
            assert [file["sha256"] for file in response.json()["files"]] == [digest, digest]


MEMORY_SCRIPT = """
import sys
from rxupload import upload
url, path = sys.argv[1:]
assert upload(url, path).run().status_code == 200
# Not getrusage(): what it says of a child begins at its parent's size.
print(next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""

SINK_SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from support.scripted_server import Server, header
from rxupload.testing import Connection

def sink(connection):
    head = connection.read_head()
    length = int(header(head, b"content-length"))
    assert connection.read(length) == length
    connection.respond()

with Server(sink) as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from Linux's /proc")
def test_memory_does_not_grow_with_the_file(tmp_path):
    """Uploading 4 GiB raises the process's peak by at most 16 MiB over uploading 1 MiB."""
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(bytes(MIB))
    with large.open("wb") as file:
        file.truncate(4 << 30)
    folder = str(Path(__file__).parents[1])
    with subprocess.Popen(
        [sys.executable, "-c", SINK_SCRIPT, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        url = server.stdout.readline().strip()
        peaks = [
            int(subprocess.check_output([sys.executable, "-c", MEMORY_SCRIPT, url, path]))
            for path in (small, large)
        ]
        server.stdin.close()
    print(f"peak: {peaks[0] / MIB:.1f} MiB for 1 MiB, {peaks[1] / MIB:.1f} MiB for 4 GiB")
    assert peaks[1] - peaks[0] <= 16 * MIB


def test_jupyter_kernel():
    """In a kernel run() does not deadlock, await works at top level, and a thread can print progress."""
    setup = """
import rxupload
from rxupload import receiver, upload
server = receiver.running()
up = upload(server.__enter__(), bytes(8 << 20), progress_interval=0)
"""
    outputs = run_cells(
        setup,
        "print(up.run().status_code)",
        "response = await up\nprint(response.status_code)",
        "print(rxupload.run(up.progress).percent)",
        "import asyncio\ntry:\n    await asyncio.wait_for(upload('http://127.0.0.1:9/', b'x').retry(2), 60)\n"
        "except Exception as error:\n    print(type(error).__name__)",
        "server.__exit__(None, None, None)",
    )
    assert [output.strip() for output in outputs] == ["", "200", "200", "100", "ConnectError", ""]
