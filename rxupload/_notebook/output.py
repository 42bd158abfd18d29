"""Sends what a notebook shows to the page, as an output of the cell to which it belongs."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, Protocol

from rxupload._kernel import kernel

from .report import Shown

_WIDGET = "application/vnd.jupyter.widget-view+json"


class Place:
    """The cell that this thread runs: its parent message in the kernel, to which each output belongs."""

    def __init__(self) -> None:
        """Take note of it.

        Raises:
            LookupError: ipykernel 7.0 knows none on this thread.
        """
        self._kernel: Any = kernel()
        self._parent = self._kernel.get_parent("shell")
        self._context = copy_context()  # in which ipywidgets and ipykernel 7 find the parent

    def send(self, kind: str, data: dict[str, Any], display_id: str) -> None:
        """Send an output of this cell. Any thread may call this.

        IPython's `display` would do for ipykernel 7. ipykernel 6 takes the parent of the cell that runs now.
        """
        content = {"data": data, "metadata": {}, "transient": {"display_id": display_id}}
        self._kernel.session.send(
            self._kernel.iopub_socket, kind, content, parent=self._parent, ident=b"display_data"
        )

    def run(self, function: Callable[..., object], *args: object) -> None:
        """Call a function as if in this cell. Any thread may call this."""
        self._context.copy().run(function, *args)


class Output(Protocol):
    """One output of a cell."""

    def update(self, shown: Shown) -> None:
        """Draw another picture."""

    def end(self, shown: Shown, saved: dict[str, str]) -> None:
        """Draw the last picture. `saved` stays in the notebook."""


class CellOutput:
    """One output of a cell. With an `abort` and with ipywidgets it has a button.

    A saved notebook has no widgets. So the last update does without their type: what is saved, or shown by GitHub and
    nbconvert, is then the end. The widget stays, with its last value, for pages that still show it.
    """

    def __init__(
        self, place: Place, shown: Shown, abort: Callable[[], object] | None, *, is_in_cell: bool = True
    ) -> None:
        self._place = place
        self._id = uuid.uuid4().hex
        self._line: Any = None
        self._button: Any = None
        data: dict[str, Any] = {**shown.bundle}
        if abort is not None and (model := self._make_widget(shown, abort)) is not None:
            data[_WIDGET] = {"version_major": 2, "version_minor": 0, "model_id": model}
        if is_in_cell:
            from IPython.display import display  # noqa: PLC0415 - the kernel has it

            display(data, raw=True, display_id=self._id)  # type: ignore[no-untyped-call]
        else:
            place.send("display_data", data, self._id)

    def _make_widget(self, shown: Shown, abort: Callable[[], object]) -> str | None:
        try:
            import ipywidgets  # type: ignore[import-untyped] # noqa: PLC0415 - an optional extra
        except ImportError:
            return None
        self._line = ipywidgets.HTML(shown.html, layout={"flex": "1 1 0", "min_width": "0"})
        self._button = ipywidgets.Button(
            description="Abort", tooltip="Abort the upload", layout={"width": "auto", "flex": "0 0 auto"}
        )
        # The kernel calls this on a thread of its choice, depending on its version. Every thread may call `abort`.
        self._on_click = lambda _: abort()
        self._button.on_click(self._on_click)
        box = ipywidgets.HBox([self._line, self._button], layout={"width": "100%"})
        return str(box.model_id)

    def update(self, shown: Shown) -> None:
        """Draw another picture."""
        if self._line is None:
            self._send(shown.bundle)
        else:
            self._place.run(setattr, self._line, "value", shown.html)

    def end(self, shown: Shown, saved: dict[str, str]) -> None:
        """Draw the last picture. `saved` stays in the notebook."""
        if self._line is not None:
            self._place.run(setattr, self._line, "value", shown.html)
            self._place.run(setattr, self._button, "disabled", True)
            self._button.on_click(
                self._on_click, remove=True
            )  # ipywidgets keeps the button, and this the task
        self._send(saved)

    def _send(self, data: dict[str, Any]) -> None:
        self._place.send("update_display_data", data, self._id)
