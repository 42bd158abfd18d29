"""`rxupload send --digest` hashes each FILE as it is sent, and compares it with what the server says."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest
from support.scripted_server import header

from rxupload import receiver

JPEG = b"\xff\xd8 a beach"
SHA256 = hashlib.sha256(JPEG).hexdigest()


def repr_digest(content: bytes, name: str = "sha256") -> str:
    field = {"sha256": "sha-256", "sha512": "sha-512"}[name]
    return f"Repr-Digest: {field}=:{base64.b64encode(hashlib.new(name, content).digest()).decode()}:"


@pytest.mark.parametrize("name", ["sha256", "SHA-256", "sha512"])
def test_the_digest_is_printed_and_asked_for(cli, server, photo, name):
    """The server is asked for its digest; where it sends none, ours is printed, and nothing is said of its own."""
    result = cli("send", server.url, photo, "--digest", name)

    plain = name.lower().replace("-", "")
    assert (result.status, result.out) == (0, "stored")
    assert result.err.splitlines()[-1] == f"{photo}: 200 OK, {hashlib.new(plain, JPEG).hexdigest()}"
    assert header(server.requests[0][0], b"want-repr-digest") == f"{plain[:3]}-{plain[3:]}=1".encode()


def test_a_digest_that_agrees_is_verified(cli, server, photo):
    """The line of the FILE says that the server has the same; with --json, so does the response."""
    server.answer = lambda _: (200, b"", repr_digest(JPEG))
    lines = cli("send", server.url, photo, photo, "--digest", "sha256")
    events = cli("send", server.url, photo, "--digest", "sha256", "--json").out.splitlines()

    assert lines.out.splitlines() == [f"{photo}: 200 OK, {SHA256}, verified"] * 2
    response = json.loads(events[-2])
    assert (response["digests"], response["verified"]) == ([SHA256], True)


@pytest.mark.parametrize("options", [[], ["--json"], ["-q"]])
def test_a_digest_that_differs_is_a_failure(cli, server, photo, options):
    """The status is 1, and the error has both digests."""
    server.answer = lambda _: (200, b"", repr_digest(b"other bytes"))
    result = cli("send", server.url, photo, "--digest", "sha256", *options)

    assert result.status == 1
    assert SHA256 in result.out + result.err
    assert "differs" in result.out + result.err


def test_a_digest_that_differs_is_tried_again(cli, server, photo, no_waits):
    """With --retries the FILE is sent again."""
    server.answer = lambda number: (200, b"", repr_digest(b"other" if number == 1 else JPEG))
    result = cli("send", server.url, photo, "--digest", "sha256", "--retries", 1)

    assert result.status == 0
    assert result.err.splitlines()[-1].endswith(", verified")
    assert len(server.requests) == 2


def test_a_digest_of_the_response_itself_says_nothing(cli, server, photo):
    """A server that describes its own response has not said anything of the FILE."""
    server.answer = lambda _: (200, b"stored", repr_digest(b"stored"))
    result = cli("send", server.url, photo, "--digest", "sha256")
    assert (result.status, result.err.splitlines()[-1]) == (0, f"{photo}: 200 OK, {SHA256}")


def test_several_files_in_a_form_have_a_digest_each(cli, server, photo):
    """The digests come in the order of the form."""
    result = cli("send", server.url, photo, "-F", f"a=@{__file__}", "--digest", "sha256", "--json")
    own = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    assert json.loads(result.out.splitlines()[-2])["digests"] == [own, SHA256]


def test_own_headers_are_left_alone(cli, server, photo):
    """-H Want-Repr-Digest takes the place of ours, and an algorithm that RFC 9530 lacks is not asked for."""
    assert (
        cli("send", server.url, photo, "--digest", "sha256", "-H", "Want-Repr-Digest: sha-512=1").status == 0
    )
    assert cli("send", server.url, photo, "--digest", "blake2b").status == 0
    assert [header(head, b"want-repr-digest") for head, _ in server.requests] == [b"sha-512=1", None]


def test_an_unknown_algorithm_is_wrong_usage(cli, server, photo):
    """Nothing is sent."""
    result = cli("send", server.url, photo, "--digest", "crc")
    assert (result.status, server.requests) == (2, [])
    assert "digest: " in result.err


def test_the_receiver_verifies(cli, photo, tmp_path):
    """`rxupload receive` sends its digest."""
    with receiver.running(directory=tmp_path / "inbox") as url:
        assert cli("send", url, photo, "--digest", "sha256").err.splitlines()[-1].endswith(", verified")
