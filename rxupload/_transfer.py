"""One upload on its way: what its worker, its body and its transport tell each other.

The worker (`_worker`) gets a `Transfer`, binds it to its thread and sends a request through whatever client it
was given. A transport that knows of transfers (`_transport`) finds it with `Transfer.current()` and so learns when
to stop; one that does not is simply told at the next piece of the body. Neither knows the other.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ._errors import UploadTimeout
from ._meter import Meter
from ._throttle import Allowance

LOOK_SECONDS = 0.05  # between two looks at the transfer, in whatever wait

_PACED_PIECE = 64 * 1024  # bytes, at most, that a client gets at a time whose transport cannot be paused


class _Current(threading.local):
    transfer: Transfer | None = None


_current = _Current()


class Disposed(Exception):  # noqa: N818
    """Why a transfer stopped: its subscription was disposed. Nobody hears of it."""


class Abandoned(Disposed):
    """Why a transfer stopped: the loop on which it would notify has closed."""


class Transfer:
    """The state of one upload that more than one party touches.

    It ends once: `stop` (a dispose, the time limit, an observer that raised) and `settle` (the worker has the
    outcome) race from several threads, and the lock makes the first of them the winner.
    """

    def __init__(self, timeout: float | None) -> None:
        self._timeout = timeout
        self._deadline = math.inf
        # Reentrant, for a signal's handler may dispose while the same thread is in here.
        self._lock = threading.RLock()
        self._reason: BaseException | None = None
        self._settled = False
        self._interrupt: Callable[[], None] | None = None
        self._listen: Callable[[], None] | None = None
        self.is_abandoned: Callable[[], bool] = lambda: False  # whether whom it would notify is gone
        self.is_on_loop: Callable[[], bool] = lambda: False  # whether it would notify on the thread that asks
        self._meter: Meter | None = None
        self.allowance: Allowance | None = None  # how much may be sent; None for all of it

        # The worker's thread alone uses these.
        self.request: Any = None  # for the errors that have one
        self.body: Pass | None = None  # of the request that is being sent, once its body begins
        self.expects_continue = False  # the request says `Expect: 100-continue`

    @staticmethod
    def current() -> Transfer | None:
        """The transfer that this thread works for."""
        return _current.transfer

    @contextmanager
    def bound(self) -> Iterator[None]:
        """Make this the thread's current transfer inside a with block, where its time limit begins to run."""
        if self._timeout is not None:
            self._deadline = time.monotonic() + self._timeout
        try:
            with _working_for(self):
                yield
        finally:
            if self.allowance is not None:
                self.allowance.forget()

    # How it ends

    def stop(self, reason: BaseException) -> None:
        """End the transfer for this reason, unless it has ended. From any thread; never waits for the worker."""
        with self._lock:
            if self._reason is not None or self._settled:
                return
            self._reason = reason
            if self._interrupt is not None:
                self._interrupt()

    def settle(self) -> BaseException | None:
        """The worker is through: from here on `stop` does nothing. Returns why it was stopped, if it was."""
        with self._lock:
            self._settled = True
            return self._reason

    def check(self) -> None:
        """Raise the reason to stop, if there is one by now; the time limit is one."""
        self.expire()
        if self.is_abandoned():
            self.stop(Abandoned())
        if self._reason is not None:
            raise self._reason

    def expire(self) -> None:
        """Stop, if the time limit has passed."""
        if self.remaining() <= 0:
            message = f"The upload was not finished within {self._timeout:g} s{self.so_far()}"
            self.stop(UploadTimeout(message, request=self.request))

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

    def attach(self, interrupt: Callable[[], None], listen: Callable[[], None] | None = None) -> None:
        """Have `stop` call `interrupt`, which wakes the worker from its wait, until it is detached.

        It is called at most once, and under the lock: what it interrupts is the transfer's own until `detach` has
        returned. `look` calls `listen`. Raises the reason to stop, if there is one already.
        """
        with self._lock:
            if self._reason is not None:
                raise self._reason
            self._interrupt = interrupt
            self._listen = listen

    def detach(self, interrupt: Callable[[], None]) -> None:
        """Undo `attach`, unless something else has been attached since."""
        with self._lock:
            if self._interrupt == interrupt:
                self._interrupt = self._listen = None

    def look(self) -> None:
        """Look around, in a wait for something else than the network: the body's source, or leave to send it.

        The worker calls it at least every `LOOK_SECONDS`. It reports what has arrived meanwhile. It raises the reason
        to stop, if there is one, and whatever the transport has to say of a server that has answered or gone away;
        the wait must let that through.
        """
        self.check()
        if self._listen is not None:
            self._listen()

    # How far it is

    def so_far(self) -> str:
        """How much has gone, for the end of an error's text."""
        if self._meter is None:
            return ""
        paused = 0.0 if self.allowance is None else self.allowance.paused_for()
        return f"; {self._meter.describe()}" + (f", and it was paused for {paused:.1f} s" if paused else "")

    def metered(self, body: Iterable[bytes], meter: Meter, total: int | None) -> Iterator[bytes]:
        """Make one pass over the body, piece by piece, with its Progress."""
        self._meter = meter
        self.body = one_pass = Pass(meter)
        meter.begin(total)
        pieces = iter(body)
        while True:
            with users_code():
                piece = next(pieces, None)
            if piece is None:
                break
            self.check()
            for part in self._paced(piece):
                one_pass.piece = len(part)
                yield part
                one_pass.end_piece()
        one_pass.end()

    def _paced(self, piece: bytes) -> Iterator[bytes]:
        if self.allowance is None or self._listen is not None:  # who listens asks for leave as well
            yield piece
            return
        done = 0
        while done < len(piece):
            granted = self.await_grant(self.allowance, min(len(piece) - done, _PACED_PIECE))
            yield piece[done : done + granted]
            done += granted

    def await_grant(self, allowance: Allowance, wanted: int) -> int:
        """Wait until some of the wanted bytes may go, looking around meanwhile, and return how many."""
        while (granted := allowance.take(wanted, min(LOOK_SECONDS, self.remaining()))) is None:
            self.look()
        try:
            self.look()
        except BaseException:
            allowance.give_back(granted)  # those who share it may need it
            raise
        return granted


