"""`progress_bar` draws the progress: as a tqdm bar, or in a notebook's cell."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable

from rxupload._arguments import needs_call
from rxupload._derived import Derived
from rxupload._events import BatchProgress, Progress
from rxupload._kernel import kernel

T = TypeVar("T")
if TYPE_CHECKING:
    from tqdm.std import tqdm


class _Bar(Protocol):
    """The bar of one subscription."""

    def on_next(self, value: Any) -> None:
        """Draw an item, if it is one to draw."""

    def on_error(self, error: Exception) -> None:
        """Draw the end by an error."""

    def on_completed(self) -> None:
        """Draw the successful end."""

    def stop(self) -> None:
        """Draw the end by a dispose. After another end it does nothing. Any thread may call this."""


@needs_call
def progress_bar(**tqdm_options: Any) -> Callable[[Observable[T]], Observable[T]]:
    """Draw the Progress items, or a batch's BatchProgress, as a bar in a terminal or in Jupyter. Pass on all items.

    ::

        ---P0---P1---P2---Response-|
          progress_bar()             45%|####5     | 1.2M/2.6M [00:01<00:01, 1.1MB/s]
        ---P0---P1---P2---Response-|

    Each subscription has its own bar. In a terminal, the bar appears with the first Progress, starts again with a new
    attempt, and closes when the stream ends or is disposed. What the server had before a resumable upload went on is in
    the bar, and not in its rate, and `2.00MB before` stands at its end. If writing to its file fails, the bar stops,
    and the upload continues. For a batch whose bytes are unknown, it counts files of files until they are known.

    In a Jupyter kernel, the bar is an output of the cell that subscribes. It appears at once, with the state, the
    percent, the bytes, the rate and the time left as text, and settles into the end: `done 200 OK`,
    `failed ConnectError: ...` or `aborted`, with the bytes, the time and the mean rate. It is amber if an upload of a
    batch has failed, or the status is not 2xx. What the server had before is grey, and the text has it beside what is
    sent now. If a thread subscribes, as for a retry, the bar is in the cell of the subscription before, or else in the
    one that called `progress_bar()`.

    Args:
        **tqdm_options: Options for tqdm: `desc`, `leave`, `file`, `disable`, ... `unit` and `unit_scale` are those for
            bytes. In a Jupyter kernel, `desc` is the bar's title, `leave=False` empties the output at the end, a true
            `disable` draws nothing, and with a `file` tqdm writes its text to that. The others have no effect there.

    Raises:
        ImportError: tqdm is not installed, and is needed.
        TypeError: `pipe(progress_bar)` without parentheses.
    """
    make_bar = (
        _in_cells(tqdm_options) if kernel() and tqdm_options.get("file") is None else _by_tqdm(tqdm_options)
    )

    def operator(source: Observable[T]) -> Observable[T]:
        def subscribe(
            observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            bar = make_bar()

            def on_next(item: T) -> None:
                try:
                    bar.on_next(item)
                except Exception as error:  # noqa: BLE001 - an option that tqdm does not take
                    observer.on_error(error)
                    return
                observer.on_next(item)

            def on_error(error: Exception) -> None:
                bar.on_error(error)
                observer.on_error(error)

            def on_completed() -> None:
                bar.on_completed()
                observer.on_completed()

            subscription = source.subscribe(on_next, on_error, on_completed, scheduler=scheduler)
            return CompositeDisposable(subscription, Disposable(bar.stop))

        return Derived("progress_bar", source, subscribe)

    return operator


def _in_cells(options: dict[str, Any]) -> Callable[[], _Bar]:
    """Return a function that makes a bar in a notebook."""
    from rxupload._notebook import Bars  # noqa: PLC0415 - only a kernel needs it

    return Bars(
        title=str(options.get("desc") or ""),
        leave=options.get("leave") is not False,
        is_shown=not options.get("disable"),
    ).make


def _by_tqdm(options: dict[str, Any]) -> Callable[[], _Bar]:
    """Return a function that makes a tqdm bar."""
    tqdm = _tqdm()
    # Without miniters=0, tqdm learns to skip updates, and then lags behind an upload that slows down.
    all_options: dict[str, Any] = {"unit": "B", "unit_scale": True, "miniters": 0} | options
    of_bytes = {name: all_options[name] for name in _OF_FILES}
    return lambda: _TqdmBar(lambda **more: tqdm(**{**all_options, **more}), of_bytes)


def _tqdm() -> type[tqdm[Any]]:
    try:
        from tqdm import tqdm  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        raise ImportError("progress_bar() needs tqdm: pip install 'rxupload[progress]'") from error

    class Tqdm(tqdm):  # type: ignore[type-arg] # at run time it takes none
        def display(self, *args: Any, **kwargs: Any) -> Any:
            # An error here would leave tqdm's lock locked for ever, and all bars share it.
            try:
                return super().display(*args, **kwargs)
            except OSError:  # a full disk, a closed pipe
                self.disable = True

        @property
        def format_dict(self) -> Any:
            facts = super().format_dict
            if self.initial and not facts["postfix"]:
                scale, divisor = facts["unit_scale"], facts["unit_divisor"]
                size = self.format_sizeof(self.initial, divisor=divisor) if scale else self.initial
                facts["postfix"] = f"{size}{facts['unit']} before"
            return facts

    return Tqdm


_OF_FILES = {"unit": " files", "unit_scale": False}


class _TqdmBar:
    """A tqdm bar that follows Progress. The lock is for a dispose, which may come from any thread."""

    def __init__(self, make: Callable[..., tqdm[Any]], of_bytes: dict[str, Any]) -> None:
        self._make = make
        self._of_bytes = of_bytes
        self._counts_files = False
        self._lock = threading.Lock()
        self._bar: tqdm[Any] | None = None
        self._attempt = 1
        self._closed = False

    def on_next(self, value: Any) -> None:
        if isinstance(value, Progress | BatchProgress):
            self._show(value)

    def on_error(self, error: Exception) -> None:  # noqa: ARG002
        self.stop()

    def on_completed(self) -> None:
        self.stop()

    def _show(self, progress: Progress | BatchProgress) -> None:
        with self._lock:
            if self._closed:
                return
            done, total, attempt, counts_files = progress.sent, progress.total, 1, False
            if isinstance(progress, Progress):
                attempt = progress.attempt
            elif total is None and progress.count is not None:
                done, total, counts_files = progress.done + progress.failed, progress.count, True
            unit = _OF_FILES if counts_files else self._of_bytes
            start = progress.start if isinstance(progress, Progress) else 0
            if self._bar is None:
                initial = {"initial": start} if start else {}
                self._bar = self._make(**unit, **initial, total=total)
            elif counts_files != self._counts_files:
                _count_anew(self._bar, done, total, unit)
            self._bar.total = total  # set it here, because reset(None) keeps the old total
            if attempt != self._attempt:
                _begin_anew(self._bar, start, total)
            self._attempt, self._counts_files = attempt, counts_files
            self._bar.update(done - self._bar.n)

    def stop(self) -> None:
        with self._lock:
            self._closed = True
            if self._bar is not None:
                with contextlib.suppress(OSError):
                    self._bar.close()


def _begin_anew(bar: tqdm[Any], start: int, total: int | None) -> None:
    """Have the bar begin with so many bytes, which are not part of the rate."""
    if bar.disable:
        return
    bar.reset(total)
    bar.initial = bar.n = bar.last_print_n = start
    bar.refresh()


def _count_anew(bar: tqdm[Any], done: int, total: int | None, unit: dict[str, Any]) -> None:
    """Have the bar count something else from now on. The time goes on, and what is done is not part of a rate."""
    if bar.disable:
        return
    for name, value in unit.items():
        setattr(bar, name, value)
    began = bar.start_t
    bar.reset(total)
    bar.start_t, bar.n, bar.last_print_n = began, done, done
    bar.refresh()
