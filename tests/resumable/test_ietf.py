"""The draft of the IETF over real sockets: created, sent, resumed, completed, discarded, and within its limits."""

from __future__ import annotations

import time

import httpx
import pytest
from support.ietf_server import DONE, broken_after, ietf_server, mismatch, status, unanswered
from support.recording_observer import observe
from support.resumable_uploads import check_passes, outcome_of, run
from support.tus_server import read_body

import rxupload
from rxupload.operators import retry_backoff
from rxupload.resumable import FileStore, IetfResumable, upload_resumable

IETF = IetfResumable()
MIB = 1 << 20


def resumable(server, file, store, **options):
    return upload_resumable(f"{server.url}photos", file, protocol=IETF, store=store, **options)


@pytest.fixture
def begun(file, store):
    """A server that has the first MiB of an upload whose connection broke, and that upload."""
    with ietf_server() as (ietf, server):
        ietf.then("PATCH", broken_after(MIB))
        up = resumable(server, file, store)
        with pytest.raises(httpx.NetworkError):
            up.run()
        ietf.asked.clear()
        yield ietf, up


# Creating and sending


def test_a_large_file_begins_with_an_empty_post(file, store, content):
    """The POST says what the file is. One PATCH completes it, and has the response to the whole upload."""
    with ietf_server() as (ietf, server):
        response = run(resumable(server, file, store))
        assert ietf.methods_asked == ["POST", "PATCH"]
        post, patch = ietf.asked
        assert (post.header("Upload-Complete"), post.header("Upload-Length")) == ("?0", str(len(content)))
        assert post.header("Content-Length") == "0"
        assert ietf.only.content_type == "video/mp4"
        assert ietf.only.disposition == 'inline; filename="video.mp4"'
        assert (patch.header("Upload-Complete"), patch.header("Upload-Offset")) == ("?1", "0")
        assert bytes(ietf.only.content) == content
    assert response.content == DONE
    assert outcome_of(response).url == f"{server.url}uploads/secret0"
    assert (outcome_of(response).resumed_at, outcome_of(response).sent_now) == (0, len(content))


@pytest.mark.parametrize("informs", [True, False])
@pytest.mark.parametrize("count", [0, 1, 256 * 1024])
def test_a_small_file_goes_with_the_post(store, content, count, informs):
    """It is one ordinary request, also to a server that has never heard of the draft."""
    with ietf_server() as (ietf, server):
        ietf.informs = informs
        response = run(resumable(server, content[:count], store))
        assert ietf.methods_asked == ["POST"]
        assert ietf.asked[0].header("Upload-Complete") == "?1"
        assert ietf.only.is_complete
        assert bytes(ietf.only.content) == content[:count]
    assert response.content == DONE
    assert (outcome_of(response).url is not None) == informs


def test_an_ordinary_server_answers_as_ever(store):
    """Without Upload-Complete, a success is that of an ordinary upload. Its Location is its own affair."""
    with ietf_server() as (ietf, server):
        ietf.then("POST", status(201, b"hello", "Location: /photos/1"))
        response = run(resumable(server, b"small", store))
        assert ietf.methods_asked == ["POST"]
    assert (response.status_code, response.content) == (201, b"hello")
    assert outcome_of(response).url is None


def test_an_ordinary_server_gets_no_byte_of_a_large_file(file, store):
    """It has taken an empty upload. The error says so."""
    with ietf_server() as (ietf, server):
        ietf.then("POST", 200)
        with pytest.raises(httpx.RemoteProtocolError, match="without a valid Location"):
            run(resumable(server, file, store))
        assert ietf.methods_asked == ["POST"]


@pytest.mark.parametrize("tells", [True, False])
def test_chunks_are_sent_one_after_the_other_in_one_pass(file, store, content, tells):
    """A 204 need not say the offset: then all of the part has been appended."""
    with ietf_server() as (ietf, server):
        ietf.tells = tells
        observed, _ = observe(resumable(server, file, store, chunk_size=MIB))
        observed.wait()
        patches = [each for each in ietf.asked if each.method == "PATCH"]
        assert [each.header("Upload-Offset") for each in patches] == [
            "0",
            str(MIB),
            str(2 * MIB),
            str(3 * MIB),
        ]
        assert [each.header("Upload-Complete") for each in patches] == ["?0", "?0", "?0", "?1"]
        assert bytes(ietf.only.content) == content
    check_passes(observed.progress)
    assert {each.attempt for each in observed.progress} == {1}


