"""Sources whose size is known only at their end: the server must take that, and is told of it once."""

from __future__ import annotations

import httpx
import pytest
from support.recording_observer import observe
from support.resumable_uploads import check_passes
from support.tus_server import Tus, broken_after, partial, tus_server

import rxupload
from rxupload import File
from rxupload.operators import retry_backoff
from rxupload.resumable import upload_resumable

MIB = 1 << 20


def test_a_source_of_unknown_size_is_refused_where_its_length_cannot_come_later(store, content):
    """The server announces what it can do, and not this: nothing is created, and the error has the remedy."""
    with tus_server(Tus(extensions="creation,termination")) as (tus, server):
        up = upload_resumable(f"{server.url}files", iter([content]), store=store, chunk_size=MIB)
        with pytest.raises(ValueError, match=r"^file: .*as in File\(source, size="):
            up.run()
        assert tus.methods_asked == []
        known = File(iter([content]), size=len(content))
        upload_resumable(f"{server.url}files", known, store=store, chunk_size=MIB).run()
        assert bytes(tus.only.content) == content


@pytest.mark.parametrize("fault", [broken_after(9), partial(9)])
def test_the_length_of_a_source_is_said_once(store, content, fault):
    """A server may refuse to hear it again. It has it from a last part that did not arrive as a whole."""
    with tus_server() as (tus, server):
        tus.then("PATCH", None, None, None, fault)
        up = upload_resumable(f"{server.url}files", lambda: iter([content]), store=store, chunk_size=MIB)
        response = rxupload.run(up.pipe(retry_backoff(wait_initial=0, wait_jitter=0)))
        assert response.status_code == 204
        assert bytes(tus.only.content) == content
        lengths = [each.header("Upload-Length") for each in tus.asked if each.method == "PATCH"]
        assert lengths == [None, None, None, str(len(content)), None]


@pytest.mark.parametrize("more", [1, MIB, 2 * MIB])
def test_a_source_that_has_become_longer_is_a_new_upload(store, content, more):
    """The server knows where the earlier one ended."""
    results = [content, content + bytes(more), content + bytes(more)]
    with tus_server() as (tus, server):
        tus.then("PATCH", None, None, None, broken_after(9))
        source = lambda: iter([results.pop(0)])  # noqa: E731
        up = upload_resumable(f"{server.url}files", source, store=store, chunk_size=MIB)
        with pytest.raises(httpx.NetworkError):
            up.run()
        tus.asked.clear()
        observed, _ = observe(up)
        assert observed.wait().response.status_code == 204
        check_passes(observed.progress)
        assert bytes(tus.only.content) == content + bytes(more)
        assert tus.methods_asked[:3] == ["HEAD", "POST", "DELETE"]
