"""How true the progress of each client is: `python tests/benchmarks/progress.py` (Linux).

It needs two more of the clients: `pip install pycurl requests-toolbelt`.

Each sends 20 MB to a server that reads 2.5 MB/s in steady small steps, with a receive buffer of 64 KiB. In the table:

- ahead: bytes by which a client's count was ahead of what the server had read, at worst;
- 100 % early: how long before the server had the last byte it said that every byte has gone;
- gap: the longest time between two of its notices.
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
from support.scripted_server import Connection, authority, client_context
from support.steady_reader import RECEIVE_BUFFER, Notices, SteadyReader

SIZE = 20_000_000
PIECE = 64 * 1024


def read_steadily(connection: Connection, pipe: Pipe) -> None:
    """Read one body, and report its log."""
    reader = SteadyReader()
    reader(connection)
    pipe.send(reader)


# Each client sends a file, and notes what it is told of the progress: by the library, or by the usual recipe.


def with_rxupload(url: str, file: Path, notices: Notices, authority_file: str) -> None:
    with httpx.Client(transport=rxupload.UploadTransport(verify=client_context()), timeout=None) as client:
        rxupload.run(rxupload.upload(url, file, client=client).pipe(ops.do_action(notices.add)))


def pieces(file: Path, notices: Notices) -> Iterator[bytes]:
    """The recipe for clients that take an iterator: what was drawn before has gone."""
    sent = 0
    with file.open("rb") as opened:
        while piece := opened.read(PIECE):
            notices.add(sent)
            yield piece
            sent += len(piece)
    notices.add(sent)


def with_httpx(url: str, file: Path, notices: Notices, authority_file: str) -> None:
    headers = {"Content-Length": str(SIZE)}
    with httpx.Client(verify=client_context(), timeout=None) as client:
        client.post(url, content=pieces(file, notices), headers=headers).raise_for_status()


def with_aiohttp(url: str, file: Path, notices: Notices, authority_file: str) -> None:
    async def body() -> AsyncIterator[bytes]:
        for piece in pieces(file, notices):
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


def with_requests_toolbelt(url: str, file: Path, notices: Notices, authority_file: str) -> None:
    with file.open("rb") as opened:
        encoder = MultipartEncoder({"file": ("file", opened, "application/octet-stream")})
        body = MultipartEncoderMonitor(encoder, lambda monitor: notices.add(monitor.bytes_read))
        headers = {"Content-Type": body.content_type}
        requests.post(url, data=body, headers=headers, verify=authority_file).raise_for_status()


def with_pycurl(url: str, file: Path, notices: Notices, authority_file: str) -> None:
    curl = pycurl.Curl()
    curl.setopt(pycurl.URL, url)
    curl.setopt(pycurl.CAINFO, authority_file)
    curl.setopt(pycurl.HTTPPOST, [("file", (pycurl.FORM_FILE, str(file)))])
    curl.setopt(pycurl.HTTPHEADER, ["Expect:"])  # the server does not answer it
    curl.setopt(pycurl.NOPROGRESS, False)
    curl.setopt(pycurl.XFERINFOFUNCTION, lambda _to_come, _came, _to_go, gone: notices.add(gone))
    curl.perform()
    curl.close()


CLIENTS: dict[str, Callable[[str, Path, Notices, str], None]] = {
    "rxupload": with_rxupload,
    "httpx": with_httpx,
    "aiohttp": with_aiohttp,
    "requests-toolbelt": with_requests_toolbelt,
    "pycurl": with_pycurl,
}


def main() -> None:
    """Print a table."""
    print(f"{'client':20}{'scheme':8}{'ahead, KiB':>12}{'100 % early, ms':>18}{'gap, ms':>10}{'notices':>10}")
    with tempfile.TemporaryDirectory() as directory:
        file, authority_file = Path(directory, "file.bin"), Path(directory, "authority.pem")
        file.write_bytes(bytes(SIZE))
        authority().cert_pem.write_to_path(str(authority_file))
        for name, send in CLIENTS.items():
            for tls in (False, True):
                notices = Notices()
                with server_process(read_steadily, tls=tls, receive_buffer=RECEIVE_BUFFER) as (url, pipe):
                    send(url, file, notices, str(authority_file))
                    reader = pipe.recv()
                early = reader.moments[-1] - notices.end(reader)
                gap = max(end - begin for begin, end in notices.gaps())
                print(
                    f"{name:20}{'https' if tls else 'http':8}{notices.lead(reader) / 1024:12.0f}"
                    f"{early * 1000:18.0f}{gap * 1000:10.0f}{len(notices.counts):10}"
                )


if __name__ == "__main__":
    main()