class Pass:
    """One pass over the body: how much of it was handed over, and what of that has arrived.

    A piece counts as arrived when the client comes for the next one, unless the transport knows better, and has said
    so with `measure`.
    """

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._is_measured = False
        self.piece = 0  # bytes of the piece that is being sent; 0 while none is
        self.handed_over = 0  # bytes of the pieces before it
        self.is_whole = False  # the last piece has been handed over

    def end_piece(self) -> None:
        """The client has taken the piece."""
        self.handed_over += self.piece
        self.piece = 0
        if not self._is_measured:
            self.arrived(self.handed_over)

    def end(self) -> None:
        """That was the last piece."""
        self.is_whole = True
        if not self._is_measured:
            self.all_arrived()

    def measure(self) -> None:
        """The transport will say itself what has arrived."""
        self._is_measured = True

    def is_due(self) -> bool:
        """Whether it is time to look what has arrived."""
        return self._meter.is_due()

    def arrived(self, count: int) -> None:
        """So many bytes of the body have."""
        self._meter.update(count)

    def all_arrived(self) -> None:
        """Every byte of the body has."""
        self._meter.settle(self.handed_over)


@contextmanager
def _working_for(transfer: Transfer | None) -> Iterator[None]:
    outer = _current.transfer
    _current.transfer = transfer
    try:
        yield
    finally:
        _current.transfer = outer


def users_code() -> Any:
    """Inside this with block the thread works for no transfer: what a source or an observer requests is its own."""
    return _working_for(None)
