"""`run()` subscribes to any Observable, waits for its end, and returns its last item."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from reactivex import Observable, abc
from reactivex.internal import SequenceContainsNoElementsError, noop
from reactivex.scheduler import ImmediateScheduler, NewThreadScheduler, VirtualTimeScheduler

from ._arguments import check_scheduler
from ._kernel import under_way
from ._schedulers import is_loop_of_this_thread, works_in_place
from ._signals import delaying_ctrl_c, stoppable
from ._wait import Latch

T = TypeVar("T")

BEGIN_HERE = "_begin_here"  # the name of a source's attribute; see `Upload`


def run(source: Observable[T], scheduler: abc.SchedulerBase | None = None) -> T:
    """Subscribe, wait for the end, and return the last item.

    It works like `Observable.run`. In addition, Ctrl-C or any other exception that interrupts the wait disposes the
    subscription before it propagates. So does the stop button of a Jupyter kernel: with KeyboardInterrupt, or with
    asyncio.CancelledError in a cell that also awaits. If the kernel shuts down, a call on another thread raises
    UploadAborted.

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
        ValueError: The scheduler has virtual time, which would stand still.
    """
    if not isinstance(source, abc.ObservableBase):
        raise TypeError(f"source: expected an Observable, got {type(source).__name__}")
    check_scheduler(scheduler)
    if is_loop_of_this_thread(scheduler):
        raise RuntimeError("run() would block the loop of its scheduler; await the Observable instead")
    if isinstance(scheduler, VirtualTimeScheduler):
        raise ValueError(  # noqa: TRY004 - a scheduler it is
            "scheduler: virtual time stands still while run() waits; subscribe with it instead, and advance it"
        )
    outcome: _Outcome[T] = _Outcome()
    begin_here = (
        getattr(source, BEGIN_HERE, None) if isinstance(scheduler, ImmediateScheduler | None) else None
    )
    dispose: Callable[[], object] = noop
    in_the_kernel = under_way(None, outcome.on_error)
    try:
        with stoppable():
            if begin_here is not None:
                dispose, work = begin_here(outcome)
                with delaying_ctrl_c(dispose):
                    work()
            else:
                if scheduler is None or not works_in_place(scheduler):
                    with delaying_ctrl_c(only_steps=True):  # until there is a subscription to dispose
                        subscription = source.subscribe(outcome, scheduler=scheduler or NewThreadScheduler())
                        dispose = subscription.dispose
                else:
                    dispose = source.subscribe(outcome, scheduler=scheduler).dispose
                with delaying_ctrl_c(outcome.ended.set):
                    outcome.ended.wait()
    except BaseException:
        dispose()
        raise
    finally:
        in_the_kernel.dispose()
    if outcome.error is not None:
        raise outcome.error  # here, so that a traceback has one frame less
    if not outcome.items:
        raise SequenceContainsNoElementsError
    return outcome.items[0]


class _Outcome(abc.ObserverBase[T], Generic[T]):
    """An observer that keeps the last item, or the error."""

    def __init__(self) -> None:
        self.ended = Latch()
        self.items: list[T] = []  # at most one
        self.error: Exception | None = None

    def on_next(self, value: T) -> None:
        self.items[:] = [value]

    def on_error(self, error: Exception) -> None:
        self.error = error
        self.ended.set()

    def on_completed(self) -> None:
        self.ended.set()
