"""The pool on fake connections and a fake clock: what is used again, what is closed, and who waits for how long."""

from __future__ import annotations

import math

import httpx
import pytest
from support.fake_wire import FakeClock, FakeConnection, RecordingControl, ends

from rxupload._wire.control import PLAIN
from rxupload._wire.pool import Limits, Pool


class StopError(Exception):
    """Why a test's control stops."""


class Dialler:
    """Makes connections, and remembers them."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.made: list[FakeConnection] = []

    def __call__(self) -> FakeConnection:
        self.made.append(FakeConnection(self.clock))
        return self.made[-1]

    @property
    def open(self) -> list[FakeConnection]:
        return [each for each in self.made if not each.is_closed]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def dial(clock) -> Dialler:
    return Dialler(clock)


def make(
    clock: FakeClock, total: int | None = None, idle: int | None = None, seconds: float | None = 5
) -> Pool:
    return Pool(Limits(total, idle, seconds), clock)


def take(pool, dial, key="a", *, control=PLAIN, timeout=None, is_new=False):
    return pool.acquire(key, dial, control=control, timeout=timeout, is_new=is_new)


class TestReuse:
    def test_last_in_first_out(self, clock, dial):
        """Of those that are idle the one that was used last is taken, for the others may soon be too old."""
        pool = make(clock)
        first, second, third = (take(pool, dial) for _ in range(3))
        for connection in (second, first, third):
            pool.keep(connection)
        assert [take(pool, dial) for _ in range(3)] == [third, first, second]
        assert len(dial.made) == 3
        assert pool.counts() == (3, 0)

    def test_by_key(self, clock, dial):
        """Only one that leads to the same place is taken."""
        pool = make(clock)
        pool.keep(take(pool, dial, "a"))
        other = take(pool, dial, "b")
        assert other is dial.made[1]
        pool.keep(other)
        assert take(pool, dial, "a") is dial.made[0]
        assert take(pool, dial, "b") is dial.made[1]

    def test_what_is_kept_is_marked(self, clock, dial):
        """One that is kept counts as used, and its queue in the system is as usual again."""
        pool = make(clock)
        connection = take(pool, dial)
        assert not connection.is_used
        pool.keep(connection)
        assert connection.is_used
        assert connection.log == ["usual queue"]
        assert pool.counts() == (0, 1)

    def test_a_new_one(self, clock, dial):
        """Who wants a new one gets it, and the idle one stays for the next."""
        pool = make(clock)
        pool.keep(take(pool, dial))
        assert take(pool, dial, is_new=True) is dial.made[1]
        assert take(pool, dial) is dial.made[0]

    def test_does_not_look(self, clock, dial):
        """Whether the server has closed an idle one is seen by the exchange, and not here as well."""
        pool = make(clock)
        connection = take(pool, dial)
        pool.keep(connection)
        connection.add(ends())
        assert take(pool, dial) is connection

    def test_one_that_is_dropped(self, clock, dial):
        """One that is dropped is closed as it is asked to be, and is gone."""
        for reset in (False, True):
            pool = make(clock)
            connection = take(pool, dial)
            pool.drop(connection, reset=reset)
            assert connection.is_closed
            assert connection.was_reset is reset
            assert pool.counts() == (0, 0)


class TestExpiry:
    def test_just_before_and_at_it(self, clock, dial):
        """One that has been idle for less than the limit is taken, and no other."""
        pool = make(clock, seconds=5)
        pool.keep(take(pool, dial))
        clock.pass_time(4.9)
        connection = take(pool, dial)
        assert connection is dial.made[0]
        pool.keep(connection)
        clock.pass_time(5)
        assert take(pool, dial) is dial.made[1]
        assert connection.is_closed

    def test_no_limit(self, clock, dial):
        """Without a limit one may be idle for ever."""
        pool = make(clock, seconds=None)
        pool.keep(take(pool, dial))
        clock.pass_time(1e6)
        assert take(pool, dial) is dial.made[0]

    def test_others_are_closed_when_one_is_kept(self, clock, dial):
        """Those that are too old, to wherever they lead, are closed when another is kept."""
        pool = make(clock, seconds=5)
        old, new = take(pool, dial, "a"), take(pool, dial, "b")
        pool.keep(old)
        clock.pass_time(6)
        pool.keep(new)
        assert dial.open == [new]
        assert pool.counts() == (0, 1)


class TestLimits:
    def test_idle(self, clock, dial):
        """Of more idle ones than there may be, those that were used first are closed."""
        pool = make(clock, idle=2)
        made = [take(pool, dial, key) for key in "abc"]
        for connection in made:
            pool.keep(connection)
        assert dial.open == made[1:]

    def test_none_idle(self, clock, dial):
        """Where none may be idle each is closed when it is given back."""
        pool = make(clock, idle=0)
        pool.keep(take(pool, dial))
        assert not dial.open
        assert pool.counts() == (0, 0)

    def test_total_evicts_an_idle_one(self, clock, dial):
        """Where there is no room, an idle one that leads elsewhere makes some: the one that was used first."""
        pool = make(clock, total=2)
        first, second = take(pool, dial, "a"), take(pool, dial, "b")
        pool.keep(second)
        pool.keep(first)
        third = take(pool, dial, "c")
        assert second.is_closed
        assert dial.open == [first, third]
        assert pool.counts() == (1, 1)

    def test_timeout(self, clock, dial):
        """Where there is none either, the wait for room is a PoolTimeout at its time."""
        pool = make(clock, total=1)
        take(pool, dial)
        for control in (PLAIN, RecordingControl(clock)):
            began = clock.passed
            with pytest.raises(httpx.PoolTimeout, match="No connection was free for 3 s"):
                take(pool, dial, "b", control=control, timeout=3)
            assert clock.passed == began + 3
        assert len(dial.made) == 1
        assert pool.counts() == (1, 0)

    @pytest.mark.parametrize("how", ["keep", "drop"])
    @pytest.mark.parametrize("control", ["plain", "woken"])
    def test_room(self, clock, dial, how, control):
        """The wait ends, without a deadline of its own, when a connection is given back."""
        pool = make(clock, total=1)
        connection = take(pool, dial, "a")
        clock.at(7, lambda: getattr(pool, how)(connection))
        asking = PLAIN if control == "plain" else RecordingControl(clock)
        assert take(pool, dial, "b", control=asking) is dial.made[1]
        assert clock.passed == 7
        assert [wait.until for wait in clock.waits] == [math.inf]
        assert connection.is_closed

    def test_room_by_one_that_fits(self, clock, dial):
        """Who waits takes the connection that is given back, if it leads where he wants to go."""
        pool = make(clock, total=1)
        connection = take(pool, dial, "a")
        clock.at(7, lambda: pool.keep(connection))
        assert take(pool, dial, "a") is connection
        assert not connection.is_closed
        assert pool.counts() == (1, 0)

    def test_a_new_one_where_one_fits(self, clock, dial):
        """Who wants a new one does not take that."""
        pool = make(clock, total=1)
        connection = take(pool, dial, "a")
        clock.at(7, lambda: pool.keep(connection))
        assert take(pool, dial, "a", is_new=True) is dial.made[1]
        assert connection.is_closed

    def test_stop(self, clock, dial):
        """A stop ends the wait at once, with its reason; so does a time limit of the control's."""
        pool = make(clock, total=1)
        take(pool, dial)
        control = RecordingControl(clock)
        clock.at(2, lambda: control.stop(StopError()))
        with pytest.raises(StopError):
            take(pool, dial, "b", control=control)
        assert clock.passed == 2
        control = RecordingControl(clock)
        control.stop_at(5, StopError())
        with pytest.raises(StopError):
            take(pool, dial, "b", control=control)
        assert clock.passed == 5
        assert pool.counts() == (1, 0)

    @pytest.mark.parametrize("end", ["stop", "timeout"])
    def test_a_wake_for_one_who_goes_is_passed_on(self, clock, dial, end):
        """Room that comes just when the first of those that wait gives up is the next one's."""
        pool = make(clock, total=1)
        connection = take(pool, dial)
        first, second = RecordingControl(clock), RecordingControl(clock)

        def check() -> float:
            pool._waiting.append(second.wake)  # another thread, which waits behind
            pool.drop(connection)
            if end == "stop":
                raise StopError
            clock.pass_time(5)
            return math.inf

        first.check = check
        with pytest.raises((StopError, httpx.PoolTimeout)):
            take(pool, dial, control=first, timeout=3)
        assert second.wake.is_set()

    def test_room_for_two(self, clock, dial):
        """Where room for two comes at once, one that takes his wakes the other."""
        pool = make(clock, total=2)
        held = [take(pool, dial), take(pool, dial)]
        second = RecordingControl(clock)

        def drop() -> None:
            pool._waiting.append(second.wake)  # another thread, which waits behind
            for connection in held:
                pool.drop(connection)

        clock.at(1, drop)
        take(pool, dial, control=RecordingControl(clock))
        assert second.wake.is_set()

    def test_first_come_first_woken(self, clock, dial):
        """Of those that wait, the one that came first is woken."""
        pool = make(clock, total=1)
        connection = take(pool, dial)
        controls = [RecordingControl(clock) for _ in range(2)]
        pool._waiting += [each.wake for each in controls]
        pool.drop(connection)
        assert [each.wake.is_set() for each in controls] == [True, False]

    def test_a_dial_that_fails(self, clock, dial):
        """A dial that raises leaves nothing behind, and its room goes to the next."""
        pool = make(clock, total=1)
        control = RecordingControl(clock)

        def fail() -> FakeConnection:
            assert pool.counts() == (1, 0)
            pool._waiting.append(control.wake)
            raise httpx.ConnectError("refused")

        with pytest.raises(httpx.ConnectError):
            take(pool, fail)
        assert pool.counts() == (0, 0)
        assert control.wake.is_set()
        pool._waiting.clear()
        assert take(pool, dial) is dial.made[0]

    def test_nobody_waits_when_there_is_room(self, clock, dial):
        """With room, nothing is waited for, whatever the timeout."""
        pool = make(clock, total=3)
        for _ in range(3):
            take(pool, dial, timeout=0)
        assert not clock.waits


