"""Turns the events of an upload, or of a batch, into the line of text that a notebook shows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

from rxupload._cards import amount, described, one_line, short
from rxupload._errors import UploadAborted
from rxupload._events import BatchProgress, BatchSummary, Progress
from rxupload._rates import RateWindow, Tally
from rxupload._responses import is_failure, status

_WINDOW = 5.0  # seconds that the rate covers

# Tints, to be read on a light and on a dark page.
_BLUE, _GREEN, _AMBER, _RED, _GREY = (
    f"rgba({each},.3)" for each in ("33,150,243", "76,175,80", "255,152,0", "244,67,54", "128,128,128")
)


@dataclass(frozen=True, slots=True)
class Shown:
    """One picture of an upload: a line of text, on a tint that reaches as far as the upload has come.

    What the server had before is grey: it reaches as far as `before`.
    """

    text: str
    fraction: float
    tint: str
    before: float = 0.0

    @property
    def html(self) -> str:
        """One element of a fixed height. The text has all that the tint says."""
        end = f"{100 * self.fraction:.1f}%"
        start = f"{100 * self.before:.1f}%"
        ground = (
            f"{_GREY} {start},{self.tint} {start},{self.tint} {end}" if self.before else f"{self.tint} {end}"
        )
        style = (
            "height:28px;line-height:28px;padding:0 8px;border:1px solid rgba(128,128,128,.5);border-radius:3px;"
            "box-sizing:border-box;overflow:hidden;white-space:nowrap;text-overflow:ellipsis;"
            f"background:linear-gradient(90deg,{ground},transparent {end})"
        )
        return f'<div style="{style}">{escape(self.text)}</div>'

    @property
    def bundle(self) -> dict[str, str]:
        """The picture in each media type."""
        return {"text/html": self.html, "text/plain": self.text}


class Report:
    """Turns the events of an upload, or of a batch, into what its display says."""

    def __init__(
        self, title: str, state: Callable[[], str] | None = None, tally: Tally | None = None
    ) -> None:
        """Make it.

        Args:
            title: What is uploaded, and where to.
            state: Tells the state of a task; None: the events tell it.
            tally: That of a task, which may have begun, or ended; None: this one begins with `begin`.
        """
        self._title = title
        self._state = state
        self._is_of_task = tally is not None
        self._tally = tally or Tally()
        self._progress = self._tally.latest
        self._last: object = None
        self._rates = RateWindow(_WINDOW)
        self._is_moving = False
        self._outcome: str | None = None
        self._tint = _BLUE

    @property
    def is_moving(self) -> bool:
        """Whether the picture changes without an event, because it has a rate."""
        return self._is_moving

    def begin(self, now: float) -> None:
        """Take the start. A task's tally has its own."""
        if not self._is_of_task:
            self._tally.begin(now)

    def take(self, item: object, at: float) -> None:
        """Take an item, which came at this time."""
        if not self._is_of_task:
            self._tally.take(item)
        if isinstance(item, Progress | BatchProgress):
            if (
                isinstance(item, Progress) and item.sent == item.start
            ):  # what was there before is not part of a rate
                self._rates.restart()
            self._rates.add(at, item.sent)
            self._progress = item
            if isinstance(item, BatchProgress) and item.failed:
                self._tint = _AMBER
        elif isinstance(item, BatchSummary) or status(item):
            self._last = item

    def complete(self) -> None:
        """Take the successful end."""
        last: Any = self._last
        self._outcome = "done"
        self._tint = _GREEN
        if isinstance(last, BatchSummary):
            self._tint = _AMBER if last.failed else _GREEN
        elif last is not None:
            self._outcome = short(f"done {last.status_code} {getattr(last, 'reason_phrase', '')}")
            self._tint = _AMBER if is_failure(last) else _GREEN

    def fail(self, error: Exception) -> None:
        """Take the end by an error."""
        if isinstance(error, UploadAborted):
            self._outcome, self._tint = "aborted", _GREY
        else:
            self._outcome, self._tint = f"failed {described(error)}", _RED

    def stop(self) -> None:
        """Take the end by a dispose. After the last item it is no abort."""
        if self._last is not None:
            self.complete()
        else:
            self._outcome, self._tint = "aborted", _GREY

    def picture(self, now: float) -> Shown:
        """Return the picture at this time. At the end, all displays of a task show the same."""
        if self._outcome is not None:
            self._progress = self._tally.latest
        done, total = self._steps()
        parts = [self._outcome or self._state_now()]
        if total is not None:
            parts.append(f"{done * 100 // total if total else 100}%")
        parts += self._counts()
        parts += self._speed(now)
        parts.append(self._title)
        if total is None:
            fraction = 0.0 if self._outcome is None else 1.0
        else:
            fraction = min(1.0, done / total) if total else 1.0
        start = progress.start if isinstance(progress := self._progress, Progress) else 0
        before = start / total if total else 0.0
        return Shown(one_line(" \u00b7 ".join(filter(None, parts))), fraction, self._tint, before)

    def _steps(self) -> tuple[int, int | None]:
        """Return how far it is, and how far it goes: in bytes, or in files while a batch's bytes are unknown."""
        progress = self._progress
        if progress is None:
            return 0, None
        if isinstance(progress, BatchProgress) and progress.total is None:
            return progress.done + progress.failed, progress.count
        return progress.sent, progress.total

    def _state_now(self) -> str:
        progress = self._progress
        if self._state is not None:
            state = self._state()
        elif isinstance(progress, Progress):
            state = "waiting" if progress.sent == progress.total else "uploading"
        else:
            state = "uploading" if progress is None else "running"
        if state == "uploading" and progress is None:
            return "starting"
        return "waiting for the response" if state == "waiting" else state

    def _counts(self) -> list[str]:
        progress = self._progress
        if progress is None:
            return []
        of_all = "" if progress.total in (None, progress.sent) else f" of {amount(progress.total)}"
        counts = [f"{amount(progress.sent)}{of_all}"]
        if isinstance(progress, BatchProgress):
            ended = progress.done + progress.failed
            last = ended if progress.count is None else progress.count
            files = "file" if last == 1 else "files"
            counts.append(
                f"{ended} {files}" if progress.count is None else f"{ended} of {progress.count} {files}"
            )
            counts += [f"{progress.failed} failed"] * (progress.failed > 0)
            return counts
        if progress.start:
            counts.append(f"{amount(progress.start)} before, {amount(progress.sent - progress.start)} now")
        if progress.attempt > 1:
            counts.append(f"attempt {progress.attempt}")
        return counts

    def _speed(self, now: float) -> list[str]:
        """Return the rate, and the time that is left; at the end, the time that it took, and the mean rate."""
        progress = self._progress
        is_over = self._outcome is not None
        rate = 0.0 if progress is None or is_over else self._rates.rate(now)
        self._is_moving = rate > 0
        if is_over:
            return self._mean_speed(now)
        if progress is None:
            return []
        start = progress.start if isinstance(progress, Progress) else 0
        if progress.sent in (start, progress.total):
            return []
        left = 0 if progress.total is None else progress.total - progress.sent
        return [f"{amount(rate)}/s", *([f"{_duration(left / rate)} left"] if left > 0 and rate else [])]

    def _mean_speed(self, now: float) -> list[str]:
        seconds = self._last.seconds if isinstance(self._last, BatchSummary) else self._tally.seconds(now)
        if seconds is None:
            return []
        took = f"in {seconds:.1f} s" if seconds < 60 else f"in {_duration(seconds)}"  # noqa: PLR2004
        sent = self._tally.sent
        return [took, f"{amount(sent / seconds)}/s"] if sent and seconds else [took]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(math.ceil(seconds), 60)
    if minutes < 60:  # noqa: PLR2004
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
