"""`rate_limit` and `pause`: how fast the body is sent, when it is held, and who controls it."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

import httpx
import pytest
import reactivex
from hypothesis import example, given, settings
from hypothesis import strategies as st
from reactivex import Observable
from reactivex import operators as ops
from reactivex.disposable import Disposable
from reactivex.scheduler import (
    CurrentThreadScheduler,
    EventLoopScheduler,
    ImmediateScheduler,
    NewThreadScheduler,
    ThreadPoolScheduler,
    TimeoutScheduler,
)
from reactivex.scheduler.eventloop import AsyncIOScheduler
from reactivex.subject import BehaviorSubject, Subject
from reactivex.testing import TestScheduler
from support.abort_phases import LARGE, joinable, start, transport_client
from support.held_clock import HeldClock
from support.recording_observer import observe
from support.scripted_server import PATIENCE, Server, header

import rxupload
from rxupload import ItemDone, Progress, UploadTimeout, upload, upload_all
from rxupload._schedulers import is_closed
from rxupload._throttle import BURST_SECONDS, Allowance, Throttle, throttles_of, with_throttle
from rxupload._transfer import Transfer
from rxupload._wait import Wake
from rxupload._wire.connection import _USUAL_LOWAT, NOTSENT_LOWAT
from rxupload._wire.connection import Connection as WireConnection
from rxupload._wire.dial import connect
from rxupload.operators import of_type, retry_backoff
from rxupload.testing import Connection, RecordingObserver

KIB, MB = 1024, 1_000_000
SHORT = 0.2  # seconds; a limit that a test reaches

both = pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])


@pytest.fixture(params=["UploadTransport", "plain"])
def any_client(request):
    """Our transport, which limits its writes, and a plain client, which is limited by its pieces."""
    with transport_client() if request.param == "UploadTransport" else httpx.Client() as made:
        yield made


# A throttle alone, with a fake clock


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


class Asker:
    """Asks a throttle for grants."""

    def __init__(self) -> None:
        self.wake = Wake()


def granted(throttle: Throttle | Allowance, wanted: int, asker: Any = None) -> int:
    """What is granted at once to the asker, or to a new one."""
    if isinstance(throttle, Allowance):
        return throttle.grant(wanted)[0]
    return throttle.grant(asker or Asker(), wanted)[0]


def limited(clock: Clock, rate: float) -> Throttle:
    """A throttle with this limit and a full allowance."""
    throttle = Throttle(clock)
    throttle.limit(rate)
    clock.now += 1
    return throttle


def empty(throttle: Throttle) -> None:
    """Take all that is available now."""
    asker, wanted = Asker(), 1 << 30
    while wanted:
        if not granted(throttle, wanted, asker):
            wanted //= 2
    throttle.forget(asker)


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("wait"), st.floats(0, 0.3)),
            st.tuples(st.just("ask"), st.integers(0, 2), st.integers(1, 300)),
            st.tuples(st.just("limit"), st.floats(10, 10_000)),
        ),
        max_size=60,
    )
)
@example([("wait", 0.05), ("ask", 0, 30), ("ask", 0, 20)])
def test_any_flow_stays_below_the_limit(steps):
    """At any moment, the granted bytes do not exceed what the limits allowed until then."""
    clock = Clock()
    throttle = Throttle(clock)
    askers = [Asker() for _ in range(3)]
    rate = 1000.0
    throttle.limit(rate)
    allowed = sent = 0.0
    for step, *values in steps:
        if step == "wait":
            clock.now += values[0]
            allowed += values[0] * rate
        elif step == "limit":
            throttle.limit(rate := values[0])
        else:
            asker, wanted = values
            count, again = throttle.grant(askers[asker], wanted)
            assert 0 <= count <= wanted
            assert count or again > clock.now
            sent += count
        assert sent <= allowed + 1e-3  # bytes; the sums are rounded


@given(rate=st.floats(1, 1e7), idle=st.floats(0, 10), wanted=st.integers(1, 10_000_000))
@example(rate=180 - 1e-9, idle=1, wanted=100)
def test_bursts_are_short(rate, idle, wanted):
    """After an idle time at most 50 ms' worth is granted at once, and then something every 20 ms, as it says."""
    clock = Clock()
    throttle = Throttle(clock)
    throttle.limit(rate)
    clock.now += idle
    asker = Asker()
    assert granted(throttle, wanted, asker) <= max(
        1, rate * BURST_SECONDS + 1e-3
    )  # bytes; the sums are rounded
    throttle.forget(asker)
    empty(throttle)
    count, again = throttle.grant(asker, wanted)
    assert count == 0
    assert again - clock.now <= max(0.02, 1 / rate) * (1 + 1e-6)
    clock.now = again + 1e-6
    assert granted(throttle, wanted, asker)
    assert throttle._first() is None


