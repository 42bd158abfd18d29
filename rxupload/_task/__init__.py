"""Runs uploads as tasks with callbacks, for `uploadtask` and `Upload.start()`. It knows only Observables."""

from .payloads import HeadersUpdate, ProgressUpdate, UploadResult
from .task import UploadTask

__all__ = ["HeadersUpdate", "ProgressUpdate", "UploadResult", "UploadTask"]
