"""`rxupload resumable` shows unfinished uploads, and forgets them."""

from __future__ import annotations

import json
import os
import re
import time
from datetime import UTC, datetime, timedelta

import pytest
from support.command_line import command, in_own_process, on_a_terminal, posix_only, started
from support.tus_server import broken_after

from rxupload import receiver

DAY = timedelta(days=1)


@pytest.fixture
def film(tmp_path):
    path = tmp_path / "film.mp4"
    path.write_bytes(bytes(4_000_000))
    return path


@pytest.fixture
def unfinished(tus, film, cli):
    """An upload that is unfinished, with secrets in its command."""
    tus.expires = datetime.now(UTC) + DAY
    tus.then("PATCH", broken_after(1_000_000, resets=False))
    url = tus.url.replace("//", "//anna:passw0rd@") + "?key=passw0rd"
    assert cli("send", url, film, "--resume", "-q", "-H", "X-Token: passw0rd").status == 1
    return tus


def test_an_unfinished_upload_is_listed(unfinished, film, cli):
    """--json prints the facts of each, without the upload's address and other secrets."""
    result = cli("resumable", "list", "--json")
    (facts,) = map(json.loads, result.out.splitlines())
    assert (result.status, result.err) == (0, "")
    assert abs(facts.pop("created") - time.time()) < 3600
    assert facts == {
        "path": str(film.resolve()),
        "endpoint": unfinished.url,
        "protocol": "tus",
        "expires": int(unfinished.expires.timestamp()),
        "size": 4_000_000,
    }


def test_the_table_has_no_secrets(unfinished, film, cli):
    """It has a line for each, below the heads of its columns."""
    status, out, err = cli("resumable", "list")
    assert (status, err) == (0, "")
    heads, line = out.splitlines()
    assert heads.split() == ["FILE", "TO", "BEGUN", "EXPIRES", "SIZE"]
    time_ = r"\d{4}-\d\d-\d\d \d\d:\d\d"
    assert re.fullmatch(
        rf"{re.escape(str(film.resolve()))}  {re.escape(unfinished.url)}  {time_}  {time_}  4\.0 MB", line
    )
    assert not re.search("passw0rd|secret[0-9]", out)
    assert len({len(heads), len(line)}) == 1


def test_what_nobody_knows_is_a_question_mark(tus, film, cli):
    """A server need not say when it forgets the upload."""
    tus.then("PATCH", 500)
    assert cli("send", tus.url, film, "--resume", "-q").status == 1
    assert "  ?  " in cli("resumable", "list").out
    assert json.loads(cli("resumable", "list", "--json").out)["expires"] is None


@posix_only
def test_a_terminal_gets_no_control_characters(tus, tmp_path, cli):
    """The name of a file cannot move the cursor."""
    path = tmp_path / "a\x1b[Ab"
    path.write_bytes(bytes(1_000_000))
    tus.then("PATCH", 500)
    assert cli("send", tus.url, path, "--resume", "-q").status == 1
    status, drawn = on_a_terminal(command("resumable", "list"))
    assert (status, "a\\x1b[Ab" in drawn, "\x1b" in drawn) == (0, True, False)


def test_what_is_done_is_not_listed(unfinished, film, cli):
    """The same command has ended the upload, so it is forgotten."""
    url = unfinished.url.replace("//", "//anna:passw0rd@") + "?key=passw0rd"
    assert cli("send", url, film, "--resume", "-q").status == 0
    assert cli("resumable", "list") == (0, "", "no unfinished uploads\n")
    assert cli("resumable", "list", "--json") == (0, "", "")