class TestClose:
    def test_idle_and_active(self, clock, dial):
        """Closing closes the idle ones, and ends the others; their workers close those."""
        pool = make(clock)
        idle, active = take(pool, dial), take(pool, dial)
        pool.keep(idle)
        pool.close()
        assert idle.is_closed
        assert not idle.was_reset
        assert active.is_interrupted
        assert not active.is_closed
        pool.drop(active, reset=True)
        assert active.is_closed
        assert pool.counts() == (0, 0)

    def test_one_that_is_kept_after_it(self, clock, dial):
        """One that was in use when the pool was closed is closed when it is kept."""
        pool = make(clock)
        connection = take(pool, dial)
        pool.close()
        pool.keep(connection)
        assert connection.is_closed
        assert pool.counts() == (0, 0)

    def test_twice(self, clock, dial):
        """Closing twice is closing once, and what is taken after it is closed by the next."""
        pool = make(clock)
        pool.keep(take(pool, dial))
        pool.close()
        pool.close()
        pool.keep(take(pool, dial))
        pool.close()
        assert not dial.open

    def test_one_that_waits_then(self, clock, dial):
        """Who waited for room when the pool was closed gets the room of those that were ended."""
        pool = make(clock, total=1)
        connection = take(pool, dial)

        def close() -> None:
            pool.close()
            pool.drop(connection)

        clock.at(1, close)
        assert take(pool, dial, "b") is dial.made[1]
