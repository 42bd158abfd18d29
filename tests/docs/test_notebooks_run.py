"""The notebooks run: each from top to bottom in a fresh kernel."""

from __future__ import annotations

import copy

import nbformat
import pytest
from nbformat.v4 import new_code_cell
from support import notebooks
from support.pages import NOTEBOOKS, ROOT


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_from_top_to_bottom(path, tmp_path):
    """No cell raises or warns, and each puts out what is saved of it: as many outputs, of the same kinds."""
    saved = nbformat.read(path, as_version=4)
    notebook = notebooks.run(copy.deepcopy(saved), tmp_path)
    assert notebooks.faults(notebook) == []
    assert notebooks.kinds(notebook) == notebooks.kinds(saved)


@pytest.mark.slow
def test_first_upload_does_without_the_upload_that_a_reader_aborts(tmp_path):
    """If it is aborted where it is shown, all other cells run, its display says so, and the last ones do."""
    notebook = nbformat.read(ROOT / "notebooks" / "first_upload.ipynb", as_version=4)
    (shown,) = [
        number for number, cell in enumerate(notebook.cells) if cell.source.endswith(".start()\ntask")
    ]
    notebook.cells.insert(shown + 1, new_code_cell("task.abort()"))
    notebooks.run(notebook, tmp_path)
    assert notebooks.faults(notebook) == []
    assert notebook.cells[shown].outputs[0].data["text/plain"].startswith("aborted")
    assert [output.text for cell in notebook.cells[-4:] for output in cell.get("outputs", ())] == [
        "it was aborted\n"
    ]
