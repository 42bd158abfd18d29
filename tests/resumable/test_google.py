"""Google's resumable protocol over real sockets: a session, ranges, 308, and what each status leads to."""

from __future__ import annotations

import time

import httpx
import pytest
from support.google_server import (
    CHUNK,
    broken_after,
    endpoint,
    google_server,
    partial,
    status,
    unanswered,
)
from support.recording_observer import observe
from support.resumable_uploads import check_passes, outcome_of, run
from support.scripted_server import Server

import rxupload
from rxupload import File
from rxupload.operators import retry_backoff
from rxupload.resumable import FileStore, GoogleResumable, Tus, upload_resumable

GOOGLE = GoogleResumable()
HUNTER = "hunter2"


def resumable(server, file, store, **options):
    return upload_resumable(endpoint(server), file, protocol=GOOGLE, store=store, **options)


@pytest.fixture
def begun(file, store):
    """A server that has the first two chunks of an upload whose connection broke, and that upload."""
    with google_server() as (google, server):
        google.then("PUT", broken_after(2 * CHUNK + 5, kept=2 * CHUNK))
        up = resumable(server, file, store)
        with pytest.raises(httpx.NetworkError):
            up.run()
        google.asked.clear()
        yield google, up


# Creating and sending


def test_a_session_is_made_and_the_file_is_sent(file, store, content):
    """The POST has the resource as JSON, and the file's type and size. One PUT sends all of it."""
    with google_server() as (google, server):
        response = run(resumable(server, file, store))
        assert google.kinds == ["POST", "PUT"]
        post = google.asked[0]
        assert post.path == "/upload/o?uploadType=resumable"
        assert post.header("Content-Type") == "application/json; charset=UTF-8"
        assert google.ranges == [f"bytes 0-{len(content) - 1}/{len(content)}"]
        assert google.asked[1].header("Content-Type") == "video/mp4"
        session = google.only
        assert (session.resource, session.total) == ({"name": "video.mp4"}, len(content))
        assert session.content_type == "video/mp4"
        assert bytes(session.content) == content
    assert response.json() == {"kind": "storage#object"}
    assert outcome_of(response).url.endswith("upload_id=secret0")
    assert (outcome_of(response).resumed_at, outcome_of(response).sent_now) == (0, len(content))


def test_the_metadata_is_the_resource_as_it_is(file, store):
    """Values may be what JSON has, nothing is added, and what the caller changes later does not count."""
    resource = {"snippet": {"title": "Sömmer", "tags": ["a"]}, "status": {"embeddable": True}, "n": None}
    with google_server() as (google, server):
        up = resumable(server, file, store, metadata=resource)
        resource["snippet"]["tags"].append("b")
        run(up)
        assert google.only.resource == {**resource, "snippet": {"title": "Sömmer", "tags": ["a"]}}


@pytest.mark.parametrize("value", [b"bytes", object(), float("nan")])
def test_metadata_that_json_has_not_is_an_error_at_the_call(file, value):
    """The error names the argument."""
    with pytest.raises(TypeError, match="metadata: expected values that JSON has"):
        upload_resumable("http://localhost/", file, protocol=GOOGLE, metadata={"a": value})


def test_metadata_of_tus_stays_text(file):
    """Only a protocol that sends JSON takes its values."""
    with pytest.raises(TypeError, match="metadata: expected str or bytes as values, got dict"):
        upload_resumable("http://localhost/", file, protocol=Tus(), metadata={"a": {}})


def test_chunks_are_sent_one_after_the_other_in_one_pass(file, store, content):
    """Each 308 is followed by the next part. It is no new pass, whatever had been acknowledged when it came."""
    with google_server() as (google, server):
        observed, _ = observe(resumable(server, file, store, chunk_size=4 * CHUNK, progress_interval=0))
        observed.wait()
        total = len(content)
        assert google.ranges == [
            f"bytes 0-{4 * CHUNK - 1}/{total}",
            f"bytes {4 * CHUNK}-{8 * CHUNK - 1}/{total}",
            f"bytes {8 * CHUNK}-{12 * CHUNK - 1}/{total}",
            f"bytes {12 * CHUNK}-{total - 1}/{total}",
        ]
        assert bytes(google.only.content) == content
    check_passes(observed.progress)
    assert {each.attempt for each in observed.progress} == {1}
    assert {4 * CHUNK, 8 * CHUNK, 12 * CHUNK, total} <= {each.sent for each in observed.progress}
    assert outcome_of(observed.response).sent_now == total


