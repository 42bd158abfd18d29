"""`running` and `serve`, which run the receiver as a context manager and in the foreground."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import errno
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from anyio.from_thread import start_blocking_portal
from python_multipart.exceptions import FormParserError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from uvicorn.server import ServerState

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

from .appending import Connection, Refused, has_body
from .digest import digest_headers
from .files import remove_leftovers
from .form import Form, boundary_of
from .origins import Origins, is_loopback
from .resumable import Resumable

_LINGER = 2.0  # how many seconds to read on after an early response

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>rxupload receiver</title>
<h1>rxupload receiver</h1>
<p>Upload with POST or PUT of multipart/form-data to any path here: the answer says in JSON what arrived.
Uploads by tus, which go on after a break, begin at /files.</p>
<form method="post" enctype="multipart/form-data">
  <input type="file" name="file" aria-label="Files to upload" multiple required>
  <button>Upload</button>
</form>
"""


@contextlib.contextmanager
def running(
    directory: str | os.PathLike[str] | None = None,
    *,
    max_size: int | None = None,
    allow_hosts: Iterable[str] = (),
) -> Iterator[str]:
    """Run a receiver of uploads on a free loopback port during the `with` block.

    It has its own thread and event loop. So it works in a script, on a worker thread, inside a running event loop, and
    in a Jupyter kernel. It accepts connections from the start of the block. The end of the block stops it at once: it
    cuts off running uploads, and closes all threads, sockets and files.

    It answers POST and PUT of multipart/form-data (RFC 7578, names encoded as in the WHATWG HTML standard):

    - 200 `{"fields": {...}, "files": [{"name", "filename", "content_type", "size", "sha256"}, ...]}`. A field is a str,
      or a list of str if its name was repeated. Browsers send `"`, CR and LF in names and filenames as `%22`, `%0D` and
      `%0A`; the receiver decodes these. Bytes that are not UTF-8 become U+FFFD. content_type is null for a part without
      one. size is in bytes. `filename*` (RFC 8187) takes precedence over `filename`. A part with an empty filename and
      no content is neither a file nor a field: browsers send it if no file was chosen. If the request has
      `Want-Repr-Digest: sha-256=1` and one file, `Repr-Digest` is the SHA-256 of that file, not of the JSON (RFC 9530).
    - 400 `{"error": "..."}`: the body is malformed, or has more than 1000 parts or 1 MiB of fields.
    - 403 `{"error": "..."}`: a page of another origin may have made the request. Origin (RFC 6454, section 7) has
      another host or port than Host, or Sec-Fetch-Site is cross-site and nobody followed a link, or Host is neither
      localhost nor an address of loopback. `allow_hosts` lets such requests in.
    - 413 `{"error": "..."}`: the body is longer than `max_size`. It is sent as soon as that is known.

    It answers two protocols for uploads that go on after a broken connection, or after the receiver was killed:

    - tus 1.0.0 (https://tus.io) where a request has `Tus-Resumable`, and POST of anything but a form on `/files`. It
      has the extensions creation, creation-with-upload, creation-defer-length, expiration, termination, checksum (sha1,
      sha256) and concatenation. `filename` of Upload-Metadata names the file; without it, `filetype` gives the suffix.
    - draft-ietf-httpbis-resumable-upload where a request has `Upload-Draft-Interop-Version: 8`. Any upload with
      `Upload-Complete` can go on, also a form, and gets the response of an ordinary one. Interim responses with 104 say
      its URL and how much is stored. Other bytes than a form are a file of their own, named by Content-Disposition.

    The offset is what is stored, however the connection or the process has ended. A new request for an upload ends one
    that hangs. `max_size` limits the whole upload. Unfinished uploads wait in the directory for 24 hours after their
    last byte, in hidden files (`.*.upload`, and `.*.upload.json` beside it). That a finished one is whole the receiver
    knows for an hour. DELETE removes an unfinished upload, and leaves the file of a finished one.

    It stores files in the directory, under a safe form of their filenames, and never replaces one: `beach.jpg`, then
    `beach (1).jpg`. It removes the files of an incomplete form. At its start it removes those that a killed process
    has left (`.*.part`). It knows those of a receiver that is still running by a lock.

    Args:
        directory: Where to store files; created if missing. None: a temporary directory, removed at the end.
        max_size: The longest request body or resumable upload to accept, in bytes; None for no limit.
        allow_hosts: Names of further hosts, without scheme and port, that may stand in Host and in Origin. "null" is
            the Origin of local HTML files and of sandboxed frames.

    Yields:
        The URL, such as `http://127.0.0.1:54321/`.

    Raises:
        OSError: The directory cannot be created.
        TypeError: An argument has the wrong type, such as a str for `allow_hosts`; the message names it.
        ValueError: A name in `allow_hosts` has a scheme, a port or a path, or `max_size` is negative.
    """
    with contextlib.ExitStack() as stack:
        if directory is None:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="rxupload-"))
        receiver = _Receiver(directory, max_size, allow_hosts)
        portal = stack.enter_context(start_blocking_portal())
        yield stack.enter_context(portal.wrap_async_context_manager(_serving(receiver, "127.0.0.1", 0)))


