"""Reads what opens as a file object without being a path: zipfile.Path, Traversable, fsspec's OpenFile and UPath."""

from __future__ import annotations

import copy
from contextlib import ExitStack
from typing import Any

from .base import Source
from .described import without_compression
from .iterable import FreshSource
from .reading import base_name


def opens(file: Any) -> bool:
    """Whether it has a name, and a method that opens it."""
    if isinstance(file, type) or not callable(getattr(file, "open", None)):
        return False
    return _is_open_file(file) or isinstance(getattr(file, "name", None), str)


def openable_source(file: Any, declared: int | None, argument: str) -> Source:
    """Make a source that opens it for each pass.

    Raises:
        TypeError: An OpenFile is in text mode, or opens for writing.
    """
    if not _is_open_file(file):
        source = FreshSource(f"{argument} {file.name!r}", declared, lambda _: file.open("rb"))
        source.default_filename = base_name(file.name)
        return source
    if file.mode != "rb":
        raise TypeError(f'{argument} is a file with the mode {file.mode!r}; open it with the mode "rb"')
    name = base_name(file.path)
    is_compressed = file.compression is not None
    source = FreshSource(f"{argument} {name!r}", declared, lambda opened: _opened(file, opened))
    source.default_filename = (is_compressed and without_compression(name)) or name
    return source


def _is_open_file(file: Any) -> bool:
    """Whether it is an OpenFile of fsspec, whose `open` has no argument."""
    return all(hasattr(file, name) for name in ("fs", "path", "mode", "compression"))


def _opened(file: Any, stack: ExitStack) -> Any:
    own = copy.copy(file)  # it can be open only once
    stack.callback(own.close)
    return own.open()
