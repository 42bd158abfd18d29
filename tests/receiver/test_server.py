"""The receiver as a server: interrupted uploads, `running()` and `serve()`, and that nothing stays open."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest
from support.descriptors import descriptors
from support.forms import (
    CLOSING,
    FORM,
    PATIENCE,
    answer,
    connected,
    file_part,
    has_ended,
    head,
    posix_only,
    stored,
)

from rxupload import receiver
from rxupload.receiver import files


def test_a_client_that_goes_away_leaves_nothing(inbox, has_begun):
    """The file is on disk under a hidden name while it arrives, and is deleted when the client leaves."""
    with receiver.running(inbox) as url, connected(url) as sock:
        sock.sendall(head(Content_Length=1000) + file_part("content", b"some") + file_part("next")[:-2])
        assert has_begun.wait(PATIENCE)
        assert all(name.startswith(".") for name in stored(inbox))
        assert b"some" in stored(inbox).values()

    assert stored(inbox) == {}


def test_stopping_ends_a_stalled_upload(inbox, has_begun):
    """Leaving the block does not wait for clients, and deletes their uploads."""
    with contextlib.ExitStack() as stack:
        with receiver.running(inbox) as url:
            sock = stack.enter_context(connected(url))
            sock.sendall(head(Content_Length=1000) + file_part("content", b"some")[:-2])
            assert has_begun.wait(PATIENCE)
            assert len(stored(inbox)) == 1

        assert stored(inbox) == {}
        assert has_ended(sock)


def test_stopping_waits_for_the_storing_of_a_complete_upload(inbox, monkeypatch):
    """A body that has arrived completely is stored: its file has its name when the block ends."""
    storing, stopping = threading.Event(), threading.Event()
    keep = files.ReceivedFile.keep

    def keep_later(file, directory):
        storing.set()
        assert stopping.wait(PATIENCE)
        keep(file, directory)

    monkeypatch.setattr(files.ReceivedFile, "keep", keep_later)
    body = file_part("content", b"some") + CLOSING
    with contextlib.ExitStack() as stack:
        with receiver.running(inbox) as url:
            sock = stack.enter_context(connected(url))
            sock.sendall(head(Content_Length=len(body)) + body)
            assert storing.wait(PATIENCE)
            watch = threading.Thread(target=lambda: has_ended(sock) and stopping.set())
            stack.callback(watch.join)
            watch.start()

        assert stored(inbox) == {"content": b"some"}


def test_stopping_does_not_wait_for_a_refused_client(inbox, patient):
    """A client that still sends after its 413 does not delay the end."""
    with contextlib.ExitStack() as stack:
        with receiver.running(inbox, max_size=1) as url:
            sock = stack.enter_context(connected(url))
            sock.sendall(head(Content_Length=1000))
            assert answer(sock)[0] == 413

        assert has_ended(sock)


def test_a_full_disk_is_a_500(client, url, inbox, monkeypatch):
    """The answer says why, and every part of the upload is deleted, even files with their final name."""
    keep = files.ReceivedFile.keep

    def keep_the_first(file, directory):
        if file.filename == "second":
            raise OSError(28, "No space left on device")
        keep(file, directory)

    monkeypatch.setattr(files.ReceivedFile, "keep", keep_the_first)
    response = client.post(url, content=file_part("first") + file_part("second") + CLOSING, headers=FORM)

    assert response.status_code == 500
    assert "No space left on device" in response.json()["error"]
    assert stored(inbox) == {}


def test_a_deleted_directory_is_a_500(client, url, inbox):
    """The receiver survives, and says what is missing."""
    shutil.rmtree(inbox)

    response = client.post(url, content=file_part("content") + CLOSING, headers=FORM)

    assert response.status_code == 500
    assert os.strerror(2) in response.json()["error"]


# running()


def test_without_a_directory_a_temporary_one_is_used(client, has_begun, tmp_path, monkeypatch):
    """Files go to a temporary directory, which is removed in the end with its content."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with receiver.running() as url:
        client.post(url, content=file_part("content", b"some") + CLOSING, headers=FORM)
        (directory,) = tmp_path.iterdir()
        assert stored(directory) == {"content": b"some"}

    assert list(tmp_path.iterdir()) == []


