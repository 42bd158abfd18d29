"""The phases of an upload in which it can be aborted, and the time until its server sees the abort."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

import httpx
from reactivex.abc import DisposableBase
from reactivex.scheduler import NewThreadScheduler
from support.scripted_server import PATIENCE, Server, client_context, server_context, unanswered_port

from rxupload import Upload, UploadTransport, upload
from rxupload.testing import Connection, RecordingObserver

LARGE = bytes(64 << 20)  # more than the system's buffers hold


@dataclass
class Running:
    """An upload on its own thread."""

    observed: RecordingObserver
    subscription: DisposableBase
    threads: list[threading.Thread] = field(default_factory=list)

    def join(self) -> float:
        """Wait for the worker's end; return the time of the monotonic clock."""
        for thread in self.threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "the worker did not end"
        return time.monotonic()


def start(source: Upload) -> Running:
    """Subscribe on a thread that can be joined."""
    threads: list[threading.Thread] = []
    observed = RecordingObserver()
    scheduler = NewThreadScheduler(joinable(threads))
    return Running(observed, source.subscribe(observed, scheduler=scheduler), threads)


def joinable(threads: list[threading.Thread]) -> Callable[[Callable[[], None]], threading.Thread]:
    """A thread factory that adds its threads to the list."""

    def make_thread(target: Callable[[], None]) -> threading.Thread:
        threads.append(threading.Thread(target=target, daemon=True))
        return threads[-1]

    return make_thread


@contextlib.contextmanager
def transport_client(**kwargs: object) -> Iterator[httpx.Client]:
    """A client with an UploadTransport that trusts the tests' servers."""
    with httpx.Client(transport=UploadTransport(verify=client_context()), timeout=None, **kwargs) as client:
        yield client


# Each script puts a mark in `moments` when its phase has come, and then the time at which it saw the end.


def silent_handshake(connection: Connection, moments: SimpleQueue[float]) -> None:
    connection.recv(1)  # the start of the client's hello
    moments.put(0)
    moments.put(connection.wait_for_end())


def stalled_send(connection: Connection, moments: SimpleQueue[float]) -> None:
    connection.read_head()
    connection.read(1)
    moments.put(0)
    moments.put(connection.wait_for_reset())


def no_response(connection: Connection, moments: SimpleQueue[float]) -> None:
    connection.read_request()
    moments.put(0)
    moments.put(connection.wait_for_end())


def endless_response(connection: Connection, moments: SimpleQueue[float]) -> None:
    connection.read_request()
    connection.send(b"HTTP/1.1 200 OK\r\n\r\nand so on")
    moments.put(0)
    moments.put(connection.wait_for_end())


@dataclass(frozen=True)
class Phase:
    """A phase, and the kinds of connection for which it exists."""

    name: str
    script: Callable[[Connection, SimpleQueue[float]], None] | None
    body: bytes
    tls: tuple[bool, ...] = (False, True)
    reused: tuple[bool, ...] = (False, True)


PHASES = [
    Phase("connecting", None, b"x", tls=(False,), reused=(False,)),
    Phase("TLS handshake", silent_handshake, b"x", tls=(True,), reused=(False,)),
    Phase("stalled send", stalled_send, LARGE),
    Phase("waiting for the response", no_response, b"x"),
    Phase("reading the response", endless_response, b"x"),
]
CASES = [(phase, tls, reused) for phase in PHASES for tls in phase.tls for reused in phase.reused]


def abort(phase: Phase, *, tls: bool, reused: bool, **options: Any) -> float:
    """Abort an upload with these options in a phase; return the seconds from the dispose until its server saw the end.

    While connecting, no server sees anything, so the end of the worker counts. Check that no notification follows, that
    the worker ends, and that the next upload through the same client succeeds.
    """
    if phase.script is None:
        return _abort_connecting(options)
    moments: SimpleQueue[float] = SimpleQueue()
    connections = iter(range(1000))
    script = phase.script

    def serve(connection: Connection) -> None:
        if next(connections) > 0:
            if tls and not serve_tls:
                connection.start_tls(server_context())
            connection.serve()
            return
        if reused:
            connection.serve()
        script(connection, moments)

    serve_tls = tls and script is not silent_handshake
    with Server(serve, tls=serve_tls) as server, transport_client() as client:
        url = server.url.replace("http://127.0.0.1", "https://localhost") if tls else server.url
        if reused:
            assert upload(url, b"first", client=client).run().status_code == 200
        running = start(upload(url, phase.body, client=client, progress_interval=0, **options))
        moments.get(timeout=PATIENCE)
        if phase.script is stalled_send:
            _wait_until_blocked(running)
        began = time.monotonic()
        running.subscription.dispose()
        returned = time.monotonic()
        items = list(running.observed.items)
        seen = moments.get(timeout=PATIENCE)
        running.join()
        assert returned - began < PATIENCE / 2, "dispose waited"
        assert len(running.observed.items) <= len(items) + 1
        assert not running.observed.ended
        assert not running.observed.faults
        assert upload(url, b"next", client=client).run().status_code == 200
        assert server.connections == 2
        assert not server.errors
    return seen - began


def _wait_until_blocked(running: Running) -> None:
    """Wait until the worker has filled the buffers: then no Progress comes any more."""
    count = -1
    while count != len(running.observed.items):
        count = len(running.observed.items)
        threading.Event().wait(0.1)  # twice the worker's interval


def _abort_connecting(options: dict[str, Any]) -> float:
    with unanswered_port() as port, transport_client() as client:
        running = start(upload(f"http://127.0.0.1:{port}/", b"x", client=client, **options))
        threading.Event().wait(0.05)  # a connection that is not answered cannot be observed
        began = time.monotonic()
        running.subscription.dispose()
        ended = running.join()
        assert not running.observed.items
    return ended - began
