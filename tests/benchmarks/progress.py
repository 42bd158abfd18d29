"""The accuracy of each client's progress: `python tests/benchmarks/progress.py` (Linux).

Two of the clients must be installed: `pip install pycurl requests-toolbelt`.

Each sends 20 MB to a server that reads 2.5 MB/s in steady small steps, with a receive buffer of 64 KiB. In the table:

- ahead: the most bytes by which a client's count was ahead of what the server had read;
- 100 % early: the time between the client's report of every byte and the server's last byte;
- gap: the longest time between two reports.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import aiohttp
import httpx
import pycurl
import requests
from reactivex import operators as ops
from requests_toolbelt import MultipartEncoder, MultipartEncoderMonitor

import rxupload

sys.path.insert(0, str(Path(__file__).parent.parent))

from serving import server_process
from support.scripted_server import authority, client_context
from support.steady_reader import RECEIVE_BUFFER, ReportedProgress, SteadyReader

from rxupload.testing import Connection

SIZE = 20_000_000
PIECE = 64 * 1024


def read_steadily(connection: Connection, pipe: Pipe) -> None:
    """Read one body, and report its log."""
    reader = SteadyReader()
    reader(connection)
    pipe.send(reader)


# Each client sends a file, and notes the progress that the library reports, or that the usual recipe gives.


def with_rxupload(url: str, file: Path, reports: ReportedProgress, authority_file: str) -> None:
    with httpx.Client(transport=rxupload.UploadTransport(verify=client_context()), timeout=None) as client:
        rxupload.run(rxupload.upload(url, file, client=client).pipe(ops.do_action(reports.add)))


def pieces(file: Path, reports: ReportedProgress) -> Iterator[bytes]:
    """The recipe for clients that take an iterator: the pieces before this one have been sent."""
    sent = 0
    with file.open("rb") as opened:
        while piece := opened.read(PIECE):
            reports.add(sent)
            yield piece
            sent += len(piece)
    reports.add(sent)


def with_httpx(url: str, file: Path, reports: ReportedProgress, authority_file: str) -> None:
    headers = {"Content-Length": str(SIZE)}
    with httpx.Client(verify=client_context(), timeout=None) as client:
        client.post(url, content=pieces(file, reports), headers=headers).raise_for_status()


def with_aiohttp(url: str, file: Path, reports: ReportedProgress, authority_file: str) -> None:
    async def body() -> AsyncIterator[bytes]:
        for piece in pieces(file, reports):
            yield piece

    async def post() -> None:
        options = {
            "headers": {"Content-Length": str(SIZE)},
            "ssl": client_context(),
            "raise_for_status": True,
        }
        async with aiohttp.ClientSession() as session, session.post(url, data=body(), **options):
            pass

    asyncio.run(post())


def with_requests_toolbelt(url: str, file: Path, reports: ReportedProgress, authority_file: str) -> None:
    with file.open("rb") as opened:
        encoder = MultipartEncoder({"file": ("file", opened, "application/octet-stream")})
        body = MultipartEncoderMonitor(encoder, lambda monitor: reports.add(monitor.bytes_read))
        headers = {"Content-Type": body.content_type}
        requests.post(url, data=body, headers=headers, verify=authority_file).raise_for_status()


def with_pycurl(url: str, file: Path, reports: ReportedProgress, authority_file: str) -> None:
    curl = pycurl.Curl()
    curl.setopt(pycurl.URL, url)
    curl.setopt(pycurl.CAINFO, authority_file)
    curl.setopt(pycurl.HTTPPOST, [("file", (pycurl.FORM_FILE, str(file)))])
    curl.setopt(pycurl.HTTPHEADER, ["Expect:"])  # the server does not answer it
    curl.setopt(pycurl.NOPROGRESS, False)
    curl.setopt(pycurl.XFERINFOFUNCTION, lambda _to_come, _came, _to_go, gone: reports.add(gone))
    curl.perform()
    curl.close()


CLIENTS: dict[str, Callable[[str, Path, ReportedProgress, str], None]] = {
    "rxupload": with_rxupload,
    "httpx": with_httpx,
    "aiohttp": with_aiohttp,
    "requests-toolbelt": with_requests_toolbelt,
    "pycurl": with_pycurl,
}


def main() -> None:
    """Print a table."""
    print(f"{'client':20}{'scheme':8}{'ahead, KiB':>12}{'100 % early, ms':>18}{'gap, ms':>10}{'reports':>10}")
    with tempfile.TemporaryDirectory() as directory:
        file, authority_file = Path(directory, "file.bin"), Path(directory, "authority.pem")
        file.write_bytes(bytes(SIZE))
        authority().cert_pem.write_to_path(str(authority_file))
        for name, send in CLIENTS.items():
            for tls in (False, True):
                reports = ReportedProgress()
                with server_process(read_steadily, tls=tls, receive_buffer=RECEIVE_BUFFER) as (url, pipe):
                    send(url, file, reports, str(authority_file))
                    reader = pipe.recv()
                early = reader.moments[-1] - reports.end(reader)
                gap = max(end - begin for begin, end in reports.gaps())
                print(
                    f"{name:20}{'https' if tls else 'http':8}{reports.lead(reader) / 1024:12.0f}"
                    f"{early * 1000:18.0f}{gap * 1000:10.0f}{len(reports.counts):10}"
                )


if __name__ == "__main__":
    main()
