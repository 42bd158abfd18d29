"""Holds the checked arguments of `upload_resumable()`, which all its subscriptions share."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from rxupload._arguments import HeaderTypes, check_headers
from rxupload._client import default_client
from rxupload._plan import Plan
from rxupload._sources import Source

from .identity import Verify
from .protocol import About, ResumableProtocol
from .store import Key, Store, key_of

BUFFERED = 1024 * 1024  # bytes that a subscription has sent, and of which the server ought to have some

_logger = logging.getLogger("rxupload")


@dataclass(slots=True)
class Trace:
    """How far the last subscription has come.

    Attributes:
        start: Where its last request began.
        reached: Bytes of the file that had arrived, as far as the connection shows.
    """

    start: int = 0
    reached: int = 0

    def compare(self, offset: int) -> None:
        """Warn if the server has nothing of what had arrived: something before it has."""
        count = self.reached - self.start
        if count >= BUFFERED and offset <= self.start:
            _logger.warning(
                "The server has nothing of the %d bytes that the last attempt has sent: its offset is still %d. A "
                "proxy before it may buffer each request as a whole; with a chunk_size, less is lost",
                count,
                offset,
            )
        self.reached = self.start = offset


@dataclass(frozen=True, slots=True, repr=False)  # address, headers and metadata may contain secrets
class ResumablePlan(Plan):
    """The checked arguments of `upload_resumable()`.

    Attributes:
        source: The file.
        about: What the protocol has to know of it. The size is not known yet.
        path: The file's path; None for a source without one.
        own_key: The key of a source without a path.
        fresh_headers: Returns the caller's headers for a request; None: `headers` are for all of them.
        trace: Of the last subscription.
    """

    source: Source
    protocol: ResumableProtocol
    about: About
    store: Store
    verify: Verify
    path: str | None
    own_key: Key | None
    fresh_headers: Callable[[], HeaderTypes] | None
    trace: Trace = field(default_factory=Trace)

    def endpoint(self) -> httpx.URL:
        """Return the address that creates uploads, with the client's base_url before a relative one."""
        url = httpx.URL(self.url)
        if url.is_absolute_url:
            return url
        client: Any = self.client or default_client()
        return httpx.URL(str(client.build_request("POST", self.url).url))

    def key(self) -> Key:
        """Return the key of the upload in the store."""
        if self.own_key is not None:
            return self.own_key
        assert self.path is not None
        return key_of(self.protocol.name, str(self.endpoint()), self.path, self.about.metadata)

    def headers_now(self) -> Sequence[tuple[bytes, bytes]]:
        """Return the caller's headers for the next request.

        Raises:
            TypeError: The caller's function returns what are no headers.
            ValueError: It returns an invalid header.
        """
        return self.headers if self.fresh_headers is None else check_headers(self.fresh_headers())
