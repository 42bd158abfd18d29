"""`Outcome` tells what a resumable upload has done, beside its response."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rxupload._transfer import EXTENSION


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one subscription to a resumable upload has done: `response.extensions["rxupload"]["resumable"]`.

    Attributes:
        url: The upload's own address; None if there is none. Who knows it may write to the upload, so no repr shows it.
        resumed_at: Bytes that the server had when the subscription went on; 0 for a new upload.
        sent_now: Bytes that the subscription has sent. Bytes that it had to send twice count twice.
    """

    url: str | None = field(repr=False)
    resumed_at: int
    sent_now: int


def conclude(response: Any, outcome: Outcome) -> Any:
    """Add the outcome to a response, and return it."""
    response.extensions.setdefault(EXTENSION, {})["resumable"] = outcome
    return response
