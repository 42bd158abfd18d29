"""Interrupted uploads of tus: what has come counts, and a new request ends one that hangs."""

from __future__ import annotations

import base64
import contextlib
import logging
import os
import random
import re
import threading

import httpx
import pytest
from support.forms import PATIENCE, has_ended, posix_only
from support.tus import TusClient, answered, finished, hanging, hidden, named, patching

from rxupload import receiver
from rxupload.receiver import uploads

# A new request displaces a hanging one


def test_head_ends_a_hanging_patch(tus, is_stored):
    """Its bytes count, and the upload goes on from there."""
    url = tus.created(100)
    with hanging(url, is_stored) as first:
        assert tus.offset(url) == 5
        assert has_ended(first)
        with hanging(url, is_stored, offset=5) as second:
            assert tus.offset(url) == 10
            assert has_ended(second)

    assert tus.patch(url, 10, bytes(90)).status_code == 204


def test_patch_ends_a_hanging_patch(tus, inbox, is_stored):
    """A client that knows the offset need not ask."""
    url = tus.created(10)
    with patching(url, 0, 10) as first:
        first.sendall(b"01234")
        assert is_stored.wait(PATIENCE)
        assert tus.patch(url, 5, b"56789").status_code == 204
        assert has_ended(first)

    assert finished(inbox) == {"upload": b"0123456789"}


def test_patch_with_a_wrong_offset_ends_a_hanging_patch_too(tus, is_stored):
    """The client cannot know the offset yet. The 409 tells it."""
    url = tus.created(100)
    with hanging(url, is_stored) as first:
        response = tus.patch(url, 0, b"01234")
        assert has_ended(first)

    assert (response.status_code, response.headers["Upload-Offset"]) == (409, "5")


def test_delete_ends_a_hanging_patch(tus, inbox, is_stored):
    """Nothing is left."""
    url = tus.created(100)
    with hanging(url, is_stored) as first:
        assert tus.delete(url).status_code == 204
        assert has_ended(first)

    assert list(inbox.iterdir()) == []


def test_many_requests_at_once_have_one_turn_each(tus, is_stored):
    """Each one gets an answer or loses its connection, and no byte is lost or stored twice."""
    content = random.Random(14).randbytes(200_000)
    url = tus.created(len(content))
    done = threading.Event()

    def disturb():
        with httpx.Client(trust_env=False, timeout=PATIENCE) as client:
            other = TusClient(client, tus.url)
            while not done.is_set():
                assert int(other.head(url).headers["Upload-Offset"]) <= len(content)

    watchers = [threading.Thread(target=disturb) for _ in range(2)]
    for watcher in watchers:
        watcher.start()
    try:
        offset = 0
        while offset < len(content):
            piece = content[offset : offset + 5000]
            with contextlib.suppress(httpx.TransportError):
                tus.patch(url, offset, piece)
            with contextlib.suppress(httpx.TransportError):
                offset = tus.offset(url)
    finally:
        done.set()
        for watcher in watchers:
            watcher.join()

    assert tus.offset(url) == len(content)


# A connection breaks


def test_what_came_before_a_break_counts(tus, is_stored):
    """The client goes away in the middle of its bytes."""
    url = tus.created(100)
    with hanging(url, is_stored):
        pass

    assert tus.offset(url) == 5


def test_what_came_before_a_broken_chunk_counts(tus, is_stored):
    """The framing breaks, which is a 400."""
    url = tus.created(100)
    with patching(url, 0, "5", Transfer_Encoding="chunked") as sock:
        sock.sendall(b"5\r\n01234\r\n")
        assert is_stored.wait(PATIENCE)
        sock.sendall(b"no number\r\n")
        assert answered_status(sock) == 400

    assert tus.offset(url) == 5


def answered_status(sock):
    return int(re.match(rb"HTTP/1\.1 (\d+)", sock.recv(1000))[1])


def test_bytes_whose_checksum_is_open_do_not_count(tus, is_stored):
    """Neither after a break nor when a request displaces the one that sends them."""
    url = tus.created(100)
    checksum = {"Upload_Checksum": f"sha1 {base64.b64encode(bytes(20)).decode()}"}
    with hanging(url, is_stored, **checksum):
        pass
    assert tus.offset(url) == 0
    with hanging(url, is_stored, **checksum):
        assert tus.offset(url) == 0

    assert tus.patch(url, 0, bytes(100)).status_code == 204


def test_a_creation_with_bytes_that_breaks_leaves_nothing(inbox, is_stored):
    """Its client has no URL to go on with."""
    with receiver.running(inbox) as url:
        endpoint = httpx.URL(url).join("/files")
        with patching(endpoint, 0, 100, method="POST", Upload_Length=100) as sock:
            sock.sendall(b"01234")
            assert is_stored.wait(PATIENCE)
            assert len(hidden(inbox)) == 2

    assert list(inbox.iterdir()) == []


