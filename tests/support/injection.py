"""Sends a signal at a chosen line of the library, on the main thread: `python -m support.injection SCENARIO SIGNAL`.

It does so at the first line that the scenario runs in the library, then in a new run at the second, and so on until a
run ends before its line comes. After each run, all tasks must end, and later uploads must succeed. A deadlock shows as
a time limit of that run, with the stacks of all threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from reactivex import operators as ops
from reactivex.scheduler import ImmediateScheduler, NewThreadScheduler
from reactivex.scheduler.eventloop import AsyncIOScheduler
from support.scripted_server import PATIENCE, Server

import rxupload
from rxupload import UploadAborted, upload, upload_all
from rxupload._client import _forget_default_client
from rxupload._run import run
from rxupload._task import callback_queue
from rxupload._task.queue import uploads
from rxupload.testing import Connection
from rxupload.uploadtask import UploadTask, uploadFile

PACKAGE = str(Path(rxupload.__file__).parent)
FILES = (PACKAGE, threading.__file__)


class Injector:
    """While it is entered, sends a signal at the n-th line that this thread runs in the library, after `armed`.

    SIGUSR1 does not come in `threading`: Python itself starts no thread in a handler that interrupts such a start.
    """

    def __init__(self, number: int, place: int) -> None:
        self.place = place
        self.is_armed = True
        self.where = "nowhere"
        self._number = number

    @property
    def has_fired(self) -> bool:
        return self.place < 0

    def __enter__(self) -> Injector:
        sys.settrace(self._trace)
        return self

    def __exit__(self, *args: object) -> None:
        sys.settrace(None)

    def _trace(self, frame: FrameType, event: str, _arg: Any) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE if self._number == signal.SIGUSR1 else FILES):
            return None
        if event == "line" and self.is_armed and not self.has_fired:
            self.place -= 1
            if self.has_fired:
                self.where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                call_handler(self._number, frame)
        return self._trace


def call_handler(number: int, frame: FrameType) -> None:
    """Do what a signal does that comes in this frame."""
    handler = signal.getsignal(number)
    assert callable(handler)
    handler(number, frame)


class Place:
    """A server that never answers, one that does, and the tasks of a run."""

    def __init__(self, silent: str, answering: str, photo: str) -> None:
        self.silent = silent
        self.answering = answering
        self.photo = photo
        self.told: list[str] = []

    def task(self) -> UploadTask:
        return uploadFile(
            url=self.silent,
            filePath=self.photo,
            name="a",
            fail=lambda data, code: self.told.append(f"fail {code}"),
            complete=lambda *_: self.told.append("complete"),
        )


# Each scenario gets the place, a task under way, and the injector.


def registers(_place: Place, task: UploadTask, _injector: Injector) -> None:
    task.onProgressUpdate(print_nothing)
    task.onHeadersReceived(print_nothing)
    task.offProgressUpdate(print_nothing)


def subscribes_to_events(_place: Place, task: UploadTask, _injector: Injector) -> None:
    task.events.subscribe(print_nothing, print_nothing).dispose()


def aborts(_place: Place, task: UploadTask, _injector: Injector) -> None:
    task.abort()


def waits_for_result(_place: Place, task: UploadTask, _injector: Injector) -> None:
    with contextlib.suppress(TimeoutError, UploadAborted):
        task.result(0.001)


def is_interrupted_in_result(_place: Place, task: UploadTask, injector: Injector) -> None:
    """The first Ctrl-C comes in the wait. The injected signal comes later."""
    with interrupted_in("Latch.wait", injector):
        task.result()


def starts_another(place: Place, _task: UploadTask, _injector: Injector) -> None:
    place.task().abort()


def subscribes(place: Place, _task: UploadTask, _injector: Injector) -> None:
    upload(place.silent, place.photo).subscribe(print_nothing, print_nothing).dispose()


def runs_here(place: Place, _task: UploadTask, _injector: Injector) -> None:
    assert upload(place.answering, place.photo).run().status_code == 200


def runs_on_a_thread(place: Place, _task: UploadTask, _injector: Injector) -> None:
    assert run(upload(place.answering, lambda: [b"piece"]), NewThreadScheduler()).status_code == 200


def runs_a_batch(place: Place, _task: UploadTask, _injector: Injector) -> None:
    assert upload_all([upload(place.answering, b"data") for _ in range(3)]).run().done == 3


def starts_a_batch(place: Place, _task: UploadTask, _injector: Injector) -> None:
    batch = upload_all([upload(place.answering, b"data") for _ in range(3)]).start()
    batch.events.subscribe(print_nothing, print_nothing)
    with contextlib.suppress(UploadAborted):
        assert batch.result().done == 3


def aborts_a_batch(place: Place, _task: UploadTask, injector: Injector) -> None:
    injector.is_armed = False
    batch = upload_all([upload(place.silent, b"data") for _ in range(3)]).start()
    injector.is_armed = True
    batch.abort()
    with contextlib.suppress(UploadAborted):
        batch.result()


def is_interrupted_in_the_result_of_a_batch(place: Place, _task: UploadTask, injector: Injector) -> None:
    """The first Ctrl-C comes in the wait. The injected signal comes later."""
    injector.is_armed = False
    batch = upload_all([upload(place.silent, b"data")]).start()
    with interrupted_in("Latch.wait", injector):
        batch.result()


def runs_in_place(place: Place, _task: UploadTask, _injector: Injector) -> None:
    assert upload(place.answering, b"data").run(ImmediateScheduler()).status_code == 200


def runs_in_place_within_subscribe(place: Place, _task: UploadTask, _injector: Injector) -> None:
    source = upload(place.answering, b"data").pipe(ops.subscribe_on(ImmediateScheduler()))
    assert run(source).status_code == 200


def is_interrupted_in_run(place: Place, _task: UploadTask, injector: Injector) -> None:
    """The first Ctrl-C comes in the wait. The injected signal comes later."""
    with interrupted_in("Latch.wait", injector):
        upload(place.silent, lambda: [b"piece"]).run()


def is_interrupted_while_it_runs_here(place: Place, _task: UploadTask, injector: Injector) -> None:
    """The first Ctrl-C comes in the wait. The injected signal comes later."""
    with interrupted_in("_poll", injector):
        upload(place.silent, place.photo).run()


def awaits_a_task(place: Place, _task: UploadTask, _injector: Injector) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        # Ctrl-C in asyncio's own code may cancel a future that it is about to set. asyncio reports that, and goes on.
        loop.set_exception_handler(lambda *_: None)
        scheduler = AsyncIOScheduler(loop)
        task = uploadFile(url=place.answering, filePath=place.photo, name="a", scheduler=scheduler)
        task.onProgressUpdate(print_nothing)
        with contextlib.suppress(UploadAborted):
            await task

    asyncio.run(main())


def calls_asynchronous_callbacks(place: Place, _task: UploadTask, _injector: Injector) -> None:
    # It says that a callback could not be called, where Ctrl-C has closed the loop before.
    logging.getLogger("rxupload").setLevel(logging.CRITICAL)

    async def wait(*_: object) -> None:
        await asyncio.sleep(0)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)  # see `awaits_a_task`
        scheduler = AsyncIOScheduler(loop)
        task = uploadFile(
            url=place.answering,
            filePath=place.photo,
            name="a",
            success=wait,
            fail=wait,
            complete=wait,
            scheduler=scheduler,
        )
        task.onProgressUpdate(wait)
        with contextlib.suppress(UploadAborted):
            await task

    asyncio.run(main())


@contextlib.contextmanager
def interrupted_in(function: str, injector: Injector) -> Iterator[None]:
    """Send the first Ctrl-C when the main thread is in this function. Arm the injector then."""
    injector.is_armed = False

    def interrupt(_number: int, frame: FrameType | None) -> None:
        if frame is None or frame.f_code.co_qualname != function:
            signal.setitimer(signal.ITIMER_REAL, 0.001)  # it is not there yet
            return
        injector.is_armed = True
        call_handler(signal.SIGINT, frame)

    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def print_nothing(_value: object) -> None:
    pass


SCENARIOS: dict[str, Callable[[Place, UploadTask, Injector], None]] = {
    each.__name__: each
    for each in (
        registers,
        subscribes_to_events,
        aborts,
        waits_for_result,
        is_interrupted_in_result,
        starts_another,
        subscribes,
        runs_here,
        runs_on_a_thread,
        runs_a_batch,
        starts_a_batch,
        aborts_a_batch,
        is_interrupted_in_the_result_of_a_batch,
        runs_in_place,
        runs_in_place_within_subscribe,
        awaits_a_task,
        calls_asynchronous_callbacks,
        is_interrupted_in_run,
        is_interrupted_while_it_runs_here,
    )
}


def inject(place: Place, scenario: str, number: int, line: int) -> bool:
    """Run a scenario, and send the signal at a line. Return whether it ran so many lines."""
    faulthandler.dump_traceback_later(100, exit=True)  # from now on, for this run
    task = place.task()
    if number == signal.SIGTERM:
        signal.signal(number, lambda *_: abort_all())
    started: list[UploadTask] = []
    if number == signal.SIGUSR1:
        _forget_default_client()  # to come also while it is made
        signal.signal(number, lambda *_: started.extend(start_some(place)))
    injector = Injector(number, line)
    try:
        with injector:
            SCENARIOS[scenario](place, task, injector)
    except KeyboardInterrupt:
        assert number == signal.SIGINT or scenario.startswith("is_interrupted")
    print("a signal came at", injector.where, file=sys.stderr, flush=True)
    assert [each.result(PATIENCE)["statusCode"] for each in started] == [200] * len(started)
    abort_all()
    uploads.wait()
    assert task.ended.is_set()
    assert place.told.count("fail 1002") == place.told.count("complete") == len(place.told) / 2, place.told
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert upload(place.answering, b"data").run().status_code == 200
    assert upload(place.answering, b"data").run(NewThreadScheduler()).status_code == 200
    place.told.clear()
    uploadFile(url=place.answering, filePath=place.photo, name="a").result(PATIENCE)
    return injector.has_fired


def start_some(place: Place) -> list[UploadTask]:
    assert upload(place.answering, b"data").run().status_code == 200
    upload(place.answering, b"data").subscribe()
    upload_all([upload(place.answering, b"data")]).subscribe()
    return [upload(place.answering, source).start() for source in (b"data", lambda: [b"piece"])]


def abort_all() -> None:
    for each in list(uploads._untold):
        each.abort()


def answer(connection: Connection) -> None:
    while connection.read_head():
        connection.read_body()
        connection.respond()


@contextlib.contextmanager
def silence() -> Iterator[str]:
    """A server that takes what comes, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        peers: list[socket.socket] = []

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peers.append(listening.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        listening.shutdown(socket.SHUT_RDWR)
        for peer in peers:
            peer.close()


def main(scenario: str, name: str, photo: str) -> None:
    number = signal.Signals[name]
    callback_queue._LOOK_SECONDS = 0.01  # many runs close a loop

    with silence() as silent, Server(answer) as server:
        place = Place(silent, server.url, photo)
        line = 0
        while inject(place, scenario, number, line):
            line += 1
    print(line)


if __name__ == "__main__":
    main(*sys.argv[1:])
