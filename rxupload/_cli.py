"""The command: `rxupload demo`, `rxupload send` and `rxupload receive`.

Responses go to standard output, progress and errors to standard error. The receiver and tqdm are optional
extras, imported only where a subcommand uses them.
"""
# ruff: noqa: T201 - a command prints

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import itertools
import json
import math
import os
import re
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn, Self, TextIO, cast

import httpx
from reactivex import operators as ops

from . import (
    BatchSummary,
    ItemDone,
    ItemFailed,
    ItemProgress,
    Progress,
    Upload,
    UploadTransport,
    __version__,
    run,
    upload,
    upload_all,
)
from ._transport import default_client
from .operators import _may_pass, _tqdm, retry_backoff

if TYPE_CHECKING:
    from collections.abc import Callable

    from reactivex import Observable
    from tqdm import tqdm

    from . import BatchEvent, UploadEvent

EXAMPLES = """\
examples:
  rxupload demo                                upload 256 MiB to a receiver of its own, and check them
  rxupload receive --directory inbox           a server that stores what is uploaded to it
  rxupload send http://127.0.0.1:8000/ a.jpg   upload a file, to that server or any other

rxupload COMMAND --help explains each of them.
"""

SEND_NOTES = """\
exit status:
  0    every FILE was answered with a status below 400
  1    a FILE failed, or was answered with 400 or more
  2    wrong usage; nothing was sent
  130  Ctrl-C; the uploads were aborted

retries:
  Tried again is what failed by the network, or was answered with 408, 425, 429, 500, 502, 503 or 504,
  but not what took longer than --timeout. The wait doubles from half a second up to 30 s, with up to
  1 s at random; a Retry-After makes it longer, and one of more than 30 s ends the retries. What can be
  read only once is sent only once: standard input, a named pipe. The server may see a FILE twice.

with --json, each line on standard output is one object:
  event    "progress", "response" or "error", the last two of which end their FILE; at last "summary"
  index    which FILE, from 0; not in the summary
  file     FILE as it was given; not in the summary
and, depending on the event:
  progress: sent, total (bytes of the request body; total is null while unknown), attempt (from 1)
  response: status (a number), reason, body (text)
  error:    type (the exception's name), message
  summary:  done, failed (how many FILEs were answered below 400, and how many not), sent (bytes of
            all request bodies), seconds
After Ctrl-C no more lines come, so the FILEs that were not done have no end.
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command with these arguments, or the process's own, and return its exit status.

    Raises:
        SystemExit: After `--help` and `--version` (status 0), and for wrong usage (status 2).
    """
    _prepare_output()
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        status: int = args.run(args)
    except argparse.ArgumentError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print("aborted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone (`| head`); the interpreter's last flush must not fail as well.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ImportError as error:
        return _fail(str(error))
    except (OSError, ValueError, httpx.HTTPError, httpx.InvalidURL) as error:
        where = getattr(error, "filename", None)
        return _fail(f"{where}: {_sentence(error)}" if where else _sentence(error))
    return status


# The three subcommands


def _send(args: argparse.Namespace) -> int:
    with _client(args) as client:
        uploads = _uploads(args, client)
        with _JsonLines(args.files) if args.json else _report(args.files) as report:
            sources = [_retried(args, index, each, report) for index, each in enumerate(uploads)]
            batch = upload_all(sources, concurrency=args.concurrency, rate_limit=args.limit_rate)
            try:
                summary = cast("BatchSummary", run(batch.pipe(ops.do_action(report.show))))
            except KeyboardInterrupt:
                report.aborted()
                raise
    return 1 if _failures(summary) else 0


def _demo(args: argparse.Namespace) -> int:
    try:
        from . import receiver  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        raise ImportError('the demo needs an extra: pip install "rxupload[demo]"') from error

    with tempfile.TemporaryDirectory(prefix="rxupload-", ignore_cleanup_errors=True) as directory:
        if args.file is None:
            path = Path(directory, "random.bin")
            print(f"File      {path}, {_amount(args.size)} of random bytes, removed at the end")
            sha256 = _write_random(path, args.size)
        else:
            path = Path(args.file)
            with path.open("rb") as file:
                print(f"File      {_printable(args.file)}, {_amount(path.stat().st_size)}")
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        with receiver.running() as url:
            print(f"Receiver  {url}")
            return _upload_and_compare(url, path, sha256)


def _receive(args: argparse.Namespace) -> int:
    from . import receiver  # noqa: PLC0415 - an optional extra

    receiver.serve(args.host, args.port, args.directory, args.max_size)
    return 0


# send


def _uploads(args: argparse.Namespace, client: httpx.Client | None) -> list[Upload]:
    """Make an upload of each FILE; arguments that cannot be end the command here, before anything is sent."""
    if args.files.count("-") > 1:
        raise argparse.ArgumentError(None, "standard input (-) can be sent only once")
    try:
        return [_upload(args, file, client) for file in args.files]
    except (TypeError, ValueError) as error:
        raise argparse.ArgumentError(None, str(error)) from error


def _upload(args: argparse.Namespace, file: str, client: httpx.Client | None) -> Upload:
    form: dict[str, list[str]] = {}
    for key, value in args.form:
        form.setdefault(key, []).append(value)
    return upload(
        args.url,
        _standard_input() if file == "-" else file,
        args.name,
        form_data=form,
        headers=args.header,
        timeout=args.timeout,
        client=client,
    )


def _retried(
    args: argparse.Namespace, index: int, source: Upload, report: _Report
) -> Observable[UploadEvent]:
    """The upload with --retries: each failure that may pass is told, but for that of the last attempt."""
    if not args.retries or not _can_be_read_again(args.files[index]):
        return source
    attempts = 1 + args.retries
    numbers = itertools.count(1)

    def again(error: Exception) -> bool:
        if not _may_pass(error):
            return False
        report.again(index, error, f"attempt {next(numbers)} of {attempts}")
        return True

    return source.pipe(retry_backoff(attempts=attempts, on=again))


def _can_be_read_again(file: str) -> bool:
    # A second pass over anything else would fail, and its error would hide the first one's.
    with contextlib.suppress(OSError):
        return file != "-" and Path(file).is_file()
    return False


def _failures(summary: BatchSummary) -> int:
    """How many FILEs were not answered with a status below 400."""
    bad = sum(count for status, count in summary.statuses.items() if status >= httpx.codes.BAD_REQUEST)
    return summary.failed + bad


def _client(args: argparse.Namespace) -> contextlib.AbstractContextManager[httpx.Client | None]:
    """For --insecure, a client that differs from the default one in just that; None stands for the default one."""
    if not args.insecure:
        return contextlib.nullcontext()
    default = default_client()
    return type(default)(verify=False, timeout=default.timeout, limits=httpx.Limits())


def _standard_input() -> BinaryIO:
    # Unbuffered: an interpreter that ends (Ctrl-C) while a thread is in a read dies of the buffer's lock.
    return open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)


