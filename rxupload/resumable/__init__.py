"""Uploads that go on where the server stands, after a broken connection, a killed process or a restarted machine.

::

    import rxupload
    from rxupload.operators import progress_bar, raise_for_status, retry_backoff
    from rxupload.resumable import FileStore, Tus, upload_resumable

    up = upload_resumable("http://127.0.0.1:8000/files", "video.mp4", protocol=Tus(), store=FileStore())
    response = rxupload.run(up.pipe(retry_backoff(attempts=8), progress_bar(), raise_for_status()))
    up.discard()  # a cold Observable: ends the upload on the server and forgets it

Start with `help(upload_resumable)` and `help(ResumableUpload)`.

The files of this room: `upload` checks the arguments; `subscription` opens store and file; `work` acts on the
verdicts of a `protocol` (`tus`, `google`, `ietf`), and `parallel` on those of several connections; `server` sends the
requests; `parts` cuts the file; `guard` and `identity` watch it; `store` and `file_store` remember the upload.
"""

from rxupload._errors import ResumeInUse

from .file_store import FileStore, StoredUpload
from .google import GoogleResumable
from .ietf import IetfResumable
from .outcome import Outcome
from .store import MemoryStore, Store
from .tus import Tus
from .upload import ResumableUpload, upload_resumable

__all__ = [
    "FileStore",
    "GoogleResumable",
    "IetfResumable",
    "MemoryStore",
    "Outcome",
    "ResumableUpload",
    "ResumeInUse",
    "Store",
    "StoredUpload",
    "Tus",
    "upload_resumable",
]
