"""Parses the command's arguments, and defines those of `demo`, `receive` and `resumable`."""

from __future__ import annotations

import argparse
import re
import sys
from typing import Any, NoReturn

from rxupload import __version__

from . import send_arguments, values
from .demo import demo
from .receive import receive
from .resumable import resumable
from .texts import one_line

EXAMPLES = """\
examples:
  rxupload demo                                upload 256 MiB to a local receiver, and check every byte
  rxupload receive --directory inbox           run a server that stores uploaded files
  rxupload send http://127.0.0.1:8000/ a.jpg   upload a file to that server, or to any other
  rxupload resumable list                      show the uploads of `send --resume` that are unfinished

rxupload COMMAND --help explains a command.
"""


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options: Any) -> None:
        super().__init__(
            **options, allow_abbrev=False
        )  # a new option could change the meaning of an abbreviation

    def parse_args(  # pyright: ignore[reportIncompatibleMethodOverride] - it has overloads
        self, args: Any = None, namespace: Any = None
    ) -> Any:
        """Parse, and name unknown options without their values, which may be secrets."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            options = [found[0] for each in unknown if (found := _OPTION.match(each))]
            getattr(parsed, "parser", self).error(  # that of the subcommand, with its usage
                f"unrecognized arguments: {' '.join(options) or f'{len(unknown)} too many'}"
            )
        return parsed

    def error(self, message: str) -> NoReturn:
        if sys.stderr is None:  # argparse would take standard output instead
            raise SystemExit(2)
        super().error(one_line(_ECHO.sub(r"\1\2", message)))


class _CommandParser(_Parser):
    """Takes options between the positional arguments, too: `send URL -r DIR --json`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._is_mixing = False

    def parse_known_args(  # pyright: ignore[reportIncompatibleMethodOverride] - it has overloads
        self, args: Any = None, namespace: Any = None
    ) -> Any:
        """Parse the options first and the positional arguments after them."""
        if self._is_mixing:  # argparse calls this for each of the two
            return super().parse_known_args(args, namespace)
        self._is_mixing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._is_mixing = False


_OPTION = re.compile(r"--[A-Za-z][\w-]*|-[A-Za-z]")
# argparse quotes a value for an option that takes none, a value of the wrong type, and a wrong command.
_ECHO = re.compile(
    r"(ignored explicit argument|invalid \w+ value).*|(invalid choice).*(?= \(choose from)", re.DOTALL
)


def make_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="rxupload",
        description="Upload files over HTTP, watch them arrive, and stop at any moment.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"rxupload {__version__}")
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, parser_class=_CommandParser
    )
    _demo_arguments(commands.add_parser("demo", help="upload to a local receiver, and check every byte"))
    send_arguments.add_to(commands.add_parser("send", help="upload files to a URL"))
    _receive_arguments(commands.add_parser("receive", help="run a server that stores uploaded files"))
    _resumable_arguments(commands.add_parser("resumable", help="list unfinished uploads, or clean them up"))
    return parser


def _demo_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Start a receiver on a free port of this machine, upload a file to it, and compare the SHA-256 sums of "
        "the received file and the original. The exit status is 0 if they are equal."
    )
    add = parser.add_argument
    add(
        "file",
        nargs="?",
        metavar="FILE",
        help="the file to upload; without it, random bytes",
    )
    add(
        "--size",
        type=values.size,
        help="how many random bytes: 4096, 10MB, 1GiB ... (256MiB)",
    )
    add(
        "--resume",
        action="store_true",
        help="kill the process that uploads half way, and go on in another one",
    )
    parser.set_defaults(run=demo, parser=parser)


def _receive_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Store uploaded files, and respond with their sizes and SHA-256 sums. Clients of tus upload to /files; "
        "what they have sent is kept for 24 hours, also when the server is started again. Ctrl-C stops the "
        "server."
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (%(default)s: only this machine)")
    add("--port", type=values.whole(0, 65535), default=8000, help="port to listen on (%(default)s)")
    add("--directory", default="uploads", metavar="DIR", help="where to store the files (./%(default)s)")
    add(
        "--max-size",
        type=values.size,
        metavar="SIZE",
        help="largest upload to accept: 10MB, 1GiB ... (no limit)",
    )
    add(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="let pages of this host upload, and requests that name it as their host; may be repeated",
    )
    parser.set_defaults(run=receive, parser=parser)


def _resumable_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s list [--json]\n       %(prog)s clean [--json] [FILE ...]"
    parser.description = (
        "`list` shows the uploads of `send --resume`, and of programs with a FileStore, that are unfinished. `clean` "
        "forgets those that have expired on the server a day ago, or that are older than 30 days. `clean FILE` forgets "
        "all of that FILE, so that it is sent anew; what the server has of it stays there until it expires. Uploads "
        "that run are not forgotten."
    )
    add = parser.add_argument
    # `resumable` checks that it is there, because argparse would name FILE as required, too.
    add("action", nargs="?", choices=("list", "clean"), metavar="list|clean", help="what to do")
    add("files", nargs="*", metavar="FILE", help="forget the uploads of this file")
    add(
        "--json",
        action="store_true",
        help="print each upload as a JSON line: path, endpoint, protocol, created and expires (seconds since the "
        "epoch; expires is null if unknown), size (bytes)",
    )
    parser.set_defaults(run=resumable, parser=parser)
