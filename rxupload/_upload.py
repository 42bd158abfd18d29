"""`upload()` and `Upload`: the cold Observable, each subscription to which is one request."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import httpx
from reactivex import Observable, abc

from ._arguments import (
    FollowRedirects,
    HeaderTypes,
    Pause,
    RateLimit,
    check_client,
    check_content_type,
    check_headers,
    check_method,
    check_name,
    check_pause,
    check_rate_limit,
    check_scheduler,
    check_seconds,
    parse_url,
    wrong_type,
)
from ._body import FieldValue, encode_fields
from ._events import Progress, UploadEvent
from ._plan import Plan, PlannedPart
from ._run import run
from ._sources import File, FileSource, make_source

if TYPE_CHECKING:
    from ._client import HTTPClient
    from ._task import UploadTask


def upload(
    url: str | httpx.URL,
    file: FileSource | File | Sequence[FileSource | File],
    name: str = "file",
    *,
    filename: str | None = None,
    content_type: str | None = None,
    form_data: Mapping[str, FieldValue | Sequence[FieldValue]] | None = None,
    headers: HeaderTypes | None = None,
    method: str = "POST",
    timeout: float | None = None,
    progress_interval: float = 0.05,
    follow_redirects: FollowRedirects = None,
    expect_continue: bool = False,
    max_response_size: int | None = 64 * 1024 * 1024,
    rate_limit: RateLimit = None,
    pause: Pause = None,
    client: httpx.Client | HTTPClient | None = None,
) -> Upload:
    """Describe the upload of a file, or of several, as multipart/form-data.

    Nothing happens until the `Upload` that it returns is subscribed to, run or awaited; the arguments are checked
    at once.

    Args:
        url: Where to; http or https. Relative where the client has a `base_url`.
        file: A path, bytes, a binary file object, an iterable of bytes, a function that returns a fresh iterable
            or file object, or an Observable of bytes (see `File` for how that is heard); a `File` for a part with
            names of its own; a list or a tuple for several files. A path is opened when the upload starts. (A tuple
            is never requests' `(filename, file, type)`; that is a `File`.) A file object is read from where it
            stands now, and never closed. An iterator can be read once, so it uploads once.
        name: The form field under which the server finds the file.
        filename: The name that the server is told; the path's base name, else "upload".
        content_type: The file's media type; guessed from the filename, else application/octet-stream.
        form_data: Further form fields, sent before the files in their order; a list is a field repeated.
        headers: Request headers. The body's own Content-Type, Content-Length and Transfer-Encoding always win.
        method: The request method.
        timeout: Seconds for the whole upload, from its start to the end of the response; None for no limit. The
            client's own timeouts (connect, read, write) hold as well. A source or an observer that blocks is not
            interrupted: the limit then shows when it returns.
        progress_interval: Least seconds between two Progress items; 0 for every change. The first and the last one
            of a pass come always.
        follow_redirects: Whether to; None as the client does, and at most as many as its `max_redirects`. The default
            client follows none, like httpx. 301, 307 and 308 send the body again, with `Progress.attempt` one higher;
            302 and 303 become GET. https to http is refused with `RedirectRefused`. To another origin no credential
            goes (Authorization, Cookie, the client's auth, cookies and params, any header whose name speaks of a token,
            key, secret, password, session or signature, but for Idempotency-Key), nor when a later redirect leads back;
            what an event hook of the client's adds is that hook's to decide. The log says at WARNING that the body goes
            there; with `"same-origin"` it ends with `RedirectRefused` instead. The same host from http to https, each
            on its default port, is not another origin. A user and a password that a Location names itself are sent to
            where it leads. A redirect that is not followed is the response, and its `next_request` says what would
            have followed.
        expect_continue: Whether to ask the server with `Expect: 100-continue` (RFC 9110, section 10.1.1) before the
            body is sent. Its word is waited for at most one second; a status of 300 or more is the response without
            a byte of the body sent, and after a 417 the request is repeated without asking (a second pass, which an
            iterator cannot make). A plain client sends the header and does not wait.
        max_response_size: Bytes of the response's body, decoded, beyond which the upload ends with `ResponseTooLarge`;
            None for no limit. Only gzip and deflate are asked for, unless `headers` have an Accept-Encoding: they
            are decoded in bounded steps, while br and zstd are measured when they have been decoded.
        rate_limit: Body bytes per second, more than 0; None for no limit. At most 50 ms' worth go at once. Or an
            Observable of such values, each of which holds from when it comes; none before the first, the last one
            after the end, and its error is the upload's. Each subscription to the upload subscribes to it when it
            starts, and disposes it before its end: on the loop, where the upload notifies on one, else on the upload's
            own thread. It must not block there. What it emits at once holds for the first byte.
        pause: An Observable of bool: True holds the body, False lets it go on; the same holds for it. The system may
            still send what it has taken, of which at most 128 KiB wait (TCP_NOTSENT_LOWAT) for a server that is slow to
            read. `timeout` runs on during a pause, the client's write timeout does not. Servers have a patience of
            their own: what they say, or that they close the connection, ends the upload at once. With a plain client,
            and over HTTP/2, what was handed over still goes: at most 64 KiB and what the client and the system hold;
            and what the server says is heard when the body goes on. An auth with `requires_request_body` makes httpx
            read the body first, whole: then the limit and the pause hold for that reading.
        client: An `httpx.Client` or `httpx2.Client`, for its auth, headers, proxies, TLS settings and connections;
            it is not closed. None: a default client, shared by all uploads, that stores no cookies, honours the
            proxy environment variables, and waits at most 30 s for a connection, 60 s for the server to take a byte,
            and 600 s for the response after the last byte or for more of it. A plain client counts bytes as sent when
            the system has taken them, and an abort takes effect at the next piece (up to 1 MiB) of the body or of the
            response.

    Raises:
        TypeError: If an argument is not of its type; the message names it.
        ValueError: If an argument cannot be: a URL without http(s), CR or LF in a header, a timeout of 0.
    """
    if client is not None:
        check_client(client)
    return Upload(
        Plan(
            url=_check_url(url, client),
            parts=_check_files(file, name, filename, content_type),
            fields=encode_fields(form_data),
            headers=check_headers(headers),
            method=check_method(method),
            timeout=None if timeout is None else check_seconds("timeout", timeout, zero=False),
            progress_interval=check_seconds("progress_interval", progress_interval, zero=True),
            follow_redirects=_check_follow(follow_redirects),
            max_response_size=_check_size(max_response_size),
            expect_continue=expect_continue,
            rate_limit=check_rate_limit(rate_limit),
            pause=check_pause(pause),
            client=client,
        )
    )


class Upload(Observable[UploadEvent]):
    """An upload as a cold Observable: each subscription is one HTTP request of its own.

    Its items are `Progress` while the body leaves, then the `httpx.Response`, whatever its status, as the last one::

        ---Progress(0)---Progress---Progress(every byte)---Response-|

    Errors come through `on_error` as the exception their origin raises: `httpx.TransportError` and its kinds, an
    `OSError` of the file, `UploadTimeout`, `SourceChanged`. An observer that raises aborts the upload, and gets its
    exception back through `on_error`. Disposing the subscription aborts the upload and returns at once.

    The scheduler given to `subscribe` decides the thread. None, NewThreadScheduler, ThreadPoolScheduler and
    TimeoutScheduler: the upload runs on a thread of theirs, and notifications come on it. ImmediateScheduler,
    CurrentThreadScheduler and virtual time: it runs in place and blocks (with ImmediateScheduler before `subscribe` has
    returned, so that an operator such as `take` has nothing to dispose yet). Any other (AsyncIOScheduler,
    EventLoopScheduler) has a loop that is never blocked: the upload runs on a new thread, and notifications come on
    the loop; such a scheduler's `schedule` must be safe to call from another thread, as theirs are.
    """

    __iter__ = None  # else Observable's __getitem__ would make a `for` over it one without an end

    def __init__(self, plan: Plan) -> None:
        super().__init__(self._begin)
        self._plan = plan

    def _begin(
        self, observer: abc.ObserverBase[UploadEvent], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        from ._subscription import begin  # noqa: PLC0415 - the network is loaded with the first upload

        return begin(self._plan, observer, scheduler)

    def __repr__(self) -> str:
        url = httpx.URL(self._plan.url).copy_with(userinfo=b"", query=None)  # those may hold secrets
        files = ", ".join(part.filename for part in self._plan.parts)
        return f"<Upload {self._plan.method} {url} {files}>"

    @property
    def progress(self) -> Observable[Progress]:
        """The Progress items alone, completed when the upload is. Subscribing to it starts an upload."""
        return cast("Observable[Progress]", self.filter(lambda item: isinstance(item, Progress)))

    def run(self, scheduler: abc.SchedulerBase | None = None) -> httpx.Response:
        """Upload, wait, and return the response, which has been read.

        Ctrl-C aborts the upload before it propagates.

        Args:
            scheduler: Where the upload works and notifies; None for a new thread.

        Raises:
            Exception: What the upload ended with; see the class.
        """
        return cast("httpx.Response", run(self, scheduler))

    def __await__(self) -> Generator[Any, None, httpx.Response]:
        """Upload, and return the response, with the event loop free meanwhile; cancelling it aborts the upload."""
        return cast("Generator[Any, None, httpx.Response]", super().__await__())

    def start(self, *, scheduler: abc.SchedulerBase | None = None) -> UploadTask:
        """Start it, and return the running task: progress and the end by callbacks, `abort()`, `result()`, `await`.

        It may have to wait for its turn: of all tasks, `uploadFile`'s too, at most 5 run at once.

        Args:
            scheduler: One with a loop, such as AsyncIOScheduler, on which the callbacks are to come; else they come
                on threads of the library.
        """
        check_scheduler(scheduler)
        from ._task import UploadTask  # noqa: PLC0415 - most uploads do without it

        return UploadTask(self, scheduler=scheduler)


def _check_url(url: object, client: object) -> str:
    if not isinstance(url, str) and not (hasattr(url, "scheme") and hasattr(url, "host")):
        raise TypeError(f"url: expected a str or an httpx.URL, got {type(url).__name__}")
    text = str(url)
    try:
        parsed = parse_url(text)
        found = _fault(text)
    except httpx.InvalidURL as error:
        raise ValueError(f"url: {error}") from error
    relative_to_client = parsed.is_relative_url and str(getattr(client, "base_url", ""))
    if found and not relative_to_client:
        raise ValueError(f"url: {found}")
    return text


@lru_cache(maxsize=32)
def _fault(text: str) -> str:
    """What is wrong with an address; nothing, where it can be."""
    url = parse_url(text)
    if url.scheme not in ("http", "https"):
        scheme = f"the scheme is {url.scheme!r}" if url.scheme else "there is no scheme"
        return f"must begin with http:// or https:// and a host; {scheme}"
    if not url.host:
        return "must begin with http:// or https:// and a host; there is no host"
    if url.port is not None and not 0 < url.port < 1 << 16:
        return f"a port is a number from 1 to 65535, not {url.port}"
    from ._transport import check_host  # noqa: PLC0415 - see `Upload._begin`

    try:
        check_host(url.host)
    except ValueError as error:
        return str(error)
    return ""


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


def _check_files(
    file: object, name: object, filename: object, content_type: str | None
) -> tuple[PlannedPart, ...]:
    files = file if isinstance(file, (list, tuple)) else [file]
    if not files:
        raise ValueError("file: the list of files is empty")
    if len(files) > 1 and filename is not None:
        raise ValueError(
            "filename: one name for several files; give each its own with File(source, filename=...)"
        )
    arguments = [f"file[{index}]" for index in range(len(files))] if files is file else ["file"]
    return tuple(
        _plan_part(argument, item, name, filename, content_type)
        for argument, item in zip(arguments, files, strict=True)
    )


def _plan_part(
    argument: str, item: Any, name: object, filename: object, content_type: str | None
) -> PlannedPart:
    file = item if isinstance(item, File) else File(item)
    if isinstance(file.source, Upload):
        raise TypeError(f"{argument}: an Upload is not a file; to run several uploads, use upload_all()")
    source = make_source(file.source, size=file.size, argument=argument)
    part_filename = file.filename if file.filename is not None else filename
    part_type = file.content_type if file.content_type is not None else content_type
    if part_type is not None:
        check_content_type(part_type)
    return PlannedPart(
        name=check_name("name", file.name if file.name is not None else name),
        filename=source.default_filename if part_filename is None else check_name("filename", part_filename),
        content_type=part_type,
        source=source,
    )
