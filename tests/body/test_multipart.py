"""The request body: exact bytes, known length, a flat list of pieces, and readable by servers' parsers."""

from __future__ import annotations

import base64
import io
import json
import mimetypes
import re
import secrets
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from python_multipart.multipart import FormParser
from support.owner import FakeOwner
from support.pieces import chunks_of
from werkzeug.http import unquote_header_value
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from rxupload._arguments import check_content_type
from rxupload._body.multipart import (
    MultipartBody,
    Part,
    encode_fields,
    guess_content_type,
)
from rxupload._sources import FileRange, Flow, make_source

WPT = json.loads(
    (Path(__file__).parents[1] / "data" / "wpt_multipart_cases.json").read_text(encoding="utf-8")
)["cases"]
KIB = 1024


def part(file, name="file", filename="upload", content_type="application/octet-stream", size=None, **options):
    return Part(name, filename, content_type, make_source(file, size=size).open(FakeOwner(), **options))


def pieces_of(body, count=256 * KIB):
    """The bytes of one pass, read `count` at a time."""
    return list(chunks_of(body.pieces(), count))


def sent(body):
    """The bytes of one pass."""
    return b"".join(pieces_of(body))


def boundary_of(body):
    return body.content_type.removeprefix("multipart/form-data; boundary=")


# A model of the standard, written from its text; it shares no code with the library.


def scalar_values(text):
    """Web IDL's USVString: a surrogate pair is one character, a lone surrogate U+FFFD."""
    out, units = [], list(text)
    while units:
        unit = units.pop(0)
        if "\ud800" <= unit <= "\udbff" and units and "\udc00" <= units[0] <= "\udfff":
            out.append(chr(0x10000 + ((ord(unit) - 0xD800) << 10) + (ord(units.pop(0)) - 0xDC00)))
        else:
            out.append("\ufffd" if "\ud800" <= unit <= "\udfff" else unit)
    return "".join(out)


def normalised(text):
    return scalar_values(text).replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n")


def escaped(text):
    return text.replace("\n", "%0A").replace("\r", "%0D").replace('"', "%22")


def sent_name(name):
    return escaped(normalised(name))


def sent_filename(filename):
    return escaped(scalar_values(filename))


def sent_value(value):
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return normalised(value).encode()
    return {True: b"true", False: b"false"}[value] if isinstance(value, bool) else repr(value).encode()


def flat(form_data):
    """The fields one by one; a sequence repeats its name."""
    for name, value in form_data.items():
        for each in value if isinstance(value, list | tuple) else [value]:
            yield name, sent_value(each)


def model_body(boundary, form_data, files):
    lines = []
    for name, value in flat(form_data):
        lines += [
            b"--" + boundary,
            f'Content-Disposition: form-data; name="{sent_name(name)}"'.encode(),
            b"",
            value,
        ]
    for file in files:
        names = f'name="{sent_name(file["name"])}"; filename="{sent_filename(file["filename"])}"'
        lines += [b"--" + boundary, f"Content-Disposition: form-data; {names}".encode()]
        lines += [f"Content-Type: {file['content_type']}".encode(), b"", content_of(file)]
    return b"\r\n".join([*lines, b"--" + boundary + b"--", b""])


# How the two parsers change a quoted name.


def as_werkzeug_decodes(name):
    """Werkzeug undoes backslash escapes, which browsers do not write, then takes %22 for a quote.

    The version of werkzeug decides which escapes it undoes (any character, or only a backslash or a quote),
    so werkzeug's own function is called.
    """
    return unquote_header_value(f'"{name}"').replace("%22", '"')


def as_python_multipart_decodes(name):
    """python-multipart undoes RFC 9110's backslash escapes, and leaves every percent sign alone."""
    return name.replace("\\\\", "\\").replace('\\"', '"')


def as_python_multipart_decodes_filename(filename):
    """It also shortens a name that looks like a full Windows path, as old Internet Explorers sent it."""
    decoded = as_python_multipart_decodes(filename)
    return decoded.split("\\")[-1] if decoded[1:3] == ":\\" or decoded[:2] == "\\\\" else decoded


