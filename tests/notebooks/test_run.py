"""The notebooks run: each from top to bottom in a fresh kernel."""

from __future__ import annotations

import copy

import nbformat
import pytest
from support import notebooks
from support.pages import NOTEBOOKS


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_from_top_to_bottom(path, tmp_path):
    """No cell raises or warns, and each puts out what is saved of it: as many outputs, of the same kinds."""
    saved = nbformat.read(path, as_version=4)
    notebook = notebooks.run(copy.deepcopy(saved), tmp_path)
    assert notebooks.faults(notebook) == []
    assert notebooks.kinds(notebook) == notebooks.kinds(saved)
