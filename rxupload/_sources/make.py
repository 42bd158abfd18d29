"""`make_source` chooses the kind of source by the type of the argument, without opening or reading it."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Iterable, Iterator, Mapping
from inspect import isasyncgenfunction, iscoroutinefunction
from typing import Any

from reactivex import abc

from .asynchronous import AsyncOnceSource
from .base import Buffer, FileSource, Source, is_buffer, type_name
from .described import filename_of
from .file_object import file_source
from .inside import Inside
from .iterable import FreshSource, OnceSource
from .memory import BytesSource
from .observable import ObservableSource
from .openable import openable_source, opens
from .path import PathSource
from .reading import base_name, check_binary

_MEDIA_TYPE = re.compile(
    r"(application|audio|font|image|message|model|multipart|text|video)/[^\s/]+(\s*;.*)?"
)


def make_source(  # noqa: C901, PLR0911 - one for each kind
    file: FileSource, *, size: int | None = None, argument: str = "file"
) -> Source:
    """Choose the kind of source, without opening or reading it.

    Args:
        file: What to upload. The caller unwraps a `File`.
        size: The declared size in bytes, if any.
        argument: The name of the caller's argument, for the text of an error.

    Raises:
        TypeError: A file object in text mode, or a value that cannot be uploaded at all.
        ValueError: An empty path, a closed or unreadable file object, or one that stands at its end, a negative size.
    """
    _check_size(size, argument)
    if isinstance(file, str | os.PathLike):
        inside = file if isinstance(file, Inside) else None
        return PathSource(_checked_path(file, argument), size, inside=inside)
    if is_buffer(file) or hasattr(file, "__array_interface__"):
        return BytesSource("the data", size, _checked_memory(file, argument))
    if isinstance(file, abc.ObservableBase):
        return ObservableSource("the Observable", size, file)
    if hasattr(file, "read") and not isinstance(file, type):
        check_binary(file, argument)
        return file_source(file, size, argument)
    if opens(file):
        return openable_source(file, size, argument)
    if callable(file):
        label = "what the function returned"
        return FreshSource(label, size, lambda _: file(), needs_loop=_is_asynchronous(file))
    if isinstance(file, Iterator) and iter(file) is file:
        return OnceSource("the iterator", size, file)
    if isinstance(file, tuple) and any(isinstance(each, str) for each in file):
        raise requests_tuple(file, argument, is_in_list=True)
    if isinstance(file, Iterable) and not isinstance(file, Mapping):
        return FreshSource("the iterable", size, lambda _: file)
    if isinstance(file, AsyncIterable):
        return _async_source(file, size)
    raise TypeError(
        f"{argument} must be a path (str or os.PathLike), bytes, an Observable of bytes, a binary file object, "
        f"an iterable of bytes, or a function that returns one of the last two, not {type_name(file)}"
        f"{_hint(file)}"
    )


def is_requests_tuple(files: object) -> bool:
    """Whether it is the (filename, file, type) of requests and httpx, with or without the type and headers.

    A tuple of several files may have a path and a file object, too. So it must have a type, or the same name twice.
    """
    match files:
        case (str() | None as filename, file):
            return _is_content(file) and (filename is None or filename_of(file) == base_name(filename))
        case (str() | None, file, str() as content_type, *_):
            return _is_content(file) and _MEDIA_TYPE.fullmatch(content_type) is not None
        case (str() | None, file, None, _):
            return _is_content(file)
    return False


def requests_tuple(file: tuple[Any, ...], argument: str, *, is_in_list: bool = False) -> TypeError:
    """Return the error for requests' tuple. In a list it may be (name, file) or (name, (filename, file, type))."""
    values: dict[str, object] = {}
    if is_in_list and len(file) == 2:  # noqa: PLR2004
        values["name"], inner = file
        file = inner if isinstance(inner, tuple) else ()
    values |= zip(("filename", "content_type"), (*file[:1], *file[2:]), strict=False)
    keywords = "".join(f", {name}={value!r}" for name, value in values.items() if isinstance(value, str))
    return TypeError(
        f"{argument}: a tuple means several files; for a name and a type give File(source{keywords})"
    )


def _is_content(file: object) -> bool:
    return hasattr(file, "read") or is_buffer(file)


def _is_asynchronous(function: Any) -> bool:
    """Whether a function, or an object that can be called, returns asynchronous content, as far as one can see."""
    return any(
        isasyncgenfunction(each) or iscoroutinefunction(each) for each in (function, function.__call__)
    )


def _async_source(file: AsyncIterable[Buffer], size: int | None) -> Source:
    # What can be closed is a stream: a response of httpx would wait for ever for its second reader.
    if hasattr(file, "aclose") or (isinstance(file, AsyncIterator) and aiter(file) is file):
        return AsyncOnceSource("the asynchronous iterator", size, file)
    return FreshSource("the asynchronous iterable", size, lambda _: file, needs_loop=True)


def _checked_memory(file: Any, argument: str) -> Buffer:
    dtype = getattr(file, "dtype", None)
    if not is_buffer(file) or getattr(dtype, "hasobject", False):  # pointers to objects are no content
        kind = type_name(file) if dtype is None else f"{type_name(file)} of {dtype}"
        raise TypeError(
            f"{argument} is an {kind}, which cannot be read as bytes; save it to an io.BytesIO, and upload that"
        )
    if not memoryview(file).c_contiguous:
        raise ValueError(f"{argument} must be contiguous in memory; upload bytes({argument}) instead")
    return file


def _hint(file: object) -> str:
    """Say what to do with what other libraries take."""
    if isinstance(file, Mapping):
        return "; the name of the form field is `name`, or that of File(source, name=...)"
    return "; await it, or give the function that returns it" if isinstance(file, Awaitable) else ""


def _check_size(size: object, argument: str) -> None:
    if size is None:
        return
    if isinstance(size, bool) or not isinstance(size, int):
        raise TypeError(f"{argument}: size must be an int, a number of bytes, not {type_name(size)}")
    if size < 0:
        raise ValueError(f"{argument}: size must not be negative, and is {size}")


def _checked_path(file: str | os.PathLike[str] | os.PathLike[bytes], argument: str) -> str:
    path = os.fsdecode(file)
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        raise ValueError(
            f"{argument} must be a path, and {path!r} has characters that none can have"
        ) from None
    if not path or "\0" in path:
        raise ValueError(f"{argument} must be a path, and {path!r} is none")
    return path
