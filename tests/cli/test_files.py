"""Which files `rxupload send` sends: directories with -r, lists with --files-from, and --dry-run."""

from __future__ import annotations

import json
import os
import re
import threading

import pytest
from support.command_line import command, in_own_process, parse_form, posix_only


@pytest.fixture
def album(tmp_path):
    """A directory with files in it and below it."""
    for name in ("b.jpg", "a.jpg", "sub/deep/c.jpg", "sub/a.jpg"):
        path = tmp_path / "album" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "album"


def sent(server) -> dict[str, bytes]:
    """The files that arrived, by filename."""
    parts = [part for head, body in server.requests for part in parse_form(head, body)]
    return {part.filename: part.content for part in parts}


NAMES = ["a.jpg", "b.jpg", "sub/a.jpg", "sub/deep/c.jpg"]


@pytest.mark.parametrize("option", ["-r", "--recursive"])
def test_r_sends_the_files_of_a_directory(cli, server, album, photo, option):
    """Each file is a request; its filename is the path relative to the directory, with slashes."""
    result = cli("send", server.url, option, album, photo, "--concurrency", 1)

    assert result.status == 0
    assert sent(server) == {name: name.encode() for name in NAMES} | {"beach.jpg": photo.read_bytes()}
    assert result.out.splitlines() == [
        *(f"{album / name}: 200 OK" for name in NAMES),
        f"{photo}: 200 OK",
    ]
    assert "5 of 5 files sent" in result.err


@pytest.mark.parametrize("typed", [".", "./", "..", "album/", "../album"])
def test_a_directory_may_be_typed_in_any_way(cli, server, album, typed, monkeypatch):
    """Names are relative to the directory, however it was typed."""
    monkeypatch.chdir(
        album if typed in (".", "./", "../album") else album / "sub" if typed == ".." else album.parent
    )
    assert cli("send", server.url, "-r", typed).status == 0
    assert sorted(sent(server)) == NAMES


def test_a_directory_of_one_file_prints_its_line(cli, server, tmp_path):
    """The form of the output does not depend on the number of files that were found."""
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a").write_text("a")
    assert cli("send", server.url, "-r", tmp_path / "one").out == f"{tmp_path / 'one' / 'a'}: 200 OK\n"


def test_a_directory_without_r_names_the_option(cli, server, album, photo):
    """The other files are sent."""
    result = cli("send", server.url, album, photo)

    assert result.status == 1
    assert f"{album}: is a directory; add -r to send the files in it\n" in result.err
    assert list(sent(server)) == ["beach.jpg"]
    events = [json.loads(line) for line in cli("send", server.url, album, "--json").out.splitlines()]
    assert events[0]["message"] == "is a directory; add -r to send the files in it"


def test_an_empty_directory_is_no_success(cli, server, tmp_path):
    """There is nothing to send, and the command says so."""
    (tmp_path / "empty").mkdir()
    result = cli("send", server.url, "-r", tmp_path / "empty")
    assert result.status == 2
    assert "there is no file to send" in result.err


@posix_only
def test_what_is_left_out_is_said(cli, server, album):
    """Pipes and links to directories are left out, with a line each; a link to nowhere fails."""
    os.mkfifo(album / "pipe")
    (album / "loop").symlink_to(album)
    (album / "nowhere").symlink_to(album / "missing")
    (album / "link.jpg").symlink_to(album / "a.jpg")
    result = cli("send", server.url, "-r", album)

    assert result.status == 1
    assert f"{album}/pipe: left out, not a file\n" in result.err
    assert f"{album}/loop: left out, a link to a directory\n" in result.err
    assert f"{album}/nowhere: No such file or directory\n" in result.err
    assert sorted(sent(server)) == sorted([*NAMES, "link.jpg"])


def test_an_unreadable_directory_is_not_left_out(cli, server, album, monkeypatch):
    """Its files are not left out unseen: the error of the walk becomes that of a FILE."""
    walk = os.walk

    def walk_with_error(top, onerror):
        onerror(PermissionError(13, "Permission denied", str(album / "locked")))
        yield from walk(top)

    monkeypatch.setattr(os, "walk", walk_with_error)
    result = cli("send", server.url, "-r", album)
    assert result.status == 1
    assert f"{album / 'locked'}: " in result.err
    assert "4 of 5 files sent" in result.err


@pytest.mark.parametrize("end", ["\n", "\r\n", "\0"])
def test_files_from_reads_a_list(cli, server, album, photo, tmp_path, end, monkeypatch):
    """One path a line, or NUL-separated; relative to the current directory; empty lines do not count."""
    monkeypatch.chdir(album)
    (album / "-").write_text("dash")
    (tmp_path / "list").write_bytes(end.join(["a.jpg", "", "sub/a.jpg", "-", ""]).encode())
    result = cli("send", server.url, photo, "--files-from", tmp_path / "list", "--concurrency", 1)

    assert result.status == 0
    filenames = [part.filename for head, body in server.requests for part in parse_form(head, body)]
    assert filenames == ["beach.jpg", "a.jpg", "a.jpg", "-"]


@posix_only
def test_files_from_takes_any_name(server, tmp_path):
    """A name may have spaces, and between NULs line breaks and bytes that are no UTF-8."""
    names = [b"two words", b"line\nbreak", b"\xff\xfe"]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_bytes(name)
    args = command("send", server.url, "--files-from", "-")
    result = in_own_process(args, cwd=tmp_path, input=b"\0".join([*names, b""]))

    assert result.status == 0
    assert sorted(
        part.content for head, body in server.requests for part in parse_form(head, body)
    ) == sorted(names)


