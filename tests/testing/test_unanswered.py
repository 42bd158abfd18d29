"""What the error of a block says of scripts that end without an answer."""

from __future__ import annotations

import contextlib
import socket

import httpx
import pytest
from support.scripted_server import PATIENCE

from rxupload import upload
from rxupload.testing import Connection, ScriptedServer


def ask(server: ScriptedServer, *targets: str) -> None:
    """Send requests on one connection, and wait until the server has closed it."""
    with socket.create_connection((server.host, server.port), timeout=PATIENCE) as sock:
        with contextlib.suppress(OSError):  # a reset, before or after
            sock.sendall("".join(f"POST {each} HTTP/1.1\r\n\r\n" for each in targets).encode())
            sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while sock.recv(65536):
                pass


@pytest.mark.parametrize(
    ("script", "request_"),
    [
        (Connection.read_request, " for POST /first"),
        (lambda connection: [connection.serve(), connection.read_request()], " for POST /second"),
        (lambda _: None, ", and has read no request"),
    ],
    ids=["no answer", "one answer for two", "nothing"],
)
def test_an_error_of_the_block_tells_of_a_script_without_an_answer(script, request_):
    """A script that forgets to answer is in a note of the block's error, once for each request."""
    with pytest.raises(KeyError) as caught, ScriptedServer(script) as server:
        for _ in range(2):
            ask(server, "/first", "/second")
        raise KeyError
    assert caught.value.__notes__ == [
        f"A script of the server at {server.url} ended without respond() or send(){request_}"
    ]


def test_the_error_of_an_upload_tells_of_a_script_without_an_answer():
    """So it is for an upload, whose error alone says only that the server has closed the connection."""
    with pytest.raises(httpx.TransportError) as caught, ScriptedServer(Connection.read_request) as server:
        upload(server.url, b"data").run()
    assert [
        each for each in caught.value.__notes__ if each.endswith("without respond() or send() for POST /")
    ]


@pytest.mark.parametrize(
    "script",
    [
        lambda connection: connection.serve(503, b"", "Connection: close"),
        lambda connection: [connection.read_head(), connection.reset()],
        lambda connection: [connection.read_head(), connection.send(b"HTTP/1.1 2")],
        lambda connection: [connection.read_head(), connection.wait_for_end()],
        lambda connection: [connection.serve(), connection.read_head()],
    ],
    ids=["answer", "reset", "half an answer", "wait", "end of the client"],
)
def test_a_script_that_means_its_end_adds_no_note(script):
    """An answer, a part of one, a reset, and a client that has left: nothing is missing."""
    with pytest.raises(KeyError) as caught, ScriptedServer(script) as server:
        ask(server, "/first")
        raise KeyError
    assert not hasattr(caught.value, "__notes__")
