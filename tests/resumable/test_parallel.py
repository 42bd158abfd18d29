"""One file over several connections: uploads of its parts, which the server joins, with one Progress."""

from __future__ import annotations

import hashlib
import threading

import httpx
import pytest
from support.recording_observer import observe
from support.resumable_uploads import observed_run, outcome_of
from support.scripted_server import PATIENCE
from support.threads import no_thread_left
from support.tus_server import Tus, broken_after, status, tus_server

import rxupload
from rxupload import SourceChanged
from rxupload._client import default_client
from rxupload.operators import retry_backoff
from rxupload.resumable import FileStore, upload_resumable
from rxupload.resumable import Tus as TusProtocol

MIB = 1 << 20


@pytest.fixture(params=[3])
def parallel(request):
    """A server that can join uploads, and arguments for so many connections."""
    with no_thread_left(), tus_server(Tus(extensions="creation,concatenation")) as (tus, server):
        yield tus, f"{server.url}files", {"protocol": TusProtocol(parallel=request.param)}
        default_client().close_idle()


def together(answer):
    """Answers each of three parts once all have come, so that the client knows each upload, and none comes later."""
    all_three = threading.Barrier(3)

    def answer_together(connection, asked, tus):
        all_three.wait(PATIENCE)
        answer(connection, asked, tus)

    return [answer_together] * 3


def joined(tus) -> bytes:
    return bytes(tus.uploads[tus.final].content)


def test_the_parts_are_sent_at_the_same_time_and_joined(parallel, file, store, content):
    """Each part has a POST and a PATCH on a connection of its own; the last POST joins them, in their order."""
    tus, url, options = parallel
    together = threading.Barrier(3)

    def meeting(connection, asked, tus):
        together.wait(PATIENCE)  # each of the three has begun before one goes on
        tus.answer(connection, asked)

    tus.then("PATCH", meeting, meeting, meeting)
    observed = observed_run(upload_resumable(url, file, store=store, metadata={"a": "b"}, **options))
    assert joined(tus) == content
    assert sorted(tus.methods_asked) == ["PATCH"] * 3 + ["POST"] * 4
    assert [each.header("Upload-Concat") for each in tus.asked[:3]].count("partial") >= 1
    assert tus.asked[-1].header("Upload-Concat").startswith("final;")
    assert tus.uploads[tus.final].metadata["a"] == b"b"
    assert observed.response.status_code == 201
    outcome = outcome_of(observed.response)
    assert (outcome.resumed_at, outcome.sent_now) == (0, len(content))
    assert outcome.url.endswith(tus.final)
    assert observed.progress[0].sent == 0
    assert observed.progress[-1].percent == 100
    assert {(each.attempt, each.total) for each in observed.progress} == {(1, len(content))}


def test_each_part_goes_on_where_it_was(parallel, file, tmp_path, content):
    """After broken connections, nothing that the server has is sent again, and nothing is created anew."""
    tus, url, options = parallel
    store = FileStore(tmp_path / "state")
    tus.then("PATCH", *together(broken_after(100_000)))
    with pytest.raises(httpx.NetworkError):
        observed_run(upload_resumable(url, file, store=store, **options))
    tus.wait_until_left()
    before = sum(len(each.content) for each in tus.uploads.values())
    tus.asked.clear()
    # The number of connections is that of the start, whatever the protocol says now.
    observed = observed_run(upload_resumable(url, file, store=store, protocol=TusProtocol()))
    assert joined(tus) == content
    assert tus.methods_asked.count("POST") == 1
    outcome = outcome_of(observed.response)
    assert outcome.resumed_at == before
    assert outcome.sent_now == len(content) - before
    assert observed.progress[0].start == before
    assert not list((tmp_path / "state").glob("*.json"))


def test_retry_backoff_brings_it_to_its_end(parallel, file, store, content):
    """Over connections that break again and again."""
    tus, url, options = parallel
    tus.then("PATCH", *[broken_after(50_000)] * 30)
    up = upload_resumable(url, file, store=store, **options)
    assert rxupload.run(up.pipe(retry_backoff(wait_initial=0, wait_jitter=0))).status_code == 201
    assert joined(tus) == content


def test_the_response_of_a_part_that_fails_is_the_last_item(parallel, file, store, content):
    """The others end with it, and are continued the next time."""
    tus, url, options = parallel
    tus.then("PATCH", 423)
    up = upload_resumable(url, file, store=store, **options)
    assert observed_run(up).response.status_code == 423
    assert tus.final is None
    tus.wait_until_left()
    assert observed_run(up).response.status_code == 201
    assert joined(tus) == content


def test_a_part_that_is_forgotten_is_created_anew(parallel, file, store, content):
    """The others go on."""
    tus, url, options = parallel
    tus.then("PATCH", 423)
    up = upload_resumable(url, file, store=store, **options)
    observed_run(up)
    tus.wait_until_left()
    tus.then("HEAD", 404)
    assert observed_run(up).response.status_code == 201
    assert joined(tus) == content


