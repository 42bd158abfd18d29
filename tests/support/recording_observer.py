"""Subscribes with a `RecordingObserver`, and checks the order of an upload's items."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
from reactivex import Observable
from reactivex.abc import DisposableBase

from rxupload import Progress
from rxupload.testing import RecordingObserver


def observe(
    source: Observable[Any], on_next: Callable[[Any], None] | None = None, *, scheduler: Any = None
) -> tuple[RecordingObserver[Any], DisposableBase]:
    """Subscribe; return the observer and the subscription."""
    observed: RecordingObserver[Any] = RecordingObserver(on_next)
    return observed, source.subscribe(observed, scheduler=scheduler)


def check_grammar(items: list[Any], *, completed: bool) -> None:
    """Check the order of one subscription's items: section "The contract of one subscription", point 2."""
    responses = [item for item in items if isinstance(item, httpx.Response)]
    assert len(responses) == (1 if completed else 0)
    if completed:
        assert items[-1] is responses[0]
    previous: Progress | None = None
    for item in items[: len(items) - len(responses)]:
        assert isinstance(item, Progress)
        if previous is None or item.attempt != previous.attempt:
            assert item.sent == 0
            assert item.attempt == (1 if previous is None else previous.attempt + 1)
        else:
            assert item.sent > previous.sent
            assert item.total == previous.total
            assert item.total is None or item.sent <= item.total
        previous = item