# demo


def _write_random(path: Path, size: int) -> str:
    """Write `size` random bytes, and return their SHA-256."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        while size > 0:
            piece = os.urandom(min(size, 1 << 20))
            digest.update(piece)
            size -= file.write(piece)
    return digest.hexdigest()


def _upload_and_compare(url: str, path: Path, sha256: str) -> int:
    """Upload the file and say how it went; the status is 0 if what was received has this SHA-256."""
    started = time.perf_counter()
    # With a transport of its own httpx ignores the proxy variables: no proxy leads to a receiver on this machine.
    with httpx.Client(transport=UploadTransport(), timeout=60) as client, _report([str(path)]) as report:
        source = upload(url, path, client=client)

        def show(event: UploadEvent) -> None:
            if isinstance(event, Progress):
                report.show(ItemProgress(0, source, event))

        response = cast("httpx.Response", run(source.pipe(ops.do_action(show))))
    seconds = time.perf_counter() - started
    if response.is_error:
        return _fail(f"the receiver answered {_status(response)}: {response.text[:1000]}")
    rate = _amount(path.stat().st_size / seconds)
    print(f"Response  {_status(response)} after {seconds:.2f} s, {rate}/s")
    received = response.json()["files"][0]["sha256"]
    print(f"SHA-256   {sha256} sent")
    print(f"          {received} received")
    if received != sha256:
        return _fail("the receiver got other bytes than were sent")
    print("OK        every byte has arrived")
    return 0


# What the user sees


class _Report(ABC):
    """What becomes of each FILE, told while it happens.

    Uploads tell it on their own threads. Once it is closed it is silent, for Python aborts when it ends while a thread
    is in the middle of a print; and an upload that is being aborted may still be.
    """

    def __init__(self, files: list[str]) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._is_open = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._is_open = False
            self._close()

    def show(self, event: BatchEvent) -> None:
        """Tell an event; of a batch's progress as a whole, only the summary."""
        with self._lock:
            if not self._is_open:
                return
            match event:
                case ItemProgress(index, _, progress):
                    self._progress(index, progress)
                case ItemDone(index, _, response):
                    self._response(index, response)
                case ItemFailed(index, _, httpx.HTTPStatusError() as error):  # it is not tried again
                    self._response(index, error.response)
                    self._notes(index, error)
                case ItemFailed(index, _, error):
                    self._error(index, error)
                case BatchSummary():
                    self._summary(event)

    def again(self, index: int, error: Exception, attempt: str) -> None:
        """Tell of an attempt that failed, and is not the last."""
        with self._lock:
            if self._is_open:
                self._again(index, error, attempt)

    def aborted(self) -> None:
        """Tell that the rest of the FILEs will not be sent."""
        with self._lock:
            self._aborted()

    @abstractmethod
    def _progress(self, index: int, progress: Progress) -> None: ...

    @abstractmethod
    def _response(self, index: int, response: httpx.Response) -> None: ...

    @abstractmethod
    def _error(self, index: int, error: Exception) -> None: ...

    @abstractmethod
    def _summary(self, summary: BatchSummary) -> None: ...

    def _again(self, index: int, error: Exception, attempt: str) -> None:  # noqa: B027 - as most have it
        """Nothing to tell."""

    def _notes(self, index: int, error: Exception) -> None:  # noqa: B027
        """Nothing to tell."""

    def _aborted(self) -> None:  # noqa: B027
        """Nothing to tell."""

    def _close(self) -> None:  # noqa: B027
        """Nothing to put away."""


