"""The shell commands of the pages: the command's own parser takes them, and what they name is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from support.pages import PAGES, ROOT, Page

from rxupload._cli import main
from rxupload._cli.arguments import make_parser

README = Page(ROOT / "README.md")
CODE = [*README.blocks("sh"), *README.blocks("powershell"), *README.code_spans]


def commands(text: str) -> list[list[str]]:
    """The arguments of each call of `rxupload` in some lines of shell."""
    found = []
    for line in text.splitlines():
        words = shlex.split(line.replace("\\", "/"), comments=True)
        for start, word in enumerate(words):
            rest = words[start + 1 :]
            if Path(word).name == "rxupload" and rest and rest[0] in ("demo", "receive", "resumable", "send"):
                found.append(rest[: rest.index("|")] if "|" in rest else rest)
    return found


COMMANDS = [command for text in CODE for command in commands(text)]


def test_the_pages_have_commands():
    """All commands are shown."""
    assert {command[0] for command in COMMANDS} == {"demo", "receive", "resumable", "send"}


@pytest.mark.parametrize("args", COMMANDS, ids=" ".join)
def test_commands_parse(args):
    """The command's own parser takes the arguments."""
    if "--help" in args:
        with pytest.raises(SystemExit) as stop:
            make_parser().parse_args(args)
        assert stop.value.code == 0
    else:
        make_parser().parse_args(args)


SENDS = [args for args in COMMANDS if args[0] == "send" and "--help" not in args]


@pytest.mark.parametrize("args", SENDS, ids=" ".join)
def test_sends_are_whole(args, tmp_path, monkeypatch, capsys):
    """`send` finds nothing wrong with the arguments either: a dry run says what it would send."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("getpass.getpass", lambda *_args, **_options: "a password")
    Path("photos").mkdir()
    for path in ("beach.jpg", "photos/cliff.jpg"):
        Path(path).write_bytes(b"data")
    Path("list").write_text("beach.jpg\n")
    with Path("list").open() as listed:
        monkeypatch.setattr("sys.stdin", listed)
        args = [arg.replace("URL", "http://127.0.0.1:8000/") for arg in args]
        assert main([*args, "--dry-run"]) == 0
    assert ".jpg" in capsys.readouterr().out


LINES = [line for path in PAGES for block in Page(path).blocks("sh") for line in block.splitlines()]
LINES += [span for path in PAGES for span in Page(path).code_spans if span.startswith("pytest ")]
NAMING = [line for line in LINES if " tests/" in line or " -k " in line]


@pytest.mark.parametrize("line", NAMING)
def test_files_and_tests_exist(line):
    """The files that a command names are there, and so are the tests that `-k` chooses."""
    words = shlex.split(line, comments=True)
    paths = [ROOT / word for word in words if word.startswith("tests/")]
    assert [path for path in paths if not path.exists()] == []
    if "-k" in words:
        text = "".join(source(path) for path in paths or [ROOT / "tests"])
        for name in words[words.index("-k") + 1].split(" or "):
            assert re.search(rf"def \w*{name}", text)


def source(path: Path) -> str:
    """The text of a file, or of all files in a folder."""
    return "".join(each.read_text("utf-8") for each in (path.rglob("*.py") if path.is_dir() else [path]))
