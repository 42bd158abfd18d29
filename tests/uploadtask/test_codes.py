"""The codes that `fail` gets."""

from __future__ import annotations

import os
from typing import Any

import httpx
import httpx2
import pytest
from support.recording_callbacks import RecordingCallbacks
from support.running_tasks import MIB, start, under_way
from support.scripted_server import Server

from rxupload import uploadtask
from rxupload.testing import Connection
from rxupload.uploadtask import uploadFile


def failed(url: str, path: Any, **more: Any) -> tuple[str, int]:
    """The arguments of fail."""
    recorder = RecordingCallbacks()
    uploadFile(recorder.object(url, path, **more))
    (end,) = recorder.wait().of("fail")
    return end


def test_code_200_connection_refused(photo):
    """A refused connection fails with code 200; the message says what failed where, and shows no secret."""
    data, code = failed("http://user:secret@127.0.0.1:1/photos?token=secret", photo)
    assert code == 200
    assert "http://127.0.0.1:1/photos" in data
    assert str(photo) in data
    assert "secret" not in data
    assert "\n" not in data


def test_code_200_no_such_host(photo):
    """A name that cannot be resolved fails with code 200."""
    assert failed("http://no-such-host.invalid/", photo)[1] == 200


def test_code_200_certificate(photo):
    """An untrusted certificate fails with code 200."""
    with Server(lambda connection: None, tls=True) as server:
        data, code = failed(server.url, photo)
        server.errors.clear()
    assert code == 200
    assert "certificate" in data.lower()


def test_code_200_not_http(photo):
    """Bytes that are not HTTP fail with code 200."""

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.send(b"220 mail.example.com ESMTP\r\n\r\n")
        connection.wait_for_end()

    with Server(script) as server:
        assert failed(server.url, photo)[1] == 200


def test_code_200_error_that_quotes_the_address(photo):
    """The text of a client's own hook is shown without the password of the address."""
    with Server(lambda connection: connection.serve(401)) as server:
        url = server.url.replace("http://", "http://user:secret@") + "?token=secret"
        hooks = {"response": [lambda response: response.raise_for_status()]}
        with httpx.Client(event_hooks=hooks) as client:
            data, code = failed(url, photo, client=client)
    assert code == 200
    assert "401" in data
    assert "secret" not in data


def test_code_202(photo):
    """Wrong arguments fail with code 202; rule 1 lists them."""
    assert failed("", photo)[1] == 202


def test_code_204(photo, server):
    """A limit of the client fails with code 204 too, for either httpx."""
    for module in (httpx, httpx2):
        with module.Client(timeout=0.1) as client:
            data, code = failed(server.url, photo, client=client, timeout=0)
        assert code == 204
        assert "timed out" in data or "within" in data or "imeout" in data


def test_code_300_reset(film, server):
    """A reset while sending fails with code 300."""
    recorder = RecordingCallbacks()
    start(recorder, server.url, film)
    under_way(server, recorder).reset()
    assert recorder.wait().code == 300


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nand"])
def test_code_300_closed(photo, answer):
    """A connection that ends before or in the response fails with code 300."""

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.send(answer)

    with Server(script) as server:
        assert failed(server.url, photo)[1] == 300


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_code_300_unreadable(photo):
    """A file that may not be read fails with code 300."""
    photo.chmod(0)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)  # root may read anything
        data, code = failed("http://127.0.0.1:1/", photo)
    finally:
        os.seteuid(user)
    assert code == 300
    assert str(photo) in data


def test_code_300_shrank(film, server):
    """A file that shrinks while it is sent fails with code 300."""
    recorder = RecordingCallbacks()
    start(recorder, server.url, film)
    request = under_way(server, recorder)
    with film.open("r+b") as file:
        file.truncate(100)
    request.read(24 * MIB)
    assert recorder.wait().code == 300
    assert str(film) in recorder.of("fail")[0][0]


@pytest.mark.parametrize("path", ["missing.jpg", "beach.jpg/missing"])
def test_code_301(photo, path):
    """A file that does not exist fails with code 301."""
    data, code = failed("http://127.0.0.1:1/", photo.parent / path)
    assert code == 301
    assert str(photo.parent / path) in data


def test_code_301_internal(internal):
    """So does a missing file under the root."""
    uploadtask.configure(internal_root=internal)
    assert failed("http://127.0.0.1:1/", "internal://mass/missing")[1] == 301


def test_code_1002(photo, server):
    """An abort fails with code 1002; rule 9 covers every way."""
    recorder = RecordingCallbacks()
    start(recorder, server.url, photo).abort()
    assert recorder.wait().of("fail") == [("user cancel request", 1002)]
