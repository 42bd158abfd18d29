"""What those who watch a resumed upload get: a batch's sums, a bar and rows, over real sockets."""

from __future__ import annotations

import io

import httpx
import pytest
from reactivex import operators as ops
from support.tus_server import broken_after, tus_server

import rxupload
from rxupload import BatchProgress, BatchSummary, upload_all
from rxupload.operators import progress_bar, record
from rxupload.resumable import upload_resumable

START = 1 << 20  # bytes that the server has before


@pytest.fixture
def server():
    """A server at which the first PATCH breaks when START bytes have arrived."""
    with tus_server() as (tus, running):
        tus.then("PATCH", broken_after(START))
        yield running


@pytest.fixture
def resumed(server, file, store):
    """An upload that goes on at START."""
    up = upload_resumable(f"{server.url}files", file, store=store, progress_interval=0)
    with pytest.raises(httpx.NetworkError):
        up.run()
    return up


def test_the_sums_of_a_batch_have_what_is_sent_now(resumed, server, file, store, content):
    """What the server had before is neither in the total nor in what is sent, from the first byte on."""
    fresh = upload_resumable(f"{server.url}files", file, store=store, metadata={"copy": "2"})
    sums: list[BatchProgress] = []
    batch = upload_all([resumed, fresh], concurrency=1)
    note = ops.do_action(lambda event: sums.append(event) if isinstance(event, BatchProgress) else None)
    summary = rxupload.run(batch.pipe(note))
    assert isinstance(summary, BatchSummary)
    whole = 2 * len(content)
    assert {each.total for each in sums if each.sent} == {whole - START}
    assert sums[-1].sent == sums[-1].total == summary.sent == whole - START
    sent = [each.sent for each in sums]
    assert sent == sorted(sent)


def test_a_bar_says_both(resumed):
    """In a terminal, the bar begins with what was there, says how much that was, and ends with the whole."""
    drawn = io.StringIO()
    rxupload.run(resumed.pipe(progress_bar(file=drawn, ascii=True, mininterval=0)))
    shown = [each.strip() for each in drawn.getvalue().replace("\n", "\r").split("\r") if each.strip()]
    assert shown[0].startswith("33%|###3      | 1.05M/3.15M [")
    assert shown[-1].startswith("100%|##########| 3.15M/3.15M [")
    assert all(each.endswith("1.05MB before]") for each in shown)


def test_each_row_has_the_start(resumed, content):
    """A row of `record` has the bytes that were there before: the first row has sent none."""
    rows: list[dict] = []
    rxupload.run(resumed.pipe(record(rows)))
    *progress, response = rows
    assert {row["start"] for row in progress} == {START}
    assert progress[0]["sent"] == START
    assert progress[-1]["sent"] == len(content)
    assert (response["status"], response["start"]) == (204, None)
