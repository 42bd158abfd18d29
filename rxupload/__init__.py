"""HTTP file uploads as reactivex Observables, with truthful progress and an abort at any moment.

::

    from rxupload import upload

    response = upload("http://127.0.0.1:8000/photos", "beach.jpg").run()

Start with `help(rxupload.upload)`. `rxupload.upload_all` uploads many files. `rxupload.operators` has retries, progress
bars and rates. `rxupload.uploadtask` has callbacks. `rxupload.receiver` is a server to try it all on.
"""

import importlib as _importlib
import typing as _typing

from ._arguments import HeaderTypes
from ._body import Field, FieldValue
from ._errors import (
    DigestMismatch,
    RedirectRefused,
    ResponseTooLarge,
    SourceChanged,
    UploadAborted,
    UploadTimeout,
)
from ._events import (
    BatchEvent,
    BatchProgress,
    BatchSummary,
    ItemDone,
    ItemFailed,
    ItemProgress,
    Progress,
    UploadEvent,
)
from ._run import run
from ._sources import File, FileSource
from ._stream import stream
from ._upload import Upload, upload

if _typing.TYPE_CHECKING:
    from . import operators as operators
    from . import receiver as receiver
    from . import uploadtask as uploadtask
    from ._batch import BatchTask, UploadAll, upload_all
    from ._client import Client, HTTPClient
    from ._transport import UploadTransport

__version__ = "0.1.0"

__all__ = [
    "BatchEvent",
    "BatchProgress",
    "BatchSummary",
    "BatchTask",
    "Client",
    "DigestMismatch",
    "Field",
    "FieldValue",
    "File",
    "FileSource",
    "HTTPClient",
    "HeaderTypes",
    "ItemDone",
    "ItemFailed",
    "ItemProgress",
    "Progress",
    "RedirectRefused",
    "ResponseTooLarge",
    "SourceChanged",
    "Upload",
    "UploadAborted",
    "UploadAll",
    "UploadEvent",
    "UploadTimeout",
    "UploadTransport",
    "run",
    "stream",
    "upload",
    "upload_all",
]

# Loaded on first use, because many programs do without.
_LOADED_LATER = {
    "BatchTask": "_batch",
    "Client": "_client",
    "HTTPClient": "_client",
    "UploadAll": "_batch",
    "UploadTransport": "_transport",
    "operators": "operators",
    "receiver": "receiver",
    "upload_all": "_batch",
    "uploadtask": "uploadtask",
}


def __getattr__(name: str) -> _typing.Any:
    if name not in _LOADED_LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = _importlib.import_module(f".{_LOADED_LATER[name]}", __name__)
    value = globals()[name] = module if name == _LOADED_LATER[name] else getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LOADED_LATER})
