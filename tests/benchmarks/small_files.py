"""Microseconds for each upload of a small file, beside httpx and aiohttp: `python tests/benchmarks/small_files.py`.

The clients alternate with one server in a separate process (POSIX), which reads each body and answers "ok". All of
them open the file for each upload and reuse connections that were open before the clock starts. A ratio says how many
times as fast as the peer: the median of the rounds. The first round is not counted.

The cores are kept awake, so that what is measured is the clients and not how long a sleeping core needs. With
`--asleep` they are not.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import aiohttp
import httpx
from reactivex.scheduler import ImmediateScheduler
from rounds import Times, beside, speed, take_turns

import rxupload

sys.path.insert(0, str(Path(__file__).parent.parent))

from serving import cores_awake, server_process
from support.scripted_server import header

from rxupload.testing import Connection

AT_ONCE = 16
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def answer(connection: Connection, _pipe: object) -> None:
    """Read bodies of known length, and answer each, as cheaply as possible."""
    sock = connection.sock
    sock.settimeout(None)  # a timeout would cost a poll for each recv
    buffer = bytearray(1 << 20)
    while head := sock.recv(1 << 16):
        while (end := head.find(b"\r\n\r\n") + 4) < 4:
            head += sock.recv(1 << 16)
        left = int(header(head[:end], b"content-length") or 0) - (len(head) - end)
        while left > 0:
            left -= sock.recv_into(buffer)
        sock.sendall(ANSWER)


# One at a time


def one_by_one(send: Callable[[Path], int], paths: Sequence[Path]) -> float:
    assert send(paths[0]) == 200
    began = time.perf_counter()
    for path in paths:
        assert send(path) == 200
    return time.perf_counter() - began


def with_httpx(client: httpx.Client, url: str, path: Path) -> int:
    with path.open("rb") as opened:
        return client.post(url, files={"file": opened}).status_code


def with_a_socket(sock: socket.socket, path: Path) -> int:
    """The minimum that the server and the system take."""
    with path.open("rb") as opened:
        body = opened.read()
    sock.sendall(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    return int(sock.recv(4096).split()[1])


# Sixteen at once


def batch_of(url: str, paths: Iterable[Path]) -> rxupload.UploadAll:
    return rxupload.upload_all((rxupload.upload(url, path) for path in paths), concurrency=AT_ONCE)


def batch_on_threads(url: str, paths: Sequence[Path]) -> float:
    batch_of(url, paths[:AT_ONCE]).run()
    began = time.perf_counter()
    summary = batch_of(url, paths).run()
    seconds = time.perf_counter() - began
    assert summary.statuses == {200: len(paths)}
    return seconds


async def batch_awaited(url: str, paths: Sequence[Path]) -> float:
    await batch_of(url, paths[:AT_ONCE])
    began = time.perf_counter()
    summary = await batch_of(url, paths)
    seconds = time.perf_counter() - began
    assert summary.statuses == {200: len(paths)}
    return seconds


async def workers_with_httpx(url: str, paths: Sequence[Path]) -> float:
    async with httpx.AsyncClient() as client:

        async def send(path: Path) -> int:
            with path.open("rb") as opened:
                return (await client.post(url, files={"file": opened})).status_code

        return await by_workers(send, paths)


async def workers_with_aiohttp(url: str, paths: Sequence[Path]) -> float:
    async with aiohttp.ClientSession() as session:

        async def send(path: Path) -> int:
            with path.open("rb") as opened:
                form = aiohttp.FormData()
                form.add_field("file", opened, filename=path.name)
                async with session.post(url, data=form) as response:
                    await response.read()
                    return response.status

        return await by_workers(send, paths)


async def by_workers(send: Callable[[Path], Awaitable[int]], paths: Sequence[Path]) -> float:
    async def work(waiting: Iterable[Path]) -> None:
        for path in waiting:
            assert await send(path) == 200

    await asyncio.gather(*(work([path]) for path in paths[:AT_ONCE]))
    began = time.perf_counter()
    waiting = iter(paths)
    await asyncio.gather(*(work(waiting) for _ in range(AT_ONCE)))
    return time.perf_counter() - began


# The tables


def main() -> None:
    """Print a table for one upload at a time, and one for sixteen at once."""
    parser = argparse.ArgumentParser(description="Compare small uploads with httpx's and aiohttp's.")
    parser.add_argument("--size", type=int, default=4096, help="bytes of each file (%(default)s)")
    parser.add_argument(
        "--files", type=int, default=25, help="for each of the sixteen, and all in turn (%(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=9, help="whose median counts (%(default)s)")
    parser.add_argument("--asleep", action="store_true", help="let the cores sleep while they wait")
    arguments = parser.parse_args()
    with (
        contextlib.nullcontext() if arguments.asleep else cores_awake(),
        tempfile.TemporaryDirectory() as directory,
        server_process(answer, tls=False) as (url, _pipe),
    ):
        paths = [Path(directory, f"{number}.bin") for number in range(AT_ONCE * arguments.files)]
        for path in paths:
            path.write_bytes(bytes(arguments.size))
        compare_one_at_a_time(url, paths, arguments.rounds)
        print()
        compare_sixteen_at_once(url, paths, arguments.rounds)


def compare_one_at_a_time(url: str, paths: Sequence[Path], rounds: int) -> None:
    address = httpx.URL(url)
    with httpx.Client() as client, socket.create_connection((address.host, address.port)) as sock:
        senders: dict[str, Callable[[Path], int]] = {
            "run(ImmediateScheduler())": lambda path: (
                rxupload.upload(url, path).run(ImmediateScheduler()).status_code
            ),
            "run()": lambda path: rxupload.upload(url, path).run().status_code,
            "rxupload.run(...)": lambda path: rxupload.run(rxupload.upload(url, path)).status_code,
            "httpx": partial(with_httpx, client, url),
            "a bare socket": partial(with_a_socket, sock),
        }
        turns = {name: partial(one_by_one, send, paths) for name, send in senders.items()}
        times = take_turns(turns, rounds)
    goals = {"run(ImmediateScheduler())": 1.5, "run()": 1.2, "rxupload.run(...)": 1.2}
    print(f"{'one at a time':28}{'µs each':>8}   {'of httpx':20}")
    for name in times:
        of_httpx = beside(speed(times, name, "httpx"), goals.get(name))
        print(f"{name:28}{microseconds(times, name, paths):8.0f}   {of_httpx:20}")


def compare_sixteen_at_once(url: str, paths: Sequence[Path], rounds: int) -> None:
    turns: dict[str, Callable[[], float]] = {
        "upload_all on threads": lambda: batch_on_threads(url, paths),
        "upload_all on asyncio": lambda: asyncio.run(batch_awaited(url, paths)),
        "httpx, async": lambda: asyncio.run(workers_with_httpx(url, paths)),
        "aiohttp": lambda: asyncio.run(workers_with_aiohttp(url, paths)),
    }
    times = take_turns(turns, rounds)
    goals = {"upload_all on threads": (1.5, 1.0), "upload_all on asyncio": (1.5, None)}
    print(f"{'sixteen at once':28}{'µs each':>8}   {'of httpx':20}{'of aiohttp':20}")
    for name in times:
        httpx_goal, aiohttp_goal = goals.get(name, (None, None))
        of_httpx = beside(speed(times, name, "httpx, async"), httpx_goal)
        of_aiohttp = beside(speed(times, name, "aiohttp"), aiohttp_goal)
        print(f"{name:28}{microseconds(times, name, paths):8.0f}   {of_httpx:20}{of_aiohttp:20}")


def microseconds(times: Times, name: str, paths: Sequence[Path]) -> float:
    """The median of the rounds, for each upload."""
    return statistics.median(times[name]) / len(paths) * 1e6


if __name__ == "__main__":
    main()