class Simulation:
    """Askers that share throttles on a fake clock; each asks again at its time or when it is woken."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: dict[Any, float] = {}
        self._wanted: dict[Any, Iterator[int]] = {}
        self._ask: dict[Any, Callable[[int], tuple[int, float]]] = {}
        self._pending: dict[Any, int] = {}
        self._wakes: dict[Any, Wake] = {}
        self._forget: dict[Any, Callable[[], None]] = {}
        self.got: dict[Any, int] = {}
        self.ended_at: dict[Any, float] = {}

    def add(self, name: Any, throttle: Throttle | Allowance, wanted: Iterator[int]) -> None:
        """Add an asker that wants these amounts in order; a negative one is a sleep in milliseconds."""
        if isinstance(throttle, Allowance):
            self._wakes[name], self._ask[name], self._forget[name] = (
                throttle.wake,
                throttle.grant,
                throttle.forget,
            )
        else:
            asker = Asker()
            self._wakes[name] = asker.wake
            self._ask[name] = lambda count: throttle.grant(asker, count)
            self._forget[name] = lambda: throttle.forget(asker)
        self._due[name], self._wanted[name] = self._clock.now, wanted
        self.got.setdefault(name, 0)

    def run(self, seconds: float = float("inf")) -> Simulation:
        """Let time pass until the end or until all have what they want; no asker may wait for ever."""
        end = self._clock.now + seconds
        while self._due:
            name = min(self._due, key=lambda each: 0.0 if self._wakes[each].is_set() else self._due[each])
            wake = self._wakes[name]
            moment = self._clock.now if wake.is_set() else max(self._due[name], self._clock.now)
            assert moment < float("inf"), f"{len(self._due)} wait, and nobody wakes them"
            if moment >= end:
                self._clock.now = end
                break
            self._clock.now = max(moment, self._clock.now) + 1e-7
            wake.clear()
            self._step(name)
        return self

    def _step(self, name: Any) -> None:
        if name not in self._pending:
            wanted = next(self._wanted[name], 0)
            if wanted < 0:
                self._due[name] = self._clock.now - wanted / 1000
                return
            if not wanted:
                self._forget[name]()
                del self._due[name]
                self.ended_at[name] = self._clock.now
                return
            self._pending[name] = wanted
        count, again = self._ask[name](self._pending[name])
        self.got[name] += count
        self._pending[name] -= count
        if not self._pending[name]:
            del self._pending[name]
        self._due[name] = self._clock.now if count else again


def endless(count: int, sleep: int = 0) -> Iterator[int]:
    while True:
        yield count
        if sleep:
            yield -sleep


def test_shares_are_equal(clock):
    """Uploads that share a limit get the same, however much each asks for at a time."""
    throttle = limited(clock, MB)
    simulation = Simulation(clock)
    for name, wanted in (("a", MB), ("b", 50_000), ("c", 5_000)):
        simulation.add(name, throttle, endless(wanted))
    got = simulation.run(2).got
    assert 2 * MB < sum(got.values()) < 2.1 * MB
    assert max(got.values()) < 1.1 * min(got.values())


def test_a_small_upload_gets_all_that_it_wants(clock):
    """An upload that wants less than its share gets all of it, beside any number that want more."""
    throttle = limited(clock, MB)
    simulation = Simulation(clock)
    for number in range(8):
        simulation.add(number, throttle, endless(MB))
    simulation.add("little", throttle, endless(500, sleep=25))
    # At most 80 times in 2 s; in rotation with the others it would be 12 times.
    assert simulation.run(2).got["little"] > 35 * 500


def test_a_large_upload_gets_its_share_beside_many_short_ones(clock):
    """An endless series of small new uploads takes at most one share from a large one."""
    throttle = limited(clock, MB)
    simulation = Simulation(clock)
    simulation.add("large", throttle, endless(MB))
    until = clock.now + 2
    number = 0
    while clock.now < until:
        simulation.add(number, throttle, iter([10_000]))
        while number not in simulation.ended_at:
            simulation.run(0.001)
        number += 1
    assert number > 50
    assert simulation.got["large"] > 0.7 * MB


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(1, 500) | st.integers(-50, -1), min_size=1, max_size=8),
            st.none() | st.floats(50, 5000),
        ),
        min_size=1,
        max_size=5,
    ),
    st.floats(50, 5000),
)
def test_no_asker_waits_for_ever(uploads, rate):
    """Every asker gets a time to ask again or is woken, whatever it wants and whatever its own limits."""
    clock = Clock()
    shared = limited(clock, rate)
    simulation = Simulation(clock)
    for number, (wanted, own_rate) in enumerate(uploads):
        throttles = [shared] if own_rate is None else [limited(clock, own_rate), shared]
        simulation.add(number, Allowance(throttles, Wake()), iter(wanted))
    simulation.run()
    for number, (wanted, _) in enumerate(uploads):
        assert simulation.got[number] == sum(each for each in wanted if each > 0)


def test_an_asker_that_wants_more_wakes_the_next(clock):
    """An asker that wants more than before loses its turn, and wakes the asker that is next now."""
    throttle = limited(clock, 1000)
    hungry, other = Asker(), Asker()
    empty(throttle)
    assert throttle.grant(hungry, 1)[1] < float("inf")
    assert throttle.grant(other, 5) == (0, float("inf"))
    assert not other.wake.is_set()
    assert throttle.grant(hungry, 100) == (0, float("inf"))
    assert other.wake.is_set()
    assert throttle.grant(other, 5)[1] < float("inf")


def test_a_signal_handler_may_set_the_pause(clock):
    """A signal handler may set the pause while its own thread is in the throttle."""
    throttle = limited(clock, 1000)
    throttle._clock = lambda: throttle.pause(is_paused=False) or clock()  # the clock is read under the lock
    assert granted(throttle, 100) == 50


@pytest.mark.parametrize("by", ["limit", "no limit", "pause"])
def test_a_change_wakes_all_askers(clock, by):
    """A change of the limit or the end of a pause wakes every asker."""
    throttle = limited(clock, 0.001)
    if by == "pause":
        throttle.pause(is_paused=True)
    waiting = [Asker() for _ in range(3)]
    for asker in waiting:
        assert granted(throttle, 10, asker) == 0
        asker.wake.clear()
    if by == "pause":
        throttle.pause(is_paused=False)
    else:
        throttle.limit(None if by == "no limit" else 1000.0)
    assert all(asker.wake.is_set() for asker in waiting)
    clock.now += 1
    if by != "pause":
        assert [granted(throttle, 10, asker) for asker in waiting] == [10, 10, 10]


def test_the_next_asker_is_woken(clock):
    """The next asker is woken when the one before it gets its grant, steps aside, gives bytes back, or ends."""
    throttle = limited(clock, 1000)
    first, second = Asker(), Asker()
    empty(throttle)
    for end_turn in (throttle.step_aside, throttle.forget, lambda asker: granted(throttle, 10, asker)):
        assert throttle.grant(first, 10)[1] < float("inf")
        assert throttle.grant(second, 10) == (0, float("inf"))
        assert not second.wake.is_set()
        if end_turn not in (throttle.step_aside, throttle.forget):
            clock.now += 0.01 + 1e-6
        end_turn(first)
        assert second.wake.is_set()
        second.wake.clear()
        throttle.forget(first)
        throttle.forget(second)
    assert throttle.grant(first, 10)[1] < float("inf")
    throttle.give_back(Asker(), 5)
    assert first.wake.is_set()


def test_an_asker_that_steps_aside_keeps_its_place(clock):
    """An asker that steps aside for its observer delays no other, and is next when it returns."""
    throttle = limited(clock, 1000)
    empty(throttle)
    first, second, third = Asker(), Asker(), Asker()
    for asker in (first, second, third):
        granted(throttle, 20, asker)
    throttle.step_aside(first)
    clock.now += 0.02 + 1e-6
    assert granted(throttle, 20, second) == 20
    assert throttle.grant(first, 20)[1] < float("inf")
    assert throttle.grant(third, 20) == (0, float("inf"))


def test_a_paused_upload_takes_nothing_from_the_batch(clock):
    """An upload that its own pause holds takes none of the batch's bytes."""
    own, shared = Throttle(clock), limited(clock, 1000)
    own.pause(is_paused=True)
    assert Allowance([own, shared], Wake()).grant(100) == (0, float("inf"))
    assert granted(Allowance([shared], Wake()), 100) == 50
    other = limited(clock, 1000)
    shared.pause(is_paused=True)
    assert granted(Allowance([other, shared], Wake()), 100) == 0
    assert granted(other, 100) == 50  # what one throttle grants is given back if the other grants nothing


@pytest.mark.parametrize("held_by", ["pause", "limit"])
def test_an_upload_held_by_its_own_limit_delays_no_other(clock, held_by):
    """An upload that waits for the batch and is then held by its own limit or pause loses its turn."""
    own, shared = limited(clock, 100), limited(clock, 1000)
    empty(shared)
    held, other = Allowance([own, shared], Wake()), Allowance([shared], Wake())
    assert held.grant(20)[1] < float("inf")
    assert other.grant(20) == (0, float("inf"))
    if held_by == "pause":
        own.pause(is_paused=True)
    else:
        own.limit(0.001)
        empty(own)
    held.grant(20)
    assert other.wake.is_set()
    clock.now += 0.02 + 1e-6
    assert other.grant(20)[0] == 20


def test_the_lowest_of_several_limits_applies(clock):
    """An upload with several limits gets what the lowest allows, and takes no more from the others."""
    low, high = Throttle(clock), Throttle(clock)
    low.limit(1000)
    high.limit(10_000)
    for order in ([low, high], [high, low]):
        clock.now += 1
        allowance = Allowance(order, Wake())
        assert granted(allowance, 1000) == 50
        allowance.forget()
        assert granted(high, 1000) == 450


