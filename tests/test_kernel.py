"""What the library adds in a Jupyter kernel, and in no other process; `whole/test_kernel.py` has a real one."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import threading
import types
from types import SimpleNamespace

import pytest
from IPython.core.formatters import DisplayFormatter
from reactivex.scheduler.eventloop import AsyncIOScheduler
from support.scripted_server import PATIENCE
from support.stepped_server import SteppedServer
from support.threads import no_thread_left

from rxupload import UploadAborted, _kernel, upload
from rxupload._kernel import after_the_cell, is_kernel, kernel, under_way, watch_cells
from rxupload.operators import progress_bar
from rxupload.testing import HandCrankedClient


@pytest.fixture
def in_a_kernel(monkeypatch):
    """Have this process seem to be a kernel."""
    monkeypatch.setitem(sys.modules, "ipykernel.kernelapp", types.ModuleType("ipykernel.kernelapp"))
    assert is_kernel()
    with no_thread_left():
        yield
    assert not _kernel._all


class CrankedLoop(asyncio.SelectorEventLoop):
    """A loop whose timers the test calls."""

    def __init__(self):
        super().__init__()
        self.timers = []

    def call_later(self, delay, callback, *args, context=None):
        self.timers.append((delay, lambda: callback(*args)))
        return super().call_later(3600, lambda: None)

    def turn_timers(self):
        timers, self.timers = self.timers, []
        for _, callback in timers:
            callback()


def on_a_loop(coroutine_function):
    with asyncio.Runner(loop_factory=CrankedLoop) as runner:
        runner.run(coroutine_function(runner.get_loop()))


def test_nothing_beats_elsewhere():
    """Outside of a kernel, an upload on a loop sets no timer, and nothing is noted."""

    async def main(loop):
        with SteppedServer() as server:
            awaited = asyncio.ensure_future(asyncio.wait_for(upload(server.url, b"x"), None))
            request = await asyncio.to_thread(server.next_request)
            assert not loop.timers
            assert not _kernel._all
            request.read_all()
            request.respond()
            assert (await awaited).status_code == 200

    assert not is_kernel()
    on_a_loop(main)


@pytest.mark.usefixtures("in_a_kernel")
def test_one_heart_beats_while_something_is_awaited():
    """All uploads of a loop have one heart, at most 0.2 s between two beats. It stops with the last of them."""

    async def main(loop):
        first, second = under_way(loop), under_way(loop)
        for _ in range(3):
            assert [delay <= 0.2 for delay, _ in loop.timers] == [True]
            loop.turn_timers()
        first.dispose()
        loop.turn_timers()
        assert len(loop.timers) == 1
        await asyncio.to_thread(second.dispose)
        third = under_way(loop)  # before the heart has noticed
        assert len(loop.timers) == 1
        third.dispose()
        loop.turn_timers()
        assert not loop.timers
        fourth = under_way(loop)
        assert len(loop.timers) == 1
        fourth.dispose()
        loop.turn_timers()

    on_a_loop(main)


@pytest.mark.usefixtures("in_a_kernel")
def test_an_upload_beats_until_its_end():
    """The heart beats for an upload on the loop, until it is disposed or has ended."""

    async def main(loop):
        with SteppedServer() as server:
            for is_disposed in (True, False):
                over = asyncio.Event()
                subscription = upload(server.url, b"x").subscribe(
                    on_completed=over.set, scheduler=AsyncIOScheduler(loop)
                )
                request = await asyncio.to_thread(server.next_request)
                loop.turn_timers()
                assert len(loop.timers) == 1
                if is_disposed:
                    subscription.dispose()
                    request.wait_for_end()
                else:
                    request.read_all()
                    request.respond()
                    await over.wait()
                loop.turn_timers()
                assert not loop.timers

    on_a_loop(main)


@pytest.mark.usefixtures("in_a_kernel")
def test_no_heart_beats_where_no_signal_comes():
    """A loop of another thread, as of a subshell, gets no signals; nor does it beat for an upload on a thread."""

    def beat_in_a_thread():
        async def main(loop):
            under_way(loop).dispose()
            assert not loop.timers
            done.append(True)

        on_a_loop(main)

    async def main(loop):
        under_way(None).dispose()
        assert not loop.timers
        thread = threading.Thread(target=beat_in_a_thread)
        thread.start()
        await asyncio.to_thread(thread.join, PATIENCE)

    done = []
    on_a_loop(main)
    assert done


@pytest.mark.usefixtures("in_a_kernel")
def test_the_shutdown_stops_what_runs_and_what_comes(monkeypatch):
    """Both end with UploadAborted, and so does an upload that begins after that."""
    errors = []
    ended = [threading.Event(), threading.Event()]
    with SteppedServer() as server:
        up = upload(server.url, b"x")
        up.subscribe(on_error=lambda error: (errors.append(error), ended[0].set()))
        request = server.next_request()
        monkeypatch.setattr(_kernel, "_is_over", False)
        _kernel.stop_all()
        request.wait_for_end()
        assert ended[0].wait(PATIENCE)
        up.subscribe(on_error=lambda error: (errors.append(error), ended[1].set()))
        assert ended[1].wait(PATIENCE)
        with pytest.raises(UploadAborted, match="shutting down"):
            up.run()
    assert [str(error) for error in errors] == ["The kernel is shutting down"] * 2


FORK = """
import os, sys, types
sys.modules["ipykernel.kernelapp"] = types.ModuleType("ipykernel.kernelapp")
from rxupload._kernel import stop_all, under_way
work = under_way(None, lambda error: os._exit(3))
child = os.fork()
if not child:
    stop_all()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
