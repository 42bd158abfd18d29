"""A client process that is killed, and another one that goes on, by the protocols beside tus."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import google_server as google
from support import ietf_server as ietf
from support.command_line import PROCESS_PATIENCE, posix_only
from support.resumable_uploads import outcome_of

from rxupload.resumable import FileStore, GoogleResumable, IetfResumable, upload_resumable

pytestmark = [posix_only, pytest.mark.slow]

TESTS = Path(__file__).parents[1]


class Client:
    """A process that uploads until the server has so many bytes. Then it is killed."""

    def __init__(self, support: Any, count: int) -> None:
        self._support = support
        self._count = count
        self._process: subprocess.Popen[str] | None = None
        self._has_begun = threading.Event()

    @contextlib.contextmanager
    def uploading(self, protocol: str, url: str, file: Path, folder: Path, **options: Any) -> Iterator[None]:
        """Begin to upload."""
        given = json.dumps({"protocol": protocol, **options})
        argv = [sys.executable, "-m", "support.uploading_process", url, str(file), str(folder), given]
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "text": True}
        with subprocess.Popen(argv, cwd=TESTS, **pipes) as self._process:
            self._has_begun.set()
            try:
                yield
                assert self._process.wait(PROCESS_PATIENCE) < 0
            finally:
                self._process.kill()

    def __call__(self, connection: Any, asked: Any, server: Any) -> None:
        """Take the bytes, and kill the client. One that is paused may go on once its upload is named."""
        assert self._has_begun.wait(PROCESS_PATIENCE)
        kept = server.begin(connection, asked) if asked.method == "POST" else server.only
        self._process.stdin.close()
        assert self._support.take(connection, asked, kept, self._count) == self._count
        self._process.kill()
        connection.sock.close()
        raise self._support.Gone


@pytest.mark.parametrize("count", [1, google.CHUNK, 3 * google.CHUNK - 1])
def test_a_killed_upload_to_google_goes_on(file, tmp_path, content, count):
    """The state has the session before the first byte. So what the server has is not sent again."""
    client = Client(google, count)
    store = FileStore(tmp_path / "state")
    with google.google_server() as (state, server):
        state.then("PUT", client)
        url = google.endpoint(server)
        with client.uploading("GoogleResumable", url, file, tmp_path / "state"):
            pass
        response = upload_resumable(url, file, protocol=GoogleResumable(), store=store).run()
        assert state.kinds == ["POST", "PUT", "ask", "PUT"]
        assert bytes(state.only.content) == content
    assert (outcome_of(response).resumed_at, outcome_of(response).sent_now) == (count, len(content) - count)
    assert store.uploads() == []


@pytest.mark.parametrize("count", [1, 1 << 20, (3 << 20) + 16])
def test_a_killed_upload_by_the_draft_goes_on(file, tmp_path, content, count):
    """The empty POST has named the upload before the first byte."""
    client = Client(ietf, count)
    store = FileStore(tmp_path / "state")
    with ietf.ietf_server() as (state, server):
        state.then("PATCH", client)
        url = f"{server.url}photos"
        with client.uploading("IetfResumable", url, file, tmp_path / "state"):
            pass
        response = upload_resumable(url, file, protocol=IetfResumable(), store=store).run()
        assert state.methods_asked == ["POST", "PATCH", "HEAD", "PATCH"]
        assert bytes(state.only.content) == content
    assert (outcome_of(response).resumed_at, outcome_of(response).sent_now) == (count, len(content) - count)
    assert store.uploads() == []


def test_a_post_that_was_killed_goes_on(tmp_path, content):
    """Its 104 has named the upload, and that is stored before more bytes go."""
    file = tmp_path / "small.bin"
    file.write_bytes(content[:250_000])
    client = Client(ietf, 200_000)
    store = FileStore(tmp_path / "state")
    with ietf.ietf_server() as (state, server):
        state.then("POST", client)
        url = f"{server.url}photos"
        with client.uploading("IetfResumable", url, file, tmp_path / "state", is_paused=True):
            pass
        response = upload_resumable(url, file, protocol=IetfResumable(), store=store).run()
        assert state.methods_asked == ["POST", "HEAD", "PATCH"]
        assert bytes(state.only.content) == content[:250_000]
    assert (outcome_of(response).resumed_at, outcome_of(response).sent_now) == (200_000, 50_000)
    assert store.uploads() == []
