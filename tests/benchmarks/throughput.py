"""The speed of a large file with observed progress: `python tests/benchmarks/throughput.py` (Linux).

For comparison: `os.sendfile` from a plain blocking socket (same body, http only); `curl -F`; httpx `files=`.

The clients alternate, with a new connection every time, and one server in a separate process discards the bytes. The
file is sparse, so no disk is measured. curl's time is its own `time_total`, without the start of its process; the
others' is the time of the call, without import and TLS context. A ratio says how many times as fast as the peer: the
median of the rounds. The first round is not counted.
"""

from __future__ import annotations

import argparse
import os
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import httpx
from reactivex import operators as ops
from rounds import Times, beside, speed, take_turns

import rxupload

sys.path.insert(0, str(Path(__file__).parent.parent))

from serving import server_process
from support.scripted_server import authority, client_context, header

from rxupload.testing import Connection

MIB = 1 << 20


def sink(connection: Connection, _pipe: Pipe) -> None:
    """Discard a body, and answer."""
    connection.read_head()
    discard(connection)
    connection.respond()


def discard(connection: Connection) -> int:
    """Discard a body as cheaply as possible. Return its size."""
    size = int(header(connection.head, b"content-length") or 0)
    left = size - len(connection._buffered)
    # Linux drops truncated bytes without a copy.
    flags = 0 if isinstance(connection.sock, ssl.SSLSocket) else socket.MSG_TRUNC
    buffer = bytearray(MIB)
    while left:
        left -= connection.sock.recv_into(buffer, 0, flags)
    connection._buffered = b""
    return size


def with_rxupload(url: str, file: Path, _certificate: str) -> float:
    items: list[object] = []
    with httpx.Client(transport=rxupload.UploadTransport(verify=client_context()), timeout=None) as client:
        began = time.perf_counter()
        source = rxupload.upload(url, file, client=client).pipe(ops.do_action(items.append))
        assert rxupload.run(source).status_code == 200
        return time.perf_counter() - began


def with_httpx(url: str, file: Path, _certificate: str) -> float:
    with httpx.Client(verify=client_context(), timeout=None) as client, file.open("rb") as opened:
        began = time.perf_counter()
        assert client.post(url, files={"file": opened}).status_code == 200
        return time.perf_counter() - began


def with_curl(url: str, file: Path, certificate: str) -> float:
    command = ["curl", "--http1.1", "--cacert", certificate, "-H", "Expect:", "-F", f"file=@{file}", url]
    command += ["--silent", "--fail", "--output", "/dev/null", "--write-out", "%{time_total}"]
    return float(subprocess.check_output(command))


def with_sendfile(url: str, file: Path, _certificate: str) -> float:
    target, size = httpx.URL(url), file.stat().st_size
    before = (
        b'--boundary\r\nContent-Disposition: form-data; name="file"; filename="sparse.bin"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n"
    )
    after = b"\r\n--boundary--\r\n"
    head = (
        f"POST / HTTP/1.1\r\nHost: {target.host}:{target.port}\r\n"
        f"Content-Length: {len(before) + size + len(after)}\r\n"
        "Content-Type: multipart/form-data; boundary=boundary\r\n\r\n"
    )
    began = time.perf_counter()
    with file.open("rb") as opened, socket.create_connection((target.host, target.port)) as sock:
        sock.sendall(head.encode() + before)
        sent = 0
        while sent < size:
            sent += os.sendfile(sock.fileno(), opened.fileno(), sent, size - sent)
        sock.sendall(after)
        assert sock.recv(4096).startswith(b"HTTP/1.1 200")
    return time.perf_counter() - began


OURS, SENDFILE, CURL, HTTPX = "rxupload", "os.sendfile", "curl -F", "httpx files="
CLIENTS: dict[str, Callable[[str, Path, str], float]] = {
    OURS: with_rxupload,
    SENDFILE: with_sendfile,
    CURL: with_curl,
    HTTPX: with_httpx,
}
GOALS = {"http": {SENDFILE: 0.9, CURL: 1.1}, "https": {CURL: 1.0}}


def main() -> None:
    """Print a table for each scheme."""
    parser = argparse.ArgumentParser(
        description="Compare rxupload's throughput with sendfile's, curl's, httpx's."
    )
    parser.add_argument("--size", type=int, default=1024, help="MiB (%(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="whose median counts (%(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "sparse.bin")
        with file.open("wb") as opened:
            opened.truncate(arguments.size * MIB)
        certificate = Path(directory, "authority.pem")
        authority().cert_pem.write_to_path(certificate)
        for scheme in GOALS:
            compare(scheme, file, str(certificate), arguments.rounds)


def compare(scheme: str, file: Path, certificate: str, rounds: int) -> None:
    clients = {name: client for name, client in CLIENTS.items() if scheme == "http" or name != SENDFILE}
    with server_process(sink, tls=scheme == "https") as (url, _pipe):
        turns = {name: partial(client, url, file, certificate) for name, client in clients.items()}
        times = take_turns(turns, rounds)
    print(f"{scheme:14}{'MiB/s':>6}   {'of sendfile':18}{'of curl':18}{'of httpx':10}seconds")
    for name, seconds in times.items():
        goals = GOALS[scheme] if name == OURS else {}
        ratios = f"{ratio(times, name, SENDFILE, goals):18}{ratio(times, name, CURL, goals):18}"
        ratios += f"{ratio(times, name, HTTPX, goals):10}"
        rate = file.stat().st_size / MIB / statistics.median(seconds)
        print(f"{name:14}{rate:6.0f}   {ratios}{min(seconds):.2f} to {max(seconds):.2f}")


def ratio(times: Times, name: str, peer: str, goals: dict[str, float]) -> str:
    """How many times as fast as the peer, if that took part, and the goal if there is one."""
    return beside(speed(times, name, peer), goals.get(peer)) if peer in times else "-"


if __name__ == "__main__":
    main()
