"""What the receiver makes of a body, and which bodies it refuses."""

from __future__ import annotations

import hashlib
import http.client
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.forms import CLOSING, FORM, answer, connected, file_part, has_ended, head, part, stored

from rxupload import receiver
from rxupload.receiver import server


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("path", ["", "photos/2024?album=summer", "%0A%00/../x"])
def test_files_and_fields_arrive_at_any_path(client, url, inbox, method, path):
    """Every file is stored byte for byte; the answer gives its name, type, size and SHA-256."""
    beach, empty = os.urandom(3_000_000), b""
    response = client.request(
        method,
        url + path,
        data={"album": "summer", "tag": ["sea", "sand"]},
        files=[("photo", ("beach.jpg", beach, "image/jpeg")), ("note", ("empty", empty, "text/plain"))],
    )

    assert response.status_code == 200
    assert response.json() == {
        "fields": {"album": "summer", "tag": ["sea", "sand"]},
        "files": [
            {
                "name": "photo",
                "filename": "beach.jpg",
                "content_type": "image/jpeg",
                "size": 3_000_000,
                "sha256": hashlib.sha256(beach).hexdigest(),
            },
            {
                "name": "note",
                "filename": "empty",
                "content_type": "text/plain",
                "size": 0,
                "sha256": hashlib.sha256(empty).hexdigest(),
            },
        ],
    }
    assert stored(inbox) == {"beach.jpg": beach, "empty": empty}


@pytest.mark.parametrize(
    ("disposition", "expected"),
    [
        (b'name="file"; filename="b.txt"', ("file", "b.txt")),
        ('name="bild"; filename="Überstrand 海滩 🏖.jpg"', ("bild", "Überstrand 海滩 🏖.jpg")),
        (b'name="%22a%22%0D%0A"; filename="%22b%22%20%0d.txt"', ('"a"\r\n', '"b"%20%0d.txt')),
        (rb'name="a\"; filename="C:\b\\c\"', ("a\\", "C:\\b\\\\c\\")),
        (b'name="a; filename=x"; filename="b;c=d"', ("a; filename=x", "b;c=d")),
        (b'Name = "file" ;FILENAME="b.txt"', ("file", "b.txt")),
        (b'name="\xff"; filename="\xe9.txt"', ("\ufffd", "\ufffd.txt")),
        (b'name=""; filename=""', ("", "")),
        (b'name="file"; filename="b.txt"; x="never ends', ("file", "b.txt")),
        (b'name="a"b"; filename="c" d.txt"', ('a"b', 'c" d.txt')),
        (b"name=file;; =x; y; z=; filename=b.txt;", ("file", "b.txt")),
    ],
)
def test_names_are_decoded_as_browsers_encode_them(client, url, disposition, expected):
    """Names are UTF-8; only %22, %0D and %0A are decoded."""
    response = client.post(url, content=part(disposition, b"content") + CLOSING, headers=FORM)

    (file,) = response.json()["files"]
    assert (file["name"], file["filename"], file["content_type"]) == (*expected, None)


@pytest.mark.parametrize(
    ("disposition", "expected"),
    [
        (b"name=file; filename*=UTF-8''%e2%82%ac%20rates.txt", ("file", "€ rates.txt")),
        (b"name=file; filename*=utf-8'en'a%22%0D%0Ab%2522.txt", ("file", 'a"\r\nb%22.txt')),
        (b"name=file; filename*=iso-8859-1''%A3.txt", ("file", "£.txt")),
        (b"name=file; filename=\"=?utf-8?B?4oKs?=\"; filename*=utf-8''%E2%82%AC", ("file", "€")),
        (b"name=file; filename*=utf-8''c.txt; filename=b.txt", ("file", "c.txt")),
        (b"name=file; FileName*=\"utf-8''c.txt\"", ("file", "c.txt")),
        (b"name=file; filename*=utf-8''", ("file", "")),
        (b"name=file; filename*=utf-8''%ff; filename=b.txt", ("file", "b.txt")),
        (b"name=file; filename*=utf-8''%ff", ("file", "")),
        (b"name=file; filename*=koi8-r''%C1; filename=b.txt", ("file", "b.txt")),
        (b"name=file; filename*=hex''41; filename=b.txt", ("file", "b.txt")),
        (b"name=file; filename*=utf-8'c.txt; filename=b.txt", ("file", "b.txt")),
        (b"name=file; filename*=c.txt", ("file", "")),
        (b"name*=utf-8''%C3%A9; filename=b.txt", ("é", "b.txt")),
    ],
)
def test_extended_names_take_precedence(client, url, disposition, expected):
    """`filename*` is decoded as in RFC 8187; where it cannot be, the plain `filename` counts."""
    response = client.post(url, content=part(disposition, b"content") + CLOSING, headers=FORM)

    (file,) = response.json()["files"]
    assert (file["name"], file["filename"]) == expected


