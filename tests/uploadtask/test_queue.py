"""The callback API over real sockets, each rule with its number: the queue, and the end of the script."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support.command_line import PROCESS_PATIENCE
from support.recording_callbacks import RecordingCallbacks
from support.running_tasks import MIB
from support.scripted_server import PATIENCE, Server, header

from rxupload import UploadAborted, uploadtask
from rxupload.testing import Connection
from rxupload.uploadtask import uploadFile


def test_rule_17_two_hundred_at_once(photo):
    """At most 5 of 200 uploads run at a time, in order, and all end; an aborted one never starts."""
    lock = threading.Lock()
    on_the_wire = peak = 0
    arrived: list[int] = []
    go_on = threading.Event()

    def script(connection: Connection) -> None:
        nonlocal on_the_wire, peak
        head = connection.read_head()
        with lock:
            on_the_wire += 1
            peak = max(peak, on_the_wire)
            arrived.append(int(head.split(b" ")[1][1:]))
        connection.read_body()
        assert go_on.wait(PATIENCE)
        with lock:
            on_the_wire -= 1
        connection.respond(200, b"", "Connection: close")

    with Server(script) as server:
        recorders = [RecordingCallbacks() for _ in range(200)]
        tasks = [
            uploadFile(recorder.object(f"{server.url}{n}", photo)) for n, recorder in enumerate(recorders)
        ]
        aborted = list(range(100, 200, 7))
        assert {tasks[n].state for n in aborted} == {"queued"}
        for n in aborted:
            tasks[n].abort()
        go_on.set()
        for recorder in recorders:
            recorder.wait()
    assert peak <= 5
    assert [n for n, recorder in enumerate(recorders) if "fail" in recorder.kinds] == aborted
    assert sorted(arrived) == sorted(set(range(200)) - set(aborted))
    # Five threads race to the server, so when one request arrives, four earlier ones may still be on their way.
    missing = sorted(arrived)
    for n in arrived:
        assert missing.index(n) <= 4
        missing.remove(n)


def test_rule_17_first_in_first_out(photo):
    """With one upload at a time, they arrive in order."""
    uploadtask.configure(max_concurrent=1)
    arrived: list[bytes] = []

    def script(connection: Connection) -> None:
        head = connection.read_head()
        arrived.append(head.split(b" ")[1])
        connection.read_body()
        connection.respond(200, b"", "Connection: close")

    with Server(script) as server:
        tasks = [uploadFile(RecordingCallbacks().object(f"{server.url}{n}", photo)) for n in range(20)]
        for task in reversed(tasks):
            task.result(PATIENCE)
    assert arrived == [b"/%d" % n for n in range(20)]


def test_rule_17_configure(photo, server):
    """A higher limit starts waiting uploads; wrong settings are refused."""
    uploadtask.configure(max_concurrent=1)
    tasks = [uploadFile(RecordingCallbacks().object(f"{server.url}{n}", photo)) for n in range(3)]
    assert server.next_request().path == "/0"
    assert [task.state for task in tasks[1:]] == ["queued"] * 2
    uploadtask.configure(max_concurrent=3)
    assert {server.next_request().path for _ in range(2)} == {"/1", "/2"}
    for task in tasks:
        task.abort()
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="max_concurrent"):
            uploadtask.configure(max_concurrent=wrong)
    for wrong in (1.5, "2", True):
        with pytest.raises(TypeError, match="max_concurrent"):
            uploadtask.configure(max_concurrent=wrong)
    for task in tasks:
        with pytest.raises(UploadAborted):
            task.result(PATIENCE)


SCRIPT = """
import sys, threading, time
from rxupload.uploadtask import uploadFile
url, path = sys.argv[1:]
def there():
    print("there", flush=True)
for _ in range({count}):
    task = uploadFile({{
        "url": url, "filePath": path, "name": "file",
        "success": lambda res: time.sleep(0.3) or print(f"success {{res['statusCode']}}\\n", end="", flush=True),
        "fail": lambda data, code: print(f"fail {{code}}\\n", end="", flush=True),
        "complete": lambda: print("complete\\n", end="", flush=True),
    }})
{rest}
"""


def run_script(url: str, path: Path, rest: str = "", count: int = 1) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", SCRIPT.format(rest=rest, count=count), url, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("count", [1, 7])
def test_rule_17_a_script_ends_after_its_uploads(tmp_path, count):
    """A script that reaches its end still uploads its 50 MB, even from the queue, and exits with 0."""
    path = tmp_path / "50MB"
    with path.open("wb") as file:
        file.truncate(50_000_000)
    sizes: list[int] = []

    def script(connection: Connection) -> None:
        head = connection.read_head()
        length = int(header(head, b"content-length"))
        sizes.append(connection.read(length) - length)
        assert length > 50_000_000
        connection.respond(200, b"", "Connection: close")

    with Server(script) as server, run_script(server.url, path, count=count) as process:
        out, err = process.communicate(timeout=60)
    assert not server.errors
    assert (process.returncode, err) == (0, "")
    assert sizes == [0] * count
    assert sorted(out.split("\n")) == sorted(["success 200", "complete"] * count + [""])


# The script has ended when it begins to wait for its tasks.
TELLS_ITS_END = """
from rxupload._task.queue import uploads
wait = uploads.wait
uploads.wait = lambda: (setattr(uploads, "wait", wait), there(), wait())
"""

IN_ASYNCIO = """
import asyncio
async def main():
    there()
    await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.mark.skipif(os.name != "posix", reason="there is no other way to send Ctrl-C to one process")
@pytest.mark.parametrize(
    ("rest", "count"),
    [
        (TELLS_ITS_END, 1),
        (TELLS_ITS_END, 7),
        ("there(); time.sleep(60)", 1),
        ("there(); task.result()", 1),
        (IN_ASYNCIO, 1),
    ],
    ids=["ended", "ended with some that wait", "sleeping", "result", "asyncio"],
)
def test_rule_17_ctrl_c(tmp_path, server, rest, count):
    """Ctrl-C during the upload gives fail with 1002 and complete, and the script exits soon, long before its limit."""
    path = tmp_path / "50MB"
    with path.open("wb") as file:
        file.truncate(50_000_000)
    with run_script(server.url, path, rest, count) as process:
        for _ in range(min(count, 5)):
            server.next_request(PROCESS_PATIENCE).read(MIB)
        assert process.stdout.readline() == "there\n"
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        out, err = process.communicate(timeout=60)
        took = time.monotonic() - began
    assert sorted(out.split()) == sorted(["fail", "1002", "complete"] * count), err
    assert took < PATIENCE / 2  # the limit of an upload is 20 s
    assert process.returncode == -signal.SIGINT  # a shell reports 130
    assert "Exception ignored" not in err
    assert ("KeyboardInterrupt" in err) == (rest != TELLS_ITS_END)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_rule_17_a_forked_child_has_its_own_queue(photo, film, server):
    """The uploads of a parent take no places in a forked child."""
    script = f"""
import os, threading
from rxupload.uploadtask import uploadFile, configure
configure(max_concurrent=1)
under_way = threading.Event()
task = uploadFile(url={server.url!r}, filePath={str(film)!r}, name="a")
task.onProgressUpdate(lambda res: under_way.set())
under_way.wait(10)
child = os.fork()
if child == 0:
    try:
        uploadFile(url="http://127.0.0.1:1/", filePath={str(photo)!r}, name="a").result(10)
    except Exception as error:
        print(type(error).__name__, flush=True)
    os._exit(0)
os.waitpid(child, 0)
task.abort()
"""
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, timeout=60)
    assert done.stdout == "ConnectError\n"
