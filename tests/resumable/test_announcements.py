"""What a server announces by OPTIONS: which answers are remembered, and which are asked for again."""

from __future__ import annotations

import httpx
import pytest
from support.resumable_uploads import run
from support.tus_server import Gone, Tus, broken_after, status, tus_server

from rxupload.resumable import Tus as TusProtocol
from rxupload.resumable import upload_resumable

KIB = 1 << 10


class Counted:
    """Counts the requests, and answers each with the same status."""

    def __init__(self, code: int, *headers: str) -> None:
        self.times = 0
        self._answer = status(code, *headers)

    def __call__(self, connection, asked, tus) -> None:
        self.times += 1
        self._answer(connection, asked, tus)


@pytest.fixture
def server():
    """A server that announces checksums and more, and its endpoint."""
    with tus_server(Tus(extensions="checksum,creation-with-upload", algorithms="sha256")) as (tus, server):
        yield tus, f"{server.url}files"


def has_checksums(tus) -> bool:
    sent = [each for each in tus.asked if each.method == "PATCH"]
    assert sent
    return all(each.header("Upload-Checksum") for each in sent)


@pytest.mark.parametrize("code", [301, 400, 401, 403, 407, 408, 410, 429, 500, 502, 503, 504])
def test_a_refused_question_is_asked_again_by_the_next_upload(file, server, code):
    """The first upload does without the extensions, and asks once. The next one has fresh credentials, and them."""
    tus, url = server
    refused = Counted(code)
    tus.then("OPTIONS", refused)
    up = upload_resumable(url, file, chunk_size=1000 * KIB)
    run(up)
    assert not has_checksums(tus)
    tus.asked.clear()
    run(up)
    assert has_checksums(tus)
    assert refused.times == 1


@pytest.mark.parametrize("code", [404, 405, 501])
def test_a_server_that_does_not_know_the_question_is_asked_once(file, server, code):
    """It announces nothing, and that is remembered."""
    tus, url = server
    unknown = Counted(code)
    tus.then("OPTIONS", *[unknown] * 5)
    for _ in range(2):
        run(upload_resumable(url, file, chunk_size=1000 * KIB))
    assert not has_checksums(tus)
    assert unknown.times == 1


@pytest.mark.parametrize("code", [200, 201, 204, 206])
def test_an_answer_of_success_is_remembered(file, server, code):
    """Also for another subscription, whatever the status is."""
    tus, url = server
    answered = Counted(code, "Tus-Extension: checksum", "Tus-Checksum-Algorithm: sha1")
    tus.then("OPTIONS", *[answered] * 5)
    for _ in range(2):
        run(upload_resumable(url, file, chunk_size=1000 * KIB))
    assert has_checksums(tus)
    assert answered.times == 1


@pytest.mark.parametrize("parallel", [1, 3])
def test_one_subscription_asks_once(file, server, parallel):
    """Also if it begins an upload anew, and for several connections."""
    tus, url = server
    refused = Counted(503)
    tus.then("OPTIONS", *[refused] * 9)
    up = upload_resumable(url, file, chunk_size=1000 * KIB, protocol=TusProtocol(parallel=parallel))
    tus.then("PATCH", broken_after(KIB))
    with pytest.raises(httpx.NetworkError):
        up.run()
    assert refused.times == 1
    tus.uploads.clear()
    run(up)
    assert refused.times == 2


def test_a_question_whose_connection_breaks_is_asked_again(file, server):
    """The upload ends with that error, and the next one asks."""
    tus, url = server

    def broken(connection, asked, tus):
        connection.reset()
        raise Gone

    tus.then("OPTIONS", broken)
    up = upload_resumable(url, file, chunk_size=1000 * KIB)
    with pytest.raises(httpx.NetworkError):
        up.run()
    run(up)
    assert has_checksums(tus)