@pytest.mark.parametrize("count", [0, 1, MIB, 2 * MIB, 2 * MIB + 1])
def test_a_source_of_unknown_size_says_its_length_with_its_last_part(store, content, count):
    """A source of one chunk is read before, so its size is known."""

    def source():
        yield from (content[at : min(at + 10_000, count)] for at in range(0, count, 10_000))

    with ietf_server() as (ietf, server):
        run(resumable(server, source, store, chunk_size=MIB))
        assert bytes(ietf.only.content) == content[:count]
        assert ietf.only.is_complete
        lengths = [each.header("Upload-Length") for each in ietf.asked]
        assert (
            lengths == [None] * (len(lengths) - 1) + [str(count)]
            if count > MIB
            else {str(count)} >= {*lengths}
        )


@pytest.mark.parametrize(
    ("name", "disposition"),
    [
        ('a "b\\', r'inline; filename="a \"b\\"'),
        ("ü.txt", "inline; filename=\"?.txt\"; filename*=UTF-8''%C3%BC.txt"),
        ("a\nb", "inline; filename=\"a_b\"; filename*=UTF-8''a%0Ab"),
    ],
)
def test_the_name_is_a_content_disposition(store, name, disposition):
    """RFC 6266, with RFC 8187 for what ASCII has not."""
    with ietf_server() as (ietf, server):
        run(resumable(server, b"small", store, filename=name))
        assert ietf.only.disposition == disposition


def test_metadata_is_an_error_at_the_call(file):
    """The draft has no place for it but a form."""
    with pytest.raises(ValueError, match="metadata: this protocol has no place for it"):
        upload_resumable("http://localhost/", file, protocol=IETF, metadata={"a": "b"})


# Going on


def test_the_next_subscription_goes_on_where_the_server_is(begun, content):
    """HEAD tells the offset."""
    ietf, up = begun
    response = run(up)
    assert ietf.methods_asked == ["HEAD", "PATCH"]
    assert ietf.asked[1].header("Upload-Offset") == str(MIB)
    assert bytes(ietf.only.content) == content
    assert response.content == DONE
    assert outcome_of(response).resumed_at == MIB


def test_409_goes_on_at_its_offset(begun, content):
    """A HEAD that was stale is followed by a 409, which has the right offset."""
    ietf, up = begun
    stale = status(204, b"", f"Upload-Offset: {MIB // 2}", "Upload-Complete: ?0")
    ietf.then("HEAD", stale)
    assert run(up).content == DONE
    assert ietf.methods_asked == ["HEAD", "PATCH", "PATCH"]
    assert bytes(ietf.only.content) == content


def test_an_offset_that_does_not_move_ends_in_an_error(begun):
    """It is the last 409, with a note. The upload is remembered."""
    ietf, up = begun

    def stuck(connection, asked, ietf):
        read_body(connection, asked)
        mismatch(connection, MIB)

    ietf.then("PATCH", *[stuck] * 100)
    with pytest.raises(httpx.HTTPStatusError) as caught:
        run(up)
    assert caught.value.__notes__ == [f"The server's offset stays at {MIB}"]
    ietf.answers.clear()
    assert run(up).content == DONE


@pytest.mark.parametrize("repeats", [True, False])
def test_a_response_that_was_lost_is_asked_for_again(file, store, content, repeats):
    """A part without bytes asks for it. If the server has forgotten it, the HEAD's is the last item."""
    with ietf_server() as (ietf, server):
        ietf.repeats = repeats
        ietf.then("PATCH", unanswered)
        up = resumable(server, file, store)
        with pytest.raises(httpx.NetworkError):
            up.run()
        ietf.asked.clear()
        response = run(up)
        assert ietf.methods_asked == (["HEAD", "PATCH"] if repeats else ["HEAD", "PATCH", "HEAD"])
        assert bytes(ietf.only.content) == content
    assert (response.status_code, response.content) == ((200, DONE) if repeats else (204, b""))
    assert (outcome_of(response).resumed_at, outcome_of(response).sent_now) == (len(content), 0)


