"""Resumable uploads over real sockets: created, sent, resumed after what can go wrong, and forgotten in the end."""

from __future__ import annotations

import hashlib

import httpx
import pytest
from support.recording_observer import observe
from support.tus_server import broken_after, tus_server

from rxupload import Progress
from rxupload.resumable import MemoryStore, Outcome, upload_resumable

CONTENT = hashlib.shake_256(b"resumable").digest((3 << 20) + 17)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "video.mp4"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def outcome_of(response: httpx.Response) -> Outcome:
    return response.extensions["rxupload"]["resumable"]


def test_a_file_is_created_and_sent(file, store):
    """One POST creates the upload, and one PATCH sends all of it."""
    with tus_server() as (tus, server):
        up = upload_resumable(f"{server.url}files", file, metadata={"album": "summer"}, store=store)
        observed, _ = observe(up)
        response = observed.wait().response
        assert tus.methods_asked == ["POST", "PATCH"]
        assert bytes(tus.only.content) == CONTENT
        assert tus.only.metadata == {"album": b"summer", "filename": b"video.mp4", "filetype": b"video/mp4"}
    assert response.status_code == 204
    outcome = outcome_of(response)
    assert (outcome.resumed_at, outcome.sent_now) == (0, len(CONTENT))
    assert outcome.url == f"{server.url}files/secret0"
    assert observed.progress[0] == Progress(0, len(CONTENT))
    assert observed.progress[-1] == Progress(len(CONTENT), len(CONTENT))


def test_the_next_subscription_goes_on_where_the_server_is(file, store):
    """After a broken connection, the offset of the HEAD is where the next PATCH begins."""
    with tus_server() as (tus, server):
        tus.then("PATCH", broken_after(1 << 20))
        up = upload_resumable(f"{server.url}files", file, store=store)
        with pytest.raises(httpx.NetworkError):
            up.run()
        observed, _ = observe(up)
        response = observed.wait().response
        assert tus.methods_asked == ["POST", "PATCH", "HEAD", "PATCH"]
        assert bytes(tus.only.content) == CONTENT
    outcome = outcome_of(response)
    assert (outcome.resumed_at, outcome.sent_now) == (1 << 20, len(CONTENT) - (1 << 20))
    assert observed.progress[0] == Progress(1 << 20, len(CONTENT), 1, 1 << 20)
    assert {each.start for each in observed.progress} == {1 << 20}
    sent = [each.sent for each in observed.progress]
    assert sent == sorted(set(sent))
    assert sent[-1] == len(CONTENT)
