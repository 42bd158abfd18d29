"""Forms by the draft of the IETF: what goes on is the form, with the same boundary and fields."""

from __future__ import annotations

import hashlib

import httpx
import pytest
from reactivex import operators as ops
from support.command_line import parse_form
from support.ietf_server import DONE, broken_after, ietf_server
from support.recording_observer import observe
from support.resumable_uploads import check_passes, outcome_of
from support.scripted_server import Server

import rxupload
from rxupload import File, receiver
from rxupload.resumable import FileStore, IetfResumable, Tus, upload_resumable

FORM = IetfResumable(form="photo")
FIELDS = {"album": "söm\nmer", "token": b"\0\xff"}
MIB = 1 << 20


def resumable(server, file, store, **options):
    options = {"protocol": FORM, "metadata": FIELDS, **options}
    return upload_resumable(f"{server.url}photos", file, store=store, **options)


def body_of_upload(file, **options):
    """What `upload()` sends, and its Content-Type."""
    sent = []

    def script(connection):
        head = connection.read_head()
        sent.append((head, connection.read_body()))
        connection.respond()

    with Server(script) as server:
        rxupload.upload(server.url, file, name="photo", form_data=FIELDS, **options).run()
    return sent[0]


def without_boundary(body: bytes) -> bytes:
    """The body with the same word for each boundary."""
    boundary = body.partition(b"\r\n")[0]
    assert len(boundary) > 20
    return body.replace(boundary, b"--B")


@pytest.mark.parametrize("count", [0, 1, 1000, 3 * MIB])
@pytest.mark.parametrize("chunk_size", [None, 70_000, 100])
def test_the_form_is_that_of_upload(tmp_path, store, content, count, chunk_size):
    """To the byte, whole or in parts, of which one may end anywhere."""
    if chunk_size == 100:
        count = min(count, 1000)
    (tmp_path / "beach.jpg").write_bytes(content[:count])
    with ietf_server() as (ietf, server):
        observed, _ = observe(resumable(server, tmp_path / "beach.jpg", store, chunk_size=chunk_size))
        observed.wait()
        assert observed.response.content == DONE
        _, body = body_of_upload(tmp_path / "beach.jpg")
        assert without_boundary(bytes(ietf.only.content)) == without_boundary(body)
        assert ietf.only.content_type.startswith("multipart/form-data; boundary=")
        assert ietf.only.disposition is None
        assert ietf.methods_asked[0] == "POST"
    check_passes(observed.progress)
    assert {each.total for each in observed.progress} == {len(body)}


def test_a_source_without_a_name_is_a_file_all_the_same(store):
    """As with `upload()`."""
    with ietf_server() as (ietf, server):
        resumable(server, b"bytes", store).run()
        _, body = body_of_upload(b"bytes")
        assert without_boundary(bytes(ietf.only.content)) == without_boundary(body)


@pytest.mark.parametrize("kept", [0, 10, 500, MIB, "end"])
def test_a_form_goes_on_wherever_it_broke(file, tmp_path, content, kept):
    """In a field, in the file, behind it: what is sent next fits to the byte."""
    store = FileStore(tmp_path / "state")
    with ietf_server() as (ietf, server):
        total = len(body_of_upload(file)[1])
        kept = total - 10 if kept == "end" else kept
        ietf.then("PATCH", broken_after(max(kept, 1), kept=kept))
        with pytest.raises(httpx.NetworkError):
            resumable(server, file, store).run()
        up = resumable(server, file, store, digest="sha256")
        response = up.run()
        assert ietf.methods_asked == ["POST", "PATCH", "HEAD", "PATCH"]
        head = f"POST / HTTP/1.1\r\nContent-Type: {ietf.only.content_type}\r\n\r\n".encode()
        album, token, photo = parse_form(head, bytes(ietf.only.content))
    assert (album.name, album.content) == ("album", "söm\r\nmer".encode())
    assert (token.name, token.content) == ("token", b"\0\xff")
    assert (photo.name, photo.filename, photo.content) == ("photo", "video.mp4", content)
    assert (outcome_of(response).resumed_at, outcome_of(response).sent_now) == (kept, total - kept)
    assert response.extensions["rxupload"]["digests"] == [hashlib.sha256(content).hexdigest()]
    assert store.uploads() == []


@pytest.mark.parametrize(("first", "second"), [(None, "photo"), ("photo", None)])
def test_a_form_is_another_upload_than_its_file(file, store, content, first, second):
    """Also at a server that does not tell the length."""
    with ietf_server() as (ietf, server):
        ietf.tells_length = False
        ietf.then("PATCH", broken_after(MIB))
        with pytest.raises(httpx.NetworkError):
            resumable(server, file, store, protocol=IetfResumable(form=first), metadata=None).run()
        resumable(server, file, store, protocol=IetfResumable(form=second), metadata=None).run()
        assert ietf.methods_asked == ["POST", "PATCH", "POST", "DELETE", "PATCH"]
        assert (bytes(ietf.only.content) == content) == (second is None)
        assert content in bytes(ietf.only.content)