def test_a_server_that_forbids_to_ask_for_the_response_has_the_file(file, store, content):
    """It says that the upload is complete. So the file is not sent again, and the HEAD's response is the last item."""
    with ietf_server() as (ietf, server):
        ietf.then("PATCH", unanswered, 403)
        up = resumable(server, file, store)
        with pytest.raises(httpx.NetworkError):
            up.run()
        ietf.asked.clear()
        assert run(up).status_code == 204
        assert ietf.methods_asked == ["HEAD", "PATCH", "HEAD"]
        assert bytes(ietf.only.content) == content


def test_an_upload_that_has_all_but_is_not_complete_is_completed(begun, content):
    """The offset alone does not say that it is complete."""
    ietf, up = begun
    ietf.only.content[:] = content
    assert run(up).content == DONE
    assert ietf.methods_asked == ["HEAD", "PATCH"]
    assert ietf.asked[1].header("Content-Length") == "0"


def test_a_whole_upload_of_unknown_size_ends_with_the_head(store, content):
    """Its source ends where the server says that it is complete."""
    with ietf_server() as (ietf, server):
        ietf.then("PATCH", None, unanswered)
        up = resumable(server, lambda: iter([content[:MIB], content[MIB : MIB + 5]]), store, chunk_size=MIB)
        with pytest.raises(httpx.NetworkError):
            up.run()
        response = run(up)
        assert ietf.methods_asked == ["POST", "PATCH", "PATCH", "HEAD"]
    assert response.status_code == 204


@pytest.mark.parametrize("code", [404, 410])
def test_an_upload_that_is_gone_begins_anew(begun, content, code):
    """Once."""
    ietf, up = begun
    ietf.then("HEAD", code)
    assert run(up).content == DONE
    assert ietf.methods_asked == ["HEAD", "POST", "PATCH"]
    assert bytes(ietf.last.content) == content


def test_an_upload_that_the_server_has_ended_begins_anew(begun, content):
    """Nothing can be added to it."""
    ietf, up = begun
    ietf.only.is_complete = True
    assert run(up).content == DONE
    assert ietf.methods_asked == ["HEAD", "POST", "PATCH"]
    assert bytes(ietf.last.content) == content


def test_an_upload_of_another_length_is_discarded(begun, content):
    """It is one of another file."""
    ietf, up = begun
    ietf.only.length = 5
    assert run(up).content == DONE
    assert ietf.methods_asked == ["HEAD", "POST", "DELETE", "PATCH"]
    assert bytes(ietf.only.content) == content


def test_a_403_begins_anew_but_forgets_nothing_before(begun, content):
    """If no other upload can be made, the old one is still remembered."""
    ietf, up = begun
    ietf.then("HEAD", 403)
    ietf.then("POST", 403)
    assert run(up).status_code == 403
    assert outcome_of(run(up)).resumed_at == MIB
    assert bytes(ietf.only.content) == content


@pytest.mark.parametrize("code", [423, 429, 500, 503])
def test_an_error_of_the_head_is_for_retry_backoff(begun, content, code):
    """It never begins a new upload."""
    ietf, up = begun
    ietf.then("HEAD", code)
    assert rxupload.run(up.pipe(retry_backoff(wait_initial=0, wait_jitter=0))).content == DONE
    assert ietf.methods_asked == ["HEAD", "HEAD", "PATCH"]


def test_a_head_without_an_offset_is_an_error(begun):
    """An offset is never guessed."""
    ietf, up = begun
    ietf.then("HEAD", status(200))
    with pytest.raises(httpx.RemoteProtocolError, match="without an Upload-Offset"):
        run(up)


@pytest.mark.parametrize("code", [200, 400, 500])
def test_an_answer_to_the_whole_upload_is_the_end(file, store, content, code):
    """With Upload-Complete, even an error is no reason to go on: the next subscription begins anew."""
    with ietf_server() as (ietf, server):
        ietf.then("PATCH", status(code, b"answer", "Upload-Complete: ?1"))
        up = resumable(server, file, store, chunk_size=MIB)
        response = run(up)
        assert (response.status_code, response.content) == (code, b"answer")
        assert ietf.methods_asked == ["POST", "PATCH"]
        ietf.asked.clear()
        run(up)
        assert ietf.methods_asked[:2] == ["POST", "PATCH"]
        assert bytes(ietf.last.content) == content


