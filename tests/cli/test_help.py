"""The help and the version of the command, what it imports, and its sizes."""

from __future__ import annotations

import re
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.command_line import (
    command,
    in_own_process,
)

import rxupload
from rxupload._cli.values import size


def test_version(cli):
    """--version prints the package's version."""
    assert cli("--version") == (0, f"rxupload {rxupload.__version__}\n", "")


def test_help_shows_examples(cli):
    """--help names the commands, each with an example."""
    result = cli("--help")

    assert result.status == 0
    for subcommand in ("demo", "send", "receive", "resumable"):
        assert f"  rxupload {subcommand}" in result.out


def test_help_of_send_documents_statuses_and_json(cli):
    """`send --help` lists every exit status, and each key of the JSON lines."""
    text = cli("send", "--help").out

    words = "exit status 130 event index file sent total attempt reason body notes type message done failed seconds "
    words += "retry wait notes digests verified start dry-run method url filename size"
    for word in words.split():
        assert re.search(rf"\b{word}\b", text)


@pytest.mark.parametrize("args", [["--version"], ["demo", "--help"]])
def test_the_module_runs_as_the_command(args):
    """`python -m rxupload` is the command, under its own name."""
    result = in_own_process(command(*args))

    assert result.status == 0
    assert result.out.startswith(("rxupload ", "usage: rxupload demo"))


def test_importing_the_library_imports_no_command():
    """`import rxupload` imports neither the command nor the extras, and --help imports no extras either."""
    code = """
import sys
import rxupload
assert not {"rxupload._cli", "rxupload.receiver", "tqdm", "uvicorn", "starlette"} & set(sys.modules)
from rxupload._cli import main
try:
    main(["--help"])
except SystemExit:
    pass
assert not {"rxupload.receiver", "tqdm", "uvicorn", "starlette"} & set(sys.modules)
"""
    assert in_own_process([sys.executable, "-c", code]).err == ""


@given(
    number=st.integers(0, 10**6),
    unit=st.sampled_from(["", "B", "k", "KB", "KiB", "mb", "MiB", "G", "gib", "TiB"]),
)
@settings(max_examples=50)
def test_sizes_are_decimal_or_binary(number, unit):
    """KB is 1000 bytes and KiB is 1024, in any case and with or without the B."""
    prefix = unit.upper().rstrip("B")
    base = 1024 if prefix.endswith("I") else 1000
    assert size(f"{number}{unit}") == number * base ** ["", "K", "M", "G", "T"].index(prefix.rstrip("I"))
