"""The request body: exact bytes, known length, a flat list of pieces, and readable by servers' parsers."""

from __future__ import annotations

import base64
import contextlib
import json
import mimetypes
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.multipart_model import (
    KIB,
    PYTHON_MULTIPART,
    READ_AGAIN,
    READ_ONCE,
    UNKNOWN_SIZE,
    WERKZEUG,
    body_of,
    boundary_of,
    content_of,
    files_of,
    flat,
    forms,
    model_body,
    names_for_parsers,
    pieces_of,
    sent,
    sent_filename,
    sent_name,
)
from support.owner import FakeOwner
from support.pieces import chunks_of

from rxupload._arguments import check_content_type
from rxupload._body import MultipartBody, Part, encode_fields, guess_content_type
from rxupload._sources import FileRange, Flow, make_source

WPT = json.loads(
    (Path(__file__).parents[1] / "data" / "wpt_multipart_cases.json").read_text(encoding="utf-8")
)["cases"]


def part(file, name="file", filename="upload", content_type="application/octet-stream", size=None, **options):
    reader = make_source(file, size=size).open(FakeOwner(), **options)
    return Part(name, reader, filename, content_type)


@settings(max_examples=200)
@given(forms(), files_of(READ_AGAIN + READ_ONCE))
def test_body_is_what_the_standard_says(form_data, files):
    """Every byte is as the standard says, and the length is exact if every size is known."""
    with body_of(form_data, files) as body:
        content = sent(body)
        assert content == model_body(boundary_of(body).encode(), form_data, files)
        known = not any(file["kind"] in UNKNOWN_SIZE for file in files)
        assert body.length == (len(content) if known else None)


@settings(max_examples=100)
@given(forms(), files_of(READ_AGAIN))
def test_each_pass_gives_the_same_bytes(form_data, files):
    """A redirect or an auth challenge sends the same body again, even if the pass before broke off."""
    with body_of(form_data, files) as body:
        first = sent(body)
        broken_off = body.pieces()
        for _ in range(len(form_data) * 3 + 2):
            next(broken_off, None)
        broken_off.close()
        assert sent(body) == first


@pytest.mark.parametrize("parser", [WERKZEUG, PYTHON_MULTIPART], ids=["werkzeug", "python-multipart"])
@settings(max_examples=200)
@given(
    forms(names_for_parsers),
    files_of(READ_AGAIN + READ_ONCE, names_for_parsers),
    st.sampled_from([1, 100, 256 * KIB]),
)
def test_standard_parsers_give_back_what_was_sent(parser, form_data, files, count):
    """Two servers' parsers find the fields and files in order, with exact contents and decoded names."""
    parse, decode_name, decode_filename = parser
    expected = [
        (decode_name(sent_name(name)), None, in_lower_case(content_type, headers), value)
        for name, content_type, headers, value in flat(form_data)
    ]
    with body_of(form_data, files) as body:
        expected += [
            (
                decode_name(sent_name(file["name"])),
                decode_filename(sent_filename(file["filename"])),
                in_lower_case(file["content_type"], file["headers"]),
                content_of(file),
            )
            for file in files
        ]
        assert parse(boundary_of(body), pieces_of(body, count)) == expected


def in_lower_case(content_type, headers):
    named = [] if content_type is None else [("content-type", content_type)]
    return [*named, *((name.lower(), value) for name, value in headers)]


@pytest.mark.parametrize("case", WPT, ids=[case["id"] for case in WPT])
def test_web_platform_tests(case):
    """The encodings of the Web Platform Tests are matched byte for byte."""
    fields = {entry["name"]: entry["value"] for entry in case["entries"] if "value" in entry}
    parts = [
        part(
            base64.b64decode(entry["content_base64"]), entry["name"], entry["filename"], entry["content_type"]
        )
        for entry in case["entries"]
        if "filename" in entry
    ]
    body = MultipartBody([*encode_fields(fields), *parts], boundary="@BOUNDARY@")
    expected = base64.b64decode(case["expected_body_base64_boundary_@BOUNDARY@"])
    assert sent(body) == expected
    assert body.length == len(expected)


def test_a_backslash_is_not_escaped():
    """A backslash is not doubled, even before the closing quote, where RFC 9110 reads an escape."""
    body = sent(MultipartBody([*encode_fields({"a\\": "\\"}), part(b"", "b\\", "c\\")]))
    assert b'name="a\\"\r\n\r\n\\\r\n' in body
    assert b'name="b\\"; filename="c\\"\r\n' in body


def test_filename_keeps_its_newlines_and_a_name_does_not():
    """Newlines in names are normalised before escaping; those in filenames are not."""
    body = sent(MultipartBody([part(b"", "a\nb\rc\r\nd", "a\nb\rc\r\nd")]))
    assert b'name="a%0D%0Ab%0D%0Ac%0D%0Ad"; filename="a%0Ab%0Dc%0D%0Ad"' in body


def test_fields_come_before_files():
    """S3 policies and multer ignore fields after the file."""
    body = sent(MultipartBody([*encode_fields({"z": "1", "a": ["2", "3"]}), part(b"4"), part(b"5")]))
    assert re.findall(rb"\r\n\r\n(\d)\r\n", body) == [b"1", b"2", b"3", b"4", b"5"]
    assert b"Content-Transfer-Encoding" not in body