def test_bytes_that_were_given_back_can_be_granted_again(clock):
    """Granted bytes that the system did not take can be sent later."""
    throttle = limited(clock, 1000)
    asker = Asker()
    assert granted(throttle, 1000, asker) == 50
    throttle.give_back(asker, 30)
    assert granted(throttle, 30, asker) == 30


def test_a_paused_throttle_grants_nothing(clock):
    """During a pause nothing is granted, and the throttle says how long the pause has lasted."""
    throttle = Throttle(clock)
    asker = Asker()
    assert granted(throttle, 10, asker) == 10
    throttle.pause(is_paused=True)
    clock.now += 2
    throttle.pause(is_paused=True)
    clock.now += 1
    assert throttle.paused_for() == 3
    assert throttle.grant(asker, 10) == (0, float("inf"))
    throttle.pause(is_paused=False)
    assert throttle.paused_for() == 0
    assert granted(throttle, 10, asker) == 10


@pytest.mark.parametrize(
    "make",
    [
        NewThreadScheduler,
        lambda: ThreadPoolScheduler(1),
        EventLoopScheduler,
        CurrentThreadScheduler,
        TestScheduler,
    ],
)
def test_a_scheduler_with_a_throttle_is_still_that_scheduler(make):
    """It has the scheduler's type and runs its work, and also carries the throttles."""
    scheduler, first, second = make(), Throttle(), Throttle()
    carrying = with_throttle(with_throttle(scheduler, first), second)
    assert isinstance(carrying, type(scheduler))
    assert throttles_of(carrying) == [second, first]
    assert throttles_of(scheduler) == []
    assert carrying.__dict__ is scheduler.__dict__
    ran = threading.Event()
    carrying.schedule(lambda *_: ran.set())
    if isinstance(scheduler, TestScheduler):
        scheduler.start()
    assert ran.wait(PATIENCE)
    if isinstance(scheduler, EventLoopScheduler):
        scheduler.dispose()
        assert is_closed(carrying)


# Arguments


@pytest.mark.parametrize(
    "function", [lambda **kw: upload("http://x/", b"", **kw), lambda **kw: upload_all([], **kw)]
)
@pytest.mark.parametrize(
    ("kwargs", "error", "text"),
    [
        (
            {"rate_limit": 0},
            ValueError,
            "rate_limit: must be a finite number of bytes per second, more than 0",
        ),
        ({"rate_limit": -1.0}, ValueError, "rate_limit: must be"),
        ({"rate_limit": float("inf")}, ValueError, "rate_limit: must be"),
        ({"rate_limit": float("nan")}, ValueError, "rate_limit: must be"),
        ({"rate_limit": "2M"}, TypeError, "rate_limit: expected a number of bytes per second, .* got str"),
        ({"rate_limit": True}, TypeError, "rate_limit: .* got bool"),
        ({"pause": True}, TypeError, "pause: expected an Observable of bool, .* got bool"),
    ],
)
def test_a_wrong_argument_raises_at_the_call(function, kwargs, error, text):
    """A wrong argument raises at the call, with its name and the accepted values."""
    with pytest.raises(error, match=text):
        function(**kwargs)


# One upload, with servers that keep a log


@dataclass
class Log:
    """The script of one connection: read a body at full speed, note how much came when, and answer."""

    moments: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    reached: dict[int, threading.Event] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, connection: Connection) -> None:
        while head := connection.read_head():
            length = int(header(head, b"content-length") or 0)
            self.note(0)
            while connection.received < length:
                data = connection.recv(min(length - connection.received, 1 << 16))
                if not data:
                    return
                connection.received += len(data)
                self.note(connection.received)
            connection.respond()

    def note(self, count: int) -> None:
        with self.lock:
            self.moments.append(time.monotonic())
            self.counts.append(count)
            for least, event in self.reached.items():
                if count >= least:
                    event.set()

    def at(self, count: int) -> threading.Event:
        """Is set once this many bytes have come."""
        with self.lock:
            event = self.reached.setdefault(count, threading.Event())
            if self.counts and max(self.counts) >= count:
                event.set()
            return event

    def count_by(self, moment: float) -> int:
        place = bisect_right(self.moments, moment)
        return self.counts[place - 1] if place else 0


@contextmanager
def logging_server(*, tls: bool = False) -> Iterator[tuple[str, Log]]:
    log = Log()
    with Server(log, tls=tls) as server:
        yield server.url, log


def wait_until_still(records: list[Any]) -> None:
    """Wait until nothing is added any more."""
    count = -1
    while count != len(records):
        count = len(records)
        let_time_pass(0.3)


def let_time_pass(seconds: float = 0.15) -> None:
    """Give an unwanted event time to happen."""
    threading.Event().wait(seconds)


