"""Finds the FILEs of `rxupload send`: those of the command line, of --files-from, and in directories with -r."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from .texts import printable, say


@dataclass(frozen=True, slots=True)
class Found:
    """One FILE.

    Attributes:
        path: As it was typed, or as it was found; `-` is standard input.
        filename: Its name for the server; None for the library's choice.
        has_form_alone: Whether it stands for a form without a FILE, with the files of -F alone.
    """

    path: str
    filename: str | None = None
    has_form_alone: bool = False

    @property
    def size(self) -> int | None:
        """Its size in bytes; None if that is unknown."""
        with contextlib.suppress(OSError):
            found = Path(self.path).stat()
            return found.st_size if self.path != "-" and stat.S_ISREG(found.st_mode) else None
        return None


def find_files(args: argparse.Namespace) -> list[Found]:
    """Return the FILEs to send, each for one request.

    Raises:
        argparse.ArgumentError: There are none, or standard input would be read twice.
        OSError: --files-from cannot be read.
    """
    form_files = [part.value for part in args.form if part.is_file]
    named = [*args.files, *form_files, *([args.files_from] if args.files_from else [])]
    if named.count("-") > 1:
        raise argparse.ArgumentError(None, "standard input (-) can be sent only once")
    found = list(_all(args))
    if not found and form_files and not (args.files or args.files_from):
        return [Found(form_files[0], has_form_alone=True)]
    if not found:
        what = (
            "a FILE to send is required"
            if not (args.files or args.files_from)
            else "there is no file to send"
        )
        raise argparse.ArgumentError(None, what)
    if len(found) > 1:
        for option, is_given in (("--filename", args.filename), ("-F with @-", "-" in form_files)):
            if is_given:
                raise argparse.ArgumentError(
                    None, f"{option} is for a single FILE, and there are {len(found)}"
                )
    return found


def ends_with_slash(url: str) -> bool:
    """Whether the path of a URL ends with a slash."""
    return _path(url).endswith("/")


def address_of(args: argparse.Namespace, file: Found) -> str:
    """Return the URL that a FILE goes to. As with curl, -T adds the FILE's name to a URL that ends with /."""
    url: str = args.url
    if not args.raw or file.path == "-" or not ends_with_slash(url):
        return url
    path = _path(url)
    return path + quote(file.filename or Path(file.path).name, safe="/") + url[len(path) :]


def _path(url: str) -> str:
    """Return a URL without its query and its fragment."""
    return re.split("[?#]", url, maxsplit=1)[0]


def _all(args: argparse.Namespace) -> Iterator[Found]:
    listed = _listed(args.files_from) if args.files_from else []
    for file in args.files:
        yield from (
            _inside(file) if args.recursive and file != "-" and Path(file).is_dir() else [_one(args, file)]
        )
    for file in listed:
        if args.recursive and Path(file).is_dir():
            yield from _inside(file)
        else:
            yield _one(args, os.path.join(".", file) if file == "-" else file)  # noqa: PTH118 - keeps the dot


def _one(args: argparse.Namespace, file: str) -> Found:
    return Found(file, args.filename)


def _listed(source: str) -> list[str]:
    """Return the paths of a list: NUL-separated, as of `find -print0`, if there is a NUL in it, or else lines."""
    if source != "-":
        data = Path(source).read_bytes()
    elif sys.stdin is None:
        raise argparse.ArgumentError(None, "--files-from: standard input is closed")
    else:
        with open(sys.stdin.fileno(), "rb", closefd=False) as stream:
            data = stream.read()
    paths = data.split(b"\0") if b"\0" in data else [line.rstrip(b"\r") for line in data.split(b"\n")]
    return [os.fsdecode(path) for path in paths if path]


def _inside(directory: str) -> Iterator[Found]:
    """Yield the files of a directory, sorted. Say what is left out: links to directories, pipes, devices and the like.

    A directory that cannot be read comes as a FILE, whose upload then fails with the reason.
    """
    unreadable: list[str] = []
    for parent, directories, names in os.walk(
        directory, onerror=lambda error: unreadable.append(error.filename)
    ):
        directories.sort()
        for name in directories:
            if os.path.islink(path := os.path.join(parent, name)):  # noqa: PTH114, PTH118 - keeps a leading dot
                say(f"{printable(path)}: left out, a link to a directory", sys.stderr)
        for name in sorted(names):
            path = os.path.join(parent, name)  # noqa: PTH118
            if Path(path).exists() and not Path(path).is_file():
                say(f"{printable(path)}: left out, not a file", sys.stderr)
            else:  # a link to nowhere fails, and is not left out
                yield Found(path, Path(path).relative_to(directory).as_posix())
    yield from map(Found, unreadable)