def test_a_refused_join_can_be_repeated(parallel, file, store, content):
    """Its status is the response, and the next subscription sends no byte again."""
    tus, url, options = parallel
    tus.then("POST", None, None, None, 503)
    up = upload_resumable(url, file, store=store, **options)
    assert observed_run(up).response.status_code == 503
    tus.asked.clear()
    observed = observed_run(up)
    assert observed.response.status_code == 201
    assert sorted(tus.methods_asked) == ["HEAD"] * 3 + ["POST"]
    assert outcome_of(observed.response).sent_now == 0
    assert [(each.sent, each.start) for each in observed.progress] == [(len(content), len(content))]
    assert joined(tus) == content


def test_a_dispose_ends_all_connections(parallel, file, store, content):
    """Each connection closes, no thread is left, and the next subscription goes on."""
    tus, url, options = parallel
    closed = [threading.Event() for _ in range(3)]
    came = threading.Barrier(4)

    def hanging(event):
        def answer(connection, asked, tus):
            came.wait(PATIENCE)
            connection.wait_for_end()
            event.set()

        return answer

    tus.then("PATCH", *map(hanging, closed))
    up = upload_resumable(url, file, store=store, **options)
    observed, subscription = observe(up)
    came.wait(PATIENCE)
    subscription.dispose()
    assert all(each.wait(PATIENCE) for each in closed)
    assert observed_run(up).response.status_code == 201
    assert not observed.ended
    assert joined(tus) == content


def test_discard_ends_all_parts(parallel, file, store):
    """Nothing is left on the server."""
    tus, url, options = parallel
    tus.then("PATCH", *together(status(423)))
    up = upload_resumable(url, file, store=store, **options)
    observed_run(up)
    assert tus.uploads
    assert rxupload.run(up.discard()).status_code == 204
    assert not tus.uploads
    assert rxupload.run(up.discard()) is None


def test_another_file_in_its_place_is_a_new_upload(parallel, file, store, content):
    """The parts of the old one are discarded, and nothing is mixed."""
    tus, url, options = parallel
    tus.then("PATCH", *together(status(423)))
    up = upload_resumable(url, file, store=store, **options)
    observed_run(up)
    old = set(tus.uploads)
    file.write_bytes(content[::-1])
    tus.answers.clear()
    observed_run(up)
    assert joined(tus) == content[::-1]
    assert not old & set(tus.uploads)


def test_a_change_while_it_runs_is_an_error(parallel, file, store, content):
    """A part of a file that has changed is never joined."""
    tus, url, options = parallel

    def changing(connection, asked, tus):
        file.write_bytes(content[::-1])
        tus.answer(connection, asked)

    tus.then("PATCH", changing)
    with pytest.raises(SourceChanged):
        observed_run(upload_resumable(url, file, store=store, **options))
    assert tus.final is None


def test_the_digest_is_that_of_the_whole_file(parallel, file, store, content):
    """It is read for that once more, because its parts are sent out of order."""
    _, url, options = parallel
    response = observed_run(upload_resumable(url, file, store=store, digest="sha256", **options)).response
    assert response.extensions["rxupload"]["digests"] == [hashlib.sha256(content).hexdigest()]


def test_a_rate_limit_is_one_for_all(parallel, file, store, content):
    """Bytes and chunks of all connections share the limit; chunk_size applies to each."""
    tus, url, options = parallel
    options |= {"rate_limit": 50e6, "chunk_size": 300_000, "protocol": TusProtocol(checksum=None, parallel=3)}
    observed_run(upload_resumable(url, file, store=store, **options))
    assert joined(tus) == content
    assert tus.methods_asked.count("PATCH") == 12


@pytest.mark.parametrize(
    ("extensions", "size", "posts"),
    [
        ("", 3 * MIB, 1),
        ("concatenation", MIB, 1),
        ("concatenation", 2 * MIB, 3),
        ("concatenation", 9 * MIB, 5),
    ],
)
def test_it_is_parallel_only_where_that_is_announced_and_the_file_is_large(
    tmp_path, store, extensions, size, posts
):
    """Each connection has 1 MiB or more."""
    path = tmp_path / "file"
    path.write_bytes(bytes(size))
    with tus_server(Tus(extensions=extensions)) as (tus, server):
        observed_run(
            upload_resumable(f"{server.url}files", path, store=store, protocol=TusProtocol(parallel=4))
        )
        assert tus.methods_asked.count("POST") == posts


def test_a_file_that_has_become_short_is_sent_over_one_connection(parallel, file, store):
    """The uploads of all parts of the earlier file are discarded."""
    tus, url, options = parallel
    up = upload_resumable(url, file, store=store, **options)
    tus.then("PATCH", *together(broken_after(1000)))
    with pytest.raises(httpx.NetworkError):
        up.run()
    tus.answers.clear()
    file.write_bytes(b"short")
    observed_run(up)
    assert tus.methods_asked.count("DELETE") == 3
    assert bytes(tus.only.content) == b"short"


def test_bytes_are_sent_in_parallel_too(parallel, store, content):
    """They are there at every offset."""
    tus, url, options = parallel
    observed_run(upload_resumable(url, content, store=store, **options))
    assert joined(tus) == content
    assert tus.methods_asked.count("POST") == 4
