"""`rxupload receive` runs the receiver."""

from __future__ import annotations

import re

from support.command_line import (
    interrupt,
    posix_only,
    started,
)


@posix_only
def test_receive_takes_uploads_until_ctrl_c(cli, photo, tmp_path):
    """`receive` prints its address, stores uploads, refuses those that are too large, and ends with Ctrl-C."""
    large = tmp_path / "large.bin"
    large.write_bytes(bytes(20_000))
    inbox = tmp_path / "inbox"
    with started("receive", "--port", 0, "--directory", inbox, "--max-size", "10kB") as process:
        url = re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())[0]
        stored = cli("send", url, photo)
        refused = cli("send", url, large)
        result = interrupt(process)

    assert (stored.status, refused.status, result.status, result.err) == (0, 1, 0, "")
    assert "413" in refused.err
    assert {file.name: file.read_bytes() for file in inbox.iterdir()} == {"beach.jpg": photo.read_bytes()}


def test_receive_stores_in_uploads_unless_told_otherwise(photo, cli, tmp_path):
    """The default directory is ./uploads, which is made at the start; the current directory stays as it is."""
    (tmp_path / "here").mkdir()
    with started("receive", "--port", 0, cwd=tmp_path / "here") as process:
        line = process.stdout.readline()
        assert list((tmp_path / "here").iterdir()) == [tmp_path / "here" / "uploads"]
        assert cli("send", re.search(r"http://\S+", line)[0], photo).status == 0

    assert f" into {tmp_path / 'here' / 'uploads'} " in line
    assert [path.name for path in tmp_path.glob("here/**/*")] == ["uploads", "beach.jpg"]


def test_receive_lets_in_the_hosts_that_are_allowed(cli, photo, tmp_path):
    """--allow-host may be repeated; other pages are refused with a text that names it."""
    allowed = ["--allow-host", "one.example", "--allow-host", "two.example"]
    with started("receive", "--port", 0, "--directory", tmp_path / "inbox", *allowed) as process:
        url = re.search(r"http://\S+", process.stdout.readline())[0]
        results = [
            cli("send", url, photo, "--header", f"Origin: https://{name}.example")
            for name in ("one", "two", "three")
        ]

    assert [result.status for result in results] == [0, 0, 1]
    assert "--allow-host" in results[2].out


def test_receive_on_a_taken_port_names_the_option(cli, stalled, tmp_path):
    """A port that is in use is one line that names --port, with status 1."""
    port = stalled[1].getsockname()[1]
    result = cli("receive", "--port", port, "--directory", tmp_path)

    assert result.status == 1
    assert re.fullmatch(rf"rxupload: port {port} of 127\.0\.0\.1 is in use: .*--port.*\n", result.err)


def test_receive_into_a_directory_that_cannot_be_is_not_a_matter_of_the_port(cli, photo):
    """An error of the directory names the directory."""
    result = cli("receive", "--port", 0, "--directory", photo)

    assert (result.status, result.out) == (1, "")
    assert str(photo) in result.err
    assert "--port" not in result.err


def test_help_of_receive_documents_its_directory_and_hosts(cli):
    """`receive --help` says where files go, and how to let a host in."""
    text = " ".join(cli("receive", "--help").out.split())

    assert "where to store the files (./uploads)" in text
    assert "--allow-host NAME" in text
