"""Threads that are used again: how many, for how long, and what they hold."""

from __future__ import annotations

import threading
import weakref

import pytest
from support.scripted_server import PATIENCE

from rxupload import _threads
from rxupload._threads import MOST_IDLE, Threads


@pytest.fixture
def threads():
    made = Threads("test")
    yield made
    made.retire()


def running():
    return [each for each in threading.enumerate() if each.name == "test"]


def run_and_wait(threads, work=lambda: None):
    """Have it done, and return the thread that did it."""
    done = threading.Event()
    seen = []

    def do():
        work()
        seen.append(threading.current_thread())
        done.set()

    threads.run(do)
    assert done.wait(PATIENCE)
    return seen[0]


def wait_until_idle(threads, count=1):
    """Wait until so many are: they say so under the lock, with nobody to notify."""
    with threads._changed:
        while threads._idle < count:
            threads._changed.wait(0.01)


def test_one_is_used_again(threads):
    """Work that comes after work is done by the same thread, a daemon."""
    first = run_and_wait(threads)
    wait_until_idle(threads)
    assert run_and_wait(threads) is first
    assert first.daemon


def test_each_work_has_a_thread_at_once(threads):
    """Work never waits for other work: there are as many threads as are needed."""
    barrier = threading.Barrier(20)
    for _ in range(19):
        threads.run(lambda: barrier.wait(PATIENCE))
    barrier.wait(PATIENCE)


def test_few_stay_idle(threads):
    """Of many threads that have finished, a few wait for more to do; the others end soon."""
    barrier = threading.Barrier(MOST_IDLE + 11)
    for _ in range(MOST_IDLE + 10):
        threads.run(lambda: barrier.wait(PATIENCE))
    all_of_them = running()
    barrier.wait(PATIENCE)
    ended = 0
    while ended < 10:
        for each in all_of_them:
            each.join(0.01)
        ended = sum(not each.is_alive() for each in all_of_them)
    assert threads._idle == MOST_IDLE


def test_idle_ones_end_after_some_seconds(threads, monkeypatch):
    """A thread that got nothing to do for that long ends."""
    monkeypatch.setattr(_threads, "IDLE_SECONDS", 0.05)
    thread = run_and_wait(threads)
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_retire(threads):
    """Those that are idle end at once, and those that work when they have done so; new ones come for new work."""
    go_on = threading.Event()
    idle = run_and_wait(threads)
    wait_until_idle(threads)
    threads.run(lambda: go_on.wait(PATIENCE))
    (busy,) = running()
    assert busy is idle
    threads.retire()
    assert run_and_wait(threads) is not busy
    go_on.set()
    busy.join(PATIENCE)
    assert not busy.is_alive()


def test_an_idle_one_holds_nothing(threads):
    """What a work held is let go of before the thread waits for the next."""

    class Held:
        pass

    held = Held()
    gone = threading.Event()
    weakref.finalize(held, gone.set)
    threads.run(lambda held=held: None)
    del held
    assert gone.wait(PATIENCE)
    assert running()  # it still waits


def test_work_that_raises(threads):
    """What a work raises ends its thread, as it would end any other; the next work has another."""
    told = []
    threading_hook, threading.excepthook = threading.excepthook, told.append
    try:
        threads.run(lambda: 1 / 0)
        for thread in running():
            thread.join(PATIENCE)
    finally:
        threading.excepthook = threading_hook
    assert [each.exc_type for each in told] == [ZeroDivisionError]
    assert run_and_wait(threads).is_alive()
