"""`rxupload send --resume --protocol`: the protocols beside tus, by the same command."""

from __future__ import annotations

import hashlib
import json

import pytest
from support.command_line import parse_form
from support.google_server import broken_after as broken_session
from support.google_server import endpoint, google_server
from support.ietf_server import broken_after, ietf_server

from rxupload import receiver

CONTENT = hashlib.shake_256(b"protocols").digest(4_000_000)


@pytest.fixture
def film(tmp_path):
    path = tmp_path / "film.mp4"
    path.write_bytes(CONTENT)
    return path


def test_google_goes_on(film, cli):
    """The metadata is the resource, and the session's address stands nowhere."""
    with google_server() as (google, server):
        args = ["send", endpoint(server), film, "--resume", "--protocol", "google", "-F", "name=a", "-v"]
        google.then("PUT", broken_session(1_000_000))
        results = [cli(*args), cli("resumable", "list"), cli(*args, "--chunk-size", "1MiB")]
        assert [result.status for result in results] == [1, 0, 0]
        assert "1.0 MB (25 %) were there before" in results[2].err
        assert google.only.resource == {"name": "a"}
        assert bytes(google.only.content) == CONTENT
    assert results[2].out == '{"kind": "storage#object"}'
    assert "secret" not in "".join(part for result in results for part in result[1:])


def test_a_chunk_of_google_is_a_multiple(film, cli):
    """The error names the option."""
    result = cli(
        "send", "http://127.0.0.1:1/", film, "--resume", "--protocol", "google", "--chunk-size", "1M"
    )
    assert (result.status, "--chunk-size: must be a multiple of 262144 bytes" in result.err) == (2, True)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["-F", "album=summer"], [("album", b"summer"), ("file", CONTENT)]),
        (["--name", "photo"], [("photo", CONTENT)]),
        ([], None),
    ],
)
def test_ietf_goes_on_also_with_a_form(film, cli, options, parts):
    """-F and --name make it a form, and the FILE is its last part."""
    with ietf_server() as (ietf, server):
        args = ["send", f"{server.url}photos", film, "--resume", "--protocol", "ietf", *options]
        ietf.then("PATCH", broken_after(1_000_000))
        assert cli(*args).status == 1
        result = cli(*args)
        assert result.status == 0
        assert "1.0 MB (2" in result.err
        kept = ietf.only
    if parts is None:
        assert bytes(kept.content) == CONTENT
    else:
        head = f"POST / HTTP/1.1\r\nContent-Type: {kept.content_type}\r\n\r\n".encode()
        found = parse_form(head, bytes(kept.content))
        assert [(part.name, part.content) for part in found] == parts


def test_the_receiver_takes_a_form_of_ietf(film, cli):
    """Its response is that to an ordinary form."""
    with receiver.running() as url:
        result = cli("send", url, film, "--resume", "--protocol", "ietf", "-F", "album=summer")
    stored = json.loads(result.out)
    assert (result.status, stored["fields"]) == (0, {"album": "summer"})
    assert stored["files"][0]["sha256"] == hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--protocol", "tus"], "--protocol is for --resume"),
        (["--resume", "--protocol", "ftp"], "invalid choice"),
        (["--resume", "--protocol", "google", "--name", "a"], "--name has no place"),
    ],
)
def test_wrong_usage_is_one_sentence(film, cli, options, said):
    """The status is 2."""
    result = cli("send", "http://127.0.0.1:1/", film, *options)
    assert (result.status, said in result.err.splitlines()[-1]) == (2, True)
