"""The running upload that `uploadtask` and `Upload.start()` share; it knows only Observables."""

from .payloads import HeadersUpdate, ProgressUpdate, UploadResult
from .task import UploadTask

__all__ = ["HeadersUpdate", "ProgressUpdate", "UploadResult", "UploadTask"]
