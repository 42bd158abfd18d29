"""The pool on fake connections and a fake clock: which connection is reused or closed, and who waits how long."""

from __future__ import annotations

import math

import httpx
import pytest
from support.fake_wire import FakeClock, FakeConnection, RecordingControl, ends

from rxupload._wire.control import PLAIN
from rxupload._wire.pool import Limits, Pool


class StopError(Exception):
    """The reason with which a test stops a control."""


class Dialler:
    """Makes connections, and keeps a list of them."""

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
    def test_the_last_used_connection_is_taken_first(self, clock, dial):
        """The most recently used idle connection is taken, because the others may soon expire."""
        pool = make(clock)
        first, second, third = (take(pool, dial) for _ in range(3))
        for connection in (second, first, third):
            pool.keep(connection)
        assert [take(pool, dial) for _ in range(3)] == [third, first, second]
        assert len(dial.made) == 3
        assert pool.counts() == (3, 0)

    def test_only_a_connection_with_the_same_key_is_taken(self, clock, dial):
        """Only a connection to the same place is taken."""
        pool = make(clock)
        pool.keep(take(pool, dial, "a"))
        other = take(pool, dial, "b")
        assert other is dial.made[1]
        pool.keep(other)
        assert take(pool, dial, "a") is dial.made[0]
        assert take(pool, dial, "b") is dial.made[1]

    def test_a_kept_connection_is_marked_as_used(self, clock, dial):
        """A kept connection counts as used, and its send queue gets its normal length back."""
        pool = make(clock)
        connection = take(pool, dial)
        assert not connection.is_used
        pool.keep(connection)
        assert connection.is_used
        assert connection.log == ["usual queue"]
        assert pool.counts() == (0, 1)

    def test_a_new_connection_on_request(self, clock, dial):
        """A caller that asks for a new connection gets one, and the idle one stays."""
        pool = make(clock)
        pool.keep(take(pool, dial))
        assert take(pool, dial, is_new=True) is dial.made[1]
        assert take(pool, dial) is dial.made[0]

    def test_the_pool_does_not_check_idle_connections(self, clock, dial):
        """The exchange notices that the server closed an idle connection; the pool does not look."""
        pool = make(clock)
        connection = take(pool, dial)
        pool.keep(connection)
        connection.add(ends())
        assert take(pool, dial) is connection

    def test_a_dropped_connection_is_closed_and_forgotten(self, clock, dial):
        """A dropped connection is closed in the way that was asked for, and forgotten."""
        for reset in (False, True):
            pool = make(clock)
            connection = take(pool, dial)
            pool.drop(connection, reset=reset)
            assert connection.is_closed
            assert connection.was_reset is reset
            assert pool.counts() == (0, 0)


class TestExpiry:
    def test_a_connection_expires_at_the_limit(self, clock, dial):
        """A connection is taken only if it has been idle for less than the limit."""
        pool = make(clock, seconds=5)
        pool.keep(take(pool, dial))
        clock.pass_time(4.9)
        connection = take(pool, dial)
        assert connection is dial.made[0]
        pool.keep(connection)
        clock.pass_time(5)
        assert take(pool, dial) is dial.made[1]
        assert connection.is_closed

    def test_without_a_limit_none_expires(self, clock, dial):
        """Without a limit, a connection may be idle for ever."""
        pool = make(clock, seconds=None)
        pool.keep(take(pool, dial))
        clock.pass_time(1e6)
        assert take(pool, dial) is dial.made[0]

    def test_expired_connections_are_closed_when_another_is_kept(self, clock, dial):
        """Keeping a connection closes all expired ones, wherever they lead."""
        pool = make(clock, seconds=5)
        old, new = take(pool, dial, "a"), take(pool, dial, "b")
        pool.keep(old)
        clock.pass_time(6)
        pool.keep(new)
        assert dial.open == [new]
        assert pool.counts() == (0, 1)


