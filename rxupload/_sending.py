"""Sends the requests of one upload through its client, follows redirects, and reads the responses."""

from __future__ import annotations

from collections.abc import Container
from contextlib import ExitStack
from typing import Any, cast

import httpx

from ._arguments import takes_auth
from ._body import Body, RawBody
from ._charset import settle_charset
from ._client import default_client
from ._content import Content
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
from ._transfer import EXTENSION, Transfer

_MAX_REDIRECTS = 20  # for a client without `max_redirects`
_WITH_CONTENT = ("PATCH", "POST", "PUT")


class Sender:
    """Sends the requests of one upload, one after the other."""

    def __init__(self, plan: Plan, transfer: Transfer) -> None:
        self._plan = plan
        self._transfer = transfer
        self._client: Any = plan.client or default_client()
        self._auth: dict[str, Any] = {} if plan.auth is None else {"auth": plan.auth}
        self._body: Body | None = None
        self._content: Content | bytes | None = None
        transfer.keep = plan.max_response_size
        transfer.asks_first = plan.expect_continue

    def send(
        self,
        hop: Hop,
        body: Body | None = None,
        content: Content | bytes | None = None,
        own_statuses: Container[int] = (),
    ) -> httpx.Response:
        """Send a request, follow redirects, and return the response with its body read.

        Args:
            hop: The request.
            body: The body's length and type; None for a request without one.
            content: The same body, to send. Bytes are sent without Progress.
            own_statuses: They are no redirects here, even with a Location.
        """
        self._body, self._content = body, content
        try:
            response = self._follow(hop, own_statuses)
        except BaseException as error:
            _let_go(error, self._transfer.request, hop)
            raise
        responses = [response, *response.history]
        _forget(*[each.request for each in responses])
        if hop.alias is not None:
            for each in responses:
                each.request = _stand_in(each.request, hop)
        return response

    def _follow(self, hop: Hop, own_statuses: Container[int]) -> httpx.Response:
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
            if not follow or response.status_code in own_statuses:
                if hop.alias is None:
                    response.next_request = next_request(hop, response)
                else:  # httpx's own error for the response would quote it, and it is as secret as the address
                    response.next_request = None
                    del response.headers["Location"]
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
            if isinstance(self._content, Content):
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
        body, content = (self._body, self._content) if hop.has_body else (None, None)
        headers = self._headers(hop, body)
        is_without_type = body is not None and body.content_type == ""
        self._transfer.check()
        # A client that adds a token does so in request() and stream(), not in send(). Another origin must not get it.
        is_prepared = _has_stream(self._client) and is_prepared_by(self._client, hop)
        if is_prepared and not (is_without_type and "Content-Type" in self._client.headers):
            timeouts = self._client.timeout.as_dict()
            extensions = {EXTENSION: self._transfer, "timeout": timeouts}
            self._prepare(content, hop.alias, timeouts)
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
            if body is not None and body.length is not None and "Transfer-Encoding" in request.headers:
                del request.headers["Transfer-Encoding"]
            if is_without_type:
                request.headers.pop("Content-Type", None)
            if not hop.is_first:
                prepare(request, hop)
            request.extensions[EXTENSION] = self._transfer
            self._prepare(content, hop.alias, request.extensions.get("timeout", {}))
            auth = self._auth
            if hop.is_elsewhere:
                auth = {"auth": None} if takes_auth(self._client.send) else {}
            self._transfer.request = request if hop.alias is None else _stand_in(request, hop)
            response = self._client.send(request, stream=True, follow_redirects=False, **auth)
            stack.callback(response.close)
        self._transfer.request = response.request if hop.alias is None else _stand_in(response.request, hop)
        return cast("httpx.Response", response)

    def _prepare(
        self, content: Content | bytes | None, alias: str | None, timeouts: dict[str, float | None]
    ) -> None:
        own = content if isinstance(content, Content) else None
        self._transfer.content, self._transfer.alias = own, alias
        if own is not None:
            own.timeouts = timeouts
        self._transfer.clamp(timeouts)

    def _headers(self, hop: Hop, body: Body | None) -> list[tuple[bytes, bytes]]:
        """Return the caller's headers, with the body's own ones instead of theirs."""
        content_type = "" if body is None else self._content_type(hop, body)
        about_body = [b"content-length", b"transfer-encoding"]
        if content_type is not None:
            about_body.append(b"content-type")
        headers = [(name, value) for name, value in hop.headers if name.lower() not in about_body]
        if not any(name.lower() == b"accept-encoding" for name, _ in headers) and self._asks_for_too_much():
            # `_reading` decodes these in bounded steps.
            headers.append((b"Accept-Encoding", b"gzip, deflate"))
        if body is not None:
            if content_type:
                headers.append((b"Content-Type", content_type.encode()))
            if body.length is None:
                headers.append((b"Transfer-Encoding", b"chunked"))
            else:
                headers.append((b"Content-Length", str(body.length).encode()))
            if self._transfer.asks_first and body.length != 0:  # RFC 9110, section 10.1.1
                headers.append((b"Expect", b"100-continue"))
        elif hop.method.upper() in _WITH_CONTENT:  # RFC 9110, section 8.6
            headers.append((b"Content-Length", b"0"))
        return headers

    def _content_type(self, hop: Hop, body: Body) -> str | None:
        """Return the body's Content-Type; "" for none; None if the caller's header, or the client's, is the one."""
        own = body.content_type
        if own is None and isinstance(body, RawBody):
            of_client = getattr(self._client, "headers", {})
            if "Content-Type" not in of_client and not any(
                name.lower() == b"content-type" for name, _ in hop.headers
            ):
                return body.guessed_type
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


def _let_go(error: BaseException, request: Any, hop: Hop) -> None:
    """Give the error a request, if it has none, and remove the upload from its requests."""
    try:
        own = getattr(error, "request", None)
    except RuntimeError:  # httpx raises it for an error without a request
        own = None
    if hop.alias is not None and own is not None:
        own = cast("Any", error).request = _stand_in(own, hop)
    if isinstance(error, httpx.RequestError) and own is None and request is not None:
        error.request = request
    _forget(request, own)


def _stand_in(request: Any, hop: Hop) -> Any:
    """Return a request with the same headers. It names the alias of a hop instead of its address, which is a secret."""
    headers = [each for each in request.headers.raw if each[0].lower() != b"host"]
    return type(request)(request.method, hop.alias, headers=headers)


def _forget(*requests: Any) -> None:
    """Remove the upload from requests: a response or an error may be kept long after it."""
    for request in requests:
        if request is not None:
            request.extensions.pop(EXTENSION, None)
