"""Files of other libraries: web frameworks, asynchronous files and streams, and file systems."""

from __future__ import annotations

import asyncio
import importlib.resources
import io
import sys
import threading
import zipfile
from contextlib import asynccontextmanager, closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import aiofiles
import aiohttp
import anyio
import fsspec
import httpx
import pytest
import upath
import werkzeug.datastructures
import werkzeug.test
from django.conf import settings as django_settings
from django.core.files.uploadedfile import InMemoryUploadedFile, SimpleUploadedFile, TemporaryUploadedFile
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartParser
from support.owner import FakeOwner
from support.pieces import read_all
from support.scripted_server import Server, header

from rxupload import File, upload
from rxupload._sources import make_source
from rxupload.operators import retry_backoff

CONTENT = bytes(range(256)) * 5000


class Taken:
    """A server that takes requests with any body, and first answers 503 as often as asked."""

    def __init__(self, busy=0):
        self.heads = []
        self.bodies = []
        self._busy = busy
        self._server = Server(self._script)
        self.url = self._server.url

    def _script(self, connection):
        while head := connection.read_head():
            self.heads.append(head)
            self.bodies.append(connection.read_body())
            connection.respond(503 if len(self.heads) <= self._busy else 201)

    def __enter__(self):
        self._server.__enter__()
        return self

    def __exit__(self, *details):
        self._server.__exit__(*details)


@pytest.fixture
def taken():
    with Taken() as server:
        yield server


@pytest.fixture
def busy():
    """A server that answers 503 once."""
    with Taken(busy=1) as server:
        yield server


def retrying(up):
    return up.pipe(retry_backoff(wait_initial=0, wait_jitter=0))


def read_twice(source):
    """What two passes of one upload give, which must be the same."""
    with closing(make_source(source).open(FakeOwner())) as reader:
        first, second = read_all(reader), read_all(reader)
    assert first == second
    return first, reader.size


# Web frameworks


@pytest.fixture
def file_storage():
    """A werkzeug FileStorage as a Flask application gets it from a browser."""
    builder = werkzeug.test.EnvironBuilder(
        method="POST", data={"the_field": (io.BytesIO(CONTENT), "photo.bin", "image/png")}
    )
    with closing(builder), closing(builder.get_request()) as request:
        yield request.files["the_field"]
        request.environ["wsgi.input"].close()


def test_werkzeug(file_storage, taken):
    """A FileStorage has its filename and type, and not the name of its form field, which `name` is."""
    assert file_storage.name == "the_field"
    upload(taken.url, file_storage).run()
    assert b'name="file"; filename="photo.bin"\r\nContent-Type: image/png\r\n' in taken.bodies[0]
    assert CONTENT in taken.bodies[0]
    file_storage.seek(0)
    upload(taken.url, file_storage, raw=True).run()
    assert header(taken.heads[1], b"content-type") == b"image/png"
    assert taken.bodies[1] == CONTENT


def test_werkzeug_without_a_filename():
    """A FileStorage without a filename does not get the name of its form field."""
    file = werkzeug.datastructures.FileStorage(io.BytesIO(b"a"), filename=None, name="the_field")
    assert make_source(file).default_filename == "upload"
    file = werkzeug.datastructures.FileStorage(io.BytesIO(b"a"), filename="", name="the_field")
    assert make_source(file).default_filename == "upload"


@pytest.mark.parametrize("kind", [SimpleUploadedFile, InMemoryUploadedFile, TemporaryUploadedFile])
def test_django(kind, taken):
    """An UploadedFile has its name and its type, in memory and on the disk."""
    if not django_settings.configured:
        django_settings.configure()
    if kind is SimpleUploadedFile:
        file = kind("photo.bin", CONTENT, content_type="image/png")
    elif kind is InMemoryUploadedFile:
        file = kind(io.BytesIO(CONTENT), "the_field", "photo.bin", "image/png", len(CONTENT), None)
    else:
        file = kind("photo.bin", "image/png", len(CONTENT), None)
        file.write(CONTENT)
        file.seek(0)
    with file:
        upload(taken.url, file).run()
        file.seek(0)
        assert read_twice(file) == (CONTENT, len(CONTENT))
    assert b'filename="photo.bin"\r\nContent-Type: image/png\r\n' in taken.bodies[0]


def starlette_file(content=CONTENT):
    return UploadFile(
        io.BytesIO(content), filename="photo.bin", headers=Headers({"content-type": "image/png"})
    )


