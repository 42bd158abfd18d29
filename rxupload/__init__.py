"""HTTP file uploads as reactivex Observables: progress that tells the truth, and abort at any moment.

::

    from rxupload import upload

    response = upload("http://127.0.0.1:8000/photos", "beach.jpg").run()

Begin with `help(rxupload.upload)`. `rxupload.upload_all` is for many files, `rxupload.operators` for retries, bars and
rates, `rxupload.uploadtask` for callbacks, and `rxupload.receiver` for a server to try it all on.
"""

from . import operators as operators
from ._batch import (
    BatchEvent,
    BatchProgress,
    BatchSummary,
    ItemDone,
    ItemFailed,
    ItemProgress,
    UploadAll,
    upload_all,
)
from ._delivery import UploadEvent
from ._errors import SourceChanged, UploadAborted, UploadTimeout
from ._multipart import FieldValue
from ._progress import Progress
from ._source import File, FileSource
from ._transport import UploadTransport
from ._upload import HeaderTypes, HTTPClient, Upload, run, upload

__version__ = "0.1.0"

__all__ = [
    "BatchEvent",
    "BatchProgress",
    "BatchSummary",
    "FieldValue",
    "File",
    "FileSource",
    "HTTPClient",
    "HeaderTypes",
    "ItemDone",
    "ItemFailed",
    "ItemProgress",
    "Progress",
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
