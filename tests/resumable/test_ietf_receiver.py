"""The draft of the IETF against our own receiver: what was interrupted goes on, and arrives as it is."""

from __future__ import annotations

import hashlib

import pytest
from reactivex import operators as ops
from support.resumable_uploads import outcome_of

import rxupload
from rxupload import receiver
from rxupload.resumable import FileStore, IetfResumable, upload_resumable

IETF = IetfResumable()


@pytest.fixture
def state(tmp_path):
    return FileStore(tmp_path / "state")


def is_past(count, state):
    """Take the items until so many bytes have arrived, and the upload is remembered. Then it is disposed."""
    return ops.take_while(lambda item: item.sent < count or not state.uploads(), inclusive=True)


@pytest.mark.parametrize("count", [0, 1, 250_000, 3_000_000])
@pytest.mark.parametrize("chunk_size", [None, 1 << 20])
def test_a_file_is_received_as_an_ordinary_one(tmp_path, state, content, count, chunk_size):
    """The last response is the receiver's answer to the whole upload."""
    (tmp_path / "beach.jpg").write_bytes(content[:count])
    with receiver.running(tmp_path / "inbox") as url:
        up = upload_resumable(url, tmp_path / "beach.jpg", protocol=IETF, store=state, chunk_size=chunk_size)
        (found,) = up.run().json()["files"]
    assert found == {
        "name": "",
        "filename": "beach.jpg",
        "content_type": "image/jpeg",
        "size": count,
        "sha256": hashlib.sha256(content[:count]).hexdigest(),
    }
    assert (tmp_path / "inbox" / "beach.jpg").read_bytes() == content[:count]
    assert state.uploads() == []


@pytest.mark.parametrize("count", [250_000, 3_000_000])
def test_a_disposed_upload_goes_on_where_the_receiver_is(tmp_path, state, content, count):
    """Also in its POST. No byte that it has is sent again."""
    (tmp_path / "beach.jpg").write_bytes(content[:count])
    options = {"protocol": IETF, "store": state}
    with receiver.running(tmp_path / "inbox") as url:
        up = upload_resumable(
            url, tmp_path / "beach.jpg", rate_limit=count // 4, progress_interval=0, **options
        )
        rxupload.run(up.progress.pipe(is_past(count // 8, state)))
        (kept,) = state.uploads()
        assert kept.protocol == "ietf"
        response = upload_resumable(url, tmp_path / "beach.jpg", **options).run()
    outcome = outcome_of(response)
    assert outcome.resumed_at + outcome.sent_now == count
    assert outcome.resumed_at > 0
    assert (tmp_path / "inbox" / "beach.jpg").read_bytes() == content[:count]
    assert [each.name for each in (tmp_path / "inbox").iterdir() if not each.name.startswith(".")] == [
        "beach.jpg"
    ]


def test_a_discarded_upload_leaves_nothing(tmp_path, state, content):
    """Neither here nor at the receiver."""
    (tmp_path / "beach.jpg").write_bytes(content)
    with receiver.running(tmp_path / "inbox") as url:
        up = upload_resumable(
            url, tmp_path / "beach.jpg", protocol=IETF, store=state, rate_limit=3_000_000, progress_interval=0
        )
        rxupload.run(up.progress.pipe(is_past(1_000_000, state)))
        assert rxupload.run(up.discard()).status_code == 204
        assert [each.name for each in (tmp_path / "inbox").rglob("*") if each.is_file()] == []
    assert state.uploads() == []


def test_a_file_that_is_too_long_for_the_receiver_is_refused(tmp_path, state, content):
    """413 is its answer to the POST. Nothing is remembered."""
    (tmp_path / "beach.jpg").write_bytes(content)
    with receiver.running(tmp_path / "inbox", max_size=1_000_000) as url:
        response = upload_resumable(url, tmp_path / "beach.jpg", protocol=IETF, store=state).run()
    assert response.status_code == 413
    assert state.uploads() == []
