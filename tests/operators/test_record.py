"""`record`, in virtual time and with real uploads."""

from __future__ import annotations

import httpx
import pytest
from reactivex.testing import TestScheduler
from support.hand_cranked_client import refuse
from support.operator_sources import URL, on_completed, on_error, on_next, response

import rxupload
from rxupload import (
    BatchProgress,
    BatchSummary,
    ItemDone,
    ItemFailed,
    ItemProgress,
    Progress,
    upload,
    upload_all,
)
from rxupload.operators import raise_for_status, record, retry_backoff, throughput
from rxupload.testing import HandCrankedClient

KEYS = ["seconds", "event", "index", "sent", "total", "attempt", "start", "status", "error"]


def short(rows: list[dict]) -> list[dict]:
    """The rows without their time, and without what does not apply."""
    return [
        {key: value for key, value in row.items() if value is not None and key != "seconds"} for row in rows
    ]


def test_each_event_of_an_upload_is_a_row():
    """Progress, the response and their times are rows; every item passes unchanged."""
    scheduler = TestScheduler()
    last = response(201)
    events = [
        on_next(210, Progress(0, 10)),
        on_next(215, Progress(10, 10, attempt=2, start=4)),
        on_next(218, last),
        on_completed(219),
    ]
    rows: list[dict] = []
    results = scheduler.start(lambda: scheduler.create_hot_observable(*events).pipe(record(rows)))
    assert results.messages == events
    assert [list(row) for row in rows] == [KEYS] * 3
    assert [row["seconds"] for row in rows] == [10, 15, 18]
    assert short(rows) == [
        {"event": "progress", "sent": 0, "total": 10, "attempt": 1, "start": 0},
        {"event": "progress", "sent": 10, "total": 10, "attempt": 2, "start": 4},
        {"event": "response", "status": 201},
    ]


def test_an_error_is_a_row():
    """An error is a row with its type and text, and with the status of its response."""
    scheduler = TestScheduler()
    rows: list[dict] = []
    source = scheduler.create_hot_observable(on_error(211, httpx.ReadTimeout("No response for 5 s")))
    results = scheduler.start(lambda: source.pipe(record(rows)))
    assert results.messages[-1].value.kind == "E"
    assert short(rows) == [{"event": "error", "error": "ReadTimeout: No response for 5 s"}]


def test_attempts_share_their_zero():
    """Before retry_backoff, each attempt is recorded, and the seconds count from the first subscription."""
    client = HandCrankedClient(refuse(), 503, 200)
    rows: list[dict] = []
    up = upload(URL, b"data", client=client)
    pipeline = up.pipe(raise_for_status(), record(rows), retry_backoff(wait_initial=0.001, wait_jitter=0))
    assert rxupload.run(pipeline).status_code == 200
    ends = [row for row in short(rows) if row["event"] != "progress"]
    assert [(end["event"], end.get("status")) for end in ends] == [
        ("error", None),
        ("error", 503),
        ("response", 200),
    ]
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds)
    assert len({id(row) for row in rows}) == len(rows)


def test_a_throughput_is_its_progress():
    """After throughput, the rows are those of the Progress."""
    rows: list[dict] = []
    up = upload(URL, b"data", client=HandCrankedClient(200))
    rxupload.run(up.pipe(throughput(), record(rows)))
    assert [row["event"] for row in rows] == ["progress", "progress", "response"]
    assert rows[1]["sent"] == rows[1]["total"]


def test_a_batch():
    """Events of a batch have the index of their upload; those of the whole have none."""
    client = HandCrankedClient(200, refuse())
    rows: list[dict] = []
    uploads = [upload(URL, b"data", client=client) for _ in range(2)]
    summary = rxupload.run(upload_all(uploads, concurrency=1).pipe(record(rows)))
    assert (summary.done, summary.failed) == (1, 1)
    by_event = {
        event: [row for row in short(rows) if row["event"] == event]
        for event in ("progress", "response", "error", "batch", "summary")
    }
    assert by_event["response"] == [{"event": "response", "index": 0, "status": 200}]
    assert [row["index"] for row in by_event["error"]] == [1]
    assert by_event["error"][0]["error"].startswith("ReadError: ")
    assert by_event["batch"][-1]["sent"] == by_event["summary"][0]["sent"] == summary.sent
    assert {row["index"] for row in by_event["progress"]} <= {0, 1}


@pytest.mark.parametrize("item", ["text", None, 5, {"status_code": "200"}])
def test_other_items_pass_without_a_row(item):
    """An item of another kind passes, and makes no row."""
    scheduler = TestScheduler()
    rows: list[dict] = []
    source = scheduler.create_hot_observable(on_next(210, item))
    results = scheduler.start(lambda: source.pipe(record(rows)))
    assert results.messages == [on_next(210, item)]
    assert rows == []


def test_every_kind_of_event_has_its_row():
    """No kind of event of `rxupload` is left out."""
    up = upload(URL, b"data")
    error = httpx.ConnectError("refused")
    events = [
        Progress(1, 2),
        httpx.Response(200),
        ItemProgress(0, up, Progress(1, 2)),
        ItemDone(0, up, httpx.Response(200)),
        ItemFailed(0, up, error),
        BatchProgress(1, 0, 1, 5, None),
        BatchSummary(1, 0, {}, [], 5, 1.0),
    ]
    scheduler = TestScheduler()
    rows: list[dict] = []
    source = scheduler.create_hot_observable(*(on_next(210 + n, event) for n, event in enumerate(events)))
    scheduler.start(lambda: source.pipe(record(rows)))
    kinds = ["progress", "response", "progress", "response", "error", "batch", "summary"]
    assert [row["event"] for row in rows] == kinds


def test_rows_must_take_rows():
    """What cannot be appended to is refused at the call."""
    with pytest.raises(TypeError, match="rows: expected a list, got dict"):
        record({})
