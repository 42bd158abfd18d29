"""A real multipart receiver to try uploads against: in this process, or as the `rxupload receive` command.

It takes POST and PUT of multipart/form-data on any path, streams the files into one directory, and answers in
JSON what arrived. uvicorn, Starlette and python-multipart do the work; the `receiver` extra installs them.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import errno
import hashlib
import itertools
import logging
import os
import re
import secrets
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

try:
    import uvicorn
    from anyio.from_thread import start_blocking_portal
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser, parse_options_header
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import HTMLResponse, JSONResponse, Response
    from uvicorn.server import ServerState
except ImportError as error:
    raise ImportError('The receiver is an extra: pip install "rxupload[receiver]"') from error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from typing import Self

    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["running", "serve"]

logging.getLogger("python_multipart").addHandler(logging.NullHandler())  # it logs what the 400 says

_MAX_PARTS = 1000
_MAX_FIELD_BYTES = 2**20  # all the field values of one body: they are held in memory, files are not
_MAX_NAME_BYTES = 200  # file systems take 255: this leaves room for a number
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


async def _receive(request: Request, directory: Path, max_size: int | None) -> _Form:
    limit = float("inf") if max_size is None else max_size
    too_large = HTTPException(413, f"The body is longer than {max_size} bytes.")
    if int(request.headers.get("content-length", 0)) > limit:
        raise too_large
    media_type, options = parse_options_header(request.headers.get("content-type"))
    if media_type != b"multipart/form-data" or not options.get(b"boundary"):
        raise FormParserError("The Content-Type is not multipart/form-data with a boundary.")
    received = 0
    with _Form(options[b"boundary"], directory) as form:
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


class _Form:
    """A multipart/form-data body: fields in memory, files in a directory.

    Leaving its `with` block removes the files again, unless the body was finished.
    """

    def __init__(self, boundary: bytes, directory: Path) -> None:
        self.fields: dict[str, list[str]] = {}
        self.files: list[_File] = []
        self._directory = directory
        self._file: _File | None = None  # the part that is being read, when it is a file; else the next two
        self._name = ""
        self._value = bytearray()
        self._headers: dict[str, str] = {}
        self._header_name = self._header_value = b""
        self._parts = self._field_bytes = 0
        self._closed = self._finished = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._add_header_name,
                "on_header_value": self._add_header_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._add_data,
                "on_part_end": self._end_part,
                "on_end": self._close,
            },
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._finished:
            for file in self.files:
                file.discard()

    def write(self, data: bytes) -> None:
        self._parser.write(data)

    def finish(self) -> None:
        if not self._closed:
            raise FormParserError("The body ends before its closing boundary.")
        for file in self.files:
            file.keep(self._directory)
        self._finished = True

    def as_json(self) -> dict[str, Any]:
        fields = {name: values if len(values) > 1 else values[0] for name, values in self.fields.items()}
        return {"fields": fields, "files": [file.as_json() for file in self.files]}

    def _begin_part(self) -> None:
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise FormParserError(f"The body has more than {_MAX_PARTS} parts.")
        self._headers = {}

    def _add_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _add_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._header_name.decode().lower()] = self._header_value.decode(errors="replace")
        self._header_name = self._header_value = b""

    def _end_headers(self) -> None:
        parameters = _parameters(self._headers.get("content-disposition", ""))
        name, filename = parameters.get("name"), parameters.get("filename")
        if name is None:
            raise FormParserError("A part has no name in its Content-Disposition.")
        self._file, self._name, self._value = None, name, bytearray()
        if filename is not None:
            self._file = _File(name, filename, self._headers.get("content-type"), self._directory)
            self.files.append(self._file)

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        piece = memoryview(data)[start:end]
        if self._file is not None:
            self._file.write(piece)
            return
        self._field_bytes += len(piece)
        if self._field_bytes > _MAX_FIELD_BYTES:
            raise FormParserError(f"The fields have more than {_MAX_FIELD_BYTES} bytes.")
        self._value += piece

    def _end_part(self) -> None:
        if self._file is not None:
            self._file.close()
        else:
            self.fields.setdefault(self._name, []).append(self._value.decode(errors="replace"))

    def _close(self) -> None:
        self._closed = True


_PARAMETER = re.compile(r';\s*([^\s=;"]+)\s*=\s*(?:"(.*?)"|([^\s;"]*))\s*(?=;|$)', re.DOTALL)


def _parameters(disposition: str) -> dict[str, str]:
    """The parameters of a Content-Disposition, decoded as browsers encode them.

    They send a backslash as it is, and no quotation mark within the quotes (WHATWG HTML, multipart/form-data
    encoding algorithm). python-multipart's own `parse_options_header` takes a backslash for an escape.
    """
    return {
        key.lower(): (quoted or token).replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")
        for key, quoted, token in _PARAMETER.findall(disposition)
    }


class _File:
    """One file of a body: under a hidden temporary name until it is kept."""

    def __init__(self, name: str, filename: str, content_type: str | None, directory: Path) -> None:
        self.name = name
        self.filename = filename
        self.content_type = content_type
        self.size = 0
        self.path = directory / f".{secrets.token_hex(16)}.part"
        self._sha256 = hashlib.sha256()
        self._stream = self.path.open("xb", buffering=0)

    def write(self, data: memoryview) -> None:
        self.size += len(data)
        self._sha256.update(data)
        while data:
            data = data[self._stream.write(data) :]

    def close(self) -> None:
        self._stream.close()

    def keep(self, directory: Path) -> None:
        path = _claim(directory, _harmless(self.filename))
        try:
            self.path.replace(path)
        except OSError:
            path.unlink()
            raise
        self.path = path

    def discard(self) -> None:
        self.close()
        self.path.unlink(missing_ok=True)

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "filename": self.filename,
            "content_type": self.content_type,
            "size": self.size,
            "sha256": self._sha256.hexdigest(),
        }


def _claim(directory: Path, name: str) -> Path:
    """Create the first free name; exclusively, which works where there are no hard links."""
    stem, suffix = Path(name).stem, Path(name).suffix
    path = directory / name
    for number in itertools.count(1):
        try:
            path.open("xb").close()
            break
        except FileExistsError:
            path = directory / f"{stem} ({number}){suffix}"
    return path


_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\.|$)", re.IGNORECASE)


def _harmless(filename: str) -> str:
    """A name that any file system takes, and that means nothing but a file."""
    base = re.split(r"[/\\]", filename)[-1]
    name = "".join("_" if char in '<>:"|?*' or not char.isprintable() else char for char in base).strip(". ")
    if len(name.encode()) > _MAX_NAME_BYTES:
        suffix = Path(name).suffix.encode()[:20]
        stem = name.encode()[: _MAX_NAME_BYTES - len(suffix)]
        name = (stem + suffix).decode(errors="ignore").rstrip(". ")
    return f"_{name}" if _RESERVED.match(name) else name or "upload"
