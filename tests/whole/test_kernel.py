"""Uploads in a Jupyter kernel, of which the kernel stays master."""

from __future__ import annotations

import subprocess

import pytest
from support.scripted_server import PATIENCE
from support.stepped_server import SteppedServer

jupyter_client = pytest.importorskip("jupyter_client", reason="a kernel needs the extra `dev`")

START = """
from rxupload import upload
task = upload({url!r}, bytes(50_000_000)).start()
task.onProgressUpdate(print)
"""


def test_a_kernel_that_shuts_down_waits_for_no_upload():
    """A shutdown aborts the running tasks, and the kernel's process ends by itself."""
    manager, client = jupyter_client.manager.start_new_kernel(kernel_name="python3")
    process: subprocess.Popen[bytes] = manager.provisioner.process
    try:
        with SteppedServer() as server:
            client.execute(START.format(url=server.url))
            request = server.next_request()
            request.read(1 << 20)
            client.shutdown()
            assert process.wait(PATIENCE) == 0
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