class _JsonLines(_Report):
    """For programs: one JSON object a line; SEND_NOTES lists the keys."""

    def _progress(self, index: int, progress: Progress) -> None:
        self._line("progress", index, **asdict(progress))

    def _response(self, index: int, response: httpx.Response) -> None:
        reason = response.reason_phrase
        self._line("response", index, status=response.status_code, reason=reason, body=response.text)

    def _error(self, index: int, error: Exception) -> None:
        self._line("error", index, type=type(error).__name__, message=_sentence(error))

    def _line(self, event: str, index: int, **facts: object) -> None:
        print(json.dumps({"event": event, "index": index, "file": self._files[index], **facts}))

    def _summary(self, summary: BatchSummary) -> None:
        failed = _failures(summary)
        line = {"event": "summary", "done": len(self._files) - failed, "failed": failed}
        print(json.dumps({**line, "sent": summary.sent, "seconds": round(summary.seconds, 3)}))


class _Lines(_Report):
    """Plain lines, for a log: progress at each tenth of the way, and how each FILE ended."""

    def __init__(self, files: list[str]) -> None:
        super().__init__(files)
        self._tenths = [0] * len(files)
        self._done = 0
        self._failed: list[int] = []
        self._is_over = False

    def _progress(self, index: int, progress: Progress) -> None:
        tenth = progress.sent // 10_000_000 if progress.percent is None else progress.percent // 10
        if tenth > self._tenths[index]:
            share = "" if progress.percent is None else f" ({progress.percent} %)"
            self._say(index, f"{_amount(progress.sent)}{share}", sys.stderr)
        self._tenths[index] = tenth

    def _response(self, index: int, response: httpx.Response) -> None:
        if response.is_error:
            self._failed.append(index)
        else:
            self._done += 1
        self._say(index, f"{_status(response)}{_excerpt(response)}", sys.stdout)

    def _error(self, index: int, error: Exception) -> None:
        self._failed.append(index)
        self._say(index, _sentence(error), sys.stderr)

    def _again(self, index: int, error: Exception, attempt: str) -> None:
        failure = _status(error.response) if isinstance(error, httpx.HTTPStatusError) else _sentence(error)
        self._say(index, f"{failure} ({attempt})", sys.stderr)

    def _notes(self, index: int, error: Exception) -> None:
        for note in getattr(error, "__notes__", ()):
            self._say(index, note, sys.stderr)

    def _summary(self, summary: BatchSummary) -> None:
        self._is_over = True
        self._conclude(f", {_amount(summary.sent)} in {summary.seconds:.1f} s")

    def _aborted(self) -> None:
        if not self._is_over:
            self._conclude("")

    def _conclude(self, how: str) -> None:
        if len(self._files) == 1:
            return
        print(f"{self._done} of {len(self._files)} files sent{how}", file=sys.stderr)
        if self._failed:
            names = [_printable(self._files[index]) for index in sorted(self._failed)]
            print(f"failed: {', '.join(names)}", file=sys.stderr)

    def _say(self, index: int, text: str, stream: TextIO) -> None:
        self._print(f"{_printable(self._files[index])}: {text}", stream)

    def _print(self, line: str, stream: TextIO) -> None:
        print(line, file=stream)


