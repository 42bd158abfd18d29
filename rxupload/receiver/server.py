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
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from anyio.from_thread import start_blocking_portal
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from uvicorn.server import ServerState

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

from .form import Form

_LINGER = 2.0  # how many seconds to read on after an early response

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>rxupload receiver</title>
<h1>rxupload receiver</h1>
<p>Upload with POST or PUT of multipart/form-data to any path here: the answer says in JSON what arrived.</p>
<form method="post" enctype="multipart/form-data">
  <input type="file" name="file" aria-label="Files to upload" multiple required>
  <button>Upload</button>
</form>
"""


@contextlib.contextmanager
def running(directory: str | os.PathLike[str] | None = None, *, max_size: int | None = None) -> Iterator[str]:
    """Run a multipart receiver on a free loopback port during the `with` block.

    It has its own thread and event loop. So it works in a script, on a worker thread, inside a running event loop, and
    in a Jupyter kernel. It accepts connections from the start of the block. The end of the block stops it at once: it
    cuts off running uploads, and closes all threads, sockets and files.

    It answers POST and PUT of multipart/form-data (RFC 7578, names encoded as in the WHATWG HTML standard):

    - 200 `{"fields": {...}, "files": [{"name", "filename", "content_type", "size", "sha256"}, ...]}`. A field is a str,
      or a list of str if its name was repeated. Browsers send `"`, CR and LF in names and filenames as `%22`, `%0D` and
      `%0A`; the receiver decodes these. Bytes that are not UTF-8 become U+FFFD. content_type is null for a part without
      one. size is in bytes.
    - 400 `{"error": "..."}`: the body is malformed, or has more than 1000 parts or 1 MiB of fields.
    - 413 `{"error": "..."}`: the body is longer than `max_size`. It is sent as soon as that is known.

    It stores files in the directory, under a safe form of their filenames, and never replaces one: `beach.jpg`, then
    `beach (1).jpg`. It removes the files of an incomplete upload.

    Args:
        directory: Where to store files; created if missing. None: a temporary directory, removed at the end.
        max_size: The longest request body to accept, in bytes; None for no limit.

    Yields:
        The URL, such as `http://127.0.0.1:54321/`.

    Raises:
        OSError: The directory cannot be created.
    """
    with contextlib.ExitStack() as stack:
        if directory is None:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="rxupload-"))
        app = _app(_created(directory), max_size)
        portal = stack.enter_context(start_blocking_portal())
        yield stack.enter_context(portal.wrap_async_context_manager(_serving(app, "127.0.0.1", 0)))


def serve(
    host: str = "127.0.0.1",
    port: int = 8000,
    directory: str | os.PathLike[str] = ".",
    max_size: int | None = None,
) -> None:
    """Run the receiver of `running` in the foreground, until Ctrl-C or SIGTERM. Only the main thread may call this.

    It prints the URL first, then a line for each upload.

    Args:
        host: The address to listen on. The default accepts connections only from this machine.
        port: The TCP port; 0 picks a free one.
        directory: Where to store files; created if missing.
        max_size: The longest request body to accept, in bytes; None for no limit.

    Raises:
        OSError: The address is in use or not this machine's, or the directory cannot be created.
        ValueError: Another thread than the main one called it.
    """
    directory = _created(directory)
    app = _app(directory, max_size, _say)

    async def until_stopped() -> None:
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        on_terminate = signal.signal(signal.SIGTERM, lambda *_: loop.call_soon_threadsafe(stopped.set))
        try:
            async with _serving(app, host, port) as url:
                _say(f"Receiving uploads at {url} into {directory} (Ctrl-C stops)")
                await stopped.wait()
        finally:
            signal.signal(signal.SIGTERM, on_terminate)

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(until_stopped())


def _created(directory: str | os.PathLike[str]) -> Path:
    path = Path(directory).resolve()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from None
    return path


def _say(line: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"  # a Windows code page lacks many characters of filenames
    print(line.encode(encoding, "backslashreplace").decode(encoding), flush=True)  # noqa: T201


@contextlib.asynccontextmanager
async def _serving(app: ASGIApp, host: str, port: int) -> AsyncIterator[str]:
    """Accept connections at the URL that it yields. At the end, cut them off, and wait for their clean-up.

    It does not use `uvicorn.Server`. That takes over the signals, checks only every 100 ms whether to stop, and then
    waits for the clients. uvicorn's HTTP protocol works without it.
    """
    # log_config=None: uvicorn's default would configure the logging of the whole process.
    config = uvicorn.Config(
        app, http="h11", ws="none", lifespan="off", interface="asgi3", proxy_headers=False, log_config=None
    )
    config.load()
    protocol: Any = config.http_protocol_class
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: protocol(config=config, server_state=state, app_state={}), host, port
    )
    host, port = server.sockets[0].getsockname()[:2]
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


def _app(directory: Path, max_size: int | None, report: Callable[[str], None] = lambda _: None) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await _respond(request, directory, max_size, report)
        except HTTPException as refusal:
            report(f"Refused: {refusal.status_code} {refusal.detail}")
            response = _Refusal({"error": refusal.detail}, refusal.status_code, refusal.headers)
        except ClientDisconnect:
            report("An upload broke off.")
            return
        response.headers["Date"] = email.utils.formatdate(usegmt=True)
        await response(scope, receive, send)

    return app


async def _respond(
    request: Request, directory: Path, max_size: int | None, report: Callable[[str], None]
) -> Response:
    if request.method in {"GET", "HEAD"}:
        return HTMLResponse(_PAGE)
    if request.method not in {"POST", "PUT"}:
        raise HTTPException(405, "Upload with POST or PUT.", {"Allow": "GET, HEAD, POST, PUT"})
    try:
        form = await _receive(request, directory, max_size)
    except FormParserError as error:
        raise HTTPException(400, str(error)) from error
    except OSError as error:
        raise HTTPException(500, f"Cannot store the upload: {error.strerror}") from error
    files = ", ".join(f"{file.path.name} ({file.size} bytes)" for file in form.files)
    report(f"Received {files or 'no files'}")
    return JSONResponse(form.as_json())


async def _receive(request: Request, directory: Path, max_size: int | None) -> Form:
    limit = float("inf") if max_size is None else max_size
    too_large = HTTPException(413, f"The body is longer than {max_size} bytes.")
    if int(request.headers.get("content-length", 0)) > limit:
        raise too_large
    media_type, options = parse_options_header(request.headers.get("content-type"))
    if media_type != b"multipart/form-data" or not options.get(b"boundary"):
        raise FormParserError("The Content-Type is not multipart/form-data with a boundary.")
    received = 0
    with Form(options[b"boundary"], directory) as form:
        async for data in request.stream():
            received += len(data)
            if received > limit:
                raise too_large
            # Work on the loop: one read gives 256 KiB. Parsing, hashing and writing them takes less than a millisecond.
            # A thread would cost a third of the throughput.
            form.write(data)
        # Use a thread: when a file replaces another, ext4 first allocates all its blocks, which takes 0.4 s for 1 GiB.
        await asyncio.to_thread(form.finish)
    return form


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
