"""The one way in which dialling waits: for readiness, until a deadline, while its caller may stop it."""

from __future__ import annotations

from collections.abc import Sequence

import httpx

from rxupload._wait import Clock, Watched

from .control import Control


def pause(
    clock: Clock, control: Control, until: float, watched: Sequence[tuple[Watched, int]] = ()
) -> Sequence[Watched]:
    """Wait for readiness until a deadline; the caller's reason to stop is raised.

    It returns when the caller wants to be asked again, too: so it stands in a loop that looks at the clock.

    Raises:
        httpx.ConnectError: No descriptor is left to wait with.
    """
    wake = control.wake
    if wake is not None:
        wake.clear()  # whatever it was set for, the next line asks
    until = min(until, control.check())
    if wake is not None:
        try:
            wake.fileno()
        except OSError as error:
            raise httpx.ConnectError(str(error)) from error
    return clock.wait(until, watched, wake)
