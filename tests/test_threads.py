"""Reused threads: how many there are, how long they stay, and what they keep alive."""

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
    for each in running():  # the next test looks for threads of the same name
        each.join(PATIENCE)


def running():
    return [each for each in threading.enumerate() if each.name == "test"]


def run_and_wait(threads, work=lambda: None):
    """Run the work, and return the thread that ran it."""
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
    """Wait until this many are idle; there is no notification for that."""
    with threads._changed:
        while threads._idle < count:
            threads._changed.wait(0.01)


def test_a_thread_is_reused(threads):
    """The same daemon thread runs one work after another."""
    first = run_and_wait(threads)
    wait_until_idle(threads)
    assert run_and_wait(threads) is first
    assert first.daemon


def test_each_work_gets_a_thread_at_once(threads):
    """Work never waits for other work: there are as many threads as needed."""
    barrier = threading.Barrier(20)
    for _ in range(19):
        threads.run(lambda: barrier.wait(PATIENCE))
    barrier.wait(PATIENCE)


def test_few_stay_idle(threads):
    """Of many threads that have finished, a few stay for more work, and the others end soon."""
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


def test_idle_threads_end_after_some_seconds(threads, monkeypatch):
    """A thread without work for that long ends."""
    monkeypatch.setattr(_threads, "IDLE_SECONDS", 0.05)
    thread = run_and_wait(threads)
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_retire_ends_all_threads(threads):
    """Idle threads end at once and busy ones after their work; new work gets new threads."""
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


def test_an_idle_thread_keeps_nothing_alive(threads):
    """A thread releases the objects of its work before it waits for more."""

    class Held:
        pass

    held = Held()
    gone = threading.Event()
    weakref.finalize(held, gone.set)
    threads.run(lambda held=held: None)
    del held
    assert gone.wait(PATIENCE)
    assert running()  # it still waits


def test_work_that_raises_ends_its_thread(threads):
    """An exception ends the thread as usual, and the next work gets another thread."""
    raised = []
    threading_hook, threading.excepthook = threading.excepthook, raised.append
    try:
        threads.run(lambda: 1 / 0)
        for thread in running():
            thread.join(PATIENCE)
    finally:
        threading.excepthook = threading_hook
    assert [each.exc_type for each in raised] == [ZeroDivisionError]
    assert run_and_wait(threads).is_alive()
