"""Items, responses and sources for the operators' tests, in virtual time."""

from __future__ import annotations

from typing import Any

import httpx
import reactivex
from reactivex.testing import ReactiveTest, TestScheduler

from rxupload import Progress

on_next, on_error, on_completed = ReactiveTest.on_next, ReactiveTest.on_error, ReactiveTest.on_completed
subscribe = ReactiveTest.subscribe

URL = "http://upload.test/"
REQUEST = httpx.Request("POST", URL)
LOST = httpx.ReadError("Connection reset by peer", request=REQUEST)
P0, P1, P2 = Progress(0, 10), Progress(5, 10), Progress(10, 10)


def response(status: int = 200, **headers: str) -> httpx.Response:
    return httpx.Response(
        status, headers={key.replace("_", "-"): value for key, value in headers.items()}, request=REQUEST
    )


def status_error(status: int, **headers: str) -> httpx.HTTPStatusError:
    return httpx.HTTPStatusError(str(status), request=REQUEST, response=response(status, **headers))


class Attempts:
    """A source with another cold observable for each subscription; the last one is repeated."""

    def __init__(self, scheduler: TestScheduler, *messages: list[Any]) -> None:
        self.colds = [scheduler.create_cold_observable(each) for each in messages]
        self._next = iter(self.colds)
        self.observable = reactivex.defer(lambda _: next(self._next, self.colds[-1]))

    @property
    def subscriptions(self) -> list[Any]:
        return [each for cold in self.colds for each in cold.subscriptions]


def started_at(source: Any) -> list[float]:
    return [each.subscribe for each in source.subscriptions]
