"""Runs one subscription to an upload: the exchange with the server, and the notifications up to the end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, TypeAlias, cast

import httpx

from ._body import Digests
from ._content import Content
from ._delivery import Delivery
from ._meter import Meter
from ._plan import Plan
from ._redirects import Hop
from ._sending import Sender
from ._signals import is_long
from ._throttle import Throttling
from ._tracebacks import leave_out_inner_frames
from ._transfer import EXTENSION, Abandoned, Disposed, Transfer

# What a subscription does with the server. It returns the last item, and blocks the calling thread.
Exchange: TypeAlias = Callable[[Plan, Transfer], Any]


@is_long
def work(
    plan: Plan, transfer: Transfer, delivery: Delivery, throttling: Throttling, exchange: Exchange
) -> None:
    """Run one upload, from opening the files to the terminal notification. It blocks the calling thread."""
    last: Any = None
    failure: BaseException | None = None
    try:
        transfer.begin()
        throttling.follow()
        transfer.meter = Meter(plan.progress_interval, delivery.next)
        last = exchange(plan, transfer)
    except BaseException as error:  # noqa: BLE001 - the observer gets any error
        failure = error
        transfer.expire()
    stopped = transfer.settle()
    reason = stopped or failure
    if reason is None:
        try:
            delivery.last(last)
        except BaseException as error:  # noqa: BLE001 - the observer gets its own error back
            reason = error
        else:
            delivery.completed()
    if reason is not None and not isinstance(stopped, Disposed):
        leave_out_inner_frames(reason)
        delivery.error(cast("Exception", reason))
    if isinstance(stopped, Abandoned) or transfer.is_abandoned():
        throttling.dispose()  # the closed loop will never do it
    if threading.current_thread() is threading.main_thread():
        for each in (reason, failure):
            if each is not None and not isinstance(each, Exception):
                raise each  # Ctrl-C during an upload in place: the caller must get it, too


def send_whole(plan: Plan, transfer: Transfer) -> httpx.Response:
    """Send the body whole, with one request and those that redirects ask for. Return the response."""
    sender = Sender(plan, transfer)
    with ExitStack() as stack:
        digests = None if plan.digest is None else Digests(plan.digest)
        body = plan.body.open(transfer, stack, digests)
        content = Content(body, transfer)
        stack.callback(content.close)
        response = sender.send(Hop(plan.url, plan.method, plan.headers), body, content)
        if digests is not None:
            response.extensions[EXTENSION] = {
                "algorithm": digests.algorithm,
                "digests": digests.of_last_pass(is_whole=content.is_whole),
            }
        return response