def test_starlette(busy):
    """An UploadFile has its filename and its type, is read on the loop, again by each attempt, and has a size."""

    async def main():
        await retrying(upload(busy.url, starlette_file()))

    asyncio.run(main())
    for body, head in zip(busy.bodies, busy.heads, strict=True):
        assert b'name="file"; filename="photo.bin"\r\nContent-Type: image/png\r\n' in body
        assert CONTENT in body
        assert header(head, b"content-length") == b"%d" % len(body)
    assert len(busy.bodies) == 2


def test_an_upload_file_as_starlette_parses_it(taken):
    """An UploadFile that Starlette has parsed from a request, larger than its memory, is sent from its position."""
    boundary = b"x"
    form = (
        b'--x\r\nContent-Disposition: form-data; name="the_field"; filename="photo.bin"\r\n'
        b"Content-Type: image/png\r\n\r\n" + CONTENT * 2 + b"\r\n--x--\r\n"
    )

    async def main():
        async def stream():
            yield form

        headers = Headers({"content-type": f"multipart/form-data; boundary={boundary.decode()}"})
        parsed = await MultiPartParser(headers, stream()).parse()
        async with closing_file(parsed["the_field"]) as file:
            await upload(taken.url, file, raw=True)
            await file.seek(100)
            await asyncio.gather(*(awaited(upload(taken.url, file, raw=True)) for _ in range(2)))
            await file.read()
            with pytest.raises(ValueError, match=r"seek\(0\)"):
                await upload(taken.url, file, raw=True)

    asyncio.run(main())
    assert taken.bodies == [CONTENT * 2, (CONTENT * 2)[100:], (CONTENT * 2)[100:]]


@asynccontextmanager
async def closing_file(file):
    try:
        yield file
    finally:
        await file.close()


async def awaited(up):
    return await up


def test_an_upload_file_without_a_loop(taken):
    """Without a loop it is a TypeError; a function without `async` has the UploadFile's own file."""
    file = starlette_file()
    with pytest.raises(TypeError, match=r"the file object 'photo\.bin' is asynchronous"):
        upload(taken.url, file).run()
    upload(taken.url, file.file, raw=True).run()
    assert taken.bodies == [CONTENT]


def test_a_closed_upload_file_is_refused():
    """A closed UploadFile is refused at the call."""
    file = starlette_file()
    asyncio.run(file.close())
    with pytest.raises(ValueError, match="file is a closed file object"):
        upload("http://server.test", file)


@pytest.mark.parametrize("content_type", ["text/plain\r\nX: y", "", " ", None, 5])
def test_a_content_type_that_cannot_be_sent_is_guessed(content_type):
    """The type comes from a stranger. If it cannot be sent, the guess is sent instead."""
    file = io.BytesIO(b"a")
    wrapped = werkzeug.datastructures.FileStorage(file, filename="a.png", content_type="image/gif")
    assert make_source(wrapped).default_content_type == "image/gif"

    class Wrapped(io.BytesIO):
        filename = "a.png"

    wrapped = Wrapped(b"a")
    wrapped.content_type = content_type
    assert make_source(wrapped).default_content_type is None


def test_the_callers_names_come_first(file_storage, taken):
    """The caller's own filename and type are sent instead of those that the file has."""
    upload(taken.url, file_storage, filename="mine.txt", content_type="text/x-mine").run()
    file_storage.seek(0)
    upload(taken.url, File(file_storage, filename="mine.txt")).run()
    assert b'filename="mine.txt"\r\nContent-Type: text/x-mine\r\n' in taken.bodies[0]
    assert b'filename="mine.txt"\r\nContent-Type: image/png\r\n' in taken.bodies[1]


# Asynchronous files and streams


def test_aiofiles(tmp_path, busy):
    """A file of aiofiles is read from its position by each attempt, with its size and name."""
    path = tmp_path / "photo.png"
    path.write_bytes(CONTENT)

    async def main():
        async with aiofiles.open(path, "rb") as file:
            await file.seek(5)
            await retrying(upload(busy.url, file))
            assert not file.closed

    asyncio.run(main())
    assert len(busy.bodies) == 2
    for body, head in zip(busy.bodies, busy.heads, strict=True):
        assert b'filename="photo.png"\r\nContent-Type: image/png\r\n\r\n' + CONTENT[5:] in body
        assert header(head, b"content-length") == b"%d" % len(body)


def test_aiofiles_opened_for_each_pass(tmp_path, busy):
    """A function may open a file of aiofiles for each pass, with or without `async`."""
    path = tmp_path / "photo.png"
    path.write_bytes(CONTENT)
    asyncio.run(awaited(retrying(upload(busy.url, lambda: aiofiles.open(path, "rb"), raw=True))))
    assert busy.bodies == [CONTENT] * 2


