"""`make_source` chooses the kind of source by the type of the argument, without opening or reading it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Iterable, Iterator, Mapping

from reactivex import abc

from .base import FileSource, Source, asynchronous, is_buffer, type_name
from .file_object import file_source
from .inside import Inside
from .iterable import FreshSource, OnceSource
from .memory import BytesSource
from .path import PathSource
from .reading import check_binary


def make_source(  # noqa: PLR0911 - one for each kind
    file: FileSource, *, size: int | None = None, argument: str = "file"
) -> Source:
    """Choose the kind of source, without opening or reading it.

    Args:
        file: What to upload. The caller unwraps a `File`.
        size: The declared size in bytes, if any.
        argument: The name of the caller's argument, for the text of an error.

    Raises:
        TypeError: A file object in text mode, or a value that cannot be uploaded at all.
        ValueError: An empty path, a closed or unreadable file object, a negative size.
    """
    _check_size(size, argument)
    if isinstance(file, str | os.PathLike):
        inside = file if isinstance(file, Inside) else None
        return PathSource(_checked_path(file, argument), size, inside=inside)
    if is_buffer(file):
        if not memoryview(file).c_contiguous:
            raise ValueError(f"{argument} must be contiguous in memory; upload bytes({argument}) instead")
        return BytesSource("the data", size, file)
    if isinstance(file, abc.ObservableBase):
        from .observable import ObservableSource  # noqa: PLC0415 - few uploads are of one

        return ObservableSource("the Observable", size, file)
    if hasattr(file, "read") and not isinstance(file, type):
        check_binary(file, argument)
        return file_source(file, size)
    if callable(file):
        return FreshSource("what the function returned", size, file)
    if isinstance(file, Iterator) and iter(file) is file:
        return OnceSource("the iterator", size, file)
    if isinstance(file, Iterable) and not isinstance(file, Mapping | AsyncIterable):
        return FreshSource("the iterable", size, lambda: file)
    if isinstance(file, AsyncIterable):
        raise asynchronous(argument)
    raise TypeError(
        f"{argument} must be a path (str or os.PathLike), bytes, an Observable of bytes, a binary file object, "
        f"an iterable of bytes, or a function that returns one of the last two, not {type_name(file)}"
    )


def _check_size(size: object, argument: str) -> None:
    if size is None:
        return
    if isinstance(size, bool) or not isinstance(size, int):
        raise TypeError(f"{argument}: size must be an int, a number of bytes, not {type_name(size)}")
    if size < 0:
        raise ValueError(f"{argument}: size must not be negative, and is {size}")


def _checked_path(file: str | os.PathLike[str] | os.PathLike[bytes], argument: str) -> str:
    path = os.fsdecode(file)
    if not path or "\0" in path:
        raise ValueError(f"{argument} must be a path, and {path!r} is none")
    return path