@pytest.mark.parametrize("chunk_size", [1, CHUNK - 1, CHUNK + 1, 1000 * 1000])
def test_a_chunk_that_is_no_multiple_of_256_kib_is_an_error_at_the_call(file, chunk_size):
    """Only the last part may have another size, and that one is cut by the library."""
    with pytest.raises(ValueError, match="chunk_size: must be a multiple of 262144 bytes for google"):
        upload_resumable("http://localhost/", file, protocol=GOOGLE, chunk_size=chunk_size)


def test_an_empty_file_has_a_put_without_bytes(tmp_path, store):
    """A session ends only with a PUT. Its Content-Range is that of nothing."""
    (tmp_path / "empty").touch()
    with google_server() as (google, server):
        response = run(resumable(server, tmp_path / "empty", store))
        assert google.ranges == ["bytes */0"]
        assert google.only.is_whole
    assert response.status_code == 200


@pytest.mark.parametrize("count", [0, 1, CHUNK, 2 * CHUNK, 2 * CHUNK + 1])
def test_a_source_of_unknown_size_names_the_total_with_its_last_part(store, content, count):
    """Before that, the total is a star. One chunk is read ahead, so that the last one is known to be that."""

    def source():
        yield from (content[at : min(at + 1000, count)] for at in range(0, count, 1000))

    with google_server() as (google, server):
        run(resumable(server, source, store, chunk_size=CHUNK))
        assert bytes(google.only.content) == content[:count]
        assert google.only.is_whole
        assert [each.rpartition("/")[2] for each in google.ranges] == ["*"] * (len(google.ranges) - 1) + [
            str(count)
        ]


def test_a_source_without_a_name_has_an_empty_resource(store):
    """A type that nobody knows is that of any bytes."""
    with google_server() as (google, server):
        run(resumable(server, b"bytes", store))
        assert google.only.resource == {}
        assert google.only.content_type == "application/octet-stream"


def test_a_given_name_is_the_resource(store):
    """It is that of the argument."""
    with google_server() as (google, server):
        run(resumable(server, File(b"bytes", filename="ü.txt"), store))
        assert google.only.resource == {"name": "ü.txt"}
        assert google.only.content_type == "text/plain"


@pytest.mark.parametrize(
    ("code", "headers", "text"),
    [(200, (), "without a valid Location"), (204, ("Location: /x",), "204, and not with 200")],
)
def test_a_server_that_speaks_something_else_is_an_error(file, store, code, headers, text):
    """Nothing is sent to it."""
    with google_server() as (google, server):
        google.then("POST", status(code, b"", *headers))
        with pytest.raises(httpx.RemoteProtocolError, match=text):
            run(resumable(server, file, store))
        assert google.kinds == ["POST"]


def test_a_refused_session_is_the_response(file, store):
    """So is any other status of the POST."""
    with google_server() as (google, server):
        google.then("POST", 401)
        assert run(resumable(server, file, store)).status_code == 401
        assert google.kinds == ["POST"]


# Going on


def test_the_next_subscription_goes_on_after_the_range(begun, content):
    """A PUT without content asks. What follows the Range of its 308 is sent."""
    google, up = begun
    response = run(up)
    total = len(content)
    assert google.kinds == ["ask", "PUT"]
    assert google.ranges == [f"bytes */{total}", f"bytes {2 * CHUNK}-{total - 1}/{total}"]
    assert bytes(google.only.content) == content
    assert outcome_of(response).resumed_at == 2 * CHUNK


def test_a_308_without_a_range_means_that_nothing_has_arrived(file, store, content):
    """The upload goes on from its first byte, in the same session."""
    with google_server() as (google, server):
        google.then("PUT", broken_after(CHUNK, kept=0))
        up = resumable(server, file, store)
        with pytest.raises(httpx.NetworkError):
            up.run()
        response = run(up)
        assert google.kinds == ["POST", "PUT", "ask", "PUT"]
        assert bytes(google.only.content) == content
    assert outcome_of(response).resumed_at == 0


def test_a_308_with_less_than_was_sent_goes_on_there(file, store, content):
    """Google may keep fewer bytes of a part than it has got."""
    with google_server() as (google, server):
        google.then("PUT", partial(CHUNK))
        run(resumable(server, file, store, chunk_size=2 * CHUNK))
        assert google.ranges[1].startswith(f"bytes {CHUNK}-{3 * CHUNK - 1}/")
        assert bytes(google.only.content) == content


