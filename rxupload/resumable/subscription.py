"""What a subscription does: it takes the upload's place in the store, opens the file, and sends or discards it."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from reactivex.internal import noop

from rxupload._signals import at_the_end
from rxupload._transfer import Transfer
from rxupload._wait import READ, Latch, Wake

from .form import GuardInForm, InForm, form_of
from .guard import guard_of
from .outcome import Outcome, conclude
from .parallel import Parallel, connections_of
from .parts import AtAnyOffset, Parts, parts_of
from .places import addresses_of
from .plan import ResumablePlan
from .server import Server
from .store import Slot
from .work import Work


def go_on(plan: ResumablePlan, transfer: Transfer) -> Any:
    """Send what the server does not have yet, and return the last response. It blocks the calling thread."""
    with ExitStack() as stack:
        stack.callback(_leave, transfer)
        _under_way[transfer] = Latch()
        slot = open_slot(plan, transfer, stack)
        reader = plan.source.open(transfer)
        stack.callback(reader.close)
        parts: Parts = parts_of(reader, transfer)
        stack.callback(parts.close)
        guard = guard_of(parts, plan, slot, transfer)
        stack.callback(guard.leave)
        if plan.protocol.field is not None:
            known = {} if slot.entry is None else slot.entry.extra
            form = form_of(plan.protocol.field, plan.about, known)
            about = replace(plan.about, filename=None, content_type=form.content_type, extra=form.extra)
            parts = InForm(parts, form)
            guard, plan = GuardInForm(guard, parts), replace(plan, about=about)
        server = Server(plan, transfer)
        count = connections_of(plan, server, slot.entry, parts)
        if count > 1 and isinstance(parts, AtAnyOffset):
            return Parallel(plan, transfer, slot, parts, guard, server, count).run()
        return Work(plan, transfer, slot, parts, guard, server).run()


def discard(plan: ResumablePlan, transfer: Transfer) -> Any:
    """End the upload on the server, and forget it. Return the response; None if nothing is remembered."""
    with ExitStack() as stack:
        slot = open_slot(plan, transfer, stack)
        entry = slot.entry
        if entry is None:
            return None
        server = Server(plan, transfer)
        response: Any = None
        is_over = True
        for url in addresses_of(entry):
            response = server.to_upload(url, plan.protocol.discard(entry))
            is_over = is_over and response.status_code not in _PASSING
        if is_over:
            slot.remove()
        return conclude(response, Outcome(entry.url, 0, 0))


_PASSING = (401, 403, 408, 409, 423, 425, 429, 500, 502, 503, 504)  # another attempt may be able to discard


def open_slot(plan: ResumablePlan, transfer: Transfer, stack: ExitStack) -> Slot:
    """Take the upload's slot in the store. Closing the stack closes it.

    Raises:
        ResumeInUse: Another subscription has it.
        BaseException: The transfer's reason to stop, during the wait for one that is letting go.
    """

    def wait(wake: Wake) -> None:
        while not wake.is_set():
            transfer.wait((wake, READ))

    transfer.check()
    slot = plan.store.open(plan.key(), wait, transfer.is_stopping)
    stack.callback(slot.close)
    return slot


# The end of a script

_PATIENCE = 2.0  # seconds

_under_way: dict[Transfer, Latch] = {}


def _leave(transfer: Transfer) -> None:
    if (has_left := _under_way.pop(transfer, None)) is not None:
        has_left.set()


def _wait_for_those_that_stop() -> None:
    """Wait until subscriptions that were disposed, as by Ctrl-C, have stored how far they have come."""
    until = time.monotonic() + _PATIENCE
    for transfer, has_left in list(_under_way.items()):
        if transfer.is_stopping():
            has_left.wait(until)


at_the_end(_wait_for_those_that_stop, noop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_under_way.clear)
