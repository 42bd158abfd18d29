"""Limits of a server that make no sense: they harm neither the upload nor what is remembered of it."""

from __future__ import annotations

import httpx
import pytest
from support.ietf_server import broken_after, ietf_server
from support.resumable_uploads import outcome_of

from rxupload.resumable import FileStore, IetfResumable, upload_resumable

MIB = 1 << 20


@pytest.mark.parametrize("limits", ["max-age=999999999999999", "max-append-size=0"])
def test_an_upload_goes_on_in_spite_of_a_senseless_limit(file, tmp_path, content, limits):
    """No clock has that time, and no part is of no bytes. The state can be read again."""
    with ietf_server() as (ietf, server):
        ietf.limits = limits
        ietf.then("PATCH", broken_after(MIB))
        store = FileStore(tmp_path / "state")
        up = upload_resumable(f"{server.url}photos", file, protocol=IetfResumable(), store=store)
        with pytest.raises(httpx.NetworkError):
            up.run()
        (stored,) = store.uploads()
        assert stored.path == file
        response = up.run()
        assert bytes(ietf.only.content) == content
        assert outcome_of(response).resumed_at == MIB