def parsed_by_werkzeug(boundary, pieces):
    decoder, parts = MultipartDecoder(boundary.encode()), []
    for piece in [*pieces, None]:
        decoder.receive_data(piece)
        while not isinstance(event := decoder.next_event(), NeedData | Epilogue):
            if isinstance(event, Field):
                parts.append([event.name, None, None, b""])
            elif isinstance(event, File):
                parts.append([event.name, event.filename, event.headers["content-type"], b""])
            elif isinstance(event, Data):
                parts[-1][3] += event.data
    return [tuple(each) for each in parts]


def parsed_by_python_multipart(boundary, pieces):
    parts = []

    def on_field(field):
        parts.append((field.field_name.decode(), None, None, field.value))

    def on_file(file):
        file.file_object.seek(0)
        content = file.file_object.read()
        parts.append((file.field_name.decode(), file.file_name.decode(), file.content_type, content))
        file.close()

    parser = FormParser("multipart/form-data", on_field, on_file, boundary=boundary)
    for piece in pieces:
        assert parser.write(piece) == len(piece)
    parser.finalize()
    return parts


WERKZEUG = parsed_by_werkzeug, as_werkzeug_decodes, as_werkzeug_decodes
PYTHON_MULTIPART = (
    parsed_by_python_multipart,
    as_python_multipart_decodes,
    as_python_multipart_decodes_filename,
)


# Strategies. A name for the parsers does not end in a backslash: they read it before the closing quote as an
# escape (RFC 9110), but browsers send it unchanged.

any_text = st.text(st.characters(), max_size=20) | st.text('ab"\\\r\n;=%/:', max_size=12)
with_surrogates = st.text(st.characters(categories=["Cs", "L"]), max_size=6)
names = any_text | with_surrogates
names_for_parsers = names.filter(lambda text: not text.endswith("\\"))
single_values = (
    any_text | with_surrogates | st.binary(max_size=300) | st.integers() | st.floats() | st.booleans()
)
value_lists = st.lists(single_values, max_size=3)
content_pieces = st.lists(
    st.binary(max_size=200) | st.sampled_from([b"\r", b"\n", b"\r\n--", b"-", b""]), max_size=6
)
READ_AGAIN = ["path", "bytes", "bytearray", "file", "file midway", "list", "function", "function of file"]
READ_ONCE = ["pipe", "generator", "declared generator"]
UNKNOWN_SIZE = {"list", "function", "pipe", "generator"}


def forms(names=names):
    return st.dictionaries(names, single_values | value_lists | value_lists.map(tuple), max_size=4)


def files_of(kinds, names=names):
    content_types = st.sampled_from(["text/plain", "application/octet-stream", 'text/plain; charset="x"'])
    one = {"name": names, "filename": names, "content_type": content_types, "kind": st.sampled_from(kinds)}
    return st.lists(st.fixed_dictionaries({**one, "pieces": content_pieces}), max_size=3)


def content_of(file):
    return b"".join(file["pieces"])


class Pipe(io.RawIOBase):
    """A file object that cannot seek, and gives its content piece by piece."""

    def __init__(self, pieces):
        self._pieces = [piece for piece in pieces if piece]

    def readable(self):
        return True

    def read(self, size=-1):
        return self._pieces.pop(0) if self._pieces else b""


def source_of(kind, pieces, directory):
    """A source of this kind with these pieces."""
    content = b"".join(pieces)
    match kind:
        case "path":
            path = Path(directory, secrets.token_hex(8))
            path.write_bytes(content)
            return path
        case "file midway":
            file = io.BytesIO(b"read before" + content)
            file.seek(len(b"read before"))
            return file
    return {
        "bytes": content,
        "bytearray": bytearray(content),
        "file": io.BytesIO(content),
        "pipe": Pipe(pieces),
        "list": pieces,
        "function": lambda: iter(pieces),
        "function of file": lambda: io.BytesIO(content),
        "generator": (piece for piece in pieces),
        "declared generator": (piece for piece in pieces),
    }[kind]


