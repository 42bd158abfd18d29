"""`run()` subscribes to any Observable, waits for its end, and returns its last item."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import TypeVar

from reactivex import Observable, abc
from reactivex.disposable import Disposable
from reactivex.internal import SequenceContainsNoElementsError
from reactivex.scheduler import NewThreadScheduler

from ._arguments import check_scheduler
from ._schedulers import is_loop_of_this_thread, works_in_place
from ._wait import wait_for_event

T = TypeVar("T")


def run(source: Observable[T], scheduler: abc.SchedulerBase | None = None) -> T:
    """Subscribe, wait for the end, and return the last item.

    It works like `Observable.run`. In addition, Ctrl-C or any other exception that interrupts the wait disposes the
    subscription before it propagates.

    Args:
        source: Any Observable.
        scheduler: Passed to `subscribe`; None for a new thread.

    Raises:
        Exception: The source's error.
        SequenceContainsNoElementsError: The source completed without an item.
        RuntimeError: The scheduler's event loop runs on this thread, so that waiting would block it.
    """
    if not isinstance(source, abc.ObservableBase):
        raise TypeError(f"source: expected an Observable, got {type(source).__name__}")
    check_scheduler(scheduler)
    if is_loop_of_this_thread(scheduler):
        raise RuntimeError("run() would block the loop of its scheduler; await the Observable instead")
    ended = threading.Event()
    items: list[T] = []
    errors: list[Exception] = []

    def on_next(item: T) -> None:
        items[:] = [item]

    def on_error(error: Exception) -> None:
        errors.append(error)
        ended.set()

    subscription: abc.DisposableBase = Disposable()
    try:
        with nullcontext() if scheduler is not None and works_in_place(scheduler) else _holding_ctrl_c():
            subscription = source.subscribe(
                on_next, on_error, ended.set, scheduler=scheduler or NewThreadScheduler()
            )
        wait_for_event(ended)
    except BaseException:
        subscription.dispose()
        raise
    if errors:
        raise errors[0]
    if not items:
        raise SequenceContainsNoElementsError
    return items[0]


@contextmanager
def _holding_ctrl_c() -> Iterator[None]:
    """Delay Ctrl-C until there is a subscription to dispose. A second Ctrl-C acts at once."""
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    is_held = False

    def hold(number: int, frame: FrameType | None) -> None:
        nonlocal is_held
        if is_held:
            handler(number, frame)
        is_held = True

    signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if is_held:
        handler(signal.SIGINT, None)
