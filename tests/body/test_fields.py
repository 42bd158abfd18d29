"""Form data: what a field may be, fields with a type and headers of their own, and the order of pairs."""

from __future__ import annotations

import datetime as dt
import decimal
import fractions
import json
import re
import traceback
import uuid

import numpy as np
import pytest
from python_multipart.multipart import FormParser
from support.multipart_model import boundary_of, sent
from support.owner import FakeOwner

from rxupload import Field
from rxupload._body import MultipartBody, Part, encode_fields
from rxupload._sources import make_source

ZONE = dt.timezone(dt.timedelta(hours=2))


def part_of(form_data):
    """The bytes of a form's only part, from its disposition on."""
    body = sent(MultipartBody(encode_fields(form_data), boundary="B"))
    return body.removeprefix(b"--B\r\nContent-Disposition: form-data; ").removesuffix(b"\r\n--B--\r\n")


def contents(form_data):
    return [(part.name, part.content) for part in encode_fields(form_data)]


# Values


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (7, b"7"),
        (0.1, b"0.1"),
        (True, b"true"),
        (np.int64(-7), b"-7"),
        (np.uint8(255), b"255"),
        (np.float32(0.1), b"0.1"),
        (np.float64(0.1), b"0.1"),
        (np.float16(0.5), b"0.5"),
        (decimal.Decimal("0.10"), b"0.10"),
        (uuid.UUID(int=1), b"00000000-0000-0000-0000-000000000001"),
        (dt.date(2024, 2, 29), b"2024-02-29"),
        (dt.datetime.fromisoformat("2024-02-29T12:30"), b"2024-02-29T12:30:00"),
        (dt.datetime(2024, 2, 29, 12, 30, 0, 5, ZONE), b"2024-02-29T12:30:00.000005+02:00"),
    ],
    ids=lambda value: f"{type(value).__name__}-{value}",
)
def test_a_value_is_written_as_servers_read_it(value, expected):
    """Numbers are decimal, numpy's as Python's, and times are ISO 8601; alone, in a list, and in a Field."""
    assert contents({"a": value}) == [("a", expected)]
    assert contents({"a": [value, value]}) == [("a", expected)] * 2
    assert contents([("a", Field(value, content_type="text/plain"))]) == [("a", expected)]


# A list or a mapping


def test_pairs_keep_their_order_and_repeats():
    """A list of pairs is sent in its order, also where a name comes again later."""
    pairs = [("b", "1"), ("a", "2"), ("b", "3"), ("b", ["4", "5"]), ("a", Field("6"))]
    expected = [("b", b"1"), ("a", b"2"), ("b", b"3"), ("b", b"4"), ("b", b"5"), ("a", b"6")]
    assert contents(pairs) == contents(tuple(pairs)) == expected


def test_empty_form_data_is_no_field():
    """None, an empty mapping and an empty sequence give no field."""
    assert encode_fields(None) == encode_fields({}) == encode_fields([]) == encode_fields({"a": []}) == []


def test_bytes_of_a_field_are_not_copied():
    """A large field value is in memory once: the caller's."""
    value = bytes(10)
    assert encode_fields({"a": value})[0].content is value
    assert encode_fields({"a": Field(value)})[0].content is value


# Field


def test_a_field_has_its_type_and_no_filename():
    """The part has a Content-Type and no filename."""
    assert part_of({"payload_json": Field('{"a": 1}', content_type="application/json")}) == (
        b'name="payload_json"\r\nContent-Type: application/json\r\n\r\n{"a": 1}'
    )


def test_a_field_without_a_type_is_a_plain_one():
    """A Field of a value alone is the same as the value."""
    for value in ("a\nb", b"a\nb", 5):
        assert part_of({"a": Field(value)}) == part_of({"a": value})


def test_a_str_with_a_type_keeps_its_line_breaks():
    """JSON or text with a type is not a browser's form value: its line breaks stay."""
    text = json.dumps({"a": ["\u2605"]}, indent=1, ensure_ascii=False) + "\r\n\r"
    assert part_of({"a": Field(text, content_type="application/json")}).endswith(b"\r\n\r\n" + text.encode())
    assert part_of({"a": Field("x\ny")}).endswith(b"\r\n\r\nx\r\ny")


def test_headers_of_a_field_come_after_its_type():
    """Further headers are sent in their order, stripped, from each form that httpx takes."""
    for headers in (
        {"Content-ID": "<1@here>", "X-Empty": " "},
        [("Content-ID", " <1@here> "), ("X-Empty", "")],
        [(b"Content-ID", b"<1@here>"), (b"X-Empty", b"")],
    ):
        assert part_of({"a": Field("b", content_type="text/plain", headers=headers)}) == (
            b'name="a"\r\nContent-Type: text/plain\r\nContent-ID: <1@here>\r\nX-Empty: \r\n\r\nb'
        )


