"""Resumable uploads to the library's own receiver: they arrive, are paused and discarded, and nothing is left over."""

from __future__ import annotations

import threading

import httpx
import httpx2
import pytest
from support.recording_observer import observe
from support.resumable_uploads import observed_run, outcome_of
from support.scripted_server import PATIENCE

import rxupload
from rxupload.operators import raise_for_status, verify_digest
from rxupload.receiver import running
from rxupload.resumable import Tus, upload_resumable

MIB = 1 << 20


@pytest.fixture
def inbox(tmp_path):
    return tmp_path / "received"


@pytest.fixture
def url(inbox):
    with running(inbox) as base:
        yield f"{base}files"


def run(up):
    """Run it, check its Progress up to the end, and return its response."""
    observed = observed_run(up)
    assert observed.progress[-1].percent in {100, None}
    return observed.items[-1]


def received(inbox) -> dict[str, bytes]:
    """The files that have arrived."""
    return {each.name: each.read_bytes() for each in inbox.iterdir() if not each.name.startswith(".")}


def pause(up):
    """Dispose it once some bytes have arrived."""
    moved = threading.Event()
    _, subscription = observe(up, lambda item: item.sent > item.start + 100_000 and moved.set())
    assert moved.wait(PATIENCE)
    subscription.dispose()


@pytest.mark.parametrize("parallel", [1, 3])
@pytest.mark.parametrize("chunk_size", [None, MIB])
@pytest.mark.parametrize("make", [None, httpx.Client, httpx2.Client], ids=["ours", "httpx", "httpx2"])
def test_a_file_arrives(inbox, url, file, store, content, parallel, chunk_size, make):
    """Whole and under its name: with checksums where there are chunks, and over several connections."""
    options = {} if make is None else {"client": make(trust_env=False)}
    protocol = Tus(parallel=parallel)
    up = upload_resumable(url, file, store=store, chunk_size=chunk_size, protocol=protocol, **options)
    assert run(up).status_code == (204 if parallel == 1 else 201)
    for each in options.values():
        each.close()
    assert received(inbox) == {"video.mp4": content}


@pytest.mark.parametrize("size", [0, 1, 1000, 256 * 1024, 256 * 1024 + 1])
def test_a_small_file_arrives(inbox, url, tmp_path, store, size):
    """With the POST, up to 256 KiB."""
    path = tmp_path / "small.txt"
    path.write_bytes(bytes(size))
    status = run(upload_resumable(url, path, store=store)).status_code
    assert status == (201 if size <= 256 * 1024 else 204)
    assert received(inbox) == {"small.txt": bytes(size)}


def test_what_has_no_size_arrives(inbox, url, store, content):
    """An iterator in chunks: its length is declared with the last one."""
    up = upload_resumable(url, iter([content]), filename="stream.bin", store=store, chunk_size=MIB)
    assert run(up).status_code == 204
    assert received(inbox) == {"stream.bin": content}


@pytest.mark.parametrize("parallel", [1, 3])
def test_a_paused_upload_goes_on(inbox, url, file, store, content, parallel):
    """Disposed and subscribed to again and again, each time from where the receiver is."""
    protocol = Tus(parallel=parallel)
    options = {"store": store, "protocol": protocol, "progress_interval": 0}
    for _ in range(3):
        pause(upload_resumable(url, file, rate_limit=3e6, **options))
    response = run(upload_resumable(url, file, **options))
    outcome = outcome_of(response)
    assert outcome.resumed_at >= 200_000
    assert outcome.sent_now == len(content) - outcome.resumed_at
    assert received(inbox) == {"video.mp4": content}


@pytest.mark.parametrize("parallel", [1, 3])
def test_nothing_is_left_after_a_discard(inbox, url, file, store, parallel):
    """Neither a file nor a record in the receiver's folder, nor an entry in the store."""
    up = upload_resumable(
        url, file, store=store, rate_limit=3e6, progress_interval=0, protocol=Tus(parallel=parallel)
    )
    pause(up)
    response = rxupload.run(up.discard().pipe(raise_for_status()))
    assert response.status_code == 204
    assert rxupload.run(up.discard()) is None
    assert not [each for each in inbox.rglob("*") if each.is_file() and each.stat().st_size]


def test_the_digest_of_a_resumed_upload_is_verified(url, file, store):
    """The receiver answers Want-Repr-Digest, and both have the same digest of the whole file."""
    options = {"store": store, "digest": "sha256", "headers": {"Want-Repr-Digest": "sha-256=1"}}
    pause(upload_resumable(url, file, rate_limit=3e6, progress_interval=0, **options))
    response = rxupload.run(upload_resumable(url, file, **options).pipe(verify_digest()))
    assert outcome_of(response).resumed_at > 0
