"""The operators together, and the module's public names."""

from __future__ import annotations

import io

import pytest
from support.operator_sources import (
    URL,
)

from rxupload import operators, upload
from rxupload.operators import (
    progress_bar,
    raise_for_status,
    retry_backoff,
    throughput,
)
from rxupload.testing import HandCrankedClient, RecordingObserver


def test_public_names():
    """The module's public names are exactly those in its `__all__`."""
    assert sorted(operators.__all__) == operators.__all__
    own = {
        name
        for name, value in vars(operators).items()
        if not name.startswith("_") and getattr(value, "__module__", "").startswith(operators.__name__)
    }
    assert own == set(operators.__all__)


def test_operators_compose():
    """The operators compose: the last item is the response after the retries."""
    up = upload(URL, bytes(1 << 20), client=HandCrankedClient(503, 201))
    observed = RecordingObserver()
    up.pipe(
        retry_backoff(wait_initial=0, wait_jitter=0),
        progress_bar(file=io.StringIO()),
        throughput(),
        raise_for_status(),
    ).subscribe(observed)
    assert observed.wait().response.status_code == 201
    attempts = [item.progress.attempt for item in observed.items[:-1]]
    assert attempts == sorted(attempts)
    assert set(attempts) == {1, 2}


@pytest.mark.parametrize("name", [name for name in operators.__all__ if name.islower()])
def test_an_operator_without_its_parentheses_is_an_error(name):
    """`pipe(name)` instead of `pipe(name())` says what to write."""
    with pytest.raises(TypeError, match=rf"^{name} makes the operator; call it: pipe\({name}\(\)\), and not"):
        upload(URL, b"x").pipe(getattr(operators, name))
