"""104 (Upload Resumption Supported): it names an upload before its bytes go, and says how much has arrived."""

from __future__ import annotations

import threading

import httpx
import pytest
from reactivex.subject import BehaviorSubject
from support.http2_server import http2_context, speaking
from support.ietf_server import DONE, broken_after, ietf_server, take
from support.recording_observer import observe
from support.resumable_uploads import check_passes, outcome_of
from support.scripted_server import PATIENCE, Server, client_context
from support.tus_server import Gone, read_body

import rxupload
from rxupload import RedirectRefused
from rxupload.resumable import FileStore, IetfResumable, upload_resumable

IETF = IetfResumable()
MIB = 1 << 20


def resumable(server, file, store, **options):
    return upload_resumable(f"{server.url}photos", file, protocol=IETF, store=store, **options)


@pytest.fixture
def small(tmp_path, content):
    """A file that goes with the POST."""
    path = tmp_path / "small.bin"
    path.write_bytes(content[:250_000])
    return path


@pytest.fixture
def state(tmp_path):
    return FileStore(tmp_path / "state")


def test_an_upload_is_stored_before_more_bytes_go(small, state, content):
    """The server names it before any bytes go. When they come, the state has the address."""
    found = []
    pause = BehaviorSubject(True)

    def looking(connection, asked, ietf):
        kept = ietf.begin(connection, asked)
        pause.on_next(False)
        assert take(connection, asked, kept, 200_000) == 200_000
        found.extend(state.uploads())
        connection.reset()
        raise Gone

    with ietf_server() as (ietf, server):
        ietf.then("POST", looking)
        up = resumable(server, small, state, pause=pause)
        with pytest.raises(httpx.NetworkError):
            up.run()
        response = resumable(server, small, state).run()
        assert ietf.methods_asked == ["POST", "HEAD", "PATCH"]
        assert bytes(ietf.only.content) == content[:250_000]
    assert len(found) == 1
    assert response.content == DONE
    assert outcome_of(response).resumed_at == 200_000
    assert state.uploads() == []


@pytest.mark.parametrize("version", ["7", "9", ""])
def test_another_interop_version_names_nothing(small, state, version):
    """So a broken POST begins anew."""
    with ietf_server() as (ietf, server):
        ietf.version = version
        ietf.then("POST", broken_after(1000))
        with pytest.raises(httpx.NetworkError):
            resumable(server, small, state).run()
        assert state.uploads() == []
        assert resumable(server, small, state).run().content == DONE
        assert ietf.methods_asked == ["POST", "POST"]


@pytest.mark.parametrize(
    ("code", "headers", "is_kept"),
    [(500, (), True), (429, (), True), (400, (), False), (500, ("Upload-Complete: ?1",), False)],
)
def test_a_post_that_fails_after_its_104(small, state, code, headers, is_kept):
    """A status that may pass is a reason to go on with the upload, any other is not."""

    def failing(connection, asked, ietf):
        kept = ietf.begin(connection, asked)
        take(connection, asked, kept)
        connection.respond(code, b"", *headers)

    with ietf_server() as (ietf, server):
        ietf.then("POST", failing)
        assert resumable(server, small, state).run().status_code == code
        assert len(state.uploads()) == is_kept
        assert resumable(server, small, state).run().content == DONE
        assert ietf.methods_asked == ["POST", *(["HEAD", "PATCH"] if is_kept else ["POST"])]


def test_an_http_address_from_an_https_endpoint_is_refused(small, state):
    """Also in a 104. Nothing is stored."""

    def named(connection, asked, ietf):
        ietf.begin(connection, asked)
        connection.wait_for_end()
        raise Gone

    with ietf_server(tls=True) as (ietf, server), rxupload.Client(verify=client_context()) as client:
        ietf.location = lambda path: f"http://{server.host}:{server.port}{path}"
        ietf.then("POST", named)
        with pytest.raises(RedirectRefused, match="X-Forwarded-Proto") as caught:
            resumable(server, small, state, client=client).run()
        assert "secret" not in str(caught.value)
    assert state.uploads() == []


