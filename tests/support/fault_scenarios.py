"""Servers that stall, trickle, break off, answer early or send nonsense, and uploads that are aborted at any moment.

A `Scenario` says what the server does and when the abort comes; `scenarios` lets hypothesis choose them. `right_ends`
is the model: how such an upload may end. `play` runs one, and checks its end.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue

import httpx
import pytest
from hypothesis import event
from hypothesis import strategies as st
from reactivex.scheduler import NewThreadScheduler
from support.held_clock import HeldClock
from support.recording_observer import check_grammar
from support.scripted_server import PATIENCE, Server, client_context, header, server_context

from rxupload import Progress, Upload, UploadTransport, upload
from rxupload.testing import Connection, RecordingObserver

SHORT = 0.3  # seconds; a limit that a test reaches
BUFFER = 64 * 1024  # bytes at both ends; small, so that a server that does not read stalls the client soon
LARGE = 1 << 20  # bytes; even half of it exceeds the buffers
SMALL = 1000  # bytes; fits in


@contextlib.contextmanager
def small_client(**timeouts: float | None) -> Iterator[httpx.Client]:
    """A client with small send buffers, and only these time limits."""
    options = [(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)]
    transport = UploadTransport(verify=client_context(), socket_options=options)
    with httpx.Client(transport=transport, timeout=httpx.Timeout(None, **timeouts)) as client:
        yield client


def has_no_active_connections(client: httpx.Client) -> bool:
    """Whether no connection of its transport serves or is being dialled for a request."""
    active, _ = client._transport._pool.counts()
    return not active


# What the server does, and what ends the upload


@dataclass(frozen=True)
class Scenario:
    """One upload, what its server does, and the time limit or the abort that may end it."""

    tls: bool
    reused: bool  # the upload uses a connection that has served another one
    handshake: str
    size: int
    chunked: bool
    at: float | None  # the share of the body after which the server answers; None: after all of it
    gulp: int  # bytes that it reads at a time
    informational: int  # 1xx answers before that
    says: str
    status: int
    cut: int  # bytes of the head that it sends, if that is not complete
    garbage: bytes
    then: str  # what it does with the rest
    limit: str | None
    abort: str | None
    item: int  # the item at which the abort comes, counted from 1, if it comes at an item

    @property
    def is_stuck(self) -> bool:
        """Whether the server leaves more unread than the buffers hold."""
        return self.then == "stops" and self.at is not None and self.size >= LARGE

    @property
    def is_broken_off(self) -> bool:
        """Whether the server ends its side of the connection."""
        return self.then in ("closes", "resets", "half-closes")

    @property
    def tells_status(self) -> bool:
        """Whether the client knows the status."""
        return self.says in ("answer", "part of a body", "drip") or (
            self.says == "part of a head" and self.cut >= len("HTTP/1.1 200")
        )

    def seconds(self, limit: str) -> float | None:
        """This time limit: short if only it can end the upload, otherwise out of reach."""
        if self.limit != limit:
            return None
        return PATIENCE if ends_by_itself(self) else SHORT


HANDSHAKES = ["prompt"] * 5 + ["late", "silent", "half", "garbage", "closes", "resets"]
SPEECHES = ["answer", "nothing", "part of a head", "part of a body", "garbage"]
THEREAFTER = ["reads", "stops", "closes", "resets", "half-closes"]
BEHAVIOURS = [("drip", "stops"), *itertools.product(SPEECHES, THEREAFTER)]
GARBAGE = [
    b"SSH-2.0-OpenSSH\r\n",
    b"220 mail ESMTP\r\n\r\n",
    b"\x15\x03\x01\x00\x02\x02\x46",
    b"HTTP/1.1 abc\r\n\r\n",
]
ABORTS = [
    "before the start",
    "at once",
    "in an item",  # by the observer, on the upload's thread
    "after an item",  # by another thread
    "connected",  # in this and the next two, the server waits until the abort has come
    "head",
    "before it speaks",
    "acted",
    "after the end",
]
HELD = ("connected", "head", "before it speaks")
ENDS = [("each wait", None)] * 6 + [("whole", None)] * 2 + [(None, abort) for abort in ABORTS]


@st.composite
def scenarios(draw: st.DrawFn, says: str, then: str) -> Scenario:
    """A server with this answer and this end, and any end of the upload."""
    tls, reused = draw(st.booleans()), draw(st.booleans())
    limit, abort = draw(st.sampled_from(ENDS))
    return Scenario(
        tls=tls,
        reused=reused,
        handshake=draw(st.sampled_from(HANDSHAKES)) if tls and not reused else "prompt",
        size=draw(st.integers(LARGE, 3 * LARGE) | st.integers(1, SMALL)),
        chunked=draw(st.booleans()),
        at=draw(st.floats(0, 0.5) | st.none()),
        gulp=draw(st.sampled_from([1000, 65536])),
        informational=draw(st.integers(0, 3)),
        says=says,
        status=draw(st.sampled_from([200, 413, 201, 307, 503])),
        cut=draw(st.integers(1, 40)),
        garbage=draw(st.sampled_from(GARBAGE)),
        then=then,
        limit=limit,
        abort=abort,
        item=draw(st.integers(1, 5)),
    )


# The model


def ends_by_itself(scenario: Scenario) -> set[str]:
    """How the upload may end without a time limit and without an abort; empty if it never ends."""
    if scenario.handshake in ("garbage", "closes", "resets"):
        return {"ConnectError"}
    if scenario.handshake in ("silent", "half"):
        return set()
    match scenario.says:
        case "garbage":
            return {"RemoteProtocolError"}
        case "answer" if scenario.status >= 300 or not scenario.is_stuck:
            return {str(scenario.status)}
        case _ if scenario.is_broken_off:
            # Which one depends on whether the client was sending or waiting for the response.
            return {"ReadError", "WriteError"}
    return set()


def ends_by_limits(scenario: Scenario) -> set[str]:
    """How the limits of each wait end an upload that does not end by itself."""
    if scenario.handshake in ("silent", "half"):
        return {"ConnectTimeout"}
    match scenario.says:
        case "drip":
            return set()  # each byte starts another wait
        case "answer":
            return {str(scenario.status)}  # a success is delivered even if the body cannot be finished
        case "nothing" if scenario.is_stuck:
            return {"WriteTimeout"}
        case "part of a head" if scenario.is_stuck and not scenario.tells_status:
            return {"WriteTimeout"}
    return {"ReadTimeout"}


def right_ends(scenario: Scenario, *, was_aborted: bool) -> set[str]:
    """How the upload may end; "silent" is the end of a disposed upload.

    Args:
        scenario: The scenario.
        was_aborted: Whether the moment of its abort came.
    """
    ends = ends_by_itself(scenario)
    if not ends and scenario.limit == "each wait":
        ends = ends_by_limits(scenario)
    elif not ends and scenario.limit == "whole":
        ends = {"UploadTimeout"}
    if not ends:  # it had to be disposed
        return {"silent"}
    if not was_aborted:
        return ends
    if scenario.abort in ("at once", "after an item", "acted"):
        return ends | {"silent"}  # a race: it may have ended before the dispose
    return {"silent"}


# The server's side


class FaultyServer:
    """Plays a scenario's script to its upload, and serves the uploads before and after it."""

    def __init__(self, scenario: Scenario, moments: SimpleQueue[str], done: Callable[[], object]) -> None:
        self.released = threading.Event()  # is set at the step at which the abort comes
        self.over = threading.Event()  # the upload has ended
        self.is_free = threading.Event()  # the upload's connection is closed, or serves the next one
        self.is_free.set()
        self.acted_at = 0.0  # when the server did what ends the upload
        self._scenario = scenario
        self._moments = moments
        self._done = done  # is called when it has done all that it does
        self._uploads = 0
        self._length: int | None = None  # of the body; None if unknown, as for a chunked one
        self._taken = 0
        self._tail = b""

    def __call__(self, connection: Connection) -> None:
        """The script of one connection."""
        with contextlib.suppress(OSError):  # the client's end
            if not self._scenario.reused:
                self._step("connected")
            if self._scenario.tls and not self._shake_hands(connection):
                self._step("acted")
                self._done()
                assert self.over.wait(PATIENCE)
                return
            while head := connection.read_head():
                self._uploads += 1
                if self._uploads <= self._scenario.reused or self.over.is_set():
                    connection.read_body()
                    connection.respond(200)
                    self._step("connected")
                elif not self._play(connection, head):
                    return

    def _step(self, moment: str) -> None:
        self.acted_at = time.monotonic()
        self._moments.put(moment)
        if self._scenario.abort == moment and moment in HELD:
            assert self.released.wait(PATIENCE)

    def _shake_hands(self, connection: Connection) -> bool:
        """Whether the handshake was completed."""
        match "prompt" if self.over.is_set() else self._scenario.handshake:
            case "silent":
                connection.recv(1)
            case "half":
                flight = first_flight(connection.recv())
                connection.send(flight[: len(flight) // 2])
            case "garbage":
                connection.recv()
                connection.send(b"HTTP/1.0 400 Bad Request\r\n\r\n")
            case "closes":
                connection.recv()
                connection.sock.close()
            case "resets":
                connection.recv(1)  # before that, the connect would fail
                connection.reset()
            case handshake:
                if handshake == "late":
                    threading.Event().wait(SHORT / 3)
                connection.start_tls(server_context())
                return True
        return False

    def _play(self, connection: Connection, head: bytes) -> bool:
        """Whether the connection can serve another upload."""
        self.is_free.clear()
        is_sound = False
        try:
            with contextlib.suppress(OSError):
                self._misbehave(connection, head)
            is_sound = self._scenario.says == "answer" and self._scenario.then == "reads" and self._is_whole()
            assert self.over.wait(PATIENCE)
        finally:
            if not is_sound:
                connection.sock.close()
            self.is_free.set()
        return is_sound

    def _misbehave(self, connection: Connection, head: bytes) -> None:
        scenario = self._scenario
        length = header(head, b"content-length")
        self._length = None if length is None else int(length)
        self._step("head")
        self._read(connection, math.inf if scenario.at is None else int(scenario.at * scenario.size))
        self._step("before it speaks")
        connection.send(b"HTTP/1.1 102 Processing\r\n\r\n" * scenario.informational)
        connection.send(speech(scenario))
        self._break_off(connection)
        self._step("acted")
        if scenario.tells_status:
            self._done()  # the client need not send the rest
        if scenario.then in ("reads", "half-closes"):
            self._read(connection, math.inf)
            self.acted_at = time.monotonic()
        self._done()
        while scenario.says == "drip" and not self.over.wait(0.01):
            connection.send(b".")

    def _break_off(self, connection: Connection) -> None:
        match self._scenario.then:
            case "closes":
                connection.sock.close()
            case "resets":
                connection.reset()
            case "half-closes":
                socket.socket.shutdown(connection.sock, socket.SHUT_WR)

    def _read(self, connection: Connection, count: float) -> None:
        """Read this many bytes of the body as on the wire, or what there is."""
        while count > 0 and not self._is_whole():
            data = connection.recv(int(min(count, self._scenario.gulp)))
            if not data:
                raise ConnectionError("the body broke off")
            count -= len(data)
            self._taken += len(data)
            self._tail = (self._tail + data)[-len(LAST_CHUNK) :]

    def _is_whole(self) -> bool:
        return self._tail == LAST_CHUNK if self._length is None else self._taken == self._length


LAST_CHUNK = b"\r\n0\r\n\r\n"  # occurs nowhere else in the body


def speech(scenario: Scenario) -> bytes:
    """What the server sends to the upload, or the start of it."""
    status_line = f"HTTP/1.1 {scenario.status} Status\r\n".encode()
    answer = status_line + b"Content-Length: 6\r\n\r\nanswer"
    return {
        "nothing": b"",
        "garbage": scenario.garbage,
        "part of a head": answer[: scenario.cut],
        "part of a body": answer[:-3],
        "drip": status_line + b"\r\n",
        "answer": answer,
    }[scenario.says]


def first_flight(client_hello: bytes) -> bytes:
    """The first answer of a TLS server."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    incoming.write(client_hello)
    with contextlib.suppress(ssl.SSLWantReadError):
        server_context().wrap_bio(incoming, outgoing, server_side=True).do_handshake()
    return outgoing.read()


# The upload's side


class Run:
    """The upload of a scenario, on a thread that reports its end."""

    def __init__(self, scenario: Scenario, source: Upload, moments: SimpleQueue[str]) -> None:
        self.observed = RecordingObserver(self._on_item)
        self.released = threading.Event()  # is set from the start if the abort comes before it
        self.started_at = time.monotonic()
        self.ended_at = self.disposed_at = math.inf
        self._scenario = scenario
        self._moments = moments
        if scenario.abort in ("before the start", "at once"):
            moments.put(scenario.abort)
        self._subscribed = threading.Event()
        self._subscription = source.subscribe(self.observed, scheduler=NewThreadScheduler(self._make_thread))
        self._subscribed.set()

    def _make_thread(self, target: Callable[[], None]) -> threading.Thread:
        self._thread = threading.Thread(target=self._work, args=(target,), daemon=True)
        return self._thread

    def _work(self, target: Callable[[], None]) -> None:
        if self._scenario.abort == "before the start":
            assert self.released.wait(PATIENCE)
        target()
        self.ended_at = time.monotonic()
        self._moments.put("end")

    def _on_item(self, item: object) -> None:
        if len(self.observed.items) != self._scenario.item:
            return
        if self._scenario.abort == "in an item":
            assert self._subscribed.wait(PATIENCE)
            self.dispose()
        if self._scenario.abort in ("in an item", "after an item"):
            self._moments.put(self._scenario.abort)

    def dispose(self) -> None:
        """Abort the upload."""
        self.disposed_at = min(self.disposed_at, time.monotonic())
        self._subscription.dispose()

    def join(self) -> None:
        """Wait until its thread has ended."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the worker did not end"

    @property
    def notifications(self) -> int:
        """The number of notifications."""
        return len(self.observed.items) + self.observed.ended

    @property
    def outcome(self) -> str:
        """The upload's end, in the model's words."""
        if not self.observed.ended:
            return "silent"
        if self.observed.error is not None:
            return type(self.observed.error).__name__
        return str(self.observed.response.status_code)


def play(scenario: Scenario) -> None:
    """Play a scenario, and check its end.

    The clock of short limits stands still until the server has done all that it does, however slow that is.
    """
    with pytest.MonkeyPatch.context() as monkeypatch:
        clock = HeldClock(monkeypatch)
        if scenario.seconds("each wait") != SHORT:
            clock.release()
        _play(scenario, clock)


def _play(scenario: Scenario, clock: HeldClock) -> None:
    moments: SimpleQueue[str] = SimpleQueue()
    script = FaultyServer(scenario, moments, clock.release)
    limit = scenario.seconds("each wait")
    with Server(script, receive_buffer=BUFFER) as server, small_client() as client:
        url = f"https://localhost:{server.port}/" if scenario.tls else server.url
        if scenario.reused:
            assert upload(url, b"before", client=client).run().status_code == 200
        content = b"x" * scenario.size
        file = (lambda: iter([content])) if scenario.chunked else content
        whole = scenario.seconds("whole")
        client.timeout = httpx.Timeout(None, connect=limit, write=limit, read=limit)
        run = Run(scenario, upload(url, file, client=client, timeout=whole, progress_interval=0), moments)
        was_aborted, most = abort(scenario, run, moments)
        script.released.set()
        run.released.set()
        run.join()
        check_end(scenario, run, script, was_aborted=was_aborted)
        assert run.notifications <= most
        assert has_no_active_connections(client)
        script.over.set()
        assert script.is_free.wait(PATIENCE)
        client.timeout = httpx.Timeout(None)
        assert upload(url, b"after", client=client).run().status_code == 200
    assert not server.errors, server.errors


def abort(scenario: Scenario, run: Run, moments: SimpleQueue[str]) -> tuple[bool, float]:
    """Dispose at the scenario's moment, or if nothing else would end the upload.

    Returns:
        Whether that moment came, and the maximum number of notifications.
    """
    wanted = {scenario.abort, "end"}
    if right_ends(scenario, was_aborted=False) == {"silent"}:
        wanted.add("acted")
    while (moment := moments.get(timeout=PATIENCE)) not in wanted:
        pass
    if moment == "end" and scenario.abort != "after the end":
        return False, math.inf
    run.dispose()
    return moment == scenario.abort, run.notifications + 1  # one more, if its delivery had begun


def check_end(scenario: Scenario, run: Run, script: FaultyServer, *, was_aborted: bool) -> None:
    """Assert that the end was right, and came in time."""
    observed = run.observed
    event(f"{scenario.says}: {run.outcome}")
    assert run.outcome in right_ends(scenario, was_aborted=was_aborted), observed.error
    assert not observed.faults
    has_response = not all(isinstance(item, Progress) for item in observed.items)
    assert has_response <= (run.outcome == "silent" or observed.is_completed)
    check_grammar(observed.items, completed=has_response)
    if was_aborted and scenario.abort == "in an item":
        assert len(observed.items) == scenario.item
    if run.outcome in ("200", "201") and scenario.then in ("reads", "half-closes"):
        assert observed.progress[-1].percent in (100, None)
    causes = {"silent": run.disposed_at, "UploadTimeout": run.started_at + SHORT}
    by_limits = 0 if ends_by_itself(scenario) else 2 * SHORT  # of the send, and then of the response
    assert run.ended_at - causes.get(run.outcome, script.acted_at + by_limits) < PATIENCE / 2
