"""Finds the addresses of a host. A name is looked up on a thread of its own, so that the caller never hangs."""

from __future__ import annotations

# Python would import this codec for the first name. If that fails because no descriptor is free, Python remembers the
# failure, and every later lookup fails too.
import encodings.idna  # noqa: F401
import ipaddress
import os
import re
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, TypeAlias

import httpx

from rxupload._wait import READ, Clock, Wake

from .control import Control
from .pause import pause

Address: TypeAlias = tuple[int, int, int, Any]  # family, type, protocol, and what socket.connect takes

LOOKUPS = 64  # the most lookups at a time; further names wait

_LABEL, _NAME = 63, 253  # octets, RFC 1035, section 2.3.4
_PORTS = range(0x10000)


def check_host(host: str) -> None:
    """Check a host before anything is sent.

    Args:
        host: A name or an IP address, as in `httpx.URL.host`.

    Raises:
        ValueError: The host is invalid: a label is empty or longer than 63 octets, the whole is longer than 253, or
            IDNA refuses it.
    """
    try:
        encode_host(host)
    except ValueError as error:
        raise ValueError(f"there is no such host: {error}") from None


def encode_host(host: str) -> bytes:
    """Return a host in ASCII. Encode with httpx's IDNA 2008, since Python's own codec has only IDNA 2003.

    Raises:
        ValueError: As in `check_host`. The text does not quote the host: it may be the beginning of a password.
    """
    if ":" in host:
        address = re.sub("%25(?=.)", "%", host, count=1)  # a zone as written in a URL, RFC 6874
        if not _is_ipv6(address):
            raise ValueError("it is not an IPv6 address")
        return address.encode("ascii")
    encoded = host.encode("ascii") if host.isascii() else _idna(host)
    if encoded is None:
        raise ValueError("IDNA refuses it")
    if any(octet <= 0x20 or octet in b"%\x7f" for octet in encoded):  # noqa: PLR2004 (httpx makes %20 of a space)
        raise ValueError("a space, a percent sign or a control character is in it")
    name = encoded.removesuffix(b".")  # the root
    if not all(name.split(b".")):
        raise ValueError("a label is empty")
    if max(map(len, name.split(b"."))) > _LABEL:
        raise ValueError(f"a label is longer than {_LABEL} octets")
    if len(name) > _NAME:
        raise ValueError(f"it is longer than {_NAME} octets")
    return encoded


def _is_ipv6(address: str) -> bool:
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        return False
    return True


def _idna(host: str) -> bytes | None:
    try:
        return httpx.URL(scheme="http", host=host).raw_host
    except httpx.InvalidURL:
        return None


class Lookup:
    """The lookup of one name, shared by any number of callers.

    Attributes:
        is_done: Whether `addresses` or `failure` is set.
    """

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.addresses: Sequence[Any] = ()
        self.failure: BaseException | None = None
        self.is_done = False
        self.wakes: set[Wake] = set()  # the callers'; guarded by the lock of Names


