"""What a resumable upload promises beside its statuses: one at a time, pause and discard, the file, its sources."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import sys
import threading
from collections import deque

import httpx
import httpx2
import pytest
import reactivex
from support.command_line import posix_only
from support.recording_observer import check_grammar, observe
from support.resumable_uploads import check_passes, outcome_of
from support.tus_server import Tus, broken_after, partial, respond, status, take, tus_server

import rxupload
from rxupload import BatchSummary, File, SourceChanged, UploadTimeout, upload_all
from rxupload.operators import raise_for_status, retry_backoff, verify_digest
from rxupload.resumable import FileStore, MemoryStore, ResumeInUse, upload_resumable
from rxupload.resumable import Tus as TusProtocol
from rxupload.resumable.parts import Hashing

MIB = 1 << 20


def begin(tus, server, source, store, *, at=MIB, **options):
    """An upload whose connection broke when the server had `at` bytes."""
    tus.then("PATCH", broken_after(at))
    up = upload_resumable(f"{server.url}files", source, store=store, **options)
    with pytest.raises(httpx.NetworkError):
        up.run()
    tus.asked.clear()
    return up


# Cold, one at a time


def test_nothing_happens_before_a_subscription(tmp_path):
    """Neither the file nor the network is touched by the call; each error of the file comes through on_error."""
    up = upload_resumable("http://127.0.0.1:1/files", tmp_path / "missing")
    up.discard()
    observed, _ = observe(up)
    assert isinstance(observed.wait().error, FileNotFoundError)
    observed, _ = observe(upload_resumable("http://127.0.0.1:1/files", tmp_path))
    assert isinstance(observed.wait().error, IsADirectoryError)


@pytest.mark.parametrize("make_store", [MemoryStore, None], ids=["memory", "files"])
def test_the_second_of_two_at_the_same_time_is_refused(file, tmp_path, make_store, content):
    """`ResumeInUse`, also from another ResumableUpload of the same file; the first one is not disturbed."""
    store = make_store() if make_store else FileStore(tmp_path / "state")
    came, go_on = threading.Event(), threading.Event()

    def waiting(connection, asked, tus):
        came.set()
        assert go_on.wait(10)
        tus.answer(connection, asked)

    with tus_server() as (tus, server):
        tus.then("PATCH", waiting)
        up, other = (upload_resumable(f"{server.url}files", file, store=store) for _ in range(2))
        first, _ = observe(up)
        assert came.wait(10)
        for each in (up, other, up.discard()):
            second, _ = observe(each)
            assert isinstance(second.wait().error, ResumeInUse)
        go_on.set()
        assert first.wait().response.status_code == 204
        assert bytes(tus.only.content) == content


def test_one_that_comes_while_a_disposed_one_lets_go_waits_for_it(file, store, content):
    """Dispose and subscribe at once, from any thread, again and again: never ResumeInUse, and never a gap."""
    with tus_server() as (tus, server):

        def slow(connection, asked, tus):
            take(connection, asked, tus.only, 50_000)
            connection.wait_for_end()

        tus.then("PATCH", *[slow] * 10)
        up = upload_resumable(f"{server.url}files", file, store=store, progress_interval=0)
        for _ in range(10):
            moved = threading.Event()
            observed, subscription = observe(up, lambda item, moved=moved: moved.set())
            assert moved.wait(10)
            subscription.dispose()
            assert not isinstance(observed.error, ResumeInUse)
        tus.answers.clear()
        # The server may read a request of a disposed one after those of the last, and let it have the upload.
        response = rxupload.run(up.pipe(retry_backoff(wait_initial=0, wait_jitter=0), raise_for_status()))
        assert response.status_code in {200, 204}
        assert bytes(tus.only.content) == content
        assert tus.methods_asked.count("POST") == 1


# Dispose is a pause, discard is the end


def test_a_dispose_keeps_the_upload_on_the_server(file, store, content):
    """The connection closes; nothing is deleted; the next subscription goes on."""
    closed = threading.Event()

    def hanging(connection, asked, tus):
        take(connection, asked, tus.only, MIB)
        connection.wait_for_end()
        closed.set()

    with tus_server() as (tus, server):
        tus.then("PATCH", hanging)
        moved = threading.Event()
        up = upload_resumable(f"{server.url}files", file, store=store, progress_interval=0)
        observed, subscription = observe(up, lambda item: item.sent and moved.set())
        assert moved.wait(10)
        subscription.dispose()
        assert closed.wait(10)
        assert not observed.ended
        kept = len(tus.only.content)
        assert outcome_of(up.run()).resumed_at == kept > 0
        assert bytes(tus.only.content) == content
        assert "DELETE" not in tus.methods_asked


def test_discard_ends_the_upload_and_forgets_it(file, store):
    """A DELETE; then nothing is left on either side, and the next subscription creates a new upload."""
    with tus_server() as (tus, server):
        up = begin(tus, server, file, store)
        response = rxupload.run(up.discard())
        assert response.status_code == 204
        assert tus.methods_asked == ["DELETE"]
        assert not tus.uploads
        assert rxupload.run(up.discard()) is None
        assert tus.methods_asked == ["DELETE"]
        up.run()
        assert tus.methods_asked == ["DELETE", "POST", "PATCH"]


@pytest.mark.parametrize("code", [404, 405, 410, 501])
def test_discard_forgets_what_the_server_cannot_end(file, store, code):
    """The upload is forgotten here, whatever the server makes of the DELETE."""
    with tus_server() as (tus, server):
        up = begin(tus, server, file, store)
        tus.then("DELETE", code)
        assert rxupload.run(up.discard()).status_code == code
        assert rxupload.run(up.discard()) is None


@pytest.mark.parametrize("code", [401, 403, 423, 429, 500, 503])
def test_a_discard_that_fails_for_now_can_be_repeated(file, store, code):
    """The upload is remembered, so that another DELETE can follow."""
    with tus_server() as (tus, server):
        up = begin(tus, server, file, store)
        tus.then("DELETE", code, None)
        assert rxupload.run(up.discard()).status_code == code
        assert rxupload.run(up.discard()).status_code == 204
        assert not tus.uploads


# The file


@pytest.mark.parametrize("make_store", [MemoryStore, None], ids=["memory", "files"])
def test_another_file_in_its_place_is_a_new_upload(file, tmp_path, make_store, content):
    """The old upload is discarded once the new one stands, and nothing of both is mixed."""
    store = make_store() if make_store else FileStore(tmp_path / "state")
    with tus_server() as (tus, server):
        up = begin(tus, server, file, store)
        other = content[::-1]
        file.write_bytes(other)
        response = up.run()
        assert tus.methods_asked == ["POST", "DELETE", "PATCH"]
        assert bytes(tus.only.content) == other
        assert outcome_of(response).resumed_at == 0


def test_a_change_while_it_runs_is_an_error(file, store, content):
    """A file that is written to during the last request ends with SourceChanged, and the mixture is discarded."""

    def changing(connection, asked, tus):
        take(connection, asked, tus.only)
        file.write_bytes(content[::-1])
        respond(connection, 204, f"Upload-Offset: {len(tus.only.content)}")

    with tus_server() as (tus, server):
        tus.then("PATCH", changing)
        up = upload_resumable(f"{server.url}files", file, store=store)
        with pytest.raises(SourceChanged):
            up.run()
        assert not tus.uploads
        up.run()
        assert bytes(tus.only.content) == content[::-1]


def test_a_change_between_two_parts_is_an_error(file, store, content):
    """Nothing of the changed file is sent to the upload of the earlier one."""

    def changing(connection, asked, tus):
        os.utime(file, ns=(1, 1))
        tus.answer(connection, asked)

    with tus_server() as (tus, server):
        tus.then("PATCH", changing)
        with pytest.raises(SourceChanged):
            upload_resumable(f"{server.url}files", file, store=store, chunk_size=MIB).run()
        assert tus.methods_asked == ["POST", "PATCH"]


# Sources


@pytest.mark.parametrize(
    ("make", "chunked"),
    [
        (lambda content, path: content, False),
        (lambda content, path: bytearray(content), False),
        (lambda content, path: io.BytesIO(content), False),
        (lambda content, path: path.open("rb"), False),
        (lambda content, path: lambda: io.BytesIO(content), True),
        (lambda content, path: deque([content[:100], content[100:]]), True),
        (lambda content, path: lambda: iter([content[:MIB], content[MIB:]]), True),
        (lambda content, path: reactivex.of(content[:100], content[100:]), True),
        (lambda content, path: File([content], size=len(content)), True),
    ],
)
@pytest.mark.parametrize("chunk_size", [None, 300_000, 64 * MIB])
def test_each_kind_of_source_goes_on(file, store, content, make, chunked, chunk_size):
    """It is read again up to where the server is, and sent from there."""
    source = make(content, file)
    if chunked and chunk_size is None:
        with pytest.raises(ValueError, match=r"^chunk_size: "):
            upload_resumable("http://h/", source, store=store)
        return
    with tus_server() as (tus, server):
        tus.then("PATCH", *[None] * 3 * (chunk_size == 300_000), broken_after(100_000))
        up = upload_resumable(f"{server.url}files", source, store=store, chunk_size=chunk_size)
        with pytest.raises(httpx.NetworkError):
            up.run()
        assert rxupload.run(up).status_code == 204
        assert bytes(tus.only.content) == content
        assert tus.only.length == len(content)
        assert tus.methods_asked.count("POST") == 1
    getattr(source, "close", list)()


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB, 3 * MIB + 17])
def test_a_source_of_unknown_size_declares_it_at_the_end(store, size):
    """Upload-Defer-Length, and the length with the last part; a source of one chunk is measured before."""
    data = hashlib.shake_256(b"unknown").digest(size)
    with tus_server() as (tus, server):
        up = upload_resumable(f"{server.url}files", iter([data[:10], data[10:]]), store=store, chunk_size=MIB)
        observed, _ = observe(up)
        observed.wait().response  # noqa: B018
        assert bytes(tus.only.content) == data
        assert tus.only.length == size
        post, *patches = tus.asked
        assert post.header("Upload-Defer-Length") == ("1" if size > MIB else None)
        assert len(patches) == -(-size // MIB)
        totals = {each.total for each in observed.progress}
        assert totals == ({None} if size > MIB else {size})
    check_passes(observed.progress)


def test_an_iterator_sends_a_part_again_within_a_subscription(store, content):
    """One chunk is kept: for a 204 with less, for a 409, and for 460."""
    with tus_server(Tus(extensions="checksum,creation-defer-length", algorithms="sha256")) as (tus, server):
        tus.then("PATCH", None, partial(1000), 409, 460)
        up = upload_resumable(f"{server.url}files", iter([content]), store=store, chunk_size=MIB)
        assert up.run().status_code == 204
        assert bytes(tus.only.content) == content
        with pytest.raises(RuntimeError, match="was read before"):
            up.run()


def test_what_gives_other_bytes_the_second_time_is_a_new_upload(store, content):
    """A function whose result begins otherwise is another source: no mixture."""
    results = [content, content[::-1], content[::-1]]
    with tus_server() as (tus, server):
        up = begin(tus, server, lambda: iter([results.pop(0)]), store, at=100_000, chunk_size=MIB)
        up.run()
        assert bytes(tus.only.content) == content[::-1]
        assert tus.methods_asked[:2] == ["POST", "DELETE"]


def test_memory_that_changes_is_a_new_upload(store, content):
    """So is a bytearray that was written to."""
    data = bytearray(content)
    with tus_server() as (tus, server):
        up = begin(tus, server, data, store)
        data[0] ^= 1
        up.run()
        assert bytes(tus.only.content) == bytes(data)
        assert tus.methods_asked == ["POST", "DELETE", "PATCH"]


def test_memory_that_may_change_is_hashed_once(store, content, monkeypatch):
    """However small the parts are, and once more for each attempt, as far as it was sent."""
    hashed, real = [], Hashing.take

    def take(hashing, offset, data):
        hashed.append(len(data))
        real(hashing, offset, data)

    monkeypatch.setattr(Hashing, "take", take)
    with tus_server() as (tus, server):
        tus.then("PATCH", *[None] * 10, broken_after(100))
        up = upload_resumable(f"{server.url}files", bytearray(content), store=store, chunk_size=65536)
        with pytest.raises(httpx.NetworkError):
            up.run()
        assert sum(hashed) == 11 * 65536
        hashed.clear()
        assert up.run().status_code == 204
        assert sum(hashed) == len(content)
        assert bytes(tus.only.content) == content


@posix_only
def test_a_pipe_is_never_continued_by_another(tmp_path, store):
    """Nobody knows what came out of a pipe before."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def write(data):
        thread = threading.Thread(target=pipe.write_bytes, args=(data,))
        thread.start()
        return thread

    with tus_server() as (tus, server):
        with pytest.raises(ValueError, match=r"^chunk_size: "):
            upload_resumable(f"{server.url}files", pipe, store=store).run()
        tus.then("PATCH", broken_after(1000))
        writer = write(b"a" * 5000)
        with pytest.raises(httpx.NetworkError):
            upload_resumable(f"{server.url}files", pipe, store=store, chunk_size=10_000).run()
        writer.join()
        writer = write(b"b" * 5000)
        upload_resumable(f"{server.url}files", pipe, store=store, chunk_size=10_000).run()
        writer.join()
        assert bytes(tus.only.content) == b"b" * 5000


