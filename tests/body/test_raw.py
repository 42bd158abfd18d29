"""The raw body: the file's bytes and nothing else, of known length or in chunks, readable by servers' parsers."""

from __future__ import annotations

import tempfile
from contextlib import closing

import h11
import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.multipart_model import READ_AGAIN, READ_ONCE, UNKNOWN_SIZE, content_pieces, source_of
from support.owner import FakeOwner
from support.pieces import chunks_of

from rxupload._body import RawBody
from rxupload._sources import FileRange, make_source
from rxupload._wait import SystemClock
from rxupload._wire.request import Framing, Units, head_of


def raw_body(reader):
    return RawBody(reader, None, "application/octet-stream")


def open_source(source, size=None):
    return make_source(source, size=size).open(FakeOwner())


def request_of(body, count):
    """The request's bytes as the wire sends them, in reads of `count`."""
    headers = [(b"Host", b"server.test")]
    if body.length is None:
        headers.append((b"Transfer-Encoding", b"chunked"))
    else:
        headers.append((b"Content-Length", b"%d" % body.length))
    units = Units(head_of(b"PUT", b"/", headers), body.pieces(), Framing.of(headers), SystemClock())
    return b"".join(chunk for data, _ in units for chunk in chunks_of([data], count))


def read_by_h11(data):
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    content = b""
    assert isinstance(connection.next_event(), h11.Request)
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        content += event.data
    assert connection.trailing_data == (b"", False)
    return content


def read_by_httptools(data):
    class Reader:
        content = b""
        is_whole = False

        def on_body(self, body):
            self.content += body

        def on_message_complete(self):
            self.is_whole = True

    reader = Reader()
    httptools.HttpRequestParser(reader).feed_data(data)
    assert reader.is_whole
    return reader.content


@pytest.mark.parametrize("read", [read_by_h11, read_by_httptools])
@settings(max_examples=200)
@given(st.sampled_from(READ_AGAIN + READ_ONCE), content_pieces, st.sampled_from([1, 100, 1 << 18]))
def test_servers_parsers_read_exactly_the_file(read, kind, pieces, count):
    """Two servers' parsers read the bytes of any kind of source, and its length is exact where it is known."""
    content = b"".join(pieces)
    declared = len(content) if kind.startswith("declared") else None
    with tempfile.TemporaryDirectory() as directory:
        reader = open_source(source_of(kind, pieces, directory), declared)
        body = raw_body(reader)
        assert body.length == (None if kind in UNKNOWN_SIZE else len(content))
        assert read(request_of(body, count)) == content
        if kind in READ_AGAIN:
            assert read(request_of(body, count)) == content
        reader.close()


@pytest.mark.parametrize("size", [0, 1, 1 << 20])
def test_a_file_is_one_range(tmp_path, size):
    """A path is a single range, which the wire sends without a copy, and bytes are one piece, not copied."""
    path = tmp_path / "file"
    path.write_bytes(bytes(size))
    with closing(open_source(path)) as reader:
        body = raw_body(reader)
        (piece,) = body.pieces()
        assert isinstance(piece, FileRange)
        assert (piece.start, piece.size, body.length) == (0, size, size)
    data = bytes(size)
    (piece,) = raw_body(open_source(data)).pieces()
    assert piece is data


def test_a_pass_that_is_closed_early_closes_its_source():
    """A pass that breaks off closes the source's generator."""
    ended = []

    def source():
        try:
            while True:
                yield b"item"
        finally:
            ended.append(True)

    passing = raw_body(open_source(source)).pieces()
    assert next(passing).read(1) == b"item"
    assert not ended
    passing.close()
    assert ended
