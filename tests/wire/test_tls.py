"""TLS over a fake socket: how much `send` reports as sent."""

from __future__ import annotations

import errno
import ssl

import pytest

from rxupload._wire.tls import SLICE, TLS


class FakeSocket:
    """Takes this many bytes at each send, then breaks or blocks."""

    def __init__(self, *takes: int | OSError) -> None:
        self.takes = list(takes)

    def send(self, data):
        takes = self.takes.pop(0)
        if isinstance(takes, OSError):
            raise takes
        return min(takes, len(data))


class FakeSSLObject:
    """Replaces an `ssl.SSLObject`, and encrypts nothing."""

    def __init__(self, outgoing: ssl.MemoryBIO) -> None:
        self._outgoing = outgoing

    def write(self, data):
        return self._outgoing.write(data)


def make(*takes: int | OSError) -> TLS:
    tls = TLS(FakeSocket(*takes), ssl.create_default_context(), "localhost")
    tls.object = FakeSSLObject(tls._outgoing)
    return tls


BROKEN = BrokenPipeError(errno.EPIPE, "Broken pipe")
BLOCKED = BlockingIOError(errno.EAGAIN, "would block")


@pytest.mark.parametrize("takes", [[SLICE], [100], [SLICE, 100]])
def test_a_break_during_a_send_is_raised_by_the_next(takes):
    """A partial send returns its count and the next send fails; otherwise the request could be sent twice."""
    tls = make(*takes, BROKEN, BROKEN)
    assert tls.send(bytes(3 * SLICE)) > 0
    with pytest.raises(BrokenPipeError):
        tls.send(b"")


def test_a_break_before_a_send_is_raised():
    """A send of no bytes fails, even if records of an earlier one went."""
    with pytest.raises(BrokenPipeError):
        make(BROKEN).send(b"x")
    tls = make(100, BLOCKED, SLICE, BROKEN)
    assert tls.send(bytes(SLICE)) == SLICE
    with pytest.raises(BrokenPipeError):
        tls.send(b"x")


def test_a_blocked_send_counts_encrypted_bytes():
    """Encrypted bytes count as sent; the part that the system has not taken is pending."""
    tls = make(SLICE, 100, BLOCKED, BLOCKED, SLICE)
    assert tls.send(bytes(3 * SLICE)) == 2 * SLICE
    assert tls.pending == SLICE - 100
    with pytest.raises(BlockingIOError):
        tls.send(b"")
    assert tls.send(b"") == 0
    assert tls.pending == 0
