"""What the benchmarks run beside the measured client: a server in a process of its own, and awake cores (POSIX)."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection as Pipe

from support.scripted_server import Server, server_context

from rxupload.testing import Connection

Script = Callable[[Connection, Pipe], object]


@contextlib.contextmanager
def server_process(
    script: Script, *, tls: bool, receive_buffer: int | None = None
) -> Iterator[tuple[str, Pipe]]:
    """The server's URL, and the pipe through which its script reports."""
    server_context()  # made before the fork, so that the client trusts the same authority
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe()
    process = fork.Process(target=_serve, args=(script, tls, receive_buffer, theirs))
    process.start()
    try:
        yield ours.recv(), ours
    finally:
        ours.send("the end")
        process.join()


@contextlib.contextmanager
def cores_awake() -> Iterator[None]:
    """Keep the cores from sleeping, by processes that run only where nothing else does (Linux).

    On a virtual machine it may take 50 microseconds to wake a core, which is no client's time. Elsewhere this does
    nothing.
    """
    fork = multiprocessing.get_context("fork")
    cores = os.sched_getaffinity(0) if hasattr(os, "SCHED_IDLE") else ()
    processes = [fork.Process(target=_stay_awake, args=(core, os.getpid()), daemon=True) for core in cores]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _stay_awake(core: int, parent: int) -> None:
    os.sched_setaffinity(0, {core})
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    while os.getppid() == parent:
        for _ in range(100_000):
            pass


def _serve(script: Script, tls: bool, receive_buffer: int | None, pipe: Pipe) -> None:
    with Server(
        lambda connection: script(connection, pipe), tls=tls, receive_buffer=receive_buffer
    ) as server:
        pipe.send(server.url)
        pipe.recv()