@both
def test_the_limit_is_kept(client, tls):
    """The body takes the time that its limit requires."""
    with logging_server(tls=tls) as (url, log):
        began = time.monotonic()
        upload(url, bytes(MB // 2), client=client, rate_limit=MB).run()
        assert time.monotonic() - began > 0.44
    assert log.counts[-1] > MB // 2


def test_the_limit_of_a_plain_client_is_kept():
    """A plain client keeps the limit too, piece by piece."""
    with logging_server() as (url, _), httpx.Client() as client:
        began = time.monotonic()
        items = observe(upload(url, bytes(MB // 2), client=client, rate_limit=MB))[0].wait().items
        assert time.monotonic() - began > 0.44
    assert len(items) > 5


def test_the_limit_of_a_chunked_body_is_kept(client):
    """A body of unknown length keeps it too."""
    with Server(lambda connection: connection.serve()) as server:
        began = time.monotonic()
        upload(server.url, lambda: iter([bytes(MB // 4)]), client=client, rate_limit=MB).run()
        assert time.monotonic() - began > 0.2


def test_the_limit_covers_a_redirect(client):
    """A second pass over the body starts with what the first one left."""

    def script(connection: Connection) -> None:
        for status in (307, 200):
            connection.read_request()
            connection.respond(status, b"", "Location: /again")

    with Server(script) as server:
        began = time.monotonic()
        upload(server.url, bytes(MB // 4), client=client, rate_limit=MB, follow_redirects=True).run()
        assert time.monotonic() - began > 0.44


@both
@pytest.mark.parametrize("rate", [1000, 100_000])
def test_an_early_answer_is_heard_at_once(client, tls, rate):
    """The answer of a server that reads along is heard at once, however much of the piece is left."""

    def script(connection: Connection) -> None:
        connection.read_head()
        connection.read(100)
        connection.respond(413, b"too large", "Connection: close")
        connection.wait_for_end()

    with Server(script, tls=tls) as server:
        response = upload(server.url, bytes(MB), client=client, rate_limit=rate, timeout=5).run()
    assert (response.status_code, response.text) == (413, "too large")


def in_a_thread(source: Any) -> RecordingObserver:
    return observe(source)[0]


def on_a_pool(source: Any) -> RecordingObserver:
    return observe(source, scheduler=ThreadPoolScheduler(1))[0]


def in_place(scheduler: Any) -> Callable[[Any], RecordingObserver]:
    def start_it(source: Any) -> RecordingObserver:
        observed = RecordingObserver()
        threading.Thread(target=lambda: source.subscribe(observed, scheduler=scheduler)).start()
        return observed

    return start_it


def in_a_trampoline(source: Any) -> RecordingObserver:
    observed = RecordingObserver()

    def outer(*_: Any) -> None:
        rxupload.run(source.pipe(ops.do(observed), ops.materialize()))

    threading.Thread(target=lambda: CurrentThreadScheduler.singleton().schedule(outer)).start()
    return observed


def on_an_event_loop(source: Any) -> RecordingObserver:
    return observe(source, scheduler=EventLoopScheduler())[0]


def in_asyncio(source: Any) -> RecordingObserver:
    observed = RecordingObserver()

    async def main() -> None:
        await source.pipe(ops.do(observed), ops.materialize())

    threading.Thread(target=lambda: asyncio.run(main())).start()
    return observed


EVERYWHERE = [
    pytest.param(in_a_thread, id="thread"),
    pytest.param(on_a_pool, id="pool"),
    pytest.param(in_place(CurrentThreadScheduler()), id="current thread"),
    pytest.param(in_place(ImmediateScheduler()), id="immediate"),
    pytest.param(in_a_trampoline, id="trampoline"),
    pytest.param(on_an_event_loop, id="event loop"),
    pytest.param(in_asyncio, id="asyncio"),
]


def test_an_upload_that_ends_gives_up_its_place(clock):
    """An upload that stops while it waits lets the others continue."""
    throttle = limited(clock, 1000)
    empty(throttle)
    transfer = Transfer(None)
    transfer.allowance = Allowance([throttle], transfer.wake)
    assert transfer.grant(20)[1] < float("inf")
    other = Asker()
    assert throttle.grant(other, 20) == (0, float("inf"))
    transfer.stop(LookupError())
    assert isinstance(transfer.settle(), LookupError)
    assert other.wake.is_set()
    assert throttle.grant(other, 20)[1] < float("inf")


class TestSettings:
    @pytest.mark.parametrize("begin", EVERYWHERE)
    def test_an_initial_pause_holds_the_first_byte(self, client, begin):
        """On any scheduler, a value that a setting emits within subscribe applies to the first byte."""
        go_on = Subject[bool]()
        pause = go_on.pipe(ops.start_with(1), ops.map(bool))
        with logging_server() as (url, log):
            upload(url, b"", client=client).run()  # makes the connection
            log.counts.clear()
            observed = begin(upload(url, b"x" * 1000, client=client, pause=pause))
            assert log.at(0).wait(PATIENCE)
            let_time_pass()
            assert log.counts == [0]
            go_on.on_next(False)
            observed.wait()
        assert observed.response.status_code == 200

    @pytest.mark.parametrize("begin", EVERYWHERE)
    def test_an_initial_rate_limits_the_first_byte(self, client, begin):
        """So does a rate, which stays after its Observable has completed."""
        with logging_server() as (url, _):
            began = time.monotonic()
            begin(upload(url, bytes(MB // 5), client=client, rate_limit=reactivex.of(MB))).wait()
            assert time.monotonic() - began > 0.15

    def test_without_a_value_nothing_is_held(self, client):
        """Until a setting emits, the body is sent without limit and pause."""
        with logging_server() as (url, _):
            up = upload(url, LARGE, client=client, rate_limit=reactivex.never(), pause=reactivex.never())
            assert up.run().status_code == 200

    def test_none_removes_the_limit(self, client):
        """None as a value removes the limit."""
        rate = BehaviorSubject[float | None](1000.0)
        with logging_server() as (url, log):
            observed, _ = observe(upload(url, LARGE, client=client, rate_limit=rate))
            assert log.at(1).wait(PATIENCE)
            rate.on_next(None)
            observed.wait()
        assert observed.response.status_code == 200

    @pytest.mark.parametrize("end", ["completed", "error", "disposed"])
    def test_they_are_disposed_at_the_end(self, client, end):
        """Each upload subscribes to its settings once, and disposes them before any kind of end."""
        subscriptions: list[str] = []
        left_at_the_end: list[int] = []
        rate, pause = BehaviorSubject(10.0 * MB), BehaviorSubject(end == "disposed")

        def counted(subject: Subject[Any]) -> Observable[Any]:
            def subscribe(observer: Any, _: Any = None) -> Any:
                subscriptions.append("on")
                inner = subject.subscribe(observer)
                return Disposable(lambda: (subscriptions.append("off"), inner.dispose()))

            return Observable(subscribe)

        def script(connection: Connection) -> None:
            connection.read_head()
            if end == "completed":
                connection.read_body()
                connection.respond()

        with Server(script) as server:
            up = upload(
                server.url, bytes(1000), client=client, rate_limit=counted(rate), pause=counted(pause)
            )
            for number in (1, 2):
                observed = RecordingObserver()

                def note(*_: Any) -> None:
                    left_at_the_end.append(len(rate.observers) + len(pause.observers))

                threads: list[threading.Thread] = []
                subscription = up.pipe(ops.do_action(on_error=note, on_completed=note)).subscribe(
                    observed, scheduler=NewThreadScheduler(joinable(threads))
                )
                if end == "disposed":
                    subscription.dispose()
                else:
                    observed.wait()
                threads[0].join(PATIENCE)  # it may have been about to subscribe
                assert not rate.observers
                assert not pause.observers
                assert subscriptions.count("on") == subscriptions.count("off")
                if end != "disposed":
                    assert subscriptions.count("on") == 2 * number
        assert not any(left_at_the_end)

    @pytest.mark.parametrize("which", ["rate_limit", "pause"])
    def test_their_error_is_the_uploads(self, client, which):
        """An error of a setting aborts the upload and is its error."""
        setting, ended = BehaviorSubject[Any](None if which == "rate_limit" else False), threading.Event()
        lost = ConnectionError("the settings are lost")

        def script(connection: Connection) -> None:
            connection.read_head()
            setting.on_error(lost)
            connection.wait_for_reset()
            ended.set()

        with Server(script) as server:
            observed, _ = observe(upload(server.url, LARGE, client=client, **{which: setting}))
            observed.wait()
            assert ended.wait(PATIENCE)
        assert observed.error is lost

    @pytest.mark.parametrize(
        ("kwargs", "error", "text"),
        [
            ({"rate_limit": reactivex.of(0)}, ValueError, "rate_limit: must be"),
            ({"rate_limit": reactivex.of("2M")}, TypeError, "rate_limit: expected .* got str"),
            ({"rate_limit": reactivex.of(reactivex.of(1))}, TypeError, "rate_limit: expected"),
            ({"pause": reactivex.of(1)}, TypeError, "pause: the Observable's items must be bool, got int"),
        ],
    )
    def test_a_wrong_item_is_the_uploads_error(self, client, kwargs, error, text):
        """A wrong item of a setting is the upload's error, with the argument's name."""
        with logging_server() as (url, _), pytest.raises(error, match=text):
            upload(url, b"x", client=client, **kwargs).run()

    def test_an_exception_within_subscribe_is_the_uploads_error(self, client):
        """An exception of a setting's subscribe is the upload's error."""

        def subscribe(*_: Any) -> Any:
            raise LookupError("no settings")

        with logging_server() as (url, _), pytest.raises(LookupError, match="no settings"):
            upload(url, b"x", client=client, pause=Observable(subscribe)).run()

    @pytest.mark.parametrize("begin", EVERYWHERE)
    @pytest.mark.parametrize("argument", ["rate_limit", "pause"])
    def test_an_exception_after_their_end_is_the_uploads_error(self, client, begin, argument):
        """So is an exception after the setting's end, which reactivex does not catch; in a batch, too."""

        def subscribe(observer: Any, _: Any = None) -> Any:
            observer.on_completed()
            raise LookupError("no settings")

        with logging_server() as (url, _):
            up = upload(url, b"x", client=client)
            for source in (
                upload(url, b"x", client=client, **{argument: Observable(subscribe)}),
                upload_all([up], **{argument: Observable(subscribe)}),
            ):
                assert str(begin(source).wait().error) == "no settings"
            assert begin(up).wait().response.status_code == 200  # its loop is unharmed

    def test_an_exit_within_subscribe_ends_the_upload(self, client):
        """A BaseException ends the upload or the batch on its thread as well."""

        def subscribe(*_: Any) -> Any:
            raise SystemExit

        with logging_server() as (url, _):
            up = upload(url, b"x", client=client, pause=Observable(subscribe))
            assert "SystemExit" in repr(observe(up)[0].wait().error)
            batch = upload_all([upload(url, b"x", client=client)], pause=Observable(subscribe))
            assert "SystemExit" in repr(observe(batch)[0].wait().error)

    @pytest.mark.parametrize("setting", [reactivex.throw(LookupError("lost")), BehaviorSubject("a lot")])
    def test_an_error_of_a_batch_without_on_error_is_a_traceback(self, client, monkeypatch, setting):
        """Without on_error, the error is a traceback of the thread, and the setting is disposed."""
        raised: SimpleQueue[BaseException | None] = SimpleQueue()
        monkeypatch.setattr(threading, "excepthook", lambda args: raised.put(args.exc_value))
        with logging_server() as (url, _):
            upload_all([upload(url, b"x", client=client)], rate_limit=setting).subscribe(print)
            assert isinstance(raised.get(timeout=PATIENCE), (LookupError, TypeError))
        assert not getattr(setting, "observers", None)

    def test_a_batch_disposes_them_when_its_loop_closes(self, client):
        """They are disposed, even if all uploads have been read."""
        has_begun, let_go = threading.Event(), threading.Event()

        def script(connection: Connection) -> None:
            connection.read_head()
            has_begun.set()
            connection.wait_for_end()

        async def main(url: str) -> None:
            setting = Observable[Any](lambda *_: Disposable(let_go.set))
            batch = upload_all([upload(url, LARGE, client=client)], pause=setting)
            batch.subscribe(RecordingObserver(), scheduler=AsyncIOScheduler(asyncio.get_running_loop()))
            await asyncio.to_thread(has_begun.wait, PATIENCE)

        with Server(script) as server:
            asyncio.run(main(server.url))
            assert let_go.wait(PATIENCE)

    @pytest.mark.parametrize("begin", EVERYWHERE)
    def test_an_error_does_not_wait_for_the_batchs_observer(self, client, begin):
        """A setting that fails does not wait for the batch's observer, because the observer may wait for it."""
        setting, lock, has_failed = Subject[Any](), threading.Lock(), threading.Event()
        lost = LookupError("lost")

        def fail() -> None:
            with lock:
                setting.on_error(lost)
            has_failed.set()

        def look(event: Any) -> None:
            if isinstance(event, ItemDone):
                threading.Thread(target=fail).start()
                assert has_failed.wait(PATIENCE)
                with lock:
                    pass

        with logging_server() as (url, _):
            uploads = [upload(url, b"x", client=client) for _ in range(3)]
            observed = begin(
                upload_all(uploads, concurrency=1, rate_limit=setting).pipe(ops.do_action(look))
            ).wait()
        assert observed.error is lost
        assert sum(isinstance(event, ItemDone) for event in observed.items) == 1

    @pytest.mark.parametrize("argument", ["rate_limit", "pause"])
    @pytest.mark.parametrize("is_batch", [False, True], ids=["upload", "batch"])
    def test_a_slow_dispose_does_not_keep_the_connection(self, client, argument, is_batch):
        """The connection ends before the settings are disposed."""
        has_begun, has_ended, order = threading.Event(), threading.Event(), []

        def script(connection: Connection) -> None:
            connection.read_head()
            has_begun.set()
            connection.wait_for_reset()
            has_ended.set()

        def dispose() -> None:
            order.append(has_ended.wait(PATIENCE))

        setting = {argument: Observable[Any](lambda *_: Disposable(dispose))}
        with Server(script) as server:
            if is_batch:
                source = upload_all([upload(server.url, LARGE, client=client)], **setting)
            else:
                source = upload(server.url, LARGE, client=client, **setting)
            _, subscription = observe(source)
            assert has_begun.wait(PATIENCE)
            subscription.dispose()
        assert order == [True]

    def test_they_are_subscribed_to_on_the_loop(self, client):
        """If the upload notifies on a loop, its settings are subscribed to and disposed on the loop."""
        threads: list[int] = []

        def subscribe(observer: Any, _: Any = None) -> Any:
            threads.append(threading.get_ident())
            observer.on_next(False)
            return Disposable(lambda: threads.append(threading.get_ident()))

        async def main(url: str) -> None:
            setting = Observable(subscribe)
            await upload(url, b"x", client=client, pause=setting)
            await upload_all([upload(url, b"x", client=client)], pause=setting)
            assert threads == 4 * [threading.get_ident()]

        with logging_server() as (url, _):
            asyncio.run(main(url), debug=True)

    def test_a_future_of_the_loop_may_be_one(self, client):
        """A future of the loop may be a setting, because it is used on the loop only."""

        async def main(url: str) -> None:
            future = asyncio.get_running_loop().create_future()
            response = await upload(url, b"x", client=client, pause=reactivex.from_future(future))
            assert response.status_code == 200

        with logging_server() as (url, _):
            asyncio.run(main(url), debug=True)

    def test_a_loop_of_another_thread_runs_them(self, client):
        """After a subscription from another thread an idle loop runs the settings; a closed one is quiet."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        with logging_server() as (url, log):
            for source in (
                upload(url, b"x", client=client, pause=reactivex.of(False)),
                upload_all([upload(url, b"x", client=client)], pause=reactivex.of(False)),
            ):
                observe(source, scheduler=AsyncIOScheduler(loop))[0].wait()
                log.counts.clear()
            loop.call_soon_threadsafe(loop.stop)
            thread.join(PATIENCE)
            loop.close()
            observed, _ = observe(source, scheduler=AsyncIOScheduler(loop))
            let_time_pass()
            assert not observed.ended
            assert not log.counts

    def test_an_error_on_another_thread_disposes_the_others_on_the_loop(self, client):
        """If a batch's setting fails on another thread, the others are still disposed on the loop."""
        threads: list[int] = []
        rate = BehaviorSubject(1000.0)

        def lose(log: Log) -> None:
            assert log.at(0).wait(PATIENCE)  # both have subscribed
            rate.on_error(LookupError("lost"))

        async def main(url: str, log: Log) -> None:
            pause = Observable(lambda *_: Disposable(lambda: threads.append(threading.get_ident())))
            threading.Thread(target=lose, args=[log]).start()
            up = upload(url, bytes(MB), client=client, pause=pause)
            with pytest.raises(LookupError):
                await upload_all([up], rate_limit=rate, pause=pause)
            assert threads == 2 * [threading.get_ident()]

        with logging_server() as (url, log):
            asyncio.run(main(url, log), debug=True)

    def test_one_that_raises_when_disposed_does_not_keep_the_other(self, client):
        """The other setting is still disposed."""
        pause = BehaviorSubject(False)
        rate = Observable(lambda *_: Disposable([].pop))
        with logging_server() as (url, _):
            upload(url, b"x", client=client, rate_limit=rate, pause=pause).run()
        assert not pause.observers

    @pytest.mark.parametrize("begin", EVERYWHERE)
    def test_an_exception_of_dispose_is_logged(self, client, begin, caplog):
        """A setting that raises when it is disposed is logged, and harms nothing."""

        def subscribe(*_: Any) -> Any:
            return Disposable([].pop)

        with logging_server() as (url, _):
            up = upload(url, b"x", client=client, rate_limit=Observable(subscribe))
            assert begin(up).wait().response.status_code == 200
            batch = upload_all([upload(url, b"x", client=client)], rate_limit=Observable(subscribe))
            assert begin(batch).wait().is_completed
        assert len(caplog.records) == 2


class TestPause:
    @both
    def test_it_holds_the_body_and_lets_it_continue(self, client, tls):
        """Soon after a pause no byte comes any more; then the body continues."""
        pause, rate = Subject[bool](), BehaviorSubject[float | None](2.0 * MB)
        with logging_server(tls=tls) as (url, log):
            observed, _ = observe(upload(url, bytes(20 * MB), client=client, pause=pause, rate_limit=rate))
            assert log.at(200_000).wait(PATIENCE)
            pause.on_next(True)
            moment = time.monotonic()
            wait_until_still(log.counts)
            assert log.counts[-1] < log.count_by(moment) + 3 * MB  # what a slow server has not read by then
            held_at = log.counts[-1]
            rate.on_next(None)
            let_time_pass(0.2)
            assert log.counts[-1] == held_at
            pause.on_next(False)
            observed.wait()
            assert log.count_by(time.monotonic()) == observed.progress[-1].sent
        assert observed.response.status_code == 200

    @both
    @pytest.mark.skipif(sys.platform == "win32", reason="the system's buffers differ there")
    def test_it_holds_a_blocked_send(self, client, tls):
        """A pause holds a send to a slow server too, which gets no more than the system already has."""
        pause, go_on = Subject[bool](), threading.Event()
        counts: list[int] = []

        def script(connection: Connection) -> None:
            length = int(header(connection.read_head(), b"content-length") or 0)
            connection.read(1)
            assert go_on.wait(PATIENCE)
            connection.sock.settimeout(0.3)
            with pytest.raises(TimeoutError):  # what there was, and then nothing for a while
                while connection.read(1 << 16):
                    pass
            counts.append(connection.received)
            pause.on_next(False)
            connection.sock.settimeout(PATIENCE)
            connection.read(length - connection.received)
            connection.respond()

        with Server(script, tls=tls, receive_buffer=64 * KIB) as server:
            observed, _ = observe(upload(server.url, LARGE, client=client, pause=pause))
            let_time_pass(0.3)  # until the buffers are full
            pause.on_next(True)
            let_time_pass(0.1)
            go_on.set()
            observed.wait()
        assert observed.response.status_code == 200
        # The receive buffer, which is twice the requested size; TCP_NOTSENT_LOWAT; and a piece that was being sent.
        assert counts[0] <= (128 + 128 + 256) * KIB

    @both
    @pytest.mark.parametrize("kind", ["bytes", "file"])
    @pytest.mark.skipif(sys.platform == "win32", reason="the system's buffers differ there")
    def test_it_holds_encrypted_bytes(self, client, tls, kind, monkeypatch, tmp_path):
        """If the server reads again during a pause, nothing is written, not even encrypted bytes."""
        source: Any = LARGE
        if kind == "file":
            source = tmp_path / "large"
            source.write_bytes(LARGE)
        pause, go_on, gone = Subject[bool](), threading.Event(), threading.Event()
        has_begun, is_held = threading.Event(), threading.Event()
        writes: list[bool] = []  # whether each has begun during the pause

        def script(connection: Connection) -> None:
            length = int(header(connection.read_head(), b"content-length") or 0)
            has_begun.set()
            assert go_on.wait(PATIENCE)
            connection.sock.settimeout(0.3)
            with pytest.raises(TimeoutError):  # all that the system had, so that it has room again
                while connection.read(1 << 16):
                    pass
            connection.send(b"HTTP/1.1 102 Processing\r\n\r\n")  # which is heard during the pause too
            gone.set()
            connection.sock.settimeout(PATIENCE)
            connection.read(length - connection.received)
            connection.respond()

        class Recorder(socket.socket):
            def send(self, *args: Any) -> int:
                is_late = is_held.is_set()
                count = super().send(*args)
                writes.append(is_late)
                return count

        sendfile = os.sendfile

        def record(*args: Any) -> int:
            is_late = is_held.is_set()
            count = sendfile(*args)
            writes.append(is_late)
            return count

        monkeypatch.setattr(os, "sendfile", record)
        with Server(script, tls=tls, receive_buffer=64 * KIB) as server:
            with monkeypatch.context() as patched:
                patched.setitem(connect.__kwdefaults__, "make_socket", Recorder)
                observed, _ = observe(upload(server.url, source, client=client, pause=pause))
                assert has_begun.wait(PATIENCE)
                wait_until_still(writes)  # the buffers are full
            pause.on_next(True)
            is_held.set()
            go_on.set()
            assert gone.wait(PATIENCE)
            let_time_pass(0.2)
            assert writes
            assert not any(writes)
            pause.on_next(False)
            observed.wait()
        assert observed.response.status_code == 200

    @pytest.mark.skipif(
        not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="the system has no TCP_NOTSENT_LOWAT"
    )
    def test_the_send_queue_is_short_for_this_upload_only(self, client, monkeypatch):
        """The send queue is short while the upload may be held, and normal for the connection's next upload."""
        values: list[int] = []

        def seen(connection: WireConnection, count: int) -> None:
            bound(connection, count)
            values.append(connection.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT))

        bound = WireConnection._bound_queue
        monkeypatch.setattr(WireConnection, "_bound_queue", seen)
        with logging_server() as (url, _):
            upload(url, b"x", client=client, pause=reactivex.never()).run()
            upload(url, b"x", client=client).run()
        assert values[-2:] == [NOTSENT_LOWAT, _USUAL_LOWAT]

    @both
    def test_it_is_no_stall(self, client, tls, monkeypatch):
        """The write limit does not run during a pause."""
        client.timeout = httpx.Timeout(None, write=SHORT)
        clock = HeldClock(monkeypatch)
        pause = BehaviorSubject(True)
        with logging_server(tls=tls) as (url, log):
            observed, _ = observe(upload(url, LARGE, client=client, pause=pause))
            assert log.at(0).wait(PATIENCE)
            clock.pass_time(2 * SHORT)
            let_time_pass(2 * SHORT)
            assert not observed.ended
            pause.on_next(False)
            observed.wait()
        assert observed.response.status_code == 200

    @both
    def test_it_is_no_stall_of_a_blocked_send(self, client, tls, monkeypatch):
        """The write limit does not run either if the send was blocked before the pause."""
        client.timeout = httpx.Timeout(None, write=SHORT)
        clock = HeldClock(monkeypatch)
        pause, go_on = Subject[bool](), threading.Event()

        def script(connection: Connection) -> None:
            length = int(header(connection.read_head(), b"content-length") or 0)
            assert go_on.wait(PATIENCE)
            connection.read(length)
            connection.respond()

        with Server(script, tls=tls, receive_buffer=64 * KIB) as server:
            observed, _ = observe(upload(server.url, LARGE, client=client, pause=pause))
            let_time_pass(SHORT)  # until the buffers are full
            pause.on_next(True)
            clock.pass_time(2 * SHORT)
            let_time_pass(4 * SHORT)
            assert not observed.ended
            go_on.set()
            pause.on_next(False)
            observed.wait()
        assert observed.response.status_code == 200

    @both
    def test_it_is_no_stall_after_the_last_write(self, client, tls, monkeypatch):
        """The write limit does not run either if the system has the whole body and the server takes none of it."""
        client.timeout = httpx.Timeout(None, write=SHORT)
        clock = HeldClock(monkeypatch)
        pause, is_held, go_on = BehaviorSubject(False), threading.Event(), threading.Event()

        def script(connection: Connection) -> None:
            connection.read_head()
            pause.on_next(True)
            is_held.set()
            assert go_on.wait(PATIENCE)
            connection.read_body()
            connection.respond()

        with Server(script, tls=tls, receive_buffer=4 * KIB) as server:
            observed, _ = observe(upload(server.url, bytes(60_000), client=client, pause=pause))
            assert is_held.wait(PATIENCE)
            clock.pass_time(2 * SHORT)
            let_time_pass(2 * SHORT)
            assert not observed.ended
            go_on.set()
            pause.on_next(False)
            observed.wait()
        assert observed.response.status_code == 200

    def test_a_low_rate_is_no_stall(self, client):
        """The write limit does not run either during the wait for a low rate."""
        client.timeout = httpx.Timeout(None, write=SHORT)
        rate = BehaviorSubject[float | None](2.0)  # half a second for the first byte
        with logging_server() as (url, log):
            observed, _ = observe(upload(url, b"x", client=client, rate_limit=rate))
            assert log.at(1).wait(PATIENCE)
            rate.on_next(None)
            observed.wait()
        assert observed.response.status_code == 200

    def test_it_counts_for_the_whole_upload(self, any_client, monkeypatch):
        """The limit of the whole upload runs during a pause, and its error mentions the pause."""
        clock = HeldClock(monkeypatch)
        with logging_server() as (url, _):
            upload(url, b"", client=any_client).run()  # makes the connection
            up = upload(url, b"x", client=any_client, timeout=SHORT, pause=reactivex.of(True))
            message = r"0 of \d+ bytes of the body had gone, and it was paused for \d+\.\d s"
            with pytest.raises(UploadTimeout, match=message):
                rxupload.run(up.pipe(ops.do_action(lambda _: clock.release())))

    @both
    def test_a_server_that_closes_ends_it(self, client, tls):
        """A server that closes during a pause ends the upload at once; the error gives the length of the pause."""

        def script(connection: Connection) -> None:
            connection.read_head()

        with Server(script, tls=tls) as server:
            up = upload(server.url, b"x", client=client, pause=reactivex.of(True))
            with pytest.raises(
                httpx.ReadError, match=r"closed the connection .* it was paused for \d+\.\d s"
            ):
                up.run()

    @both
    @pytest.mark.parametrize("status", [408, 500])
    def test_an_answer_ends_it(self, client, tls, status):
        """An answer during a pause, or during the wait for a low rate, is the response at once."""

        def script(connection: Connection) -> None:
            connection.read_head()
            connection.respond(status, b"too slow", "Connection: close")
            connection.wait_for_end()

        with Server(script, tls=tls) as server:
            for held in ({"pause": reactivex.of(True)}, {"rate_limit": 0.01}):
                response = upload(server.url, b"x", client=client, **held).run()
                assert (response.status_code, response.text) == (status, "too slow")

    @both
    def test_an_abort_ends_it(self, client, tls):
        """A dispose during a pause closes the connection at once, and ends the worker."""
        there, ended = threading.Event(), threading.Event()

        def script(connection: Connection) -> None:
            connection.read_head()
            there.set()
            connection.wait_for_end()
            ended.set()

        with Server(script, tls=tls) as server:
            running = start(upload(server.url, b"x", client=client, pause=reactivex.of(True)))
            assert there.wait(PATIENCE)
            running.subscription.dispose()
            assert ended.wait(PATIENCE)
            running.join()
        assert not running.observed.ended

    def test_an_abort_ends_it_with_a_plain_client(self):
        """With a plain client too, the worker notices the dispose during the pause."""
        with logging_server() as (url, log), httpx.Client() as client:
            running = start(upload(url, b"x", client=client, pause=reactivex.of(True)))
            assert log.at(0).wait(PATIENCE)
            running.subscription.dispose()
            running.join()
        assert log.counts == [0]


# A batch


def a_few(url: str, client: Any, count: int = 4, **kwargs: Any) -> list[Any]:
    return [upload(url, bytes(MB // 8), client=client, **kwargs) for _ in range(count)]


class TestBatch:
    @pytest.mark.parametrize("begin", EVERYWHERE)
    def test_all_uploads_share_the_limit(self, client, begin):
        """On any scheduler, all uploads of a batch share its limit, even those with operators."""
        with logging_server() as (url, _):
            uploads = [each.pipe(retry_backoff(), ops.retry(2)) for each in a_few(url, client)]
            began = time.monotonic()
            begin(upload_all(uploads, rate_limit=reactivex.of(MB))).wait()
            assert time.monotonic() - began > 0.44

    def test_a_later_attempt_shares_the_limit(self, client):
        """An attempt that an operator starts later, on another thread, still belongs to the batch."""
        answers = iter([503, 503, 200])

        def script(connection: Connection) -> None:
            while connection.read_head():
                connection.read_body()
                connection.respond(next(answers))

        with Server(script) as server:
            up = upload(server.url, bytes(MB // 8), client=client)
            began = time.monotonic()
            batch = upload_all([up.pipe(retry_backoff(wait_initial=0, wait_jitter=0))], rate_limit=MB)
            assert batch.run().statuses == {200: 1}
            assert time.monotonic() - began > 0.33

    def test_an_uploads_own_limit_applies_too(self, client):
        """An upload's own limit applies within the batch's, and takes nothing from the others."""
        rate = BehaviorSubject(1.0)  # with which the slow one does not end
        ended: list[tuple[int, float]] = []

        def note(item: Any) -> None:
            ended.append((item.index, time.monotonic()))
            rate.on_next(MB / 4)

        with logging_server() as (url, _):
            slow = upload(url, bytes(MB // 8), client=client, rate_limit=rate)
            fast = upload(url, bytes(MB // 8), client=client)
            upload_all([slow, fast], rate_limit=10 * MB).pipe(of_type(ItemDone), ops.do_action(note)).run()
        (first, since), (second, until) = ended
        assert (first, second) == (1, 0)
        assert until - since > 0.4

    def test_a_pause_holds_all_uploads(self, client):
        """A pause holds every body of the batch; after it all arrive."""
        pause, begun = BehaviorSubject(True), threading.Semaphore(0)
        bodies: list[int] = []

        def script(connection: Connection) -> None:
            connection.read_head()
            begun.release()
            bodies.append(len(connection.read_body()))
            connection.respond()

        with Server(script) as server:
            observed, _ = observe(upload_all(a_few(server.url, client), pause=pause))
            for _ in range(4):
                assert begun.acquire(timeout=PATIENCE)
            let_time_pass()
            assert not bodies
            assert not [item for item in observed.items if isinstance(item, Progress) and item.sent]
            pause.on_next(False)
            observed.wait()
        assert len(bodies) == 4

    def test_an_error_of_a_setting_is_the_batchs(self, client):
        """An error of a setting aborts all running uploads, and is the batch's error."""
        pause = BehaviorSubject(True)
        with logging_server() as (url, log):
            observed, _ = observe(upload_all(a_few(url, client), pause=pause))
            assert log.at(0).wait(PATIENCE)
            pause.on_error(LookupError("lost"))
            observed.wait()
        assert isinstance(observed.error, LookupError)

    @pytest.mark.parametrize("end", ["completed", "disposed", "error"])
    def test_settings_are_disposed_at_the_end(self, client, end):
        """The batch subscribes to its settings once, and disposes them at its end."""
        pause = BehaviorSubject(end != "completed")
        at_the_end: list[int] = []

        def note(*_: Any) -> None:
            at_the_end.append(len(pause.observers))

        def uploads() -> Iterator[Any]:
            yield from a_few(url, client, 1)
            pause.on_next(False)
            if end == "error":
                raise LookupError("no more")

        with logging_server() as (url, log):
            observed = RecordingObserver()
            batch = upload_all(uploads(), pause=pause)
            subscription = batch.pipe(ops.do_action(on_error=note, on_completed=note)).subscribe(observed)
            assert log.at(0).wait(PATIENCE)
            if end == "disposed":
                subscription.dispose()
            else:
                observed.wait()
            assert not pause.observers
        assert not any(at_the_end)

    @both
    def test_a_stalled_server_is_a_write_timeout(self, client, tls):
        """A server that takes nothing is a WriteTimeout, while the other uploads continue."""
        client.timeout = httpx.Timeout(None, write=SHORT)
        ended = threading.Event()

        def script(connection: Connection) -> None:
            head = connection.read_head()
            if b"/stuck" in head:
                connection.wait_for_reset()
                ended.set()
                return
            connection.read_body()
            connection.respond()

        with Server(script, tls=tls) as server:

            def until_then() -> Iterator[bytes]:
                while not ended.wait(0.01):  # slowly, so that a slow server is no stall
                    yield b"x" * 1000

            others = upload(server.url, until_then, client=client)
            stuck = upload(server.url + "stuck", LARGE, client=client)
            summary = upload_all([stuck, others, others], rate_limit=20 * MB).run()
        assert (summary.done, summary.failed) == (2, 1)
        assert isinstance(summary.errors[0].error, httpx.WriteTimeout)

    def test_uploads_of_the_same_size_end_together(self, client):
        """Uploads of the same size that share a limit end together."""
        with logging_server() as (url, _):
            ends: list[float] = []
            uploads = [upload(url, bytes(MB // 2), client=client) for _ in range(4)]
            upload_all(uploads, rate_limit=MB).pipe(
                of_type(ItemDone), ops.do_action(lambda _: ends.append(time.monotonic()))
            ).run()
        assert max(ends) - min(ends) < 1  # one after the other, it would be 1.5 s

    def test_its_schedulers_are_released(self, client):
        """The schedulers that carry a batch's throttle are released with the batch."""
        with logging_server() as (url, _):
            upload_all(a_few(url, client), rate_limit=100 * MB).run(TimeoutScheduler.singleton())
        gc.collect()
        assert [
            kind for kind in TimeoutScheduler.__subclasses__() if kind.__module__ == "rxupload._throttle"
        ] == []


# Slow tests


@pytest.mark.slow
class TestTruth:
    @both
    @pytest.mark.parametrize("rate", [1 * MB, 5 * MB, 20 * MB])
    def test_the_rate_is_accurate(self, client, tls, rate):
        """Over 10 s the rate is within 5 % of the limit, and within 15 % in each second."""
        with logging_server(tls=tls) as (url, log):
            upload(url, bytes(10 * rate), client=client, rate_limit=rate).run()
        began = next(moment for moment, count in zip(log.moments, log.counts, strict=True) if count)
        seconds = [log.count_by(began + second + 1) - log.count_by(began + second) for second in range(9)]
        measured = log.counts[-1] / (log.moments[-1] - began)
        print(f"{measured / rate:.3f} of {rate} B/s, {min(seconds) / rate:.3f} to {max(seconds) / rate:.3f}")
        assert abs(measured / rate - 1) < 0.05
        assert all(abs(each / rate - 1) < 0.15 for each in seconds)

    @pytest.mark.parametrize(
        ("size", "concurrency", "rate"), [(4000, 4, MB), (4000, 20, MB), (50_000, 8, 10 * MB)]
    )
    def test_small_files_use_the_limit(self, client, size, concurrency, rate):
        """Many small files use at least 90 % of a shared limit, whatever the concurrency."""
        with logging_server() as (url, _):
            uploads = (upload(url, bytes(size), client=client) for _ in range(3 * rate // size))
            summary = upload_all(uploads, concurrency=concurrency, rate_limit=rate).run()
        print(
            f"{summary.sent / summary.seconds / rate:.3f} of {rate} B/s with {concurrency} files of {size} bytes"
        )
        assert 0.9 < summary.sent / summary.seconds / rate < 1.02

    @both
    def test_uploads_with_their_own_limits_use_the_shared_one(self, client, tls):
        """Uploads with own limits that add up to more than the shared one use all of it, in the right shares."""
        with logging_server(tls=tls) as (url, _):
            uploads = [upload(url, bytes(MB // 5), client=client, rate_limit=MB // 10) for _ in range(20)]
            summary = upload_all(uploads, concurrency=20, rate_limit=MB).run()
        print(f"{summary.sent / summary.seconds / MB:.3f} of 1 MB/s")
        assert 0.95 < summary.sent / summary.seconds / MB < 1.02

    @both
    def test_a_change_takes_effect_within_200_ms(self, client, tls):
        """A change of the limit takes effect within 200 ms, up and down."""
        rate = BehaviorSubject(2.0 * MB)
        changes: list[tuple[float, float]] = []
        with logging_server(tls=tls) as (url, log):
            observed, subscription = observe(upload(url, bytes(100 * MB), client=client, rate_limit=rate))
            for value in (20.0 * MB, 1.0 * MB, 5.0 * MB):
                let_time_pass(1)
                rate.on_next(value)
                changes.append((time.monotonic(), value))
            let_time_pass(1)
            subscription.dispose()
        assert not observed.ended
        for moment, value in changes:
            measured = (log.count_by(moment + 0.9) - log.count_by(moment + 0.2)) / 0.7
            print(f"{measured / value:.3f} of {value} B/s from 200 ms on")
            assert abs(measured / value - 1) < 0.15

    @both
    def test_repeated_pauses_are_kept(self, client, tls):
        """In repeated pauses, no byte comes later than 100 ms after a pause, and the body continues each time."""
        pause = Subject[bool]()
        pauses: list[tuple[float, float]] = []
        with logging_server(tls=tls) as (url, log):
            observed, _ = observe(upload(url, bytes(30 * MB), client=client, rate_limit=20 * MB, pause=pause))
            for number in range(1, 6):
                assert log.at(number * 4 * MB).wait(PATIENCE)
                pause.on_next(True)
                moment = time.monotonic()
                let_time_pass(0.4)
                pauses.append((moment, time.monotonic()))
                pause.on_next(False)
            observed.wait()
        assert observed.response.status_code == 200
        for held, on in pauses:
            late = max([moment - held for moment in log.moments if held < moment < on], default=0)
            print(f"last byte {1000 * late:.1f} ms after the pause")
            assert late < 0.1
