"""Runs a notebook in a fresh kernel, says what of it is saved, and finds what must not be in a saved one."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
from matplotlib.image import imread
from nbclient import NotebookClient

from .notebook_kernel import kernel_config

WIDGET = "application/vnd.jupyter.widget-view+json"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
_PATH = re.compile(r"/(?:home|root|tmp|usr|opt|var|srv|mnt|work|Users|private)/|\b[A-Za-z]:\\|ipykernel_\d")
_ENDS = ("done", "failed", "aborted")
_LIGHT, _DARK = (
    (255, 255, 255),
    (30, 30, 30),
)  # the lightest and the darkest of the usual pages that are not black
_LEAST_CONTRAST = 2.9  # WCAG 2.2 wants 3 for parts of a figure; a saved pixel is rounded


class _Client(NotebookClient):
    """It takes updates of displays that come while another cell runs, too, as a page does."""

    async def async_start_new_kernel_client(self) -> Any:
        client = await super().async_start_new_kernel_client()
        get = client.iopub_channel.get_msg

        async def get_and_update(**options: Any) -> Any:
            message = await get(**options)
            if message["msg_type"] == "update_display_data":
                self.process_message(message, cell=None, cell_index=-1)
            return message

        client.iopub_channel.get_msg = get_and_update
        return client


def run(notebook: Any, folder: Path) -> Any:
    """Run a notebook from top to bottom, in a folder. Return it as it is to be saved; it is the same object.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell has raised.
    """
    with kernel_config() as config:
        client = _Client(
            notebook,
            config=config,
            timeout=120,
            kernel_name="python3",
            resources={"metadata": {"path": str(folder)}},
            store_widget_state=False,
            coalesce_streams=True,
        )
        client.execute()
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in code_cells(notebook):
        cell.metadata = nbformat.from_dict({})
        cell.outputs = [each for each in cell.outputs if _outlives_the_kernel(each)]
    return notebook


def _outlives_the_kernel(output: Any) -> bool:
    """Remove the widget from an output. Whether anything is left but the name of its class."""
    data = output.get("data", {})
    is_widget = data.pop(WIDGET, None) is not None
    return not is_widget or "text/html" in data


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(notebook: Any) -> list[list[str]]:
    """What each cell has put out: the name of a stream, or the media types of a display."""
    return [
        [output.get("name") or ", ".join(sorted(output.get("data", {}))) for output in cell.outputs]
        for cell in code_cells(notebook)
    ]


def faults(notebook: Any) -> list[str]:
    """What must not be in a saved notebook, and what is missing; empty if it is as it should be."""
    found = []
    if notebook.metadata != METADATA:
        found.append(f"metadata: {sorted(notebook.metadata)}")
    counts = [cell.execution_count for cell in code_cells(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        found.append(f"execution counts: {counts}")
    for number, cell in enumerate(notebook.cells):
        found += [
            f"cell {number}: {each}" for output in cell.get("outputs", ()) for each in _of_output(output)
        ]
    found += [f"no output: {title}" for title in _silent_sections(notebook)]
    return found


def _silent_sections(notebook: Any) -> Iterator[str]:
    """The headings whose cells put nothing out."""
    sections: dict[str, list[Any]] = {}
    cells: list[Any] = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cells.append(cell)
        elif title := re.match("## (.*)", cell.source):
            cells = sections.setdefault(title[1], [])
    return (title for title, cells in sections.items() if not any(cell.outputs for cell in cells))


def _of_output(output: Any) -> Iterator[str]:
    if output.output_type == "error":
        yield f"an error: {output.ename}"
    if output.get("name") == "stderr":
        yield f"a warning: {output.text}"
    data = output.get("data", {})
    yield from (f"a widget: {kind}" for kind in data if "widget" in kind)
    shown = data.get("text/plain", "")
    if "linear-gradient" in data.get("text/html", "") and not shown.startswith(_ENDS):
        yield f"a display without its end: {shown}"
    for text in (output.get("text", ""), *(str(each) for kind, each in data.items() if kind != "image/png")):
        yield from (f"a path: {line}" for line in text.splitlines() if _PATH.search(line))
    if "image/png" in data:
        yield from _of_figure(data["image/png"])


def _of_figure(png: str) -> Iterator[str]:
    pixels = imread(io.BytesIO(base64.b64decode(png)))
    if pixels.shape[2] < 4 or pixels[0, 0, 3] > 0 or np.mean(pixels[:, :, 3] == 0) < 0.2:
        yield "a figure with a ground of its own"
        return
    opaque = pixels[pixels[:, :, 3] == 1][:, :3]
    light, dark = (float(_luminance(np.array(each) / 255)) for each in (_LIGHT, _DARK))
    own = _luminance(opaque)
    for page, contrast in (
        ("light", (light + 0.05) / (own + 0.05)),
        ("dark", (own + 0.05) / (dark + 0.05)),
    ):
        if contrast.min() < _LEAST_CONTRAST:
            yield f"a colour of a figure is faint on a {page} page: {opaque[contrast.argmin()] * 255}"


def _luminance(colours: Any) -> Any:
    """The relative luminance of sRGB colours (WCAG 2.2)."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]
