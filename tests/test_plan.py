"""What `upload()` makes of its arguments about the body: a form's files and fields, or a raw body."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from rxupload import Field, File, upload
from rxupload.testing import HandCrankedClient

URL = "http://upload.test/"


def sent(file: Any, *args: Any, **kwargs: Any) -> tuple[httpx.Headers, bytes]:
    """The headers and the body of an upload."""
    seen: list[tuple[httpx.Headers, bytes]] = []

    def script(request: httpx.Request) -> httpx.Response:
        seen.append((request.headers, b"".join(request.stream)))
        return httpx.Response(200, request=request)

    upload(URL, file, *args, client=HandCrankedClient(script), **kwargs).run()
    return seen[0]


def parts(file: Any, **kwargs: Any) -> list[bytes]:
    """Each part of a form, from its disposition on."""
    headers, body = sent(file, **kwargs)
    boundary = headers["Content-Type"].partition("boundary=")[2].encode()
    first = b"--" + boundary + b"\r\nContent-Disposition: form-data; "
    assert body.startswith(first)
    assert body.endswith(b"\r\n--" + boundary + b"--\r\n")
    return body[len(first) : -len(boundary) - 8].split(b"\r\n" + first)


# Forms


def test_a_file_has_further_headers():
    """The headers of a File come after its type, in their order."""
    file = File(b"data", content_type="x/y", headers=[("Content-ID", "<1>"), ("X-B", "c")])
    assert parts(file) == [
        b'name="file"; filename="upload"\r\nContent-Type: x/y\r\nContent-ID: <1>\r\nX-B: c\r\n\r\ndata'
    ]


def test_a_file_may_have_an_empty_filename():
    """An empty filename of a File is what a browser sends where no file was chosen."""
    assert parts(File(b"", filename="")) == [
        b'name="file"; filename=""\r\nContent-Type: application/octet-stream\r\n\r\n'
    ]
    assert parts(File(b"", filename=""), filename="other")[0].startswith(b'name="file"; filename=""')


def test_fields_stand_where_they_are_asked_for(tmp_path):
    """The fields of form_data come first; a Field among the files comes in its place, first, between or last."""
    path = tmp_path / "a.txt"
    path.write_bytes(b"1")
    files = [
        Field("0", name="before"),
        path,
        Field("{}", name="between", content_type="application/json", headers={"X": "y"}),
        File(b"2", name="other"),
        Field(3, name="after"),
    ]
    found = parts(files, form_data=[("z", "a"), ("a", "b"), ("z", "c")])
    assert found == [
        b'name="z"\r\n\r\na',
        b'name="a"\r\n\r\nb',
        b'name="z"\r\n\r\nc',
        b'name="before"\r\n\r\n0',
        b'name="file"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\n1',
        b'name="between"\r\nContent-Type: application/json\r\nX: y\r\n\r\n{}',
        b'name="other"; filename="upload"\r\nContent-Type: application/octet-stream\r\n\r\n2',
        b'name="after"\r\n\r\n3',
    ]


@pytest.mark.parametrize(
    ("file", "error", "message"),
    [
        (Field("a", name="b"), ValueError, "file: a Field is not a file"),
        ([Field("a", name="b")], ValueError, "file: a Field is not a file"),
        ([b"", Field("a")], ValueError, "file[1]: a Field among the files must have a name"),
        ([b"", Field("a", name="")], ValueError, "file[1]: name: must not be empty"),
        ([b"", Field("a", name=5)], TypeError, "file[1]: name: expected a str, got int"),
        ([b"", Field(None, name="b")], TypeError, "file[1] is None"),
        ([b"", Field(b"b", "x\n", name="b")], ValueError, "file[1]: content_type must be one line"),
        (
            [b"", Field(b"b", name="b", headers={"Content-Type": "a/b"})],
            ValueError,
            "file[1]: headers: Content-Type",
        ),
        (
            File(b"", headers={"content-length": "1"}),
            ValueError,
            "file: headers: content-length is not one of them",
        ),
        (File(b"", headers={"X": "secret\r\n"}), ValueError, "file: headers: CR, LF or another control"),
        ([b"", File(b"", headers=5)], TypeError, "file[1]: headers: expected a mapping"),
        (File(b"", filename=5), TypeError, "filename: expected a str, got int"),
        (File(b"", content_type=""), ValueError, "content_type must be one line"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_part_raises_at_the_call(file, error, message):
    """A wrong Field or File raises at the call, with its argument, and quotes no header's value."""
    with pytest.raises(error, match=re.escape(message)) as caught:
        upload(URL, file)
    assert "secret" not in str(caught.value)


