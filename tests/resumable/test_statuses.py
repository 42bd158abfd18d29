"""What each status leads to within one subscription: the table of `Next`, over real sockets."""

from __future__ import annotations

import httpx
import pytest
from support.recording_observer import observe
from support.resumable_uploads import check_passes, outcome_of, run
from support.tus_server import Gone, Tus, broken_after, partial, read_body, respond, status, take, tus_server

import rxupload
from rxupload.operators import raise_for_status, retry_backoff
from rxupload.resumable import MemoryStore, upload_resumable

MIB = 1 << 20


@pytest.fixture
def begun(file, store):
    """A server that has the first MiB of an upload whose connection broke, and that upload."""
    with tus_server() as (tus, server):
        tus.then("PATCH", broken_after(MIB))
        up = upload_resumable(f"{server.url}files", file, store=store)
        with pytest.raises(httpx.NetworkError):
            up.run()
        tus.asked.clear()
        yield tus, up, store


# The offset


def test_409_asks_by_head_and_goes_on(begun, content):
    """A HEAD that was stale is followed by a 409, another HEAD, and a PATCH from there."""
    tus, up, _ = begun

    def stale(connection, asked, tus):
        respond(connection, 200, f"Upload-Offset: {MIB // 2}", f"Upload-Length: {len(content)}")

    tus.then("HEAD", stale)
    response = run(up)
    assert tus.methods_asked == ["HEAD", "PATCH", "HEAD", "PATCH"]
    assert bytes(tus.only.content) == content
    assert response.status_code == 204


def test_an_offset_that_does_not_move_ends_in_an_error(begun):
    """After some 409 in a row at the same offset, the 409 is the error, and the upload is remembered."""
    tus, up, _ = begun
    tus.then("PATCH", *[409] * 100)
    with pytest.raises(httpx.HTTPStatusError) as caught:
        run(up)
    assert caught.value.response.status_code == 409
    assert [f"The server's offset stays at {MIB}"] == caught.value.__notes__
    assert 2 <= tus.methods_asked.count("PATCH") <= 10
    tus.answers.clear()
    assert run(up).status_code == 204


def test_a_409_that_passes_is_retried(begun, content):
    """`retry_backoff` knows 409 here."""
    tus, up, _ = begun
    tus.then("PATCH", *[409] * 5)
    assert rxupload.run(up.pipe(retry_backoff(wait_initial=0, wait_jitter=0))).status_code == 204
    assert bytes(tus.only.content) == content


def test_a_204_with_less_than_was_sent_goes_on_there(file, store, content):
    """The next PATCH begins at the offset of the response, in a new pass."""
    with tus_server() as (tus, server):
        tus.then("PATCH", partial(100), None)
        observed, _ = observe(upload_resumable(f"{server.url}files", file, store=store))
        response = observed.wait().response
        assert tus.methods_asked == ["POST", "PATCH", "PATCH"]
        assert bytes(tus.only.content) == content
    check_passes(observed.progress)
    assert [(each.attempt, each.start) for each in observed.progress if each.sent == each.start] == [
        (1, 0),
        (2, 100),
    ]
    assert outcome_of(response).sent_now == 2 * len(content) - 100


def test_a_server_that_takes_nothing_ends_in_an_error(file, store):
    """204 with the same offset, again and again, is an error."""
    with tus_server() as (tus, server):
        tus.then("PATCH", *[partial(0)] * 100)
        with pytest.raises(httpx.RemoteProtocolError, match="offset stays at 0"):
            run(upload_resumable(f"{server.url}files", file, store=store, chunk_size=MIB))
        assert tus.methods_asked.count("PATCH") <= 10


def test_a_204_without_an_offset_asks_by_head(file, store, content):
    """The offset is never guessed."""

    def silent(connection, asked, tus):
        take(connection, asked, tus.only)
        respond(connection, 204)

    with tus_server() as (tus, server):
        tus.then("PATCH", silent)
        response = run(upload_resumable(f"{server.url}files", file, store=store))
        assert tus.methods_asked == ["POST", "PATCH", "HEAD"]
        assert bytes(tus.only.content) == content
        assert response.status_code == 200


def test_a_whole_upload_ends_with_the_head(begun, content):
    """If the server has everything, because only the last response was lost, the HEAD's response is the last item."""
    tus, up, _ = begun
    tus.only.content[:] = content
    observed, _ = observe(up)
    response = observed.wait().response
    assert tus.methods_asked == ["HEAD"]
    assert response.status_code == 200
    assert [(each.sent, each.start) for each in observed.progress] == [(len(content), len(content))]
    outcome = outcome_of(response)
    assert (outcome.resumed_at, outcome.sent_now) == (len(content), 0)


