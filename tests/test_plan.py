"""What `upload()` makes of its arguments about the body: a form's files and fields."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from support.hand_cranked_client import ScriptedClient

from rxupload import Field, File, upload

URL = "http://upload.test/"


def sent(file: Any, *args: Any, **kwargs: Any) -> tuple[httpx.Headers, bytes]:
    """The headers and the body of an upload."""
    seen: list[tuple[httpx.Headers, bytes]] = []

    def script(request: httpx.Request) -> httpx.Response:
        seen.append((request.headers, b"".join(request.stream)))
        return httpx.Response(200, request=request)

    upload(URL, file, *args, client=ScriptedClient(script), **kwargs).run()
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
    with pytest.raises(ValueError, match="filename: "):
        upload(URL, b"", filename="")
