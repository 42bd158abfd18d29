"""`rxupload send --resume`: the same command goes on where the server stands, whatever has ended the last one."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from unittest.mock import ANY

import pytest
from support.command_line import (
    PROCESS_PATIENCE,
    command,
    in_own_process,
    interrupt,
    on_a_terminal,
    posix_only,
    started,
)
from support.tus_server import broken_after, take

from rxupload import receiver

CONTENT = hashlib.shake_256(b"command").digest(4_000_000)
SECRET = re.compile("secret[0-9]")


@pytest.fixture
def film(tmp_path):
    path = tmp_path / "film.mp4"
    path.write_bytes(CONTENT)
    return path


def holding(count):
    """Take so many bytes of a part, and then nothing. Return what the server does, and an event that is set then."""
    has_come = threading.Event()

    def answer(connection, asked, tus):
        take(connection, asked, tus.uploads[asked.path], count)
        has_come.set()
        connection.wait_for_end()

    return answer, has_come


def events(out):
    return [json.loads(line) for line in out.splitlines()]


# Going on


def test_after_a_kill_the_same_command_goes_on(film, tmp_path):
    """The receiver gets each byte, and the second process sends only what was not there."""
    inbox = tmp_path / "inbox"
    with receiver.running(inbox) as url:
        args = ["send", f"{url}files", film, "--resume", "--json"]
        with started(*args, "--limit-rate", "100k") as process:
            while json.loads(process.stdout.readline())["sent"] < 50_000:
                pass
            process.kill()
            process.wait(PROCESS_PATIENCE)
        result = in_own_process(command(*args))

    *progress, response, summary = events(result.out)
    assert (result.status, result.err) == (0, "")
    start = response["start"]
    assert 50_000 <= start < len(CONTENT)
    assert {event["start"] for event in progress} == {start}
    assert (progress[0]["sent"], progress[-1]["sent"]) == (start, len(CONTENT))
    assert response["sent"] == summary["sent"] == len(CONTENT) - start
    assert (inbox / "film.mp4").read_bytes() == CONTENT


@posix_only
def test_after_ctrl_c_the_same_command_goes_on(tus, film, cli):
    """Ctrl-C ends with 130 and says that the command goes on."""
    answer, has_come = holding(1_000_000)
    tus.then("PATCH", answer)
    with started("send", tus.url, film, "--resume") as process:
        assert has_come.wait(PROCESS_PATIENCE)
        result = interrupt(process)
    assert result.status == 130
    assert result.err.splitlines()[-2:] == [f"{film}: the same command goes on with the upload", "aborted"]

    result = cli("send", tus.url, film, "--resume")
    assert result.status == 0
    assert f"{film}: 1.0 MB (25 %) were there before\n" in result.err
    assert bytes(tus.only.content) == CONTENT


@posix_only
def test_ctrl_c_before_the_upload_stands_promises_nothing(stalled, film):
    """Without an upload on the server, the same command would begin anew, so nothing is said."""
    url, listener = stalled
    with started("send", url, film, "--resume") as process:
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(1)
            result = interrupt(process)
    assert result == (130, "", "aborted\n")


def test_after_an_error_the_same_command_goes_on(tus, film, cli):
    """Without --retries, a broken connection ends with 1 and the same promise."""
    tus.then("PATCH", broken_after(1_000_000, resets=False))
    result = cli("send", tus.url, film, "--resume")
    assert result.status == 1
    assert result.err.endswith(f"{film}: the same command goes on with the upload\n")

    assert cli("send", tus.url, film, "--resume", "-q") == (0, "", "")
    assert bytes(tus.only.content) == CONTENT


def test_an_upload_that_runs_elsewhere_is_left_alone(tus, film, cli):
    """A second process says so, and the first one goes on."""
    answer, has_come = holding(1_000_000)
    tus.then("PATCH", answer)
    with started("send", tus.url, film, "--resume"):
        assert has_come.wait(PROCESS_PATIENCE)
        result = cli("send", tus.url, film, "--resume")
    assert (result.status, result.out) == (1, "")
    assert result.err == f"{film}: this upload runs already, in another process\n"
    assert tus.methods_asked == ["POST", "PATCH"]


def test_with_q_there_is_no_promise(tus, film, cli):
    """-q prints errors only."""
    tus.then("PATCH", 500)
    assert cli("send", tus.url, film, "--resume", "-q") == (1, "", f"{film}: 500 Status\n")


def test_of_several_files_those_go_on_that_are_unfinished(tus, film, photo, cli):
    """Only the FILE that is remembered is named."""
    tus.then("PATCH", 500)
    result = cli("send", tus.url, film, photo, "--resume", "--concurrency", 1)
    assert result.status == 1
    assert [line for line in result.err.splitlines() if "goes on" in line] == [
        f"{film}: the same command goes on with the upload"
    ]
    assert cli("send", tus.url, film, "--resume").status == 0
    assert sorted(bytes(each.content) for each in tus.uploads.values()) == sorted(
        [CONTENT, photo.read_bytes()]
    )


def test_retries_go_on_where_the_server_stands(tus, film, cli, no_waits):
    """As long as the server gets more, one retry is enough for any number of failures."""
    tus.then("PATCH", *[broken_after(1_000_000, resets=False)] * 3)
    result = cli("send", tus.url, film, "--resume", "--retries", 1)
    assert result.status == 0
    for attempt in (1, 2, 3):
        assert re.search(rf"^{re.escape(str(film))}: .* \(attempt {attempt}\)$", result.err, re.MULTILINE)
        assert f"{attempt}.0 MB ({25 * attempt} %) were there before" in result.err
    assert bytes(tus.only.content) == CONTENT


def test_a_file_that_has_changed_is_sent_anew(tus, film, cli):
    """The upload of the old content is not gone on with."""
    tus.then("PATCH", broken_after(1_000_000, resets=False))
    assert cli("send", tus.url, film, "--resume").status == 1
    film.write_bytes(CONTENT[::-1])
    result = cli("send", tus.url, film, "--resume", "--json")
    assert (result.status, events(result.out)[-2]["start"]) == (0, 0)
    assert bytes(tus.only.content) == CONTENT[::-1]


# What is sent


def test_options_go_along(tus, film, cli):
    """Headers, the user, names, metadata and the size of chunks reach the server."""
    options = ["-H", "X-One: 1", "-u", "anna:secret", "--filename", "a b.mp4", "--type", "video/x"]
    options += ["-F", "album=summer", "--form-string", "note=@a;type=b/c", "--chunk-size", "1.5M"]
    assert cli("send", tus.url, film, "--resume", *options).status == 0
    assert tus.methods_asked == ["POST", "PATCH", "PATCH", "PATCH"]
    assert {each.header("X-One") for each in tus.asked} == {"1"}
    assert {each.header("Authorization") for each in tus.asked} == {"Basic YW5uYTpzZWNyZXQ="}
    assert tus.only.metadata == {
        "album": b"summer",
        "note": b"@a;type=b/c",
        "filename": b"a b.mp4",
        "filetype": b"video/x",
    }
    assert bytes(tus.only.content) == CONTENT


def test_other_metadata_is_another_upload(tus, film, cli):
    """Only the same command goes on."""
    tus.then("PATCH", broken_after(1_000_000, resets=False))
    assert cli("send", tus.url, film, "--resume", "-F", "album=summer").status == 1
    assert cli("send", tus.url, film, "--resume", "-F", "album=winter").status == 0
    assert [len(each.content) for each in tus.uploads.values()] == [1_000_000, len(CONTENT)]


def test_the_files_of_a_directory_keep_their_relative_names(tus, film, tmp_path, cli):
    """-r works as without --resume."""
    folder = tmp_path / "trip"
    (folder / "day").mkdir(parents=True)
    film.rename(folder / "day" / "film.mp4")
    assert cli("send", tus.url, "-r", folder, "--resume").status == 0
    assert tus.only.metadata["filename"] == b"day/film.mp4"


def test_a_digest_is_that_of_the_whole_file(film, cli):
    """--digest also counts what the server had before, and the receiver confirms it."""
    with receiver.running() as url:
        result = cli("send", f"{url}files", film, "--resume", "--digest", "sha256")
    assert result.status == 0
    assert result.err.endswith(f"204 No Content, {hashlib.sha256(CONTENT).hexdigest()}, verified\n")


def test_a_timeout_keeps_what_has_arrived(tus, film, cli):
    """--timeout limits one run, and the next one goes on."""
    answer, _ = holding(1_000_000)
    tus.then("PATCH", answer)
    result = cli("send", tus.url, film, "--resume", "--timeout", "2", "--retries", 1)
    assert (result.status, "2 s" in result.err) == (1, True)
    assert cli("send", tus.url, film, "--resume").status == 0
    assert bytes(tus.only.content) == CONTENT


def test_o_writes_the_last_response(tus, film, cli, tmp_path):
    """-o takes the response to the request that ended the upload; that of tus has no content."""
    output = tmp_path / "response"
    output.write_text("old")
    assert cli("send", tus.url, film, "--resume", "-o", output) == (0, "", ANY)
    assert output.read_bytes() == b""


def test_a_dry_run_sends_nothing(tus, film, cli, state):
    """--dry-run prints the request that would begin the upload, and stores nothing."""
    result = cli("send", tus.url, film, "--resume", "--dry-run", "-F", "album=summer")
    assert (result.status, result.err) == (0, "")
    assert result.out == f"{film}: POST {tus.url} as film.mp4, 4.0 MB\n  -F album: a value, 6 bytes\n"
    assert tus.asked == []
    assert not state.exists()


# What is refused


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-T"], "-T has no place"),
        (["-X", "PUT"], "-X has no place"),
        (["--name", "file"], "--name has no place"),
        (["-L"], "-L has no place"),
        (["--same-origin"], "--same-origin has no place"),
        (["-F", f"a=@{__file__}"], "-F NAME=@PATH has no place"),
        (["-F", "a=b;type=text/plain"], "--resume sends -F as metadata, without types"),
        (["-F", "a=b", "-F", "a=c"], "each NAME stands once"),
        (["-F", "a b=c"], "-F: a key of tus is ASCII without spaces"),
        (["-"], "standard input (-) has no path"),
        (["--chunk-size", "0"], "--chunk-size: must be more than 0"),
        (["--digest", "md"], "digest: "),
    ],
)
def test_options_without_a_meaning_are_refused(tus, film, cli, options, said):
    """The error names the option, and nothing is sent."""
    result = cli("send", tus.url, film, "--resume", *options)
    assert (result.status, result.out) == (2, "")
    assert said in result.err.splitlines()[-1]
    assert tus.asked == []


def test_a_chunk_size_is_for_resume(cli, film):
    """Without --resume, --chunk-size is refused."""
    result = cli("send", "http://127.0.0.1:1/", film, "--chunk-size", "1M")
    assert (result.status, "--chunk-size is for --resume" in result.err) == (2, True)


@posix_only
def test_a_pipe_is_refused(cli, tmp_path):
    """What can be read only once cannot be gone on with."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    result = cli("send", "http://127.0.0.1:1/", pipe, "--resume")
    assert (result.status, f"{pipe} is no regular file" in result.err) == (2, True)