class TestLimits:
    def test_the_oldest_idle_connections_beyond_the_limit_are_closed(self, clock, dial):
        """If there are too many idle connections, the least recently used are closed."""
        pool = make(clock, idle=2)
        made = [take(pool, dial, key) for key in "abc"]
        for connection in made:
            pool.keep(connection)
        assert dial.open == made[1:]

    def test_with_no_idle_ones_allowed_each_is_closed(self, clock, dial):
        """If none may be idle, each is closed when it is given back."""
        pool = make(clock, idle=0)
        pool.keep(take(pool, dial))
        assert not dial.open
        assert pool.counts() == (0, 0)

    def test_a_full_pool_closes_an_idle_connection(self, clock, dial):
        """A full pool makes room by closing the least recently used idle connection to another place."""
        pool = make(clock, total=2)
        first, second = take(pool, dial, "a"), take(pool, dial, "b")
        pool.keep(second)
        pool.keep(first)
        third = take(pool, dial, "c")
        assert second.is_closed
        assert dial.open == [first, third]
        assert pool.counts() == (1, 1)

    def test_a_full_pool_ends_in_a_timeout(self, clock, dial):
        """If no connection is idle, the wait for room ends in a PoolTimeout at its time."""
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
    def test_the_wait_ends_when_a_connection_is_given_back(self, clock, dial, how, control):
        """The wait for room has no polling interval, and ends when a connection is given back."""
        pool = make(clock, total=1)
        connection = take(pool, dial, "a")
        clock.at(7, lambda: getattr(pool, how)(connection))
        asking = PLAIN if control == "plain" else RecordingControl(clock)
        assert take(pool, dial, "b", control=asking) is dial.made[1]
        assert clock.passed == 7
        assert [wait.until for wait in clock.waits] == [math.inf]
        assert connection.is_closed

    def test_a_waiting_caller_takes_a_connection_that_fits(self, clock, dial):
        """A waiting caller takes the connection that is given back, if it leads to the right place."""
        pool = make(clock, total=1)
        connection = take(pool, dial, "a")
        clock.at(7, lambda: pool.keep(connection))
        assert take(pool, dial, "a") is connection
        assert not connection.is_closed
        assert pool.counts() == (1, 0)

    def test_a_waiting_caller_that_wants_a_new_connection_gets_one(self, clock, dial):
        """A caller that asks for a new connection does not take the one that is given back."""
        pool = make(clock, total=1)
        connection = take(pool, dial, "a")
        clock.at(7, lambda: pool.keep(connection))
        assert take(pool, dial, "a", is_new=True) is dial.made[1]
        assert connection.is_closed

    def test_a_stop_ends_the_wait(self, clock, dial):
        """A stop ends the wait at once with its reason; so does the control's deadline."""
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
    def test_a_wake_is_passed_on_by_a_caller_that_gives_up(self, clock, dial, end):
        """If the first waiting caller gives up just as room appears, the next one is woken."""
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

    def test_room_for_two_wakes_two(self, clock, dial):
        """If room for two appears at once, the caller that takes one wakes the other."""
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
        """The caller that has waited longest is woken."""
        pool = make(clock, total=1)
        connection = take(pool, dial)
        controls = [RecordingControl(clock) for _ in range(2)]
        pool._waiting += [each.wake for each in controls]
        pool.drop(connection)
        assert [each.wake.is_set() for each in controls] == [True, False]

    def test_a_failed_dial_gives_its_room_back(self, clock, dial):
        """A dial that raises gives its room to the next caller."""
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
        """With room there is no wait, whatever the timeout."""
        pool = make(clock, total=3)
        for _ in range(3):
            take(pool, dial, timeout=0)
        assert not clock.waits


class TestClose:
    def test_idle_connections_are_closed_and_active_ones_ended(self, clock, dial):
        """Closing closes the idle connections and ends the active ones, which their workers then close."""
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

    def test_a_connection_kept_after_the_close_is_closed(self, clock, dial):
        """A connection that was active when the pool closed is closed when it is kept."""
        pool = make(clock)
        connection = take(pool, dial)
        pool.close()
        pool.keep(connection)
        assert connection.is_closed
        assert pool.counts() == (0, 0)

    def test_closing_twice_is_closing_once(self, clock, dial):
        """A second close does nothing new, except that it closes what was taken since the first."""
        pool = make(clock)
        pool.keep(take(pool, dial))
        pool.close()
        pool.close()
        pool.keep(take(pool, dial))
        pool.close()
        assert not dial.open

    def test_a_caller_that_waits_during_the_close_gets_room(self, clock, dial):
        """A caller that waits during the close gets the room of the connections that were ended."""
        pool = make(clock, total=1)
        connection = take(pool, dial)

        def close() -> None:
            pool.close()
            pool.drop(connection)

        clock.at(1, close)
        assert take(pool, dial, "b") is dial.made[1]
