"""Files that change in ways that nothing of one moment shows: what the server has is never a mixture of two."""

from __future__ import annotations

import io
import os

import httpx
import pytest
from support.resumable_uploads import outcome_of
from support.tus_server import broken_after, respond, tus_server

from rxupload.resumable import upload_resumable

MIB = 1 << 20


def edit(path, position):
    """Change a byte, and set the mtime back, as a copy with its times does."""
    before = path.stat()
    with path.open("r+b") as stream:
        stream.seek(position)
        byte = stream.read(1)[0]
        stream.seek(position)
        stream.write(bytes([byte ^ 255]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_stale_offset_does_not_prove_what_comes_after_it(file, store, content):
    """The content is known up to the offset of the first HEAD, and the server has more: that is of the other file."""

    def stale(connection, asked, tus):
        respond(connection, 200, "Upload-Offset: 1000", f"Upload-Length: {len(content)}")

    with tus_server() as (tus, server):
        tus.then("PATCH", broken_after(MIB))
        up = upload_resumable(f"{server.url}files", file, store=store)
        with pytest.raises(httpx.NetworkError):
            up.run()
        edit(file, MIB // 2)
        tus.then("HEAD", stale)
        response = up.run()
        assert bytes(tus.only.content) == file.read_bytes() != content
        assert outcome_of(response).resumed_at == 0


def test_a_file_that_was_another_one_for_a_while_is_sent_anew(file, store, content):
    """It changes while it is sent, the connection breaks, and the file of the start is put back with its times."""
    times = file.stat()
    calls = 0

    def headers():
        nonlocal calls
        calls += 1
        if calls == 2:  # of the PATCH, after the last look at the file
            file.write_bytes(bytes(len(content)))
        return {}

    with tus_server() as (tus, server):
        tus.then("PATCH", broken_after(1000))
        up = upload_resumable(f"{server.url}files", file, store=store, headers=headers)
        with pytest.raises(httpx.NetworkError):
            up.run()
        assert bytes(tus.only.content) == bytes(1000)
        file.write_bytes(content)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        response = up.run()
        assert bytes(tus.only.content) == content
        assert outcome_of(response).resumed_at == 0


class Seekable(io.RawIOBase):
    """A file object that is no file."""

    def __init__(self, content: bytes) -> None:
        self._stream = io.BytesIO(content)

    def readable(self):
        return True

    def seekable(self):
        return True

    def seek(self, *args):
        return self._stream.seek(*args)

    def tell(self):
        return self._stream.tell()

    def readinto(self, buffer):
        return self._stream.readinto(buffer)

    def put(self, content):
        """Replace the content."""
        self._stream = io.BytesIO(content)


@pytest.mark.parametrize("chunk_size", [None, 100_000])
def test_a_file_object_whose_content_was_replaced_is_sent_anew(store, content, chunk_size):
    """It has the same size, and another content where it was sent."""
    source = Seekable(content)
    with tus_server() as (tus, server):
        tus.then("PATCH", broken_after(1000))
        up = upload_resumable(f"{server.url}files", source, store=store, chunk_size=chunk_size)
        with pytest.raises(httpx.NetworkError):
            up.run()
        source.put(content[::-1])
        up.run()
        assert bytes(tus.only.content) == content[::-1]
