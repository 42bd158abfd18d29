"""Offers `uploadFile` and `UploadTask`, the callback API of `system.uploadtask`, as an adapter over `Upload`.

The names and payloads are those of mini-programs and Quick Apps, so that their code needs few changes::

    task = uploadFile({"url": url, "filePath": "beach.jpg", "name": "photo", "success": print})
    task.onProgressUpdate(print)
    task.abort()

Nothing here knows about networks: a task subscribes to an Observable of events, and passes them to its callbacks.
"""

from rxupload._task import HeadersUpdate, ProgressUpdate, UploadResult, UploadTask

from .arguments import UploadFileObject, UploadFileOptions
from .upload_file import configure, uploadFile

__all__ = [
    "HeadersUpdate",
    "ProgressUpdate",
    "UploadFileObject",
    "UploadFileOptions",
    "UploadResult",
    "UploadTask",
    "configure",
    "uploadFile",
]
