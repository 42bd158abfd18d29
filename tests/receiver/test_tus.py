"""tus 1.0.0, request by request: what is stored, and what is answered."""

from __future__ import annotations

import base64
import hashlib

import pytest
from support.forms import CLOSING, FORM, file_part
from support.tus import BYTES_OF, finished, hidden, is_token, metadata, named

MIB4 = 2**22  # the receiver's limit


def checksum(name, content):
    return f"{name} {base64.b64encode(hashlib.new(name, content).digest()).decode()}"


# A whole upload


def test_an_upload_in_two_requests_becomes_a_file(tus, inbox):
    """The file gets its name with the last byte. Until then the directory has hidden files only."""
    created = tus.post(Upload_Length=10, **named("beach.jpg"))
    url = created.headers["Location"]
    first = tus.patch(url, 0, b"01234")
    assert finished(inbox) == {}
    between = tus.head(url)
    second = tus.patch(url, 5, b"56789")

    assert (created.status_code, created.content) == (201, b"")
    assert is_token(url)
    assert (first.status_code, first.headers["Upload-Offset"]) == (204, "5")
    assert (between.status_code, between.headers["Upload-Offset"], between.headers["Upload-Length"]) == (
        200,
        "5",
        "10",
    )
    assert between.headers["Cache-Control"] == "no-store"
    assert (second.status_code, second.headers["Upload-Offset"]) == (204, "10")
    assert {each.headers["Tus-Resumable"] for each in (created, first, between, second)} == {"1.0.0"}
    assert finished(inbox) == {"beach.jpg": b"0123456789"}


def test_a_finished_upload_is_still_known(tus, inbox):
    """A client that missed the last response learns that its upload is whole, and may send nothing once more."""
    url = tus.created(5, b"01234")

    head = tus.head(url)
    again = tus.patch(url, 5)
    more = tus.patch(url, 5, b"5")

    assert (head.headers["Upload-Offset"], head.headers["Upload-Length"]) == ("5", "5")
    assert "Upload-Expires" not in head.headers
    assert (again.status_code, again.headers["Upload-Offset"]) == (204, "5")
    assert more.status_code == 413
    assert finished(inbox) == {"upload": b"01234"}


@pytest.mark.parametrize("deferred", [False, True])
def test_an_empty_upload_is_a_file(tus, inbox, deferred):
    """It is whole when it is created, or when its length is known."""
    url = tus.created(None if deferred else 0, **named("empty.txt"))
    if deferred:
        assert tus.patch(url, 0, Upload_Length=0).status_code == 204

    assert tus.offset(url) == 0
    assert finished(inbox) == {"empty.txt": b""}


def test_a_length_may_come_later(tus, inbox):
    """Until then HEAD says that it is deferred. Afterwards it cannot change."""
    url = tus.created()
    assert tus.patch(url, 0, b"012").status_code == 204
    before = tus.head(url).headers
    assert tus.patch(url, 3, b"3", Upload_Length=5).status_code == 204
    after = tus.head(url).headers
    other = tus.patch(url, 4, b"4", Upload_Length=6)
    assert tus.patch(url, 4, b"4", Upload_Length=5).status_code == 204

    assert (before["Upload-Defer-Length"], before.get("Upload-Length")) == ("1", None)
    assert (after.get("Upload-Defer-Length"), after["Upload-Length"]) == (None, "5")
    assert other.status_code == 400
    assert finished(inbox) == {"upload": b"01234"}


@pytest.mark.parametrize("content", [b"01234", b"0123456789"])
def test_the_creation_may_have_bytes(tus, inbox, content):
    """The response says how many are stored."""
    response = tus.post(content, Upload_Length=10, **BYTES_OF)

    assert (response.status_code, response.headers["Upload-Offset"]) == (201, str(len(content)))
    assert tus.offset(response.headers["Location"]) == len(content)
    assert finished(inbox) == ({"upload": content} if len(content) == 10 else {})


def test_any_path_creates_uploads(tus, client, url, inbox):
    """Where Tus-Resumable is sent, the path is free. Forms work on /files as everywhere."""
    response = tus.post(url="/any/path", Upload_Length=0, **named("tus"))
    form = client.post(url + "files", content=file_part("form", b"content") + CLOSING, headers=FORM)

    assert response.status_code == 201
    assert is_token(response.headers["Location"])
    assert form.json()["files"][0]["filename"] == "form"
    assert finished(inbox) == {"tus": b"", "form": b"content"}


def test_metadata_comes_back_as_it_was_sent(tus):
    """HEAD repeats the header."""
    value = metadata(filename="海滩.jpg", filetype="image/jpeg") + ",is_confidential"
    url = tus.created(1, Upload_Metadata=value)

    assert tus.head(url).headers["Upload-Metadata"] == value


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"filename": "beach.jpg"}, "beach.jpg"),
        ({"filename": "海滩 🏖.jpg"}, "海滩 🏖.jpg"),
        ({"filename": "../../etc/passwd"}, "passwd"),
        ({"filename": "a\0b\r\n.txt"}, "a_b__.txt"),
        ({"filename": "NUL"}, "_NUL"),
        ({"name": "beach.jpg", "type": "image/jpeg"}, "beach.jpg"),
        ({"filename": "beach", "filetype": "image/jpeg"}, "beach"),
        ({"filetype": "image/jpeg"}, "upload.jpg"),
        ({"filetype": "text/plain; charset=utf-8"}, "upload.txt"),
        ({"filetype": "../x"}, "upload"),
        ({}, "upload"),
    ],
)
def test_the_metadata_names_the_file(tus, inbox, values, name):
    """The name is as safe as that of a form's file."""
    tus.created(1, b"x", Upload_Metadata=metadata(**values))

    assert finished(inbox) == {name: b"x"}


