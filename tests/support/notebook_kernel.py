"""Cells that run in a fresh Jupyter kernel."""

from __future__ import annotations

from typing import Any

import nbformat
from nbclient import NotebookClient


def run_cells(*sources: str) -> list[Any]:
    """Run code in a fresh Jupyter kernel; return the text that each cell printed."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    return ["".join(output.get("text", "") for output in cell.outputs) for cell in notebook.cells]
