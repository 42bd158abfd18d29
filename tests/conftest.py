"""Fixtures that several folders share."""

from __future__ import annotations

import pytest
from support.abort_phases import transport_client


@pytest.fixture
def client():
    """An httpx client whose transport is ours."""
    with transport_client() as made:
        yield made
