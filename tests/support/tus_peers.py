"""Servers of tus that run for the tests: three of other people, and the receiver; and what is known to be their own."""

from __future__ import annotations

import base64
import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Literal

import httpx
from support.node import running_node
from support.scripted_server import PATIENCE

from rxupload.receiver import running

VERSION = {"Tus-Resumable": "1.0.0"}


@dataclass(frozen=True)
class Peer:
    """A kind of server, and what it does in its own way.

    Attributes:
        start: Runs it with a directory, in a `with` block, and gives its endpoint.
        small: Which status a POST gets that has the whole file.
        last: Which status the last PATCH gets.
        checksums: How the checksum of a chunk is called; None: it announces none.
        defers: What a source of unknown size gets: the status of the end; None: it does not announce that.
        joins: Whether it announces concatenation.
        stale: What the client gets that goes on after the offset of a HEAD that was stale; None: no HEAD is stale,
            because it displaces the PATCH.
        displaced: How a PATCH that hangs ends once there is another request: with "204" and the offset that it has, or
            its connection is "cut"; None: it does not end.
        truncates: Whether a HEAD may count bytes of a chunk that broke, before it removes them for their checksum.
        conflict: Which status a PATCH gets that begins elsewhere; None: it is taken.
    """

    start: Callable[[Path], contextlib.AbstractContextManager[str]]
    small: int = 201
    last: int = 204
    checksums: str | None = None
    defers: int | None = None
    joins: bool = False
    stale: tuple[int, ...] | None = None
    displaced: Literal["204", "cut"] | None = None
    truncates: bool = False
    conflict: int | None = 409


@contextlib.contextmanager
def _receiver(folder: Path) -> Iterator[str]:
    with running(folder) as url:
        yield f"{url}files"


@contextlib.contextmanager
def _resumable_upload(folder: Path) -> Iterator[str]:
    from resumable_upload import SQLiteStorage, TusHTTPRequestHandler, TusServer

    tus = TusServer(SQLiteStorage(str(folder / "uploads.db"), str(folder / "uploads")), base_path="/files")

    class Handler(TusHTTPRequestHandler):
        tus_server = tus

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """Say nothing of connections that were reset."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.05])
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/files"
        finally:
            server.shutdown()
            thread.join(PATIENCE)


_NODE = """
const http = require("http");
const [folder] = process.argv.slice(1);
HANDLER
const server = http.createServer(handle);
const begin = () => {
  if (!isReady()) { setImmediate(begin); return; }
  server.listen(0, "127.0.0.1", () => console.log(server.address().port));
};
begin();
process.stdin.on("end", () => process.exit()).resume();
"""

_TUS = """
const {Server} = require("@tus/server"), {FileStore} = require("@tus/file-store");
const tus = new Server({
  path: "/files", datastore: new FileStore({directory: folder}), lockDrainTimeout: 50, respectForwardedHeaders: true,
});
const handle = (request, response) => tus.handle(request, response), isReady = () => true;
"""

_UPLOADX = """
const {Tus} = require("@uploadx/core");
const tus = new Tus({uploadDir: folder});
const handle = (request, response) => tus.handle(request, response), isReady = () => tus.storage.isReady;
"""


def _node(handler: str, *packages: str) -> Callable[[Path], contextlib.AbstractContextManager[str]]:
    @contextlib.contextmanager
    def start(folder: Path) -> Iterator[str]:
        script = _NODE.replace("HANDLER", handler)
        with running_node(script, folder, packages=packages) as process:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/files"

    return start


PEERS = {
    "receiver": Peer(_receiver, checksums="sha256", defers=204, joins=True, displaced="cut"),
    # It reads a body to its end before it looks at it, so a HEAD does not know what is on its way. It wants the length
    # of an upload of unknown size with the first bytes.
    "resumable-upload": Peer(_resumable_upload, checksums="sha1", defers=400, joins=True, stale=(409, 204)),
    "tus-node-server": Peer(_node(_TUS, "@tus/server", "@tus/file-store"), defers=204, displaced="204"),
    # It answers what completes an upload with 200. It writes bytes where the client says, and compares no offsets.
    "uploadx": Peer(
        _node(_UPLOADX, "@uploadx/core"),
        small=200,
        last=200,
        checksums="sha256",
        stale=(200,),
        truncates=True,
        conflict=None,
    ),
}


def stored(folder: Path, url: str, filename: str) -> bytes:
    """The content of an upload. Its file has the last part of its URL as its name, or that which the client gave it."""
    names = (httpx.URL(url).path.rsplit("/", 1)[1], filename)
    (found,) = [each for each in folder.rglob("*") if each.name in names]
    return found.read_bytes()


def kept(folder: Path) -> set[str]:
    """What the server keeps: its files, and the uploads of its database."""
    files = [each for each in folder.rglob("*") if each.is_file()]
    databases = [each for each in files if each.suffix == ".db"]
    return {str(each) for each in files if each not in databases}.union(*map(_rows, databases))


def _rows(database: Path) -> set[str]:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return {row[0] for row in connection.execute("SELECT upload_id FROM uploads")}


def offset(url: str) -> int:
    """What the server has of an upload."""
    return int(httpx.head(url, headers=VERSION, timeout=PATIENCE, trust_env=False).headers["Upload-Offset"])


def metadata(url: str) -> dict[str, str]:
    """What the server knows of an upload, as it says itself."""
    said = httpx.head(url, headers=VERSION, timeout=PATIENCE, trust_env=False).headers["Upload-Metadata"]
    pairs = [each.strip().partition(" ") for each in said.split(",")]
    return {key: base64.b64decode(value).decode() for key, _, value in pairs}


def announced(endpoint: str) -> dict[str, list[str]]:
    """The extensions and the algorithms of checksums that a server announces."""
    headers = httpx.options(endpoint, headers=VERSION, timeout=PATIENCE, trust_env=False).headers
    names = {"extensions": "Tus-Extension", "algorithms": "Tus-Checksum-Algorithm"}
    return {key: headers.get(name, "").replace(" ", "").split(",") for key, name in names.items()}