def test_a_server_takes_a_field_with_a_type_for_a_field():
    """A form parser calls back for a field, although its part has a type, and for a file with an empty filename."""
    file = make_source(b"content").open(FakeOwner())
    fields = encode_fields(
        {"json": Field("{}", content_type="application/json", headers={"Content-ID": "1"})}
    )
    body = MultipartBody([*fields, Part("file", file, "", "application/octet-stream")])
    seen = []
    parser = FormParser(
        "multipart/form-data",
        lambda field: seen.append(("field", field.field_name, field.value)),
        lambda file: seen.append(("file", file.field_name, file.file_name)),
        boundary=boundary_of(body),
    )
    parser.write(sent(body))
    parser.finalize()
    assert seen == [("field", b"json", b"{}"), ("file", b"file", b"")]


def test_repr_shows_no_secret():
    """Neither the value nor a header, which may be a secret, is in the repr."""
    shown = repr(Field("secret", content_type="text/plain", headers={"X": "secret"}, name="a"))
    assert shown == "Field(content_type='text/plain', name='a')"


# What is invalid


@pytest.mark.parametrize(
    ("form_data", "message"),
    [
        ("a=b", "form_data: expected a mapping, or a list of (name, value) pairs, got str"),
        (b"a=b", "form_data: expected a mapping, or a list of (name, value) pairs, got bytes"),
        ({("a", "b")}, "form_data: expected a mapping, or a list of (name, value) pairs, got set"),
        (["ab"], "form_data[0]: expected a (name, value) pair, got str"),
        ([("a", "b"), 5], "form_data[1]: expected a (name, value) pair, got int"),
        ([(1, "b")], "form_data: a key must be str, and 1 is int"),
        ({1: "a"}, "form_data: a key must be str, and 1 is int"),
        ({b"a": "a"}, "form_data: a key must be str, and b'a' is bytes"),
        ({"a": None}, "form_data['a'] is None; leave it out, or send \"\" instead"),
        ({"a": ["b", None]}, "form_data['a'] is None"),
        ({"a": Field(None)}, "form_data['a'] is None"),
        (
            {"a": Field(["b"])},
            "form_data['a'] must be a str, bytes, a number, a bool, a UUID, a date or a Field",
        ),
        (
            {"a": {"b": "c"}},
            "form_data['a'] must be a str, bytes, a number, a bool, a UUID, a date or a Field",
        ),
        ({"a": [["b"]]}, "or a list of those, not list"),
        ({"a": object()}, "or a list of those, not object"),
        ({"a": fractions.Fraction(1, 3)}, "or a list of those, not Fraction"),
        ({"a": 1j}, "or a list of those, not complex"),
        ({"a": np.array([1])}, "or a list of those, not ndarray"),
        ({"a": Field("b", content_type=5)}, "form_data['a']: content_type must be a str, not int"),
        ({"a": Field("b", headers=5)}, "form_data['a']: headers: expected a mapping"),
        (
            {"a": Field("b", headers={"X": 5})},
            "form_data['a']: headers: the value of 'X': expected a str or bytes, got int",
        ),
    ],
)
def test_a_wrong_type_is_a_type_error(form_data, message):
    """A wrong type is a TypeError that names the argument, the key and the fix."""
    with pytest.raises(TypeError, match=re.escape(message)):
        encode_fields(form_data)


@pytest.mark.parametrize(
    ("form_data", "message"),
    [
        ([("a", "b", "c")], "form_data[0]: expected a (name, value) pair, got 3 items"),
        ({"a": Field("b", name="c")}, "form_data['a']: the key is the field's name"),
        ({"a": Field("b", content_type="")}, "form_data['a']: content_type must be one line"),
        (
            {"a": Field("b", content_type="text/plain\r\nX: y")},
            "form_data['a']: content_type must be one line",
        ),
    ],
)
def test_a_wrong_value_is_a_value_error(form_data, message):
    """A wrong value is a ValueError that names the argument, the key and the fix."""
    with pytest.raises(ValueError, match=re.escape(message)):
        encode_fields(form_data)


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"X": "secret\r\nY: z"}, "CR, LF or another control character in the value of 'X'"),
        ({"X": "secret\n"}, "CR, LF or another control character in the value of 'X'"),
        ({"X": "secret\0"}, "CR, LF or another control character in the value of 'X'"),
        ({"X": "secret\u2605"}, "a str may contain only ASCII"),
        ({"X Y": "secret"}, "the name of number 1 is not a header name"),
        ({"": "secret"}, "the name of number 1 is not a header name"),
        ({"X": "a", "secret:": ""}, "the name of number 2 is not a header name"),
        (
            {"Content-Disposition": "secret"},
            "Content-Disposition is not one of them; name= and filename= make it",
        ),
        ({"content-type": "secret"}, "content-type is not one of them; use content_type="),
        ({"Content-Length": "secret"}, "Content-Length is not one of them"),
        ([(b"Content-Transfer-Encoding", b"secret")], "Content-Transfer-Encoding is not one of them"),
    ],
)
def test_an_invalid_header_is_named_and_not_quoted(headers, message):
    """The error names the argument and the header, and nothing in it or its traceback quotes the value."""
    with pytest.raises(ValueError, match=re.escape(f"form_data['a']: headers: {message}")) as caught:
        encode_fields({"a": Field("b", headers=headers)})
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert "secret" not in "".join(traceback.format_exception_only(caught.value))
