"""Delays what Ctrl-C raises, while the main thread does something that must not stop half way."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from reactivex.internal import noop

_MOST_DELAYED = 2  # Ctrl-C


@contextmanager
def delaying_ctrl_c(act: Callable[[], object] = noop) -> Iterator[None]:
    """Delay what the handler of Ctrl-C raises to the end of the block, and call `act` at once.

    The third Ctrl-C raises at once, in case the block hangs. Only the main thread gets signals, so elsewhere this does
    nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):
        yield
        return
    raised: list[BaseException] = []

    def handle(number: int, frame: FrameType | None) -> None:
        try:
            handler(number, frame)
        except BaseException as error:
            raised.append(error)
            if len(raised) > _MOST_DELAYED:
                signal.signal(signal.SIGINT, handler)  # because what it raises may skip the code below
                raise
            act()

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if raised:
            raise raised[0]
