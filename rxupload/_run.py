"""`run()` subscribes to any Observable, waits for its end, and returns its last item."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from reactivex import Observable, abc
from reactivex.internal import SequenceContainsNoElementsError, noop
from reactivex.scheduler import ImmediateScheduler, NewThreadScheduler

from ._arguments import check_scheduler
from ._schedulers import is_loop_of_this_thread, works_in_place
from ._signals import delaying_ctrl_c
from ._wait import Latch

T = TypeVar("T")

BEGIN_HERE = "_begin_here"  # the name of a source's attribute; see `Upload`


def run(source: Observable[T], scheduler: abc.SchedulerBase | None = None) -> T:
    """Subscribe, wait for the end, and return the last item.

    It works like `Observable.run`. In addition, Ctrl-C or any other exception that interrupts the wait disposes the
    subscription before it propagates.

    A signal handler should not call it, but `subscribe` or `start()`, which do not wait. A wait in the handler may be
    for a thread that itself waits for a lock of the interrupted code.

    Args:
        source: Any Observable.
        scheduler: Passed to `subscribe`. None for a new thread; an upload that calls nothing of the caller's runs on
            the calling thread, which saves the time for waking another one.

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
    outcome: _Outcome[T] = _Outcome()
    begin_here = (
        getattr(source, BEGIN_HERE, None) if isinstance(scheduler, ImmediateScheduler | None) else None
    )
    dispose: Callable[[], object] = noop
    try:
        if begin_here is not None:
            dispose, work = begin_here(outcome)
            with delaying_ctrl_c(dispose):
                work()
        else:
            if scheduler is None or not works_in_place(scheduler):
                with delaying_ctrl_c(only_steps=True):  # until there is a subscription to dispose
                    dispose = source.subscribe(outcome, scheduler=scheduler or NewThreadScheduler()).dispose
            else:
                dispose = source.subscribe(outcome, scheduler=scheduler).dispose
            with delaying_ctrl_c(outcome.ended.set):
                outcome.ended.wait()
    except BaseException:
        dispose()
        raise
    return outcome.result()


class _Outcome(abc.ObserverBase[T], Generic[T]):
    """An observer that keeps the last item, or the error."""

    def __init__(self) -> None:
        self.ended = Latch()
        self._items: list[T] = []
        self._error: Exception | None = None

    def on_next(self, value: T) -> None:
        self._items[:] = [value]

    def on_error(self, error: Exception) -> None:
        self._error = error
        self.ended.set()

    def on_completed(self) -> None:
        self.ended.set()

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        if not self._items:
            raise SequenceContainsNoElementsError
        return self._items[0]
