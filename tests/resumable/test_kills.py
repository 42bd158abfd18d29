"""Processes that are killed in the middle: the client, the server, both. What arrives is right, and is sent once."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.command_line import PROCESS_PATIENCE, posix_only, started
from support.recording_observer import observe
from support.resumable_uploads import check_passes, outcome_of
from support.scripted_server import PATIENCE
from support.tus_server import respond, take, tus_server
from support.uploading_process import uploading

import rxupload
from rxupload.operators import raise_for_status, retry_backoff
from rxupload.resumable import FileStore, upload_resumable
from rxupload.resumable import Tus as TusProtocol

pytestmark = [posix_only, pytest.mark.slow]

MIB = 1 << 20


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(0, 3 * MIB + 17), chunk_size=st.sampled_from([None, MIB, 100_000]))
def test_a_killed_client_goes_on(tmp_path_factory, content, count, chunk_size):
    """Killed when the server has so many bytes; the next process sends what the server lacks, and nothing else."""
    folder = tmp_path_factory.mktemp("kill")
    file = folder / "video.mp4"
    file.write_bytes(content)
    reached, killed = threading.Event(), threading.Event()

    def watching(connection, asked, tus):
        kept = tus.only
        take(connection, asked, kept, count - len(kept.content))
        if len(kept.content) >= count:
            reached.set()
            assert killed.wait(PROCESS_PATIENCE)
            raise ConnectionResetError
        respond(connection, 204, f"Upload-Offset: {len(kept.content)}")

    with tus_server() as (tus, server):
        tus.then("PATCH", *[watching] * 100)
        with uploading(f"{server.url}files", file, folder / "state", chunk_size=chunk_size) as process:
            assert reached.wait(PROCESS_PATIENCE)
            process.kill()
            process.wait(PROCESS_PATIENCE)
            killed.set()
        tus.answers.clear()
        tus.asked.clear()
        up = upload_resumable(
            f"{server.url}files", file, store=FileStore(folder / "state"), chunk_size=chunk_size
        )
        observed, _ = observe(up)
        response = observed.wait().response
        check_passes(observed.progress)
        assert bytes(tus.only.content) == content
        assert outcome_of(response).resumed_at == count
        assert outcome_of(response).sent_now == len(content) - count
        assert "POST" not in tus.methods_asked
    assert not list((folder / "state").glob("*.json"))


@pytest.mark.parametrize("chunk_size", [None, MIB])
def test_a_client_that_was_killed_while_the_file_was_another_one_begins_anew(
    tmp_path, file, content, chunk_size
):
    """The file is written over and sent, the process is killed, and the content is put back with its times."""
    folder, times = tmp_path / "state", file.stat()
    reached, killed = threading.Event(), threading.Event()

    def watching(connection, asked, tus):
        take(connection, asked, tus.only, MIB // 4)
        with file.open("r+b") as stream:
            stream.write(bytes(len(content)))
        take(connection, asked, tus.only, MIB // 2)
        reached.set()
        assert killed.wait(PROCESS_PATIENCE)
        raise ConnectionResetError

    with tus_server() as (tus, server):
        tus.then("PATCH", *[None] * (chunk_size is not None), watching)
        with uploading(f"{server.url}files", file, folder, chunk_size=chunk_size) as process:
            assert reached.wait(PROCESS_PATIENCE)
            process.kill()
            process.wait(PROCESS_PATIENCE)
            killed.set()
        assert bytes(1000) in tus.only.content
        file.write_bytes(content)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        up = upload_resumable(f"{server.url}files", file, store=FileStore(folder), chunk_size=chunk_size)
        assert outcome_of(up.run()).resumed_at == 0
        assert bytes(tus.only.content) == content


def test_another_process_has_the_upload(tmp_path, file):
    """A second process gets ResumeInUse while the first one runs, and the upload once that is killed."""
    came = threading.Event()

    def hanging(connection, asked, tus):
        came.set()
        connection.wait_for_end()

    with tus_server() as (tus, server):
        tus.then("PATCH", hanging)
        up = upload_resumable(f"{server.url}files", file, store=FileStore(tmp_path / "state"))
        with uploading(f"{server.url}files", file, tmp_path / "state") as process:
            assert came.wait(PROCESS_PATIENCE)
            with pytest.raises(rxupload.resumable.ResumeInUse):
                up.run()
            process.kill()
            process.wait(PROCESS_PATIENCE)
        assert up.run().status_code == 204
        assert tus.methods_asked == ["POST", "PATCH", "HEAD", "PATCH"]


def test_of_many_processes_one_sends_the_file(tmp_path, file, content):
    """The others end with ResumeInUse, whether they would go on with the upload or discard it, and disturb nothing."""
    folder = tmp_path / "state"
    came, go_on = threading.Event(), threading.Event()

    def waiting(connection, asked, tus):
        came.set()
        assert go_on.wait(PROCESS_PATIENCE)
        tus.answer(connection, asked)

    with tus_server() as (tus, server), contextlib.ExitStack() as stack:
        tus.then("PATCH", waiting)
        url = f"{server.url}files"
        sender = stack.enter_context(uploading(url, file, folder, chunk_size=MIB))
        assert came.wait(PROCESS_PATIENCE)
        others = [stack.enter_context(uploading(url, file, folder, chunk_size=MIB)) for _ in range(3)]
        with pytest.raises(rxupload.resumable.ResumeInUse):
            rxupload.run(upload_resumable(url, file, store=FileStore(folder)).discard())
        assert [each.wait(PROCESS_PATIENCE) for each in others] == [1] * 3
        go_on.set()
        assert sender.communicate(timeout=PROCESS_PATIENCE)[0].split() == ["moving", "204"]
        assert tus.methods_asked == ["POST", *["PATCH"] * 4]
        assert bytes(tus.only.content) == content
    assert not list(folder.iterdir())


@contextlib.contextmanager
def receiving(folder: Path, port: int) -> Iterator[tuple[str, Popen[str]]]:
    """The address of `rxupload receive` in a process of its own, and the process."""
    with started("receive", "--port", port, "--directory", folder) as process:
        yield re.search(r"http://\S+", process.stdout.readline())[0], process


def interrupted(
    url: str, file: Path, folder: Path, protocol: TusProtocol, receiver: Any, arrived: int
) -> int:
    """Upload until the receiver is killed. Return how much it had at the begin, which is not less than before."""
    moved = threading.Event()
    options = {"rate_limit": 5e6, "progress_interval": 0, "protocol": protocol}
    up = upload_resumable(url, file, store=FileStore(folder), **options)
    observed, _ = observe(up, lambda item: item.sent > item.start + 500_000 and moved.set())
    assert moved.wait(PATIENCE)
    receiver.kill()
    receiver.wait()
    assert isinstance(observed.wait().error, httpx.NetworkError)
    assert observed.progress[0].start >= arrived
    return observed.progress[0].start


@pytest.fixture
def reserved_port():
    """A port on which only a server with SO_REUSEADDR can listen, again and again: the system gives it to nobody."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.mark.parametrize("parallel", [1, 3])
def test_a_killed_server_and_a_killed_client(tmp_path, content, reserved_port, parallel):
    """The receiver is killed in mid-PATCH and started again, the client too: the file is whole, and sent once."""
    file, folder, inbox = tmp_path / "video.mp4", tmp_path / "state", tmp_path / "inbox"
    file.write_bytes(content * 8)
    protocol = TusProtocol(parallel=parallel)
    arrived = 0
    for _ in range(2):
        with receiving(inbox, reserved_port) as (url, receiver):
            arrived = interrupted(f"{url}files", file, folder, protocol, receiver, arrived)
    with receiving(inbox, reserved_port) as (url, _):
        with uploading(f"{url}files", file, folder, rate_limit=5e6, parallel=parallel) as process:
            assert process.stdout.readline() == "moving\n"
            process.kill()
            process.wait()
        up = upload_resumable(f"{url}files", file, store=FileStore(folder), protocol=protocol)
        retried = up.pipe(retry_backoff(wait_initial=0.1), raise_for_status())
        response = rxupload.run(retried)
        assert outcome_of(response).sent_now < len(content) * 8
    assert [each.read_bytes() for each in inbox.iterdir() if not each.name.startswith(".")] == [content * 8]
