"""`Progress.sent`, compared with the log of a server that reads slowly and steadily.

All is counted in the server's bytes and steps of at least 10 ms, and not in elapsed time: a busy machine slows both
sides down. It may also stop one of them for a while: so a second counts as silence, which is 20 times the interval.
"""

from __future__ import annotations

import sys

import pytest
from reactivex import operators as ops
from support.abort_phases import transport_client
from support.scripted_server import Server
from support.steady_reader import PAUSE, RECEIVE_BUFFER, ReportedProgress, SteadyReader

import rxupload

SIZE = 5_000_000


@pytest.mark.skipif(
    sys.platform != "linux", reason="other systems count, and size their buffers, differently"
)
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_progress_is_what_has_arrived(tls):
    """It is at most 160 KiB ahead of the server, reaches 100 % at most 50 ms early, and never pauses for a second."""
    reader, reports = SteadyReader(), ReportedProgress()
    with Server(reader, tls=tls, receive_buffer=RECEIVE_BUFFER) as server, transport_client() as client:
        up = rxupload.upload(server.url, bytes(SIZE), client=client)
        response = rxupload.run(up.pipe(ops.do_action(reports.add)))
    assert response.status_code == 200
    assert len(reports.counts) > 2
    assert reports.lead(reader) <= 160 * 1024
    steps_to_go = len(reader.counts) - reader.steps_by(reports.end(reader))
    assert steps_to_go * PAUSE <= 0.05
    steps_in_silence = [reader.steps_by(end) - reader.steps_by(begin) for begin, end in reports.gaps()]
    assert max(steps_in_silence) * PAUSE <= 1.0