@contextmanager
def body_of(form_data, files):
    """The body that the library makes of these fields and files."""
    with tempfile.TemporaryDirectory() as directory, ExitStack() as opened:
        parts = []
        for file in files:
            declared = len(content_of(file)) if file["kind"].startswith("declared") else None
            source = source_of(file["kind"], file["pieces"], directory)
            each = part(source, file["name"], file["filename"], file["content_type"], declared)
            opened.callback(each.reader.close)
            parts.append(each)
        yield MultipartBody(encode_fields(form_data), parts)


@settings(max_examples=200, deadline=None)
@given(forms(), files_of(READ_AGAIN + READ_ONCE))
def test_body_is_what_the_standard_says(form_data, files):
    """Every byte is as the standard says, and the length is exact if every size is known."""
    with body_of(form_data, files) as body:
        content = sent(body)
        assert content == model_body(boundary_of(body).encode(), form_data, files)
        known = not any(file["kind"] in UNKNOWN_SIZE for file in files)
        assert body.length == (len(content) if known else None)


@settings(max_examples=100, deadline=None)
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
@settings(max_examples=200, deadline=None)
@given(
    forms(names_for_parsers),
    files_of(READ_AGAIN + READ_ONCE, names_for_parsers),
    st.sampled_from([1, 100, 256 * KIB]),
)
def test_standard_parsers_give_back_what_was_sent(parser, form_data, files, count):
    """Two servers' parsers find the fields and files in order, with exact contents and decoded names."""
    parse, decode_name, decode_filename = parser
    expected = [(decode_name(sent_name(name)), None, None, value) for name, value in flat(form_data)]
    with body_of(form_data, files) as body:
        expected += [
            (
                decode_name(sent_name(file["name"])),
                decode_filename(sent_filename(file["filename"])),
                file["content_type"],
                content_of(file),
            )
            for file in files
        ]
        assert parse(boundary_of(body), pieces_of(body, count)) == expected


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
    body = MultipartBody(encode_fields(fields), parts, boundary="@BOUNDARY@")
    expected = base64.b64decode(case["expected_body_base64_boundary_@BOUNDARY@"])
    assert sent(body) == expected
    assert body.length == len(expected)


def test_a_backslash_is_not_escaped():
    """A backslash is not doubled, even before the closing quote, where RFC 9110 reads an escape."""
    body = sent(MultipartBody(encode_fields({"a\\": "\\"}), [part(b"", "b\\", "c\\")]))
    assert b'name="a\\"\r\n\r\n\\\r\n' in body
    assert b'name="b\\"; filename="c\\"\r\n' in body


def test_filename_keeps_its_newlines_and_a_name_does_not():
    """Newlines in names are normalised before escaping; those in filenames are not."""
    body = sent(MultipartBody([], [part(b"", "a\nb\rc\r\nd", "a\nb\rc\r\nd")]))
    assert b'name="a%0D%0Ab%0D%0Ac%0D%0Ad"; filename="a%0Ab%0Dc%0D%0Ad"' in body


def test_fields_come_before_files():
    """S3 policies and multer ignore fields after the file."""
    body = sent(MultipartBody(encode_fields({"z": "1", "a": ["2", "3"]}), [part(b"4"), part(b"5")]))
    assert re.findall(rb"\r\n\r\n(\d)\r\n", body) == [b"1", b"2", b"3", b"4", b"5"]
    assert b"Content-Transfer-Encoding" not in body


def test_boundary_is_random_and_needs_no_quotes():
    """The boundary cannot be guessed, and is a token of at most 70 characters (RFC 2046, 5.1.1)."""
    boundaries = {boundary_of(MultipartBody([], [])) for _ in range(100)}
    assert len(boundaries) == 100
    assert all(re.fullmatch("[0-9a-zA-Z]{16,70}", boundary) for boundary in boundaries)


# The pieces