def test_a_directory_is_refused_as_without_resume(cli, tus, tmp_path):
    """The error names -r."""
    result = cli("send", tus.url, tmp_path, "--resume")
    assert (result.status, "add -r to send the files in it" in result.err) == (1, True)


def test_a_server_without_tus_is_named_as_such(cli, server, film):
    """A success that is none of the protocol is no success."""
    result = cli("send", server.url, film, "--resume")
    assert result.status == 1
    assert "does it speak tus 1.0.0?" in result.err


# What is printed


def test_nothing_tells_the_address_of_an_upload(tus, film, photo, cli, no_waits):
    """It is a key. Neither -v nor --json nor an error has it; nor is metadata printed."""
    tus.extensions = "creation,creation-with-upload"
    tus.then("PATCH", 500, broken_after(1000, resets=False), 404)
    outputs = [
        cli("send", tus.url, film, "--resume", "-v", "-F", "album=summer", *options)
        for options in (["--retries", 1], ["--json"], [])
    ]
    outputs.append(cli("send", tus.url, photo, "--resume", "-v"))
    text = "".join(part for result in outputs for part in result[1:])
    assert "< Location: ...\n" in text
    assert "> Upload-Metadata: ...\n" in text
    assert "> PATCH /...\n" in text
    assert not SECRET.search(text)
    assert "c3VtbWVy" not in text  # "summer" in Base64