def test_a_missing_directory_is_created(tmp_path):
    """Its parents are created too; existing files stay."""
    directory = tmp_path / "a" / "b"
    for _ in range(2):
        with receiver.running(str(directory)):
            directory.joinpath("mine").touch()

    assert list(stored(directory)) == ["mine"]


def test_a_file_in_place_of_the_directory_is_an_error(tmp_path):
    """running() raises it on entry, and leaves nothing running."""
    path = tmp_path / "file"
    path.touch()
    threads_before = set(threading.enumerate())

    with pytest.raises(NotADirectoryError), receiver.running(path):
        pass
    assert set(threading.enumerate()) <= threads_before


def test_it_listens_on_loopback_only(url):
    """The URL is a loopback address with a port, and other addresses do not answer."""
    address = httpx.URL(url)

    assert (address.scheme, address.host, address.path) == ("http", "127.0.0.1", "/")
    if sys.platform == "linux":  # all of 127/8 is this machine
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", address.port), timeout=PATIENCE)


def test_several_run_side_by_side(client):
    """Each has its own port and directory."""
    body = file_part("content") + CLOSING
    with receiver.running() as first, receiver.running() as second:
        assert first != second
        assert client.post(first, content=body, headers=FORM).status_code == 200
        assert client.post(second, content=body, headers=FORM).status_code == 200


def test_it_runs_inside_a_running_loop():
    """In asyncio, and in a Jupyter kernel, the loop stays free for the client."""

    async def send():
        with receiver.running() as url:
            async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as client:
                return await client.post(url, content=file_part("content") + CLOSING, headers=FORM)

    assert asyncio.run(send()).status_code == 200


def test_it_runs_on_a_worker_thread(client):
    """It needs neither the main thread nor signals."""

    def send():
        with receiver.running() as url:
            return client.post(url, content=file_part("content") + CLOSING, headers=FORM)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert pool.submit(send).result(PATIENCE).status_code == 200


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_in_the_block_passes_through(error):
    """The receiver stops, and the caller's exception is raised."""
    threads_before = set(threading.enumerate())

    with pytest.raises(error, match="mine"), receiver.running():
        raise error("mine")
    assert set(threading.enumerate()) <= threads_before


@posix_only
def test_nothing_stays_open(inbox, has_begun):
    """After the block no new thread, socket or file is left, whether connections were idle, finished or stalled."""
    with receiver.running(inbox):  # opens what stays open after the first use
        pass
    gc.collect()
    before, threads_before = descriptors(), set(threading.enumerate())

    with contextlib.ExitStack() as stack:
        with receiver.running(inbox) as url:
            idle, finished, stuck = (stack.enter_context(connected(url)) for _ in range(3))
            finished.sendall(head(Content_Length=len(CLOSING)) + CLOSING)
            assert answer(finished)[0] == 200
            stuck.sendall(head(Content_Length=1000) + file_part("content", b"some")[:-2])
            assert has_begun.wait(PATIENCE)
        assert all(map(has_ended, (idle, finished, stuck)))
    gc.collect()

    assert descriptors() <= before
    assert set(threading.enumerate()) <= threads_before


def test_stopping_closes_a_connection_that_is_being_accepted():
    """A client that connects during the stop is closed like any other."""
    for _ in range(20):
        with contextlib.ExitStack() as stack:
            with receiver.running() as url:
                clients = [stack.enter_context(connected(url)) for _ in range(20)]
            assert all(map(has_ended, clients))
        gc.collect()  # a lost socket is a ResourceWarning


def test_it_prints_nothing(client, capfd):
    """Starting, uploading, refusing and stopping write nothing to the standard streams."""
    with receiver.running(max_size=1000) as url:
        client.get(url)
        client.post(url, content=file_part("content") + CLOSING, headers=FORM)
        client.post(url, content=bytes(2000), headers=FORM)

    assert capfd.readouterr() == ("", "")