class _Bars(_Lines):
    """Live bars, for a terminal: of several FILEs, one for each that runs, and below them one for all.

    How each FILE ended stands above the bars; of a single FILE, below its bar.
    """

    def __init__(self, files: list[str], kind: type[tqdm[Any]]) -> None:
        super().__init__(files)
        self._kind = kind
        self._columns, rows = os.get_terminal_size(sys.stderr.fileno())
        self._most = 0 if len(files) == 1 else rows // 2 - 1  # FILEs with a bar of their own at a time
        self._sent = [0] * len(files)
        self._totals = [_size_on_disk(file) for file in files]
        self._bars: dict[int, tqdm[Any]] = {}  # from the top of the screen, by FILE
        title = self._title(0) if len(files) == 1 else f"{len(files)} files"
        self._all = self._bar(title, self._total(), is_short=self._columns < 60)  # noqa: PLR2004

    def _bar(self, title: str, total: int | None, *, is_short: bool, **options: Any) -> tqdm[Any]:
        return self._kind(
            desc=title,
            total=total,
            unit="B",
            unit_scale=True,
            dynamic_ncols=True,
            bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt}" if is_short else None,
            miniters=0,  # by itself tqdm learns to skip updates, and lags behind an upload that slows down
            **options,
        )

    def _title(self, index: int) -> str:
        """The FILE's name, cut in the middle so that there is room for the bar behind it."""
        name = _printable(Path(self._files[index]).name)
        half = max(5, self._columns // 8)
        return name if len(name) <= 2 * half else f"{name[: half - 1]}..{name[1 - half :]}"

    def _close(self) -> None:
        while self._bars:
            self._take_away(next(iter(self._bars)))
        self._all.close()

    def _progress(self, index: int, progress: Progress) -> None:
        self._set_total(index, progress.total)
        self._all.update(progress.sent - self._sent[index])
        self._sent[index] = progress.sent
        if index in self._bars:
            bar = self._bars[index]
            bar.total = progress.total
            bar.update(progress.sent - bar.n)
        elif len(self._bars) < self._most:
            self._add(index, progress)

    def _add(self, index: int, progress: Progress) -> None:
        place = len(self._bars)
        self._move(self._all, place + 1)
        self._bars[index] = self._bar(
            self._title(index),
            progress.total,
            is_short=True,
            initial=progress.sent,
            position=place,
            leave=False,
        )

    def _take_away(self, index: int) -> None:
        self._bars.pop(index).close()
        for place, bar in enumerate([*self._bars.values(), self._all]):
            self._move(bar, place)

    @staticmethod
    def _move(bar: tqdm[Any], place: int) -> None:
        if bar.pos != -place:
            bar.clear()
            bar.pos = -place  # as tqdm has it for a bar with a position of its own
            bar.refresh()

    def _response(self, index: int, response: httpx.Response) -> None:
        self._end(index)
        super()._response(index, response)

    def _error(self, index: int, error: Exception) -> None:
        if len(self._files) > 1:  # the rest of it will not come
            self._set_total(index, self._sent[index])
        self._end(index)
        super()._error(index, error)

    def _end(self, index: int) -> None:
        if len(self._files) == 1:
            self._all.close()
        elif index in self._bars:
            self._take_away(index)

    def _conclude(self, how: str) -> None:
        self._close()
        super()._conclude(how)

    def _print(self, line: str, stream: TextIO) -> None:
        self._all.write(line, file=stream)

    def _set_total(self, index: int, total: int | None) -> None:
        if self._totals[index] != total:
            self._totals[index] = total
            self._all.total = self._total()

    def _total(self) -> int | None:
        known = [total for total in self._totals if total is not None]
        return sum(known) if len(known) == len(self._totals) else None


def _report(files: list[str]) -> _Lines:
    """Live bars where there is a terminal with room to draw them on, and tqdm to draw them."""
    if sys.stderr.isatty() and os.get_terminal_size(sys.stderr.fileno()).lines > 2:  # noqa: PLR2004 - as tqdm has it
        with contextlib.suppress(ImportError):  # an optional extra
            return _Bars(files, _tqdm())
    return _Lines(files)


def _fail(sentence: str) -> int:
    print(f"rxupload: {_one_line(sentence)}", file=sys.stderr)
    return 1


def _sentence(error: Exception) -> str:
    """What went wrong, for a person: one line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if isinstance(error, httpx.ConnectError):
        text = f"could not connect: {text}"
    return _one_line(text or type(error).__name__)


def _status(response: httpx.Response) -> str:
    return _printable(f"{response.status_code} {response.reason_phrase}")


def _excerpt(response: httpx.Response) -> str:
    """The beginning of the response's body, under the line that it is appended to."""
    lines = response.text[:1000].strip().expandtabs().splitlines()
    return "".join(f"\n{_printable(line)}" for line in lines)


def _amount(size: float) -> str:
    for least, unit in ((1e6, "MB"), (1e3, "kB")):
        if size >= least:
            return f"{size / least:.1f} {unit}"
    return f"{size:.0f} bytes"


def _one_line(text: str) -> str:
    return _printable(_without_credentials(" ".join(text.split())))


def _without_credentials(text: str) -> str:
    """Without the userinfo and the query of a URL in it: passwords, and signatures of presigned URLs."""
    return re.sub(r"(://[^\s?]*)\?[^\s'\"]*", r"\1", re.sub(r"://.*@", "://", text))


def _printable(text: str) -> str:
    """Without the control characters by which a server, or a filename, could talk to the terminal."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def _size_on_disk(file: str) -> int | None:
    """A first guess at how much FILE will be; None if it has no size (standard input)."""
    if file == "-":
        return None
    path = Path(file)
    with contextlib.suppress(OSError):
        return path.stat().st_size if path.is_file() else 0
    return 0


def _prepare_output() -> None:
    """Print each line at once, and any character: escaped, where the console's code page has none for it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace", line_buffering=True)


# The arguments


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)  # an abbreviation may mean something else tomorrow

    def error(self, message: str) -> NoReturn:
        super().error(_one_line(message))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="rxupload",
        description="Upload files over HTTP, watch them arrive, and stop at any moment.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"rxupload {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _demo_arguments(commands.add_parser("demo", help="upload to a receiver of its own, and check every byte"))
    _send_arguments(commands.add_parser("send", help="upload files to a URL"))
    _receive_arguments(commands.add_parser("receive", help="run a server that stores what is uploaded"))
    return parser


def _demo_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Start a receiver on a free port of this machine, upload a file to it, and compare the SHA-256 of "
        "what arrived with the file's own. The exit status is 0 if they are the same."
    )
    add = parser.add_argument
    add("file", nargs="?", metavar="FILE", help="what to upload; without it, random bytes")
    add("--size", type=_size, default="256MiB", help="how many of them: 4096, 10MB, 1GiB ... (%(default)s)")
    parser.set_defaults(run=_demo)


