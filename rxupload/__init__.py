"""HTTP file uploads as reactivex Observables: progress that tells the truth, and abort at any moment.

::

    from rxupload import upload

    response = upload("http://127.0.0.1:8000/photos", "beach.jpg").run()

Begin with `help(rxupload.upload)`. `rxupload.upload_all` is for many files, `rxupload.operators` for retries, bars and
rates, `rxupload.uploadtask` for callbacks, and `rxupload.receiver` for a server to try it all on.
"""

from . import operators as operators
from ._arguments import HeaderTypes
from ._batch import UploadAll, upload_all
from ._body import FieldValue
from ._client import Client, HTTPClient
from ._errors import RedirectRefused, ResponseTooLarge, SourceChanged, UploadAborted, UploadTimeout
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
from ._transport import UploadTransport
from ._upload import Upload, upload

__version__ = "0.1.0"

__all__ = [
    "BatchEvent",
    "BatchProgress",
    "BatchSummary",
    "Client",
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
    "upload",
    "upload_all",
]
