"""What tests of resumable uploads look at in a response and in a list of items."""

from __future__ import annotations

from typing import Any

from rxupload import Progress
from rxupload.resumable import Outcome


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