def test_files_from_with_r_takes_directories(cli, server, album, tmp_path):
    """-r applies to the list, too."""
    (tmp_path / "list").write_text(f"{album}\n")
    assert cli("send", server.url, "-r", "--files-from", tmp_path / "list").status == 0
    assert sorted(sent(server)) == NAMES


def test_a_list_that_is_missing_or_empty_is_said(cli, server, tmp_path):
    """A missing list is named; an empty one is nothing to send."""
    missing = cli("send", server.url, "--files-from", tmp_path / "list")
    (tmp_path / "list").write_text("\n")
    empty = cli("send", server.url, "--files-from", tmp_path / "list")

    assert (missing.status, f"{tmp_path / 'list'}: No such file" in missing.err) == (1, True)
    assert (empty.status, "there is no file to send" in empty.err) == (2, True)


@posix_only
@pytest.mark.parametrize("options", [["-"], ["--files-from", "-"], ["-F", "a=@-"]])
def test_a_closed_standard_input_is_said(server, options):
    """With `<&-` there is nothing to read, and the command says so."""
    args = command("send", server.url, *options)
    result = in_own_process(["sh", "-c", '"$@" <&-', "sh", *args])
    assert result.status == 2
    assert result.err.splitlines()[-1].endswith(" is closed")


# --dry-run


def test_dry_run_prints_what_would_be_sent(cli, server, album, photo):
    """A line for each FILE says method, address, filename and size; nothing is sent, and no secret is printed."""
    url = server.url.replace("//", "//u:s3cret@") + "up?key=s3cret"
    result = cli("send", url, "-r", album, photo, "-u", "anna", "--dry-run")

    where = f"POST {server.url}up?..."
    assert result == (
        0,
        "".join(f"{album / name}: {where} as {name}, {len(name)} bytes\n" for name in NAMES)
        + f"{photo}: {where} as beach.jpg, 10 bytes\n",
        "",
    )
    assert not server.requests


def test_dry_run_finds_what_cannot_be_read(cli, server, album, photo):
    """What would fail to open is an error, with status 1."""
    result = cli("send", server.url, album / "missing", album, photo, "--dry-run", "-T")

    assert (result.status, result.out) == (1, f"{photo}: PUT {server.url}beach.jpg, 10 bytes\n")
    assert result.err == (
        f"{album / 'missing'}: No such file or directory\n"
        f"{album}: is a directory; add -r to send the files in it\n"
    )


def test_dry_run_in_json(server, photo, tmp_path):
    """With --json each FILE is an object."""
    result = in_own_process(
        command("send", server.url, photo, tmp_path / "missing", "-", "--dry-run", "--json"), input=b"x"
    )
    events = [json.loads(line) for line in result.out.splitlines()]

    assert result.status == 1
    assert events[0] == {
        "event": "dry-run",
        "index": 0,
        "file": str(photo),
        "method": "POST",
        "url": server.url,
        "filename": "beach.jpg",
        "size": 10,
        "error": None,
    }
    assert (events[1]["error"], events[1]["size"]) == ("No such file or directory", None)
    assert (events[2]["filename"], events[2]["size"]) == ("upload", None)


@pytest.mark.parametrize("options", [[], ["--dry-run"], ["--json"]])
def test_another_file_of_the_form_is_named(cli, server, photo, album, options):
    """An error of a file of -F names that file, beside the FILE that is not sent for it."""
    for path, reason in ((album / "missing", "No such file or directory"), (album, "Is a directory")):
        result = cli("send", server.url, photo, "-F", f"a=@{path}", *options)
        assert result.status == 1
        assert f"{path}: {reason}" in result.out + result.err
    assert not server.requests


@posix_only
def test_dry_run_does_not_wait_for_a_pipe(cli, server, tmp_path):
    """A named pipe is not opened, because nobody may write to it."""
    os.mkfifo(tmp_path / "pipe")
    watchdog = threading.Timer(20, lambda: (tmp_path / "pipe").write_bytes(b""))
    watchdog.daemon = True
    watchdog.start()
    result = cli("send", server.url, tmp_path / "pipe", "--dry-run")
    assert watchdog.is_alive()
    watchdog.cancel()
    assert (result.status, result.out) == (0, f"{tmp_path / 'pipe'}: POST {server.url} as pipe\n")


@pytest.mark.parametrize("args", [["--retries", "x"], ["-H", "a b: c"], ["--name", ""]])
def test_dry_run_checks_the_arguments(cli, server, photo, args):
    """What would be wrong usage is so in a dry run, too."""
    assert cli("send", server.url, photo, "--dry-run", *args).status == 2


def test_help_is_of_groups_that_fit_a_screen(cli, monkeypatch):
    """`send --help` has groups of options, none of more than 24 lines of 80 columns, as old terminals have."""
    monkeypatch.setenv("COLUMNS", "80")
    groups = re.split(r"\n\n(?=[a-z])", cli("send", "--help").out)
    titles = [group.splitlines()[0] for group in groups]
    for title in ("files:", "request:", "connection:", "output:", "exit status:", "retries:"):
        assert title in titles
    assert max(len(group.splitlines()) for group in groups) <= 24
