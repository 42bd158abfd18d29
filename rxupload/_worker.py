"""One subscription to an upload: open the files, send the request, read the response, tell the end."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, cast

import httpx

from ._body import MultipartBody, Part, guess_content_type
from ._client import HTTPClient, default_client
from ._content import Content
from ._delivery import Delivery
from ._meter import Meter
from ._sources import Source
from ._throttle import Pause, RateLimit, Throttling
from ._transfer import Abandoned, Disposed, Transfer


@dataclass(frozen=True, slots=True)
class PlannedPart:
    """A file of the body, not yet opened."""

    name: str
    filename: str
    content_type: str | None
    source: Source

    def open(self, stack: ExitStack) -> Part:
        reader = self.source.open()
        stack.callback(reader.close)
        return Part(self.name, self.filename, self.content_type or guess_content_type(self.filename), reader)


@dataclass(frozen=True, slots=True)
class Plan:
    """The checked arguments of `upload()`."""

    url: str
    parts: Sequence[PlannedPart]
    fields: Sequence[tuple[str, bytes]]
    headers: Sequence[tuple[bytes, bytes]]
    method: str
    timeout: float | None
    progress_interval: float
    follow_redirects: bool | None
    expect_continue: bool
    rate_limit: RateLimit
    pause: Pause
    client: HTTPClient | None


def work(plan: Plan, transfer: Transfer, delivery: Delivery, throttling: Throttling) -> None:
    """One upload, from opening the files to the terminal notification, on a thread that it may block."""
    response: httpx.Response | None = None
    failure: BaseException | None = None
    try:
        with transfer.bound():
            throttling.follow()
            response = _exchange(plan, transfer, Meter(plan.progress_interval, delivery.next))
    except BaseException as error:  # noqa: BLE001 - the observer's, whatever it is
        failure = error
        transfer.expire()
    stopped = transfer.settle()
    reason = stopped or failure
    if reason is None:
        try:
            delivery.next(response)
        except BaseException as error:  # noqa: BLE001 - the observer's own
            reason = error
        else:
            delivery.completed()
    if reason is not None and not isinstance(stopped, Disposed):
        delivery.error(cast("Exception", reason))
    if isinstance(stopped, Abandoned) or transfer.is_abandoned():
        throttling.dispose()  # for the loop does not come to it
    if threading.current_thread() is threading.main_thread():
        for each in (reason, failure):
            if each is not None and not isinstance(each, Exception):
                raise each  # Ctrl-C, where the upload runs in place: it is not the observer's alone


def _exchange(plan: Plan, transfer: Transfer, meter: Meter) -> httpx.Response:
    """Send the request with its body, and read the response whole."""
    client = plan.client or default_client()
    with ExitStack() as stack:
        body = MultipartBody(plan.fields, [part.open(stack) for part in plan.parts])
        content = Content(body, transfer, meter)
        stack.callback(content.close)
        request = client.build_request(plan.method, plan.url, content=content, headers=plan.headers)
        _describe_body(request.headers, body)
        transfer.request = request
        content.timeouts = request.extensions.get("timeout", {})
        transfer.clamp(content.timeouts)
        if plan.expect_continue:
            request.headers["Expect"] = "100-continue"
            transfer.expects_continue = True
        transfer.check()
        follow: dict[str, Any] = {}
        if plan.follow_redirects is not None:
            follow["follow_redirects"] = plan.follow_redirects
        response: httpx.Response = client.send(request, stream=True, **follow)
        stack.callback(response.close)
        if plan.expect_continue and response.status_code == httpx.codes.EXPECTATION_FAILED:
            response.close()
            transfer.expects_continue = False
            del request.headers["Expect"]
            response = client.send(request, stream=True, **follow)
            stack.callback(response.close)
        content.close()  # before a slow response: an early one leaves a source that waits to be read on
        chunks = []
        for chunk in response.iter_bytes():
            transfer.check()
            chunks.append(chunk)
        response._content = b"".join(chunks)  # noqa: SLF001 - as read() does, which could not be stopped between
        return response


def _describe_body(headers: httpx.Headers, body: MultipartBody) -> None:
    """Set the headers of the body, over whatever the caller or the client's defaults say of it."""
    headers.pop("Transfer-Encoding", None)
    headers.pop("Content-Length", None)
    headers["Content-Type"] = body.content_type
    if body.length is None:
        headers["Transfer-Encoding"] = "chunked"
    else:
        headers["Content-Length"] = str(body.length)
