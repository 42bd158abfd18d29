"""Offers `uploadFile` and `UploadTask`, the callback API of `system.uploadtask`, as an adapter over `Upload`.

The names and payloads are those of mini-programs and Quick Apps, so that their code needs few changes::

    task = uploadFile({"url": url, "filePath": "beach.jpg", "name": "photo", "success": print})
    task.onProgressUpdate(print)
    task.abort()

Nothing here knows about networks: a task subscribes to an Observable of events, and passes them to its callbacks.

Such code can move to pipelines one call at a time, and works after each step:

1. A listener becomes a subscription. `task.events` is the running upload, which late observers may join::

    task = uploadFile(url=url, filePath="beach.jpg", name="photo")
    task.events.pipe(of_type(Progress)).subscribe(lambda progress: print(progress.percent), on_error=print)

2. `success` and `fail` become a result and an exception. `task.result()` does the same, and blocks::

    res = await task

3. The call becomes a description, and `start()` returns the same kind of task. `timeout` is now in seconds; it was in
   milliseconds, and 20000 by default. Redirects are now followed only if asked for::

    task = upload(url, "beach.jpg", "photo", timeout=20, follow_redirects=True).start()
    res = await task

4. The task becomes a subscription of its own, and `abort()` becomes `dispose()`, or the cancelling of what awaits::

    response = await upload(url, "beach.jpg", "photo").pipe(retry_backoff())
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