# Extensions


def test_a_small_file_goes_with_the_post_where_that_is_announced(tmp_path, store):
    """Creation With Upload: one request for each file, once the server's announcement is known."""
    with tus_server(Tus(extensions="creation,creation-with-upload")) as (tus, server):
        for number in range(3):
            path = tmp_path / f"{number}.txt"
            path.write_bytes(b"small" * (number + 1))
            observed, _ = observe(upload_resumable(f"{server.url}files", path, store=store))
            response = observed.wait().response
            assert response.status_code == 201
            check_grammar(observed.items, completed=True)
            assert observed.progress[-1].percent == 100
            assert outcome_of(response).sent_now == path.stat().st_size
        assert tus.methods_asked == ["POST"] * 3
        assert [bytes(each.content) for each in tus.uploads.values()] == [
            b"small",
            b"small" * 2,
            b"small" * 3,
        ]


def test_a_large_file_does_not(file, store):
    """Its bytes would go before the URL is stored."""
    with tus_server(Tus(extensions="creation,creation-with-upload")) as (tus, server):
        upload_resumable(f"{server.url}files", file, store=store).run()
        assert tus.methods_asked == ["POST", "PATCH"]
        assert not tus.asked[0].body


def test_a_post_that_is_too_large_goes_without_the_file(tmp_path, store):
    """413 for a POST with the file is followed by one without it."""
    path = tmp_path / "small"
    path.write_bytes(bytes(1000))
    with tus_server(Tus(extensions="creation-with-upload")) as (tus, server):
        tus.then("POST", 413)
        assert upload_resumable(f"{server.url}files", path, store=store).run().status_code == 204
        assert tus.methods_asked == ["POST", "POST", "PATCH"]


