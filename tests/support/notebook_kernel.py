"""Cells that run in a fresh Jupyter kernel."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from typing import Any

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config


@contextlib.contextmanager
def kernel_config() -> Iterator[Config]:
    """Yield the settings of a kernel: Unix sockets, because another process could take a free port first."""
    with tempfile.TemporaryDirectory() as folder:
        sockets = {} if os.name == "nt" else {"transport": "ipc", "ip": f"{folder}/kernel"}
        yield Config(KernelManager=sockets)


def run_cells(*sources: str) -> list[Any]:
    """Run code in a fresh Jupyter kernel; return the text that each cell printed."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    with kernel_config() as config:
        NotebookClient(notebook, config=config, timeout=120, kernel_name="python3").execute()
    return ["".join(output.get("text", "") for output in cell.outputs) for cell in notebook.cells]
