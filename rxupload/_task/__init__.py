"""Runs uploads as tasks with callbacks, for `uploadtask` and `Upload.start()`. It knows only Observables."""

from .payloads import HeadersUpdate, ProgressUpdate, UploadResult
from .running import RunningTask
from .task import UploadTask

__all__ = ["HeadersUpdate", "ProgressUpdate", "RunningTask", "UploadResult", "UploadTask"]
