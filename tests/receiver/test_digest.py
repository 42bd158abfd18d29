"""The receiver says the digest of its one file where it is asked with `Want-Repr-Digest`."""

from __future__ import annotations

import base64
import hashlib

import httpx
import pytest

from rxupload import run, upload
from rxupload.operators import verify_digest
from rxupload.receiver import running

DATA = b"data"
FIELD = f"sha-256=:{base64.b64encode(hashlib.sha256(DATA).digest()).decode()}:"


@pytest.fixture(scope="module")
def url():
    with running() as url:
        yield url


@pytest.mark.parametrize(
    ("want", "field"),
    [
        ("sha-256=1", FIELD),
        ("sha-256=10", FIELD),
        ("sha-512=9, sha-256=3;a=1", FIELD),
        ("sha-256=0", None),  # not wanted
        ("sha-256=11", None),
        ("sha-256", None),
        ("sha-256=1.0", None),
        ("sha-512=1", None),
        ("sha-256=1,", None),  # not well-formed
        ("", None),
    ],
)
def test_repr_digest_if_it_is_asked_for(url, want, field):
    """The field is there if SHA-256 is wanted, and is that of the file."""
    response = upload(url, DATA, headers={"Want-Repr-Digest": want}).run()
    assert response.headers.get("Repr-Digest") == field
    assert response.json()["files"][0]["size"] == len(DATA)


def test_the_field_may_come_in_several_lines(url):
    """Several lines of the request's field are one dictionary (RFC 9651, section 4.2)."""
    headers = [("Want-Repr-Digest", "sha-512=9"), ("Want-Repr-Digest", "sha-256=3")]
    assert httpx.post(url, files={"a": DATA}, headers=headers).headers["Repr-Digest"] == FIELD


def test_no_field_without_being_asked_or_with_several_files(url):
    """One digest cannot be that of several files."""
    assert "Repr-Digest" not in upload(url, DATA).run().headers
    wanting = {"Want-Repr-Digest": "sha-256=1"}
    assert "Repr-Digest" not in upload(url, [DATA, DATA], headers=wanting).run().headers


def test_verify_digest_needs_no_function(url):
    """The field is what `verify_digest` compares."""
    up = upload(url, DATA, digest="sha-256", headers={"Want-Repr-Digest": "sha-256=1"})
    assert run(up.pipe(verify_digest())).status_code == 200
