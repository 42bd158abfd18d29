"""Ctrl-C in and around the library's steps, and the names of Python's own that `_signals` cannot avoid."""

from __future__ import annotations

import _signal
import contextlib
import signal
import subprocess
import sys
import threading
from functools import partial

import pytest
import reactivex
from reactivex import Observable
from reactivex import operators as ops
from reactivex.abc import DisposableBase, SchedulerBase
from reactivex.disposable import Disposable
from reactivex.scheduler import ImmediateScheduler
from support.scripted_server import Server

from rxupload import run, upload, upload_all
from rxupload._signals import delaying_ctrl_c
from rxupload.testing import Connection

SCRIPT = """
import atexit, threading
def after(): print("after the script", threading.main_thread().is_alive(), flush=True)
threading._register_atexit(after)
def told(): print("at exit", flush=True)
atexit.register(told)
print("script", flush=True)
def run_now(): atexit._run_exitfuncs()
threading._register_atexit(run_now)
"""


def test_names_of_python():
    """`_register_atexit` calls a function after the script, `_run_exitfuncs` calls the atexit functions, once."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines() == ["script", "at exit", "after the script True"]


def test_names_of_the_signal_module():
    """`_signal` sets and returns a handler as `signal` does, without an enum member for a number."""
    handler = signal.getsignal(signal.SIGINT)
    assert _signal.getsignal(signal.SIGINT) is handler
    assert _signal.signal(signal.SIGINT, handler) is handler


def interrupted(source: Observable[object], *scheduler: SchedulerBase) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(source, *scheduler)


def kill(number: signal.Signals, connection: Connection) -> None:
    """Send the main thread a signal while it uploads. It must then end the connection before this loses patience."""
    connection.read_head()
    signal.pthread_kill(threading.main_thread().ident, number)
    with contextlib.suppress(ConnectionError):
        while connection.recv():
            pass


def test_ctrl_c_is_not_delayed_in_the_callers_code():
    """Ctrl-C interrupts the caller's code within `subscribe`, which may take for ever."""
    steps = []

    def subscribe(*_: object) -> DisposableBase:
        steps.append("before")
        signal.raise_signal(signal.SIGINT)
        steps.append("after")
        return Disposable()

    interrupted(reactivex.create(subscribe))
    interrupted(reactivex.defer(lambda _: subscribe()).pipe(ops.map(str)))
    assert steps == ["before", "before"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("batch", [False, True])
def test_ctrl_c_is_not_delayed_in_an_upload_in_place(batch):
    """Ctrl-C ends an upload that an operator puts on the calling thread, within `subscribe`."""
    with Server(partial(kill, signal.SIGINT)) as server:
        source = upload(server.url, bytes(10_000_000))
        if batch:
            source = upload_all([source, source])
        interrupted(source.pipe(ops.subscribe_on(ImmediateScheduler())))
        assert server.connections == 1
    assert not server.errors


def test_ctrl_c_ends_a_run_within_another():
    """Ctrl-C ends the upload that runs, where a source's or a signal handler's code runs it within another `run`."""
    with Server(partial(kill, signal.SIGINT)) as inner, Server(partial(kill, signal.SIGUSR1)) as outer:
        for source in (b"x", lambda: [b"x"]):
            up = upload(inner.url, source)
            interrupted(reactivex.defer(lambda _, up=up: reactivex.of(up.run())))
            old = signal.signal(signal.SIGUSR1, lambda *_, up=up: up.run())
            interrupted(upload(outer.url, b"x"))
            signal.signal(signal.SIGUSR1, old)
    assert not inner.errors
    assert not outer.errors
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_that_is_set_in_a_block_stays():
    """The caller's code may set a handler of Ctrl-C in a block, and set the block's own again later."""

    def mine(*_: object) -> None:
        raise ZeroDivisionError

    old = signal.getsignal(signal.SIGINT)
    try:
        with delaying_ctrl_c():
            of_the_block = signal.signal(signal.SIGINT, mine)
        assert signal.getsignal(signal.SIGINT) is mine
        signal.signal(signal.SIGINT, of_the_block)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, old)


def test_a_handler_that_does_not_raise_ends_nothing():
    """The caller's own handler of Ctrl-C may do without an exception. Then the upload continues."""
    calls = []

    def serve(connection: Connection) -> None:
        connection.read_head()
        for _ in range(4):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        connection.read_body()
        connection.respond()

    old = signal.signal(signal.SIGINT, lambda *_: calls.append(1))
    try:
        with Server(serve) as server:
            assert upload(server.url, bytes(10_000_000)).run().status_code == 200
    finally:
        signal.signal(signal.SIGINT, old)
    assert calls
