"""The queue of callbacks, and the hot Observable that may be joined late."""

from __future__ import annotations

import threading

from reactivex.notification import OnCompleted
from support.recording_observer import observe
from support.scripted_server import PATIENCE

from rxupload._task.callbacks import CallbackQueue, Hot


def test_rule_8_late_while_the_end_is_queued():
    """Whoever joins when the end is on its way, but not yet told, gets the latest item before it."""
    queue = CallbackQueue(None)
    hot: Hot[int] = Hot(queue)
    queue.run(lambda: hot.emit(1))
    go_on = threading.Event()
    queue.post(lambda: go_on.wait(PATIENCE))
    queue.post(lambda: hot.end(OnCompleted()))
    observed, _ = observe(hot)
    go_on.set()
    assert observed.wait().items == [1]
