"""Parses the command's arguments: the three subcommands, and the types of their values."""

from __future__ import annotations

import argparse
import contextlib
import math
import re
import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NoReturn

import httpx

from rxupload import __version__

from .demo import demo
from .receive import receive
from .send import send
from .texts import one_line

EXAMPLES = """\
examples:
  rxupload demo                                upload 256 MiB to a local receiver, and check every byte
  rxupload receive --directory inbox           run a server that stores uploaded files
  rxupload send http://127.0.0.1:8000/ a.jpg   upload a file to that server, or to any other

rxupload COMMAND --help explains a command.
"""

SEND_NOTES = """\
exit status:
  0    the server took every FILE: each got a response with a status of 2xx
  1    a FILE failed, or got another status; a redirect is one, unless it is followed (-L)
  2    wrong usage; nothing was sent
  130  Ctrl-C; the uploads were aborted

retries:
  A FILE is sent again after a network error, and after a status of 408, 425, 429, 500, 502, 503 or 504,
  but not after --timeout. The wait before a retry doubles from 0.5 s up to 30 s, plus up to 1 s at
  random. A Retry-After header can make it longer; one of more than 30 s ends the retries. Standard input
  and named pipes can be read only once, so they are never sent again. The server may get a FILE twice.

with --json, each line on standard output is one JSON object:
  event    "progress", "response", "error" or "summary"; a response or an error is the last of its FILE
  index    the number of the FILE, from 0; not in the summary
  file     FILE as you typed it; not in the summary
and, depending on the event:
  progress: sent, total (bytes of the request body; total is null if unknown), attempt (from 1)
  response: status (a number), reason, body (text), notes (texts, such as where a redirect leads)
  error:    type (the exception's name), message
  summary:  done (FILEs with a status of 2xx), failed (all others), sent (bytes of all request bodies),
            seconds
After Ctrl-C no more lines come, so unfinished FILEs have neither a response nor an error.
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
            self.error(f"unrecognized arguments: {' '.join(options) or f'{len(unknown)} too many'}")
        return parsed

    def error(self, message: str) -> NoReturn:
        super().error(one_line(_ECHO.sub(r"\1\2", message)))


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
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _demo_arguments(commands.add_parser("demo", help="upload to a local receiver, and check every byte"))
    _send_arguments(commands.add_parser("send", help="upload files to a URL"))
    _receive_arguments(commands.add_parser("receive", help="run a server that stores uploaded files"))
    return parser


def _demo_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Start a receiver on a free port of this machine, upload a file to it, and compare the SHA-256 sums of "
        "the received file and the original. The exit status is 0 if they are equal."
    )
    add = parser.add_argument
    add("file", nargs="?", type=_file, metavar="FILE", help="the file to upload; without it, random bytes")
    add(
        "--size",
        type=_size,
        default="256MiB",
        help="how many random bytes: 4096, 10MB, 1GiB ... (%(default)s)",
    )
    parser.set_defaults(run=demo, parser=parser)


def _send_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Upload each FILE in its own request, as a form in a browser does."
    parser.epilog = SEND_NOTES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("url", type=_url, metavar="URL", help="the address: http://... or https://...")
    add("files", nargs="+", type=_file, metavar="FILE", help="a file to upload; - is standard input")
    add("--name", default="file", help="the form field that holds the file (%(default)s)")
    add("--form", type=_pair("="), action="append", default=[], metavar="K=V", help="a further form field")
    add("--header", type=_pair(":"), action="append", default=[], metavar="'K: V'", help="a request header")
    add(
        "--concurrency",
        type=_whole(1),
        default=4,
        metavar="N",
        help="the most uploads at a time (%(default)s)",
    )
    add(
        "--retries",
        type=_whole(0),
        default=0,
        metavar="N",
        help="further attempts after a failure, see below (0)",
    )
    add(
        "--limit-rate",
        type=_rate,
        metavar="SIZE",
        help="bytes per second for all FILEs together: 2M (2000000), 2MiB (2097152) ... (no limit)",
    )
    add("--timeout", type=_seconds, metavar="SECONDS", help="time limit for each whole upload (no limit)")
    add("-L", "--location", action="store_true", help="follow redirects, with the FILE where they ask for it")
    add("--same-origin", action="store_true", help="follow redirects, but send nothing to another origin")
    add("--insecure", action="store_true", help="accept any TLS certificate")
    add("--json", action="store_true", help="print each event as a JSON line, see below")
    parser.set_defaults(run=send, parser=parser)


def _receive_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Store uploaded files, and respond with their sizes and SHA-256 sums. Ctrl-C stops the server."
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (%(default)s: only this machine)")
    add("--port", type=_whole(0, 65535), default=8000, help="port to listen on (%(default)s)")
    add("--directory", default="uploads", metavar="DIR", help="where to store the files (./%(default)s)")
    add(
        "--max-size",
        type=_size,
        metavar="SIZE",
        help="largest request body to accept: 10MB, 1GiB ... (no limit)",
    )
    add(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="let pages of this host upload, and requests that name it as their host; may be repeated",
    )
    parser.set_defaults(run=receive, parser=parser)


def _url(text: str) -> str:
    # Check it here: httpx's error would quote the invalid part of a URL, which may be a password.
    with contextlib.suppress(httpx.InvalidURL):
        url = httpx.URL(text)
        if url.scheme in ("http", "https") and url.raw_host:
            return text
    raise argparse.ArgumentTypeError("expected a URL that begins with http:// or https:// and a host")


def _file(text: str) -> str:
    if text.lower().startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError("expected a path, and it is a URL; the URL comes first, and once")
    return text


def _pair(separator: str) -> Callable[[str], tuple[str, str]]:
    def pair(text: str) -> tuple[str, str]:
        key, found, value = text.partition(separator)
        if not found:
            raise argparse.ArgumentTypeError(f"expected a name, {separator!r} and a value")
        return key, value

    return pair


def _whole(least: int, most: float = math.inf) -> Callable[[str], int]:
    def whole(text: str) -> int:
        if re.fullmatch("[0-9]{1,20}", text) and least <= int(text) <= most:
            return int(text)
        limits = f"of {least} or more" if most == math.inf else f"from {least} to {most}"
        raise argparse.ArgumentTypeError(f"expected a whole number {limits}")

    return whole


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (seconds := float(text)) < math.inf:
            return seconds
    raise argparse.ArgumentTypeError("expected a number of seconds, more than 0")


def _rate(text: str) -> int:
    rate = _size(text)
    if not 0 < rate < sys.float_info.max:
        raise argparse.ArgumentTypeError("must be more than 0, and finite")
    return rate


def _size(text: str) -> int:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?(?:([KMGT])(I?))?B?", text.upper())
    if match is None:
        raise argparse.ArgumentTypeError("expected a size such as 4096, 1.5M or 256MiB")
    number, prefix, binary = match.groups()
    return int(Decimal(number) * (1024 if binary else 1000) ** " KMGT".index(prefix or " "))