@pytest.mark.parametrize(
    ("extensions", "algorithms", "checksum", "expected"),
    [
        ("checksum", "md5,sha1,sha256", "auto", "sha256"),
        ("checksum", "sha1", "auto", "sha1"),
        ("checksum", "md5", "auto", None),
        ("", "sha1", "auto", None),
        ("", "", "auto", None),
        ("checksum", "sha1,sha256", None, None),
        ("", "", "sha1", "sha1"),
    ],
)
def test_a_checksum_goes_before_each_chunk(file, store, content, extensions, algorithms, checksum, expected):
    """Where it is announced, and there is a chunk_size."""
    with tus_server(Tus(extensions=extensions, algorithms=algorithms)) as (tus, server):
        protocol = TusProtocol(checksum=checksum)
        upload_resumable(f"{server.url}files", file, store=store, chunk_size=MIB, protocol=protocol).run()
        assert bytes(tus.only.content) == content
        sums = [each.header("Upload-Checksum") for each in tus.asked if each.method == "PATCH"]
        assert len(sums) == 4
        assert {each and each.partition(" ")[0] for each in sums} == {expected}


def test_a_resumed_upload_has_checksums_too(file, store, content):
    """The announcement is asked for after the HEAD as well."""
    with tus_server(Tus(extensions="checksum", algorithms="sha256")) as (tus, server):
        up = begin(tus, server, file, store, chunk_size=2 * MIB, protocol=TusProtocol(checksum=None))
        up = upload_resumable(f"{server.url}files", file, store=store, chunk_size=2 * MIB)
        up.run()
        assert all(each.header("Upload-Checksum") for each in tus.asked if each.method == "PATCH")


