"""A server in a process of its own, which takes no time from the measured client (POSIX)."""

from __future__ import annotations

import contextlib
import multiprocessing
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


def _serve(script: Script, tls: bool, receive_buffer: int | None, pipe: Pipe) -> None:
    with Server(
        lambda connection: script(connection, pipe), tls=tls, receive_buffer=receive_buffer
    ) as server:
        pipe.send(server.url)
        pipe.recv()
