"""HTTP file uploads as reactivex Observables: progress that tells the truth, and abort at any moment."""

from ._delivery import UploadEvent
from ._errors import SourceChanged, UploadAborted, UploadTimeout
from ._multipart import FieldValue
from ._progress import Progress
from ._source import File, FileSource
from ._transport import UploadTransport
from ._upload import HeaderTypes, HTTPClient, Upload, run, upload

__version__ = "0.1.0"

__all__ = [
    "FieldValue",
    "File",
    "FileSource",
    "HTTPClient",
    "HeaderTypes",
    "Progress",
    "SourceChanged",
    "Upload",
    "UploadAborted",
    "UploadEvent",
    "UploadTimeout",
    "UploadTransport",
    "run",
    "upload",
]