def test_without_metadata_there_is_no_header(store):
    """An empty Upload-Metadata is never sent; bytes have neither a name nor a type."""
    with tus_server() as (tus, server):
        upload_resumable(f"{server.url}files", b"data", store=store).run()
        assert tus.asked[0].header("Upload-Metadata") is None
        metadata = {"name": "Zürich", "empty": "", "raw": b"\xff"}
        upload_resumable(
            f"{server.url}files", b"data", metadata=metadata, filename="a.txt", store=store
        ).run()
        assert tus.uploads["/files/secret1"].metadata == {
            "name": "Zürich".encode(),
            "empty": b"",
            "raw": b"\xff",
            "filename": b"a.txt",
            "filetype": b"text/plain",
        }


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_filename_of_another_encoding_is_sent_with_replacements(tmp_path, store):
    """A name that is not UTF-8 does not end the upload."""
    path = tmp_path / os.fsdecode(b"caf\xe9.txt")
    path.write_bytes(b"data")
    with tus_server() as (tus, server):
        assert upload_resumable(f"{server.url}files", path, store=store).run().status_code == 204
        assert tus.only.metadata["filename"].decode() == "caf\ufffd.txt"


# Requests


def test_headers_may_be_made_for_each_request(file, store):
    """A function gives fresh ones: tokens expire."""
    numbers = iter(range(100))

    def headers():
        return {"Authorization": f"Bearer {next(numbers)}", "Tus-Resumable": "0.2.2"}

    with tus_server() as (tus, server):
        upload_resumable(
            f"{server.url}files",
            file,
            store=store,
            headers=headers,
            chunk_size=MIB,
            protocol=TusProtocol(checksum=None),
        ).run()
        assert [each.header("Authorization") for each in tus.asked] == [f"Bearer {n}" for n in range(5)]
        assert {each.header("Tus-Resumable") for each in tus.asked} == {"1.0.0"}

    def wrong():
        return {"Authorization": "Bearer \n"}

    observed, _ = observe(upload_resumable("http://127.0.0.1:1/", file, store=store, headers=wrong))
    assert isinstance(observed.wait().error, ValueError)