@pytest.mark.parametrize(
    "change", [{"protocol": IetfResumable(form="other")}, {"filename": "b.mp4"}, {"content_type": "a/b"}]
)
def test_another_form_is_another_upload(file, store, content, change):
    """The old one is discarded, when the new one stands."""
    with ietf_server() as (ietf, server):
        ietf.then("PATCH", broken_after(MIB))
        with pytest.raises(httpx.NetworkError):
            resumable(server, file, store).run()
        assert resumable(server, file, store, **change).run().content == DONE
        assert ietf.methods_asked == ["POST", "PATCH", "POST", "DELETE", "PATCH"]
        assert content in bytes(ietf.only.content)


def test_another_file_is_another_upload(file, store, content):
    """A form is no mixture of two files."""
    with ietf_server() as (ietf, server):
        ietf.then("PATCH", broken_after(MIB))
        with pytest.raises(httpx.NetworkError):
            resumable(server, file, store).run()
        changed = content[:-1] + bytes([content[-1] ^ 1])
        file.write_bytes(changed)
        resumable(server, file, store).run()
        assert ietf.methods_asked == ["POST", "PATCH", "POST", "DELETE", "PATCH"]
        assert changed in bytes(ietf.only.content)


def test_a_source_that_is_read_once_goes_in_chunks_of_the_form(store, content):
    """If its size is known. A part of it is kept."""
    with ietf_server() as (ietf, server):
        source = File(iter([content[:MIB], content[MIB : 2 * MIB]]), size=2 * MIB)
        resumable(server, source, store, chunk_size=100_000).run()
        assert content[: 2 * MIB] in bytes(ietf.only.content)
        assert ietf.only.is_complete


def test_a_source_that_can_be_read_again_has_to_begin_as_it_did(store, content):
    """What the server has of the form is compared with what the file begins with."""
    first = [content[0:1]]
    with ietf_server() as (ietf, server):
        ietf.then("PATCH", None, broken_after(MIB // 2))
        source = File(lambda: iter([first[0], content[1 : 2 * MIB]]), size=2 * MIB)
        up = resumable(server, source, store, chunk_size=MIB)
        with pytest.raises(httpx.NetworkError):
            up.run()
        first[0] = b"?"
        up.run()
        assert ietf.methods_asked[3:6] == ["POST", "DELETE", "PATCH"]
        assert b"?" + content[1 : 2 * MIB] in bytes(ietf.only.content)


def test_a_source_of_unknown_size_is_an_error(store, content):
    """Nothing is sent."""
    with ietf_server() as (ietf, server):
        with pytest.raises(ValueError, match="file: a form needs a file of known size"):
            resumable(server, lambda: iter([content]), store, chunk_size=MIB).run()
        assert ietf.asked == []


@pytest.mark.parametrize(("name", "error"), [("", ValueError), (1, TypeError)])
def test_the_field_has_a_name(name, error):
    """The error names the argument."""
    with pytest.raises(error, match="form: "):
        IetfResumable(form=name)


def test_only_the_draft_has_forms():
    """Other protocols send the file as it is."""
    assert Tus().field is None


@pytest.mark.parametrize("count", [200_000, 3_000_000])
def test_a_form_goes_on_at_the_receiver(tmp_path, content, count):
    """It is answered as an ordinary form."""
    (tmp_path / "beach.jpg").write_bytes(content[:count])
    store = FileStore(tmp_path / "state")
    options = {"protocol": FORM, "metadata": {"album": "summer"}, "store": store}
    with receiver.running(tmp_path / "inbox") as url:
        limits = {"rate_limit": count // 4, "progress_interval": 0}
        up = upload_resumable(url, tmp_path / "beach.jpg", **limits, **options)
        # The receiver may name the upload later than the first bytes go.
        is_past = ops.take_while(lambda item: item.sent < count // 8 or not store.uploads(), inclusive=True)
        rxupload.run(up.progress.pipe(is_past))
        response = upload_resumable(url, tmp_path / "beach.jpg", **options).run()
    assert outcome_of(response).resumed_at > 0
    assert response.json()["fields"] == {"album": "summer"}
    (found,) = response.json()["files"]
    assert (found["name"], found["filename"], found["content_type"]) == ("photo", "beach.jpg", "image/jpeg")
    assert found["sha256"] == hashlib.sha256(content[:count]).hexdigest()
