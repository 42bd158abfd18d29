"""How a response is decoded: whole, whatever the cuts, the members and the coding."""

from __future__ import annotations

import gzip
import itertools
import zlib
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxupload import ResponseTooLarge
from rxupload._decoding import ROOM, Bound, decode, guard
from rxupload._transfer import Transfer

LIMIT = 1 << 20


def bound(limit: int | None = LIMIT) -> Bound:
    return Bound(Transfer(None), limit)


def cut(data: bytes, at: list[int]) -> list[bytes]:
    """Cut bytes at these places. Some pieces are empty."""
    places = sorted({min(each, len(data)) for each in at} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


def raw_deflate(data: bytes, level: int = -1) -> bytes:
    encoder = zlib.compressobj(level, wbits=-zlib.MAX_WBITS)
    return encoder.compress(data) + encoder.flush()


# Small ones, and those that are decoded in several steps
contents = st.one_of(
    st.binary(max_size=300),
    st.builds(lambda data, times: data * times, st.binary(min_size=1, max_size=3), st.integers(1, 90_000)),
)
cuts = st.lists(st.integers(0, 5000), max_size=8)


@given(
    st.lists(contents, min_size=1, max_size=4), cuts, st.sampled_from([b"", bytes(600), b"\x1f", b"\x1fx"])
)
def test_gzip_of_any_number_of_members(members, at, padding):
    """All members are decoded, as RFC 1952, section 2.2, has it. What follows them is dropped."""
    data = b"".join(map(gzip.compress, members)) + padding
    assert b"".join(decode(cut(data, at), "gzip", bound(None))) == b"".join(members)


@given(contents, cuts, st.sampled_from(range(-1, 10)), st.booleans(), st.sampled_from([b"", bytes(600)]))
def test_deflate_with_and_without_a_frame(content, at, level, is_raw, padding):
    """Two bytes tell whether zlib's frame is there, however they are cut."""
    data = raw_deflate(content, level) if is_raw else zlib.compress(content, level)
    assert b"".join(decode(cut(data + padding, at), "deflate", bound(None))) == content


@given(contents, cuts)
def test_identity(content, at):
    """A body without a coding passes unchanged."""
    for coding in ("", "identity"):
        assert b"".join(decode(cut(content, at), coding, bound())) == content


@given(contents, cuts, st.sampled_from(["gzip", "deflate", "raw deflate", "identity"]))
def test_a_guarded_body_is_what_httpx_decodes(content, at, kind):
    """httpx decodes a guarded body as it would the body itself."""
    encode = {"gzip": gzip.compress, "deflate": zlib.compress, "raw deflate": raw_deflate}.get(kind, bytes)
    coding = kind.rpartition(" ")[2]

    class Stream(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            return guard(cut(encode(content), at), coding, bound())

    assert httpx.Response(200, headers={"Content-Encoding": coding}, stream=Stream()).read() == content


@pytest.mark.parametrize(
    "extra", [b"", gzip.compress(b"another"), bytes(9000)], ids=["nothing", "a member", "zeros"]
)
def test_a_guarded_gzip_ends_after_its_first_member(extra):
    """httpx ignores everything after the first member, and keeps it: so it does not get it."""
    data = gzip.compress(b"first" * 1000)
    passed = b"".join(guard(cut(data + extra, [len(data)]), "gzip", bound()))
    assert passed == data


@pytest.mark.parametrize(
    ("data", "coding"),
    [
        (b"no gzip", "gzip"),
        (gzip.compress(b"small")[:-1], "gzip"),
        (gzip.compress(b"small")[:-5] + bytes(5), "gzip"),
        (gzip.compress(b"small")[:2], "gzip"),
        (gzip.compress(b"small")[:1], "gzip"),
        (gzip.compress(b"small") + gzip.compress(b"small")[:-1], "gzip"),
        (gzip.compress(b"small") + b"\x1f\x8b no member", "gzip"),
        (b"\xff\xff\xff\xff", "deflate"),
        (b"\x78\x9c\xff\xff\xff\xff", "deflate"),
        (zlib.compress(b"small")[:-4] + bytes(4), "deflate"),
    ],
    ids=itertools.count(),  # the bytes contain the time
)
@pytest.mark.parametrize("at", [[], [1], [2], [3, 4, 5]])
def test_a_broken_body_is_an_error(data, coding, at):
    """Wrong bytes, and a gzip that breaks off, raise `DecodingError`, in the first member and in any other."""
    with pytest.raises(httpx.DecodingError):
        list(decode(cut(data, at), coding, bound()))


def test_a_deflate_may_break_off():
    """Some servers omit its last bytes."""
    assert b"".join(decode([zlib.compress(b"small" * 100)[:-4]], "deflate", bound())) == b"small" * 100


@pytest.mark.parametrize("size", [1, 1000, 65_535, 65_536, 65_537, 200_000])
@pytest.mark.parametrize("coding", ["identity", "gzip", "deflate", "raw deflate"])
def test_the_limit_is_exact(size, coding):
    """A body may have as many bytes as the limit, and not one more."""
    encode = {"gzip": gzip.compress, "deflate": zlib.compress, "raw deflate": raw_deflate}.get(coding, bytes)
    coding = coding.rpartition(" ")[2]
    assert len(b"".join(decode([encode(bytes(size))], coding, bound(size)))) == size
    with pytest.raises(ResponseTooLarge, match=str(size)):
        list(decode([encode(bytes(size + 1))], coding, bound(size)))


@pytest.mark.parametrize(
    "data", [gzip.compress(b""), gzip.compress(b"x") + bytes(100)], ids=["empty", "padded"]
)
def test_the_limit_applies_to_encoded_bytes(data):
    """An encoded body may have 64 KiB more than the limit, whatever it decodes to."""
    times = (1000 + ROOM) // len(data)
    list(decode([data] * times, "gzip", bound(1000)))
    with pytest.raises(ResponseTooLarge):
        list(decode([data] * (times + 1), "gzip", bound(1000)))