def test_pieces_are_a_flat_list(tmp_path):
    """Memory is bytes, a file is a range, and an open-ended source is a flow; nothing is nested."""
    path = tmp_path / "file"
    path.write_bytes(b"in a file")
    body = MultipartBody(
        encode_fields({"field": "value"}), [part(path), part(b"bytes"), part(iter([b"items"]))], "B"
    )
    kinds, contents = [], []
    for piece in body.pieces():
        kinds.append(
            FileRange if isinstance(piece, FileRange) else Flow if isinstance(piece, Flow) else type(piece)
        )
        contents.append(b"".join(chunks_of([piece])))
    around = [bytes, bytes]  # the end of a part, and the head of the next
    assert kinds == [bytes, bytes, *around, FileRange, *around, bytes, *around, Flow, *around]
    assert [contents[index] for index in (1, 4, 7, 10)] == [b"value", b"in a file", b"bytes", b"items"]


@pytest.mark.parametrize("size", [1, 8 * KIB * KIB])
def test_content_is_not_copied(size):
    """A field's value and a file's bytes are used as they are, whatever their length."""
    value, data = bytes(size), bytes(size)
    pieces = list(MultipartBody([("field", value)], [part(data)]).pieces())
    assert pieces[1] is value
    assert pieces[4] is data


def test_parts_are_read_one_after_another():
    """A part is read only after the part before it."""
    drawn = []

    def source(name):
        for _ in range(3):
            drawn.append(name)
            yield b"item"

    passing = chunks_of(MultipartBody([], [part(source("a")), part(source("b"))]).pieces())
    assert drawn == ["a", "b"]  # the first item of each, when it was opened
    assert [next(passing) for _ in range(3)][1:] == [b"item", b"item"]
    assert drawn == ["a", "b", "a"]
    passing.close()


def test_files_are_open_one_at_a_time(tmp_path):
    """Files are open one at a time, since a request may have more files than a process may open."""
    paths = [tmp_path / str(number) for number in range(50)]
    for path in paths:
        path.write_bytes(b"content")
    open_before = open_files()
    body = MultipartBody([], [part(path, is_next=False) for path in paths])
    assert open_files() == open_before
    most = max(open_files() for _ in body.pieces())
    assert most <= open_before + 1
    assert open_files() == open_before


def open_files():
    """How many files this process has open; a constant if the system does not say."""
    return len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").is_dir() else 0


def test_a_pass_that_is_closed_early_closes_its_source():
    """A pass that breaks off closes the source's generator."""
    ended = []

    def source():
        try:
            while True:
                yield b"item"
        finally:
            ended.append(True)

    passing = MultipartBody([], [part(source)]).pieces()
    next(passing)
    assert next(passing).read(1) == b"item"
    assert not ended
    passing.close()
    assert ended


# Invalid form data


@pytest.mark.parametrize(
    ("form_data", "message"),
    [
        ([("a", "b")], "form_data must be a mapping, not list"),
        ("a=b", "form_data must be a mapping, not str"),
        ({1: "a"}, "form_data: a key must be str, and 1 is int"),
        ({b"a": "a"}, "form_data: a key must be str, and b'a' is bytes"),
        ({"a": None}, "form_data['a'] is None; leave it out, or send \"\" instead"),
        ({"a": ["b", None]}, "form_data['a'] is None"),
        (
            {"a": {"b": "c"}},
            "form_data['a'] must be str, bytes, int, float or bool, or a list of those, not dict",
        ),
        (
            {"a": [["b"]]},
            "form_data['a'] must be str, bytes, int, float or bool, or a list of those, not list",
        ),
        (
            {"a": object()},
            "form_data['a'] must be str, bytes, int, float or bool, or a list of those, not object",
        ),
    ],
)
def test_invalid_form_data_is_a_type_error(form_data, message):
    """An invalid form field is a TypeError that names the argument, the key and the fix."""
    with pytest.raises(TypeError, match=re.escape(message)):
        encode_fields(form_data)


def test_empty_form_data_is_no_field():
    """None, an empty mapping and an empty sequence give no field."""
    assert encode_fields(None) == encode_fields({}) == encode_fields({"a": []}) == []


def test_bytes_of_a_field_are_not_copied():
    """A large field value is in memory once: the caller's."""
    value = bytes(10)
    assert encode_fields({"a": value})[0][1] is value


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