class Names:
    """Looks names up on daemon threads: at most `LOOKUPS` at a time, and never the same name twice at a time.

    Nothing can interrupt `getaddrinfo`. So an aborted caller stops waiting, and the thread drops its result.
    """

    def __init__(self, getaddrinfo: Callable[..., Sequence[Any]] = socket.getaddrinfo) -> None:
        self._getaddrinfo = getaddrinfo
        self.forget()

    def forget(self) -> None:
        """Start afresh. A forked child has none of the threads, and a thread may have held the lock."""
        self._lock = threading.Lock()
        self._lookups: dict[bytes, Lookup] = {}
        self._queue: deque[Lookup] = deque()
        self._threads = 0

    def join(self, name: bytes, wake: Wake) -> tuple[Lookup, bool]:
        """Start a lookup, or join a running one. Return whether it is a new one. `wake` is set when it is done.

        Raises:
            RuntimeError: No thread can be started.
        """
        with self._lock:
            lookup = self._lookups.get(name)
            is_new = lookup is None
            if lookup is None:
                lookup = Lookup(name)
                if self._threads < LOOKUPS:
                    threading.Thread(
                        target=self._run, args=(lookup,), name="rxupload-lookup", daemon=True
                    ).start()
                    self._threads += 1
                else:
                    self._queue.append(lookup)
                self._lookups[name] = lookup
            lookup.wakes.add(wake)
            return lookup, is_new

    def leave(self, lookup: Lookup, wake: Wake) -> None:
        """Stop waiting for a lookup, and drop it if it has not started and nobody else waits."""
        with self._lock:
            lookup.wakes.discard(wake)
            if not lookup.wakes and lookup in self._queue:
                self._queue.remove(lookup)
                del self._lookups[lookup.name]

    def _run(self, lookup: Lookup) -> None:
        following: Lookup | None = lookup
        while following is not None:
            lookup = following
            try:
                lookup.addresses = self._getaddrinfo(lookup.name, None, type=socket.SOCK_STREAM)
            except BaseException as error:  # noqa: BLE001 (the callers wait for any result)
                lookup.failure = error
            with self._lock:
                lookup.is_done = True
                del self._lookups[lookup.name]
                following = self._queue.popleft() if self._queue else None
                self._threads -= following is None
                for wake in lookup.wakes:
                    wake.set()


_NAMES = Names()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_NAMES.forget)


def resolve(
    host: str, port: int, clock: Clock, control: Control, until: float, names: Names = _NAMES
) -> list[Address]:
    """Find the addresses of a host, in the system's order of preference.

    An IP address, with or without a zone, needs no thread.

    Args:
        host: A name or an IP address.
        port: The port to put into each address.
        clock: The time.
        control: The caller; `check` raises to stop.
        until: When to stop waiting, on the clock.
        names: Looks names up.

    Raises:
        httpx.ConnectError: The host has no address, or is invalid.
        httpx.ConnectTimeout: `until` has passed.
    """
    where = f"{host}:{port}"
    if port not in _PORTS:
        raise httpx.ConnectError(f"{where}: the port is above {_PORTS[-1]}")
    try:
        name = encode_host(host)
        found = _literal(name)
    except (OSError, ValueError) as error:
        raise httpx.ConnectError(f"{where}: {error}") from error
    if found is None:
        found = _look_up(name, where, names, clock, control, until)
    addresses = [
        (family, kind, protocol, _with_port(each, port)) for family, kind, protocol, _, each in found
    ]
    return list(dict.fromkeys(addresses))  # a hosts file may list an address twice


def _literal(name: bytes) -> Sequence[Any] | None:
    """Read an IP address; None if it is a name."""
    try:
        return socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        if b":" in name:  # this machine lacks the zone
            raise
        return None


def _look_up(
    name: bytes, where: str, names: Names, clock: Clock, control: Control, until: float
) -> Sequence[Any]:
    is_fresh = False
    with closing(Wake()) as wake:
        while True:
            try:
                wake.fileno()  # fails if no descriptor is free, so do it before starting a thread
                lookup, is_new = names.join(name, wake)
            except (OSError, RuntimeError) as error:
                raise httpx.ConnectError(f"{where}: {error}") from error
            try:
                while not lookup.is_done:
                    if clock.now() >= until:
                        raise httpx.ConnectTimeout(f"{where}: the name was not found in time")
                    pause(clock, control, until, [(wake, READ)])
            finally:
                names.leave(lookup, wake)
            if lookup.failure is None:
                return lookup.addresses
            if is_new or is_fresh:
                raise httpx.ConnectError(f"{where}: {lookup.failure}") from lookup.failure
            # That one began before this caller came, and what made it fail may be over. The next one begins after that.
            is_fresh = True
            wake.clear()


def _with_port(sockaddr: Any, port: int) -> Any:
    return (sockaddr[0], port, *sockaddr[2:])  # IPv6 has a flow and a zone behind the port
