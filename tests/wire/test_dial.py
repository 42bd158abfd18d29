"""Connecting: order and times on a fake clock and fake sockets; then real sockets on loopback."""

from __future__ import annotations

import errno
import math
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import httpx
import pytest
from support.descriptors import descriptors
from support.scripted_server import unanswered_port

from rxupload._wait import SystemClock, Wake
from rxupload._wire.control import PLAIN, Plain
from rxupload._wire.dial import attempts, connect, connect_unix, interleave
from rxupload._wire.names import LOOKUPS, Names, check_host, encode_host, resolve
from rxupload._wire.route import Origin, Route

PATIENCE = 10.0
CLOCK = SystemClock()
V4, V6 = socket.AF_INET, socket.AF_INET6


def v4(name: str, port: int = 1):
    return (V4, socket.SOCK_STREAM, 6, (name, port))


def v6(name: str, port: int = 1):
    return (V6, socket.SOCK_STREAM, 6, (name, port, 0, 0))


def gives(*addresses):
    return lambda *_: list(addresses)


class StopError(Exception):
    pass


class StoppableControl(Plain):
    """A control that a test can stop from any thread, or at a time of the fake clock."""

    def __init__(self, clock=CLOCK, at=math.inf):
        self.wake = Wake()
        self.is_stopped = False
        self.checked = threading.Event()
        self._clock = clock
        self._at = at

    def check(self):
        self.checked.set()
        if self.is_stopped or self._clock.now() >= self._at:
            raise StopError
        return self._at

    def stop(self):
        self.is_stopped = True
        self.wake.set()


class SteppedClock:
    """A clock that does not sleep: a wait jumps to the moment when something is ready."""

    def __init__(self):
        self.time = 1000.0
        self.waits = []

    def now(self):
        return self.time

    def wait(self, until, watched=(), wake=None):
        assert wake is None or not wake.is_set()
        moment = min([until, *(each.ready_at for each, _ in watched)])
        assert moment < math.inf, "it would wait for ever"
        self.waits.append(moment - self.time)
        self.time = max(self.time, moment)
        return [each for each, _ in watched if each.ready_at <= self.time]


class FakeNet:
    """Makes sockets that connect or fail after the delay that the test sets."""

    def __init__(self, clock, outcomes, lacks=()):
        self.clock = clock
        self.outcomes = outcomes  # by host: seconds, and the error or 0
        self.lacks = lacks
        self.log = []
        self.sockets = []

    def __call__(self, family, kind, protocol):
        if family in self.lacks:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        self.sockets.append(FakeSocket(self, family))
        return self.sockets[-1]

    def open(self):
        return [each.host for each in self.sockets if not each.is_closed]


class FakeSocket:
    def __init__(self, net, family):
        self.net = net
        self.family = family
        self.ready_at = math.inf
        self.code = 0
        self.host = None
        self.bound = None
        self.is_closed = False
        self.options = []

    def fileno(self):
        return -1 if self.is_closed else 1

    def setblocking(self, value):
        assert value is False

    def setsockopt(self, *option):
        self.options.append(option)

    def bind(self, address):
        self.bound = address

    def connect(self, address):
        self.host = address[0]
        self.net.log.append((round(self.net.clock.now() - 1000.0, 3), self.host))
        delay, self.code = self.net.outcomes.get(self.host, (math.inf, 0))
        if not delay:
            if self.code:
                raise OSError(self.code, os.strerror(self.code))
            return
        self.ready_at = self.net.clock.now() + delay
        raise BlockingIOError(errno.EINPROGRESS, "in progress")

    def getsockopt(self, level, option):
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_ERROR)
        return self.code

    def close(self):
        self.is_closed = True


def race(addresses, outcomes, *, timeout=None, control=PLAIN, lacks=(), **kwargs):
    clock = SteppedClock() if control is PLAIN else control._clock
    net = FakeNet(clock, outcomes, lacks)
    resolver = gives(*addresses)
    try:
        sock = connect(
            "host",
            80,
            clock=clock,
            control=control,
            timeout=timeout,
            resolver=resolver,
            make_socket=net,
            **kwargs,
        )
    except Exception as error:
        assert net.open() == []
        return net, error, clock.time - 1000.0
    finally:
        if control.wake is not None:
            control.wake.close()
    assert net.open() == [sock.host]
    return net, sock, clock.time - 1000.0


