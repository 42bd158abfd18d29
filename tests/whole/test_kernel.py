"""Uploads in a Jupyter kernel, of which the kernel stays master. They run on ipykernel 6 and 7."""

from __future__ import annotations

import re

import pytest
from support.command_line import PROCESS_PATIENCE
from support.kernels import Kernel, running_kernel
from support.stepped_server import SteppedServer, Stepper

SETUP = """
import asyncio, threading
import reactivex
import rxupload
from reactivex import operators as ops
from reactivex.scheduler import ThreadPoolScheduler, TimeoutScheduler
from reactivex.scheduler.eventloop import AsyncIOScheduler
from rxupload import operators, upload, upload_all
from rxupload.uploadtask import uploadFile

def told(task):
    wait = task.ended.wait
    task.ended.wait = lambda *given: (print("the cell waits"), wait(*given))[1]
    return task
"""

REFUSED = "http://127.0.0.1:1/"


@pytest.fixture(scope="module", params=[6, 7], ids="ipykernel {}".format)
def kernel(request):
    """A kernel for several tests, which leave nothing running in it."""
    with running_kernel(request.param) as kernel:
        kernel.run(SETUP)
        yield kernel


@pytest.fixture(params=[6, 7], ids="ipykernel {}".format)
def fresh_kernel(request):
    """A kernel that the test may end."""
    with running_kernel(request.param) as kernel:
        kernel.run(SETUP)
        yield kernel


@pytest.fixture
def server():
    with SteppedServer() as server:
        yield server


def stalled(server: SteppedServer, count: int = 1) -> list[Stepper]:
    """Wait for requests, read the beginning of their bodies, and no more."""
    requests = [server.next_request() for _ in range(count)]
    for request in requests:
        request.read(1 << 20)
    return requests


# The stop button

BLOCKING = [
    "up.run()",
    "rxupload.run(up.pipe(ops.map(str)))",
    "told(up.start()).result()",
    "upload_all([up]).run()",
    "told(upload_all([up]).start()).result()",
]
AWAITING = [
    "await up",
    "await up.pipe(operators.retry_backoff())",
    "await up.start()",
    "await up.start(scheduler=AsyncIOScheduler(asyncio.get_running_loop()))",
    "await up.start().events",
    "await asyncio.gather(asyncio.wait_for(up, None))",
    "await upload_all([up])",
    "await upload_all([up]).start()",
    "async for event in up: pass",
]
WAITS = "asyncio.get_running_loop().call_soon(print, 'the cell awaits')"


@pytest.mark.parametrize("source", BLOCKING)
@pytest.mark.parametrize("begin", ["", "await asyncio.sleep(0)"], ids=["plain", "in a cell that awaits"])
def test_stop_ends_a_stalled_upload_that_the_cell_waits_for(kernel, server, begin, source):
    """The stop button ends the cell, and closes the connection: also where the kernel's loop is held up."""
    cell = kernel.begin(f"up = upload({server.url!r}, bytes(50_000_000))\n{begin}\n{source}")
    (request,) = stalled(server)
    if "told" in source:  # a task is under way before the cell waits for it
        kernel.wait_for(cell, printed="the cell waits")
    kernel.stop()
    kernel.wait_for(cell)
    assert cell.error == ("CancelledError" if begin else "KeyboardInterrupt")
    request.wait_for_end()  # which reads, and so comes last


@pytest.mark.parametrize("source", AWAITING)
def test_stop_ends_a_stalled_upload_that_the_cell_awaits(kernel, server, source):
    """The stop button cancels the cell, and closes the connection, although nothing else wakes the kernel's loop."""
    up = f"upload({server.url!r}, bytes(50_000_000), progress_interval=3600)"  # progress wakes it
    cell = kernel.begin(f"up = {up}\n{WAITS}\n{source}")
    (request,) = stalled(server)
    kernel.wait_for(cell, printed="the cell awaits")
    kernel.stop()
    kernel.wait_for(cell)
    assert cell.error == "CancelledError"
    if "events" in source:  # to dispose an observer of a task aborts nothing
        request.reset()
    request.wait_for_end()


