"""Reports the progress and the result of each FILE, as plain lines or as JSON lines."""

from __future__ import annotations

import json
import sys
import threading
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self, TextIO

import httpx

from rxupload import BatchEvent, BatchProgress, BatchSummary, ItemDone, ItemFailed, ItemProgress, Progress
from rxupload.operators import Retry
from rxupload.resumable import Outcome

from .digest import digests
from .texts import advice, amount, body, give_up, heads, pour, printable, request_head, say, sentence, status


@dataclass(frozen=True, slots=True)
class Style:
    """What of an upload is printed, and where.

    Attributes:
        is_one: Whether there is one FILE, whose response is all of standard output.
        output: The path of a file for the response.
        is_verbose: Whether to print heads, and the responses of several FILEs.
        is_quiet: Whether to print errors only.
        is_resumable: Whether the uploads have addresses of their own, which are secrets.
    """

    is_one: bool = True
    output: str | None = None
    is_verbose: bool = False
    is_quiet: bool = False
    is_resumable: bool = False


class Report(ABC):
    """Reports the events of each FILE.

    Uploads call it on their own threads. After it is closed, it prints nothing: Python crashes if it ends while a
    thread is printing, and an aborted upload may still send events.

    An output that cannot be printed ends no upload.

    Attributes:
        lost: Why a line for standard output, or the file for the response, could not be written. No line followed it.
    """

    def __init__(self, files: list[str], style: Style) -> None:
        self.lost: Exception | None = None
        self._files = files
        self._style = style
        self._verified: set[int] = set()
        self._broken: list[TextIO] = []
        self._lock = threading.Lock()
        self._is_open = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._is_open = False
            self._close()

    def show(self, event: BatchEvent) -> None:
        """Report an event of one FILE, the progress of all, or the summary."""
        with self._lock:
            if not self._is_open:
                return
            match event:
                case ItemProgress(index, _, progress):
                    self._progress(index, progress)
                case ItemDone(index, _, response):
                    self._take_response(index, response, [])
                case ItemFailed(index, _, httpx.HTTPStatusError() as error):  # not 2xx
                    self._take_response(index, error.response, getattr(error, "__notes__", []))
                case ItemFailed(index, _, error):
                    self._show_heads(index, error)
                    self._error(index, error)
                case BatchProgress():
                    self._progress_of_all(event)
                case BatchSummary():
                    self._summary(event)

    def again(self, index: int, retry: Retry, attempts: int | None) -> None:
        """Report a failed attempt that will be followed by another. None: nothing tells the most `attempts`."""
        with self._lock:
            if self._is_open:
                self._show_heads(index, retry.error)
                self._again(index, retry, attempts)

    def confirm(self, index: int) -> None:
        """Take note that the server has the FILE as it was sent."""
        with self._lock:
            self._verified.add(index)

    def aborted(self) -> None:
        """Report that the remaining FILEs will not be sent."""
        with self._lock:
            self._aborted()

    def _take_response(self, index: int, response: httpx.Response, notes: list[str]) -> None:
        if self._style.output is not None:
            try:
                Path(self._style.output).write_bytes(response.content)
            except OSError as error:
                self.lost = OSError(error.errno, error.strerror, self._style.output)
        self._show_heads(index, response)
        self._response(index, response, notes)

    def _show_heads(self, index: int, outcome: httpx.Response | Exception) -> None:
        if not self._style.is_verbose:
            return
        response = getattr(outcome, "response", outcome)
        if isinstance(response, httpx.Response):
            lines = heads([*response.history, response], is_resumable=self._style.is_resumable)
        else:
            lines = request_head(_request_of(outcome), is_resumable=self._style.is_resumable)
        name = "" if self._style.is_one else f"{printable(self._files[index])}: "
        for line in lines:
            self._print(f"{name}{line}", sys.stderr)

    @abstractmethod
    def _progress(self, index: int, progress: Progress) -> None: ...

    @abstractmethod
    def _response(self, index: int, response: httpx.Response, notes: list[str]) -> None: ...

    @abstractmethod
    def _error(self, index: int, error: Exception) -> None: ...

    @abstractmethod
    def _summary(self, summary: BatchSummary) -> None: ...

    def _print(self, what: str | httpx.Response, stream: TextIO | None) -> None:
        if stream is None or stream in self._broken:
            return
        try:
            if isinstance(what, str):
                self._write(what, stream)
            else:
                pour(what, stream)
        except (OSError, ValueError) as error:
            self._broken.append(stream)
            give_up(stream)
            if stream is sys.stdout:
                self.lost = error

    def _write(self, line: str, stream: TextIO) -> None:
        say(line, stream)

    @abstractmethod
    def _again(self, index: int, retry: Retry, attempts: int | None) -> None: ...

    def _progress_of_all(self, progress: BatchProgress) -> None:  # noqa: B027 - the default
        """Do nothing."""

    def _aborted(self) -> None:  # noqa: B027
        """Do nothing."""

    def _close(self) -> None:  # noqa: B027
        """Do nothing."""


