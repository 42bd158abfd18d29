"""Code of a page or of a docstring, run as it stands, with `await` at the top level."""

from __future__ import annotations

import ast
import asyncio
import inspect
from queue import SimpleQueue
from typing import Any


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
