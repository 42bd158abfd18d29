"""Runs one subscription to an upload: opens the files, sends the request, reads the response, and notifies the end."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import Any, cast

import httpx

from ._arguments import takes_auth
from ._body import Body, Digests, RawBody
from ._charset import settle_charset
from ._client import default_client
from ._content import Content
from ._delivery import Delivery
from ._meter import Meter
from ._plan import Plan
from ._reading import read
from ._redirects import (
    Hop,
    is_of_the_location,
    is_prepared_by,
    is_redirect,
    next_hop,
    next_request,
    prepare,
    wrong_location,
)
from ._signals import is_long
from ._throttle import Throttling
from ._tracebacks import leave_out_inner_frames
from ._transfer import EXTENSION, Abandoned, Disposed, Transfer

_MAX_REDIRECTS = 20  # for a client without `max_redirects`


@is_long
def work(plan: Plan, transfer: Transfer, delivery: Delivery, throttling: Throttling) -> None:
    """Run one upload, from opening the files to the terminal notification. It blocks the calling thread."""
    response: httpx.Response | None = None
    failure: BaseException | None = None
    try:
        transfer.begin()
        throttling.follow()
        transfer.meter = Meter(plan.progress_interval, delivery.next)
        response = _Exchange(plan, transfer).run()
    except BaseException as error:  # noqa: BLE001 - the observer gets any error
        failure = error
        transfer.expire()
    stopped = transfer.settle()
    reason = stopped or failure
    if reason is None:
        try:
            delivery.next(response)
        except BaseException as error:  # noqa: BLE001 - the observer gets its own error back
            reason = error
        else:
            delivery.completed()
    if reason is not None and not isinstance(stopped, Disposed):
        leave_out_inner_frames(reason)
        delivery.error(cast("Exception", reason))
    if isinstance(stopped, Abandoned) or transfer.is_abandoned():
        throttling.dispose()  # the closed loop will never do it
    if threading.current_thread() is threading.main_thread():
        for each in (reason, failure):
            if each is not None and not isinstance(each, Exception):
                raise each  # Ctrl-C during an upload in place: the caller must get it, too


class _Exchange:
    """The requests of one upload: the first one, and one for each redirect."""

    def __init__(self, plan: Plan, transfer: Transfer) -> None:
        self._plan = plan
        self._transfer = transfer
        self._client: Any = plan.client or default_client()
        self._auth: dict[str, Any] = {} if plan.auth is None else {"auth": plan.auth}
        transfer.keep = plan.max_response_size
        transfer.asks_first = plan.expect_continue

    def run(self) -> httpx.Response:
        """Send the request with its body, follow redirects, and return the response with its body read."""
        plan, transfer = self._plan, self._transfer
        with ExitStack() as stack:
            digests = None if plan.digest is None else Digests(plan.digest)
            self._body: Body = plan.body.open(transfer, stack, digests)
            self._content = Content(self._body, transfer)
            stack.callback(self._content.close)
            try:
                response = self._follow(Hop(plan.url, plan.method, plan.headers))
            except BaseException as error:
                _let_go(error, transfer.request)
                raise
            _forget(response.request, *[each.request for each in response.history])
            if digests is not None:
                response.extensions[EXTENSION] = {
                    "algorithm": digests.algorithm,
                    "digests": digests.of_last_pass(is_whole=self._content.is_whole),
                }
            return response

    def _follow(self, hop: Hop) -> httpx.Response:
        follow = self._plan.follow_redirects
        if follow is None:
            follow = bool(getattr(self._client, "follow_redirects", False))
        most = getattr(self._client, "max_redirects", _MAX_REDIRECTS)
        history: list[httpx.Response] = []
        redirects = 0
        while True:
            response = self._send_and_read(hop)
            response.history = [*history, *response.history]
            if not is_redirect(response):
                return response
            if not follow:
                response.next_request = next_request(hop, response)
                return response
            if redirects >= most:
                raise httpx.TooManyRedirects(
                    f"The upload was redirected more than {most} times", request=response.request
                )
            hop = next_hop(hop, response, follow)
            redirects += 1
            response.next_request = None  # as httpx sets it for a followed redirect
            history = [*response.history, response]

    def _send_and_read(self, hop: Hop) -> httpx.Response:
        with ExitStack() as stack:
            response = self._send_without_quotes(hop, stack)
            if self._transfer.asks_first and response.status_code == httpx.codes.EXPECTATION_FAILED:
                stack.close()
                self._transfer.asks_first = False
                response = self._send_without_quotes(hop, stack)
            self._content.end_pass()  # before reading a slow response: a producer may be waiting for room
            read(response, self._transfer, self._plan.max_response_size)
            settle_charset(response)
            return response

    def _send_without_quotes(self, hop: Hop, stack: ExitStack) -> httpx.Response:
        """Send, and replace an error of the client's library that quotes what may be a secret."""
        try:
            return self._send(hop, stack)
        except Exception as error:
            quiet = _without_quotes(error, hop)
            if quiet is error:
                raise
        raise quiet  # here, so that the other error is not its context

    def _send(self, hop: Hop, stack: ExitStack) -> httpx.Response:
        headers = self._headers(hop)
        content = self._content if hop.has_body else None
        is_without_type = hop.has_body and self._body.content_type == ""
        self._transfer.check()
        # A client that adds a token does so in request() and stream(), not in send(). Another origin must not get it.
        is_prepared = _has_stream(self._client) and is_prepared_by(self._client, hop)
        if is_prepared and not (is_without_type and "Content-Type" in self._client.headers):
            timeouts = self._client.timeout.as_dict()
            extensions = {EXTENSION: self._transfer, "timeout": timeouts}
            self._prepare(content, timeouts)
            context = self._client.stream(
                hop.method,
                hop.url,
                content=content,
                headers=headers,
                extensions=extensions,
                follow_redirects=False,
                **self._auth,
            )
            response = stack.enter_context(context)
        else:
            request = self._client.build_request(hop.method, hop.url, content=content, headers=headers)
            if hop.has_body and self._body.length is not None and "Transfer-Encoding" in request.headers:
                del request.headers["Transfer-Encoding"]
            if is_without_type:
                request.headers.pop("Content-Type", None)
            if not hop.is_first:
                prepare(request, hop)
            request.extensions[EXTENSION] = self._transfer
            self._prepare(content, request.extensions.get("timeout", {}))
            auth = self._auth
            if hop.is_elsewhere:
                auth = {"auth": None} if takes_auth(self._client.send) else {}
            self._transfer.request = request
            response = self._client.send(request, stream=True, follow_redirects=False, **auth)
            stack.callback(response.close)
        self._transfer.request = response.request
        return cast("httpx.Response", response)

    def _prepare(self, content: Content | None, timeouts: dict[str, float | None]) -> None:
        self._transfer.content = content
        self._content.timeouts = timeouts
        self._transfer.clamp(timeouts)

    def _headers(self, hop: Hop) -> list[tuple[bytes, bytes]]:
        """Return the caller's headers, with the body's own ones instead of theirs."""
        content_type = self._content_type(hop) if hop.has_body else ""
        about_body = [b"content-length", b"transfer-encoding"]
        if content_type is not None:
            about_body.append(b"content-type")
        headers = [(name, value) for name, value in hop.headers if name.lower() not in about_body]
        if not any(name.lower() == b"accept-encoding" for name, _ in headers) and self._asks_for_too_much():
            # `_reading` decodes these in bounded steps.
            headers.append((b"Accept-Encoding", b"gzip, deflate"))
        if hop.has_body:
            if content_type:
                headers.append((b"Content-Type", content_type.encode()))
            if self._body.length is None:
                headers.append((b"Transfer-Encoding", b"chunked"))
            else:
                headers.append((b"Content-Length", str(self._body.length).encode()))
            if self._transfer.asks_first and self._body.length != 0:  # RFC 9110, section 10.1.1
                headers.append((b"Expect", b"100-continue"))
        return headers

    def _content_type(self, hop: Hop) -> str | None:
        """Return the body's Content-Type; "" for none; None if the caller's header, or the client's, is the one."""
        own = self._body.content_type
        if own is None and isinstance(self._body, RawBody):
            of_client = getattr(self._client, "headers", {})
            if "Content-Type" not in of_client and not any(
                name.lower() == b"content-type" for name, _ in hop.headers
            ):
                return self._body.guessed_type
        return own

    def _asks_for_too_much(self) -> bool:
        """Whether the client accepts more than gzip and deflate, as httpx does if br or zstd is installed."""
        own = getattr(self._client, "headers", {}).get("Accept-Encoding", "*").lower()
        return "*" in own or "br" in own or "zstd" in own


def _without_quotes(error: Exception, hop: Hop) -> Exception:
    if is_of_the_location(error):
        return wrong_location(hop)
    # h11 quotes the header.
    if type(error).__name__ == "LocalProtocolError" and str(error).startswith("Illegal header "):
        kind: Any = type(error)
        return cast("Exception", kind("A header has a character that cannot be sent"))
    return error


def _has_stream(client: Any) -> bool:
    return hasattr(client, "stream") and hasattr(client, "timeout") and hasattr(client, "headers")


def _let_go(error: BaseException, request: Any) -> None:
    """Give the error a request, if it has none, and remove the upload from its requests."""
    try:
        own = getattr(error, "request", None)
    except RuntimeError:  # httpx raises it for an error without a request
        own = None
    if isinstance(error, httpx.RequestError) and own is None and request is not None:
        error.request = request
    _forget(request, own)


def _forget(*requests: Any) -> None:
    """Remove the upload from requests: a response or an error may be kept long after it."""
    for request in requests:
        if request is not None:
            request.extensions.pop(EXTENSION, None)