def test_an_empty_file_ends_with_the_post(tmp_path, store):
    """There is nothing to send, so the response of the POST is the last item."""
    path = tmp_path / "empty"
    path.write_bytes(b"")
    with tus_server() as (tus, server):
        observed, _ = observe(upload_resumable(f"{server.url}files", path, store=store))
        response = observed.wait().response
        assert tus.methods_asked == ["POST"]
        assert tus.only.length == 0
    assert response.status_code == 201
    assert [(each.sent, each.total) for each in observed.progress] == [(0, 0)]


# Too large


@pytest.mark.parametrize(
    ("limit", "size"), [(64 * 1024, 64 * 1024), (300_000, 196_609), (2 * MIB, 1_572_872), (4 * MIB, None)]
)
def test_413_halves_the_part_and_remembers(file, store, content, limit, size):
    """Parts get smaller until the server takes them; the next subscription begins with that size."""
    with tus_server() as (tus, server):
        tus.most = limit
        tus.then("PATCH", broken_after(1000))  # the first one that is not too large
        up = upload_resumable(f"{server.url}files", file, store=store)
        with pytest.raises(httpx.NetworkError):
            run(up)
        tus.asked.clear()
        assert run(up).status_code == 204
        assert bytes(tus.only.content) == content
        sizes = [int(each.header("Content-Length")) for each in tus.asked if each.method == "PATCH"]
        assert set(sizes[:-1]) == ({size} if len(sizes) > 1 else set())
        assert sum(sizes) == len(content) - 1000


def test_413_for_the_smallest_part_is_the_response(file, store):
    """Parts of less than 64 KiB are not tried."""
    with tus_server() as (tus, server):
        tus.most = 64 * 1024 - 1
        assert run(upload_resumable(f"{server.url}files", file, store=store)).status_code == 413
        sizes = [int(each.header("Content-Length")) for each in tus.asked if each.method == "PATCH"]
        assert sizes[-1] == 64 * 1024


# Damaged on its way


def test_460_sends_the_chunk_again(file, store, content):
    """The same chunk goes again, from the same offset."""
    with tus_server(Tus(extensions="checksum", algorithms="sha1,sha256")) as (tus, server):
        tus.then("PATCH", None, 460, 460)
        assert (
            run(upload_resumable(f"{server.url}files", file, store=store, chunk_size=MIB)).status_code == 204
        )
        offsets = [int(each.header("Upload-Offset")) for each in tus.asked if each.method == "PATCH"]
        assert offsets == [0, MIB, MIB, MIB, 2 * MIB, 3 * MIB]
        assert bytes(tus.only.content) == content


# Gone


@pytest.mark.parametrize("code", [404, 410])
def test_a_forgotten_upload_begins_anew_once(begun, content, code):
    """A HEAD that is answered 404 or 410 is followed by a POST and a PATCH of the whole file."""
    tus, up, _ = begun
    tus.then("HEAD", code)
    response = run(up)
    assert tus.methods_asked == ["HEAD", "POST", "PATCH"]
    assert bytes(tus.uploads["/files/secret1"].content) == content
    outcome = outcome_of(response)
    assert (outcome.resumed_at, outcome.sent_now) == (0, len(content))
    assert outcome.url.endswith("secret1")


def test_a_patch_may_find_it_forgotten_too(begun, content):
    """A PATCH of a stored upload that is answered 404 leads to a new one, in a pass of its own."""
    tus, up, _ = begun
    tus.then("PATCH", 404)
    run(up)
    assert tus.methods_asked == ["HEAD", "PATCH", "POST", "PATCH"]
    assert bytes(tus.uploads["/files/secret1"].content) == content


def test_a_new_upload_that_is_forgotten_is_the_end(begun):
    """The second 404 is the response, and nothing is remembered."""
    tus, up, _ = begun
    tus.then("HEAD", 404)
    tus.then("PATCH", 404)
    assert run(up).status_code == 404
    assert tus.methods_asked == ["HEAD", "POST", "PATCH"]
    tus.asked.clear()
    run(up)
    assert tus.methods_asked == ["POST", "PATCH"]


def test_after_403_the_entry_stays_until_the_new_upload_is_made(begun, content):
    """A token may have expired: the POST is refused, too, and the next subscription goes on with the old upload."""
    tus, up, _ = begun
    tus.then("HEAD", 403)
    tus.then("POST", 403)
    assert run(up).status_code == 403
    assert tus.methods_asked == ["HEAD", "POST"]
    tus.asked.clear()
    response = run(up)
    assert tus.methods_asked == ["HEAD", "PATCH"]
    assert bytes(tus.only.content) == content
    assert outcome_of(response).resumed_at == MIB