SIX_FOUR = [v6("a"), v6("b"), v4("c"), v4("d"), v4("e")]
REFUSED = (0.01, errno.ECONNREFUSED)


def test_address_families_alternate():
    """The families alternate, starting with the family of the first address."""
    assert [each[3][0] for each in interleave(SIX_FOUR)] == ["a", "c", "b", "d", "e"]
    assert [each[3][0] for each in interleave(SIX_FOUR[::-1])] == ["e", "b", "d", "a", "c"]
    assert interleave([]) == []


def test_attempts_start_a_quarter_of_a_second_apart():
    """While nothing answers, an attempt starts every 250 ms; the first to answer wins."""
    net, sock, took = race(SIX_FOUR, {"b": (0.3, 0)})
    assert net.log == [(0.0, "a"), (0.25, "c"), (0.5, "b"), (0.75, "d")]
    assert sock.host == "b"
    assert took == pytest.approx(0.8)


def test_a_failure_starts_the_next_attempt_at_once():
    """After a failure the next attempt starts without waiting for the 250 ms."""
    net, sock, _ = race(SIX_FOUR, {"a": REFUSED, "c": (0.0, errno.ENETUNREACH), "b": (0.02, 0)})
    assert net.log == [(0.0, "a"), (0.01, "c"), (0.01, "b")]
    assert sock.host == "b"


def test_a_late_failure_of_the_first_attempt_starts_the_third():
    """An earlier attempt that fails while a later one runs starts the next one."""
    net, sock, took = race(SIX_FOUR, {"a": (0.3, errno.EHOSTUNREACH), "c": (0.4, 0)})
    assert net.log == [(0.0, "a"), (0.25, "c"), (0.3, "b"), (0.55, "d")]
    assert sock.host == "c"
    assert took == pytest.approx(0.65)


def test_the_first_to_connect_wins_even_if_it_started_early():
    """An attempt continues beside those that start after it."""
    _, sock, took = race(SIX_FOUR, {"a": (0.6, 0), "c": (0.5, 0)})
    assert sock.host == "a"
    assert took == pytest.approx(0.6)


def test_connected_at_once():
    """An attempt that connects at once wins without a wait."""
    net, sock, took = race(SIX_FOUR, {"a": (0.0, 0)})
    assert net.log == [(0.0, "a")]
    assert sock.host == "a"
    assert took == 0.0


def test_when_all_attempts_fail_the_last_error_is_raised():
    """When all attempts fail, the error is the last one, and names the address."""
    _, error, took = race([v4("a"), v4("b")], {"a": REFUSED, "b": (0.01, errno.EHOSTUNREACH)})
    assert isinstance(error, httpx.ConnectError)
    assert str(error) == f"host:80: {os.strerror(errno.EHOSTUNREACH)}"
    assert isinstance(error.__cause__, OSError)
    assert took == pytest.approx(0.02)


def test_a_family_that_the_machine_lacks_is_skipped():
    """A family without sockets is skipped; its error is hidden if another family fails."""
    net, sock, _ = race(SIX_FOUR, {"c": (0.1, 0)}, lacks=[V6])
    assert sock.host == "c"
    assert net.log == [(0.0, "c")]
    _, error, _ = race([v4("c"), v6("a")], {"c": REFUSED}, lacks=[V6])
    assert str(error) == f"host:80: {os.strerror(errno.ECONNREFUSED)}"
    _, error, _ = race([v6("a")], {}, lacks=[V6])
    assert str(error) == "host:80: Address family not supported by protocol"


def test_the_timeout_covers_all_attempts():
    """One time limit covers all addresses together."""
    net, error, took = race(SIX_FOUR, {}, timeout=0.6)
    assert isinstance(error, httpx.ConnectTimeout)
    assert str(error) == "No connection to host:80 for 0.6 s"
    assert took == pytest.approx(0.6)
    assert len(net.log) == 3


def test_the_timeout_covers_the_lookup():
    """The time that the lookup takes is subtracted from the limit."""
    clock = SteppedClock()

    def slow(host, port, clock, control, until):
        assert until == 1001.0
        clock.time += 0.7
        return [v4("a")]

    net = FakeNet(clock, {})
    with pytest.raises(httpx.ConnectTimeout, match=r"No connection to host:80 for 1 s"):
        connect("host", 80, clock=clock, control=PLAIN, timeout=1.0, resolver=slow, make_socket=net)
    assert clock.time == 1001.0
    assert net.open() == []