def _send_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Upload each FILE in a request of its own, as a form in a browser does."
    parser.epilog = SEND_NOTES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("url", type=_url, metavar="URL", help="where to: http://... or https://...")
    add("files", nargs="+", metavar="FILE", help="what to upload; - is standard input")
    add("--name", default="file", help="the form field that holds the file (%(default)s)")
    add("--form", type=_pair("="), action="append", default=[], metavar="K=V", help="a further form field")
    add("--header", type=_pair(":"), action="append", default=[], metavar="'K: V'", help="a request header")
    add("--concurrency", type=_whole(1), default=4, metavar="N", help="uploads at a time (%(default)s)")
    add("--retries", type=_whole(0), default=0, metavar="N", help="more attempts if one fails, see below (0)")
    add(
        "--limit-rate",
        type=_rate,
        metavar="SIZE",
        help="bytes per second, all FILEs together: 2M (2000000), 2MiB (2097152) ... (any)",
    )
    add("--timeout", type=_seconds, metavar="SECONDS", help="limit for each upload as a whole (none)")
    add("--insecure", action="store_true", help="accept any TLS certificate")
    add("--json", action="store_true", help="report in JSON lines, see below")
    parser.set_defaults(run=_send)


def _receive_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Store the files that are uploaded, and answer with their sizes and SHA-256 sums. Ctrl-C ends it."
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (%(default)s: from this machine only)")
    add("--port", type=_whole(0, 65535), default=8000, help="port to listen on (%(default)s)")
    add("--directory", default=".", metavar="DIR", help="where to store the files (the current directory)")
    add("--max-size", type=_size, metavar="SIZE", help="largest body that is accepted: 10MB, 1GiB ... (any)")
    parser.set_defaults(run=_receive)


