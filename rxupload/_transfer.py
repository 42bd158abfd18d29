"""One upload on its way: what its worker, its body and its transport tell each other.

The worker (`_upload`) makes a `Transfer`, binds it to its thread and sends a request through whatever client it
was given. A transport that knows of transfers (`_transport`) finds it with `Transfer.current()` and so learns when
to stop; one that does not is simply told at the next piece of the body. Neither knows the other.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock

from ._errors import UploadTimeout
from ._progress import Meter

_current: ContextVar[Transfer | None] = ContextVar("rxupload_transfer", default=None)


class Disposed(Exception):  # noqa: N818
    """Why a transfer stopped: its subscription was disposed. Nobody hears of it."""


class Transfer:
    """The state of one upload that more than one party touches.

    It ends once: `stop` (a dispose, the time limit, an observer that raised) and `settle` (the worker has the
    outcome) race from several threads, and the lock makes the first of them the winner.
    """

    def __init__(self, timeout: float | None) -> None:
        self._timeout = timeout
        self._deadline = math.inf
        self._lock = Lock()
        self._reason: Exception | None = None
        self._settled = False
        self._interrupt: Callable[[], None] | None = None
        self._handed_over = 0

    @staticmethod
    def current() -> Transfer | None:
        """The transfer that this thread works for."""
        return _current.get()

    @contextmanager
    def bound(self) -> Iterator[None]:
        """Make this the thread's current transfer inside a with block, where its time limit begins to run."""
        if self._timeout is not None:
            self._deadline = time.monotonic() + self._timeout
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    # How it ends

    def stop(self, reason: Exception) -> None:
        """End the transfer for this reason, unless it has ended. From any thread; never waits for the worker."""
        with self._lock:
            if self._reason is not None or self._settled:
                return
            self._reason = reason
            if self._interrupt is not None:
                self._interrupt()

    def settle(self) -> Exception | None:
        """The worker is through: from here on `stop` does nothing. Returns why it was stopped, if it was."""
        with self._lock:
            self._settled = True
            return self._reason

    def check(self) -> None:
        """Raise the reason to stop, if there is one by now; the time limit is one."""
        self.expire()
        if self._reason is not None:
            raise self._reason

    def expire(self) -> None:
        """Stop, if the time limit has passed."""
        if self.remaining() <= 0:
            gone = f"{self._handed_over} bytes of the body had gone"
            self.stop(UploadTimeout(f"The upload was not finished within {self._timeout:g} s; {gone}"))

    def remaining(self) -> float:
        """Seconds that are left for the whole upload; `math.inf` without a limit."""
        return self._deadline - time.monotonic()

    def clamp(self, timeouts: dict[str, float | None]) -> None:
        """Let no single wait of a client that knows nothing of the time limit outlast it.

        httpx hands this dict down as it is, and httpcore looks into it before each kind of wait.
        """
        if self._timeout is not None:
            left = max(self.remaining(), 0.001)  # 0 would mean: do not block
            for kind, seconds in timeouts.items():
                timeouts[kind] = left if seconds is None else min(seconds, left)

    @contextmanager
    def interruptible(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Have `stop` call `interrupt` while the block waits for the network.

        It is called at most once, under the lock and so never after the block has been left: what it interrupts
        is then still the block's own.
        """
        with self._lock:
            if self._reason is not None:
                raise self._reason
            self._interrupt = interrupt
        try:
            yield
        finally:
            with self._lock:
                self._interrupt = None

    # How far it is

    def metered(self, body: Iterable[bytes], meter: Meter, total: int | None) -> Iterator[bytes]:
        """One pass over the body, piece by piece, counted as it is taken."""
        self._handed_over = 0
        meter.begin(total)
        for piece in body:
            self.check()
            yield piece
            self._handed_over += len(piece)
            meter.update(self._handed_over)
        meter.settle(self._handed_over)
