"""Uploads by the protocols beside tus that break at any byte, any number of times: what arrives is the file."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import google_server as google
from support import ietf_server as ietf
from support.recording_observer import observe
from support.resumable_uploads import check_passes, outcome_of

from rxupload.resumable import FileStore, GoogleResumable, IetfResumable, upload_resumable

SIZE = 5 * google.CHUNK + 11

breaks = st.lists(st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)), max_size=6)
sources = st.sampled_from(["file", "again"])
any_order = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def breaking(support, count: int, kept: int):
    """Take up to so many bytes of a part, of which some are kept, and reset the connection."""

    def answer(connection, asked, server):
        upload = server.only
        before = len(upload.content)
        came = support.take(connection, asked, upload, count)
        del upload.content[before + min(came, kept) :]
        connection.reset()
        raise support.Gone

    return answer


def send(protocol, url, folder, content, source, chunk_size):
    """Upload until it is done. Return the number of attempts, and the last response."""
    path = folder / "video.mp4"
    path.write_bytes(content)
    if source == "file":
        up = upload_resumable(
            url, path, protocol=protocol, chunk_size=chunk_size, store=FileStore(folder / "state")
        )
    else:

        def pieces():
            yield from (content[at : at + 100_000] for at in range(0, len(content), 100_000))

        file = pieces if protocol.field is None else path
        up = upload_resumable(url, file, protocol=protocol, chunk_size=chunk_size or google.CHUNK)
    for attempt in range(1, 20):
        observed, _ = observe(up)
        observed.wait()
        check_passes(observed.progress)
        if observed.error is None:
            return attempt, observed.response
        assert isinstance(observed.error, httpx.NetworkError)
    pytest.fail("it never ends")


@any_order
@given(breaks=breaks, source=sources, chunk_size=st.sampled_from([None, google.CHUNK, 2 * google.CHUNK]))
def test_google_gets_the_file(tmp_path_factory, content, breaks, source, chunk_size):
    """No part leaves a gap or has a wrong size, which the server checks."""
    folder = tmp_path_factory.mktemp("google")
    with google.google_server() as (state, server):
        state.then("PUT", *(breaking(google, *each) for each in breaks))
        attempts, response = send(
            GoogleResumable(), google.endpoint(server), folder, content[:SIZE], source, chunk_size
        )
        assert bytes(state.only.content) == content[:SIZE]
        assert state.only.is_whole
    assert attempts <= len(breaks) + 1
    assert outcome_of(response).resumed_at <= SIZE


@any_order
@given(
    breaks=breaks,
    source=sources,
    chunk_size=st.sampled_from([None, 100_003, google.CHUNK]),
    form=st.sampled_from([None, "photo"]),
)
def test_a_server_of_the_draft_gets_the_file(tmp_path_factory, content, breaks, source, chunk_size, form):
    """As it is, or in a form."""
    folder = tmp_path_factory.mktemp("ietf")
    with ietf.ietf_server() as (state, server):
        state.then("PATCH", *(breaking(ietf, *each) for each in breaks))
        attempts, response = send(
            IetfResumable(form=form), f"{server.url}photos", folder, content[:SIZE], source, chunk_size
        )
        arrived = bytes(state.only.content)
        assert state.only.is_complete
    assert arrived == content[:SIZE] if form is None else content[:SIZE] in arrived
    assert attempts <= len(breaks) + 1
    assert outcome_of(response).resumed_at <= len(arrived)