def _url(text: str) -> str:
    # Checked here, for an error of httpx would quote the parts of a URL it cannot read, and so a password.
    with contextlib.suppress(httpx.InvalidURL):
        url = httpx.URL(text)
        if url.scheme in ("http", "https") and url.host:
            return text
    raise argparse.ArgumentTypeError("expected a URL that begins with http:// or https:// and a host")


def _pair(separator: str) -> Callable[[str], tuple[str, str]]:
    def pair(text: str) -> tuple[str, str]:
        key, found, value = text.partition(separator)
        if not found:
            raise argparse.ArgumentTypeError(f"expected a name, {separator!r} and a value")
        return key, value

    return pair


def _whole(least: int, most: float = math.inf) -> Callable[[str], int]:
    def whole(text: str) -> int:
        if text.isascii() and text.isdigit() and least <= int(text) <= most:
            return int(text)
        limits = f"of {least} or more" if most == math.inf else f"from {least} to {most}"
        raise argparse.ArgumentTypeError(f"expected a whole number {limits}, got {text!r}")

    return whole


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (seconds := float(text)) < math.inf:
            return seconds
    raise argparse.ArgumentTypeError(f"expected a number of seconds, more than 0, got {text!r}")


def _rate(text: str) -> int:
    rate = _size(text)
    if not 0 < rate < sys.float_info.max:
        raise argparse.ArgumentTypeError("must be more than 0, and finite")
    return rate


def _size(text: str) -> int:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?(?:([KMGT])(I?))?B?", text.upper())
    if match is None:
        raise argparse.ArgumentTypeError(f"expected a size such as 4096, 1.5M or 256MiB, got {text!r}")
    number, prefix, binary = match.groups()
    return int(Decimal(number) * (1024 if binary else 1000) ** " KMGT".index(prefix or " "))