# serve()


@contextlib.contextmanager
def served(arguments, setup="pass"):
    """Run `serve()` in a separate process; return the URL that it printed first."""
    code = f"import signal; {setup}; from rxupload import receiver; receiver.serve({arguments})"
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=os.environ | {"PYTHONUTF8": "1"},
    ) as process:
        try:
            line = process.stdout.readline()
            yield process, line.partition(" at ")[2].partition(" into ")[0]
        finally:
            process.kill()


CTRL_C_WORKS = "signal.signal(signal.SIGINT, signal.default_int_handler)"
CTRL_C_IGNORED = "signal.signal(signal.SIGINT, signal.SIG_IGN)"  # as for a background job of a shell


@posix_only
@pytest.mark.parametrize(
    ("setup", "ending"),
    [(CTRL_C_WORKS, signal.SIGINT), (CTRL_C_WORKS, signal.SIGTERM), (CTRL_C_IGNORED, signal.SIGTERM)],
)
def test_serve_prints_its_uploads_until_it_is_stopped(client, inbox, setup, ending):
    """It prints the URL, then a line for each upload; Ctrl-C and SIGTERM end it quietly with success."""
    body = file_part("../海滩.jpg", b"content") + CLOSING
    with served(f"port=0, directory={os.fspath(inbox)!r}, max_size=1000", setup) as (process, url):
        statuses = [
            client.post(url, content=content, headers=FORM).status_code
            for content in (body, body, CLOSING, body * 2, b"\r\n--B?", bytes(2000))
        ]
        process.send_signal(ending)
        out, err = process.communicate(timeout=PATIENCE)

    assert statuses == [200, 200, 200, 200, 400, 413]
    assert out.splitlines() == [
        "Received 海滩.jpg (7 bytes)",
        "Received 海滩 (1).jpg (7 bytes)",
        "Received no files",
        "Received 海滩 (2).jpg (7 bytes)",
        "Refused: 400 Did not find CR at end of boundary (5)",
        "Refused: 413 The body is longer than 1000 bytes.",
    ]
    assert (process.returncode, err) == (0, "")
    assert set(stored(inbox)) == {"海滩.jpg", "海滩 (1).jpg", "海滩 (2).jpg"}


@posix_only
def test_serve_prints_any_filename_in_any_encoding(client, inbox):
    """A terminal with an encoding that lacks a character does not fail the upload."""
    setup = "import sys; sys.stdout.reconfigure(encoding='ascii')"
    with served(f"port=0, directory={os.fspath(inbox)!r}", setup) as (process, url):
        assert client.post(url, content=file_part("é") + CLOSING, headers=FORM).status_code == 200
        assert process.stdout.readline() == "Received \\xe9 (0 bytes)\n"


def test_serve_listens_on_the_given_address(client, inbox):
    """An IPv6 address works, and is in brackets in the URL."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with served(f"'::1', 0, {os.fspath(inbox)!r}") as (_, url):
        assert url.startswith("http://[::1]:")
        assert client.get(url).status_code == 200


def test_a_taken_port_is_an_error(url, inbox):
    """The error is raised at once, so that the command can print it."""
    with pytest.raises(OSError, match=r"."):
        receiver.serve(port=httpx.URL(url).port, directory=inbox)


# The extra


@pytest.mark.parametrize("missing", ["uvicorn", "starlette", "python_multipart"])
def test_without_the_extra_the_import_says_what_to_install(missing):
    """The error names the extra instead of an unknown package."""
    code = f"import sys; sys.modules[{missing!r}] = None; import rxupload.receiver"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False)

    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("ImportError: ")
    assert 'pip install "rxupload[receiver]"' in result.stderr


def test_the_public_names():
    """These two are the public names."""
    assert receiver.__all__ == ["running", "serve"]
    assert Path(receiver.__file__).parent.name == "receiver"
