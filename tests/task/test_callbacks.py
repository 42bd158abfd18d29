"""The queue of callbacks, and the hot Observable with late subscribers."""

from __future__ import annotations

import threading

from reactivex.notification import OnCompleted
from support.recording_observer import observe
from support.scripted_server import PATIENCE

from rxupload._task.callbacks import CallbackQueue, Hot


def test_rule_8_a_late_listener_gets_the_latest_event_before_a_queued_end():
    """A listener that registers while the end is queued gets the latest item before the end."""
    queue = CallbackQueue(None)
    hot: Hot[int] = Hot(queue)
    queue.run(lambda: hot.emit(1))
    go_on = threading.Event()
    queue.post(lambda: go_on.wait(PATIENCE))
    queue.post(lambda: hot.end(OnCompleted()))
    observed, _ = observe(hot)
    go_on.set()
    assert observed.wait().items == [1]
