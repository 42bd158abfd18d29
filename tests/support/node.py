"""Runs programs of Node with packages of npm, which are no part of this repository."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

VARIABLE = "RXUPLOAD_NODE_MODULES"


def node_modules(*packages: str) -> Path:
    """The folder with these packages. Without it or Node, skip the test, and say how to install them."""
    if shutil.which("node") is None:
        pytest.skip("Node is not installed")
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
