"""`upload_resumable()` and `ResumableUpload`, an upload that goes on where the server stands."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

import httpx
from reactivex import Observable

from rxupload._arguments import (
    Auth,
    HeaderTypes,
    Pause,
    RateLimit,
    check_auth,
    check_client,
    check_content_type,
    check_headers,
    check_name,
    check_pause,
    check_rate_limit,
    check_seconds,
    wrong_type,
)
from rxupload._body import Field, guess_content_type
from rxupload._client import HTTPClient
from rxupload._digests import check_digest
from rxupload._plan import PlannedRaw, check_url
from rxupload._sources import File, FileSource, Source, make_source
from rxupload._subscription import begin
from rxupload._upload import Upload

from .identity import Verify
from .plan import ResumablePlan
from .protocol import About, Metadata, ResumableProtocol
from .store import Key, MemoryStore, Store, key_of
from .subscription import discard, go_on
from .tus import Tus

_LIMIT = 64 * 1024 * 1024  # bytes of a response, as for `upload()`

_store = MemoryStore()


def upload_resumable(
    url: str | httpx.URL,
    file: FileSource | File,
    *,
    protocol: ResumableProtocol = Tus(),  # noqa: B008 - it has no state
    metadata: Metadata | None = None,
    chunk_size: int | None = None,
    store: Store | None = None,
    filename: str | None = None,
    content_type: str | None = None,
    headers: HeaderTypes | Callable[[], HeaderTypes] | None = None,
    auth: Auth = None,
    timeout: float | None = None,
    progress_interval: float = 0.05,
    rate_limit: RateLimit = None,
    pause: Pause = None,
    digest: str | None = None,
    verify: Verify = "fast",
    client: httpx.Client | HTTPClient | None = None,
) -> ResumableUpload:
    """Describe an upload of one file that goes on where the server stands.

    ::

        up = upload_resumable("http://127.0.0.1:8000/files", "video.mp4", store=FileStore())
        response = rxupload.run(up.pipe(retry_backoff(attempts=8), progress_bar(), raise_for_status()))

    It checks the arguments at once. Nothing is opened or sent before the returned `ResumableUpload` is subscribed to.

    Args:
        url: The address that creates uploads, http or https. It may be relative if the client has a `base_url`.
        file: As for `upload()`; one file. A path and bytes can be sent from any offset. All else is read up to there
            again. A path is compared with the file whose upload began (see `verify`), and what gives its bytes in order
            has to begin with what was sent.
        protocol: `Tus()`, `GoogleResumable()` or `IetfResumable()`.
        metadata: What the server is told of the file: str to str or bytes; to any values of JSON for
            `GoogleResumable`; the fields of the form for `IetfResumable`. It is a part of what tells two uploads apart,
            and so are the protocol, the address without user and password, and the real path. Two subscriptions
            with the same of these go on with one upload, also those of two `ResumableUpload`s. A source without a path
            has an upload of its own for each call of this function.
        chunk_size: The most bytes of one request; None for no limit. An iterable, a function or an Observable needs it:
            a part of so many bytes is kept in memory, so that it can be sent again. After a 413 the parts are halved,
            down to 64 KiB, and that is remembered.
        store: Remembers the upload until it is done. `FileStore()` does over the end of the process, for a path. None:
            one `MemoryStore` for the process.
        filename: The file's name for the server; None: the path's base name, or the `filename` or `name` of a file
            object. Bytes and iterables have none.
        content_type: The file's media type for the server; None: the guess from the filename.
        headers: Request headers for each request, or a function that returns them, for tokens that expire. It is called
            before each request on the thread that sends it. The protocol's own headers take precedence.
        auth: As for `upload()`. With several connections, it is called on several threads.
        timeout: Seconds for one subscription, with all its requests; None for no limit. What has arrived by then stays.
        progress_interval: As for `upload()`.
        rate_limit: As for `upload()`; one for all connections of a subscription.
        pause: As for `upload()`.
        digest: As for `upload()`. It is that of the whole file: what the server has already is read for it. It is None
            for a response that is not the end of the upload.
        verify: How a file is compared with the one whose upload began, before that goes on. Size, mtime and the SHA-256
            of the first and the last 64 KiB must be the same. If only the inode or the ctime differs, the content is
            compared up to the last checkpoint, and the server may have no more than that. Checkpoints are hashes that
            are stored every five seconds, so in the first five seconds a chmod makes another file of it. If the ctime
            differs after a process was killed, the server may also have no more than it had said to have at the last of
            them. "content" compares the content as well if nothing differs. For another file a new upload begins, and
            when that stands the old one is discarded. The log says why, at INFO.
        client: As for `upload()`. The log of httpx has the address of each request of a client, and with HTTP/2 that of
            hpack has it at level DEBUG; use the default client if the log is not as safe as the state.

    Raises:
        TypeError: An argument has the wrong type; the message names it.
        ValueError: An argument is invalid: also a source that needs a `chunk_size`, or that the store cannot remember.
    """
    if client is not None:
        check_client(client)
    if not isinstance(protocol, ResumableProtocol):
        raise TypeError(f"protocol: expected a protocol, such as Tus(), got {_named(protocol)}")
    store = _store if store is None else _check_store(store)
    item, source = _check_file(file)
    name = item.filename if item.filename is not None else filename
    about = About(
        size=None,
        chunk_size=_check_chunk_size(chunk_size, protocol, source),
        metadata=_check_metadata(metadata, protocol),
        filename=_filename(name, source),
        content_type=_content_type(item, content_type, name, source),
    )
    protocol.check(about)
    address = check_url(url, client, file)
    path = os.fsdecode(item.source) if isinstance(item.source, str | os.PathLike) else None
    if verify not in ("fast", "content"):
        raise ValueError(f'verify: must be "fast" or "content", not {verify!r}')
    return ResumableUpload(
        ResumablePlan(
            url=address,
            body=PlannedRaw(source, ""),
            headers=() if callable(headers) else check_headers(headers),
            method="POST",
            timeout=None if timeout is None else check_seconds("timeout", timeout, zero=False),
            progress_interval=check_seconds("progress_interval", progress_interval, zero=True),
            follow_redirects=None,
            max_response_size=_LIMIT,
            expect_continue=False,
            rate_limit=check_rate_limit(rate_limit),
            pause=check_pause(pause),
            auth=check_auth(auth, client),
            digest=check_digest(digest),
            client=client,
            source=source,
            protocol=protocol,
            about=about,
            store=store,
            verify=verify,
            path=path,
            own_key=_own_key(store, protocol, address, path),
            fresh_headers=headers if callable(headers) else None,
        )
    )


class ResumableUpload(Upload):
    """An upload of one file that goes on where the server stands, as a cold Observable.

    Subscriptions one after the other go on where the server is: `retry`, `retry_backoff`, and with a `FileStore` the
    next run of the program. Of two at the same time, the second gets `ResumeInUse`; one that comes while a disposed one
    is letting go waits for that. To dispose is to pause: the connection closes at once, and the upload stays on the
    server. `discard()` is its end.

    The items are those of `Upload`, with these differences:

    - `Progress.sent` begins with what the server has, and `Progress.start` says how much that was. A pass may take
      several requests. If the server turns out to have less than was sent, or something else, a new pass begins there.
    - The last item is the response of the last request that sent bytes; of the POST for an empty file, for one that
      went with it, and for one over several connections; or of the HEAD if the server had everything already.
    - `response.extensions["rxupload"]["resumable"]` is an `Outcome`, whatever the status.
    - The upload's own address is a key to it. So it is in no error, log or repr. `response.request` names the endpoint
      instead, and so does the request of an error. `Outcome.url` has it.

    Within a subscription, it heeds what the server says: 409 asks for the offset; a lesser offset than expected is
    followed; 413 halves the parts; 460 sends a part again; 404 and 410 of a remembered upload begin a new one, once; so
    does 403, but the old one is remembered until the new one stands; 405 and 501 for PATCH are answered with POST and
    X-HTTP-Method-Override. An offset that hardly grows ends in an `httpx.HTTPStatusError` or an
    `httpx.RemoteProtocolError`: over nine responses in a row it has to grow by 64 KiB, or by an eighth of what was sent
    at last if that is less. Any other status is the response. `retry_backoff` tries again after 409, 423 and 460,
    too, and counts its attempts anew once the offset has grown.

    Errors are those of `Upload`, and further:

    - `ResumeInUse`: the upload runs already.
    - `SourceChanged`: the file changed while it was sent. What the server has of it is never taken for a whole.
    - `ValueError`: the size of the source is unknown, and the server takes no upload without one.
    - `httpx.RemoteProtocolError`: a success of the server's that is none of the protocol.
    - `RedirectRefused`: the server names an http address for the upload, and the endpoint is https.
    - An `OSError` of the store.

    Credentials (see `follow_redirects` of `upload()`) go to the origin of the endpoint only, and are never stored.
    """

    _plan: ResumablePlan

    def __init__(self, plan: ResumablePlan) -> None:
        super().__init__(plan, cast("Any", go_on))

    @property
    def _begin_here(self) -> Any:
        return super()._begin_here if self._plan.fresh_headers is None else None

    def discard(self) -> Observable[httpx.Response | None]:
        """Describe the end of the upload: it ends on the server, and is forgotten. Nothing happens before `subscribe`.

        The only item is the server's response, or None if nothing is remembered. After 401, 403, 408, 409, 423, 425,
        429, 500, 502, 503 and 504 the upload is still remembered, so that another attempt can follow. Errors are those
        of an upload; `ResumeInUse` while it runs.
        """
        return Observable(partial(begin, self._plan, cast("Any", discard)))


def _check_file(file: Any) -> tuple[File, Source]:
    if isinstance(file, list | tuple):
        raise TypeError("file: a resumable upload is one file; for several, give one of each to upload_all()")
    if isinstance(file, Field | Upload):
        raise TypeError(f"file: a {type(file).__name__} is not a file")
    item = file if isinstance(file, File) else File(file)
    for what, value in (("name", item.name), ("headers", item.headers)):
        if value is not None:
            raise ValueError(f"file: {what}: there is no form to put it into; leave it out")
    return item, make_source(item.source, size=item.size)


def _check_store(store: Any) -> Store:
    if (
        isinstance(store, type)
        or not callable(getattr(store, "open", None))
        or not hasattr(store, "needs_path")
    ):
        raise TypeError(f"store: expected a FileStore() or a MemoryStore(), got {_named(store)}")
    return cast("Store", store)


def _named(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def _check_chunk_size(chunk_size: Any, protocol: ResumableProtocol, source: Source) -> int | None:
    if chunk_size is None:
        if not source.can_begin_anywhere:
            raise ValueError(
                "chunk_size: this source gives its bytes once and in order, so a part of it is kept to be sent again; "
                "say how many bytes, such as chunk_size=8 * 1024 * 1024"
            )
        return None
    if isinstance(chunk_size, bool) or not isinstance(chunk_size, int):
        raise wrong_type("chunk_size", "an int, a number of bytes, or None", chunk_size)
    if chunk_size < 1:
        raise ValueError(f"chunk_size: must be 1 byte or more, got {chunk_size}")
    if chunk_size % protocol.granularity:
        raise ValueError(
            f"chunk_size: must be a multiple of {protocol.granularity} bytes for {protocol.name}, got {chunk_size}"
        )
    return chunk_size


def _check_metadata(metadata: Any, protocol: ResumableProtocol) -> Metadata:
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise wrong_type("metadata", "a mapping of str to str", metadata)
    for key in metadata:
        if not isinstance(key, str):
            raise TypeError(f"metadata: expected str as keys, got {type(key).__name__}")
    return protocol.metadata(metadata)


def _filename(given: Any, source: Source) -> str | None:
    """Return the file's name for the server; None for a source without a name."""
    if given is not None:
        return check_name("filename", given)
    return None if source.default_filename == Source.default_filename else source.default_filename


def _content_type(item: File, given: str | None, name: str | None, source: Source) -> str | None:
    own = item.content_type if item.content_type is not None else given
    if own is not None:
        check_content_type(own)
        return own
    filename = _filename(name, source)
    return source.default_content_type or (None if filename is None else guess_content_type(filename))


def _own_key(store: Store, protocol: ResumableProtocol, address: str, path: str | None) -> Key | None:
    if path is not None:
        return None
    if store.needs_path:
        raise ValueError(
            "store: a source without a path cannot be found again by another process; give a path, or a MemoryStore"
        )
    return key_of(protocol.name, address, None, None)
