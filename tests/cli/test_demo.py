"""`rxupload demo` uploads to a receiver of its own, and checks every byte."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from pathlib import Path

import pytest
from support.command_line import (
    command,
    in_own_process,
    interrupt,
    on_a_terminal,
    posix_only,
    started,
)

from rxupload import receiver


def test_demo_uploads_random_bytes_and_checks_them(cli):
    """The demo prints two equal SHA-256 sums, and removes its file."""
    result = cli("demo", "--size", "1MiB")

    assert result.status == 0
    sent, received = re.findall(r"\b[0-9a-f]{64}\b", result.out)
    assert sent == received
    assert re.search(r"^Response  200 OK after [0-9.]+ s, [0-9.]+ MB/s$", result.out, re.MULTILINE)
    assert result.out.endswith("OK        every byte has arrived\n")
    path = re.search(r"^File      (.*), 1\.0 MB of random bytes", result.out, re.MULTILINE)[1]
    assert not Path(path).parent.exists()


def test_demo_uploads_the_given_file(cli, photo):
    """`demo FILE` uploads that file, and leaves it in its place."""
    result = cli("demo", photo)

    assert result.status == 0
    assert result.out.count(hashlib.sha256(photo.read_bytes()).hexdigest()) == 2
    assert photo.exists()


def test_demo_uses_no_proxy(refusing):
    """The receiver is on this machine, so the proxy variables do not apply."""
    env = {**os.environ, "HTTP_PROXY": refusing, "http_proxy": refusing, "NO_PROXY": "", "no_proxy": ""}

    assert in_own_process(command("demo", "--size", "1KiB"), env=env).status == 0


def test_demo_uploads_an_empty_file(cli):
    """An empty file works too."""
    assert cli("demo", "--size", "0").status == 0


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ((200, json.dumps({"files": [{"sha256": "0" * 64}]}).encode()), "other bytes than were sent"),
        ((500, b"disk full"), "the receiver answered 500 Internal Server Error: disk full"),
    ],
)
def test_demo_fails_when_other_bytes_arrive(cli, server, monkeypatch, answer, complaint):
    """If the receiver got other bytes or none, the demo fails and says so."""
    server.answer = lambda _: answer
    monkeypatch.setattr(receiver, "running", lambda _: contextlib.nullcontext(server.url))
    result = cli("demo", "--size", "1KiB")

    assert result.status == 1
    assert complaint in result.err
    assert "every byte" not in result.out


def test_demo_without_its_file_is_one_sentence(cli, tmp_path):
    """A missing FILE is one line, with status 1."""
    missing = tmp_path / "missing.jpg"

    assert cli("demo", missing) == (1, "", f"rxupload: {missing}: No such file or directory\n")


@pytest.mark.parametrize(
    ("subcommand", "extra"), [("demo", "rxupload[demo]"), ("receive", "rxupload[receiver]")]
)
def test_without_the_extra_the_command_says_what_to_install(subcommand, extra):
    """Without the receiver's packages, demo and receive print the pip command that installs them."""
    result = in_own_process(command(subcommand, without="uvicorn"))

    assert result.status == 1
    assert extra in result.err
    assert len(result.err.splitlines()) == 1


@posix_only
def test_demo_draws_a_live_bar():
    """On a terminal the demo shows a bar with the file's own name, between its first and last lines."""
    status, drawn = on_a_terminal(command("demo", "--size", "5MB"))

    assert status == 0
    assert re.search(
        r"\nReceiver .*\n\rrandom\.bin:   0%\|.*\rrandom\.bin: 100%\|.*\nResponse  200 OK", drawn
    )


@posix_only
def test_ctrl_c_in_the_demo_leaves_nothing_behind():
    """Ctrl-C ends the demo with status 130, and its random bytes are removed."""
    with started("demo") as process:
        path = Path(process.stdout.readline().removeprefix("File      ").split(", ")[0])
        result = interrupt(process)

    assert result.status == 130
    assert result.err.endswith("aborted\n")
    assert not path.parent.exists()
