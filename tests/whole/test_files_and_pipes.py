"""Files and named pipes: waits that end, many files at once, files that change."""

from __future__ import annotations

import os
import queue
import threading
import time
from contextlib import closing, contextmanager, suppress

import httpx
import pytest
from support.abort_phases import start, transport_client
from support.recording_observer import observe
from support.scripted_server import PATIENCE, Server

from rxupload import Progress, SourceChanged, UploadTimeout, upload

resource = pytest.importorskip("resource")

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs named pipes, and POSIX limits")

# Seconds. A few milliseconds take long on a busy machine, and a wait that goes on takes longer.
SOON = PATIENCE / 2
LIMIT = 0.2  # seconds; a time limit that a test reaches


@pytest.fixture(params=["default", "UploadTransport", "plain"])
def any_client(request):
    """The default client, a client with our transport, and a plain one."""
    match request.param:
        case "default":
            yield None
        case "UploadTransport":
            with transport_client() as made:
                yield made
        case _:
            with httpx.Client(timeout=None) as made:
                yield made


@pytest.fixture
def pipe(tmp_path):
    """A named pipe that no process has opened."""
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


@contextmanager
def writer_of(pipe):
    """Open the pipe for writing once there is a reader, and keep it open."""
    opened = queue.SimpleQueue()
    threading.Thread(target=lambda: opened.put(pipe.open("wb", buffering=0)), daemon=True).start()
    with closing(opened.get(timeout=PATIENCE)) as file:
        yield file


class Script:
    """Reads a request, and keeps the moment at which it ended."""

    def __init__(self, awaited=b"\r\n\r\n"):
        self.there = threading.Event()
        self.ended = queue.SimpleQueue()
        self._awaited = awaited

    def __call__(self, connection):
        received = b""
        with suppress(ConnectionError):  # a slow client's time limit may end it before all has come
            connection.read_head()
            while self._awaited not in received and (data := connection.recv()):
                received += data
        self.there.set()
        self.ended.put(connection.wait_for_end())


class TestNamedPipe:
    def test_its_content_arrives(self, pipe, any_client):
        """The content of a named pipe arrives, however late its writer comes and however often it pauses."""
        arrived = threading.Semaphore(0)
        bodies = []

        def script(connection):
            connection.read_head()
            received = b""
            for awaited in (b"one", b"two"):
                while awaited not in received:
                    received += connection.recv()
                arrived.release()
            while not received.endswith(b"0\r\n\r\n"):
                received += connection.recv()
            bodies.append(received)
            connection.respond()

        with Server(script) as server:
            observed, _ = observe(upload(server.url, pipe, client=any_client))
            with writer_of(pipe) as writer:
                for item in (b"one", b"two"):
                    writer.write(item)
                    assert arrived.acquire(timeout=PATIENCE)  # before the next is written
            assert observed.wait().response.status_code == 200
            assert not server.errors
        assert bodies[0].index(b"one") < bodies[0].index(b"two")

    @pytest.mark.parametrize("has_writer", [False, True])
    def test_the_time_limit_ends_the_wait(self, pipe, any_client, has_writer):
        """The time limit ends the wait for a writer, and for its next bytes."""
        script = Script(b"some" if has_writer else b"\r\n\r\n")
        with Server(script) as server:
            # This descriptor is a writer that does not wait for a reader, who may be gone before.
            writer = os.open(pipe, os.O_RDWR) if has_writer else None
            if writer is not None:
                os.write(writer, b"some")
            began = time.monotonic()
            observed, _ = observe(upload(server.url, pipe, client=any_client, timeout=LIMIT))
            assert isinstance(observed.wait().error, UploadTimeout)
            assert LIMIT <= time.monotonic() - began < LIMIT + SOON
            if writer is not None:
                os.close(writer)
            if server.connections:  # on a slow machine, the limit may pass before
                assert script.ended.get(timeout=PATIENCE) - began < LIMIT + SOON
            assert not server.errors

    @pytest.mark.parametrize("has_writer", [False, True])
    def test_a_dispose_ends_the_wait(self, pipe, any_client, has_writer):
        """A dispose ends the wait for a writer and for its next bytes, and the server sees it at once."""
        script = Script(b"some" if has_writer else b"\r\n\r\n")
        with Server(script) as server:
            running = start(upload(server.url, pipe, client=any_client))
            if has_writer:
                with writer_of(pipe) as writer:
                    writer.write(b"some")
                    self.check_dispose(running, script)
                    with pytest.raises(BrokenPipeError):
                        writer.write(b"nobody reads this")
            else:
                self.check_dispose(running, script)
            assert not server.errors

    @staticmethod
    def check_dispose(running, script):
        assert script.there.wait(PATIENCE)
        began = time.monotonic()
        running.subscription.dispose()
        assert running.join() - began < SOON
        assert script.ended.get(timeout=PATIENCE) - began < SOON
        assert not running.observed.ended

    def test_an_early_answer_ends_the_wait(self, pipe, client):
        """An answer is heard even if the pipe's writer never comes."""

        def script(connection):
            connection.read_head()
            connection.respond(413, b"too large", "Connection: close")
            connection.wait_for_end()

        with Server(script) as server:
            assert upload(server.url, pipe, client=client, timeout=PATIENCE).run().text == "too large"
            assert not server.errors

    def test_a_writer_without_a_byte_gives_an_empty_file(self, pipe, any_client):
        """A writer that opens and closes the pipe gives an empty file."""
        bodies = []
        with Server(lambda connection: bodies.append(connection.serve())) as server:
            observed, _ = observe(upload(server.url, pipe, client=any_client))
            with writer_of(pipe):
                pass
            assert observed.wait().response.status_code == 200
        assert b"\r\n\r\n\r\n--" in bodies[0]