@pytest.mark.parametrize("library", [rxupload.Client, httpx.Client])
def test_308_is_no_redirect_even_with_a_location(file, store, content, library):
    """A client that follows redirects stays with the session, and sends nothing twice."""
    with google_server() as (google, server), library(follow_redirects=True) as client:
        google.extra = [f"Location: {server.url}elsewhere/secret"]
        run(resumable(server, file, store, chunk_size=8 * CHUNK, client=client))
        assert {each.path for each in google.asked[1:]} == set(google.sessions)
        assert bytes(google.only.content) == content


def test_an_upload_that_is_whole_ends_with_the_answer_to_the_question(file, store, content):
    """If only the last response was lost, the server answers 200 to the question, with the object."""
    with google_server() as (google, server):
        google.then("PUT", unanswered)
        up = resumable(server, file, store)
        with pytest.raises(httpx.NetworkError):
            up.run()
        response = run(up)
        assert google.kinds == ["POST", "PUT", "ask"]
    assert response.json() == {"kind": "storage#object"}
    assert (outcome_of(response).resumed_at, outcome_of(response).sent_now) == (len(content), 0)


@pytest.mark.parametrize("is_longer", [False, True])
def test_a_whole_upload_of_unknown_size_is_one_of_this_source_only(store, content, is_longer):
    """The source has to end where the server says that it has all. One that goes on is another one."""
    more = [b""]
    parts = [content[:CHUNK], content[CHUNK : 2 * CHUNK]]
    with google_server() as (google, server):
        google.then("PUT", None, unanswered)
        up = resumable(server, lambda: iter([*parts, *more]), store, chunk_size=CHUNK)
        with pytest.raises(httpx.NetworkError):
            up.run()
        if is_longer:
            more.append(b"more")
        run(up)
        assert google.kinds[:4] == ["POST", "PUT", "PUT", "ask"]
        assert google.ranges[2] == "bytes */*"
        assert bytes([*google.sessions.values()][-1].content) == b"".join([*parts, *more])
        assert len(google.kinds) == (9 if is_longer else 4)


# Statuses


@pytest.mark.parametrize("code", [500, 502, 503, 504])
def test_a_5xx_of_a_part_asks_for_the_range_and_goes_on(file, store, content, code):
    """Within the same subscription."""
    with google_server() as (google, server):
        google.then("PUT", None, code)
        response = run(resumable(server, file, store, chunk_size=8 * CHUNK))
        assert google.kinds == ["POST", "PUT", "PUT", "ask", "PUT"]
        assert bytes(google.only.content) == content
        assert response.status_code == 200


def test_a_server_that_answers_5xx_only_is_an_error_after_some_time(begun):
    """The session is remembered, and a later attempt goes on with it."""
    google, up = begun
    google.then("PUT", *[503] * 100)
    with pytest.raises(httpx.HTTPStatusError) as caught:
        run(up)
    assert caught.value.response.status_code == 503
    assert google.kinds.count("PUT") <= 10
    google.answers.clear()
    assert run(up).status_code == 200
    assert len(google.sessions) == 1


@pytest.mark.parametrize("code", [429, 500, 503])
def test_an_error_of_the_question_is_for_retry_backoff(begun, content, code):
    """It never begins a new session."""
    google, up = begun
    google.then("ask", code)
    assert rxupload.run(up.pipe(retry_backoff(wait_initial=0, wait_jitter=0))).status_code == 200
    assert google.kinds == ["ask", "ask", "PUT"]
    assert bytes(google.only.content) == content


@pytest.mark.parametrize("code", [404, 410])
@pytest.mark.parametrize("kind", ["ask", "PUT"])
def test_a_session_that_is_gone_begins_anew_once(begun, content, code, kind):
    """A session lasts a week. The second one that is gone is the response."""
    google, up = begun
    google.then(kind, code)
    assert run(up).status_code == 200
    assert google.kinds.count("POST") == 1
    assert bytes([*google.sessions.values()][-1].content) == content


def test_a_session_that_is_gone_at_once_is_the_response(file, store):
    """Nothing begins anew without end."""
    with google_server() as (google, server):
        google.then("PUT", 404)
        assert run(resumable(server, file, store)).status_code == 404
        assert google.kinds == ["POST", "PUT"]


