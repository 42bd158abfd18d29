"""draft-ietf-httpbis-resumable-upload, interop version 8: any upload goes on, and is answered as an ordinary one."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re

import httpx
import pytest
from support.forms import CLOSING, FORM, PATIENCE, connected, file_part, has_ended, part
from support.tus import finished, hidden, is_token

from rxupload import receiver
from rxupload.receiver import ietf

BODY = part('name="title"', b"Summer") + file_part("beach.jpg", b"content") + CLOSING
AS_FORM = {"Content_Type": FORM["Content-Type"]}
PARTIAL = "application/partial-upload"


class IetfClient:
    """Sends the requests of the draft, and keeps each response with its interim ones."""

    def __init__(self, url):
        self.url = httpx.URL(url)

    def request(self, method, path="/", content=b"", *, length=None, version="8", **headers):
        """Send a request over a connection of its own. An underscore in a name stands for a hyphen."""
        with self.sending(method, path, content, length=length, version=version, **headers) as sock:
            return Responses(sock, method)

    @contextlib.contextmanager
    def sending(self, method, path="/", content=b"", *, length=None, version="8", **headers):
        """A connection over which the request has gone, or the beginning of its content if the length is more."""
        fields = {
            "Host": f"127.0.0.1:{self.url.port}",
            "Upload-Draft-Interop-Version": version,
            "Content-Length": len(content) if length is None else length,
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        lines = [f"{method} {path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in fields.items() if value is not None]
        with connected(self.url) as sock:
            sock.sendall("\r\n".join([*lines, "", ""]).encode() + content)
            yield sock

    def patch(self, path, offset, content=b"", complete="?0", **headers):
        """Add bytes."""
        fields = {"Upload_Offset": offset, "Upload_Complete": complete, "Content_Type": PARTIAL}
        return self.request("PATCH", path, content, **fields | headers)

    def created(self, content=b"", **headers):
        """Create an upload that goes on, and return its path."""
        return self.request("POST", "/", content, Upload_Complete="?0", **headers).headers["location"]

    def offset(self, path):
        return int(self.request("HEAD", path).headers["upload-offset"])


class Responses:
    """The responses to one request: those with 1xx, and the last one."""

    def __init__(self, sock, method="POST"):
        self.interim = []
        with sock.makefile("rb") as stream:
            while True:
                self.status = int(stream.readline().split()[1])
                self.headers = {}
                while line := stream.readline().strip():
                    name, _, value = line.decode().partition(": ")
                    self.headers[name.lower()] = value
                if self.status >= 200:
                    break
                self.interim.append((self.status, self.headers))
            has_no_content = method == "HEAD" or self.status == 204
            content = b"" if has_no_content else stream.read(int(self.headers.get("content-length", 0)))
        self.json = json.loads(content) if content else None


@pytest.fixture
def draft(url):
    """A client of the draft."""
    return IetfClient(url)


def test_a_whole_upload_is_answered_as_an_ordinary_one(draft, inbox):
    """A 104 tells the URL first. The last response says that it is complete."""
    response = draft.request("POST", "/any", BODY, Upload_Complete="?1", **AS_FORM)

    ((status, headers),) = response.interim
    assert status == 104
    assert is_token(headers["location"])
    assert headers["upload-draft-interop-version"] == "8"
    assert re.fullmatch(r"max-size=4194304, max-age=\d+", headers["upload-limit"])
    assert (response.status, response.headers["upload-complete"]) == (200, "?1")
    assert response.json["fields"] == {"title": "Summer"}
    assert [file["filename"] for file in response.json["files"]] == ["beach.jpg"]
    assert finished(inbox) == {"beach.jpg": b"content"}
    assert hidden(inbox, ".upload") == []


def test_a_form_goes_on_where_it_broke_off(draft, inbox, is_stored):
    """The parts of the form come in any number of requests."""
    with draft.sending("POST", "/", BODY[:50], length=len(BODY), Upload_Complete="?1", **AS_FORM) as sock:
        assert is_stored.wait(PATIENCE)
        path = re.search(rb"location: (\S+)", sock.recv(1000), re.IGNORECASE)[1].decode()
        head = draft.request("HEAD", path).headers
        assert has_ended(sock)
    more = draft.patch(path, 50, BODY[50:80])
    last = draft.patch(path, 80, BODY[80:], complete="?1")

    assert (head["upload-offset"], head["upload-complete"], head["upload-length"]) == (
        "50",
        "?0",
        str(len(BODY)),
    )
    assert head["cache-control"] == "no-store"
    assert "max-age" in head["upload-limit"]
    assert (more.status, more.headers["upload-complete"]) == (204, "?0")
    assert (last.status, last.headers["upload-complete"]) == (200, "?1")
    assert last.json["fields"] == {"title": "Summer"}
    assert finished(inbox) == {"beach.jpg": b"content"}


def test_a_file_of_its_own_is_named_by_its_disposition(draft, inbox):
    """Bytes that are no form are one file."""
    name = "attachment; filename=x; filename*=UTF-8''%E6%B5%B7%E6%BB%A9.jpg"
    fields = {"Content_Type": "image/jpeg", "Content_Disposition": name, "Want_Repr_Digest": "sha-256=1"}
    path = draft.created(b"01234", **fields)
    response = draft.patch(path, 5, b"56789", complete="?1")

    digest = hashlib.sha256(b"0123456789")
    assert response.json["files"] == [
        {
            "name": "",
            "filename": "海滩.jpg",
            "content_type": "image/jpeg",
            "size": 10,
            "sha256": digest.hexdigest(),
        }
    ]
    assert response.headers["repr-digest"] == f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
    assert finished(inbox) == {"海滩.jpg": b"0123456789"}


def test_an_upload_may_begin_empty(draft, inbox):
    """A client that hears no 104 gets the URL so. The same Location stands in all responses."""
    response = draft.request("POST", "/", Upload_Complete="?0", Upload_Length=5, Content_Type="text/plain")
    path = response.headers["location"]
    assert (response.status, response.headers["upload-complete"]) == (201, "?0")
    assert response.interim[0][1]["location"] == path
    done = draft.patch(path, 0, b"01234")
    assert (
        draft.request("HEAD", path).headers["upload-complete"] == "?0"
    )  # nobody has said that it is complete
    last = draft.patch(path, 5, complete="?1")

    assert (done.status, last.status) == (204, 200)
    assert finished(inbox) == {"upload.txt": b"01234"}


def test_a_response_that_was_missed_is_given_again(draft, inbox):
    """HEAD says that the upload is complete, and an empty PATCH gets its response."""
    path = draft.created(BODY[:50], **AS_FORM)
    first = draft.patch(path, 50, BODY[50:], complete="?1")
    head = draft.request("HEAD", path).headers
    second = draft.patch(path, len(BODY), complete="?1")

    assert (head["upload-complete"], head["upload-offset"]) == ("?1", str(len(BODY)))
    assert second.json == first.json
    assert finished(inbox) == {"beach.jpg": b"content"}


def test_interim_responses_say_how_much_is_stored(draft, monkeypatch, is_stored):
    """Each has the offset and the version, and no Location."""
    monkeypatch.setattr(ietf, "_TELL_EVERY", 0.0)
    path = draft.created()
    fields = {"Upload_Offset": 0, "Upload_Complete": "?0", "Content_Type": PARTIAL}
    with draft.sending("PATCH", path, b"01234", length=10, **fields) as sock:
        head = sock.recv(1000).decode().lower()
        sock.sendall(b"56789")
        last = Responses(sock, "PATCH")

    assert head.startswith("http/1.1 104 upload resumption supported\r\n")
    assert "\r\nupload-offset: 5\r\n" in head
    assert "\r\nupload-draft-interop-version: 8\r\n" in head
    assert "location" not in head
    assert [headers["upload-offset"] for _, headers in last.interim] == ["10"]
    assert last.status == 204


def test_100_continue_is_sent_beside_104(draft):
    """A 104 does not stand for it."""
    fields = {"Upload_Complete": "?1", "Expect": "100-continue", **AS_FORM}
    with draft.sending("POST", "/", length=len(BODY), **fields) as sock:
        seen = b""
        while b"100 Continue\r\n\r\n" not in seen:
            seen += sock.recv(1000)
        sock.sendall(BODY)
        assert Responses(sock).status == 200

    assert seen.startswith(b"HTTP/1.1 104 ")


@pytest.mark.parametrize(
    "headers",
    [
        {"version": None},
        {"version": "7"},
        {"version": "9"},
        {"Upload_Complete": "yes"},
        {"Upload_Complete": None},
    ],
)
def test_other_versions_are_ordinary_uploads(draft, inbox, headers):
    """They get no 104, and the fields of the draft say nothing."""
    response = draft.request("POST", "/", BODY, **{"Upload_Complete": "?1"} | AS_FORM | headers)

    assert response.interim == []
    assert "upload-complete" not in response.headers
    assert response.status == 200
    assert finished(inbox) == {"beach.jpg": b"content"}


def test_http_1_0_gets_no_interim_response(draft, inbox):
    """It knows none (RFC 9110, section 15.2)."""
    with connected(draft.url) as sock:
        head = (
            f"POST / HTTP/1.0\r\nHost: localhost\r\nContent-Type: {FORM['Content-Type']}\r\nUpload-Complete: ?1\r\n"
            f"Upload-Draft-Interop-Version: 8\r\nContent-Length: {len(BODY)}\r\n\r\n"
        )
        sock.sendall(head.encode() + BODY)
        response = Responses(sock)

    assert (response.status, response.interim) == (200, [])
    assert finished(inbox) == {"beach.jpg": b"content"}


def test_options_says_the_limit(client, url, inbox):
    """Without a limit it says so in the way of the draft."""
    assert client.options(url).headers["Upload-Limit"] == "max-size=4194304"
    with receiver.running(inbox) as other:
        assert client.options(other).headers["Upload-Limit"] == "min-size=0"


def test_a_wrong_offset_is_a_409_with_its_problem(draft):
    """The problem has both offsets."""
    path = draft.created(b"01234")
    response = draft.patch(path, 3, b"34")

    assert (response.status, response.headers["upload-offset"]) == (409, "5")
    assert response.headers["upload-complete"] == "?0"
    assert response.headers["content-type"] == "application/problem+json"
    assert (
        response.json["type"] == "https://iana.org/assignments/http-problem-types#mismatching-upload-offset"
    )
    assert (response.json["expected-offset"], response.json["provided-offset"]) == (5, 3)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content_Type": "application/octet-stream"}, 415),
        ({"Content_Type": None}, 415),
        ({"Upload_Offset": None}, 400),
        ({"Upload_Offset": "five"}, 400),
        ({"Upload_Offset": "-1"}, 400),
        ({"Upload_Complete": None}, 400),
        ({"Upload_Complete": "1"}, 400),
    ],
)
def test_a_patch_that_is_wrong_changes_nothing(draft, headers, status):
    """It is no result of the whole upload."""
    path = draft.created(b"01234")
    response = draft.patch(path, 5, b"5", **headers)

    assert (response.status, response.headers["upload-complete"]) == (status, "?0")
    assert draft.offset(path) == 5


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (b"56789", {"Upload_Length": 11}),
        (b"5678", {"complete": "?1"}),
        (b"567890", {"complete": "?1"}),
    ],
)
def test_lengths_that_differ_are_a_problem(draft, content, headers):
    """The upload has said its length, by Upload-Length or by the length of what completes it."""
    path = draft.created(b"01234", Upload_Length=10)
    response = draft.patch(path, 5, content, **headers)

    assert response.status == 400
    assert response.json["type"].endswith("#inconsistent-upload-length")
    assert draft.offset(path) == 5


def test_an_upload_that_outgrows_its_length_is_none(draft):
    """As the draft wants it, since one of the two lengths is a mistake."""
    path = draft.created(b"01234", Upload_Length=10)

    assert draft.patch(path, 5, b"567890").status == 400
    assert draft.request("HEAD", path).status == 404


@pytest.mark.parametrize("complete", ["?0", "?1"])
@pytest.mark.parametrize("is_said", [False, True])
def test_an_upload_above_the_limit_is_a_413_that_says_the_limit(draft, inbox, complete, is_said):
    """As soon as that is known."""
    said = {"Upload_Length": 2**22 + 1} if is_said else {}
    with draft.sending("POST", "/", length=2**22 + 1, Upload_Complete=complete, **said) as sock:
        response = Responses(sock)

    assert (response.status, response.headers["upload-limit"]) == (413, "max-size=4194304")
    assert list(inbox.iterdir()) == []


def test_a_wrong_digest_keeps_the_bytes_out(draft, inbox):
    """Content-Digest is that of one request (RFC 9530)."""
    right = f"sha-256=:{base64.b64encode(hashlib.sha256(b'56789').digest()).decode()}:"
    path = draft.created(b"01234")
    wrong = draft.patch(path, 5, b"XXXXX", complete="?1", Content_Digest=right)
    assert (wrong.status, draft.offset(path)) == (400, 5)

    assert draft.patch(path, 5, b"56789", complete="?1", Content_Digest=right).status == 200
    assert finished(inbox) == {"upload": b"0123456789"}


def test_a_form_that_is_malformed_is_the_end_of_its_upload(draft, inbox):
    """To go on would mend nothing. So Upload-Complete is true."""
    path = draft.created(b"--B\r\n", **AS_FORM)
    response = draft.patch(path, 5, b"no form", complete="?1")

    assert (response.status, response.headers["upload-complete"]) == (400, "?1")
    assert draft.request("HEAD", path).status == 404
    assert list(inbox.iterdir()) == []


def test_a_form_without_a_boundary_is_refused_at_once(draft, inbox):
    """No byte has to come for that."""
    response = draft.request("POST", "/", Upload_Complete="?0", Content_Type="multipart/form-data")

    assert (response.status, response.headers["upload-complete"]) == (400, "?1")
    assert list(inbox.iterdir()) == []


def test_a_deleted_upload_is_gone(draft, inbox):
    """Nothing is left on the disk."""
    path = draft.created(b"01234")

    assert draft.request("DELETE", path).status == 204
    assert [draft.request(method, path).status for method in ("HEAD", "GET", "DELETE")] == [404] * 3
    assert draft.patch(path, 5).status == 404
    assert list(inbox.iterdir()) == []


def test_the_two_protocols_do_not_share_uploads(draft, client, url):
    """An upload belongs to the protocol that has created it."""
    tus = {"Tus-Resumable": "1.0.0"}
    of_tus = client.post(url + "files", headers=tus | {"Upload-Length": "5"}).headers["Location"]
    of_ietf = draft.created(b"01234")

    assert draft.request("HEAD", of_tus).status == 404
    assert client.head(draft.url.join(of_ietf), headers=tus).status_code == 404


def test_the_next_receiver_goes_on(inbox, is_stored):
    """It knows the type, the name and the length of the first request."""
    with receiver.running(inbox) as url, contextlib.ExitStack() as stack:
        fields = {"Upload_Complete": "?1", **AS_FORM}
        sock = stack.enter_context(
            IetfClient(url).sending("POST", "/", BODY[:50], length=len(BODY), **fields)
        )
        path = re.search(rb"location: (\S+)", sock.recv(1000), re.IGNORECASE)[1].decode()
        assert is_stored.wait(PATIENCE)
    with receiver.running(inbox) as url:
        draft = IetfClient(url)
        assert draft.offset(path) == 50
        assert draft.patch(path, 50, BODY[50:], complete="?1").json["fields"] == {"title": "Summer"}

    assert finished(inbox) == {"beach.jpg": b"content"}