@pytest.fixture
def few_files():
    """Limit this process to 1024 open files, as is often the default."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("few_files")
@pytest.mark.parametrize("size", [20, 132_000], ids=["small", "large"])
def test_more_files_than_may_be_open(tmp_path, any_client, size):
    """1,500 files go in one request, complete and in order, in a process that may have 1,024 open."""
    count = 1500 if size < 1000 else 1100
    paths = [tmp_path / f"{number:04}" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(b"%04d" % number)
        os.truncate(path, size)
    bodies = []
    with Server(lambda connection: bodies.append(connection.serve())) as server:
        response = upload(server.url, paths, client=any_client).run()
        assert response.status_code == 200
        assert not server.errors
    [body] = bodies
    parts = body.split(b"\r\n\r\n")[1:]
    assert len(parts) == count
    for number, part in enumerate(parts):
        assert part.startswith(b"%04d" % number + bytes(size - 4) + b"\r\n--")


class TestFilesThatChange:
    """The first file is a pipe, so the test decides when the second file's turn comes."""

    @pytest.fixture
    def path(self, tmp_path):
        path = tmp_path / "file"
        path.write_bytes(b"content")
        return path

    def changed(self, pipe, path, client, change):
        """Upload both, and change the second before its turn; return the observer and the body."""
        bodies = []

        def script(connection):
            connection.read_head()
            try:
                bodies.append(connection.read_body())
            except ConnectionError:
                return
            connection.respond()

        with Server(script) as server:
            begun = threading.Event()  # the file has been opened once by then
            observed, _ = observe(upload(server.url, [pipe, path], client=client), lambda _: begun.set())
            assert begun.wait(PATIENCE)
            with writer_of(pipe):
                change()
            return observed.wait(), bodies

    def test_a_deleted_file_is_an_error(self, pipe, path, any_client):
        """A file that is gone when its turn comes is FileNotFoundError, with the path."""
        observed, bodies = self.changed(pipe, path, any_client, path.unlink)
        assert isinstance(observed.error, FileNotFoundError)
        assert os.fspath(observed.error.filename) == str(path)
        assert not bodies

    def test_a_replaced_file_is_source_changed(self, pipe, path, any_client):
        """A file that was replaced before its turn is SourceChanged."""

        def replace():
            path.with_name("another").write_bytes(b"another")
            path.with_name("another").replace(path)

        observed, bodies = self.changed(pipe, path, any_client, replace)
        assert isinstance(observed.error, SourceChanged)
        assert "replaced by another file" in str(observed.error)
        assert not bodies

    @pytest.mark.parametrize("size", [7, 300_000])
    def test_a_shrunk_file_is_source_changed(self, pipe, path, any_client, size):
        """A file that was shortened before its turn is SourceChanged, with both sizes."""
        os.truncate(path, size)
        observed, bodies = self.changed(pipe, path, any_client, lambda: os.truncate(path, 3))
        assert isinstance(observed.error, SourceChanged)
        assert f"{size} bytes expected, and it ended after 3" in str(observed.error)
        assert not bodies

    def test_a_grown_file_keeps_its_size(self, pipe, path, any_client):
        """A file that has grown before its turn is sent with its first size."""

        def grow():
            with path.open("ab") as file:
                file.write(b" and more")

        observed, [body] = self.changed(pipe, path, any_client, grow)
        assert observed.response.status_code == 200
        assert b"\r\n\r\ncontent\r\n--" in body


def test_a_file_object_closed_by_its_owner_is_sent(tmp_path, any_client):
    """The file object is sent completely, even if another file has its descriptor by then."""
    path, other = tmp_path / "file", tmp_path / "other"
    path.write_bytes(bytes(range(256)) * 40_000)
    other.write_bytes(b"secret" * 2_000_000)
    file, another = path.open("rb"), other.open("rb")
    taken = []

    def take_its_number(item):
        if isinstance(item, Progress) and not item.sent and not taken:
            # In one step, so that no thread of the server can take the number in between.
            taken.append(os.dup2(another.fileno(), file.fileno()))

    bodies = []
    with Server(lambda connection: bodies.append(connection.serve())) as server:
        observed, _ = observe(upload(server.url, file, client=any_client), take_its_number)
        assert observed.wait().response.status_code == 200
    with file, another:
        assert taken == [file.fileno()]
        assert os.pread(file.fileno(), 6, 0) == b"secret"
    assert b"\r\n\r\n" + bytes(range(256)) * 40_000 + b"\r\n--" in bodies[0]
    assert b"secret" not in bodies[0]
