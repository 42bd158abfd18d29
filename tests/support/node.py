"""Runs programs of Node with packages of npm, which are no part of this repository."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command_line import PROCESS_PATIENCE

VARIABLE = "RXUPLOAD_NODE_MODULES"
_OLDEST = (20, 19)  # what the servers need; it has `require` for modules of ECMAScript


@functools.cache
def node_version() -> tuple[int, ...]:
    """The version of Node; () if it is not installed."""
    if shutil.which("node") is None:
        return ()
    said = subprocess.run(["node", "--version"], capture_output=True, encoding="utf-8", check=True).stdout
    return tuple(map(int, said.strip().lstrip("v").split(".")))


def node_modules(*packages: str) -> Path:
    """The folder with these packages. Without it or Node, skip the test, and say how to install them."""
    if node_version() < _OLDEST:
        pytest.skip("Node is not installed, or older than 20.19")
    folder = Path(os.environ.get(VARIABLE, ""))
    missing = [name for name in packages if not folder.joinpath(name, "package.json").is_file()]
    if VARIABLE not in os.environ or missing:
        pytest.skip(f"{VARIABLE} names no folder with {' and '.join(packages)}; .ci/run installs them")
    return folder


def run_node(script: str, *args: object, packages: tuple[str, ...], timeout: float) -> str:
    """Run a script of CommonJS, and return what it printed."""
    environment = os.environ | {"NODE_PATH": os.fspath(node_modules(*packages))}
    done = subprocess.run(
        ["node", "-e", script, *map(str, args)],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextlib.contextmanager
def running_node(script: str, *args: object, packages: tuple[str, ...]) -> Iterator[subprocess.Popen[str]]:
    """A process that runs a script of CommonJS. Its input ends with the block, and then it is killed."""
    environment = os.environ | {"NODE_PATH": os.fspath(node_modules(*packages))}
    argv = ["node", "-e", script, *map(str, args)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(argv, env=environment, encoding="utf-8", **pipes) as process:
        watchdog = threading.Timer(5 * PROCESS_PATIENCE, process.kill)
        watchdog.start()
        try:
            yield process
        finally:
            watchdog.cancel()
            process.kill()
