"""Holds the checked arguments of `upload()`, which all its subscriptions share."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ._arguments import FollowRedirects, Pause, RateLimit
from ._body import Part, guess_content_type
from ._sources import Owner, Source

if TYPE_CHECKING:
    from ._client import HTTPClient


@dataclass(frozen=True, slots=True)
class PlannedPart:
    """One file part, described by the arguments of `upload()`."""

    name: str
    filename: str
    content_type: str | None
    source: Source

    def open(self, owner: Owner, stack: ExitStack, *, is_next: bool) -> Part:
        """Open the source. Closing the stack closes it."""
        reader = self.source.open(owner, is_next=is_next)
        stack.callback(reader.close)
        return Part(self.name, self.filename, self.content_type or guess_content_type(self.filename), reader)


@dataclass(frozen=True, slots=True, repr=False)  # address, headers and fields may contain secrets
class Plan:
    """The checked arguments of `upload()`."""

    url: str
    parts: Sequence[PlannedPart]
    fields: Sequence[tuple[str, bytes]]
    headers: Sequence[tuple[bytes, bytes]]
    method: str
    timeout: float | None
    progress_interval: float
    follow_redirects: FollowRedirects
    expect_continue: bool
    max_response_size: int | None
    rate_limit: RateLimit
    pause: Pause
    client: HTTPClient | None
