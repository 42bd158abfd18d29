"""A script that ends just after its upload was paused: how far that has come is stored before the process ends."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from support.command_line import PROCESS_PATIENCE
from support.tus_server import tus_server

SCRIPT = """
import signal, sys, threading
from rxupload.resumable import FileStore, upload_resumable

url, file, state, how = sys.argv[1:]
up = upload_resumable(url, file, store=FileStore(state), rate_limit=1e6, progress_interval=0)
moved = threading.Event()
if how == "dispose":
    subscription = up.subscribe(lambda item: item.sent and moved.set())
    moved.wait()
    subscription.dispose()
else:
    threading.Thread(target=lambda: (moved.wait(), signal.raise_signal(signal.SIGINT)), daemon=True).start()
    from reactivex import operators as ops
    import rxupload
    rxupload.run(up.pipe(ops.do_action(lambda item: item.sent and moved.set())))
"""


@pytest.mark.parametrize("how", ["dispose", "Ctrl-C"])
def test_what_was_sent_is_stored_before_the_process_ends(file, tmp_path, content, how):
    """Otherwise the next run could not tell it from a kill, and a chmod would begin the upload anew."""
    state = tmp_path / "state"
    with tus_server() as (tus, server):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, f"{server.url}files", str(file), str(state), how],
            capture_output=True,
            text=True,
            timeout=PROCESS_PATIENCE,
        )
        assert done.returncode == (0 if how == "dispose" else -2), done.stderr
        tus.wait_until_left()
        assert 0 < len(tus.only.content) < len(content)
    (path,) = state.glob("*.json")
    assert json.loads(path.read_text())["entry"]["sent"] == len(content)
    assert not list(state.glob("*.lock"))