def test_a_403_begins_anew_but_forgets_nothing_before(begun, content):
    """It may be a token that has expired. If no session can be made, the old one is still remembered."""
    google, up = begun
    google.then("ask", 403)
    google.then("POST", 403)
    assert run(up).status_code == 403
    assert google.kinds == ["ask", "POST"]
    assert outcome_of(run(up)).resumed_at == 2 * CHUNK
    assert bytes(google.only.content) == content


@pytest.mark.parametrize("reason", [b"userRateLimitExceeded", b"rateLimitExceeded", b"quotaExceeded"])
def test_a_403_for_too_many_requests_is_the_response(begun, reason):
    """The session lives on."""
    google, up = begun
    google.then("ask", status(403, b'{"error": {"errors": [{"reason": "%s"}]}}' % reason))
    assert run(up).status_code == 403
    assert google.kinds == ["ask"]
    assert outcome_of(run(up)).resumed_at == 2 * CHUNK


def test_an_invalid_range_is_an_error(begun):
    """An offset is never guessed."""
    google, up = begun
    google.then("ask", status(308, b"", "Range: bytes=5-10"))
    with pytest.raises(httpx.RemoteProtocolError, match="invalid Range"):
        run(up)


def test_a_range_behind_the_file_is_of_another_one(begun, content):
    """A new session begins, and the other one is discarded."""
    google, up = begun
    google.then("ask", status(308, b"", f"Range: bytes=0-{len(content)}"))
    run(up)
    assert google.kinds == ["ask", "POST", "DELETE", "PUT"]
    assert bytes(google.only.content) == content


def test_discard_ends_the_session(begun):
    """Google's answer is 499. Then nothing is remembered."""
    google, up = begun
    assert rxupload.run(up.discard()).status_code == 499
    assert google.sessions == {}
    assert rxupload.run(up.discard()) is None


# The session's URI


@pytest.mark.parametrize("is_other", [False, True])
def test_another_host_gets_no_credentials(file, store, content, is_other):
    """The session's URI is enough. A session on the endpoint's own origin has them with each request."""
    with google_server() as (google, server), Server(google) as other:
        if is_other:
            google.location = lambda path: f"{other.url.rstrip('/')}{path}"
        google.then("PUT", broken_after(CHUNK))
        up = resumable(server, file, store, headers={"Authorization": f"Bearer {HUNTER}", "X-Trace": "1"})
        assert rxupload.run(up.pipe(retry_backoff(wait_initial=0, wait_jitter=0))).status_code == 200
        assert bytes(google.only.content) == content
        assert google.kinds == ["POST", "PUT", "ask", "PUT"]
        assert [HUNTER.encode() in each.head for each in google.asked] == [True, *[not is_other] * 3]
        other.errors.clear()


def test_the_uri_is_stored_for_a_week_and_shown_nowhere(file, tmp_path, caplog):
    """Only the state has it, beside the time when it ends. No credential is stored."""
    caplog.set_level(0)
    store = FileStore(tmp_path / "state")
    with google_server() as (google, server):
        google.then("PUT", broken_after(CHUNK))
        up = resumable(server, file, store, headers={"Authorization": HUNTER})
        with pytest.raises(httpx.NetworkError) as caught:
            up.run()
        (kept,) = store.uploads()
        assert abs(kept.expires - time.time() - 7 * 24 * 3600) < 3600
        state = next((tmp_path / "state").glob("*.json")).read_text()
        assert "upload_id=secret0" in state
        assert HUNTER not in state
        said = [str(caught.value), repr(caught.value), repr(up), repr(kept), str(caught.value.request.url)]
        said += [each.getMessage() for each in caplog.records if each.name == "rxupload"]
        response = up.run()
        said += [repr(response), repr(response.request), str(response.url), repr(outcome_of(response))]
    assert not [text for text in said if "secret" in text]
    assert store.uploads() == []


def test_a_server_that_keeps_nothing_is_an_error(file, store):
    """308 without a Range, again and again, is no redirect in its text either."""
    with google_server() as (google, server):
        google.then("PUT", *[partial(0)] * 100)
        with pytest.raises(httpx.RemoteProtocolError, match="offset stays at 0, whatever is sent"):
            run(resumable(server, file, store))
        assert google.kinds.count("PUT") <= 10
