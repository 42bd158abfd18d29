"""Sends a protocol's requests to the endpoint and to the upload, and finds the upload's address in a response."""

from __future__ import annotations

import time
from collections.abc import Container, Generator
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

import httpx

from rxupload._body import RawBody
from rxupload._content import Content
from rxupload._errors import RedirectRefused
from rxupload._redirects import Hop, hop_to, location_of
from rxupload._sending import Sender
from rxupload._sources import Piece, Reader
from rxupload._transfer import Transfer

from .parts import Cut
from .places import addresses_of
from .plan import ResumablePlan
from .protocol import Request
from .store import Entry

_KNOWN_SECONDS = 300.0  # how long an announcement is remembered
_MOST_ENDPOINTS = 32

_announced: dict[tuple[str, str], tuple[frozenset[str], float]] = {}


class Server:
    """The server of one upload, as one subscription sees it."""

    def __init__(self, plan: ResumablePlan, transfer: Transfer) -> None:
        self._plan = plan
        self._transfer = transfer
        self._sender = Sender(plan, transfer)
        self._endpoint = plan.endpoint()
        self._features: frozenset[str] | None = None

    def to_endpoint(self, request: Request, cut: Cut | None = None, total: int | None = None) -> Any:
        """Send a request to the endpoint, with the bytes of a part as its body, if any. Return the response."""
        return self._send(self._first(request, cut), request, cut, total)

    def to_upload(self, url: str, request: Request, cut: Cut | None = None, total: int | None = None) -> Any:
        """Send a request to the upload. It has credentials only if that is on the origin of the endpoint."""
        first = self._first(request, cut)
        there = httpx.URL(url)
        hop = hop_to(first, there, method=request.method, has_body=first.has_body, alias=str(self._endpoint))
        return self._send(hop, request, cut, total, self._plan.protocol.own_statuses)

    def discard(self, old: Entry) -> None:
        """End an upload that another one has replaced. It may fail: the server will forget it in time."""
        for url in addresses_of(old):
            try:
                self.to_upload(url, self._plan.protocol.discard(old))
            except Exception:  # noqa: BLE001 - of any client
                self._transfer.check()

    def features(self, question: Request) -> frozenset[str]:
        """Return what the server announces. It is remembered for some minutes, for all uploads to the endpoint.

        An answer that says nothing, such as a 401 or a 503, counts for this subscription: the next one asks again.
        """
        if self._features is not None:
            return self._features
        key = (self._plan.protocol.name, str(self._endpoint))
        known = _announced.get(key)
        if known is not None and time.monotonic() < known[1]:
            return known[0]
        features = self._plan.protocol.features(self.to_endpoint(question))
        self._features = features or frozenset()
        if features is not None:
            while len(_announced) >= _MOST_ENDPOINTS:
                _announced.pop(next(iter(_announced), key), None)
            _announced[key] = (features, time.monotonic() + _KNOWN_SECONDS)
        return self._features

    def named_by(self, response: Any) -> str:
        """Return the upload's address, which the response to its creation has as its Location.

        Raises:
            httpx.RemoteProtocolError: There is none, or an invalid one.
            RedirectRefused: It is http, and the endpoint is https.
        """
        url = location_of(response)
        # The endpoint itself is no upload's address: a DELETE would go to it.
        if (
            url is None
            or url.scheme not in ("http", "https")
            or not url.host
            or _is_same(url, self._endpoint)
        ):
            raise httpx.RemoteProtocolError(
                "The server has created an upload without a valid Location", request=response.request
            )
        if url.scheme == "http" and self._endpoint.scheme == "https":
            raise RedirectRefused(
                "The server names an http address for the upload, and the endpoint is https. Behind a proxy that ends "
                "TLS, the server must know of it: by X-Forwarded-Proto or Forwarded, and by the setting to heed them",
                request=response.request,
            )
        return str(url.copy_with(userinfo=b"", fragment=None))

    def _first(self, request: Request, cut: Cut | None) -> Hop:
        own = {name.lower().encode() for name in request.headers}
        headers = [each for each in self._plan.headers_now() if each[0].lower() not in own]
        headers += [(name.encode(), value.encode()) for name, value in request.headers.items()]
        has_body = cut is not None or request.content is not None
        return Hop(str(self._endpoint), request.method, headers, has_body=has_body)

    def _send(
        self,
        hop: Hop,
        request: Request,
        cut: Cut | None,
        total: int | None,
        own_statuses: Container[int] = (),
    ) -> Any:
        if cut is None and request.content is None:
            return self._sender.send(hop, own_statuses=own_statuses)
        if cut is None:
            assert request.content is not None
            one_pass = partial(_once, request.content)
            reader = _Part("", len(request.content), one_pass, ExitStack())
            body = RawBody(reader, request.content_type, "")
            return self._sender.send(hop, body, request.content, own_statuses)
        offset = cut.part.offset
        reader = _Part("", cut.part.size, cut.pieces, ExitStack())
        body = RawBody(reader, request.content_type, "")
        with closing(Content(body, self._transfer, lambda meter: meter.go_on(total, offset))) as content:
            return self._sender.send(hop, body, content, own_statuses)


class _Part(Reader):
    """A part of a source, which itself checks that it gives as many bytes as it said."""

    def pieces(self) -> Generator[Piece]:
        return self._one_pass()


def _is_same(one: httpx.URL, other: httpx.URL) -> bool:
    return one.copy_with(userinfo=b"", fragment=None) == other.copy_with(userinfo=b"", fragment=None)


def _once(data: bytes) -> Generator[Piece]:
    yield data