def test_aiofiles_in_text_mode_or_not_opened(tmp_path):
    """A file of aiofiles in text mode, a closed one, or one that was not awaited, is refused at the call."""
    path = tmp_path / "photo.png"
    path.write_bytes(CONTENT)

    async def main():
        async with aiofiles.open(path) as file:
            with pytest.raises(TypeError, match="file is a file object in text mode"):
                upload("http://server.test", file)
        async with aiofiles.open(path, "rb") as file:
            pass
        with pytest.raises(ValueError, match="file is a closed file object"):
            upload("http://server.test", file)
        not_awaited = aiofiles.open(path, "rb")
        with pytest.raises(TypeError, match="await it, or give the function that returns it"):
            upload("http://server.test", not_awaited)
        async with not_awaited:
            pass

    asyncio.run(main())


def test_anyio(tmp_path, busy):
    """A file of anyio is read from its position by each attempt, with its size and name."""
    path = tmp_path / "photo.png"
    path.write_bytes(CONTENT)

    async def main():
        async with await anyio.open_file(path, "rb") as file:
            await retrying(upload(busy.url, file))

    asyncio.run(main())
    assert len(busy.bodies) == 2
    for body in busy.bodies:
        assert b'filename="photo.png"\r\nContent-Type: image/png\r\n\r\n' + CONTENT in body


def test_a_path_of_anyio_is_a_path(tmp_path, taken):
    """anyio.Path is a path like any other, and needs no loop."""
    path = tmp_path / "photo.png"
    path.write_bytes(CONTENT)
    upload(taken.url, anyio.Path(path), raw=True).run()
    assert taken.bodies == [CONTENT]


def test_a_byte_stream_of_anyio(taken):
    """A stream of anyio is an asynchronous iterable."""

    async def main():
        send, receive = anyio.create_memory_object_stream[bytes](1)

        async def feed():
            async with send:
                for start in range(0, len(CONTENT), 70_000):
                    await send.send(CONTENT[start : start + 70_000])

        feeding = asyncio.ensure_future(feed())
        async with receive:
            await upload(taken.url, receive, raw=True)
        await feeding

    asyncio.run(main())
    assert taken.bodies == [CONTENT]


class Downloads(BaseHTTPRequestHandler):
    """Gives the content."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture(scope="module")
def downloads():
    """The address of a server to download from."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Downloads) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("stream", ["aiter_bytes", "aiter_raw", "stream"])
def test_a_response_of_httpx(stream, downloads, taken):
    """A download of httpx's asynchronous client goes on as an upload, without being held in memory."""

    async def main():
        async with httpx.AsyncClient() as client, client.stream("GET", downloads) as response:
            source = response.stream if stream == "stream" else getattr(response, stream)()
            up = upload(taken.url, File(source, size=int(response.headers["content-length"])), raw=True)
            await up
            with pytest.raises(RuntimeError, match="was read before, and can be read only once"):
                await up

    asyncio.run(main())
    assert taken.bodies == [CONTENT]
    assert header(taken.heads[0], b"content-length") == b"%d" % len(CONTENT)


@pytest.mark.parametrize("stream", ["content", "iter_chunked", "iter_any"])
def test_a_response_of_aiohttp(stream, downloads, taken):
    """A download of aiohttp goes on as an upload: `content` is a file object, the others are iterators."""

    async def main():
        async with aiohttp.ClientSession() as session, session.get(downloads) as response:
            content = response.content
            source = {
                "content": content,
                "iter_chunked": content.iter_chunked(4096),
                "iter_any": content.iter_any(),
            }[stream]
            await upload(taken.url, source, raw=True)
            with pytest.raises(RuntimeError, match="was read before, and can be read only once"):
                up = upload(taken.url, source, raw=True)
                await up
                await up

    asyncio.run(main())
    assert taken.bodies[0] == CONTENT


def test_a_stream_reader_of_asyncio(taken):
    """asyncio's own StreamReader is a file object that cannot seek."""

    async def main():
        reader = asyncio.StreamReader()
        reader.feed_data(CONTENT)
        reader.feed_eof()
        await upload(taken.url, reader, raw=True)

    asyncio.run(main())
    assert taken.bodies == [CONTENT]


# Things that open


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "archive.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("package/__init__.py", "")
        file.writestr("package/photo.png", CONTENT)
    return path


