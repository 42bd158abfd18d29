"""Which frames the traceback of an upload's error has."""

from __future__ import annotations

import asyncio
import logging
import traceback
from typing import Any

import httpx
import pytest
import reactivex
from reactivex import operators as ops

import rxupload
from rxupload import upload, upload_all
from rxupload._tracebacks import leave_out_inner_frames

REFUSED = "http://127.0.0.1:1/"


def names(error: BaseException) -> list[str]:
    """The functions of its traceback, the outermost first."""
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


def error_of(function: Any) -> BaseException:
    with pytest.raises(Exception) as caught:
        function()
    return caught.value


def run_it(source: Any) -> BaseException:
    return error_of(lambda: rxupload.run(source))


async def awaited(source: Any) -> Any:
    return await source


def body():
    yield b"x"
    raise ZeroDivisionError


def test_run_shows_the_callers_frames_and_its_own():
    """Of the worker, the wire and reactivex there is none; the cause is there, with the frames it has."""
    up = upload(REFUSED, b"x")
    for source in (up, up.pipe(ops.map(str)), up.pipe(ops.retry(2)), upload(REFUSED, lambda: [b"x"])):
        error = run_it(source)
        assert isinstance(error, httpx.ConnectError)
        assert names(error) == ["error_of", "<lambda>", "run"]
        assert isinstance(error.__cause__, ConnectionRefusedError)
    assert names(error_of(up.run)) == ["error_of", "run", "run"]


@pytest.mark.parametrize("make", [lambda: upload(REFUSED, b"x"), lambda: upload(REFUSED, b"x").start()])
def test_await_shows_the_callers_frames(make):
    """The frame of the coroutine is the last one."""

    async def main():
        return await awaited(make())

    error = error_of(lambda: asyncio.run(main()))
    assert names(error)[-2:] == ["main", "awaited"]


def test_each_result_shows_only_its_own_frames():
    """The frames of an earlier call do not come again."""
    task = upload(REFUSED, b"x").start()
    for _ in range(3):
        assert names(error_of(task.result)) == ["error_of", "result", "result"]


def test_a_missing_file_needs_no_inner_frames(tmp_path):
    """Its text says which it is."""
    error = error_of(upload(REFUSED, tmp_path / "missing").run)
    assert isinstance(error, FileNotFoundError)
    assert names(error) == ["error_of", "run", "run"]


@pytest.fixture
def server():
    with rxupload.receiver.running() as url:
        yield url


def test_the_frames_of_the_callers_code_stay(server):
    """An error of a source, a mapper or an iterable shows the line that has raised it, and those between."""

    def mapper(_: object) -> None:
        _fail()

    def uploads():
        yield upload(server, b"x")
        _fail()

    assert names(run_it(upload(server, body)))[-1] == "body"
    assert names(run_it(upload(server, b"x").pipe(ops.map(mapper))))[-2:] == ["mapper", "_fail"]
    error = run_it(upload_all(uploads()))
    assert names(error) == ["error_of", "<lambda>", "run", "uploads", "_fail"]


def _fail():
    raise ZeroDivisionError


def test_an_unexpected_error_keeps_all_its_frames(monkeypatch):
    """What may be a fault of the library shows where it is."""
    monkeypatch.setattr("rxupload._sending.default_client", lambda: reactivex.notification)
    error = run_it(upload(REFUSED, b"x"))
    assert isinstance(error, AttributeError)
    assert "_send" in names(error)


def test_the_log_has_the_whole_traceback(caplog):
    """At level DEBUG, for who looks for a fault of the library."""
    caplog.set_level(logging.DEBUG, "rxupload")
    run_it(upload(REFUSED, b"x"))
    assert [each.levelno for each in caplog.records] == [logging.DEBUG]
    assert "_wire" in caplog.text


def test_an_error_that_was_never_raised_has_no_frames(caplog):
    """Then there is nothing to do."""
    caplog.set_level(logging.DEBUG, "rxupload")
    error = OSError()
    leave_out_inner_frames(error)
    assert error.__traceback__ is None
    assert not caplog.records
