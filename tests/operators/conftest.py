"""Fixtures for the operators' tests."""

from __future__ import annotations

import random

import pytest


@pytest.fixture
def no_jitter(monkeypatch):
    monkeypatch.setattr(random, "uniform", lambda low, high: low)
