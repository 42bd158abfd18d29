"""Fixtures for several folders."""

from __future__ import annotations

import pytest
from support.abort_phases import transport_client


@pytest.fixture
def client():
    """An httpx client with our transport."""
    with transport_client() as made:
        yield made
