"""Fixtures for several folders."""

from __future__ import annotations

import pytest
from hypothesis import settings
from support.abort_phases import transport_client

# No test depends on the speed of the machine.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.fixture
def client():
    """An httpx client with our transport."""
    with transport_client() as made:
        yield made