def test_a_5xx_of_a_part_goes_on_with_retry_backoff(file, store, content):
    """The next attempt asks for the offset."""
    with ietf_server() as (ietf, server):
        ietf.then("PATCH", None, 503)
        up = resumable(server, file, store, chunk_size=MIB)
        assert rxupload.run(up.pipe(retry_backoff(wait_initial=0, wait_jitter=0))).content == DONE
        assert ietf.methods_asked == ["POST", "PATCH", "PATCH", "HEAD", "PATCH", "PATCH", "PATCH"]
        assert bytes(ietf.only.content) == content


def test_discard_ends_the_upload(begun):
    """By DELETE. Then nothing is remembered."""
    ietf, up = begun
    assert rxupload.run(up.discard()).status_code == 204
    assert ietf.uploads == {}
    assert rxupload.run(up.discard()) is None


# Limits


def test_parts_are_as_long_as_the_server_takes(file, store, content):
    """Its max-append-size holds from the creation on, beside a greater chunk_size."""
    with ietf_server() as (ietf, server):
        ietf.limits = "max-append-size=1000000, a-new-one=?1, min-append-size=1000"
        run(resumable(server, file, store, chunk_size=2 * MIB))
        sizes = [int(each.header("Content-Length")) for each in ietf.asked if each.method == "PATCH"]
        assert sizes == [1000000, 1000000, 1000000, len(content) - 3000000]
        assert bytes(ietf.only.content) == content


def test_a_413_tells_the_limit(file, store, content):
    """The part is sent again in smaller ones. Without a limit, they are half as long."""
    with ietf_server() as (ietf, server):
        ietf.then("PATCH", status(413, b"", "Upload-Limit: max-append-size=2000000"), status(413))
        run(resumable(server, file, store))
        sizes = [int(each.header("Content-Length")) for each in ietf.asked if each.method == "PATCH"]
        assert sizes == [len(content), 2000000, 1000000, 1000000, 1000000, len(content) - 3000000]
        assert bytes(ietf.only.content) == content


def test_a_small_file_that_is_too_much_for_the_post_goes_in_a_part(store, content):
    """The upload that its POST has made is discarded."""

    def too_large(connection, asked, ietf):
        ietf.begin(connection, asked)
        read_body(connection, asked)
        connection.respond(413)

    with ietf_server() as (ietf, server):
        ietf.then("POST", too_large)
        run(resumable(server, content[:1000], store))
        assert ietf.methods_asked == ["POST", "DELETE", "POST", "PATCH"]
        assert bytes(ietf.only.content) == content[:1000]


def test_a_file_that_is_too_long_for_the_server_is_an_error(file, tmp_path):
    """The upload is discarded, and no byte is sent."""
    store = FileStore(tmp_path / "state")
    with ietf_server() as (ietf, server):
        ietf.limits = "max-size=1000"
        with pytest.raises(ValueError, match="file: the server takes at most 1000 bytes in an upload"):
            run(resumable(server, file, store))
        assert ietf.methods_asked == ["POST", "DELETE"]
    assert store.uploads() == []


def test_chunks_that_are_too_small_for_the_server_are_an_error(file, store):
    """The error names the argument."""
    with ietf_server() as (ietf, server):
        ietf.limits = "min-append-size=5000"
        with pytest.raises(ValueError, match="chunk_size: the server takes at least 5000 bytes in a request"):
            run(resumable(server, file, store, chunk_size=4999))
        assert ietf.methods_asked == ["POST"]


@pytest.mark.parametrize(
    "limits", ["max-append-size=1.5, max-size=1", "max-append-size, max-size=1", "max-size=-1"]
)
def test_limits_of_another_type_are_ignored(file, store, limits):
    """All of them."""
    with ietf_server() as (ietf, server):
        ietf.limits = limits
        run(resumable(server, file, store))
        assert ietf.methods_asked == ["POST", "PATCH"]


def test_the_age_is_remembered(file, tmp_path):
    """It is counted from the response on."""
    store = FileStore(tmp_path / "state")
    with ietf_server() as (ietf, server):
        ietf.limits = "max-age=3600"
        ietf.then("PATCH", broken_after(MIB))
        with pytest.raises(httpx.NetworkError):
            resumable(server, file, store).run()
    (kept,) = store.uploads()
    assert abs(kept.expires - time.time() - 3600) < 600
