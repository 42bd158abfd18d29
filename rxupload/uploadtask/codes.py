"""Makes the arguments of `fail` from an error: a sentence and a code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rxupload._addresses import cleaned, shown
from rxupload._errors import UploadAborted


def failure(error: Exception, given: Mapping[Any, Any]) -> tuple[str, int]:
    """Return the arguments of `fail`: one sentence that says what failed, and its code."""
    path = given["filePath"]
    if isinstance(error, UploadAborted):
        return str(error), 1002
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return f"The file {path} does not exist", 301
    if isinstance(error, IsADirectoryError):
        return f"filePath: {path} is a directory", 202
    if type(error) is PermissionError:
        return f"The file {path} cannot be read: {error.strerror}", 300
    address = shown(given["url"])
    reason = cleaned(str(error).replace(given["url"], address)) or type(error).__name__
    return f"The upload of {path} to {address} failed: {' '.join(reason.split())}", _code(error)


def _code(error: Exception) -> int:
    kinds = {kind.__name__ for kind in type(error).__mro__}  # by name, because httpx2 has its own classes
    if "TimeoutException" in kinds or isinstance(error, TimeoutError):
        return 204
    if isinstance(error, OSError) or kinds & {"ReadError", "WriteError", "CloseError"}:
        return 300
    return 200
