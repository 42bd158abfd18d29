"""`upload()` and `Upload`, a cold Observable: each subscription to it sends one request."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import httpx
from reactivex import Observable, abc

from ._arguments import (
    Auth,
    FollowRedirects,
    HeaderTypes,
    Pause,
    RateLimit,
    check_auth,
    check_bool,
    check_client,
    check_headers,
    check_method,
    check_pause,
    check_rate_limit,
    check_scheduler,
    check_seconds,
    wrong_type,
)
from ._progress import Progress, UploadEvent
from ._run import run

if TYPE_CHECKING:
    from ._body import Field, FormData
    from ._client import HTTPClient
    from ._plan import Plan
    from ._sources import File, FileSource
    from ._task import UploadTask
    from ._worker import Exchange


def upload(
    url: str | httpx.URL,
    file: FileSource | File | Sequence[FileSource | File | Field],
    name: str = "file",
    *,
    filename: str | None = None,
    content_type: str | None = None,
    form_data: FormData | None = None,
    raw: bool = False,
    headers: HeaderTypes | None = None,
    method: str = "POST",
    timeout: float | None = None,
    progress_interval: float = 0.05,
    follow_redirects: FollowRedirects = None,
    expect_continue: bool = False,
    max_response_size: int | None = 64 * 1024 * 1024,
    rate_limit: RateLimit = None,
    pause: Pause = None,
    auth: Auth = None,
    digest: str | None = None,
    client: httpx.Client | HTTPClient | None = None,
) -> Upload:
    """Describe the upload of a file, or of several, as multipart/form-data; or of one as the body itself, with `raw`.

    It checks the arguments at once. The upload starts when the returned `Upload` is subscribed to, run or awaited. The
    form is encoded to the byte as browsers do it (WHATWG HTML, "Multipart form data"). If a size is unknown, the body
    goes out chunked, and `Progress.total` is None. No file is held in memory.

    Args:
        url: The address, http or https. It may be relative if the client has a `base_url`.
        file: A path, bytes, a binary file object, an iterable of bytes, a function that returns a fresh iterable
            or file object, or an Observable of bytes (see `File`). Iterables and file objects may be asynchronous; then
            the upload needs an asyncio loop (`await`, AsyncIOScheduler). A `File` gives a part its own names. A list or
            a tuple means several files; requests' tuple `(filename, file, type)` is a `File` here. The upload opens a
            path when it starts, and each pass opens anything else with `open("rb")` and a name. It reads a file object
            from its current position, and never closes it. An iterator can be read only once, so it can be uploaded
            only once. A file in /proc, or another one whose size is a lie, is read to find out. A `Field` with a name
            among the files is sent in its place, for an API that wants a field after them.
        name: The name of the form field that holds the file.
        filename: The file's name for the server; the default is the path's base name, the `filename` or `name` of a
            file object, or else "upload".
        content_type: The file's media type; else the `content_type` of a file that a web framework has received, the
            guess from the filename, the same on every machine for common suffixes, or application/octet-stream.
        form_data: Further form fields, sent in their order before the files: a mapping, or a list of pairs (name,
            value). A list as a value repeats its field. A value is a str, bytes, a bool ("true", "false"), an int, a
            float, one of numpy's, a Decimal, a UUID, or a date or datetime (ISO 8601). A `Field` has a type or headers
            of its own.
        raw: Whether the body is the file's bytes and nothing else, as for a presigned URL of S3 or GCS, WebDAV and
            object stores; mostly with `method="PUT"`. The Content-Type is `content_type`, or else that of `headers`,
            or of the client's, or else the guess. `content_type=""` sends none. There is one file, and neither
            `form_data`, `name`, `filename`, nor a `File` with name, filename or headers: a raw body has no place for
            them. The URL leaves as httpx quotes it, so `%2F`, `%2B`, `+` and `%7E` stay as they are.
        headers: Request headers. The body's own Content-Type, Content-Length and Transfer-Encoding take precedence.
        method: The request method.
        timeout: Seconds for the whole upload, from its start to the end of the response; None for no limit. The
            client's own timeouts (connect, read, write) also apply. The limit does not interrupt a source or an
            observer that blocks: it takes effect when that returns.
        progress_interval: The least seconds between two Progress items; 0 for every change. The first and the last
            item of a pass always come.
        follow_redirects: Whether to follow redirects, at most the client's `max_redirects`. None: as the client does;
            the default client follows none, like httpx. 301, 307 and 308 send the body again, with `Progress.attempt`
            one higher. 302 and 303 become GET. A redirect from https to http ends with `RedirectRefused`. Another
            origin gets no credentials, even if a later redirect leads back: no Authorization, Cookie, auth, cookies or
            params of the client, and no header with token, key, secret, password, session or signature in its name
            (Idempotency-Key excepted). Headers that an event hook adds are not removed. A warning in the log says that
            the body goes to another origin. With `"same-origin"` such a redirect ends with `RedirectRefused` instead.
            http to https on the same host and default ports is the same origin. The user and password of a Location
            are sent to its address. A redirect that is not followed is the response, with its `next_request` set.
        expect_continue: Whether to send `Expect: 100-continue` (RFC 9110, section 10.1.1) and wait for the server
            before sending the body, at most one second. A status of 300 or more is then the response, without a byte
            of the body sent. After a 417 the request is repeated without `Expect`; that is a second pass, which an
            iterator cannot make. A plain client sends the header and does not wait.
        max_response_size: The most bytes of the decoded response; None for no limit. An encoded one may have 64 KiB
            more. A longer one ends the upload with `ResponseTooLarge`. The request accepts only gzip and deflate, which
            are decoded in bounded steps, unless `headers` have an Accept-Encoding: httpx decodes br and zstd in steps
            of at most 32 MiB. A plain client itself reads the response to which its auth answers: that has no limit.
        rate_limit: Body bytes per second, more than 0; None for no limit. A burst has at most 50 ms' worth of bytes.
            Or an Observable of such values. Each applies until the next one; before the first there is no limit. Its
            error ends the upload. Each upload subscribes to it at its start, and disposes it before its end: on the
            loop, if the upload notifies on one, or else on the upload's own thread. It must not block there. A value
            that it emits at once applies to the first byte; a later one takes effect within 200 ms. Each upload has its
            own limit, even if several get the same Observable; that of `upload_all` is one for all.
        pause: An Observable of bool: True pauses the body, False resumes it. Its subscription works as that of
            `rate_limit`. No byte is written later than 100 ms after True. The system may still send what it has taken:
            at most 128 KiB wait in its queue (TCP_NOTSENT_LOWAT) if the server reads slowly. A pause stops the client's
            write timeout, but not `timeout`. The server may lose patience: its response, or a closed connection, ends
            the upload at once, and the error says for how long the upload was paused. With a plain client, bytes that
            were handed over are still sent (at most 64 KiB, and what the client and the system hold), and the server is
            heard only after the pause. An auth with `requires_request_body` makes httpx read the whole body first: then
            limit and pause apply to that reading.
        auth: As httpx takes it: `(user, password)`, a function of the request that returns it, or an `httpx.Auth` such
            as `httpx.DigestAuth`. It takes precedence over the client's own and over the URL's user and password, and
            is called on the upload's thread. Each further request that it makes, after a challenge, is a pass over the
            body. None: as the client does.
        digest: The name of a hash algorithm, such as "sha256": one of `hashlib.algorithms_available` with a fixed
            length, or "sha-256" and the like (RFC 9530). Each file is hashed as it is sent, so it is read once, and
            not sent by sendfile. `response.extensions["rxupload"]["digests"]` is then a list of hex strings, one for
            each file, by the last pass over the body; None for each if that pass did not send the whole body, because
            the server answered early. `["algorithm"]` beside it is hashlib's name of the algorithm.
            `operators.verify_digest` compares them with what the server has.
        client: An `httpx.Client` or `httpx2.Client`, for its auth, headers, proxies, TLS settings and connections.
            The upload does not close it. None: a default client that all uploads share. That one stores no cookies and
            reads the proxy environment variables. It waits at most 30 s for a connection, 60 s for the server to take
            a byte, and 600 s for the response or for more of it. A plain client counts bytes as sent when the
            system has taken them, and an abort takes effect at the next piece (up to 1 MiB) of body or response. There,
            a server that sends 1xx responses or a challenge for its auth without end holds the upload up for ever,
            whatever the time limit.

    Raises:
        TypeError: An argument has the wrong type; the message names it.
        ValueError: An argument is invalid: a URL without http(s), CR or LF in a header, a timeout of 0, an
            unknown hash algorithm, a file object that stands at its end (`seek(0)` first).
    """
    # The first call loads what uploads need, on the caller's thread; see `Upload.__init__`.
    from ._plan import Plan, as_files, check_digest, check_url, plan_form, plan_raw  # noqa: PLC0415

    _refuse_uploads(file)
    if client is not None:
        check_client(client)
    plan_body = plan_raw if check_bool("raw", raw) else plan_form
    return Upload(
        Plan(
            url=check_url(url, client, file),
            body=plan_body(as_files(file), name, filename, content_type, form_data),
            headers=check_headers(headers),
            method=check_method(method),
            timeout=None if timeout is None else check_seconds("timeout", timeout, zero=False),
            progress_interval=check_seconds("progress_interval", progress_interval, zero=True),
            follow_redirects=_check_follow(follow_redirects),
            max_response_size=_check_size(max_response_size),
            expect_continue=check_bool("expect_continue", expect_continue),
            rate_limit=check_rate_limit(rate_limit),
            pause=check_pause(pause),
            auth=check_auth(auth, client),
            digest=check_digest(digest),
            client=client,
        )
    )


class Upload(Observable[UploadEvent]):
    """An upload as a cold Observable: each subscription sends its own HTTP request.

    Its items are `Progress` while the body is sent. The last item is the `httpx.Response`, of any status::

        ---Progress(0)---Progress---Progress(every byte)---Response-|

    Errors come through `on_error` with their original type: `httpx.TransportError` and its subclasses, an `OSError` of
    the file, `UploadTimeout`, `SourceChanged`. If an observer raises, the upload is aborted, and the observer gets the
    exception back through `on_error`. Disposing the subscription aborts the upload and returns at once.

    The traceback of an error has the caller's frames, and of the library's only those of `run` or `await`; at level
    DEBUG, the logger "rxupload" has it whole. Observers and sources are called in a copy of the subscriber's context
    (`contextvars`). So in a Jupyter notebook, what they print is under the cell that subscribed. A thread that you
    start yourself has no such context, and neither have the timers of reactivex's own operators, such as `delay`: what
    they print is under the cell that runs. `contextvars.copy_context().run` gives a thread one.

    The scheduler given to `subscribe` decides on the thread:

    - None, NewThreadScheduler, ThreadPoolScheduler, TimeoutScheduler: the upload runs and notifies on a thread of its
      own.
    - ImmediateScheduler, CurrentThreadScheduler, virtual time: the upload runs in place and blocks. With
      ImmediateScheduler, `subscribe` returns only after it, so an operator such as `take` has nothing to dispose yet.
    - Any other (AsyncIOScheduler, EventLoopScheduler) has a loop. The upload runs on a thread of its own, notifies on
      the loop, and never blocks it. Any thread must be able to call the scheduler's `schedule`.
    """

    __iter__ = None  # with Observable's __getitem__, a `for` loop over it would never end

    def __init__(self, plan: Plan, exchange: Exchange | None = None) -> None:
        # Load the modules that do the work with the first upload, but not on a thread of its own: if the process forks
        # while a thread loads a module, the child can never load it.
        from ._subscription import begin, begin_here  # noqa: PLC0415
        from ._worker import send_whole  # noqa: PLC0415

        super().__init__(partial(begin, plan, exchange or send_whole))
        self._plan = plan
        self._on_this_thread = partial(begin_here, plan, exchange or send_whole)

    def __repr__(self) -> str:
        from ._cards import listed  # noqa: PLC0415 - most programs do without it

        files = listed(self._plan.body.filenames)
        return f"<{type(self).__name__} {self._plan.method} {self._plan.address} {files}>"

    def _repr_html_(self) -> str:
        """Return a card for a notebook: what the upload would send, and where to. It opens no file."""
        from ._cards import upload_card  # noqa: PLC0415 - most programs do without it

        plan = self._plan
        rows, count = plan.body.rows(plan.headers), len(plan.body.sources)
        return upload_card(plan.method, plan.address, rows, count, plan.body.fields)

    @property
    def _begin_here(self) -> Any:
        """The function with which `run` begins it on the calling thread.

        None if it calls something of the caller's, which could block the thread.
        """
        plan = self._plan
        is_set = plan.pause is not None or isinstance(plan.rate_limit, abc.ObservableBase)
        is_plain = plan.auth is None or isinstance(plan.auth, tuple) or type(plan.auth) is httpx.BasicAuth
        calls_back = any(each.calls_back for each in plan.body.sources)
        is_here = plan.client is None and is_plain and not is_set and not calls_back
        return self._on_this_thread if is_here else None

    def _measure(self) -> int | None:
        """Return the size of the body in bytes without opening a file; None if unknown, 0 if it cannot be opened."""
        try:
            return self._plan.body.measure()
        except OSError:
            return 0

    @property
    def progress(self) -> Observable[Progress]:
        """Only the Progress items; it completes with the upload. Subscribing to it starts an upload."""
        return cast("Observable[Progress]", self.filter(lambda item: isinstance(item, Progress)))

    def run(self, scheduler: abc.SchedulerBase | None = None) -> httpx.Response:
        """Upload, wait, and return the response with its body read.

        Ctrl-C aborts the upload before it propagates; see `rxupload.run`.

        Args:
            scheduler: Decides on the thread, as for `subscribe`. None for a new thread, or for the calling one if
                nothing of the caller's is called there: paths and bytes, the default client, no Observable.

        Raises:
            Exception: The error that ended the upload; see the class.
        """
        return cast("httpx.Response", run(self, scheduler))

    def __await__(self) -> Generator[Any, None, httpx.Response]:
        """Upload without blocking the event loop, and return the response. Cancelling aborts the upload.

        `asyncio.ensure_future(upload(...))` is a task of its own. A TaskGroup wants a coroutine, which awaits it.
        The stop button of a Jupyter kernel cancels the cell, and so aborts.
        """
        return cast("Generator[Any, None, httpx.Response]", super().__await__())

    def __aiter__(self) -> AsyncIterator[UploadEvent]:
        """Upload, and iterate over the events: `async for event in upload(...)`. See `rxupload.stream`."""
        from ._stream import stream  # noqa: PLC0415 - most programs do without it

        return stream(self)

    def start(self, *, scheduler: abc.SchedulerBase | None = None) -> UploadTask:
        """Start the upload, and return the running task, with callbacks, `abort()`, `result()` and `await`.

        It may have to wait: at most 5 tasks run at once, those of `uploadFile` included.

        A pipeline is an Observable of reactivex, which has no `start()`, but a batch of one has:
        `upload_all([pipeline]).start()`. On a loop, as in a notebook, `asyncio.ensure_future(pipeline)` is a task, too:
        awaiting it gives the response, and `cancel()` aborts the upload.

        Args:
            scheduler: A scheduler with a loop, such as AsyncIOScheduler, to call the callbacks on. None: the library
                calls them on its own threads.
        """
        check_scheduler(scheduler)
        from ._cards import short  # noqa: PLC0415 - most programs do without it
        from ._task import UploadTask  # noqa: PLC0415 - most programs do without it

        filenames = self._plan.body.filenames
        others = f" and {len(filenames) - 1} more" if len(filenames) > 1 else ""
        about = f"{short(filenames[0])}{others} to {self._plan.address}"
        return UploadTask(self, about=about, scheduler=scheduler)


def _check_follow(follow: Any) -> FollowRedirects:
    if follow is not None and not isinstance(follow, bool) and follow != "same-origin":
        raise ValueError(f'follow_redirects: must be True, False, "same-origin" or None, not {follow!r}')
    return cast("FollowRedirects", follow)


def _check_size(size: Any) -> int | None:
    if size is None:
        return None
    if isinstance(size, bool) or not isinstance(size, int):
        raise wrong_type("max_response_size", "an int, a number of bytes, or None", size)
    if size < 0:
        raise ValueError(f"max_response_size: must be 0 or more bytes (None for no limit), got {size}")
    return size


def _refuse_uploads(file: Any) -> None:
    """Raise TypeError for an Upload as a file: it is an Observable, but not one of bytes."""
    is_several = isinstance(file, (list, tuple))
    for index, each in enumerate(file if is_several else [file]):
        if isinstance(getattr(each, "source", each), Upload):  # the source of a File
            argument = f"file[{index}]" if is_several else "file"
            raise TypeError(f"{argument}: an Upload is not a file; to run several uploads, use upload_all()")
