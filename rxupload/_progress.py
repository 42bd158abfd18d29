"""Defines the items of one upload: its progress and the response.

They are apart from the events of a batch, because `from rxupload import upload` loads them.
"""

from __future__ import annotations

from dataclasses import dataclass

import httpx


@dataclass(frozen=True, slots=True)
class Progress:
    """How much of the request body has been sent.

    Attributes:
        sent: Bytes of the whole request body, including form fields and part headers. Through `UploadTransport`, and
            so through the default client, they have arrived: the peer's TCP has acknowledged them. Through a plain
            httpx client, the system has taken them.
        total: Bytes of the whole request body; None if a source's size is unknown.
        attempt: The number of the pass over the body, from 1. A redirect (301, 307, 308) or an auth challenge starts
            the next pass, and `sent` starts at 0 again.
        start: Bytes that the server had before this pass, in a resumable upload: `sent` starts there. Otherwise 0.
    """

    sent: int
    total: int | None
    attempt: int = 1
    start: int = 0

    @property
    def fraction(self) -> float | None:
        """`sent` as a share of `total`, 0.0 to 1.0; None while the total is unknown."""
        if self.total is None:
            return None
        return self.sent / self.total if self.total else 1.0

    @property
    def percent(self) -> int | None:
        """`fraction` in whole percent, rounded down, so that 100 means every byte; None while the total is unknown."""
        if self.total is None:
            return None
        return self.sent * 100 // self.total if self.total else 100


UploadEvent = Progress | httpx.Response
