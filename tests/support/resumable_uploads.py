"""Runs resumable uploads, and checks their responses and lists of items."""

from __future__ import annotations

from typing import Any

from support.recording_observer import observe
from support.scripted_server import PATIENCE

from rxupload import Progress
from rxupload.resumable import Outcome
from rxupload.testing import RecordingObserver


def observed_run(up: Any, seconds: float = PATIENCE) -> RecordingObserver[Any]:
    """Run an upload, check its Progress, raise its error if there is one, and return what was observed."""
    observed, _ = observe(up)
    observed.wait(seconds)
    check_passes(observed.progress)
    if observed.error is not None:
        raise observed.error
    return observed


def run(up: Any, seconds: float = PATIENCE) -> Any:
    """Run an upload, check its Progress, and return its response."""
    return observed_run(up, seconds).response


def outcome_of(response: Any) -> Outcome:
    """What the upload says that it has done."""
    outcome = response.extensions["rxupload"]["resumable"]
    assert isinstance(outcome, Outcome)
    return outcome


def check_passes(items: list[Progress]) -> None:
    """Check that each pass begins at its `start`, that `sent` rises strictly, and that passes are numbered."""
    previous: Progress | None = None
    for item in items:
        if previous is None or item.attempt != previous.attempt:
            assert item.sent == item.start
            assert item.attempt == (1 if previous is None else previous.attempt + 1)
        else:
            assert item.sent > previous.sent
            assert (item.start, item.total) == (previous.start, previous.total)
        previous = item