def test_the_control_is_checked_at_its_own_deadline():
    """The control is checked again at its own deadline, and its exception ends the attempts."""
    clock = SteppedClock()
    net, error, took = race(SIX_FOUR, {}, timeout=5.0, control=StoppableControl(clock, at=1000.3))
    assert isinstance(error, StopError)
    assert took == pytest.approx(0.3)
    assert len(net.log) == 2


def test_a_stopped_control_starts_no_attempt():
    """Nothing is tried when the control has already stopped."""
    clock = SteppedClock()
    net, error, _ = race(SIX_FOUR, {"a": (0.0, 0)}, control=StoppableControl(clock, at=0.0))
    assert isinstance(error, StopError)
    assert net.sockets == []


def test_an_unrelated_wake_does_not_end_the_attempts():
    """A wake set for another reason is cleared, so that later waits do not end at once."""
    control = StoppableControl(SteppedClock())
    control.wake.set()
    _, sock, _ = race([v4("a")], {"a": (0.1, 0)}, control=control)
    assert sock.host == "a"
    assert not control.wake.is_set()


def test_socket_options_and_local_address_apply_to_each_attempt():
    """Each attempt gets the socket options and is bound; only the local address's family is tried."""

    def resolver(host, port, *_):
        return [v4("127.0.0.9", 0)] if host == "127.0.0.9" else SIX_FOUR

    clock = SteppedClock()
    net = FakeNet(clock, {"d": (0.1, 0)})
    option = (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connect(
        "host",
        80,
        clock=clock,
        control=PLAIN,
        timeout=None,
        local_address="127.0.0.9",
        socket_options=iter([option]),
        resolver=resolver,
        make_socket=net,
    )
    assert [host for _, host in net.log] == ["c", "d"]
    for sock in net.sockets:
        assert sock.bound == ("127.0.0.9", 0)
        assert sock.options == [option, (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]


def test_no_address_of_the_local_family_is_an_error():
    """If the host has no address of the local address's family, the error says so."""

    def resolver(host, port, *_):
        return [v6("::1", 0)] if host == "::1" else [v4("a")]

    with pytest.raises(httpx.ConnectError, match=r"host:80: the host has no address like ::1"):
        connect("host", 80, clock=CLOCK, control=PLAIN, timeout=1, local_address="::1", resolver=resolver)


# Retries


def test_retries_are_spaced_as_in_httpx():
    """The retries come after 0, 0.5, 1, 2 and 4 seconds; then the last error is raised."""
    clock = SteppedClock()
    times = []

    def dial():
        times.append(clock.time - 1000.0)
        raise httpx.ConnectError(str(len(times)))

    with pytest.raises(httpx.ConnectError, match="6"):
        attempts(5, dial, clock=clock, control=PLAIN)
    assert times == [0.0, 0.0, 0.5, 1.5, 3.5, 7.5]


def test_retries_end_with_success_or_another_kind_of_error():
    """A connection is returned; any error but ConnectError and ConnectTimeout is raised at once."""
    outcomes = [httpx.ConnectTimeout("late"), "connected"]

    def dial():
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    assert attempts(3, dial, clock=SteppedClock(), control=PLAIN) == "connected"
    outcomes[:] = [httpx.ProxyError("no"), "never"]
    with pytest.raises(httpx.ProxyError):
        attempts(3, dial, clock=SteppedClock(), control=PLAIN)
    outcomes[:] = [httpx.ConnectError("once"), "never"]
    with pytest.raises(httpx.ConnectError):
        attempts(0, dial, clock=SteppedClock(), control=PLAIN)


# Hosts

LONG = ".".join(["a" * 62] * 4)

GOOD_HOSTS = [
    "localhost",
    "example.com",
    "example.com.",
    "under_score.example",
    "a" * 63,
    LONG,
    "127.0.0.1",
    "::1",
    "fe80::1%eth0",
    "fe80::1%25eth0",
    "bücher.example",
    "xn--bcher-kva.example",
]
BAD_HOSTS = [
    "",
    ".",
    "a..b",
    ".a",
    "a" * 64,
    LONG + ".aa",
    "ü" * 60,
    "a b",
    "a%20b",
    "a\0b",
    "::g",
    "fe80::1%",
    "\u2488com",
    "-ü",
]


@pytest.mark.parametrize("host", GOOD_HOSTS)
def test_valid_hosts_are_accepted(host):
    """A host name, an address, and an address with a zone are valid."""
    check_host(host)


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_invalid_hosts_are_refused(host):
    """An invalid host is a ValueError at the call, and a ConnectError when it is dialled."""
    with pytest.raises(ValueError, match="no such host"):
        check_host(host)
    with pytest.raises(httpx.ConnectError):
        resolve(host, 80, CLOCK, PLAIN, math.inf, Names(unexpected_lookup))


def test_names_are_encoded_as_httpx_encodes_them():
    """A name is encoded by IDNA 2008, which keeps ß."""
    assert encode_host("faß.example") == b"xn--fa-hia.example" == httpx.URL("http://faß.example/").raw_host


# Lookups


def unexpected_lookup(*_args, **_kwargs):
    raise AssertionError("no name is looked up here")


def test_addresses_need_no_lookup():
    """An IP address is used as it is, without a thread, with its port and its zone."""
    names = Names(unexpected_lookup)
    assert resolve("127.0.0.1", 80, CLOCK, PLAIN, math.inf, names) == [
        (V4, socket.SOCK_STREAM, socket.IPPROTO_TCP, ("127.0.0.1", 80))
    ]
    zone = next((name for index, name in socket.if_nameindex()), "lo")
    index = socket.if_nametoindex(zone)
    for host in (f"fe80::1%{zone}", f"fe80::1%25{zone}", f"fe80::1%{index}"):
        [(family, _, _, sockaddr)] = resolve(host, 80, CLOCK, PLAIN, math.inf, names)
        assert family == V6
        assert sockaddr[1:] == (80, 0, index)
    with pytest.raises(httpx.ConnectError, match=r"fe80::1%nosuch:80: "):
        resolve("fe80::1%nosuch", 80, CLOCK, PLAIN, math.inf, names)
    with pytest.raises(httpx.ConnectError, match=r"127.0.0.1:65536: the port"):
        resolve("127.0.0.1", 65536, CLOCK, PLAIN, math.inf, names)


@pytest.mark.parametrize("port", ["", ":8080"])
def test_the_host_header_has_no_zone(port):
    """The zone of an address is the client's, and does not reach the server."""
    url = httpx.URL(f"http://[fe80::1%25eth0]{port}/")
    request = httpx.Request("POST", url, content=b"data", headers={"X-Percent": "100%"})
    route = Route(context=ssl.create_default_context, alpn=[], clock=CLOCK)
    headers = dict(route.headers(Origin.of(url), request.headers.raw))
    assert headers[b"Host"] == f"[fe80::1]{port}".encode()
    assert headers[b"X-Percent"] == b"100%"


class HangingResolver:
    """A getaddrinfo that hangs until it is released; its threads are joined in the end."""

    def __init__(self):
        self.names = Names(self)
        self.calls = []
        self.called = threading.Semaphore(0)
        self.go = threading.Event()
        self.threads = []
        self.answers: list[Exception] = []  # of the first calls

    def __call__(self, name, port, *, type):  # noqa: A002 (as socket.getaddrinfo)
        self.calls.append(name)
        self.threads.append(threading.current_thread())
        self.called.release()
        assert self.go.wait(PATIENCE)
        if self.answers:
            raise self.answers.pop(0)
        if name == b"nosuch.example":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(V4, type, 6, "", ("127.0.0.1", 0)), (V4, type, 6, "", ("127.0.0.1", 0))]

    def resolve(self, host, port=80, control=PLAIN, until=math.inf):
        return resolve(host, port, CLOCK, control, until, self.names)


@pytest.fixture
def hanging() -> Iterator[HangingResolver]:
    hanging = HangingResolver()
    yield hanging
    hanging.go.set()
    for thread in hanging.threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


class Caller(threading.Thread):
    """Calls a function on a thread, and keeps its result or exception."""

    def __init__(self, call: Callable[[], object]) -> None:
        super().__init__()
        self._call = call
        self.outcome: object = None
        self.start()

    def run(self) -> None:
        try:
            self.outcome = self._call()
        except BaseException as error:
            self.outcome = error

    def end(self):
        self.join(PATIENCE)
        assert not self.is_alive()
        return self.outcome


def test_two_callers_of_one_name_share_a_lookup(hanging):
    """Two callers of one name share a thread; each gets its own port, and no address twice."""
    before = descriptors()
    first = Caller(lambda: hanging.resolve("example.com", 80))
    assert hanging.called.acquire(timeout=PATIENCE)
    control = StoppableControl()
    second = Caller(lambda: hanging.resolve("example.com", 443, control))
    assert control.checked.wait(PATIENCE)
    hanging.go.set()
    assert first.end() == [v4("127.0.0.1", 80)]
    assert second.end() == [v4("127.0.0.1", 443)]
    assert hanging.calls == [b"example.com"]
    control.wake.close()
    assert descriptors() <= before


def test_a_caller_that_joins_a_lookup_does_not_take_its_failure(hanging):
    """What made a running lookup fail may be over, so a caller that has joined it has another one done."""
    hanging.answers = [OSError(24, "Too many open files")]
    first = Caller(lambda: hanging.resolve("example.com", 80))
    assert hanging.called.acquire(timeout=PATIENCE)
    control = StoppableControl()
    second = Caller(lambda: hanging.resolve("example.com", 443, control))
    assert control.checked.wait(PATIENCE)
    hanging.go.set()
    assert "Too many open files" in str(first.end())
    assert second.end() == [v4("127.0.0.1", 443)]
    assert hanging.calls == [b"example.com", b"example.com"]
    control.wake.close()


def test_an_unknown_name_is_a_connect_error(hanging):
    """A failed lookup is a ConnectError with the system's message."""
    hanging.go.set()
    with pytest.raises(
        httpx.ConnectError, match=r"nosuch.example:80: \[Errno .*\] Name or service not known"
    ):
        hanging.resolve("nosuch.example")


def test_a_hanging_lookup_ends_with_the_time_limit(hanging):
    """The time limit holds while the resolver hangs; only the resolver's thread remains."""
    before, threads_before = descriptors(), set(threading.enumerate())
    resolver = partial(resolve, names=hanging.names)
    with pytest.raises(httpx.ConnectTimeout, match=r"No connection to example.com:80 for 0.05 s"):
        connect("example.com", 80, clock=CLOCK, control=PLAIN, timeout=0.05, resolver=resolver)
    assert descriptors() <= before
    assert hanging.called.acquire(timeout=PATIENCE)
    assert set(threading.enumerate()) - threads_before <= set(hanging.threads)
    hanging.go.set()  # its result is dropped now
    hanging.threads[0].join(PATIENCE)
    assert hanging.names._lookups == {}


def test_an_abort_ends_the_lookup(hanging):
    """An abort ends the wait for a lookup that hangs."""
    before = descriptors()
    control = StoppableControl()
    resolver = partial(resolve, names=hanging.names)
    caller = Caller(
        lambda: connect("example.com", 80, clock=CLOCK, control=control, timeout=None, resolver=resolver)
    )
    assert hanging.called.acquire(timeout=PATIENCE)
    control.stop()
    assert isinstance(caller.end(), StopError)
    control.wake.close()
    assert descriptors() <= before


def test_at_most_64_lookups_run_at_a_time(hanging):
    """At most 64 names are looked up at a time; a name that no caller waits for any more is skipped."""
    controls = [StoppableControl() for _ in range(LOOKUPS + 2)]
    callers = [
        Caller(partial(hanging.resolve, f"host{number}.example", control=control))
        for number, control in enumerate(controls[:LOOKUPS])
    ]
    for _ in range(LOOKUPS):
        assert hanging.called.acquire(timeout=PATIENCE)
    late = [
        Caller(partial(hanging.resolve, f"late{number}.example", control=control))
        for number, control in enumerate(controls[LOOKUPS:])
    ]
    for control in controls[LOOKUPS:]:
        assert control.checked.wait(PATIENCE)
    controls[LOOKUPS].stop()
    assert isinstance(late[0].end(), StopError)
    hanging.go.set()
    assert late[1].end() == [v4("127.0.0.1", 80)]
    for caller in callers:
        assert caller.end() == [v4("127.0.0.1", 80)]
    assert len(set(hanging.threads)) <= LOOKUPS
    assert b"late0.example" not in hanging.calls
    for control in controls:
        control.wake.close()


def test_a_forked_process_can_look_names_up():
    """A forked process drops the parent's lookups, because their threads do not exist there."""
    names = Names(lambda *_, **__: [(V4, 1, 6, "", ("127.0.0.1", 0))])
    names._threads = LOOKUPS
    names._lock.acquire()
    names.forget()
    assert resolve("example.com", 80, CLOCK, PLAIN, math.inf, names) == [v4("127.0.0.1", 80)]


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of descriptors")
def test_no_free_descriptor_is_a_connect_error():
    """Without a free descriptor, a lookup and a connection are ConnectErrors; later ones succeed."""
    script = """
import math, os, resource, socket
import httpx
from rxupload._wait import SystemClock
from rxupload._wire.control import PLAIN
from rxupload._wire.dial import connect
from rxupload._wire.names import resolve
listener = socket.create_server(("127.0.0.1", 0))
port = listener.getsockname()[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
taken = []
while True:
    try:
        taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        break
for host in ("localhost", "b\\u00fccher.example", "127.0.0.1"):
    try:
        connect(host, port, clock=SystemClock(), control=PLAIN, timeout=5)
    except httpx.ConnectError as error:
        assert "Too many open files" in str(error), error
    else:
        raise AssertionError(host)
for each in taken:
    os.close(each)
connect("localhost", port, clock=SystemClock(), control=PLAIN, timeout=5).close()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


# Real sockets


def dial(*addresses, control=PLAIN, timeout=PATIENCE, **kwargs):
    return connect(
        "host", 80, clock=CLOCK, control=control, timeout=timeout, resolver=gives(*addresses), **kwargs
    )


def local(sock):
    """The address of a listener, as a resolver returns it."""
    return (sock.family, socket.SOCK_STREAM, 0, sock.getsockname())


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        yield listener


@pytest.fixture
def black_hole():
    """An address with a full queue of connections: connecting neither succeeds nor fails."""
    with unanswered_port() as port:
        yield (socket.AF_INET, socket.SOCK_STREAM, 0, ("127.0.0.1", port))


def test_a_connection_is_ready_for_use(listener):
    """A connection is non-blocking, has TCP_NODELAY, and carries bytes."""
    before = descriptors()
    host, port = listener.getsockname()
    with connect(host, port, clock=CLOCK, control=PLAIN, timeout=PATIENCE) as sock:
        assert not sock.getblocking()
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        peer, _ = listener.accept()
        with peer:
            sock.send(b"hello")
            assert peer.recv(5) == b"hello"
    assert descriptors() <= before


def test_localhost_is_found(listener):
    """The system's resolver finds localhost."""
    port = listener.getsockname()[1]
    with connect("localhost", port, clock=CLOCK, control=PLAIN, timeout=PATIENCE) as sock:
        assert sock.getpeername()[:2] == ("127.0.0.1", port)


def test_a_refused_connection_has_the_systems_message():
    """A port without a listener is refused with the system's message."""
    before = descriptors()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(httpx.ConnectError) as raised:
            connect("127.0.0.1", port, clock=CLOCK, control=PLAIN, timeout=PATIENCE)
    assert str(raised.value) == f"127.0.0.1:{port}: Connection refused"
    assert descriptors() <= before


def test_a_black_hole_delays_a_good_address_by_250_ms(black_hole, listener):
    """An address that never answers costs 250 ms, and its attempt is cleaned up. With a fake clock it is no more."""
    before = descriptors()
    began = time.monotonic()
    with dial(black_hole, local(listener)) as sock:
        took = time.monotonic() - began
        assert sock.getpeername() == listener.getsockname()
    assert took > 0.24
    assert descriptors() <= before


def test_a_black_hole_alone_ends_with_the_time_limit(black_hole):
    """An address that never answers ends with the time limit."""
    before = descriptors()
    with pytest.raises(httpx.ConnectTimeout, match=r"No connection to host:80 for 0.1 s"):
        dial(black_hole, timeout=0.1)
    assert descriptors() <= before


def test_an_abort_ends_the_connect(black_hole):
    """An abort from another thread ends an attempt to connect."""
    before, threads_before = descriptors(), set(threading.enumerate())
    control = StoppableControl()
    caller = Caller(lambda: dial(black_hole, control=control, timeout=None))
    assert control.checked.wait(PATIENCE)
    control.stop()
    assert isinstance(caller.end(), StopError)
    control.wake.close()
    assert descriptors() <= before
    assert set(threading.enumerate()) <= threads_before


def test_an_abort_ends_the_wait_between_retries():
    """An abort from another thread ends the wait for the next retry."""
    control = StoppableControl()
    failed = threading.Semaphore(0)

    class Endless(SystemClock):
        """A clock by which no wait ends."""

        @staticmethod
        def wait(until, watched=(), wake=None):
            return SystemClock.wait(math.inf, watched, wake)

    def fail():
        failed.release()
        raise httpx.ConnectError("no")

    caller = Caller(lambda: attempts(20, fail, clock=Endless(), control=control))
    assert failed.acquire(timeout=PATIENCE)
    control.stop()
    assert isinstance(caller.end(), StopError)
    control.wake.close()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere loopback has one address")
def test_the_connection_comes_from_the_local_address(listener):
    """The connection comes from the local address."""
    with dial(local(listener), local_address=None):
        peer, address = listener.accept()
        peer.close()
        assert address[0] == "127.0.0.1"
    host, port = listener.getsockname()
    with connect(host, port, clock=CLOCK, control=PLAIN, timeout=PATIENCE, local_address="127.0.0.2"):
        peer, address = listener.accept()
        peer.close()
        assert address[0] == "127.0.0.2"
    with pytest.raises(httpx.ConnectError, match="Cannot assign requested address"):
        connect(host, port, clock=CLOCK, control=PLAIN, timeout=PATIENCE, local_address="192.0.2.1")


def test_an_ipv6_address_is_dialled():
    """An IPv6 address is dialled, even with an IPv4 address beside it."""
    try:
        listener = socket.create_server(("::1", 0), family=V6)
    except OSError:
        pytest.skip("no IPv6 on this machine")
    with listener:
        port = listener.getsockname()[1]
        with connect("::1", port, clock=CLOCK, control=PLAIN, timeout=PATIENCE) as sock:
            assert sock.getpeername()[:2] == ("::1", port)


def test_an_option_that_the_system_refuses_is_a_connect_error(listener):
    """A socket option that the system refuses is a ConnectError, and no descriptor stays open."""
    before = descriptors()
    with pytest.raises(httpx.ConnectError):
        dial(local(listener), socket_options=[(socket.SOL_SOCKET, 9999, 1)])
    assert descriptors() <= before


# Unix sockets

needs_unix = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets")


@pytest.fixture
def unix(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        path = str(tmp_path / "s")
        listener.bind(path)
        listener.listen(0)
        listener.settimeout(PATIENCE)
        yield path, listener


def fill(path):
    """Fill the listener's queue; return the connections in it."""
    queued = []
    while True:
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)
        if sock.connect_ex(path):
            sock.close()
            return queued
        queued.append(sock)


@needs_unix
def test_a_unix_socket_is_connected(unix):
    """A Unix socket is connected, and is non-blocking."""
    path, _ = unix
    with connect_unix(path, clock=CLOCK, control=PLAIN, timeout=PATIENCE) as sock:
        assert not sock.getblocking()
        assert sock.getpeername() == path


@needs_unix
@pytest.mark.parametrize("path", ["/nonexistent/s", "/" + "s" * 200])
def test_a_missing_unix_socket_is_a_connect_error(path):
    """A missing or invalid Unix socket is a ConnectError."""
    before = descriptors()
    with pytest.raises(httpx.ConnectError, match=path):
        connect_unix(path, clock=CLOCK, control=PLAIN, timeout=PATIENCE)
    assert descriptors() <= before


@needs_unix
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full queue refuses")
def test_a_full_unix_socket_is_tried_again(unix):
    """While the queue is full, it tries again at growing intervals, until a limit, an abort, or success."""
    path, listener = unix
    queued = fill(path)
    before = descriptors()
    clock = SteppedClock()
    with pytest.raises(httpx.ConnectTimeout, match=f"No connection to {path} for 0.5 s"):
        connect_unix(path, clock=clock, control=PLAIN, timeout=0.5)
    assert [round(each, 3) for each in clock.waits[:8]] == [
        0.001,
        0.002,
        0.004,
        0.008,
        0.016,
        0.032,
        0.064,
        0.1,
    ]
    assert sum(clock.waits) == pytest.approx(0.5)

    control = StoppableControl()
    caller = Caller(lambda: connect_unix(path, clock=CLOCK, control=control, timeout=None))
    assert control.checked.wait(PATIENCE)
    control.stop()
    assert isinstance(caller.end(), StopError)
    control.wake.close()
    assert descriptors() <= before

    control = StoppableControl()
    caller = Caller(lambda: connect_unix(path, clock=CLOCK, control=control, timeout=PATIENCE))
    assert control.checked.wait(PATIENCE)
    listener.accept()[0].close()
    caller.end().close()
    control.wake.close()
    for sock in queued:
        sock.close()
