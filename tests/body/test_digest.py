"""Readers that hash: the same pieces in small slices, and the digests of the last pass."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.owner import FakeOwner
from support.pieces import chunks_of

from rxupload import SourceChanged
from rxupload._body import Digests
from rxupload._sources import FileRange, make_source

SLICE = 256 * 1024


def followed(file, digests, **options):
    return digests.follow(make_source(file, **options).open(FakeOwner()))


@given(st.lists(st.binary(max_size=40)), st.sampled_from(["sha256", "md5", "blake2b"]))
def test_the_digest_is_of_what_is_read(items, algorithm):
    """The pieces of a pass have the bytes of the source, and the digest is theirs."""
    digests = Digests(algorithm)
    reader = followed(lambda: iter(items), digests)
    for _ in range(2):
        data = b"".join(chunks_of(reader.pieces()))
        assert data == b"".join(items)
        assert digests.of_last_pass(is_whole=True) == [hashlib.new(algorithm, data).hexdigest()]
    assert digests.of_last_pass(is_whole=False) == [None]


@pytest.mark.parametrize("kind", ["path", "bytes", "bytearray", "item", "buffer"])
def test_large_pieces_are_cut(tmp_path, kind):
    """Long data is hashed in slices, so that its first bytes leave at once; and a file gives bytes, not a range."""
    data = bytes(range(256)) * 10_000 + b"end"
    path = tmp_path / "film.mp4"
    path.write_bytes(data)
    source = {
        "path": path,
        "bytes": data,
        "bytearray": bytearray(data),
        "item": [data],
        "buffer": [memoryview(bytearray(data))],
    }[kind]
    digests = Digests("sha256")
    reader = followed(source, digests)
    pieces = []
    for piece in reader.pieces():
        assert not isinstance(piece, FileRange)
        pieces += chunks_of([piece])
    assert max(map(len, pieces)) == SLICE
    assert b"".join(pieces) == data
    assert digests.of_last_pass(is_whole=True) == [hashlib.sha256(data).hexdigest()]
    reader.close()


def test_a_small_file_is_one_piece(tmp_path):
    """A small file is one piece of bytes, which a transport can join with its head."""
    path = tmp_path / "note.txt"
    path.write_bytes(b"hello")
    assert list(followed(path, Digests("sha256")).pieces()) == [b"hello"]


def test_the_size_and_the_errors_are_those_of_the_source(tmp_path):
    """The reader has the size of the source, and a source that gives another size is still an error."""
    path = tmp_path / "log.txt"
    path.write_bytes(bytes(1000))
    reader = followed(path, Digests("sha256"))
    assert reader.size == 1000
    path.write_bytes(bytes(10))
    with pytest.raises(SourceChanged, match="1000 bytes expected"):
        list(reader.pieces())
    short = followed(lambda: [b"abc"], Digests("sha256"), size=5)
    assert short.size == 5
    with pytest.raises(SourceChanged, match="ended after 3"):
        list(chunks_of(short.pieces()))