def test_sent_is_what_the_server_says(file, store, content):
    """From its first offset on, what the connection has taken does not count. The response proves the rest."""
    seen = {2_000_000: threading.Event(), 2_500_000: threading.Event()}

    def telling(connection, asked, ietf):
        kept = ietf.only
        ietf.inform(connection, "Upload-Offset: 2000000")
        assert seen[2_000_000].wait(PATIENCE)
        take(connection, asked, kept)
        ietf.inform(connection, "Upload-Offset: 2500000")
        assert seen[2_500_000].wait(PATIENCE)
        ietf.finish(connection, asked, kept)

    def look(item):
        if (event := seen.get(getattr(item, "sent", None))) is not None:
            event.set()

    with ietf_server(receive_buffer=64 * 1024) as (ietf, server):
        ietf.then("PATCH", telling)
        observed, _ = observe(resumable(server, file, store, progress_interval=0), look)
        observed.wait()
    check_passes(observed.progress)
    assert [each.sent for each in observed.progress if each.sent >= 2_000_000] == [
        2_000_000,
        2_500_000,
        len(content),
    ]
    assert outcome_of(observed.response).sent_now == len(content)


@pytest.mark.parametrize("offset", ["0", "-1", "x", str(1 << 40)])
def test_an_offset_that_cannot_be_says_nothing(file, store, content, offset):
    """It neither moves `sent` nor stops it."""

    def telling(connection, asked, ietf):
        ietf.inform(connection, f"Upload-Offset: {offset}")
        ietf.answer(connection, asked)

    with ietf_server() as (ietf, server):
        ietf.then("PATCH", telling)
        observed, _ = observe(resumable(server, file, store))
        observed.wait()
        assert bytes(ietf.only.content) == content
    check_passes(observed.progress)
    assert observed.progress[-1].sent == len(content)


def test_other_informational_responses_say_nothing(small, state):
    """103 (Early Hints) may have a Location of its own."""

    def hinting(connection, asked, ietf):
        connection.send(b"HTTP/1.1 103 Early Hints\r\nLocation: /other\r\n\r\n")
        read_body(connection, asked)
        connection.reset()
        raise Gone

    with ietf_server() as (ietf, server):
        ietf.then("POST", hinting)
        with pytest.raises(httpx.NetworkError):
            resumable(server, small, state).run()
    assert state.uploads() == []


def test_a_source_that_changes_after_a_broken_post_is_another_one(store, content):
    """What had been sent by then is compared, though no response had come. An upload is no mixture of two sources."""
    first = [b"A"]
    with ietf_server() as (ietf, server):
        ietf.then("POST", broken_after(1000))
        up = resumable(server, lambda: iter([first[0], content[:100_000]]), store, chunk_size=MIB)
        with pytest.raises(httpx.NetworkError):
            up.run()
        first[0] = b"B"
        assert up.run().content == DONE
        assert ietf.methods_asked == ["POST", "POST", "DELETE"]
        assert bytes(ietf.only.content) == b"B" + content[:100_000]


def test_a_server_that_names_two_addresses_is_an_error(file, state):
    """Nobody could tell which one it means. The upload is discarded."""

    def naming(connection, asked, ietf):
        kept = ietf.begin(connection, asked)
        ietf.location = lambda path: "/another"
        ietf.finish(connection, asked, kept)

    with ietf_server() as (ietf, server):
        ietf.then("POST", naming)
        with pytest.raises(httpx.RemoteProtocolError, match="names two addresses"):
            resumable(server, file, state).run()
        assert ietf.methods_asked == ["POST", "DELETE"]
        assert ietf.uploads == {}
    assert state.uploads() == []


def test_104_is_heard_over_http2(small, state, content):
    """The upload is stored, and goes on."""
    kept = bytearray()
    asked = []
    version = ("upload-draft-interop-version", "8")

    def script(talk):
        while stream := talk.request():
            request = talk.requests[stream]
            asked.append(request[":method"])
            if request[":method"] == "POST":
                talk.state.send_headers(
                    stream, [(":status", "104"), version, ("location", "/uploads/secret")]
                )
                talk.flush()
                talk.read_until(lambda: len(talk.bodies[stream]) >= 150_000)
                kept.extend(talk.bodies[stream])
                talk.connection.sock.close()
                return
            body = talk.body(stream)
            if request[":method"] == "HEAD":
                offset = ("upload-offset", str(len(kept)))
                talk.respond(stream, 204, b"", offset, ("upload-complete", "?0"))
            else:
                kept.extend(body)
                talk.respond(stream, 200, DONE, ("upload-complete", "?1"))

    with (
        Server(speaking(script), tls=http2_context()) as server,
        rxupload.Client(verify=client_context(), http2=True) as client,
    ):
        up = resumable(server, small, state, client=client)
        with pytest.raises(httpx.NetworkError):
            up.run()
        assert len(state.uploads()) == 1
        assert up.run().content == DONE
        server.errors.clear()
    assert asked == ["POST", "HEAD", "PATCH"]
    assert bytes(kept) == content[:250_000]
