"""What clients put into headers, and what a damaged record has: the receiver answers in spite of all of it."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.forms import CLOSING, FORM, connected, file_part
from support.tus import BYTES_OF, answered, finished, hidden, named

DIGEST = {"Want_Repr_Digest": "sha-256=1"}
IETF = {"Upload_Draft_Interop_Version": 8, "Tus_Resumable": None}


# Requests


def exchanged(url, method, path, fields):
    """The status, the headers and the JSON that a request gets. Its header lines are sent as they are."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{url.port}", "Content-Length: 0"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    with connected(url) as sock:
        sock.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        return answered(sock, method)


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("filename YQ==,\x01 YQ==", "\x01"),
        ("a\x1fb YQ==", "a\x1fb"),
        ("a\x7f YQ==", "a\x7f"),
        (",filename YQ==", ""),
        ("filename YQ==\x1f", "filename"),
        ("filename YQ==\x85", "filename"),
        ("filename YQ==,title !", "title"),
        ("title YQ\x02==", "title"),
        ("title YQ==,title YQ==", "title"),
    ],
)
def test_a_refusal_of_metadata_names_the_key(tus, inbox, value, key):
    """A control character, and what is not base64, is a 400 at the creation."""
    fields = {"Tus-Resumable": "1.0.0", "Upload-Length": 1, "Upload-Metadata": value}
    status, _, found = exchanged(tus.url, "POST", "/files", fields)

    assert status == 400
    assert repr(key) in found["error"]
    assert list(inbox.iterdir()) == []


def test_control_characters_of_a_concatenation_are_refused(tus, inbox):
    """HEAD could not repeat them."""
    url = tus.created(1, b"a", Upload_Concat="partial")
    fields = {"Tus-Resumable": "1.0.0", "Upload-Concat": f"final;http://\x01{url.path}"}
    status, _, found = exchanged(tus.url, "POST", "/files", fields)

    assert (status, found["error"]) == (400, "Upload-Concat has a control character.")
    assert finished(inbox) == {}


@pytest.mark.parametrize("value", [b"a\0b", b"a\r\nSet-Cookie: x", b"\xed\xa0\x80", b"\x01\x7f\xff", b""])
def test_a_value_of_metadata_may_have_any_bytes(tus, value):
    """In base64 they do no harm: HEAD gives them back."""
    text = ",".join(f"{key} {base64.b64encode(value).decode()}".rstrip() for key in ("filename", "filetype"))
    url = tus.created(3, Upload_Metadata=text)

    assert tus.head(url).headers["Upload-Metadata"] == text
    assert tus.patch(url, 0, b"abc", **DIGEST).status_code == 204


