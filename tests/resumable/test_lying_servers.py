"""Servers whose answers make no sense: each upload ends, soon, and with an error that the documentation has."""

from __future__ import annotations

from collections import deque
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.scripted_server import Server
from support.tus_server import Asked, respond

from rxupload import RedirectRefused
from rxupload.resumable import FileStore, GoogleResumable, IetfResumable, Tus, upload_resumable

SIZE = 200_000
MOST = 60  # requests: each row of nine has to bring an eighth of a part, and each part is sent in few bytes

NUMBERS = [
    "-1",
    "+1",
    "0x1",
    "1e3",
    "1.5",
    "",
    " ",
    "NaN",
    "x",
    "1,2",
    "9" * 18,
    "9" * 400,
    "٣",
    "0",
    "1",
    "5",
    "1000",
]
NUMBERS += [str(each) for each in (SIZE - 1, SIZE, SIZE + 1, 100_000, 2**63, -(2**63))]
PARTS = ["?0", "?1", "1", "0", "", "?2"]
LOCATIONS = ["/files/a", "/files/b", "http://[", "", "ftp://a/b", "/files", "//", "http://xn--a/", "\x80"]

numbers = st.sampled_from(NUMBERS) | st.integers(-2, SIZE + 2).map(str)
TOLD = {
    "Upload-Offset": numbers,
    "Upload-Complete": st.sampled_from(PARTS),
    "Range": st.builds("bytes=0-{}".format, numbers),
}
headers = st.fixed_dictionaries(
    TOLD,
    optional={
        "Upload-Length": numbers,
        "Upload-Limit": st.builds(
            "{}={}".format, st.sampled_from(["max-size", "max-append-size", "max-age"]), numbers
        ),
        "Upload-Expires": st.sampled_from(
            ["", "x", "Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 9999 08:49:37 GMT"]
        ),
        "Date": st.sampled_from(["", "x", "Sun, 06 Nov 0001 08:49:37 GMT", "Sun, 06 Nov 9999 08:49:37 GMT"]),
        "Location": st.sampled_from(LOCATIONS),
        "Tus-Extension": st.sampled_from(
            ["", ",,", "checksum,concatenation,creation-with-upload", "x" * 1000]
        ),
        "Tus-Checksum-Algorithm": st.sampled_from(["", "sha1", "md5,,sha256"]),
    },
)
STATUSES = [200, 201, 204, 308, 400, 403, 404, 405, 409, 410, 413, 423, 460, 500, 501, 503]


def answers(*usual: int):
    """A row of answers, the half of which have a usual status."""
    return st.lists(
        st.tuples(st.sampled_from(usual) | st.sampled_from(STATUSES), headers), min_size=1, max_size=4
    )


created = st.just([(201, {"Location": "/files/a", "Upload-Complete": "?0"})])
scripts = st.fixed_dictionaries(
    {
        "OPTIONS": answers(204),
        "POST": created | answers(201),
        "HEAD": answers(200, 204),
        "PATCH": answers(204, 409),
        "PUT": answers(308),
        "DELETE": answers(204),
    }
)


class Lying:
    """Answers with what was drawn, again and again.

    Attributes:
        script: What comes next for each method: a status and headers.
    """

    def __init__(self) -> None:
        self.script: dict[str, deque[Any]] = {}
        self.asked: list[Asked] = []

    def __call__(self, connection) -> None:
        while head := connection.read_head():
            method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
            asked = Asked(method, path, head)
            self.asked.append(asked)
            if asked.header("Content-Length"):
                asked.body = connection.read_body()
            code, fields = self.script[method][0]
            self.script[method].rotate(-1)
            lines = [f"{name}: {value}".encode().decode("latin-1") for name, value in fields.items()]
            respond(connection, code, *lines)


@pytest.fixture(scope="module")
def lying():
    script = Lying()
    with Server(script) as server:
        yield script, server
        server.errors.clear()


@pytest.fixture(scope="module")
def note(tmp_path_factory):
    path = tmp_path_factory.mktemp("notes") / "note"
    path.write_bytes(bytes(SIZE))
    return path


PROTOCOLS = [Tus(), Tus(parallel=2), GoogleResumable(), IetfResumable(), IetfResumable(form="file")]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(protocol=st.sampled_from(PROTOCOLS), is_chunked=st.booleans(), script=scripts)
def test_an_upload_to_a_server_that_lies_ends_soon(lying, note, tmp_path, protocol, is_chunked, script):
    """Twice: the second run goes on with what the first has remembered, or begins anew."""
    server_script, server = lying
    store = FileStore(tmp_path / "state")
    chunk_size = max(protocol.granularity, 70_000) if is_chunked else None
    up = upload_resumable(
        f"{server.url}files", note, store=store, protocol=protocol, chunk_size=chunk_size, timeout=60
    )
    server_script.script = {method: deque(each) for method, each in script.items()}
    for _ in range(2):
        server_script.asked = []
        error: Exception | None = None
        try:
            up.run()
        except (
            httpx.NetworkError,
            httpx.RemoteProtocolError,
            httpx.HTTPStatusError,
            RedirectRefused,
        ) as raised:
            error = raised
        except ValueError as raised:
            error = raised
        assert type(error) is not ValueError or str(error).startswith(("file:", "chunk_size:"))
        assert len(server_script.asked) <= MOST, server_script.asked
    for entry in store.uploads():
        assert entry.path == note
