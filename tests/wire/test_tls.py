"""TLS over a fake socket: what `send` says of what went."""

from __future__ import annotations

import errno
import ssl

import pytest

from rxupload._wire.tls import SLICE, TLS


class Beneath:
    """Takes so many bytes at each send, then breaks or blocks."""

    def __init__(self, *takes: int | OSError) -> None:
        self.takes = list(takes)

    def send(self, data):
        takes = self.takes.pop(0)
        if isinstance(takes, OSError):
            raise takes
        return min(takes, len(data))


class Plain:
    """Stands where an `ssl.SSLObject` does, and encrypts nothing."""

    def __init__(self, outgoing: ssl.MemoryBIO) -> None:
        self._outgoing = outgoing

    def write(self, data):
        return self._outgoing.write(data)


def make(*takes: int | OSError) -> TLS:
    tls = TLS(Beneath(*takes), ssl.create_default_context(), "localhost")
    tls.object = Plain(tls._outgoing)
    return tls


BROKEN = BrokenPipeError(errno.EPIPE, "Broken pipe")
BLOCKED = BlockingIOError(errno.EAGAIN, "would block")


@pytest.mark.parametrize("takes", [[SLICE], [100], [SLICE, 100]])
def test_a_connection_that_breaks_amid_a_send(takes):
    """A send of which some went says so, and the next one fails: else the request could be sent twice."""
    tls = make(*takes, BROKEN, BROKEN)
    assert tls.send(bytes(3 * SLICE)) > 0
    with pytest.raises(BrokenPipeError):
        tls.send(b"")


def test_a_connection_that_breaks_before_a_send():
    """A send of which nothing went fails, also if records of an earlier one went."""
    with pytest.raises(BrokenPipeError):
        make(BROKEN).send(b"x")
    tls = make(100, BLOCKED, SLICE, BROKEN)
    assert tls.send(bytes(SLICE)) == SLICE
    with pytest.raises(BrokenPipeError):
        tls.send(b"x")


def test_a_send_that_blocks():
    """What is encrypted counts as sent, and what the system has not taken is pending."""
    tls = make(SLICE, 100, BLOCKED, BLOCKED, SLICE)
    assert tls.send(bytes(3 * SLICE)) == 2 * SLICE
    assert tls.pending == SLICE - 100
    with pytest.raises(BlockingIOError):
        tls.send(b"")
    assert tls.send(b"") == 0
    assert tls.pending == 0