FIELDS = {
    "tus": ["Upload-Metadata", "Upload-Concat", "Upload-Checksum", "Upload-Offset", "Upload-Defer-Length"],
    "ietf": ["Content-Type", "Content-Disposition", "Content-Digest", "Upload-Offset", "Upload-Complete"],
    "both": ["Upload-Length", "Want-Repr-Digest", "Origin", "Access-Control-Request-Headers"],
}
SPOKEN = {"tus": {"Tus-Resumable": "1.0.0"}, "ietf": {"Upload-Draft-Interop-Version": "8"}}
# What h11 lets in, which is more than RFC 9110 does: all but NUL and what `\s` stands for.
INNER = st.text(st.characters(max_codepoint=255, exclude_characters="\0\t\n\v\f\r "), max_size=8)
VALUES = st.builds(
    "".join,
    st.lists(
        st.sampled_from(["filename ", "YQ==", ",", "; ", "final;", "/files/", '="']) | INNER, max_size=4
    ),
).map(lambda value: value.strip(" \t"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(protocol=st.sampled_from(["tus", "ietf"]), data=st.data())
def test_no_header_of_a_client_breaks_an_answer(tus, protocol, data):
    """Whatever the creation has, it is answered, and so is the HEAD of its upload, which repeats a part of it."""
    good = {"tus": {"Upload-Length": "3"}, "ietf": {"Upload-Complete": "?0"}}[protocol]
    names = st.sampled_from(FIELDS[protocol] + FIELDS["both"])
    drawn = data.draw(st.dictionaries(names, VALUES, min_size=1, max_size=3))
    fields = SPOKEN[protocol] | good | drawn
    status, headers, _ = exchanged(tus.url, "POST", "/files", fields)
    assert status < 500
    assert exchanged(tus.url, "OPTIONS", "/files", fields)[0] < 500
    if "Location" in headers:
        assert exchanged(tus.url, "HEAD", headers["Location"], SPOKEN[protocol])[0] in {200, 204}


# Records


PARTIAL = {"Content_Type": "application/partial-upload", "Upload_Complete": "?1"}
CREATIONS = {
    "tus": {"Upload_Length": 3, **named("a")},
    "tus, finished": {"Upload_Length": 3, "content": b"abc", **BYTES_OF, **named("b")},
    "ietf": {"Upload_Complete": "?0", **IETF, "Content_Type": "text/plain"},
    "ietf, finished": {"Upload_Complete": "?0", **IETF, **DIGEST, "Content_Type": FORM["Content-Type"]},
}


@pytest.fixture
def four(tus, inbox):
    """An unfinished and a finished upload of each protocol: the URL and the record."""
    uploads = {}
    for name, headers in CREATIONS.items():
        known = set(hidden(inbox, ".json"))
        response = tus.post(**headers)
        (record,) = set(hidden(inbox, ".json")) - known
        uploads[name] = response.headers["Location"], record
    done = tus.patch(uploads["ietf, finished"][0], 0, file_part("c") + CLOSING, **IETF, **PARTIAL)
    assert done.status_code == 200
    return uploads


def answers(tus, url, of):
    """The statuses of the requests that ask for an upload, or add nothing to it."""
    spoken, sent = ({}, BYTES_OF) if "tus" in of else (IETF, PARTIAL | IETF)
    head = tus.head(url, **spoken)
    yield head.status_code
    offsets = [0, 3, head.headers.get("Upload-Offset", 1)] if "finished" in of or "tus" in of else [3]
    for offset in offsets:
        yield tus.request("PATCH", url, **{"Upload_Offset": offset} | sent | DIGEST).status_code


BROKEN_TEXTS = ["a\0b", "a\r\nb: c", "a\x01", "\x7f", "\ud800", "€", "../x", "a" * 300]


@pytest.mark.parametrize("value", BROKEN_TEXTS, ids=ascii)
@pytest.mark.parametrize("name", ["metadata", "concat"])
def test_a_record_whose_header_cannot_be_sent_is_none(tus, four, name, value):
    """The client gets 404, and begins a new upload."""
    url, record = four["tus"]
    values = json.loads(record.read_bytes()) | {name: value}
    record.write_text(json.dumps(values))
    is_harmless = value in {"../x", "a" * 300}
    assert tus.head(url).status_code == (200 if is_harmless else 404)
    assert tus.patch(url, 9).status_code == (409 if is_harmless else 404)


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers()
    | st.text()
    | st.sampled_from([*BROKEN_TEXTS, "?1"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["files", "fields", "sha256"]) | st.text(), inner, max_size=3)
    ),
    max_leaves=6,
)
NAMES = ["protocol", "length", "filename", "content_type", "metadata", "concat", "wants_digest", "trusted"]
NAMES += ["stored_as", "used_for", "response"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(of="ietf, finished", values={"response": None})
@example(of="ietf", values={"used_for": "x"})
@example(of="tus, finished", values={"stored_as": "gone"})
@given(
    of=st.sampled_from([*CREATIONS]),
    values=st.dictionaries(st.sampled_from(NAMES), anything, min_size=1, max_size=2),
)
def test_no_record_breaks_an_answer(tus, four, inbox, of, values):
    """Whatever a record has in place of its values, no request for its upload is a 500."""
    url, record = four[of]
    before = {path: path.read_bytes() for path in hidden(inbox)}
    record.write_text(json.dumps(json.loads(before[record]) | values), encoding="ascii")
    statuses = list(answers(tus, url, of))
    for path, content in before.items():
        path.write_bytes(content)
    assert max(statuses) < 500, statuses


@pytest.mark.parametrize("boundary", ["€", "\ud800", "a\0b"], ids=ascii)
def test_a_stored_boundary_that_no_header_has_is_a_form_without_parts(tus, four, boundary):
    """The last bytes of the form are answered with 400, as for any form that is none."""
    url, record = four["ietf"]
    values = json.loads(record.read_bytes()) | {"content_type": f"multipart/form-data; boundary={boundary}"}
    record.write_text(json.dumps(values))
    assert tus.patch(url, 0, b"abc", **IETF, **PARTIAL).status_code == 400


def test_a_finished_file_that_is_gone_has_no_digest(tus, inbox, four):
    """Who asks again gets the answer without it."""
    url, _ = four["tus, finished"]
    before = tus.patch(url, 3, **DIGEST)
    (inbox / "b").unlink()
    after = tus.patch(url, 3, **DIGEST)

    assert (before.status_code, after.status_code) == (204, 204)
    assert ("Repr-Digest" in before.headers, "Repr-Digest" in after.headers) == (True, False)
