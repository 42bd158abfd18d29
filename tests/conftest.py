"""Fixtures for several folders."""

from __future__ import annotations

import gc
import signal
import sys

import pytest
from hypothesis import settings
from support.abort_phases import transport_client

from rxupload._task import queue
from rxupload._wait import Latch

# No test depends on the speed of the machine.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

# A shell starts a background job with Ctrl-C ignored, and each process that a test starts would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish():
    """Leave what the collection made to no garbage collection: one would stop every thread for half a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def client():
    """An httpx client with our transport."""
    with transport_client() as made:
        yield made


@pytest.fixture(autouse=True)
def no_announcements():
    """What a server has announced is forgotten: a later one may get its port."""
    if "rxupload.resumable.server" in sys.modules:
        sys.modules["rxupload.resumable.server"]._announced.clear()


@pytest.fixture
def caplog(caplog):
    """pytest's own, without the failed tasks of earlier tests, which are logged when they are dropped."""
    queue.uploads._unseen.clear()
    is_idle = Latch()
    queue.uploads.do(is_idle.set)
    is_idle.wait()
    caplog.clear()
    return caplog
