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
        self.expects_continue = False  # the request says `Expect: 100-continue`

        # The pass over the body that is under way; the worker's thread alone uses these.
        self.meter: Meter | None = None
        self.measured = False  # the transport reports progress
        self.piece = 0  # bytes of the piece that is being sent; 0 while none is
        self.handed_over = 0  # bytes of the pieces before it
        self.is_whole = False  # the last piece has been handed over

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
            so_far = "" if self.meter is None else f"; {self.meter.describe()}"
            self.stop(UploadTimeout(f"The upload was not finished within {self._timeout:g} s{so_far}"))

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

    def attach(self, interrupt: Callable[[], None]) -> None:
        """Have `stop` call `interrupt`, which wakes the worker from its wait, until it is detached.

        It is called at most once, and under the lock: what it interrupts is the transfer's own until `detach` has
        returned. Raises the reason to stop, if there is one already.
        """
        with self._lock:
            if self._reason is not None:
                raise self._reason
            self._interrupt = interrupt

    def detach(self, interrupt: Callable[[], None]) -> None:
        """Undo `attach`, unless something else has been attached since."""
        with self._lock:
            if self._interrupt == interrupt:
                self._interrupt = None

    # How far it is

    def metered(self, body: Iterable[bytes], meter: Meter, total: int | None) -> Iterator[bytes]:
        """One pass over the body, piece by piece.

        A piece counts as sent when the client comes for the next one, unless the transport knows better and sets
        `measured`: then it reports to the meter itself what has arrived.
        """
        self.meter = meter
        self.measured = self.is_whole = False
        self.handed_over = 0
        meter.begin(total)
        for piece in body:
            self.check()
            self.piece = len(piece)
            yield piece
            self.piece = 0
            self.handed_over += len(piece)
            if not self.measured:
                meter.update(self.handed_over)
        self.is_whole = True
        if not self.measured:
            meter.settle(self.handed_over)
