"""How fast a large file leaves, beside `curl -F` and httpx `files=`: `python tests/benchmarks/throughput.py` (POSIX).

The clients take turns, with a new connection every time, against one server in a process of its own that discards what
comes. The file is sparse, so no disk is measured. curl's time is its own `time_total`, without its process's start;
the others' is that of the call, without import and TLS context. The first round is not counted.
"""

from __future__ import annotations

import argparse
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import httpx
from reactivex import operators as ops

import rxupload

sys.path.insert(0, str(Path(__file__).parent.parent))

from serving import server_process
from support.scripted_server import Connection, authority, client_context, header

MIB = 1 << 20


def sink(connection: Connection, _pipe: Pipe) -> None:
    """Discard a body as cheaply as can be, and answer."""
    head = connection.read_head()
    left = int(header(head, b"content-length") or 0) - len(connection._buffered)
    # Linux drops what is truncated without a copy.
    flags = 0 if isinstance(connection.sock, ssl.SSLSocket) else socket.MSG_TRUNC
    buffer = bytearray(MIB)
    while left:
        left -= connection.sock.recv_into(buffer, 0, flags)
    connection.respond()


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


CLIENTS: dict[str, Callable[[str, Path, str], float]] = {
    "rxupload": with_rxupload,
    "curl -F": with_curl,
    "httpx files=": with_httpx,
}


def main() -> None:
    """Print a table for each scheme."""
    parser = argparse.ArgumentParser(description="Compare rxupload's throughput with curl's and httpx's.")
    parser.add_argument("--size", type=int, default=1024, help="MiB (%(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="whose median counts (%(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "sparse.bin")
        with file.open("wb") as opened:
            opened.truncate(arguments.size * MIB)
        certificate = Path(directory, "authority.pem")
        authority().cert_pem.write_to_path(certificate)
        for tls in (False, True):
            compare(tls, file, str(certificate), arguments.rounds)


def compare(tls: bool, file: Path, certificate: str, rounds: int) -> None:
    times: dict[str, list[float]] = {name: [] for name in CLIENTS}
    with server_process(sink, tls=tls) as (url, _pipe):
        for number in range(rounds + 1):
            for name, client in CLIENTS.items():
                seconds = client(url, file, certificate)
                if number > 0:
                    times[name].append(seconds)
    rates = {name: file.stat().st_size / MIB / statistics.median(each) for name, each in times.items()}
    print(
        f"{'https' if tls else 'http':16}{'MiB/s':>8}{'of curl':>10}{'of httpx':>10}   fastest and slowest, s"
    )
    for name, rate in rates.items():
        ratios = f"{rate / rates['curl -F']:10.2f}{rate / rates['httpx files=']:10.2f}"
        print(f"{name:16}{rate:8.0f}{ratios}   {min(times[name]):.2f} to {max(times[name]):.2f}")


if __name__ == "__main__":
    main()
