"""Real Jupyter kernels, with ipykernel 6 or 7, that a test drives cell by cell, by their messages."""

from __future__ import annotations

import os
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.command_line import PROCESS_PATIENCE
from support.notebook_kernel import kernel_config

FOLDER_OF_6 = "IPYKERNEL_6"  # the environment variable with a folder of `pip install --target`; see .ci/run

PACKAGE = Path(__file__).parents[2]


@dataclass
class Cell:
    """What has come of a cell so far."""

    printed: str = ""
    logged: str = ""  # on standard error
    error: str = ""  # the name of its exception
    traceback: str = ""
    is_over: bool = False


@dataclass
class Kernel:
    """A kernel, whose messages come only when the test waits for some."""

    manager: Any
    client: Any
    cells: dict[str, Cell] = field(default_factory=lambda: defaultdict(Cell))

    @property
    def process(self) -> subprocess.Popen[bytes]:
        return self.manager.provisioner.process

    def begin(self, source: str) -> Cell:
        """Ask for a cell to be run, and do not wait for it."""
        return self.cells[self.client.execute(source)]

    def run(self, source: str) -> Cell:
        """Run a cell to its end."""
        cell = self.begin(source)
        self.wait_for(cell)
        return cell

    def wait_for(self, cell: Cell, printed: str = "") -> None:
        """Take messages until a cell is over, or has printed this."""
        while not (printed in cell.printed if printed else cell.is_over):
            self._take()

    def _take(self) -> None:
        message = self.client.get_iopub_msg(timeout=PROCESS_PATIENCE)
        cell, content = self.cells[message["parent_header"].get("msg_id", "")], message["content"]
        match message["msg_type"]:
            case "stream" if content["name"] == "stdout":
                cell.printed += content["text"]
            case "stream":
                cell.logged += content["text"]
            case "error":
                cell.error = content["ename"]
                cell.traceback = "\n".join(content["traceback"])
            case "status":
                cell.is_over = content["execution_state"] == "idle"

    def stop(self) -> None:
        """Press the stop button."""
        self.manager.interrupt_kernel()


def environment(version: int) -> dict[str, str]:
    """Return the environment of a kernel with this version of ipykernel.

    Version 7 is installed beside the tests. Of version 6 there is a folder, which comes first.
    """
    folders = [str(PACKAGE)]
    if version == 6:
        if not os.environ.get(FOLDER_OF_6):
            pytest.skip(f"the variable {FOLDER_OF_6} names no folder with ipykernel 6; .ci/run makes one")
        folders.insert(0, os.environ[FOLDER_OF_6])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}


@contextmanager
def running_kernel(version: int) -> Iterator[Kernel]:
    """Start a kernel, and end it with the block, if it has not ended."""
    manager_of = pytest.importorskip("jupyter_client", reason="a kernel needs the extra `dev`").KernelManager
    env = environment(version)
    with kernel_config() as config:
        yield from _run(manager_of(kernel_name="python3", config=config), version, env)


def _run(manager: Any, version: int, env: dict[str, str]) -> Iterator[Kernel]:
    manager.start_kernel(env=env)
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=PROCESS_PATIENCE)
        kernel = Kernel(manager, client)
        assert kernel.run("import ipykernel; print(ipykernel.__version__)").printed.startswith(f"{version}.")
        yield kernel
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
