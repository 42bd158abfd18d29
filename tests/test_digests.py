"""Names of hash algorithms, the digest fields of RFC 9530, and other ways to write a digest."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxupload import upload
from rxupload._digests import check_digest, dictionary, digest_field, digest_of, field_name, is_written_as

HELLO = hashlib.sha256(b"hello").digest()


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (None, None),
        ("sha256", "sha256"),
        ("SHA256", "sha256"),
        ("sha-256", "sha256"),
        ("sha-512", "sha512"),
        ("SHA-1", "sha1"),
        ("sha", "sha1"),
        ("md5", "md5"),
        ("sha3_256", "sha3_256"),
        ("SHA3-256", "sha3_256"),
        ("blake2b", "blake2b"),
    ],
)
def test_names_of_algorithms(given, name):
    """A name is hashlib's, or that of RFC 9530, in any case."""
    assert check_digest(given) == name


@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        ("sha257", ValueError, "digest: this Python has no hash algorithm 'sha257'; it has .*sha256"),
        ("", ValueError, "digest: this Python has no"),
        ("crc32c", ValueError, "digest: this Python has no"),
        ("shake_128", ValueError, "digest: shake_128 has digests of any length"),
        (256, TypeError, 'digest: expected the name of a hash algorithm, such as "sha256", or None, got int'),
        (hashlib.sha256, TypeError, "digest: expected the name"),
        (True, TypeError, "digest: expected the name"),
    ],
)
def test_wrong_algorithms_at_the_call(wrong, error, text):
    """A wrong algorithm is an error of `upload()`, before anything is sent."""
    with pytest.raises(error, match=text):
        upload("http://upload.test/", b"data", digest=wrong)


def test_the_algorithms_that_an_error_lists_are_accepted():
    """Each choice that the error offers is one."""
    with pytest.raises(ValueError, match="it has ") as caught:
        check_digest("sha257")
    listed = str(caught.value).partition("it has ")[2].split(", ")
    assert {"md5", "sha256", "sha3_256", "blake2b"} <= set(listed)
    assert [check_digest(each) for each in listed] == listed


def test_names_in_fields():
    """An algorithm has the name of RFC 9530, if that has one."""
    assert [field_name(each) for each in ("sha256", "sha512", "sha1", "md5", "blake2b")] == [
        "sha-256",
        "sha-512",
        "sha",
        "md5",
        "blake2b",
    ]


@pytest.mark.parametrize(
    ("field", "found"),
    [
        ("sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:", True),
        ("  sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:  ", True),
        ("sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ:", True),  # the padding is missing
        ("md5=:XUFAKrxLKna5cZ2REBfFkg==:, sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:", True),
        ("sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:;q=1;  a=?0;b, md5=:AAAA:", True),
        ('a=(1 "x, y" :AA==:;z);q=0.5 ,\tb, sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:', True),
        (
            "sha-256=:AAAA:, sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:",
            True,
        ),  # the last one counts
        ("sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:, sha-256=:AAAA:", False),
        ('a="sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:"', False),  # in a string
        ("sha-512=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:", False),  # another algorithm
        ("", False),
        # Not well-formed, so that all of it is ignored.
        ("sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:,", False),
        ("sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:, =1", False),
        ("sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=: md5", False),
        ("sha-256=LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=", False),  # RFC 3230's Digest
        ("sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=", False),
        ("SHA-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:", False),
        ("sha-256=:LPJNul+wow4m6D==sqxbninhsWHlwfp0JecwQzYpOLmCQ:", False),
    ],
)
def test_digest_of_a_field(field, found):
    """A field is read as a dictionary of RFC 9651, whatever else is in it."""
    assert (digest_of(field, "sha256") == HELLO) is found


@given(st.dictionaries(st.sampled_from(["sha256", "sha512", "md5", "sha1"]), st.binary(min_size=1)))
def test_a_written_field_is_read_again(digests):
    """What is written as a field is read again."""
    field = digest_field(digests)
    assert {name: digest_of(field, name) for name in digests} == digests


@given(st.text(st.sampled_from('ab-*=:;,. \t"\\()?01@%AZ')))
def test_any_field_is_read(field):
    """No text is an error, and what is read has keys of RFC 9651."""
    assert all(key[0] in "ab*" for key in dictionary(field))


def test_a_long_field_takes_linear_time():
    """A hostile field of 64 KB, which is not well-formed at its end, is read like any other."""
    for field in (
        "a=(" + "1 " * 32000,
        "a;b" * 20000 + "!",
        "a=" + '"\\\\' * 20000,
        "a, " * 20000,
        "a=:" + "A" * 65536,
    ):
        assert dictionary(field) == {}


@pytest.mark.parametrize(
    ("text", "is_it"),
    [
        (HELLO.hex(), True),
        (HELLO.hex().upper(), True),
        (f" {HELLO.hex()}\n", True),
        (base64.b64encode(HELLO).decode(), True),
        (base64.b64encode(HELLO).decode().rstrip("="), True),
        (f":{base64.b64encode(HELLO).decode()}:", True),
        (base64.urlsafe_b64encode(HELLO).decode(), True),
        (base64.b64encode(HELLO[:-1]).decode(), False),
        (HELLO.hex()[:-2], False),
        (HELLO.hex() + "00", False),
        (base64.b64encode(HELLO.hex().encode()).decode(), False),
        ("", False),
        (":", False),
        ("::", False),
        ("=", False),
        ("é" * 44, False),
        ("not a digest", False),
    ],
)
def test_ways_to_write_a_digest(text, is_it):
    """Hex and base64 are the digest; all else is another one."""
    assert is_written_as(text, HELLO) is is_it
