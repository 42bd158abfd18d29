"""Uploads that go on where the server stands, after a broken connection, a killed process or a restarted machine.

::

    from rxupload.resumable import upload_resumable

    upload_resumable("https://example.org/files", "video.mp4").run()
"""

from rxupload._errors import ResumeInUse

from .file_store import FileStore, StoredUpload
from .outcome import Outcome
from .store import MemoryStore, Store
from .tus import Tus
from .upload import ResumableUpload, upload_resumable

__all__ = [
    "FileStore",
    "MemoryStore",
    "Outcome",
    "ResumableUpload",
    "ResumeInUse",
    "Store",
    "StoredUpload",
    "Tus",
    "upload_resumable",
]