def test_boundary_is_random_and_needs_no_quotes():
    """The boundary cannot be guessed, and is a token of at most 70 characters (RFC 2046, 5.1.1)."""
    boundaries = {boundary_of(MultipartBody([])) for _ in range(100)}
    assert len(boundaries) == 100
    assert all(re.fullmatch("[0-9a-zA-Z]{16,70}", boundary) for boundary in boundaries)


# The pieces


def test_pieces_are_a_flat_list(tmp_path):
    """Memory is bytes, a file is a range, and an open-ended source is a flow; nothing is nested."""
    path = tmp_path / "file"
    path.write_bytes(b"in a file")
    body = MultipartBody(
        [*encode_fields({"field": "value"}), part(path), part(b"bytes"), part(iter([b"items"]))], "B"
    )
    kinds, contents = [], []
    for piece in body.pieces():
        kinds.append(
            FileRange if isinstance(piece, FileRange) else Flow if isinstance(piece, Flow) else type(piece)
        )
        contents.append(b"".join(chunks_of([piece])))
    head = end = bytes  # what stands before each part, and after the last one
    assert kinds == [head, bytes, head, FileRange, head, bytes, head, Flow, end]
    assert contents[1::2] == [b"value", b"in a file", b"bytes", b"items"]


@pytest.mark.parametrize("size", [1, 8 * KIB * KIB])
def test_content_is_not_copied(size):
    """A field's value and a file's bytes are used as they are, whatever their length."""
    value, data = bytes(size), bytes(size)
    pieces = list(MultipartBody([Part("field", value), part(data)]).pieces())
    assert pieces[1] is value
    assert pieces[3] is data


def test_parts_are_read_one_after_another():
    """A part is read only after the part before it."""
    drawn = []

    def source(name):
        for _ in range(3):
            drawn.append(name)
            yield b"item"

    passing = chunks_of(MultipartBody([part(source("a")), part(source("b"))]).pieces())
    assert drawn == ["a", "b"]  # the first item of each, when it was opened
    assert [next(passing) for _ in range(3)][1:] == [b"item", b"item"]
    assert drawn == ["a", "b", "a"]
    passing.close()


def test_files_are_open_one_at_a_time(tmp_path):
    """Files are open one at a time, since a request may have more files than a process may open."""
    paths = [tmp_path / str(number) for number in range(50)]
    for path in paths:
        path.write_bytes(b"content")
    body = MultipartBody([part(path, is_next=False) for path in paths])
    assert open_files(tmp_path) == 0
    assert max(open_files(tmp_path) for _ in body.pieces()) <= 1
    assert open_files(tmp_path) == 0


def open_files(folder):
    """How many files of a folder this process has open; 0 if the system does not say."""
    found = 0
    for each in Path("/proc/self/fd").glob("*"):
        with contextlib.suppress(OSError):  # another thread has closed it meanwhile
            found += each.readlink().parent == folder
    return found


def test_a_pass_that_is_closed_early_closes_its_source():
    """A pass that breaks off closes the source's generator."""
    ended = []

    def source():
        try:
            while True:
                yield b"item"
        finally:
            ended.append(True)

    passing = MultipartBody([part(source)]).pieces()
    next(passing)
    assert next(passing).read(1) == b"item"
    assert not ended
    passing.close()
    assert ended


# The content type


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        ("photo.png", "image/png"),
        ("PHOTO.PNG", "image/png"),
        ("archive.tar.gz", "application/gzip"),
        ("archive.tgz", "application/gzip"),
        ("page.html.gz", "application/gzip"),
        ("dump.sql.bz2", "application/x-bzip2"),
        ("dump.xz", "application/x-xz"),
        ("page.html.br", "application/x-brotli"),
        ("upload", "application/octet-stream"),
        ("", "application/octet-stream"),
        (".png", "application/octet-stream"),
        ("a.no-such-suffix", "application/octet-stream"),
        ("data:text/html,photo.png", "image/png"),
        ("//[a", "application/octet-stream"),
        ("a\r\n\0.png", "image/png"),
    ],
)
def test_content_type_guessed_from_a_filename(filename, expected):
    """The suffix gives the type, a compressed file has the type of its compression, and a name is not read as a URL."""
    assert guess_content_type(filename) == expected


@pytest.mark.parametrize(
    ("encoding", "expected"), [("zstd", "application/zstd"), ("new", "application/octet-stream")]
)
def test_a_compressed_file_has_the_type_of_its_compression(monkeypatch, encoding, expected):
    """Whatever compression mimetypes reports, the type is never the type of the content inside."""
    monkeypatch.setattr(mimetypes, "guess_type", lambda _: ("text/plain", encoding))
    assert guess_content_type("a.txt.x") == expected


@pytest.mark.parametrize(
    "content_type", ["", " ", "text/plain\r\nX: y", "text/plain\n", "a\0b", "a\tb", "\x7f", "\ud800"]
)
def test_an_invalid_content_type_is_a_value_error(content_type):
    """An empty content type, or one with control characters, is a ValueError that names the argument."""
    with pytest.raises(ValueError, match="content_type must be one line of printable characters"):
        check_content_type(content_type)


def test_a_content_type_that_is_not_str_is_a_type_error():
    """A content type of another type is a TypeError that names the argument."""
    with pytest.raises(TypeError, match="content_type must be a str, not bytes"):
        check_content_type(b"text/plain")


def test_a_content_type_may_have_parameters():
    """A content type may have parameters."""
    check_content_type('text/plain; charset="utf-8"')
