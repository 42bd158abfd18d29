"""Shortens the traceback of an upload's error to the frames of the caller, which alone say something to a reader."""

from __future__ import annotations

import logging
import sys
from types import FrameType, TracebackType

from ._errors import UploadAborted

_logger = logging.getLogger("rxupload")

_HTTP = {"httpx", "httpx2"}
_INNER = {"rxupload", "reactivex", *_HTTP, "httpcore", "httpcore2", "h11", "h2", *sys.stdlib_module_names}


def leave_out_inner_frames(error: BaseException) -> None:
    """Remove the library's frames from the traceback of an error that ends an upload.

    The first frame of the caller's code, such as a source that raises, and all after it stay. Without one, nothing
    stays, if the error tells of the network or of a file: its text says what happened. Any other error, which may be a
    fault of the library, keeps all frames. Causes keep theirs. At level DEBUG, the logger "rxupload" has the whole
    traceback.
    """
    if error.__traceback__ is None:
        return
    _logger.debug("An upload has failed", exc_info=error)
    traceback: TracebackType | None = error.__traceback__
    while traceback is not None and _is_inner(traceback.tb_frame):
        traceback = traceback.tb_next
    if traceback is not None or _tells_of_the_world(error):
        error.__traceback__ = traceback


def _is_inner(frame: FrameType) -> bool:
    name: str = frame.f_globals.get("__name__", "")
    return name.partition(".")[0] in _INNER


def _tells_of_the_world(error: BaseException) -> bool:
    return isinstance(error, (OSError, UploadAborted)) or any(
        kind.__module__.partition(".")[0] in _HTTP for kind in type(error).__mro__
    )