def serve(
    host: str = "127.0.0.1",
    port: int = 8000,
    directory: str | os.PathLike[str] = "uploads",
    max_size: int | None = None,
    allow_hosts: Iterable[str] = (),
) -> None:
    """Run the receiver of `running` in the foreground, until Ctrl-C or SIGTERM. Only the main thread may call this.

    It prints the URL first, then a line for each upload. Resumable uploads go on when it is started again in the same
    directory; it never prints their URLs.

    Args:
        host: The address to listen on. The default accepts connections only from this machine.
        port: The TCP port; 0 picks a free one.
        directory: Where to store files; created if missing.
        max_size: The longest request body or resumable upload to accept, in bytes; None for no limit.
        allow_hosts: As in `running`. Host may be any name if `host` is no address of loopback.

    Raises:
        OSError: The address is in use or not this machine's, or the directory cannot be created.
        TypeError: An argument has the wrong type, such as a str for `allow_hosts`; the message names it.
        ValueError: Another thread than the main one called it, a name in `allow_hosts` has a scheme, a port or a path,
            or `max_size` is negative.
    """
    receiver = _Receiver(directory, max_size, allow_hosts, _say)

    async def until_stopped() -> None:
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        on_terminate = signal.signal(signal.SIGTERM, lambda *_: loop.call_soon_threadsafe(stopped.set))
        try:
            async with _serving(receiver, host, port) as url:
                _say(f"Receiving uploads at {url} into {receiver.directory} (Ctrl-C stops)")
                await stopped.wait()
        finally:
            signal.signal(signal.SIGTERM, on_terminate)

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(until_stopped())


def _checked_size(max_size: object) -> int | None:
    if max_size is None:
        return None
    if isinstance(max_size, bool) or not isinstance(max_size, int):
        raise TypeError(
            f"max_size: expected an int, a number of bytes, or None, got {type(max_size).__name__}"
        )
    if max_size < 0:
        raise ValueError(f"max_size: must be 0 or more bytes (None for no limit), got {max_size}")
    return max_size


def _created(directory: object) -> Path:
    if not isinstance(directory, str | os.PathLike):
        raise TypeError(f"directory: expected a str or an os.PathLike, got {type(directory).__name__}")
    try:
        path = Path(directory).resolve()
    except ValueError as error:  # a NUL, or a lone surrogate
        raise ValueError(f"directory: {directory!r} is no path: {error}") from None
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from None
    return path