def test_a_path_in_a_zip_file(archive, busy):
    """A zipfile.Path has its name and size, and each pass opens it once."""
    opened = []

    class Counted(zipfile.Path):
        def open(self, *args, **kwargs):
            opened.append((*args, *kwargs))
            return super().open(*args, **kwargs)

    with zipfile.ZipFile(archive) as file:
        path = Counted(file, "package/photo.png")
        up = upload(busy.url, path)
        assert opened == []
        retrying(up).run()
    assert opened == [("rb",)] * 2
    for body, head in zip(busy.bodies, busy.heads, strict=True):
        assert b'filename="photo.png"\r\nContent-Type: image/png\r\n\r\n' + CONTENT in body
        assert header(head, b"content-length") == b"%d" % len(body)


def test_a_missing_path_in_a_zip_file(archive, taken):
    """A missing entry is FileNotFoundError, and a folder IsADirectoryError, before anything is sent."""
    with zipfile.ZipFile(archive) as file:
        with pytest.raises(FileNotFoundError):
            upload(taken.url, zipfile.Path(file, "package/none")).run()
        with pytest.raises(IsADirectoryError):
            upload(taken.url, zipfile.Path(file, "package/")).run()
    assert not taken.heads


def test_a_resource_of_a_package_in_a_zip_file(archive, taken, monkeypatch):
    """A Traversable of importlib.resources is sent, wherever the package is."""
    monkeypatch.syspath_prepend(str(archive))
    resource = importlib.resources.files("package") / "photo.png"
    try:
        upload(taken.url, resource).run()
    finally:
        sys.modules.pop("package", None)
    assert b'filename="photo.png"\r\nContent-Type: image/png\r\n\r\n' + CONTENT in taken.bodies[0]
    upload(taken.url, importlib.resources.files("rxupload") / "py.typed", raw=True).run()
    assert taken.bodies[1] == b""


def test_an_open_file_of_fsspec(busy):
    """An OpenFile is opened for each pass and closed after it, even if several uploads share it."""
    with fsspec.open("memory://folder/photo.png", "wb") as file:
        file.write(CONTENT)
    file = fsspec.open("memory://folder/photo.png", "rb")
    retrying(upload(busy.url, file)).run()
    assert len(busy.bodies) == 2
    for body, head in zip(busy.bodies, busy.heads, strict=True):
        assert b'filename="photo.png"\r\nContent-Type: image/png\r\n\r\n' + CONTENT in body
        assert header(head, b"content-length") == b"%d" % len(body)
    assert file.fobjects == []
    assert read_twice(file) == (CONTENT, len(CONTENT))


@pytest.mark.parametrize("compression", ["gzip", "infer", "bz2", "xz"])
def test_a_compressed_open_file_of_fsspec(compression, tmp_path):
    """An OpenFile that decompresses gives plain bytes under a plain name, and closes all that it has opened."""
    suffix = {"gzip": "gz", "infer": "gz"}.get(compression, compression)
    url = f"{tmp_path}/data.csv.{suffix}"
    with fsspec.open(url, "wb", compression=compression) as file:
        file.write(CONTENT)
    file = fsspec.open(url, "rb", compression=compression)
    source = make_source(file)
    assert source.default_filename == "data.csv"
    assert read_twice(file)[0] == CONTENT
    plain = fsspec.open(url, "rb")
    assert make_source(plain).default_filename == f"data.csv.{suffix}"


@pytest.mark.parametrize("mode", ["r", "rt", "wb"])
def test_an_open_file_of_fsspec_in_another_mode(mode):
    """An OpenFile in text mode or for writing is refused at the call."""
    with pytest.raises(TypeError, match=f"file is a file with the mode '{mode}'; open it with the mode"):
        upload("http://server.test", fsspec.open("memory://folder/photo.png", mode))


def test_a_file_object_of_fsspec(taken):
    """A file object of fsspec is a file object."""
    with fsspec.open("memory://folder/photo.png", "wb") as file:
        file.write(CONTENT)
    with fsspec.open("memory://folder/photo.png", "rb") as file:
        upload(taken.url, file, raw=True).run()
    assert taken.bodies == [CONTENT]


@pytest.mark.parametrize("where", ["memory", "local", "local as a URL"])
def test_a_universal_path(where, tmp_path, busy):
    """A UPath is opened for each pass, wherever it is; a local one is a path."""
    address = {"memory": "memory://folder/photo.png", "local": tmp_path / "photo.png"}
    path = upath.UPath(address.get(where, f"file://{tmp_path}/photo.png"))
    path.write_bytes(CONTENT)
    retrying(upload(busy.url, path)).run()
    assert len(busy.bodies) == 2
    for body, head in zip(busy.bodies, busy.heads, strict=True):
        assert b'filename="photo.png"\r\nContent-Type: image/png\r\n\r\n' + CONTENT in body
        assert header(head, b"content-length") == b"%d" % len(body)