def test_clean_forgets_what_has_expired(tus, film, tmp_path, cli):
    """It says which, a day later, and leaves what has not."""
    other = tmp_path / "other.mp4"
    other.write_bytes(bytes(1_000_000))
    tus.expires = datetime.now(UTC) + DAY
    for path in (film, other):
        tus.then("PATCH", 500)
        assert cli("send", tus.url, path, "--resume", "-q").status == 1
        tus.expires = datetime.now(UTC) - 2 * DAY
    assert cli("resumable", "clean") == (0, f"{other.resolve()}: forgotten, to {tus.url}\n", "")
    assert cli("resumable", "clean") == (0, "", "nothing to forget\n")
    assert json.loads(cli("resumable", "list", "--json").out)["path"] == str(film.resolve())


def test_clean_forgets_a_file(unfinished, film, tmp_path, cli, monkeypatch):
    """The next command begins anew, and what the server has stays with it."""
    monkeypatch.chdir(tmp_path)
    result = cli("resumable", "clean", "film.mp4", "--json")
    assert (result.status, result.err) == (0, "")
    assert json.loads(result.out)["path"] == str(film.resolve())
    assert cli("resumable", "list", "--json").out == ""
    assert "DELETE" not in unfinished.methods_asked
    assert cli("send", unfinished.url, film, "--resume", "-q").status == 0
    assert len(unfinished.uploads) == 2


def test_clean_of_a_file_without_an_upload_fails(unfinished, film, photo, cli):
    """The others are forgotten all the same."""
    status, out, err = cli("resumable", "clean", photo, film)
    assert (status, err) == (1, f"{photo}: no unfinished upload; `rxupload resumable list` shows all\n")
    assert out == f"{film.resolve()}: forgotten, to {unfinished.url}\n"


def test_an_upload_that_runs_is_listed_and_not_forgotten(film, tmp_path, cli):
    """`clean` in another terminal does not disturb it."""
    with receiver.running(tmp_path / "inbox") as url:
        args = ["send", f"{url}files", film, "--resume", "--json", "--limit-rate", "100k"]
        with started(*args) as process:
            while json.loads(process.stdout.readline())["sent"] < 50_000:
                pass
            assert json.loads(cli("resumable", "list", "--json").out)["path"] == str(film.resolve())
            said = f"{film}: the upload to {url}files runs, and stays; abort it first\n"
            assert cli("resumable", "clean", film) == (1, "", said)
            assert len(cli("resumable", "list", "--json").out.splitlines()) == 1


def test_of_a_file_with_two_uploads_the_one_that_runs_stays(unfinished, film, tmp_path, cli):
    """The other one is forgotten, and the status is 1."""
    with receiver.running(tmp_path / "inbox") as url:
        args = ["send", f"{url}files", film, "--resume", "--json", "--limit-rate", "100k"]
        with started(*args) as process:
            while json.loads(process.stdout.readline())["sent"] < 50_000:
                pass
            assert cli("resumable", "clean", film) == (
                1,
                f"{film.resolve()}: forgotten, to {unfinished.url}\n",
                f"{film}: the upload to {url}files runs, and stays; abort it first\n",
            )


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "list or clean is required"),
        (["show"], "invalid choice"),
        (["list", "film.mp4"], "list shows all uploads; leave out FILE"),
        (["clean", "--all"], "unrecognized arguments: --all"),
    ],
)
def test_wrong_usage_is_one_sentence(cli, args, said):
    """The status is 2."""
    result = cli("resumable", *args)
    assert (result.status, result.out) == (2, "")
    assert said in result.err.splitlines()[-1]


@pytest.mark.skipif(os.name != "posix", reason="Windows has no modes")
def test_a_folder_of_everybody_is_refused(cli, state, film):
    """The path and what to do are named, also by `send`."""
    state.mkdir()
    state.chmod(0o777)
    for args in (
        ["resumable", "list"],
        ["resumable", "clean"],
        ["send", "http://127.0.0.1:1/", film, "--resume"],
    ):
        result = cli(*args)
        assert (result.status, result.out) == (1, "")
        assert f"{state}: others may write to the folder" in result.err


def test_listing_needs_no_receiver():
    """A bare install is enough."""
    assert in_own_process(command("resumable", "list", without="uvicorn")).status == 0