def _say(line: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"  # a Windows code page lacks many characters of filenames
    print(line.encode(encoding, "backslashreplace").decode(encoding), flush=True)  # noqa: T201


@contextlib.asynccontextmanager
async def _serving(receiver: _Receiver, host: str, port: int) -> AsyncIterator[str]:
    """Accept connections at the URL that it yields. At the end, cut them off, and wait for their clean-up.

    It does not use `uvicorn.Server`. That takes over the signals, checks only every 100 ms whether to stop, and then
    waits for the clients. uvicorn's HTTP protocol works without it.
    """
    # log_config=None: uvicorn's default would configure the logging of the whole process.
    config = uvicorn.Config(
        receiver,
        http="h11",
        ws="none",
        lifespan="off",
        interface="asgi3",
        proxy_headers=False,
        log_config=None,
    )
    config.load()
    # At level TRACE uvicorn has put a logger of all messages around it. They have the paths of resumable uploads.
    config.loaded_app = receiver
    protocol: Any = config.http_protocol_class
    state = ServerState()
    loop = asyncio.get_running_loop()

    def connect() -> asyncio.Protocol:
        known: dict[str, Any] = {}
        connection = protocol(config=config, server_state=state, app_state=known)
        connection.access_log = False  # the path of a resumable upload is the key to it
        known["connection"] = Connection(connection)
        return connection  # type: ignore[no-any-return]

    receiver.resumable.tidy()
    server = await loop.create_server(connect, host, port)
    addresses = [listener.getsockname() for listener in server.sockets]
    receiver.origins.on_loopback = all(is_loopback(address[0]) for address in addresses)
    host, port = addresses[0][:2]
    try:
        yield f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
    finally:
        # asyncio needs two turns of the loop to make a connection from an accepted socket. Closing the server in
        # between would leak the socket. (Windows has no such gap, and no remove_reader.)
        with contextlib.suppress(NotImplementedError):
            for listener in server.sockets:
                loop.remove_reader(listener)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        server.close()
        for connection in list(state.connections):
            connection.transport.abort()
        if state.tasks:
            await asyncio.wait(state.tasks)
        receiver.resumable.stop()


class _Receiver:
    """The receiver as an ASGI application."""

    def __init__(
        self,
        directory: str | os.PathLike[str],
        max_size: int | None,
        allow_hosts: Iterable[str],
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._max_size = _checked_size(max_size)
        self.origins = Origins(allow_hosts)
        self.directory = _created(directory)
        self._report = report
        self.resumable = Resumable(self.directory, self._max_size, report)
        remove_leftovers(self.directory)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._respond(request)
        except HTTPException as refusal:
            self._report(f"Refused: {refusal.status_code} {refusal.detail}")
            response = _refusal(request, refusal)
        except ClientDisconnect:
            self._report("An upload broke off.")
            return
        response.headers["Date"] = email.utils.formatdate(usegmt=True)
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        if refusal := self.origins.refusal(request):
            raise HTTPException(403, refusal)
        if (response := await self.resumable.respond(request)) is not None:
            return response
        if request.method in {"GET", "HEAD"}:
            return HTMLResponse(_PAGE)
        if request.method not in {"POST", "PUT"}:
            raise HTTPException(405, "Upload with POST or PUT.", {"Allow": "GET, HEAD, POST, PUT"})
        try:
            form = await self._receive(request)
        except FormParserError as error:
            raise HTTPException(400, str(error)) from error
        except OSError as error:
            raise HTTPException(500, f"Cannot store the upload: {error.strerror}") from error
        self._report(form.summary)
        received = form.as_json()
        headers = digest_headers(", ".join(request.headers.getlist("want-repr-digest")), received["files"])
        return JSONResponse(received, headers=headers)

    async def _receive(self, request: Request) -> Form:
        limit = float("inf") if self._max_size is None else self._max_size
        too_large = HTTPException(413, f"The body is longer than {self._max_size} bytes.")
        if int(request.headers.get("content-length", 0)) > limit:
            raise too_large
        boundary = boundary_of(request.headers.get("content-type", ""))
        if boundary is None:
            raise FormParserError(
                "The Content-Type is not multipart/form-data with a boundary. This receiver takes forms: leave out "
                "raw=True, or -T of the command."
            )
        received = 0
        with Form(boundary, self.directory) as form:
            async for data in request.stream():
                received += len(data)
                if received > limit:
                    raise too_large
                # Work on the loop: one read gives 256 KiB. Parsing, hashing and writing them takes less than a
                # millisecond. A thread would cost a third of the throughput.
                form.write(data)
            # Use a thread: when a file replaces another, ext4 first allocates all its blocks: 0.4 s for 1 GiB.
            await asyncio.to_thread(form.finish)
        return form


def _refusal(request: Request, refusal: HTTPException) -> JSONResponse:
    content = {"error": refusal.detail}
    if isinstance(refusal, Refused):
        content |= refusal.members
        if refusal.is_read or not has_body(request):
            return JSONResponse(content, refusal.status_code, refusal.headers)
    return _Refusal(content, refusal.status_code, refusal.headers)


class _Refusal(JSONResponse):
    """A response that is sent before the end of the body, and closes the connection.

    Closing with unread bytes would reset the connection, and the client might lose the response (RFC 9112, section
    9.6). So it reads and drops the rest, until the client closes or `_LINGER` seconds have passed.
    """

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        self.headers["Connection"] = "close"
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER):
                while (await receive())["type"] != "http.disconnect":
                    pass
        await send({"type": "http.response.body"})