@pytest.mark.parametrize("make", [rxupload.Client, httpx.Client, httpx2.Client])
def test_each_kind_of_client_goes_on(file, store, content, make):
    """Also a plain one of httpx and of httpx2, which count what was handed over."""
    with tus_server() as (tus, server), make(trust_env=False, base_url=server.url) as client:
        tus.then("PATCH", broken_after(MIB, resets=False))
        up = upload_resumable("files", file, store=store, client=client)
        for _ in range(2):
            observed, _ = observe(up)
            observed.wait()
            check_passes(observed.progress)
        assert observed.is_completed
        assert bytes(tus.only.content) == content
        assert tus.methods_asked == ["POST", "PATCH", "HEAD", "PATCH"]
        assert outcome_of(observed.items[-1]).resumed_at > 0


def test_a_redirect_of_the_endpoint_is_followed_as_the_client_does(file, store, content):
    """The Location of the POST is relative to where it was redirected to."""
    with tus_server() as (tus, server), rxupload.Client(follow_redirects=True) as client:
        tus.then("POST", status(308, "Location: /elsewhere"))
        tus.location = lambda path: path.rpartition("/")[2]
        tus.prefix = "/"
        upload_resumable(f"{server.url}files", file, store=store, client=client).run()
        assert [each.path for each in tus.asked] == ["/files", "/elsewhere", "/secret0"]
        assert bytes(tus.only.content) == content


def test_the_time_limit_is_one_for_all_requests(file, store):
    """`timeout` counts from the first request to the end, and the upload is remembered."""

    def never(connection, asked, tus):
        connection.wait_for_end()

    with tus_server() as (tus, server):
        tus.then("PATCH", never)
        up = upload_resumable(f"{server.url}files", file, store=store, timeout=2)
        with pytest.raises(UploadTimeout):
            up.run()
        assert upload_resumable(f"{server.url}files", file, store=store).run().status_code == 204
        assert tus.methods_asked == ["POST", "PATCH", "HEAD", "PATCH"]