def test_stop_ends_the_wait_for_a_retry(kernel):
    """The stop button also ends a cell whose upload waits for its next attempt."""
    cell = kernel.begin(
        f"await upload({REFUSED!r}, b'x').pipe(operators.retry_backoff(wait_initial=600, wait_max=600,"
        " on_retry=lambda _: asyncio.get_running_loop().call_soon(print, 'it waits')))"
    )
    kernel.wait_for(cell, printed="it waits")
    kernel.stop()
    kernel.wait_for(cell)
    assert cell.error == "CancelledError"


def test_stop_ends_only_what_the_cell_waits_for(kernel, server):
    """A task of another cell goes on while cells run, and when one is stopped. A later cell awaits it."""
    kernel.run(f"task = upload({server.url!r}, bytes(50_000_000)).start()")
    (request,) = stalled(server)
    assert kernel.run("print(1 + 1, task.state)").printed == "2 uploading\n"
    for source in (
        "print('begun')\nthreading.Event().wait()",
        f"{WAITS.replace('the cell awaits', 'begun')}\nawait upload({server.url!r}, b'x')",
    ):
        cell = kernel.begin(source)
        kernel.wait_for(cell, printed="begun")
        kernel.stop()
        kernel.wait_for(cell)
        assert cell.error
    cell = kernel.begin(f"{WAITS}\nprint((await task)['statusCode'])")
    kernel.wait_for(cell, printed="the cell awaits")
    request.read_all()
    request.respond(201)
    kernel.wait_for(cell)
    assert cell.printed.endswith("201\n")


def test_a_stop_that_came_earlier_aborts_no_task(kernel, server):
    """Cancelling a coroutine that awaits a task does not stop the upload, after a stop in an earlier cell either."""
    kernel.run(f"task = upload({server.url!r}, bytes(50_000_000)).start()")
    (request,) = stalled(server)
    cell = kernel.begin(f"{WAITS}\nawait upload({server.url!r}, bytes(50_000_000), progress_interval=3600)")
    stalled(server)
    kernel.wait_for(cell, printed="the cell awaits")
    kernel.stop()
    kernel.wait_for(cell)
    cell = kernel.run(
        "try:\n    await asyncio.wait_for(task, 0.01)\nexcept TimeoutError:\n    print(task.state)"
    )
    assert cell.printed == "uploading\n"
    request.read_all()
    request.respond()
    assert kernel.run("task.result(); print(task.state)").printed == "done\n"


def test_a_stop_before_the_wait_counts(kernel, server):
    """The stop button may be pressed after a task was started, and before the cell waits for it."""
    source = (
        f"task = upload({server.url!r}, bytes(50_000_000)).start()\n"
        "signal.raise_signal(signal.SIGINT)\ntask.result()"
    )
    cell = kernel.run(f"import signal\nawait asyncio.sleep(0)\n{source}")
    assert cell.error == "CancelledError"
    assert kernel.run("print(task.state)").printed == "aborted\n"


def test_a_stop_counts_once(kernel, receiver):
    """A cell that catches its cancelling can upload after it."""
    cell = kernel.run(
        f"import signal\nup = upload({receiver!r}, b'x')\nup.start().result()\n"
        "signal.raise_signal(signal.SIGINT)\ntry: await up\nexcept asyncio.CancelledError: print(up.run())"
    )
    assert cell.printed == "<Response [200 OK]>\n"


# The end of the kernel

RUNNING = """
up = upload({url!r}, bytes(50_000_000))
task = up.start()
task.onProgressUpdate(print)
batch = upload_all([up] * 9, concurrency=1).start()
subscription = up.subscribe(print, scheduler=ThreadPoolScheduler(1))
for work in (
    up.run,
    upload_all([up] * 9, concurrency=1).run,
    lambda: up.start().result(),
    lambda: asyncio.run(asyncio.wait_for(up, None)),
    lambda: rxupload.run(upload({refused!r}, b"x").pipe(operators.retry_backoff(wait_initial=600, wait_max=600))),
    lambda: rxupload.run(reactivex.never()),
):
    threading.Thread(target=work).start()
"""
UPLOADS = 7  # of RUNNING, which reach the server


