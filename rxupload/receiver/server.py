"""`running` and `serve`: the receiver as a context manager, and in the foreground."""

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

_LINGER = 2.0  # seconds

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
    """Run a multipart receiver on a free loopback port while the `with` block lasts.

    It has a thread and an event loop of its own, so it works anywhere: in a script, on a worker thread,
    inside a running event loop or a Jupyter kernel. It accepts connections when the block begins. Leaving the
    block stops it at once: uploads that are under way are cut off, and no thread, socket or file stays open.

    It answers POST and PUT of multipart/form-data (RFC 7578, names encoded as in the WHATWG HTML standard):

    - 200 `{"fields": {...}, "files": [{"name", "filename", "content_type", "size", "sha256"}, ...]}`. A field
      is a str, or a list of str where its name was repeated. In names and filenames `%22`, `%0D` and `%0A`,
      which is how browsers send `"`, CR and LF, are decoded. What is not UTF-8 becomes U+FFFD. content_type
      is null for a part that has none; size is in bytes.
    - 400 `{"error": "..."}`: the body is not well-formed, or has more than 1000 parts or 1 MiB of fields.
    - 413 `{"error": "..."}`: the body is longer than max_size. Sent as soon as that is known.

    A file lands directly in the directory, under a harmless form of its filename, and never replaces another:
    `beach.jpg`, then `beach (1).jpg`. Of an upload that did not arrive whole, nothing stays.

    Args:
        directory: Where files go; created if missing. None: a temporary directory, removed at the end.
        max_size: The longest request body that is accepted, in bytes. None: no limit.

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
    """Run the receiver of `running` in the foreground, until Ctrl-C or SIGTERM. For the main thread only.

    Prints the URL first, then a line for each upload.

    Args:
        host: The address to listen on. The default is reachable from this machine only.
        port: The TCP port; 0 picks a free one.
        directory: Where files go; created if missing.
        max_size: The longest request body that is accepted, in bytes. None: no limit.

    Raises:
        OSError: The address is taken or not this machine's, or the directory cannot be created.
        ValueError: It was called on another thread than the main one.
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
    encoding = sys.stdout.encoding or "utf-8"  # a Windows code page lacks most filenames' characters
    print(line.encode(encoding, "backslashreplace").decode(encoding), flush=True)  # noqa: T201


@contextlib.asynccontextmanager
async def _serving(app: ASGIApp, host: str, port: int) -> AsyncIterator[str]:
    """Accept connections at the URL it yields; at the end cut them off, and wait until all has been cleaned up.

    Not with `uvicorn.Server`: it takes over the signals, looks only every 100 ms whether it should stop, and
    then waits for the clients. uvicorn's HTTP protocol, which does the work, can do without it.
    """
    # log_config=None: uvicorn's own would configure the whole process's logging.
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
        # asyncio makes a connection of an accepted socket in two turns of the loop; to close the server in
        # between loses the socket. (Windows has no such gap, and no remove_reader.)
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
            # On the loop: to parse, hash and write the 256 KiB that one read gives takes under a millisecond,
            # and handing them to a thread costs a third of the throughput.
            form.write(data)
        # In a thread: where ext4 gives a file another's name, it first allocates it all: 0.4 s for 1 GiB.
        await asyncio.to_thread(form.finish)
    return form


class _Refusal(JSONResponse):
    """An answer that does not wait for the end of the body, and closes the connection.

    Closing while bytes are unread resets the connection, and the client may lose the answer (RFC 9112,
    section 9.6): so what still comes is read and dropped, until the client closes or a time limit.
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
