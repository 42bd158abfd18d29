"""A client that the test controls step by step, so that every interleaving can be tested without a wait.

It replaces httpx.Client in `upload(client=...)`.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from rxupload._transfer import EXTENSION, Transfer

PATIENCE = 10.0  # seconds after which a test fails; a test that passes never waits so long


class Exchange:
    """One request of an upload: the test takes its body, and answers it."""

    def __init__(self, request: httpx.Request) -> None:
        self.request = request
        self._steps: queue.SimpleQueue[Callable[[], httpx.Response | None]] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._body: Iterator[bytes] | None = None
        self.ended: queue.SimpleQueue[BaseException | httpx.Response] = queue.SimpleQueue()

    # The test's side

    def take(self) -> bytes | None:
        """Take the next piece of the body; None at its end."""
        return self._do(self._next_piece)

    def take_all(self) -> bytes:
        """Take the rest of the body."""
        return b"".join(iter(self.take, None))

    def begin_again(self) -> None:
        """Start another pass over the body, as a redirect or an auth challenge does."""
        self._body = None

    def respond(self, status: int = 200, **kwargs: Any) -> None:
        """Answer with the arguments of `httpx.Response`."""
        response = httpx.Response(status, request=self.request, **kwargs)
        self._steps.put(lambda: response)

    def fail(self, error: BaseException) -> None:
        """Fail, as a connection does."""

        def step() -> None:
            raise error

        self._steps.put(step)

    def end(self) -> BaseException | httpx.Response:
        """Wait for its end: the response, or the exception that stopped it."""
        return self.ended.get(timeout=PATIENCE)

    def _do(self, action: Callable[[], Any]) -> Any:
        self._steps.put(lambda: self._done.put(action()))
        outcome = self._done.get(timeout=PATIENCE)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    # The worker's side

    def _next_piece(self) -> bytes | None:
        if self._body is None:
            self._body = iter(self.request.stream)
        return next(self._body, None)

    def perform(self) -> httpx.Response:
        transfer: Transfer = self.request.extensions[EXTENSION]

        def wake() -> None:
            self._steps.put(transfer.check)

        try:
            while True:
                transfer.attach(wake)
                response = self._steps.get()()
                if response is not None:
                    self.ended.put(response)
                    return response
        except BaseException as error:
            self.ended.put(error)
            self._done.put(error)  # for a step of the test that will not be done
            raise


class HandCrankedClient:
    """Hands each request to the test, and does what the test says."""

    def __init__(self) -> None:
        self._exchanges: queue.SimpleQueue[Exchange] = queue.SimpleQueue()

    def build_request(
        self, method: str, url: Any, *, content: Any = None, headers: Any = None
    ) -> httpx.Request:
        return httpx.Request(method, url, content=content, headers=headers)

    def send(
        self, request: httpx.Request, *, stream: bool = False, follow_redirects: Any = None
    ) -> httpx.Response:
        exchange = Exchange(request)
        self._exchanges.put(exchange)
        return exchange.perform()

    def next_request(self) -> Exchange:
        """Wait for the next request that an upload sends."""
        return self._exchanges.get(timeout=PATIENCE)

    def no_request(self) -> bool:
        """Whether every sent request has been taken by the test."""
        return self._exchanges.empty()


class ScriptedClient:
    """Answers each request in place with the next function, for schedulers that work in place."""

    def __init__(self, *scripts: Callable[[httpx.Request], httpx.Response]) -> None:
        self._scripts = iter(scripts)
        self.requests = 0

    build_request = HandCrankedClient.build_request

    def send(
        self, request: httpx.Request, *, stream: bool = False, follow_redirects: Any = None
    ) -> httpx.Response:
        self.requests += 1
        return next(self._scripts)(request)


def answer(status: int = 200) -> Callable[[httpx.Request], httpx.Response]:
    """A script that takes the whole body and answers."""

    def script(request: httpx.Request) -> httpx.Response:
        for _ in request.stream:
            pass
        return httpx.Response(status, request=request)

    return script


def refuse(pieces: int = 0) -> Callable[[httpx.Request], httpx.Response]:
    """A script that takes some pieces of the body and then fails."""

    def script(request: httpx.Request) -> httpx.Response:
        body = iter(request.stream)
        for _ in range(pieces):
            next(body)
        raise httpx.ReadError("Connection reset by peer", request=request)

    return script
