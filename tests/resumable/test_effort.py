"""A server that takes a few bytes of each part is not followed without end, and one that takes a part in pieces is."""

from __future__ import annotations

import itertools

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import google_server, ietf_server
from support.resumable_uploads import observed_run, outcome_of
from support.tus_server import partial, read_body, respond, tus_server

from rxupload.resumable import GoogleResumable, IetfResumable, upload_resumable
from rxupload.resumable.effort import ENOUGH, PATIENCE, Effort

KIB = 1 << 10
MIB = 1 << 20


# The rule


@given(part=st.integers(1, 2**40), gains=st.lists(st.integers(0, 2**20), max_size=60))
def test_every_row_of_nine_responses_brings_enough(part, gains):
    """As long as there is patience, the offset grows by 64 KiB or an eighth of a part within any nine responses."""
    effort, offsets = Effort(), [0]
    assert effort.take(0)
    for gain in gains:
        offsets.append(offsets[-1] + gain)
        if not effort.take(offsets[-1], part):
            break
        if len(offsets) > 2 * PATIENCE + 1:
            assert offsets[-1] - offsets[-2 * PATIENCE - 2] >= min(ENOUGH, part // 8)


@given(part=st.integers(1, 2**40), offset=st.integers(0, 2**40), gains=st.data())
def test_a_server_that_takes_an_eighth_or_64_kib_is_followed(part, offset, gains):
    """Whatever the size of a part is, and wherever it begins."""
    effort = Effort()
    assert effort.take(offset)
    for _ in range(3 * PATIENCE):
        for _ in range(gains.draw(st.integers(0, PATIENCE))):
            assert effort.take(gains.draw(st.none() | st.integers(0, offset)), part)
        offset += max(1, min(ENOUGH, part // 8))
        assert effort.take(offset, part)


@pytest.mark.parametrize(
    "offsets", [[5] * 100, range(5, 200), [5, 6] * 50, range(100, 0, -1), [5, None] * 50]
)
def test_a_server_that_stays_shrinks_or_gains_a_byte_is_left(offsets):
    """After eight responses more than the first."""
    effort = Effort()
    assert [effort.take(each, MIB) for each in offsets][:10] == [True] * 9 + [False]


# Those that get nowhere


def requests(tus) -> int:
    return len(tus.asked)


@pytest.mark.parametrize(
    ("chunk_size", "gain"), [(None, 1), (None, 7000), (MIB, 1), (MIB, 7000), (1000, 1), (1000, 13)]
)
def test_a_server_that_gains_some_bytes_at_a_time_ends_in_an_error(file, store, chunk_size, gain):
    """It says how little has come, and the upload is remembered."""
    with tus_server() as (tus, server):
        tus.then("PATCH", *[partial(gain)] * 1000)
        up = upload_resumable(f"{server.url}files", file, store=store, chunk_size=chunk_size)
        with pytest.raises(httpx.RemoteProtocolError, match=r"offset was 0, and is \d+ 9 responses later"):
            observed_run(up)
        assert requests(tus) <= 12
        tus.answers.clear()
        assert outcome_of(up.run()).resumed_at == 9 * gain


def test_a_409_whose_offset_grows_by_a_byte_ends_in_an_error(file, store):
    """The last 409 is the error."""
    numbers = itertools.count()

    def grown(connection, asked, tus):
        respond(connection, 200, f"Upload-Offset: {next(numbers)}", f"Upload-Length: {file.stat().st_size}")

    with tus_server() as (tus, server):
        tus.then("PATCH", *[409] * 1000)
        tus.then("HEAD", *[grown] * 1000)
        with pytest.raises(httpx.HTTPStatusError) as caught:
            observed_run(upload_resumable(f"{server.url}files", file, store=store))
        assert "The server's offset" in caught.value.__notes__[0]
        assert requests(tus) <= 25


def test_a_session_of_google_that_gains_a_byte_ends_in_an_error(file, store):
    """308 with a Range that hardly grows."""
    with google_server.google_server() as (google, server):
        google.then("PUT", *[google_server.partial(1)] * 1000)
        url = google_server.endpoint(server)
        with pytest.raises(httpx.RemoteProtocolError, match="responses later"):
            observed_run(upload_resumable(url, file, store=store, protocol=GoogleResumable()))
        assert requests(google) <= 12


def test_an_upload_of_the_draft_that_gains_a_byte_ends_in_an_error(file, store):
    """A PATCH gets 409, with an offset that has grown by one."""
    numbers = itertools.count(1)

    def grown(connection, asked, ietf):
        read_body(connection, asked)
        number = next(numbers)
        ietf.last.content[:] = bytes(number)
        ietf_server.mismatch(connection, number)

    with ietf_server.ietf_server() as (ietf, server):
        ietf.then("PATCH", *[grown] * 1000)
        with pytest.raises(httpx.HTTPStatusError):
            observed_run(upload_resumable(f"{server.url}photos", file, store=store, protocol=IetfResumable()))
        assert requests(ietf) <= 12


# Those that take their time


@pytest.mark.parametrize("gain", [64 * KIB, 8 * KIB])
def test_a_server_that_takes_a_part_in_pieces_gets_all_of_it(tmp_path, store, gain):
    """It answers each PATCH of the whole rest with what it has taken."""
    path = tmp_path / "film"
    content = bytes(range(256)) * 3072  # 768 KiB
    path.write_bytes(content)
    with tus_server() as (tus, server):
        tus.then("PATCH", *[partial(gain)] * 1000)
        observed_run(upload_resumable(f"{server.url}files", path, store=store))
        assert bytes(tus.only.content) == content
        assert tus.methods_asked.count("PATCH") == len(content) // gain


@pytest.mark.parametrize("chunk_size", [7, 64])
def test_short_chunks_are_no_lack_of_growth(tmp_path, store, chunk_size):
    """All that was sent is taken each time."""
    path = tmp_path / "note"
    path.write_bytes(bytes(1000))
    with tus_server() as (tus, server):
        observed_run(upload_resumable(f"{server.url}files", path, store=store, chunk_size=chunk_size))
        assert bytes(tus.only.content) == bytes(1000)


def test_a_patch_may_be_displaced_some_times_in_a_row(file, store, content):
    """Each time, a few bytes of it have come."""
    with tus_server() as (tus, server):
        for _ in range(2):
            tus.then("PATCH", *[partial(3)] * PATIENCE, partial(MIB))
        observed_run(upload_resumable(f"{server.url}files", file, store=store))
        assert bytes(tus.only.content) == content


def test_a_proxy_may_cut_each_request_at_a_megabyte(file, store, content):
    """The server behind it has a megabyte of each."""
    with tus_server() as (tus, server):
        tus.then("PATCH", *[partial(1_000_000)] * 100)
        observed_run(upload_resumable(f"{server.url}files", file, store=store))
        assert bytes(tus.only.content) == content
        assert tus.methods_asked.count("PATCH") == 4
