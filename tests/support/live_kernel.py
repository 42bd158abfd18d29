"""A Jupyter kernel and the page of its front end, as far as a test needs it: outputs, displays and widgets."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Self

from jupyter_client.manager import KernelManager

from .notebook_kernel import kernel_config

PATIENCE = 120.0
WIDGET = "application/vnd.jupyter.widget-view+json"


class LiveKernel:
    """A kernel of its own process. It is stopped at the end of the `with` block.

    Attributes:
        outputs: The outputs of each cell as the page has them, by the cell.
        updates: The data of each update of a display, in their order, with the cell that it says it comes from.
        widgets: The state of each widget, by its model.
        values: Each later `value` of a widget, in their order.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        config = self._stack.enter_context(kernel_config())
        self._manager = KernelManager(kernel_name="python3", config=config)
        self.outputs: dict[str, list[dict[str, Any]]] = {}
        self.updates: list[tuple[str, dict[str, Any]]] = []
        self.widgets: dict[str, dict[str, Any]] = {}
        self.values: list[str] = []
        self._by_display: dict[str, list[dict[str, Any]]] = {}
        self._idle: set[str] = set()

    def __enter__(self) -> Self:
        self._manager.start_kernel()
        self._client = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        with self._stack:
            self._client.stop_channels()
            self._manager.shutdown_kernel(now=True)

    def start(self, code: str) -> str:
        """Run a cell, and return it at once."""
        cell: str = self._client.execute(code)
        self.outputs[cell] = []
        return cell

    def run(self, code: str) -> str:
        """Run a cell, wait for its end, and return it."""
        cell = self.start(code)
        self.wait(lambda: self.is_idle(cell))
        errors = [each for each in self.outputs[cell] if each["type"] == "error"]
        assert not errors, "\n".join(errors[0]["traceback"])
        return cell

    def is_idle(self, cell: str) -> bool:
        """Whether the cell has ended."""
        return cell in self._idle

    def text(self, cell: str) -> str:
        """What a cell has printed."""
        return "".join(each.get("text", "") for each in self.outputs[cell])

    def data(self, cell: str) -> dict[str, Any]:
        """The data of the only display of a cell."""
        (found,) = [each["data"] for each in self.outputs[cell] if "data" in each]
        return found

    def shown(self, cell: str) -> str:
        """The text that the display of a cell shows now: that of its widget, or else its own."""
        data = self.data(cell)
        if WIDGET in data:
            line, _ = self.children(cell)
            return self.widgets[line]["value"]
        return data["text/plain"]

    def children(self, cell: str) -> list[str]:
        """The models of the line and of the button that a cell shows."""
        box = self.widgets[self.data(cell)[WIDGET]["model_id"]]
        return [each.removeprefix("IPY_MODEL_") for each in box["children"]]

    def click(self, button: str, subshell: str | None = None) -> None:
        """Click a button, with the message that a front end sends: JupyterLab from 4.4 on to a subshell, if it can."""
        data = {"method": "custom", "content": {"event": "click"}}
        message = self._client.session.msg("comm_msg", {"comm_id": button, "data": data})
        if subshell is not None:
            message["header"]["subshell_id"] = subshell
        self._client.shell_channel.send(message)

    def make_subshell(self) -> str:
        """Make a subshell, which handles messages on a thread of its own."""
        self._client.control_channel.send(self._client.session.msg("create_subshell_request", {}))
        reply = self._client.get_control_msg(timeout=PATIENCE)
        subshell: str = reply["content"]["subshell_id"]
        return subshell

    def wait(self, until: Callable[[], object]) -> None:
        """Read messages until it is true."""
        deadline = time.monotonic() + PATIENCE
        while not until():
            left = deadline - time.monotonic()
            try:
                message = self._client.get_iopub_msg(timeout=max(left, 0.01))
            except queue.Empty:
                raise AssertionError(f"it has not happened; {self.outputs} {self.widgets}") from None
            self._take(message)

    def _take(self, message: dict[str, Any]) -> None:
        kind, content = message["msg_type"], message["content"]
        cell = message["parent_header"].get("msg_id", "")
        outputs = self.outputs.setdefault(cell, [])
        if kind == "status" and content["execution_state"] == "idle":
            self._idle.add(cell)
        elif kind in ("display_data", "execute_result", "stream", "error"):
            outputs.append({"type": kind, **content})
            self._by_display.setdefault(display_id(content), []).append(outputs[-1])
        elif kind == "update_display_data":
            self.updates.append((cell, content["data"]))
            for each in self._by_display[display_id(content)]:
                each["data"] = content["data"]
        elif kind.startswith("comm_"):
            self._take_of_comm(kind, content)

    def _take_of_comm(self, kind: str, content: dict[str, Any]) -> None:
        state = content["data"].get("state", {})
        if kind == "comm_open":
            self.widgets[content["comm_id"]] = dict(state)
        elif kind == "comm_close":
            del self.widgets[content["comm_id"]]
        else:
            self.widgets[content["comm_id"]].update(state)
            self.values += [state["value"]] if "value" in state else []


def display_id(content: dict[str, Any]) -> str:
    """The id of the display that an output is, or "" if it is none."""
    found: str = content.get("transient", {}).get("display_id", "")
    return found
