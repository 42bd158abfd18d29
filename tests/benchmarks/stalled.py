"""What 300 stalled uploads cost: `python tests/benchmarks/stalled.py` (Linux).

A server in a separate process reads the head of each request, and nothing after it. In the table:

- started: from the first subscription until the server has read all heads;
- CPU: of one core, while nothing moves;
- memory: growth of the resident set for each upload, after a warm-up with a few;
- seen: from the first dispose until the server has seen the end of every connection;
- ended: the same, until the threads of the uploads have ended.

httpx posts the same file, each on a thread, through one client; it has no abort. The clients alternate, each time in a
fresh process. All figures are medians of the rounds.

With loopback's segments of 64 KiB the system takes some 2.5 MiB of each upload, and httpx spends most of its start on
copying them. `--segment 1448` is the size on Ethernet.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import resource
import select
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, fields
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import httpx

import rxupload

MIB = 1 << 20
WARM_UP = 5
SETTLE = 1.0  # seconds in which the buffers fill
PATIENCE = 10.0
SEE_ENDS, LET_GO = "see the ends", "let go"  # what the server does with the connections


@dataclass(frozen=True)
class Figures:
    """Seconds, a share of a core, and MiB for each upload; None if not available."""

    started: float
    cpu: float
    memory: float
    ended: float | None = None


GOALS = Figures(started=2.0, cpu=0.1, memory=0.35, ended=0.5)


# The server


@contextlib.contextmanager
def stalling_server(segment: int | None) -> Iterator[tuple[str, Pipe]]:
    """The server's URL, and the pipe through which it gets the number of connections and reports."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    if segment is not None:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment)
    ours, theirs = multiprocessing.get_context("fork").Pipe()
    process = multiprocessing.get_context("fork").Process(target=stall, args=(listener, theirs))
    process.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/", ours
    finally:
        process.terminate()
        process.join()
        listener.close()


def stall(listener: socket.socket, pipe: Pipe) -> None:
    """Report the time at which all heads have been read; on request, also the time at which all ends have been seen."""
    while True:
        held = [listener.accept()[0] for _ in range(pipe.recv())]
        for sock in held:
            read_head(sock)
        pipe.send(time.monotonic())
        if pipe.recv() == SEE_ENDS:
            wait_for_ends(held)
            pipe.send(time.monotonic())
        for sock in held:
            sock.close()


def wait_for_ends(held: list[socket.socket]) -> None:
    poll = select.poll()
    for sock in held:
        poll.register(sock, select.POLLRDHUP)  # a reset is always reported
    left = len(held)
    while left:
        for descriptor, _ in poll.poll():
            poll.unregister(descriptor)
            left -= 1