os._exit(0)
"""


FORKED_CHILD = """
import os, sys, types
sys.modules["ipykernel.kernelapp"] = types.ModuleType("ipykernel.kernelapp")
kernel = types.SimpleNamespace(get_parent=None, iopub_socket=None, session=None)
shell = types.SimpleNamespace(kernel=kernel, events=types.SimpleNamespace(register=lambda *_: None))
sys.modules["IPython"] = types.SimpleNamespace(get_ipython=lambda: shell)
from rxupload import _kernel
_kernel.watch_cells()
child = os.fork()
assert (_kernel.kernel() is None, _kernel.is_kernel()) == (not child, bool(child))
assert _kernel.after_the_cell(lambda: None) == bool(child)
if child:
    assert os.waitpid(child, 0)[1] == 0
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(_kernel.os, "fork"), reason="the system has no fork")
def test_a_forked_child_is_no_kernel():
    """A forked child of a kernel has no cells and no page, so a bar there is that of a terminal."""
    subprocess.run([sys.executable, "-c", FORKED_CHILD], check=True, timeout=60)


@pytest.mark.skipif(not hasattr(_kernel.os, "fork"), reason="the system has no fork")
def test_a_forked_child_stops_nothing_of_its_parent():
    """The end of a forked child, as of multiprocessing, leaves the parent's uploads alone."""
    subprocess.run([sys.executable, "-c", FORK], check=True, timeout=60)


def test_without_a_kernel_there_are_no_cells():
    """Nothing waits for the end of a cell."""
    watch_cells()
    assert _kernel._cells is None
    assert not after_the_cell(lambda: None)


@pytest.mark.usefixtures("in_a_kernel")
def test_a_kernel_of_another_language_has_no_cells(monkeypatch):
    """Without IPython's shell, what is to be done after a cell is done at once."""
    monkeypatch.setattr(_kernel, "_cells", None)
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: None))
    watch_cells()
    done = []
    assert after_the_cell(lambda: done.append(1))
    assert done


# What a task shows

URL = "http://upload.test/"


def no_cell(_):
    """What ipykernel 7.0 does on a thread."""
    raise LookupError


KERNEL = SimpleNamespace(get_parent=no_cell, iopub_socket=None, session=None)


@pytest.mark.parametrize(
    ("shell", "expected"),
    [
        (None, None),
        (SimpleNamespace(), None),
        (SimpleNamespace(kernel=KERNEL), KERNEL),
        (SimpleNamespace(kernel=SimpleNamespace(get_parent=no_cell)), None),
    ],
)
def test_a_kernel_is_a_shell_that_has_one(monkeypatch, shell, expected):
    """IPython in a terminal has a shell without a kernel, a program has no shell, and other kernels send otherwise."""
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert kernel() is expected


def test_in_a_kernel_of_another_make_a_task_is_its_repr_and_a_bar_is_text(monkeypatch):
    """A kernel that is not ipykernel's has neither a live display nor an error."""
    shell = SimpleNamespace(kernel=SimpleNamespace())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    up = upload(URL, b"x", client=HandCrankedClient(200, 200))
    task = up.start()
    task.result()
    assert DisplayFormatter().format(task) == ({"text/plain": repr(task)}, {})
    drawn = io.StringIO()
    monkeypatch.setattr(sys, "stderr", drawn)
    up.pipe(progress_bar()).run()
    assert "100%" in drawn.getvalue()


@pytest.mark.parametrize("module", [None, SimpleNamespace()])
def test_without_ipython_there_is_none(monkeypatch, module):
    """There is no kernel without IPython, or while that is being imported."""
    monkeypatch.setitem(sys.modules, "IPython", module)
    assert kernel() is None


def test_outside_of_a_kernel_a_task_is_its_repr():
    """IPython in a terminal shows the repr of a task."""
    task = upload(URL, b"x", client=HandCrankedClient(200)).start()
    task.result()
    assert DisplayFormatter().format(task) == ({"text/plain": repr(task)}, {})


def test_where_no_cell_runs_a_task_is_its_repr(monkeypatch):
    """A thread has no cell in ipykernel 7.0, which raises LookupError; IPython then shows the repr."""
    shell = SimpleNamespace(kernel=KERNEL)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    task = upload(URL, b"x", client=HandCrankedClient(200)).start()
    task.result()
    with pytest.raises(NotImplementedError, match="needs a cell"):
        task._ipython_display_()
    assert DisplayFormatter().format(task) == ({"text/plain": repr(task)}, {})


def test_nothing_of_jupyter_is_imported_outside_of_a_kernel():
    """Neither the package nor a bar imports IPython, ipywidgets or the displays."""
    script = (
        "import sys, rxupload, rxupload.operators; rxupload.operators.progress_bar()\n"
        "found = [name for name in sys.modules if name.split('.')[0] in ('IPython', 'ipywidgets')"
        " or name.startswith(('rxupload._notebook', 'rxupload._cards'))]\n"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
