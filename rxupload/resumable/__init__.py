"""Uploads that go on where the server stands, after a broken connection, a killed process or a restarted machine.

::

    from rxupload.resumable import upload_resumable

    upload_resumable("https://example.org/files", "video.mp4").run()
"""

from rxupload._errors import ResumeInUse

from .outcome import Outcome
from .store import MemoryStore
from .tus import Tus
from .upload import ResumableUpload, upload_resumable

__all__ = ["MemoryStore", "Outcome", "ResumableUpload", "ResumeInUse", "Tus", "upload_resumable"]
