"""Reports the progress and the result of each FILE, as plain lines or as JSON lines."""

from __future__ import annotations

import json
import sys
import threading
from abc import ABC, abstractmethod
from dataclasses import asdict
from typing import Self, TextIO

import httpx

from rxupload import BatchEvent, BatchProgress, BatchSummary, ItemDone, ItemFailed, ItemProgress, Progress

from .texts import amount, excerpt, printable, say, sentence, status


class Report(ABC):
    """Reports the events of each FILE.

    Uploads call it on their own threads. After it is closed, it prints nothing: Python crashes if it ends while a
    thread is printing, and an aborted upload may still send events.

    An output that cannot be printed ends no upload.

    Attributes:
        lost: Why a line for standard output could not be printed. No line followed it.
    """

    def __init__(self, files: list[str]) -> None:
        self.lost: Exception | None = None
        self._files = files
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
                    self._response(index, response, [])
                case ItemFailed(index, _, httpx.HTTPStatusError() as error):  # not 2xx
                    self._response(index, error.response, getattr(error, "__notes__", []))
                case ItemFailed(index, _, error):
                    self._error(index, error)
                case BatchProgress():
                    self._progress_of_all(event)
                case BatchSummary():
                    self._summary(event)

    def again(self, index: int, error: Exception, attempt: str) -> None:
        """Report a failed attempt that will be followed by another."""
        with self._lock:
            if self._is_open:
                self._again(index, error, attempt)

    def aborted(self) -> None:
        """Report that the remaining FILEs will not be sent."""
        with self._lock:
            self._aborted()

    @abstractmethod
    def _progress(self, index: int, progress: Progress) -> None: ...

    @abstractmethod
    def _response(self, index: int, response: httpx.Response, notes: list[str]) -> None: ...

    @abstractmethod
    def _error(self, index: int, error: Exception) -> None: ...

    @abstractmethod
    def _summary(self, summary: BatchSummary) -> None: ...

    def _print(self, line: str, stream: TextIO) -> None:
        if stream in self._broken:
            return
        try:
            self._write(line, stream)
        except (OSError, ValueError) as error:
            self._broken.append(stream)
            if stream is sys.stdout:
                self.lost = error

    def _write(self, line: str, stream: TextIO) -> None:
        say(line, stream)

    def _again(self, index: int, error: Exception, attempt: str) -> None:  # noqa: B027 - the default
        """Do nothing."""

    def _progress_of_all(self, progress: BatchProgress) -> None:  # noqa: B027
        """Do nothing."""

    def _aborted(self) -> None:  # noqa: B027
        """Do nothing."""

    def _close(self) -> None:  # noqa: B027
        """Do nothing."""


class JsonLines(Report):
    """Prints each event as a JSON line, for programs. SEND_NOTES lists the keys."""

    def _progress(self, index: int, progress: Progress) -> None:
        self._line("progress", index, **asdict(progress))

    def _response(self, index: int, response: httpx.Response, notes: list[str]) -> None:
        facts = {"status": response.status_code, "reason": response.reason_phrase, "body": response.text}
        self._line("response", index, **facts, notes=notes)

    def _error(self, index: int, error: Exception) -> None:
        self._line("error", index, type=type(error).__name__, message=sentence(error))

    def _line(self, event: str, index: int, **facts: object) -> None:
        line = {"event": event, "index": index, "file": self._files[index], **facts}
        self._print(json.dumps(line), sys.stdout)

    def _summary(self, summary: BatchSummary) -> None:
        line: dict[str, object] = {"event": "summary", "done": summary.done, "failed": summary.failed}
        line |= {"sent": summary.sent, "seconds": round(summary.seconds, 3)}
        self._print(json.dumps(line), sys.stdout)


class Lines(Report):
    """Prints plain lines, for a log: the progress at each tenth of a FILE, and its result."""

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
            self._say(index, f"{amount(progress.sent)}{share}", sys.stderr)
        self._tenths[index] = tenth

    def _response(self, index: int, response: httpx.Response, notes: list[str]) -> None:
        if response.is_success:
            self._done += 1
        else:
            self._failed.append(index)
        self._say(index, f"{status(response)}{excerpt(response)}", sys.stdout)
        for note in notes:
            self._say(index, note, sys.stderr)

    def _error(self, index: int, error: Exception) -> None:
        self._failed.append(index)
        self._say(index, sentence(error), sys.stderr)

    def _again(self, index: int, error: Exception, attempt: str) -> None:
        failure = status(error.response) if isinstance(error, httpx.HTTPStatusError) else sentence(error)
        self._say(index, f"{failure} ({attempt})", sys.stderr)

    def _summary(self, summary: BatchSummary) -> None:
        self._is_over = True
        self._conclude(f", {amount(summary.sent)} in {summary.seconds:.1f} s")

    def _aborted(self) -> None:
        if not self._is_over:
            self._conclude("")

    def _conclude(self, how: str) -> None:
        if len(self._files) == 1:
            return
        self._print(f"{self._done} of {len(self._files)} files sent{how}", sys.stderr)
        if self._failed:
            names = [printable(self._files[index]) for index in sorted(self._failed)]
            self._print(f"failed: {', '.join(names)}", sys.stderr)

    def _say(self, index: int, text: str, stream: TextIO) -> None:
        self._print(f"{printable(self._files[index])}: {text}", stream)
