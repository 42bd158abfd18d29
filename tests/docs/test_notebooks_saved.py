"""The notebooks as they are saved: what a reader sees of them before he runs them."""

from __future__ import annotations

import base64
import io
from typing import Any

import nbformat
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from support import notebooks
from support.pages import NOTEBOOKS


def figure(ground: str, colour: str) -> str:
    """A PNG of a line on a ground, as a notebook has it."""
    drawn = Figure(figsize=(1, 1), facecolor=ground)
    drawn.add_artist(Line2D([0.2, 0.8], [0.5, 0.5], color=colour, linewidth=9))
    png = io.BytesIO()
    drawn.savefig(png)
    return base64.b64encode(png.getvalue()).decode()


def executed(*cells: Any) -> Any:
    """A notebook that has run in order."""
    notebook = new_notebook(cells=cells, metadata=dict(notebooks.METADATA))
    for number, cell in enumerate(notebooks.code_cells(notebook), start=1):
        cell.execution_count = number
    return notebook


def test_all_are_there():
    """These are the notebooks that the README names."""
    assert {path.stem for path in NOTEBOOKS} == {
        "callbacks",
        "first_upload",
        "honest_progress",
        "pipelines",
        "recipes",
        "resumable",
        "testing",
    }


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_saved_with_its_outputs(path):
    """It ran in order. It has no widget, no error, no path of a machine; its figures are for light and dark pages."""
    assert notebooks.faults(nbformat.read(path, as_version=4)) == []


WIDGET = {notebooks.WIDGET: {"model_id": "1"}, "text/plain": "IntSlider(value=1)", "text/html": "<b>1</b>"}
UPLOADING = {
    "text/plain": "uploading \u00b7 1%",
    "text/html": "<div style='background:linear-gradient(90deg,blue 1%,transparent 1%)'>uploading \u00b7 1%</div>",
}


@pytest.mark.parametrize(
    ("output", "fault"),
    [
        (new_output("error", ename="ValueError", evalue="", traceback=[]), "an error: ValueError"),
        (new_output("stream", name="stderr", text="Careful\n"), "a warning: Careful"),
        (new_output("stream", name="stdout", text="in /home/anna/notebooks\n"), "a path: in /home/anna"),
        (new_output("display_data", data=WIDGET), f"a widget: {notebooks.WIDGET}"),
        (new_output("display_data", data={"text/html": r"C:\Users\anna"}), r"a path: C:\Users\anna"),
        (new_output("display_data", data=UPLOADING), "a display without its end: uploading"),
        (new_output("display_data", data={"image/png": figure("white", "blue")}), "a ground of its own"),
        (new_output("display_data", data={"image/png": figure("none", "black")}), "faint on a dark page"),
        (new_output("display_data", data={"image/png": figure("none", "yellow")}), "faint on a light page"),
    ],
)
def test_faults_of_outputs_are_found(output, fault):
    """An output that must not be saved is a fault; a figure that is readable on both pages is none."""
    good = new_output("display_data", data={"image/png": figure("none", "grey")})
    (found,) = notebooks.faults(executed(new_code_cell(outputs=[good, output])))
    assert fault in found


def test_faults_of_notebooks_are_found():
    """So are the state of widgets, cells that have not run in order, and a section without an output."""
    notebook = executed(new_markdown_cell("## Silent"), new_code_cell())
    notebook.metadata["widgets"] = {}
    notebook.cells[1].execution_count = 2
    assert notebooks.faults(notebook) == [
        "metadata: ['kernelspec', 'language_info', 'widgets']",
        "execution counts: [2]",
        "no output: Silent",
    ]