def test_an_extended_name_stays_in_the_directory(client, url, inbox):
    """What `filename*` decodes to is made harmless like any filename."""
    body = part("name=a; filename*=utf-8''..%2F..%2fb%00.txt", b"content") + CLOSING

    client.post(url, content=body, headers=FORM)

    assert stored(inbox) == {"b_.txt": b"content"}


@pytest.mark.parametrize("disposition", ['name="file"; filename=""', "name=file; filename*=utf-8''"])
def test_a_form_without_a_chosen_file_has_no_file(client, url, inbox, disposition):
    """An empty filename without content is neither a file nor a field; with content it is a file."""
    chosen = part(disposition, b"content", b"Content-Type: text/plain")
    not_chosen = part(disposition, b"", b"Content-Type: application/octet-stream")
    body = not_chosen + part('name="a"', b"1") + chosen + not_chosen + file_part("b") + CLOSING

    response = client.post(url, content=body, headers=FORM).json()

    assert response["fields"] == {"a": "1"}
    assert [(file["filename"], file["content_type"], file["size"]) for file in response["files"]] == [
        ("", "text/plain", 7),
        ("b", None, 0),
    ]
    assert stored(inbox) == {"upload": b"content", "b": b""}


def test_field_values_are_text(client, url):
    """A value is UTF-8 text with its line ends; bytes that are not UTF-8 become U+FFFD."""
    body = part('name="a"', "é\r\n\0%22".encode()) + part('name="b"', b"\xff") + part('name="c"') + CLOSING

    response = client.post(url, content=body, headers=FORM)

    assert response.json() == {"fields": {"a": "é\r\n\0%22", "b": "\ufffd", "c": ""}, "files": []}


def test_a_form_without_parts_is_an_empty_answer(client, url):
    """A closing boundary alone is a valid form without fields and files."""
    response = client.post(url, content=CLOSING, headers=FORM)

    assert (response.status_code, response.json()) == (200, {"fields": {}, "files": []})


