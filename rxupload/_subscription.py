"""Begins one upload for an observer: chooses the thread, and returns the disposable that aborts it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from reactivex import abc
from reactivex.disposable import CompositeDisposable, Disposable
from reactivex.scheduler import CurrentThreadScheduler

from ._arguments import check_scheduler
from ._delivery import DirectDelivery, LoopDelivery
from ._plan import Plan
from ._progress import UploadEvent
from ._schedulers import call_soon, is_closed, is_loop_of_this_thread, loop_of, makes_threads, may_block
from ._threads import run_on_thread
from ._throttle import Allowance, Throttle, Throttling, throttles_of
from ._transfer import Disposed, Transfer
from ._worker import Exchange, work


def begin(
    plan: Plan,
    exchange: Exchange,
    observer: abc.ObserverBase[Any],
    scheduler: abc.SchedulerBase | None = None,
) -> abc.DisposableBase:
    """Begin an upload, and return the disposable that aborts it.

    Args:
        plan: The upload.
        exchange: What it does with the server.
        observer: Gets the notifications.
        scheduler: Decides on the thread.

    Raises:
        TypeError: `scheduler` is not a scheduler, or a source is asynchronous and the scheduler has no asyncio loop.
    """
    check_scheduler(scheduler)
    loop = loop_of(scheduler)
    for source in plan.body.sources:
        source.check_loop(loop)
    if scheduler is None or may_block(scheduler):
        transfer = Transfer(plan.timeout, loop=loop)
    else:
        transfer = Transfer(
            plan.timeout,
            is_abandoned=partial(is_closed, scheduler),
            is_on_loop=partial(is_loop_of_this_thread, scheduler),
            loop=loop,
        )
    throttling = _throttle(plan, transfer, throttles_of(scheduler))
    observer = throttling.releasing(observer)
    abort = Disposable(partial(_abort, transfer))
    if scheduler is not None and not may_block(scheduler):
        delivery = LoopDelivery(observer, transfer, scheduler)
        throttling.start(lambda: work(plan, transfer, delivery, throttling, exchange), call_soon(scheduler))
        return CompositeDisposable(abort, throttling)
    direct = DirectDelivery(observer, transfer)
    if scheduler is None or makes_threads(scheduler):
        run_on_thread(lambda: work(plan, transfer, direct, throttling, exchange))
        return CompositeDisposable(abort, throttling)
    if isinstance(scheduler, CurrentThreadScheduler):
        # A separate CurrentThreadScheduler would run the upload now, before `subscribe` returns the disposable. The
        # shared one runs it after that, if its trampoline is in use.
        scheduler = CurrentThreadScheduler.singleton()
    scheduled = scheduler.schedule(lambda *_: work(plan, transfer, direct, throttling, exchange))
    return CompositeDisposable(abort, throttling, scheduled)


def begin_here(
    plan: Plan, exchange: Exchange, observer: abc.ObserverBase[UploadEvent]
) -> tuple[Callable[[], None], Callable[[], None]]:
    """Begin an upload for `run`. Return the function that aborts it, and the one that uploads on the calling thread."""
    transfer = Transfer(plan.timeout)
    throttling = _throttle(plan, transfer, [])
    delivery = DirectDelivery(throttling.releasing(observer), transfer)
    return partial(_abort, transfer), partial(work, plan, transfer, delivery, throttling, exchange)


def _throttle(plan: Plan, transfer: Transfer, outer: list[Throttle]) -> Throttling:
    """Apply the upload's own settings, and the throttles of its scheduler."""
    throttling = Throttling(plan.rate_limit, plan.pause, transfer.stop)
    throttles = outer if throttling.throttle is None else [throttling.throttle, *outer]
    if throttles:
        transfer.allowance = Allowance(throttles, transfer.wake)
    return throttling


def _abort(transfer: Transfer) -> None:
    transfer.stop(Disposed())
