"""Uploads at the end of a process: in atexit functions, and after a fork."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from support.scripted_server import Server

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
