"""What an upload of a small file costs in calls of Python functions, whose number depends on no machine's speed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType

from support.scripted_server import Server

from rxupload import upload
from rxupload.testing import Connection


def answer_all(connection: Connection) -> None:
    while connection.read_head():
        connection.read_body()
        connection.respond()


def calls_of_one_upload(url: str, path: Path) -> int:
    count = 0

    def note(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(note)
    try:
        upload(url, path).run()
    finally:
        sys.setprofile(None)
    return count


def test_a_small_upload_takes_few_calls(tmp_path):
    """A small file on an open connection takes about 460 calls, and some more if it has to wait for the server."""
    path = tmp_path / "small.bin"
    path.write_bytes(bytes(4096))
    with Server(answer_all) as server:
        calls_of_one_upload(server.url, path)  # loads modules, and connects
        assert min(calls_of_one_upload(server.url, path) for _ in range(10)) < 540
