"""How fast a large file leaves, beside `curl -F` and httpx `files=`: `python tests/benchmarks/throughput.py`.

The clients take turns, each with a new connection every time, against one server in a process of its own that discards what comes. The
file is sparse and read once before, so that no disk is measured. curl's time is its own `time_total`, which leaves out
the start of its process; the other clients' is that of the call, their import and TLS context left out.
"""

from __future__ import annotations

import argparse
import socket
import ssl
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import httpx
from servers import Connection, authority, client_context, header
from serving import server_process

import rxupload

MIB = 1 << 20


def sink(connection: Connection, _pipe: Pipe) -> None:
    """Discard a body as cheaply as can be, and answer."""
    head = connection.read_head()
    length = int(header(head, b"content-length") or 0)
    left = length - len(connection._buffered)
    plain = not isinstance(connection.sock, ssl.SSLSocket)
    buffer = bytearray(MIB)
    while left:
        # Linux drops what is truncated without a copy.
        left -= connection.sock.recv_into(buffer, 0, socket.MSG_TRUNC if plain else 0)
    connection.respond()


def with_rxupload(url: str, file: Path, _certificate: str) -> float:
    items = 0

    def count(_item: object) -> None:
        nonlocal items
        items += 1

    with httpx.Client(transport=rxupload.UploadTransport(verify=client_context()), timeout=None) as client:
        began = time.perf_counter()
        up = rxupload.upload(url, file, client=client)
        import reactivex.operators as ops

        assert rxupload.run(up.pipe(ops.do_action(count))).status_code == 200
        return time.perf_counter() - began


def with_httpx(url: str, file: Path, _certificate: str) -> float:
    with httpx.Client(verify=client_context(), timeout=None) as client, file.open("rb") as opened:
        began = time.perf_counter()
        assert client.post(url, files={"file": opened}).status_code == 200
        return time.perf_counter() - began


def with_curl(url: str, file: Path, certificate: str) -> float:
    command = ["curl", "--http1.1", "--cacert", certificate, "-H", "Expect:", "-F", f"file=@{file}", url]
    command += ["--fail", "-o", "/dev/null", "-w", "%{time_total}"]
    return float(
        subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    )


CLIENTS: dict[str, Callable[[str, Path, str], float]] = {
    "rxupload": with_rxupload,
    "curl -F": with_curl,
    "httpx files=": with_httpx,
}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=1024, help="MiB")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "sparse.bin")
        with file.open("wb") as opened:
            opened.truncate(arguments.size * MIB)
        certificate = Path(directory, "authority.pem")
        authority().cert_pem.write_to_path(certificate)
        for tls in (False, True):
            measure(tls, file, str(certificate), arguments)


def measure(tls, file, certificate, arguments):
    times: dict[str, list[float]] = {name: [] for name in CLIENTS}
    with server_process(sink, tls=tls) as (url, _pipe):
        for round_ in range(arguments.rounds + 1):
            for name, client in CLIENTS.items():
                seconds = client(url, file, certificate)
                if round_ > 0:
                    times[name].append(seconds)
    rates = {name: arguments.size / statistics.median(t) for name, t in times.items()}
    for name, rate in rates.items():
        print(
            "https" if tls else "http ",
            f"{name:14}{rate:8.0f} MiB/s  {rate / rates['curl -F']:.2f} of curl {rate / rates['httpx files=']:.2f} of httpx ",
            f"{min(times[name]):.3f}..{max(times[name]):.3f} s",
        )


if __name__ == "__main__":
    main()
