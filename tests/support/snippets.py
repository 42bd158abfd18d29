"""Code of a page or of a docstring, run as it stands, with `await` at the top level."""

from __future__ import annotations

import ast
import asyncio
import inspect
import threading
from queue import SimpleQueue
from typing import Any

from support.forms import filename_in
from support.scripted_server import PATIENCE

from rxupload.testing import Connection


def compiled(source: str, name: str) -> Any:
    return compile(source, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def run_snippet(source: str, names: dict[str, Any], name: str = "snippet") -> None:
    """Run it in a fresh event loop."""

    async def run() -> None:
        result = eval(compiled(source, name), names)
        if inspect.iscoroutine(result):
            await result

    asyncio.run(run())


class Recipe:
    """A recipe, run alone in its own namespace, with its output in a queue."""

    def __init__(self, source: str) -> None:
        self.printed: SimpleQueue[str] = SimpleQueue()
        self.names: dict[str, Any] = {"print": self._print}
        self._source = source

    def _print(self, *values: object, sep: str = " ", end: str = "\n") -> None:
        self.printed.put(sep.join(map(str, values)))

    def run(self, **names: object) -> Recipe:
        """Run it unchanged; the names are those that it takes for granted."""
        self.names |= names
        run_snippet(self._source, self.names, "recipe")
        return self

    def all_printed(self) -> str:
        """What it has printed so far, a line for each call."""
        return "\n".join(self.printed.get() for _ in range(self.printed.qsize()))


class FourAtATime:
    """A script of a server that answers uploads in groups of four, so that there must be as many at a time.

    Attributes:
        most: How many have been under way at a time.
        arrived: The filenames.
    """

    def __init__(self) -> None:
        self.most = 0
        self.arrived: set[bytes] = set()
        self._under_way = 0
        self._all_four = threading.Barrier(4)
        self._lock = threading.Lock()

    def __call__(self, connection: Connection) -> None:
        while connection.read_head():
            with self._lock:
                self._under_way += 1
                self.most = max(self.most, self._under_way)
            body = connection.read_body()
            self._all_four.wait(PATIENCE)
            with self._lock:
                self._under_way -= 1
                self.arrived.add(filename_in(body))
            connection.respond(200)
