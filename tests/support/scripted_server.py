"""The certificates of the tests' servers, the short form of a `ScriptedServer`, and a port that does not answer."""

from __future__ import annotations

import contextlib
import functools
import select
import socket
import ssl
from collections.abc import Callable, Iterator

import trustme

from rxupload.testing import Connection, Head, ScriptedServer

PATIENCE = 10.0


@functools.cache
def authority() -> trustme.CA:
    """The certificate authority of the tests' servers."""
    return trustme.CA()


@functools.cache
def server_context() -> ssl.SSLContext:
    """The TLS settings of a server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


@functools.cache
def client_context() -> ssl.SSLContext:
    """The TLS settings of a client that trusts those servers."""
    context = ssl.create_default_context()
    authority().configure_trust(context)
    return context


def header(head: bytes, name: bytes) -> bytes | None:
    """The value of a header in a head, both as bytes."""
    value = Head(head).header(name.decode())
    return None if value is None else value.encode("latin-1")


class Server(ScriptedServer):
    """A `ScriptedServer` that has a certificate of its own for `tls=True`."""

    def __init__(
        self,
        *scripts: Callable[[Connection], object] | int,
        tls: bool | ssl.SSLContext = False,
        receive_buffer: int | None = None,
    ) -> None:
        context = (server_context() if tls else None) if isinstance(tls, bool) else tls
        super().__init__(*scripts, tls=context, receive_buffer=receive_buffer)


@contextlib.contextmanager
def unanswered_port() -> Iterator[int]:
    """A port with a full queue of connections: connecting to it neither succeeds nor fails."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        while True:
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
            if not select.select([], [sock], [], 0.2)[1]:
                break
        yield listener.getsockname()[1]
