"""Uploads at the end of a process: in atexit functions, and after a fork."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from support.command_line import PROCESS_PATIENCE
from support.scripted_server import Server
from support.stepped_server import SteppedServer

SCRIPT = """
import atexit, sys
from reactivex.scheduler import ImmediateScheduler, NewThreadScheduler
from rxupload import upload, upload_all

url = sys.argv[1]

def end(name, run):
    try:
        print(name, run().status_code, flush=True)
    except RuntimeError as error:
        print(name, error, flush=True)

atexit.register(end, "thread", lambda: upload(url, b"data").run(NewThreadScheduler()))
atexit.register(end, "in place", lambda: upload(url, b"data").run(ImmediateScheduler()))
"""

WARM = """
end("before", lambda: upload(url, b"data").run(NewThreadScheduler()))
"""


def run(source: str, *arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", source, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert not done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("warm", ["", WARM], ids=["the first", "after another"])
def test_an_atexit_function_can_upload(warm):
    """An upload in an atexit function succeeds, or says why it cannot and what to do."""
    with Server(lambda connection: [connection.serve() for _ in range(3)]) as server:
        lines = run(SCRIPT + warm, server.url)
    assert lines[len(lines) - 2] == "in place 200"
    assert lines[-1] == "thread 200" or (
        (3, 12) <= sys.version_info < (3, 13) and "starts none while it shuts down" in lines[-1]
    )


FORKED = """
import os, sys, threading
from rxupload import upload

url = sys.argv[1]
assert upload(url, b"data").run().status_code == 200
pid = os.fork()
if pid == 0:
    status = upload(url, b"data").run().status_code
    os._exit(0 if status == 200 else 1)
assert os.waitpid(pid, 0)[1] == 0
print(upload(url, b"data").run().status_code)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_starts_its_own_threads():
    """A forked child starts its own threads, because its parent's idle threads do not exist there."""
    with Server(lambda connection: [connection.serve() for _ in range(3)]) as server:
        done = subprocess.run(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED, server.url],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert (done.stdout, done.returncode) == ("200\n", 0), done.stderr


LOADING = """
import sys, threading
import reactivex
from rxupload import upload, upload_all
from rxupload.uploadtask import uploadFile

class Finder:
    def find_spec(self, name, path=None, target=None):
        if threading.current_thread() is not threading.main_thread():
            print(name, threading.current_thread().name, flush=True)

sys.meta_path.insert(0, Finder())
url = sys.argv[1]
assert {call}
"""


@pytest.mark.parametrize(
    "call",
    [
        "upload(url, lambda: [b'data']).run().status_code == 200",
        "upload(url, reactivex.of(b'data'), pause=reactivex.of(False)).run().status_code == 200",
        "upload_all([upload(url, b'data')]).run().done == 1",
        "upload_all(upload(url, each) for each in [b'data', reactivex.of(b'data')]).run().done == 2",
        "upload(url, b'data').start().result()['statusCode'] == 200",
        "uploadFile(url=url, filePath=sys.executable, name='a').result()['statusCode'] == 200",
    ],
)
def test_no_thread_of_an_upload_loads_a_module(call):
    """The threads of the first upload load no module: if the process forked meanwhile, its child never could."""
    with Server(200) as server:
        assert run(LOADING.format(call=call), server.url) == []


LEFT_LOOP = """
import asyncio, sys
from reactivex.scheduler.eventloop import AsyncIOScheduler
from rxupload.uploadtask import uploadFile

async def start():
    uploadFile(
        url=sys.argv[1], filePath=sys.executable, name="a", success=lambda _: print("success"),
        complete=lambda: print("complete"), scheduler=AsyncIOScheduler(asyncio.get_running_loop()),
    )

loop = asyncio.new_event_loop()
loop.run_until_complete(start())
"""


def test_a_script_ends_that_leaves_a_loop_which_does_not_run():
    """A script may stop its loop, not close it, and end, while a task is running. The task's callbacks still come."""
    with Server(lambda connection: connection.serve()) as server:
        done = subprocess.run(
            [sys.executable, "-c", LEFT_LOOP, server.url], capture_output=True, text=True, timeout=60
        )
    assert done.stdout.splitlines() == ["success", "complete"]


INTERACTIVE = """
import sys
from rxupload.uploadtask import uploadFile
raise KeyboardInterrupt
uploadFile(url=sys.argv[1], filePath=sys.executable, name="a", success=print, fail=print) and None
"""


def test_ctrl_c_in_an_interactive_session_does_not_abort_later_tasks():
    """The end of an interactive session waits for tasks, also where Ctrl-C has ended an earlier statement."""
    with Server(lambda connection: connection.serve()) as server:
        done = subprocess.run(
            [sys.executable, "-i", "-", server.url],
            input=INTERACTIVE,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert "KeyboardInterrupt" in done.stderr
    assert done.stdout.startswith("{'statusCode': 200")


INTERRUPTED = """
import asyncio, sys
from rxupload import run, upload, upload_all
from rxupload.operators import raise_for_status, retry_backoff

url, path = sys.argv[1:]
up = upload(url, path)
async def wait():
    await up
{call}
"""


@pytest.mark.skipif(os.name != "posix", reason="there is no other way to send Ctrl-C to one process")
@pytest.mark.parametrize(
    "call",
    [
        "up.run()",
        "upload(url, lambda: [bytes(1 << 20)] * 50).run()",
        "run(up.pipe(retry_backoff(), raise_for_status()))",
        "upload_all([up, up]).run()",
        "asyncio.run(wait())",
        "up.start().result()",
        "up.start()",
        "upload_all([up, up]).subscribe(); up.run()",
    ],
)
def test_ctrl_c_ends_a_script_as_any_other(tmp_path, call):
    """A script that Ctrl-C ends while uploads are running dies of the signal, which a shell reports as 130."""
    path = tmp_path / "film"
    with path.open("wb") as file:
        file.truncate(50_000_000)
    with SteppedServer() as server:
        process = subprocess.Popen(
            [
                sys.executable,
                "-X",
                "dev",
                "-W",
                "error",
                "-c",
                INTERRUPTED.format(call=call),
                server.url,
                path,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            server.next_request(PROCESS_PATIENCE).read(1 << 20)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT, err
    assert out == ""
    assert "ignored" not in err
    assert "Exception in" not in err