def end_by_message(kernel: Kernel) -> int:
    """Send the message of a shutdown, and nothing else."""
    kernel.client.shutdown()
    return kernel.process.wait(PROCESS_PATIENCE)


def end_as_a_server_does(kernel: Kernel) -> int:
    """A server terminates a kernel that does not end by itself. A slow machine gets more than the usual 2.5 s."""
    process = kernel.process
    kernel.manager.shutdown_wait_time = PROCESS_PATIENCE
    kernel.manager.shutdown_kernel()
    return process.wait(PROCESS_PATIENCE)


def restart(kernel: Kernel) -> int:
    """A restart ends the old process as a shutdown does, and starts another one."""
    process = kernel.process
    kernel.manager.shutdown_wait_time = PROCESS_PATIENCE
    kernel.manager.restart_kernel()
    return process.wait(PROCESS_PATIENCE)


@pytest.mark.parametrize("end", [end_by_message, end_as_a_server_does, restart])
@pytest.mark.parametrize(
    ("source", "count"),
    [(RUNNING, UPLOADS), (RUNNING + "\nawait up", UPLOADS + 1)],
    ids=["idle", "in a cell that awaits"],
)
def test_the_end_of_a_kernel_waits_for_no_upload(fresh_kernel, server, source, count, end):
    """A shutdown or restart aborts tasks, batches, and uploads in the caller's threads. The process ends by itself."""
    cell = fresh_kernel.begin(source.format(url=server.url, refused=REFUSED))
    requests = stalled(server, count)
    if "await" not in source.splitlines()[-1]:
        fresh_kernel.wait_for(cell)
    assert end(fresh_kernel) == 0
    for request in requests:
        request.wait_for_end()


# Errors


def plain(text: str) -> str:
    """Remove the colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@pytest.mark.parametrize(
    "source",
    [
        "up.run()",
        "rxupload.run(up.pipe(ops.map(str)))",
        "await up",
        "await up.pipe(ops.map(str))",
        "up.start().result()",
        "await up.start()",
        "async for event in up: pass",
    ],
)
def test_a_traceback_has_no_inner_frames(kernel, source):
    """The reader of an error sees his own line, the public name he called, and the cause."""
    cell = kernel.run(f"up = upload({REFUSED!r}, b'x')\n{source}")
    traceback = plain(cell.traceback)
    assert cell.error == "ConnectError"
    assert f"2 {source}\n" in traceback
    assert "ConnectionRefusedError" in traceback
    assert not re.search(r"_wire|_worker|_transport|_delivery|site-packages", traceback)
    assert len(traceback.splitlines()) < 40


FAILS = f"upload({REFUSED!r}, b'x').start()"


def test_the_error_of_a_task_that_nobody_looks_at_is_under_its_cell(kernel):
    """It is logged when the cell ends, although the notebook's variable keeps the task."""
    for source in (FAILS, "uploadFile(url='http://127.0.0.1:1/', name='a', filePath='/missing')"):
        cell = kernel.run(f"task = {source}\ntask.ended.wait()\n{ERRANDS}")
        assert cell.logged.count("and nobody looked at its outcome") == 1
        assert "_wire" not in cell.logged
    cell = kernel.run(f"task = upload_all(1 / i for i in [0]).start()\ntask.ended.wait()\n{ERRANDS}")
    assert "The batch failed, and nobody looked at its outcome" in cell.logged
    assert "in <genexpr>" in cell.logged


# The errand thread has looked at the task that has ended.
ERRANDS = "done = threading.Event(); rxupload._task.queue.uploads.do(done.set); done.wait()"


def test_the_error_of_a_task_that_fails_in_an_idle_kernel_is_under_its_cell(kernel, server):
    """It is logged at once, under the cell that has started the task."""
    cell = kernel.run(f"task = upload({server.url!r}, bytes(50_000_000)).start()")
    (request,) = stalled(server)
    request.reset()
    while not cell.logged:
        kernel._take()
    assert "and nobody looked at its outcome" in cell.logged