def test_an_empty_filename_is_only_for_a_file():
    """An empty `filename` of `upload()` stays an error: it may be a variable that was not filled."""
    for raw in (False, True):
        with pytest.raises(ValueError, match="filename: "):
            upload(URL, b"", filename="", raw=raw)


# Raw bodies


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({}, "text/plain"),
        ({"content_type": "x/y"}, "x/y"),
        ({"content_type": "x/y", "headers": {"Content-Type": "v/w"}}, "x/y"),
        ({"headers": {"CONTENT-TYPE": "v/w"}}, "v/w"),
        ({"headers": {"Content-Type": ""}}, ""),
        ({"content_type": ""}, None),
        ({"content_type": "", "headers": {"content-type": "v/w"}}, None),
    ],
    ids=str,
)
def test_content_type_of_a_raw_body(tmp_path, kwargs, expected):
    """content_type comes first, then the caller's header, then the guess; an empty content_type sends none."""
    path = tmp_path / "a.txt"
    path.write_bytes(b"data")
    headers, body = sent(path, raw=True, **kwargs)
    assert headers.get("Content-Type") == expected
    assert body == b"data"
    assert headers.get_list("Content-Length") == ["4"]


@pytest.mark.parametrize(
    ("content_type", "expected"), [("x/y", "x/y"), ("", None), (None, "application/octet-stream")]
)
def test_a_file_may_give_the_type_of_a_raw_body(content_type, expected):
    """A File may say the type and the size of a raw body, and its type comes before the keyword's."""
    headers, body = sent(File(iter([b"da", b"ta"]), content_type=content_type, size=4), raw=True)
    assert headers.get("Content-Type") == expected
    assert headers["Content-Length"] == "4"
    assert body == b"data"
    headers, _ = sent(File(b"", content_type="x/y"), raw=True, content_type="v/w")
    assert headers["Content-Type"] == "x/y"


def test_a_list_of_one_file_is_a_raw_body():
    """What is not more than one file needs no other call: a list of one, the default name, no fields."""
    headers, body = sent([b"data"], raw=True, name="file", form_data={})
    assert body == b"data"
    assert headers["Content-Length"] == "4"


@pytest.mark.parametrize(
    ("file", "kwargs", "message"),
    [
        ([b"a", b"b"], {}, "file: a raw body is one file"),
        ([b"a", Field("b", name="c")], {}, "file: a raw body is one file"),
        ([], {}, "file: the list of files is empty"),
        (Field("b", name="c"), {}, "file: a raw body has no form fields"),
        (b"", {"form_data": {"a": "b"}}, "form_data: a raw body has no form fields"),
        (b"", {"form_data": [("a", "b")]}, "form_data: a raw body has no form fields"),
        (b"", {"name": "photo"}, "name: a raw body has no form field"),
        (b"", {"filename": "a.jpg"}, "filename: a raw body has no part"),
        (File(b"", name="photo"), {}, "file: name: a raw body has no part"),
        (File(b"", filename="a.jpg"), {}, "file: filename: a raw body has no part"),
        ([File(b"", filename="")], {}, "file[0]: filename: a raw body has no part"),
        (
            File(b"", headers={"X": "secret"}),
            {},
            "file: headers: a raw body has no part to put it into; use the headers=",
        ),
        (b"", {"content_type": "a\r\nb"}, "content_type must be one line"),
        (b"", {"content_type": " "}, "content_type must be one line"),
        ("", {}, "file must be a path"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_raw_body_cannot_have_is_a_value_error(file, kwargs, message):
    """What a raw body has no place for is a ValueError that says why, and quotes no value."""
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        upload(URL, file, raw=True, **kwargs)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("file", [None, 5, {"a": b"b"}, upload(URL, b"")])
def test_what_is_no_file_is_a_type_error_in_a_raw_body_too(file):
    """A value that cannot be uploaded, and a content type that is no str, are a TypeError."""
    with pytest.raises(TypeError, match="file"):
        upload(URL, file, raw=True)
    with pytest.raises(TypeError, match="content_type must be a str"):
        upload(URL, b"", raw=True, content_type=b"")


def test_repr_of_a_raw_upload_names_its_file(tmp_path):
    """The repr has the method, the address and the file's name."""
    assert repr(upload(URL, tmp_path / "a.txt", raw=True, method="PUT")) == f"<Upload PUT {URL} a.txt>"
