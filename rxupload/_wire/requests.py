"""Sends a request on a connection of the pool, or on a new one if the server has closed that while it was idle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import httpx

from rxupload._wait import Clock

from .control import Control
from .exchange import Exchange
from .hearing import Stale
from .pool import Pool
from .request import Framing, Piece, Units, head_of
from .response import Head
from .route import Origin, Route


class Response:
    """A response with its head. Iterating over it reads the body.

    It holds the connection until `close`, which any thread may call, and more than once.
    """

    def __init__(self, head: Head, exchange: Exchange, pool: Pool) -> None:
        self.head = head
        self.connection = exchange.connection
        self.after = exchange.parser.after
        self._exchange = exchange
        self._pool = pool
        self._is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self._exchange.body()

    def close(self) -> None:
        """Return the connection to the pool if the response was read to its end; otherwise close it."""
        if not self._is_closed:
            self._is_closed = True
            give_back(self._exchange, self._pool)


def give_back(exchange: Exchange, pool: Pool) -> None:
    """Detach the connection of an exchange, and return it to the pool or close it."""
    exchange.detach()
    if exchange.leaves_it_usable:
        pool.keep(exchange.connection)
    else:
        pool.drop(exchange.connection, reset=exchange.ends_with_reset)


def send(
    origin: Origin,
    method: bytes,
    target: bytes,
    headers: Sequence[tuple[bytes, bytes]],
    pieces: Callable[[], Iterable[Piece]],
    *,
    route: Route,
    pool: Pool,
    control: Control,
    clock: Clock,
    timeouts: Mapping[str, float | None],
    sni_hostname: str | None = None,
) -> Response:
    """Send a request, and return its response with the head.

    Args:
        origin: The server.
        method: The request method.
        target: The request's target.
        headers: The request's headers, including those that delimit its body.
        pieces: Begins a pass over the body. Called once there is a connection.
        route: Reaches the origin.
        pool: Keeps the connections.
        control: The caller.
        clock: The time.
        timeouts: Seconds for `connect`, `read`, `write` and `pool`; None for no limit.
        sni_hostname: The name to check the server's certificate for, if not the host.

    Raises:
        httpx.TransportError: See `Exchange.send`, `Exchange.receive_head` and `Route.dial`.
    """
    framing = Framing.of(headers)
    head = head_of(method, target, headers)

    def acquire(*, is_new: bool) -> Exchange:
        connection = pool.acquire(
            route.key(origin, sni_hostname),
            lambda: route.dial(origin, control=control, timeouts=timeouts, sni_hostname=sni_hostname),
            control=control,
            timeout=timeouts.get("pool"),
            is_new=is_new,
        )
        try:
            if connection.speaks_http2:
                from .http2 import Http2Exchange, headers_of  # noqa: PLC0415 - an optional extra

                return Http2Exchange(
                    connection,
                    method.decode(),
                    headers_of(origin.scheme, method, target, headers),
                    control=control,
                    clock=clock,
                    timeouts=timeouts,
                )
            return Exchange(
                connection,
                method.decode(),
                control=control,
                clock=clock,
                timeouts=timeouts,
                is_last=framing.is_last or method == b"CONNECT",  # CONNECT turns the connection into a tunnel
            )
        except BaseException:
            pool.drop(connection)
            raise

    exchange = acquire(is_new=False)
    try:
        is_framed = not exchange.connection.speaks_http2
        is_head_alone = control.asks_first or control.is_held_back or not is_framed
        units = iter(Units(head, pieces(), framing, clock, is_head_alone=is_head_alone, is_framed=is_framed))
        first = next(units)
        while True:
            try:
                exchange.send(first, units)
                break
            except Stale:
                give_back(exchange, pool)
                exchange = acquire(is_new=True)
                if exchange.connection.speaks_http2 is is_framed:
                    raise httpx.RemoteProtocolError(
                        "The server speaks another version of HTTP than before"
                    ) from None
        return Response(exchange.receive_head(), exchange, pool)
    except BaseException:
        give_back(exchange, pool)
        raise
