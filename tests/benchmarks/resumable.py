"""A large file in one PATCH beside `upload(raw=True)`: `python tests/benchmarks/resumable.py` (Linux).

Both send the same sparse file to one server in a process of its own, which discards the bytes, and take turns with new
connections. A resumable upload asks the server to create it first, stores its address in a FileStore, and watches the
file. The time is that of the call, with all requests. A ratio says how many times as fast as `upload`: the median of
the rounds. The first round is not counted.

Memory is by how much the process grew at most during an upload, the median of the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from functools import partial
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

from reactivex import operators as ops
from rounds import beside, speed, take_turns

import rxupload
from rxupload.resumable import FileStore, upload_resumable

sys.path.insert(0, str(Path(__file__).parent.parent))

from serving import server_process
from support.scripted_server import client_context
from throughput import MIB, discard

from rxupload.testing import Connection

RAW, RESUMABLE = "upload(raw=True)", "upload_resumable"
GOAL = 0.95


def serve(connection: Connection, _pipe: Pipe) -> None:
    """Create an upload for a POST without content, and discard the content of each other request."""
    while head := connection.read_head():
        if head.header("Upload-Length"):
            connection.respond(201, b"", "Location: /files/1")
        else:
            size = discard(connection)
            connection.respond(200, b"", f"Upload-Offset: {size}")


def measured(source: rxupload.Upload, growth: list[int]) -> float:
    """The seconds of an upload with observed progress. Adds by how many bytes the process grew."""
    items: list[object] = []
    before = peak(begins_anew=True)
    began = time.perf_counter()
    assert rxupload.run(source.pipe(ops.do_action(items.append))).status_code == 200
    seconds = time.perf_counter() - began
    growth.append(peak() - before)
    return seconds


def peak(*, begins_anew: bool = False) -> int:
    """The most bytes of memory that this process has had since its start, or since it began anew (proc(5))."""
    if begins_anew:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def with_upload(url: str, file: Path, growth: list[int]) -> float:
    with rxupload.Client(verify=client_context()) as client:
        return measured(rxupload.upload(url, file, raw=True, client=client), growth)


def with_upload_resumable(url: str, file: Path, growth: list[int]) -> float:
    with tempfile.TemporaryDirectory() as state, rxupload.Client(verify=client_context()) as client:
        source = upload_resumable(f"{url}files", file, store=FileStore(state), client=client)
        return measured(source, growth)


def main() -> None:
    """Print a table for each scheme."""
    parser = argparse.ArgumentParser(description="Compare a resumable upload with a plain one.")
    parser.add_argument("--size", type=int, default=1024, help="MiB (%(default)s)")
    parser.add_argument("--rounds", type=int, default=21, help="whose median counts (%(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "sparse.bin")
        with file.open("wb") as opened:
            opened.truncate(arguments.size * MIB)
        for scheme in ("http", "https"):
            compare(scheme, file, arguments.rounds)


def compare(scheme: str, file: Path, rounds: int) -> None:
    clients = {RAW: with_upload, RESUMABLE: with_upload_resumable}
    growth: dict[str, list[int]] = {name: [] for name in clients}
    with server_process(serve, tls=scheme == "https") as (url, _pipe):
        turns = {name: partial(client, url, file, growth[name]) for name, client in clients.items()}
        times = take_turns(turns, rounds)
    print(f"{scheme:18}{'MiB/s':>6}   {'of upload':18}{'MiB of memory':16}seconds")
    for name, seconds in times.items():
        ratio = beside(speed(times, name, RAW), GOAL if name == RESUMABLE else None)
        rate = file.stat().st_size / MIB / statistics.median(seconds)
        memory = statistics.median(growth[name]) / MIB
        print(f"{name:18}{rate:6.0f}   {ratio:18}{memory:<16.1f}{min(seconds):.3f} to {max(seconds):.3f}")


if __name__ == "__main__":
    main()