@pytest.mark.parametrize(
    "look",
    [
        "try: task.result()\nexcept Exception: pass",
        "try: await task\nexcept Exception: pass",
        "task.events.subscribe(on_error=lambda error: None)",
    ],
)
def test_the_error_of_a_task_that_the_same_cell_looks_at_is_not_logged(kernel, look):
    """A cell may look at a task after that has failed."""
    cell = kernel.run(f"task = {FAILS}\ntask.ended.wait()\n{ERRANDS}\n{look}")
    kernel.run("")
    assert (cell.error, cell.logged) == ("", "")


# Output

# The body is read, and what is under test prints, when the second cell sets `go`.
GO = """
go, over = threading.Event(), threading.Event()
def body():
    go.wait()
    print("read")
    yield b"x"
def show(*_):
    print("shown")
def end(*_):
    print("ended")
    over.set()
"""
FAILING = f"upload({REFUSED!r}, lambda: (go.wait(), print('read'), [b'x'])[-1])"
SUBSCRIPTIONS = {
    "a thread": "up.subscribe(show, end, end)",
    "a pool": "up.subscribe(show, end, end, scheduler=ThreadPoolScheduler(1))",
    "a timer": "up.subscribe(show, end, end, scheduler=TimeoutScheduler())",
    "the loop": "up.subscribe(show, end, end, scheduler=AsyncIOScheduler(asyncio.get_running_loop()))",
    "a batch": "upload_all([up, up], concurrency=1).subscribe(show, end, end)",
    "a task": "task = up.start(); task.onProgressUpdate(show); task.events.subscribe(None, end, end)",
    "a batch's task": "task = upload_all([up]).start(); task.events.subscribe(show, end, end)",
    "a second attempt": f"{FAILING}.pipe(operators.retry_backoff(attempts=2, wait_initial=0, wait_jitter=0,"
    " on_retry=show)).subscribe(show, end, end)",
    "a setting": "upload(URL, body, pause=reactivex.defer(lambda _: (print('set'), reactivex.of(False))[-1]))"
    ".subscribe(show, end, end)",
    "an Observable of bytes": "upload(URL, reactivex.defer(lambda _: (go.wait(), print('read'),"
    " reactivex.of(b'x'))[-1])).subscribe(show, end, end)",
}
OF_THE_LOOP = """
async def show_later(_):
    await asyncio.sleep(0)
    show()
task = up.start(scheduler=AsyncIOScheduler(asyncio.get_running_loop()))
task.onProgressUpdate(show_later)
task.events.subscribe(None, end, end)
"""


@pytest.fixture(scope="module")
def receiver(kernel):
    """The address of a receiver in the kernel."""
    address = kernel.run("server = rxupload.receiver.running(); print(server.__enter__())").printed.strip()
    yield address
    kernel.run("server.__exit__(None, None, None)")


@pytest.mark.parametrize("subscribe", [*SUBSCRIPTIONS.values(), OF_THE_LOOP], ids=[*SUBSCRIPTIONS, "async"])
def test_output_is_under_the_cell_that_subscribes(kernel, receiver, subscribe):
    """What an observer or a source prints while another cell runs is under its own cell."""
    cell = kernel.run(f"{GO}\nURL = {receiver!r}\nup = upload(URL, body)\n{subscribe}")
    other = kernel.run("go.set()\nawait asyncio.to_thread(over.wait)")
    assert (other.printed, other.logged) == ("", "")
    assert {"read", "shown"} <= set(cell.printed.splitlines())
    assert cell.printed.endswith("ended\n")


def test_the_error_of_an_observer_is_under_its_cell(kernel, receiver):
    """So is the error of an upload whose observer takes no errors, and what a callback raises."""
    cell = kernel.run(f"{GO}\n{FAILING}.subscribe(show)")
    kernel.run("go.set()")
    while "ConnectError" not in cell.logged:
        kernel._take()
    cell = kernel.run(
        f"{GO}\ntask = upload({receiver!r}, body).start()\n"
        "task.onProgressUpdate(lambda _: 1 / 0)\ntask.events.subscribe(None, end, end)"
    )
    other = kernel.run("go.set()\nover.wait()")
    assert "division by zero" in cell.logged
    assert other.logged == ""
