"""`uploadFile`, and `configure` with the settings of all tasks."""
# ruff: noqa: N802, N803 - the names are another API's

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from typing import Any, Unpack, overload

from rxupload._arguments import wrong_type
from rxupload._task import UploadTask, queue
from rxupload._upload import Upload

from . import arguments
from .arguments import Keywords, UploadFileObject, UploadFileOptions
from .codes import failure


@overload
def uploadFile(OBJECT: UploadFileObject, /, **options: Unpack[UploadFileOptions]) -> UploadTask: ...
@overload
def uploadFile(**OBJECT: Unpack[Keywords]) -> UploadTask: ...
def uploadFile(OBJECT: Any = None, /, **keywords: Any) -> UploadTask:
    """Upload a file, and call functions on its events. Return its task at once, and never raise for a wrong value.

    OBJECT is a dict. The same names work as keyword arguments:

    | name     | type     | required | meaning |
    |----------|----------|----------|---------|
    | url      | str      | yes | the server's address, http or https |
    | filePath | str      | yes | the path of the file; or `internal://{cache,files,mass,tmp}/path`, see `configure` |
    | name     | str      | yes | the name of the form field that holds the file |
    | header   | dict     | no  | request headers: str or numbers; the body's own Content-Type takes precedence |
    | formData | dict     | no  | further form fields: str, int, float, bool; None is omitted |
    | timeout  | number   | no  | milliseconds for the whole transfer, after the queue; default 20000; 0: no limit |
    | success  | function | no  | called with `{"statusCode": int, "data": str, "headers": dict, "url": str}` |
    | fail     | function | no  | called with `(data: str, code: int)`: a sentence that says what failed, and a code |
    | complete | function | no  | called without arguments at the end, after success or fail |

    | code | when |
    |------|------|
    | 200  | any other failure: name not found, connection refused, TLS, not HTTP, redirects refused or too many |
    | 202  | wrong arguments |
    | 204  | timeout of any kind |
    | 300  | the connection ended or was reset; the file is unreadable, or shrank |
    | 301  | the file does not exist |
    | 1002 | aborted |

    Any status is a success. `url` is the address that answered, after redirects. Either success or fail is called,
    then complete. The callbacks of one task never overlap; those of different tasks may. They come on the loop of
    `scheduler`, or on threads of the library. With `scheduler=AsyncIOScheduler(loop)` a callback may be an `async def`
    function: it runs on that loop, and the next one waits for its end. It must not await its own task. Without such a
    loop it fails with 202, and as a listener it is a TypeError.

    If a callback raises, the logger "rxupload" logs the error, once for each callback, and the upload continues. It
    also logs the error of a task that is dropped without `fail`, `result()`, `await` or `events`.

    WeChat's `wx.uploadFile` differs in two callbacks: its `fail` gets one object, `err`, with `errMsg`, and its
    `complete` gets what success or fail got. Here they are `fail(data, code)` and `complete()`.

    At most 5 uploads run at once. The others wait, first in, first out. A script that reaches its end still finishes
    its uploads; Ctrl-C aborts them.

    At most 20 redirects are followed (or `max_redirects` of a client). 301, 307 and 308 send the body again. 302 and
    303 become GET. A redirect from https to http fails with 200. Another origin gets no credentials.

    Args:
        OBJECT: The table above. An unknown key causes a warning.
        **keywords: The same names, and these: `fileName` and `contentType`, sent to the server instead of those of the
            path; `client`, an `httpx.Client` or `httpx2.Client`, whose own limits on time and redirects also apply;
            `scheduler`, an `AsyncIOScheduler` to call the callbacks on; `followRedirects`: True, False (a redirect is
            then the response), or "same-origin" (a redirect to another origin then fails with 200).
    """
    given = {**(OBJECT if isinstance(OBJECT, Mapping) else {}), **keywords}
    arguments.warn_of_unknown_keys(given)
    source: Upload | Exception
    try:
        if OBJECT is not None and not isinstance(OBJECT, Mapping):
            raise wrong_type("OBJECT", "a dict", OBJECT)
        source = arguments.upload_of(given)
    except (TypeError, ValueError) as error:
        source = error
    fail = arguments.function_or_none(given, "fail")

    def tell(error: Exception) -> Any:
        return fail(*((str(error), 202) if error is source else failure(error, given)))

    if fail is not None:
        functools.update_wrapper(tell, fail)  # so that the log names it

    return UploadTask(
        source,
        about=arguments.about(given),
        success=arguments.function_or_none(given, "success"),
        fail=fail and tell,
        complete=arguments.function_or_none(given, "complete"),
        scheduler=arguments.scheduler_or_none(given),
    )


def configure(
    *, max_concurrent: int | None = None, internal_root: str | os.PathLike[str] | None = None
) -> None:
    """Change the settings of all tasks. None keeps a setting.

    Args:
        max_concurrent: The most uploads that run at once; 5 by default. The others wait, first in, first out.
        internal_root: The folder that contains those of `internal://{cache,files,mass,tmp}/path`. It replaces the
            environment variable `RXUPLOAD_INTERNAL_ROOT`. A symbolic link that leads out of these folders is not
            followed, not even one that is put there between the check and the opening of the file.

    Raises:
        TypeError: A setting has the wrong type.
        ValueError: `max_concurrent` is less than 1.
    """
    if max_concurrent is not None:
        if isinstance(max_concurrent, bool) or not isinstance(max_concurrent, int):
            raise wrong_type("max_concurrent", "an int", max_concurrent)
        if max_concurrent < 1:
            raise ValueError(f"max_concurrent: must be 1 or more; got {max_concurrent}")
        queue.uploads.limit = max_concurrent
        queue.uploads.advance()
    if internal_root is not None:
        arguments.set_internal_root(internal_root)
