"""`uploadFile`, and `configure` for what holds for all tasks."""
# ruff: noqa: N802, N803 - the names are another API's

from __future__ import annotations

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
    """Upload a file, and call functions as it goes on. Returns its task at once, and never raises for a wrong value.

    OBJECT is a dict, or the same names are keyword arguments:

    | name     | type     | required | meaning |
    |----------|----------|----------|---------|
    | url      | str      | yes | the server's address, http or https |
    | filePath | str      | yes | the path of the file; or `internal://{cache,files,mass,tmp}/path`, see `configure` |
    | name     | str      | yes | the form field under which the server finds the file |
    | header   | dict     | no  | request headers: str or numbers; the body's own Content-Type always wins |
    | formData | dict     | no  | further form fields: str, int, float, bool; None is left out |
    | timeout  | number   | no  | milliseconds for the whole transfer, from when it leaves the queue; 20000; 0: none |
    | success  | function | no  | called with `{"statusCode": int, "data": str, "headers": dict, "url": str}` |
    | fail     | function | no  | called with `(data: str, code: int)`: what failed, as a sentence and as a code |
    | complete | function | no  | called at the end, with nothing, after success as after fail |

    | code | when |
    |------|------|
    | 200  | any other failure: name not resolved, connection refused, TLS, not HTTP, redirects refused or too many |
    | 202  | wrong arguments |
    | 204  | timeout, of whatever kind |
    | 300  | the connection ended or was reset meanwhile; the file is unreadable, or shrank |
    | 301  | the file does not exist |
    | 1002 | aborted |

    Any status is a success; `url` is the address that answered, the last one after redirects. Exactly one of success
    and fail is called, then complete. The callbacks of one task never overlap, and come on threads of the library, or
    on the loop where `scheduler` has one. One that raises is logged (the logger is "rxupload") and stops nothing.

    At most 5 uploads run at once, more wait, first in first out. A script that reaches its end still finishes the
    uploads it started; Ctrl-C aborts them.

    Redirects are followed, 20 at most (or `max_redirects` of a client): 301, 307 and 308 send the body again, 302 and
    303 become GET, one from https to http fails with 200, and to another origin no credential goes.

    Args:
        OBJECT: The table above. An unknown key is a warning.
        **keywords: The same names; and `fileName`, `contentType`, what the server is told of the file in place of
            what its path says; `client`, an `httpx.Client` or `httpx2.Client`, whose own time limits and redirects'
            limit hold as well; `scheduler`, an `AsyncIOScheduler` on whose loop the callbacks are to come;
            `followRedirects`, True, False (the redirect is then the response), or "same-origin", with which one to
            another origin fails with 200.
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

    def tell(error: Exception) -> None:
        fail(*((str(error), 202) if error is source else failure(error, given)))

    return UploadTask(
        source,
        success=arguments.function_or_none(given, "success"),
        fail=fail and tell,
        complete=arguments.function_or_none(given, "complete"),
        scheduler=arguments.scheduler_or_none(given),
    )


def configure(
    *, max_concurrent: int | None = None, internal_root: str | os.PathLike[str] | None = None
) -> None:
    """Change what holds for all tasks; None leaves a setting as it is.

    Args:
        max_concurrent: How many uploads run at once; 5 at first. More wait, first in first out.
        internal_root: The folder that contains those of `internal://{cache,files,mass,tmp}/path`; in place of the
            variable `RXUPLOAD_INTERNAL_ROOT`.

    Raises:
        TypeError: If a setting is not of its type.
        ValueError: If `max_concurrent` is less than 1.
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
