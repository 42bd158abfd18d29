"""Fixtures for several folders."""

from __future__ import annotations

import signal

import pytest
from hypothesis import settings
from support.abort_phases import transport_client

# No test depends on the speed of the machine.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

# A shell starts a background job with Ctrl-C ignored, and each process that a test starts would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def client():
    """An httpx client with our transport."""
    with transport_client() as made:
        yield made
