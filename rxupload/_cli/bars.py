"""Reports the progress of each FILE with live bars, and chooses between bars and plain lines."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import httpx

from rxupload import BatchProgress, Progress

from .reports import Errors, Lines, Style
from .texts import amount, printable

if TYPE_CHECKING:
    from tqdm import tqdm

_OF_BYTES = {"unit": "B", "unit_scale": True}
_OF_FILES = {"unit": "", "unit_scale": False}


def _bar_kind() -> type[tqdm[Any]]:
    from tqdm import tqdm  # noqa: PLC0415 - an optional extra

    class Tqdm(tqdm):  # type: ignore[type-arg] # at run time it takes none
        def display(self, *args: Any, **kwargs: Any) -> Any:
            # An error here would leave tqdm's lock locked for ever, and all bars share it.
            try:
                return super().display(*args, **kwargs)
            except OSError:  # a full disk, a closed pipe
                self.disable = True

    return Tqdm


class Bars(Lines):
    """Live bars for a terminal. Several FILEs have a bar for each running one, and below them a bar for all.

    The result of each FILE is printed above the bars. That of a single FILE is printed below its bar.
    """

    def __init__(self, files: list[str], style: Style, kind: type[tqdm[Any]]) -> None:
        super().__init__(files, style)
        self._kind = kind
        self._columns, rows = os.get_terminal_size(sys.stderr.fileno())
        self._most = 0 if len(files) == 1 else rows // 2 - 1  # the most FILEs with their own bar at a time
        self._bars: dict[int, tqdm[Any]] = {}  # by FILE, the uppermost first
        self._all: tqdm[Any] | None = None  # below them; that of a single FILE, too

    def _bar(self, title: str, total: int | None, *, is_short: bool, **options: Any) -> tqdm[Any]:
        return self._kind(
            desc=title,
            total=total,
            dynamic_ncols=True,
            bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt}{postfix}" if is_short else None,
            miniters=0,  # otherwise tqdm learns to skip updates, and then lags behind an upload that slows down
            **options,
        )

    def _title(self, index: int) -> str:
        """Return the FILE's name, shortened in the middle to leave room for the bar."""
        name = printable(Path(self._files[index]).name)
        half = max(5, self._columns // 8)
        return name if len(name) <= 2 * half else f"{name[: half - 1]}..{name[1 - half :]}"

    def _close(self) -> None:
        while self._bars:
            self._take_away(next(iter(self._bars)))
        if self._all is not None:
            self._all.close()

    def _progress_of_all(self, progress: BatchProgress) -> None:
        if len(self._files) == 1:
            return
        title = f"{len(self._files)} files"
        if progress.total is None and progress.count is not None:
            self._show_all(title, progress.done + progress.failed, progress.count, _OF_FILES)
        else:
            self._show_all(title, progress.sent, progress.total, _OF_BYTES)

    def _show_all(
        self, title: str, done: int, total: int | None, unit: dict[str, Any], *, start: int = 0
    ) -> None:
        if self._all is None:
            is_short = self._columns < 60  # noqa: PLR2004
            options = {"position": len(self._bars), "initial": start, "postfix": _before(start), **unit}
            self._all = self._bar(title, total, is_short=is_short, **options)
        elif not self._all.disable and self._all.unit != unit["unit"]:
            # Count bytes from now on. The time goes on, and what is done is not part of a rate.
            for name, value in unit.items():
                setattr(self._all, name, value)
            began = self._all.start_t
            self._all.reset(total)
            self._all.start_t, self._all.n, self._all.last_print_n = began, done, done
            self._all.refresh()
        self._all.total = total
        self._all.update(done - self._all.n)

    def _progress(self, index: int, progress: Progress) -> None:
        if len(self._files) == 1:
            self._show_all(self._title(0), progress.sent, progress.total, _OF_BYTES, start=progress.start)
        elif index in self._bars:
            bar = self._bars[index]
            bar.total = progress.total
            bar.update(progress.sent - bar.n)
        elif len(self._bars) < self._most:
            self._add(index, progress)

    def _add(self, index: int, progress: Progress) -> None:
        place = len(self._bars)
        if self._all is not None:
            self._move(self._all, place + 1)
        self._bars[index] = self._bar(
            self._title(index),
            progress.total,
            is_short=True,
            **_OF_BYTES,
            initial=progress.sent,
            postfix=_before(progress.start),
            position=place,
            leave=False,
        )

    def _take_away(self, index: int) -> None:
        self._bars.pop(index).close()
        for place, bar in enumerate([*self._bars.values(), self._all]):
            if bar is not None:
                self._move(bar, place)

    @staticmethod
    def _move(bar: tqdm[Any], place: int) -> None:
        if bar.pos != -place:
            bar.clear()
            bar.pos = -place  # tqdm uses negative numbers for a bar with a fixed position
            bar.refresh()

    def _response(self, index: int, response: httpx.Response, notes: list[str]) -> None:
        self._end(index)
        super()._response(index, response, notes)

    def _error(self, index: int, error: Exception) -> None:
        self._end(index)
        super()._error(index, error)

    def _end(self, index: int) -> None:
        if len(self._files) == 1:
            self._close()
        elif index in self._bars:
            self._take_away(index)

    def _conclude(self, how: str) -> None:
        self._close()
        super()._conclude(how)

    def _write(self, line: str, stream: TextIO) -> None:
        self._kind.write(line, file=stream)


def _before(start: int) -> str | None:
    """Say how many bytes the server had before a resumable upload went on."""
    return f"{amount(start)} before" if start else None


def choose_report(files: list[str], style: Style) -> Lines:
    """Choose live bars if tqdm is installed and the terminal has room for them; otherwise plain lines, or errors."""
    if style.is_quiet:
        return Errors(files, style)
    if sys.stderr is not None and sys.stderr.isatty():
        with contextlib.suppress(ImportError, OSError):  # an optional extra; a terminal that has gone
            if os.get_terminal_size(sys.stderr.fileno()).lines > 2:  # noqa: PLR2004 - as tqdm has it
                return Bars(files, style, _bar_kind())
    return Lines(files, style)