def test_the_digest_is_that_of_the_whole_file(file, store, content):
    """Of what the server had before, and of what is sent now; None while it is not whole."""
    expected = hashlib.sha256(content).hexdigest()
    with tus_server() as (tus, server):
        up = begin(tus, server, file, store, digest="sha256")
        tus.then("PATCH", 500)
        ours = up.run().extensions["rxupload"]
        assert (ours["algorithm"], ours["digests"]) == ("sha256", [None])
        digest = f"Repr-Digest: sha-256=:{__import__('base64').b64encode(bytes.fromhex(expected)).decode()}:"

        def with_digest(connection, asked, tus):
            take(connection, asked, tus.only)
            respond(connection, 204, f"Upload-Offset: {len(tus.only.content)}", digest)

        tus.then("PATCH", with_digest)
        response = rxupload.run(up.pipe(verify_digest()))
        assert response.extensions["rxupload"]["digests"] == [expected]


@pytest.mark.parametrize("make", [lambda content: content, lambda content: lambda: iter([content])])
def test_the_digest_of_what_is_no_file(store, content, make):
    """It is hashed as it is read, also where the server has it all already."""
    with tus_server() as (tus, server):
        up = begin(tus, server, make(content), store, at=1000, digest="sha256", chunk_size=MIB)
        tus.only.content[:] = content
        assert up.run().extensions["rxupload"]["digests"] == [hashlib.sha256(content).hexdigest()]
        # The length was not known when it was created, so an empty part declares it.
        assert tus.methods_asked == ["HEAD"] + ["PATCH"] * (make(content) is not content)


def test_a_batch_and_a_retry_go_on(tmp_path, store, content):
    """`upload_all` with `retry_backoff`: each file arrives whole, and is sent once."""
    files = [tmp_path / f"{n}.bin" for n in range(4)]
    for each in files:
        each.write_bytes(content)
    with tus_server() as (tus, server):
        tus.then("PATCH", broken_after(1000), broken_after(MIB), broken_after(2 * MIB))
        ups = [upload_resumable(f"{server.url}files", each, store=store) for each in files]
        retried = [up.pipe(retry_backoff(wait_initial=0, wait_jitter=0), raise_for_status()) for up in ups]
        summary = rxupload.run(upload_all(retried, concurrency=2))
        assert isinstance(summary, BatchSummary)
        assert (summary.done, summary.failed) == (4, 0)
        assert all(bytes(each.content) == content for each in tus.uploads.values())
        assert len(tus.uploads) == 4


@pytest.mark.parametrize("kept", [0, 1, 2 * MIB])
def test_a_proxy_that_buffers_is_named_in_the_log(file, store, caplog, kept):
    """If nothing of what was sent has reached the server, the log says what may be the cause."""
    with tus_server() as (tus, server), caplog.at_level(logging.WARNING, logger="rxupload"):
        tus.then("PATCH", broken_after(2 * MIB, kept=kept))
        up = upload_resumable(f"{server.url}files", file, store=store, progress_interval=0)
        with pytest.raises(httpx.NetworkError):
            up.run()
        up.run()
    warned = [each for each in caplog.messages if "A proxy before it may buffer" in each]
    assert len(warned) == (1 if kept == 0 else 0)
    assert "secret" not in caplog.text


def test_a_broken_chunk_with_a_checksum_is_no_sign_of_a_proxy(file, store, caplog):
    """A server that has a checksum keeps a chunk as a whole or not at all."""
    with (
        tus_server(Tus(extensions="checksum", algorithms="sha256")) as (tus, server),
        caplog.at_level(logging.WARNING, logger="rxupload"),
    ):
        tus.then("PATCH", broken_after(2 * MIB - 1, kept=0))
        options = {"store": store, "chunk_size": 2 * MIB, "progress_interval": 0}
        up = upload_resumable(f"{server.url}files", file, **options)
        with pytest.raises(httpx.NetworkError):
            up.run()
        up.run()
    assert caplog.messages == []