def read_head(sock: socket.socket) -> None:
    """Read a request's head, and not a byte after it."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        assert byte, "the head broke off"
        head += byte


# The clients: each starts this many uploads, and returns how to abort them


Abort = Callable[[], None]


def with_rxupload(url: str, file: Path) -> Callable[[int], Abort]:
    def start(count: int) -> Abort:
        errors: list[Exception] = []
        subscriptions = [rxupload.upload(url, file).subscribe(on_error=errors.append) for _ in range(count)]

        def abort() -> None:
            assert not errors, errors[0]
            for subscription in subscriptions:
                subscription.dispose()

        return abort

    return start


def with_httpx(url: str, file: Path) -> Callable[[int], None]:
    client = httpx.Client(timeout=None, limits=httpx.Limits(max_connections=None))

    def post() -> None:
        with file.open("rb") as opened, contextlib.suppress(httpx.TransportError):
            client.post(url, files={"file": opened})

    def start(count: int) -> None:
        for _ in range(count):
            threading.Thread(target=post, daemon=True).start()

    return start


CLIENTS: dict[str, Callable[[str, Path], Callable[[int], Abort | None]]] = {
    "rxupload": with_rxupload,
    "httpx": with_httpx,
}


# The figures


class Uploads:
    """Stalled uploads, once the server has read all their heads."""

    def __init__(self, start: Callable[[int], Abort | None], server: Pipe, count: int) -> None:
        self._server = server
        server.send(count)
        began = time.monotonic()
        self._abort = start(count)
        self.started = server.recv() - began

    def abort(self) -> float | None:
        """Abort them; return the seconds until the server had seen all ends.

        Uploads that cannot be aborted end because the server closes their connections; return None for them.
        """
        self._server.send(LET_GO if self._abort is None else SEE_ENDS)
        began = time.monotonic()
        if self._abort is not None:
            self._abort()
        return None if self._abort is None else self._server.recv() - began


def measure(name: str, url: str, file: Path, server: Pipe, results: Pipe, count: int, seconds: float) -> None:
    """Send the figures of one client from a fresh process."""
    allow_descriptors(count)
    start = CLIENTS[name](url, file)
    Uploads(start, server, WARM_UP).abort()
    memory = resident()
    uploads = Uploads(start, server, count)
    time.sleep(SETTLE)
    cpu, moment = time.process_time(), time.monotonic()
    time.sleep(seconds)
    cpu = (time.process_time() - cpu) / (time.monotonic() - moment)
    memory = (resident() - memory) / count
    results.send(Figures(uploads.started, cpu, memory, uploads.abort()))


def allow_descriptors(count: int) -> None:
    """Allow a socket and a file for each upload, and some more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 2 * count + 200)), hard))


def resident() -> float:
    """The process's resident set, in MiB: proc_pid_statm(5)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / MIB


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description="What uploads cost that stand still, beside httpx's on threads."
    )
    parser.add_argument("--uploads", type=int, default=300, help="how many at once (%(default)s)")
    parser.add_argument("--size", type=int, default=64, help="MiB of the file (%(default)s)")
    parser.add_argument("--seconds", type=float, default=5, help="for which they stand still (%(default)s)")
    parser.add_argument("--segment", type=int, help="bytes of a TCP segment; loopback's own if not given")
    parser.add_argument("--rounds", type=int, default=3, help="whose median counts (%(default)s)")
    arguments = parser.parse_args()
    allow_descriptors(arguments.uploads)
    figures: dict[str, list[Figures]] = {name: [] for name in CLIENTS}
    with tempfile.TemporaryDirectory() as directory, stalling_server(arguments.segment) as (url, server):
        file = Path(directory, "sparse.bin")
        with file.open("wb") as opened:
            opened.truncate(arguments.size * MIB)
        for _ in range(arguments.rounds):
            for name, each in figures.items():
                each.append(in_a_fresh_process(name, url, file, server, arguments.uploads, arguments.seconds))
    show(figures)


def in_a_fresh_process(name: str, url: str, file: Path, server: Pipe, count: int, seconds: float) -> Figures:
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=measure, args=(name, url, file, server, theirs, count, seconds))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    finally:
        process.join()


def show(figures: dict[str, list[Figures]]) -> None:
    print(f"{'':12}{'started, s':>12}{'CPU, %':>12}{'memory, MiB':>14}{'ended, s':>12}")
    for name, rounds in figures.items():
        row(name, *(median([getattr(each, field.name) for each in rounds]) for field in fields(Figures)))
    row("goal, at most", *astuple(GOALS))
    ours, theirs = figures.values()
    ratios = (
        statistics.median(
            getattr(own, what) / getattr(peer, what) for own, peer in zip(ours, theirs, strict=True)
        )
        for what in ("started", "memory")
    )
    print("of httpx: started {:.2f}, memory {:.2f}".format(*ratios))


def median(values: list[float | None]) -> float | None:
    return None if None in values else statistics.median(values)


def row(name: str, started: float, cpu: float, memory: float, ended: float | None) -> None:
    end = f"{'-':>12}" if ended is None else f"{ended:12.3f}"
    print(f"{name:14}{started:10.3f}{cpu * 100:12.1f}{memory:14.3f}{end}")


if __name__ == "__main__":
    main()
