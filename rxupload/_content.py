"""The body as a client iterates it: once for each pass, counted, and stopped at the next piece."""

from __future__ import annotations

from collections.abc import Generator, Iterator

from ._body import MultipartBody
from ._meter import Meter
from ._transfer import Transfer


class Content:
    """The body as a client iterates it: once for each pass, counted, and stopped at the next piece.

    It has no `read` and no length, so httpx takes its pieces as they are and can iterate it again.
    """

    def __init__(self, body: MultipartBody, transfer: Transfer, meter: Meter) -> None:
        self._body = body
        self._transfer = transfer
        self._meter = meter
        self._pass: Generator[bytes] | None = None
        self.timeouts: dict[str, float | None] = {}

    def __iter__(self) -> Iterator[bytes]:
        self.close()
        self._pass = self._one_pass()
        return self._pass

    def _one_pass(self) -> Generator[bytes]:
        yield from self._transfer.metered(self._body, self._meter, self._body.length)
        self._transfer.clamp(self.timeouts)  # again, for the wait for the response

    def close(self) -> None:
        """Close the generators of a pass that broke off, and the caller's own among them."""
        if self._pass is not None:
            self._pass.close()