def test_every_content_arrives(client, url, inbox):
    """Content that looks like boundaries or line ends arrives unchanged, however the body is cut."""
    fragments = st.sampled_from([b"\r", b"\n", b"\r\n", b"--", b"\r\n--", b"\r\n--A", b"--B--", b"\0", b"x"])
    contents = st.lists(fragments | st.binary(max_size=20), max_size=12).map(b"".join)

    @settings(max_examples=60)
    @given(
        content=contents.filter(lambda content: b"\r\n--B" not in b"\r\n" + content + b"\r\n"),
        sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    )
    def check(content, sizes):
        body = file_part("content", content) + CLOSING
        pieces = [body[start : start + sizes[0]] for start in range(0, len(body), sizes[0])]
        (file,) = client.post(url, content=iter(pieces), headers=FORM).json()["files"]
        assert (file["size"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        (path,) = inbox.iterdir()
        assert path.read_bytes() == content
        path.unlink()

    check()


def test_a_browser_gets_a_page_to_upload_from(client, url):
    """GET answers with a page that has a multipart/form-data form; HEAD answers the same without the page."""
    page = client.get(url)

    assert page.status_code == 200
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert '<form method="post" enctype="multipart/form-data">' in page.text
    assert client.head(url).headers["Content-Length"] == str(len(page.content))


def test_every_answer_has_a_date(client, url):
    """A server with a clock sends Date (RFC 9110, section 6.6.1)."""
    answers = [client.get(url), client.post(url, content=CLOSING, headers=FORM), client.delete(url)]

    assert all("Date" in response.headers for response in answers)


# What it refuses


@pytest.mark.parametrize(
    ("headers", "rest", "error"),
    [
        ({"Content-Type": "application/json"}, CLOSING, "Content-Type"),
        ({"Content-Type": "multipart/form-data"}, CLOSING, "Content-Type"),
        ({"Content-Type": "multipart/form-data; boundary="}, CLOSING, "Content-Type"),
        ({"Content-Type": "multipart/form-data; boundary=" + "B" * 300}, CLOSING, "oundary"),
        ({"Content-Type": "multipart/form-data; boundary=C"}, CLOSING, "boundary"),
        ({}, CLOSING, "Content-Type"),
        (FORM, b"", "closing boundary"),
        (FORM, file_part("half")[:-2], "closing boundary"),
        (FORM, b"--B\r\nno colon\r\n\r\n\r\n" + CLOSING, "invalid character"),
        (FORM, b"--B\r\nContent-Type: text/plain\r\n\r\n\r\n" + CLOSING, "no name"),
        (FORM, part('filename="beach.jpg"') + CLOSING, "no name"),
        (FORM, part('name="a"', b"", *[b"X: y"] * 100) + CLOSING, "header count"),
        (FORM, part('name="' + "a" * 10_000 + '"') + CLOSING, "header size"),
        (FORM, part('name="a"') * 1000 + CLOSING, "more than 1000 parts"),
        (
            FORM,
            part('name="a"', bytes(2**19)) * 2 + part('name="a"', b"!") + CLOSING,
            "more than 1048576 bytes",
        ),
    ],
)
def test_a_malformed_body_is_a_400(client, url, inbox, headers, rest, error):
    """The answer says what is wrong, and the files before it are deleted."""
    response = client.post(url, content=file_part("before", b"content") + rest, headers=headers)

    assert response.status_code == 400
    assert error in response.json()["error"]
    assert stored(inbox) == {}


def test_a_body_at_the_limits_is_taken(client, url, inbox):
    """1000 parts and 1 MiB of fields are accepted."""
    files = [file_part(f"{number}") for number in range(999)]
    body = part('name="a"', bytes(2**20)) + b"".join(files) + CLOSING

    assert client.post(url, content=body, headers=FORM).status_code == 200
    assert len(stored(inbox)) == len(files)


def test_another_method_is_a_405(client, url):
    """The answer lists the allowed methods."""
    response = client.patch(url, content=CLOSING, headers=FORM)

    assert response.status_code == 405
    assert response.headers["Allow"] == "GET, HEAD, POST, PUT"
    assert "POST" in response.json()["error"]


def test_a_body_of_exactly_the_limit_is_taken(client, inbox):
    """The limit is for the whole body, and a body of exactly that size is accepted."""
    body = file_part("content", b"content") + CLOSING
    with receiver.running(inbox, max_size=len(body)) as url:
        taken = client.post(url, content=body, headers=FORM)
        refused = client.post(url, content=body + b"!", headers=FORM)

    assert (taken.status_code, refused.status_code) == (200, 413)
    assert list(stored(inbox)) == ["content"]


def test_a_body_that_announces_too_much_is_a_413_at_once(url, inbox, patient):
    """The answer comes during the body, and the client may continue until it reads it."""
    body = file_part("content", bytes(2**22)) + CLOSING
    with connected(url) as sock:
        sock.sendall(head(Content_Length=len(body)) + body[:100])
        status, content = answer(sock)
        sock.sendall(body[100:-1])

    assert (status, content) == (413, {"error": "The body is longer than 4194304 bytes."})
    assert stored(inbox) == {}


def test_a_client_that_expects_continue_gets_its_413_first(url):
    """With Expect: 100-continue the only answer is the 413 (RFC 9110, section 10.1.1)."""
    with connected(url) as sock:
        sock.sendall(head(Content_Length=2**40, Expect="100-continue"))

        assert sock.recv(13) == b"HTTP/1.1 413 "


def test_a_body_without_a_length_is_a_413_when_it_crosses_the_limit(url, inbox):
    """What was stored before is deleted."""
    body = file_part("content", bytes(2**22))
    with connected(url) as sock:
        sock.sendall(head(Transfer_Encoding="chunked") + b"%x\r\n" % len(body) + body)
        status, _ = answer(sock)

    assert status == 413
    assert stored(inbox) == {}


def test_a_refused_connection_is_closed(url, monkeypatch):
    """The receiver closes the connection even if the client does not."""
    monkeypatch.setattr(server, "_LINGER", 0.0)
    with connected(url) as sock:
        sock.sendall(head(Content_Length=2**40))

        with http.client.HTTPResponse(sock) as response:
            response.begin()
            response.read()
        assert (response.status, response.headers["Connection"]) == (413, "close")
        assert has_ended(sock)


def test_a_client_that_sends_everything_first_gets_its_413(client, url, patient):
    """The rest of the body is read, so that no reset destroys the answer."""
    body = file_part("content", bytes(2**24)) + CLOSING

    assert client.post(url, content=body, headers=FORM).status_code == 413
