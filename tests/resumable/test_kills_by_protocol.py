"""A client process that is killed, and another one that goes on, by each protocol."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support import google_server as google
from support.resumable_uploads import outcome_of

from rxupload.resumable import FileStore, GoogleResumable, upload_resumable

TESTS = Path(__file__).parents[1]
AGES = 60  # seconds for a process that may be slow to start

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")


class Client:
    """A process that uploads until the server has so many bytes. Then it is killed."""

    def __init__(self, *args: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "support.resumable_client", *args],
            cwd=TESTS,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()
        self.process.stderr.close()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(AGES)


@pytest.mark.parametrize("count", [1, google.CHUNK, 3 * google.CHUNK - 1])
def test_a_killed_upload_to_google_goes_on(file, tmp_path, content, count):
    """The state has the session before the first byte. So what the server has is not sent again."""
    clients = []

    def killing(connection, asked, server):
        assert google.take(connection, asked, server.only, count) == count
        clients[0].kill()
        connection.sock.close()
        raise google.Gone

    with google.google_server() as (state, server):
        state.then("PUT", killing)
        url, folder = google.endpoint(server), tmp_path / "state"
        with Client("GoogleResumable", url, str(file), str(folder)) as client:
            clients.append(client)
            assert client.process.wait(AGES) < 0, client.process.stderr.read()
        store = FileStore(folder)
        response = upload_resumable(url, file, protocol=GoogleResumable(), store=store).run()
        assert state.kinds == ["POST", "PUT", "ask", "PUT"]
        assert bytes(state.only.content) == content
    assert (outcome_of(response).resumed_at, outcome_of(response).sent_now) == (count, len(content) - count)
    assert store.uploads() == []