def test_after_403_a_new_upload_replaces_the_old_one(begun, content):
    """If the POST succeeds, the upload begins anew, and the old one is discarded."""
    tus, up, _ = begun
    tus.then("HEAD", 403)
    run(up)
    assert tus.methods_asked == ["HEAD", "POST", "DELETE", "PATCH"]
    assert list(tus.uploads) == ["/files/secret0"] or bytes(tus.only.content) == content


def test_a_part_that_is_forbidden_because_the_server_has_it_is_not_sent_anew(begun, content):
    """The offset was stale, and some servers answer 403 to a part of a whole upload. The server is asked again."""
    tus, up, _ = begun

    def late(connection, asked, tus):
        """Say how much there was, and then take the rest of an earlier request."""
        tus.answer(connection, asked)
        tus.only.content[:] = content

    tus.then("HEAD", late)
    tus.then("PATCH", 403)
    response = run(up)
    assert tus.methods_asked == ["HEAD", "PATCH", "HEAD"]
    assert response.status_code == 200
    assert bytes(tus.only.content) == content


def test_a_part_that_is_forbidden_begins_a_new_upload(begun, content):
    """The server has no more than before. The 403 is the response if the new one is forbidden, too."""
    tus, up, _ = begun
    tus.then("PATCH", 403)
    assert run(up).status_code == 204
    assert tus.methods_asked == ["HEAD", "PATCH", "HEAD", "POST", "DELETE", "PATCH"]
    assert list(tus.uploads) == ["/files/secret1"]
    assert bytes(tus.only.content) == content


@pytest.mark.parametrize("code", [423, 429, 500, 502, 503])
def test_a_head_that_fails_for_now_after_a_forbidden_part_is_never_a_new_upload(begun, content, code):
    """Nobody knows then whether the server has the part. The upload goes on after it."""
    tus, up, _ = begun
    tus.then("HEAD", None, code)
    tus.then("PATCH", 403)
    assert run(up).status_code == code
    assert tus.methods_asked == ["HEAD", "PATCH", "HEAD"]
    assert run(up).status_code == 204
    assert tus.methods_asked[3:] == ["HEAD", "PATCH"]
    assert bytes(tus.only.content) == content


def test_a_connection_that_breaks_after_a_forbidden_part_is_never_a_new_upload(begun, content):
    """It is the error, and the upload goes on after it."""
    tus, up, _ = begun

    def broken(connection, asked, tus):
        connection.reset()
        raise Gone

    tus.then("HEAD", None, broken)
    tus.then("PATCH", 403)
    with pytest.raises(httpx.NetworkError):
        run(up)
    assert tus.methods_asked == ["HEAD", "PATCH", "HEAD"]
    assert run(up).status_code == 204
    assert bytes(tus.only.content) == content


@pytest.mark.parametrize("has_more", [True, False])
def test_a_forbidden_part_of_another_method_proves_nothing(begun, content, has_more):
    """A proxy may forbid the other method, too. So the refusal of the PATCH is the response, and no upload is new."""
    tus, up, _ = begun

    def forbidding(connection, asked, tus):
        read_body(connection, asked)
        if has_more:
            tus.only.content[:] = content
        respond(connection, 403)

    tus.then("PATCH", 405)
    tus.then("POST", forbidding)
    assert run(up).status_code == (200 if has_more else 405)
    assert tus.methods_asked == ["HEAD", "PATCH", "POST", "HEAD"]
    if not has_more:
        assert run(up).status_code == 204
    assert bytes(tus.only.content) == content


@pytest.mark.parametrize("code", [423, 429, 500, 502, 503])
def test_a_head_that_fails_for_now_is_never_a_new_upload(begun, content, code):
    """It is the response, an error for `retry_backoff`, and the upload goes on after it."""
    tus, up, _ = begun
    tus.then("HEAD", code)
    assert run(up).status_code == code
    assert tus.methods_asked == ["HEAD"]
    tus.then("HEAD", code, code)
    response = rxupload.run(up.pipe(retry_backoff(wait_initial=0, wait_jitter=0), raise_for_status()))
    assert tus.methods_asked == ["HEAD"] * 4 + ["PATCH"]
    assert outcome_of(response).resumed_at == MIB
    assert bytes(tus.only.content) == content


@pytest.mark.parametrize("code", [400, 401, 402, 415, 423, 429, 500, 503])
def test_any_other_status_of_a_patch_is_the_response(begun, content, code):
    """It is the last item, with the outcome, and the upload is remembered."""
    tus, up, _ = begun
    tus.then("PATCH", code)
    response = run(up)
    assert response.status_code == code
    assert outcome_of(response).resumed_at == MIB
    assert run(up).status_code == 204
    assert bytes(tus.only.content) == content


# The method