class JsonLines(Report):
    """Prints each event as a JSON line, for programs. The notes of `send_arguments` list the keys."""

    def _progress(self, index: int, progress: Progress) -> None:
        self._line("progress", index, **asdict(progress))

    def _response(self, index: int, response: httpx.Response, notes: list[str]) -> None:
        facts: dict[str, object] = {"status": response.status_code, "reason": response.reason_phrase}
        facts["body"] = response.text
        if computed := digests(response):
            facts |= {"digests": computed, "verified": index in self._verified}
        if (outcome := _outcome_of(response)) is not None:
            facts |= {"start": outcome.resumed_at, "sent": outcome.sent_now}
        self._line("response", index, **facts, notes=notes)

    def _again(self, index: int, retry: Retry, attempts: int | None) -> None:  # noqa: ARG002 - the caller knows them
        error = retry.error
        code = error.response.status_code if isinstance(error, httpx.HTTPStatusError) else None
        facts = {"type": type(error).__name__, "message": sentence(error), "status": code}
        self._line("retry", index, attempt=retry.attempt, wait=round(retry.wait, 3), **facts)

    def _error(self, index: int, error: Exception) -> None:
        self._line("error", index, type=type(error).__name__, message=advice(error, self._files[index]))

    def _line(self, event: str, index: int, **facts: object) -> None:
        line = {"event": event, "index": index, "file": self._files[index], **facts}
        self._print(json.dumps(line), sys.stdout)

    def _summary(self, summary: BatchSummary) -> None:
        line: dict[str, object] = {"event": "summary", "done": summary.done, "failed": summary.failed}
        line |= {"sent": summary.sent, "seconds": round(summary.seconds, 3)}
        self._print(json.dumps(line), sys.stdout)


class Lines(Report):
    """Prints plain lines, for a log: the progress at each tenth of a FILE, and its result."""

    def __init__(self, files: list[str], style: Style) -> None:
        super().__init__(files, style)
        self._tenths = [0] * len(files)
        self._done = 0
        self._failed: list[int] = []
        self._is_over = False

    def _progress(self, index: int, progress: Progress) -> None:
        tenth = progress.sent // 10_000_000 if progress.percent is None else progress.percent // 10
        share = "" if progress.percent is None else f" ({progress.percent} %)"
        if progress.start and progress.sent == progress.start:
            self._say(index, f"{amount(progress.start)}{share} were there before", sys.stderr)
        elif tenth > self._tenths[index]:
            self._say(index, f"{amount(progress.sent)}{share}", sys.stderr)
        self._tenths[index] = tenth

    def _response(self, index: int, response: httpx.Response, notes: list[str]) -> None:
        if response.is_success:
            self._done += 1
        else:
            self._failed.append(index)
        self._show_response(index, response)
        for note in notes:
            self._say(index, note, sys.stderr)

    def _show_response(self, index: int, response: httpx.Response) -> None:
        style, out, outcome = self._style, sys.stdout, self._outcome(index, response)
        if not style.is_one:
            text = body(response, is_whole=True) if style.is_verbose else ""
            self._say(index, f"{outcome}{text}", out)
        elif style.output is not None:
            self._say(index, outcome, sys.stderr)
        elif out is not None and out.isatty():
            self._say(index, f"{outcome}{body(response, is_whole=style.is_verbose)}", out)
        else:
            self._say(index, outcome, sys.stderr)
            self._print(response, out)

    def _outcome(self, index: int, response: httpx.Response) -> str:
        """Return the status, and the digests with --digest."""
        computed = "".join(f", {digest or 'not all was sent'}" for digest in digests(response))
        return f"{status(response)}{computed}{', verified' if index in self._verified else ''}"

    def _error(self, index: int, error: Exception) -> None:
        self._failed.append(index)
        self._say(index, advice(error, self._files[index]), sys.stderr)

    def _again(self, index: int, retry: Retry, attempts: int | None) -> None:
        error = retry.error
        failure = status(error.response) if isinstance(error, httpx.HTTPStatusError) else sentence(error)
        most = "" if attempts is None else f" of {attempts}"
        self._say(index, f"{failure} (attempt {retry.attempt}{most})", sys.stderr)

    def _summary(self, summary: BatchSummary) -> None:
        self._is_over = True
        self._conclude(f", {amount(summary.sent)} in {summary.seconds:.1f} s")

    def _aborted(self) -> None:
        if not self._is_over:
            self._conclude("")

    def _conclude(self, how: str) -> None:
        if self._style.is_one:
            return
        self._print(f"{self._done} of {len(self._files)} files sent{how}", sys.stderr)
        if self._failed:
            names = [printable(self._files[index]) for index in sorted(self._failed)]
            self._print(f"failed: {', '.join(names)}", sys.stderr)

    def _say(self, index: int, text: str, stream: TextIO | None) -> None:
        self._print(f"{printable(self._files[index])}: {text}", stream)


class Errors(Lines):
    """Prints errors only, one line each on standard error."""

    def _progress(self, index: int, progress: Progress) -> None: ...

    def _again(self, index: int, retry: Retry, attempts: int | None) -> None: ...

    def _conclude(self, how: str) -> None: ...

    def _show_response(self, index: int, response: httpx.Response) -> None:
        if not response.is_success:
            self._say(index, status(response), sys.stderr)


def _outcome_of(response: httpx.Response) -> Outcome | None:
    outcome: Outcome | None = response.extensions.get("rxupload", {}).get("resumable")
    return outcome


def _request_of(outcome: object) -> httpx.Request | None:
    try:
        request = getattr(outcome, "request", None)
    except RuntimeError:  # httpx raises it for an error without a request
        return None
    return request if isinstance(request, httpx.Request) else None