def test_v_prints_the_requests_as_they_were_sent(tus, film, cli):
    """Each line is one that the server got. The address of the upload is left out, and no other stands for it."""
    tus.then("PATCH", 500)
    for status in (1, 0):
        result = cli("send", tus.url, film, "--resume", "-v", "-H", "X-Album: summer")
        first, *lines = [line[2:] for line in result.err.splitlines() if line.startswith("> ")]
        asked = tus.asked[-1]
        assert result.status == status
        assert first == f"{asked.method} /..."
        lines.remove("Host: ...")
        assert set(lines) <= set(asked.head.decode().split("\r\n"))
        assert {"X-Album: summer", "Content-Length: 4000000"} <= set(lines)


@posix_only
@pytest.mark.parametrize("count", [1, 2])
def test_a_bar_shows_what_was_there_before(tus, film, photo, cli, count):
    """A bar begins there and says so, the only one as well as one of several."""
    tus.then("PATCH", broken_after(1_000_000, resets=False))
    assert cli("send", tus.url, film, "--resume").status == 1
    files = [film, photo][:count]
    status, drawn = on_a_terminal(command("send", tus.url, *files, "--resume", "--concurrency", 1))
    assert status == 0
    assert re.search(r"film\.mp4:  25%\|[^\r]*1\.00M/4\.00M[^\r]*, 1\.0 MB before", drawn)
    if count == 1:
        assert re.search(r"film\.mp4: 100%\|[^\r]*4\.00M/4\.00M[^\r]*, 1\.0 MB before", drawn)
    else:
        assert re.search(r"2 of 2 files sent, 3\.0 MB in ", drawn)