def test_a_creation_waits_for_100_continue(tus, inbox):
    """The receiver says that it takes the bytes before they come."""
    with patching(tus.endpoint, 0, 5, method="POST", Upload_Length=5, Expect="100-continue") as sock:
        assert sock.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"01234")
        assert answered(sock, "POST")[0] == 201

    assert finished(inbox) == {"upload": b"01234"}


def test_a_creation_that_is_refused_is_not_told_to_continue(tus):
    """The first answer is the refusal."""
    with patching(tus.endpoint, 0, 5, method="POST", Upload_Length="x", Expect="100-continue") as sock:
        assert answered_status(sock) == 400


# The disk


def test_a_file_that_cannot_be_stored_is_stored_later(client, inbox, monkeypatch):
    """The upload stays whole. A PATCH without bytes, a HEAD or the next receiver stores it."""

    def refuse(*_):
        raise OSError(28, os.strerror(28))

    claim_name = uploads.claim_name
    for store in ("patch", "head", "start"):
        monkeypatch.setattr(uploads, "claim_name", refuse)
        with receiver.running(inbox) as base:
            tus = TusClient(client, base)
            url = tus.created(5, **named(store))
            refused = tus.patch(url, 0, b"01234")
            assert (refused.status_code, refused.headers["Tus-Resumable"]) == (500, "1.0.0")
            assert "No space left" in refused.json()["error"]
            monkeypatch.setattr(uploads, "claim_name", claim_name)
            if store == "patch":
                assert tus.patch(url, 5).status_code == 204
            if store == "head":
                assert tus.offset(url) == 5
        with receiver.running(inbox) if store == "start" else contextlib.nullcontext():
            assert finished(inbox).pop(store) == b"01234"


@posix_only
def test_two_receivers_in_one_directory_do_not_store_at_once(tus, inbox, is_stored):
    """The second one answers 423 while the first one stores, and can go on afterwards."""
    url = tus.created(10)
    with httpx.Client(trust_env=False, timeout=PATIENCE) as client, receiver.running(inbox) as base:
        other = TusClient(client, base)
        with patching(url, 0, 10) as sock:
            sock.sendall(b"01234")
            assert is_stored.wait(PATIENCE)
            assert other.patch(url.path, 5, b"56789").status_code == 423
            assert other.delete(url.path).status_code == 423
            assert tus.offset(url) == 5
        assert other.patch(url.path, 5, b"56789").status_code == 204

    assert finished(inbox) == {"upload": b"0123456789"}


def test_bytes_that_another_receiver_has_just_added_stay(tus, inbox, monkeypatch):
    """It has added them after the offset was compared, and before the file was locked."""
    url = tus.created(10, b"01234")
    lock = uploads.lock

    def lock_late(stream):
        monkeypatch.setattr(uploads, "lock", lock)
        hidden(inbox, ".upload")[0].write_bytes(b"012345")
        lock(stream)

    monkeypatch.setattr(uploads, "lock", lock_late)

    assert tus.patch(url, 5, b"XXXXX").status_code == 423
    assert tus.patch(url, 6, b"6789").status_code == 204
    assert finished(inbox) == {"upload": b"0123456789"}


def test_bytes_that_somebody_removed_are_a_404(tus, inbox):
    """An upload without its bytes is none."""
    url = tus.created(10, b"01234")
    hidden(inbox, ".upload")[0].unlink()

    assert tus.head(url).status_code == 404
    assert tus.patch(url, 5, b"56789").status_code == 404


def test_a_record_that_is_damaged_is_a_404(tus, inbox):
    """As a power failure may leave it."""
    url = tus.created(10, b"01234")
    hidden(inbox, ".json")[0].write_bytes(b"")

    assert tus.head(url).status_code == 404


@posix_only
def test_nobody_else_reads_what_the_receiver_knows(tus, inbox):
    """The record is for its owner, and no name of a file has the token of the URL."""
    url = tus.created(10, b"01234")
    (record,) = hidden(inbox, ".json")

    assert record.stat().st_mode & 0o777 == 0o600
    assert all(url.path.rpartition("/")[2] not in str(path) for path in hidden(inbox))
    assert url.path.rpartition("/")[2] not in record.read_text()


@pytest.mark.parametrize("level", [1, 5, logging.DEBUG, logging.INFO])
def test_no_log_of_any_level_has_the_path_of_an_upload(client, inbox, caplog, level):
    """uvicorn logs each path where the program has set up logging, and each message at its level TRACE, which is 5."""
    for name in ("", "uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
        caplog.set_level(level, name)
    with receiver.running(inbox) as base:
        tus = TusClient(client, base)
        url = tus.created(10, b"01234")
        assert (tus.offset(url), tus.patch(url, 3, b"3").status_code) == (5, 409)
        assert tus.delete(url).status_code == 204
    logs = [record.getMessage() for record in caplog.records if not record.name.startswith("http")]

    assert url.path not in str(logs)
