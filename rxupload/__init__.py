"""HTTP file uploads as reactivex Observables, with truthful progress and an abort at any moment.

::

    from rxupload import upload

    response = upload("http://127.0.0.1:8000/photos", "beach.jpg").run()

Start with `help(rxupload.upload)`. `rxupload.upload_all` uploads many files. `rxupload.operators` has retries, progress
bars and rates. `rxupload.resumable` has uploads that go on after an interruption. `rxupload.uploadtask` has callbacks.
`rxupload.receiver` is a server to try it all on. `rxupload.testing` tests your own code that uploads.
"""

TYPE_CHECKING = False  # type checkers take it for True

if TYPE_CHECKING:
    from . import operators as operators
    from . import receiver as receiver
    from . import resumable as resumable
    from . import testing as testing
    from . import uploadtask as uploadtask
    from ._arguments import HeaderTypes
    from ._batch import BatchTask, UploadAll, upload_all
    from ._body import Field, FieldValue
    from ._client import Client, HTTPClient
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
    from ._transport import UploadTransport
    from ._upload import Upload, upload

del TYPE_CHECKING

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

# Each name is loaded on first use. Many programs do without most of them, and the command can end on Ctrl-C while the
# rest is loaded.
_MODULES = {
    "BatchEvent": "_events",
    "BatchProgress": "_events",
    "BatchSummary": "_events",
    "BatchTask": "_batch",
    "Client": "_client",
    "DigestMismatch": "_errors",
    "Field": "_body",
    "FieldValue": "_body",
    "File": "_sources",
    "FileSource": "_sources",
    "HTTPClient": "_client",
    "HeaderTypes": "_arguments",
    "ItemDone": "_events",
    "ItemFailed": "_events",
    "ItemProgress": "_events",
    "Progress": "_events",
    "RedirectRefused": "_errors",
    "ResponseTooLarge": "_errors",
    "SourceChanged": "_errors",
    "Upload": "_upload",
    "UploadAborted": "_errors",
    "UploadAll": "_batch",
    "UploadEvent": "_events",
    "UploadTimeout": "_errors",
    "UploadTransport": "_transport",
    "operators": "operators",
    "receiver": "receiver",
    "resumable": "resumable",
    "run": "_run",
    "stream": "_stream",
    "testing": "testing",
    "upload": "_upload",
    "upload_all": "_batch",
    "uploadtask": "uploadtask",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - loaded on first use, too

    module = import_module(f".{_MODULES[name]}", __name__)
    value = globals()[name] = module if name == _MODULES[name] else getattr(module, name)
    return value


def __dir__() -> list[str]:
    from importlib.util import find_spec  # noqa: PLC0415

    names = {*globals(), *_MODULES}
    if None in map(find_spec, ("h11", "python_multipart", "starlette", "uvicorn")):
        names.remove("receiver")  # an extra that is not there; `help()` would load it
    return sorted(names)
