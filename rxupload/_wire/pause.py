"""Waits for dialling: until readiness, a deadline, or the caller's reason to stop."""

from __future__ import annotations

from collections.abc import Sequence

import httpx

from rxupload._wait import Clock, Watched

from .control import Control


def pause(
    clock: Clock, control: Control, until: float, watched: Sequence[tuple[Watched, int]] = ()
) -> Sequence[Watched]:
    """Wait for readiness until a deadline. Raise the caller's reason to stop, if any.

    It also returns when the caller wants `check` to be called again. So call it in a loop that reads the clock.

    Raises:
        httpx.ConnectError: No descriptor is free for the wait.
    """
    wake = control.wake
    if wake is not None:
        wake.clear()  # before `check`, so that a reason set from now on ends the wait
    until = min(until, control.check())
    if wake is not None:
        try:
            wake.fileno()
        except OSError as error:
            raise httpx.ConnectError(str(error)) from error
    return clock.wait(until, watched, wake)
