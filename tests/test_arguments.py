"""What several doors check alike: the shape of headers."""

from __future__ import annotations

import re
import traceback
from typing import Any

import httpx
import pytest

import rxupload
from rxupload import Field, File, upload
from rxupload._arguments import check_headers
from rxupload.resumable import upload_resumable

URL = "http://h.test/"
A_MAPPING = "expected a mapping, or a list of (name, value) pairs, got"

DOORS = {
    "upload": ("headers", lambda headers: upload(URL, b"data", headers=headers)),
    "field": (
        "form_data['a']: headers",
        lambda headers: upload(URL, b"data", form_data={"a": Field("b", headers=headers)}),
    ),
    "file": ("file[0]: headers", lambda headers: upload(URL, [File(b"data", headers=headers)])),
    "client": ("headers", lambda headers: rxupload.Client(headers=headers)),
    "resumable": ("headers", lambda headers: upload_resumable(URL, b"data", headers=headers)),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("headers", "error", "text"),
    [
        ("X: secret", TypeError, f": {A_MAPPING} str"),
        (b"X: secret", TypeError, f": {A_MAPPING} bytes"),
        (bytearray(b"X"), TypeError, f": {A_MAPPING} bytearray"),
        (5, TypeError, f": {A_MAPPING} int"),
        (["X: secret"], TypeError, "[0]: expected a (name, value) pair, got str"),
        ([("X", "a"), "Yb"], TypeError, "[1]: expected a (name, value) pair, got str"),
        ({"X: secret"}, TypeError, "[0]: expected a (name, value) pair, got str"),
        ([{"X": "secret"}], TypeError, "[0]: expected a (name, value) pair, got dict"),
        ([("secret",)], ValueError, "[0]: expected a (name, value) pair, got 1 items"),
        ([("X", "secret", 5)], ValueError, "[0]: expected a (name, value) pair, got 3 items"),
        ({"X": None}, TypeError, ": the value of 'X': expected a str or bytes, got NoneType"),
        ({"X": ["secret"]}, TypeError, ": the value of 'X': expected a str or bytes, got list"),
        ([(b"X", 5)], TypeError, ": the value of 'X': expected a str or bytes, got int"),
        ([("X", "a"), (5, "secret")], TypeError, ": the name of number 2: expected a str or bytes, got int"),
    ],
    ids=repr,
)
def test_headers_of_a_wrong_shape_are_named_and_not_quoted(door, headers, error, text):
    """The error says what was expected in the place, in no words of another library, at the call."""
    argument, call = DOORS[door]
    with pytest.raises(error) as caught:
        call(headers)
    assert str(caught.value) == f"{argument}{text}"
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert not re.search("secret|unpack", "".join(traceback.format_exception_only(caught.value)))


ONE = [(b"X-A", b"1")]


@pytest.mark.parametrize(
    ("headers", "sent"),
    [
        (None, []),
        ({}, []),
        ({"X-A": "1"}, ONE),
        ({b"X-A": b" 1\t"}, ONE),
        ([("X-A", b"1")], ONE),
        ((["X-A", "1"],), ONE),
        ({"X-A": "1"}.items(), ONE),
        (iter([("X-A", "1")]), ONE),
        ([("X-A", "1"), ("x-a", "2")], [*ONE, (b"x-a", b"2")]),
        (httpx.Headers([("X-A", "1"), ("X-A", "2")]), [*ONE, (b"X-A", b"2")]),
        ({"X-A": "\u00e9".encode()}, [(b"X-A", b"\xc3\xa9")]),
    ],
)
def test_headers_are_taken_in_each_form(headers: Any, sent):
    """A mapping, or pairs, of str or bytes; a name keeps its case, and a repeated one its lines."""
    assert check_headers(headers) == sent