@pytest.mark.parametrize("code", [405, 501])
@pytest.mark.parametrize("chunk_size", [None, MIB])
def test_a_proxy_that_knows_no_patch_gets_a_post(file, store, content, code, chunk_size):
    """The bytes go with POST and X-HTTP-Method-Override, and a HEAD shows that they have arrived."""

    def proxy(connection, asked, tus):
        read_body(connection, asked)
        respond(connection, code)

    with tus_server() as (tus, server):
        tus.then("PATCH", *[proxy] * 100)
        up = upload_resumable(f"{server.url}files", file, store=store, chunk_size=chunk_size)
        response = run(up)
        assert response.status_code == 204
        assert bytes(tus.only.content) == content
        parts = 1 if chunk_size is None else 4
        expected = ["POST", "PATCH", "POST", "HEAD", *["POST"] * (parts - 1)]
        assert tus.methods_asked == expected
        assert {each.header("X-HTTP-Method-Override") for each in tus.asked[2:] if each.method == "POST"} == {
            "PATCH"
        }


def test_a_server_that_ignores_the_override_is_an_error(file, store):
    """If the HEAD shows that nothing has arrived, the refusal of the PATCH is the response."""

    def ignoring(connection, asked, tus):
        read_body(connection, asked)
        respond(connection, 204, f"Upload-Offset: {int(asked.header('Upload-Offset')) + len(asked.body)}")

    with tus_server() as (tus, server):
        tus.then("PATCH", *[405] * 100)
        tus.then("POST", None, ignoring)
        assert run(upload_resumable(f"{server.url}files", file, store=store)).status_code == 405
        assert tus.methods_asked == ["POST", "PATCH", "POST", "HEAD"]


# The creation


@pytest.mark.parametrize("code", [400, 401, 403, 404, 409, 412, 413, 429, 500, 503])
def test_a_refused_creation_is_the_response(file, store, code):
    """The status of the POST is the last item, and nothing is remembered."""
    with tus_server() as (tus, server):
        tus.then("POST", code)
        up = upload_resumable(f"{server.url}files", file, store=store)
        response = run(up)
        assert response.status_code == code
        outcome = outcome_of(response)
        assert (outcome.url, outcome.resumed_at, outcome.sent_now) == (None, 0, 0)
        assert run(up).status_code == 204


@pytest.mark.parametrize("size", [0, 1000, MIB])
def test_a_creation_may_be_answered_with_200(tmp_path, store, size):
    """A Location makes it a creation. Some servers answer so if the upload is whole with it."""
    path = tmp_path / "some.bin"
    path.write_bytes(b"x" * size)
    with tus_server(Tus(extensions="creation-with-upload")) as (tus, server):
        tus.created_status = 200
        assert run(upload_resumable(f"{server.url}files", path, store=store)).is_success
        assert bytes(tus.only.content) == b"x" * size
        assert tus.methods_asked == (["POST"] if size < MIB else ["POST", "PATCH"])


@pytest.mark.parametrize("answer", [status(200), status(204), status(201), status(201, "Location: http://[")])
def test_a_server_that_does_not_speak_tus_is_an_error(file, store, answer):
    """A success without a valid upload is no success."""
    with tus_server() as (tus, server):
        tus.then("POST", answer)
        with pytest.raises(httpx.RemoteProtocolError):
            run(upload_resumable(f"{server.url}files", file, store=store))


@pytest.mark.parametrize("headers", [(), ("Upload-Offset: x",), ("Upload-Offset: -1",)])
def test_a_head_without_an_offset_is_an_error(begun, headers):
    """A success without an offset is no success, and the upload is remembered."""
    tus, up, _ = begun
    tus.then("HEAD", status(200, *headers))
    with pytest.raises(httpx.RemoteProtocolError, match="Upload-Offset"):
        run(up)
    assert run(up).status_code == 204


@pytest.mark.parametrize("headers", [("Upload-Offset: 5", "Upload-Length: 6"), ("Upload-Offset: 99999999",)])
def test_an_upload_of_another_length_is_another_upload(begun, content, headers):
    """A new upload begins, and when it stands the old one is discarded."""
    tus, up, _ = begun
    tus.then("HEAD", status(200, *headers))
    run(up)
    assert tus.methods_asked == ["HEAD", "POST", "DELETE", "PATCH"]


def test_each_response_has_an_outcome_that_hides_the_address(file, store):
    """The repr of the outcome shows no URL."""
    with tus_server() as (_, server):
        response = run(upload_resumable(f"{server.url}files", file, store=store))
    outcome = outcome_of(response)
    assert "secret" in outcome.url
    assert "secret" not in repr(outcome)


def test_two_uploads_of_one_file_have_their_own_stores(file, content):
    """A store of its own goes on with nothing of another one."""
    with tus_server() as (tus, server):
        for _ in range(2):
            run(upload_resumable(f"{server.url}files", file, store=MemoryStore()))
        assert [bytes(each.content) for each in tus.uploads.values()] == [content, content]