def test_a_file_never_replaces_another(tus, inbox):
    """A repeated name gets a number."""
    inbox.joinpath("beach.jpg").write_bytes(b"mine")
    tus.created(1, b"1", **named("beach.jpg"))
    tus.created(1, b"2", **named("beach.jpg"))

    assert finished(inbox) == {"beach.jpg": b"mine", "beach (1).jpg": b"1", "beach (2).jpg": b"2"}


def test_options_says_what_is_possible(client, url):
    """It needs no Tus-Resumable. Without a limit there is no Tus-Max-Size."""
    response = client.options(url + "files", headers={"Tus-Resumable": "0.2.2"})

    assert response.status_code == 204
    assert response.headers["Tus-Version"] == "1.0.0"
    assert set(response.headers["Tus-Extension"].split(",")) == {
        "creation",
        "creation-with-upload",
        "creation-defer-length",
        "expiration",
        "termination",
        "checksum",
        "concatenation",
    }
    assert response.headers["Tus-Checksum-Algorithm"] == "sha1,sha256"
    assert response.headers["Tus-Max-Size"] == str(MIB4)


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_another_method_may_be_meant(tus, inbox, method):
    """X-HTTP-Method-Override is for clients and proxies that know no PATCH, DELETE or HEAD."""
    url = tus.created(5)

    patch = tus.request(method, url, b"01234", X_HTTP_Method_Override="PATCH", Upload_Offset=0, **BYTES_OF)
    head = tus.request(method, url, X_HTTP_Method_Override="HEAD")
    delete = tus.request(method, url, X_HTTP_Method_Override="DELETE")

    assert (patch.status_code, head.status_code, delete.status_code) == (204, 200, 204)
    assert head.headers["Upload-Offset"] == "5"
    assert tus.head(url).status_code == 404
    assert finished(inbox) == {"upload": b"01234"}


def test_the_digest_of_the_whole_file_is_told_where_it_is_wanted(tus):
    """It is that of all bytes, also if they came in several requests."""
    url = tus.created(10, b"01234")
    response = tus.patch(url, 5, b"56789", Want_Repr_Digest="sha-256=1")

    digest = base64.b64encode(hashlib.sha256(b"0123456789").digest()).decode()
    assert response.headers["Repr-Digest"] == f"sha-256=:{digest}:"


# Checksums


@pytest.mark.parametrize("name", ["sha1", "sha256"])
@pytest.mark.parametrize("at_creation", [False, True])
def test_a_right_checksum_lets_the_bytes_in(tus, inbox, name, at_creation):
    """It may come with the creation, too."""
    header = {"Upload_Checksum": checksum(name, b"01234")}
    if at_creation:
        tus.created(5, b"01234", **header)
    else:
        assert tus.patch(tus.created(5), 0, b"01234", **header).status_code == 204

    assert finished(inbox) == {"upload": b"01234"}


def test_a_wrong_checksum_keeps_the_bytes_out(tus, inbox):
    """The answer is 460. The offset stays, and the right bytes are stored."""
    url = tus.created(10, b"01234")
    wrong = tus.patch(url, 5, b"XXXXX", Upload_Checksum=checksum("sha1", b"56789"))
    offset = tus.offset(url)
    right = tus.patch(url, 5, b"56789", Upload_Checksum=checksum("sha1", b"56789"))

    assert (wrong.status_code, offset, right.status_code) == (460, 5, 204)
    assert finished(inbox) == {"upload": b"0123456789"}


def test_a_creation_with_a_wrong_checksum_leaves_nothing(tus, inbox):
    """Its client gets no URL."""
    response = tus.post(b"XXXXX", Upload_Length=10, Upload_Checksum=checksum("sha1", b"01234"), **BYTES_OF)

    assert (response.status_code, response.headers.get("Location")) == (460, None)
    assert list(inbox.iterdir()) == []


@pytest.mark.parametrize("value", ["md5 AAAA", "sha1", "sha1 ?", "sha1 AAA", "SHA1 AAAA", ""])
def test_a_checksum_that_cannot_be_checked_is_a_400(tus, value):
    """Nothing is stored."""
    url = tus.created(5)

    assert tus.patch(url, 0, b"01234", Upload_Checksum=value).status_code == 400
    assert tus.offset(url) == 0


# Termination


def test_a_deleted_upload_is_gone(tus, inbox):
    """Nothing is left on the disk."""
    url = tus.created(10, b"01234")
    assert len(hidden(inbox)) == 2

    assert tus.delete(url).status_code == 204
    assert tus.head(url).status_code == 404
    assert tus.patch(url, 5, b"56789").status_code == 404
    assert tus.delete(url).status_code == 404
    assert list(inbox.iterdir()) == []


def test_the_deletion_of_a_finished_upload_leaves_its_file(tus, inbox):
    """The file is delivered. Only its URL is forgotten."""
    url = tus.created(5, b"01234")

    assert tus.delete(url).status_code == 204
    assert tus.head(url).status_code == 404
    assert {path.name for path in inbox.iterdir()} == {"upload"}
