"""Displays in the cells of a real kernel."""

from __future__ import annotations

import re
from collections.abc import Iterator

import ipykernel
import nbformat
import pytest
from nbclient import NotebookClient
from support.live_kernel import WIDGET, LiveKernel
from support.notebook_kernel import kernel_config
from support.scripted_server import Server
from support.stepped_server import SteppedServer, Stepper
from support.tus_server import broken_after, tus_server

from rxupload.testing import Connection

MIB = 1 << 20
NOBODY = "http://127.0.0.1:9/"
SPEED = r"in \d+\.\d s \u00b7 [\d.]+ [kMG]B/s"
HIDE_WIDGETS = "import sys; sys.modules['ipywidgets'] = None"

version = ipykernel.version_info


def serve_one(connection: Connection) -> None:
    """Answer one request, and say that the connection ends."""
    connection.serve(200, b"", "Connection: close")


@pytest.fixture(scope="module")
def shared() -> Iterator[LiveKernel]:
    with LiveKernel() as kernel:
        kernel.run("import asyncio, rxupload\nfrom rxupload import upload, upload_all, operators")
        yield kernel


@pytest.fixture
def kernel(shared) -> Iterator[LiveKernel]:
    """A kernel that several tests use, with ipywidgets."""
    shared.run(
        "import sys; sys.modules.pop('ipywidgets', None) if not sys.modules.get('ipywidgets') else None"
    )
    return shared


@pytest.fixture
def server() -> Iterator[SteppedServer]:
    with SteppedServer() as running:
        yield running


def under_way(kernel: LiveKernel, server: SteppedServer) -> tuple[str, Stepper]:
    """A cell that shows a running task, which has sent some of its bytes, and its request."""
    cell = kernel.run(f"task = upload({server.url!r}, bytes({32 * MIB})).start()\ntask")
    request = server.next_request()
    request.read(8 * MIB)
    kernel.wait(lambda: "MB of 33.6 MB" in kernel.shown(cell))
    return cell, request


def is_settled(kernel: LiveKernel, cell: str) -> bool:
    """Whether a cell shows no widget, and so the end."""
    return WIDGET not in kernel.data(cell)


class TestTask:
    def test_it_moves_while_the_kernel_is_idle_and_settles(self, kernel, server):
        """The display goes on after its cell, beside another one, and settles into the status without a widget."""
        cell, request = under_way(kernel, server)
        line, button = kernel.children(cell)
        assert kernel.shown(cell).count("<") == 2
        assert kernel.widgets[button]["description"] == "Abort"
        assert not kernel.widgets[button]["disabled"]
        other = kernel.start("task.result()['statusCode']")
        request.read_all()
        kernel.wait(lambda: "waiting for the response" in kernel.shown(cell))
        assert not kernel.is_idle(other)
        request.respond(201)
        kernel.wait(lambda: is_settled(kernel, cell) and kernel.is_idle(other))
        assert re.fullmatch(
            rf"done 201 Created \u00b7 100% \u00b7 33.6 MB \u00b7 {SPEED} \u00b7 upload to http://127.0.0.1.*",
            kernel.shown(cell),
        )
        assert kernel.data(cell).keys() == {"text/plain", "text/html"}
        assert kernel.data(cell)["text/html"] == kernel.widgets[line]["value"]
        assert kernel.widgets[button]["disabled"]
        assert [each["data"] for each in kernel.outputs[other]] == [{"text/plain": "201"}]

    def test_each_output_belongs_to_the_cell_that_shows_it(self, kernel, server):
        """The end comes from the cell of the display, although another cell runs then."""
        cell, request = under_way(kernel, server)
        other = kernel.start("_ = task.result()")
        request.read_all()
        request.respond()
        kernel.wait(lambda: is_settled(kernel, cell) and kernel.is_idle(other))
        assert kernel.updates[-1][0] == cell
        assert kernel.outputs[other] == []

    def test_the_end_comes_before_the_end_of_the_cell_that_awaits(self, kernel, server):
        """A cell that shows and awaits a task is finished only after the end is shown."""
        cell = kernel.start(f"task = upload({server.url!r}, b'x').start(); display(task); _ = await task")
        request = server.next_request()
        request.read_all()
        kernel.wait(lambda: kernel.outputs[cell])
        request.respond()
        kernel.wait(lambda: kernel.is_idle(cell))
        assert kernel.shown(cell).startswith("done 200")

    def test_a_failure_is_told(self, kernel):
        """The end of a failed task has its error."""
        cell = kernel.run(f"task = upload({NOBODY!r}, b'x').start()\ntask")
        kernel.wait(lambda: is_settled(kernel, cell))
        assert kernel.shown(cell).startswith("failed ConnectError: 127.0.0.1:9: ")

    def test_a_task_that_has_ended_has_no_widget(self, kernel):
        """What has ended is shown as that, at once."""
        before = len(kernel.widgets)
        cell = kernel.run(f"task = upload({NOBODY!r}, b'x').start()\ntask.ended.wait()\ntask")
        assert kernel.shown(cell).startswith("failed ConnectError")
        assert len(kernel.widgets) == before

    def test_a_queued_task_shows_when_its_turn_comes(self, kernel, server):
        """A task that waits for its turn says so, and then that it starts."""
        cell = kernel.run(
            f"from rxupload._task import queue\nqueue.uploads.limit = 1\n"
            f"first, second = (upload({server.url!r}, b'x').start() for _ in range(2))\nsecond"
        )
        assert "queued \u00b7 upload to" in kernel.data(cell)["text/plain"]
        for _ in range(2):
            request = server.next_request()
            request.read_all()
            request.respond()
        kernel.wait(lambda: is_settled(kernel, cell))
        kernel.run("queue.uploads.limit = 5")

    def test_two_displays_of_a_task(self, kernel, server):
        """A task may be shown twice; both settle."""
        first, _request = under_way(kernel, server)
        second = kernel.run("task")
        kernel.run("task.abort()")
        kernel.wait(lambda: is_settled(kernel, first) and is_settled(kernel, second))
        assert kernel.shown(first) == kernel.shown(second)

    def test_without_ipywidgets_it_moves_and_settles(self, kernel, server):
        """Without ipywidgets the cell has text and HTML only, which move and settle."""
        kernel.run(HIDE_WIDGETS)
        before = len(kernel.widgets)
        cell, _request = under_way(kernel, server)
        assert kernel.data(cell).keys() == {"text/plain", "text/html"}
        kernel.run("task.abort()")
        kernel.wait(lambda: kernel.shown(cell).startswith("aborted"))
        assert len(kernel.widgets) == before
        assert {each for each, _ in kernel.updates[-2:]} == {cell}


class TestShownAnew:
    """A task that has ended is shown as its live display was at its end: how it ended, how far it came, how fast."""

    @pytest.mark.parametrize(
        ("end", "said"),
        [
            ("respond", "done 201 Created \u00b7 100% \u00b7 33.6 MB"),
            ("reset", r"failed \w+: .* \u00b7 \d+% \u00b7 [\d.]+ MB of 33.6 MB"),
            ("abort", r"aborted \u00b7 \d+% \u00b7 [\d.]+ MB of 33.6 MB"),
        ],
    )
    def test_a_task(self, kernel, server, end, said):
        """It is the same for each end."""
        cell, request = under_way(kernel, server)
        if end == "respond":
            request.read_all()
            request.respond(201)
        elif end == "reset":
            request.reset()
        else:
            kernel.run("task.abort()")
        kernel.wait(lambda: is_settled(kernel, cell))
        again = kernel.run("task")
        assert re.fullmatch(rf"{said} \u00b7 {SPEED} \u00b7 upload to .*", kernel.shown(cell))
        assert kernel.data(again) == kernel.data(cell)

    @pytest.mark.parametrize("aborts", [False, True])
    def test_a_batch(self, kernel, server, aborts):
        """So is a batch, with its files."""
        cell = kernel.run(
            f"batch = upload_all([upload({server.url!r}, bytes({4 * MIB})) for _ in range(2)]).start()\nbatch"
        )
        first, second = (server.next_request() for _ in range(2))
        first.read_all()
        first.respond()
        kernel.wait(lambda: "1 of 2 files" in kernel.shown(cell))
        if aborts:
            kernel.run("batch.abort()")
        else:
            second.read_all()
            second.respond()
        kernel.wait(lambda: is_settled(kernel, cell))
        again = kernel.run("batch")
        counts = (
            r"\d+% \u00b7 [\d.]+ MB of 8.4 MB \u00b7 1 of" if aborts else r"100% \u00b7 8.4 MB \u00b7 2 of"
        )
        state = "aborted" if aborts else "done"
        assert re.match(rf"{state} \u00b7 {counts} 2 files \u00b7 {SPEED}", kernel.shown(cell))
        assert kernel.data(again) == kernel.data(cell)

    @pytest.mark.parametrize("fails", [False, True])
    def test_a_resumed_upload(self, kernel, fails):
        """So is an upload that went on, with what was there before, and the grey part."""
        with tus_server() as (tus, running):
            tus.then("PATCH", broken_after(8 * MIB))
            kernel.run(
                f"from rxupload.resumable import upload_resumable\n"
                f"resumed = upload_resumable({f'{running.url}files'!r}, bytes({32 * MIB}))\n"
                "try: resumed.run()\nexcept Exception: pass"
            )
            if fails:
                tus.then("PATCH", broken_after(16 * MIB))
            cell = kernel.run("task = resumed.start()\ntask")
            kernel.wait(lambda: is_settled(kernel, cell))
        again = kernel.run("task")
        counts = r"\d+% \u00b7 [\d.]+ MB of 33.6 MB" if fails else "100% \u00b7 33.6 MB"
        state = "failed .*" if fails else "done 204 Status"
        now = r"8.4 MB before, [\d.]+ \w+ now"
        assert re.match(rf"{state} \u00b7 {counts} \u00b7 {now} \u00b7 in ", kernel.shown(cell))
        assert kernel.data(again) == kernel.data(cell)

    def test_many_displays_of_a_task_that_has_ended(self, kernel):
        """The task keeps none of them."""
        with Server(serve_one) as server:
            cell = kernel.run(
                f"task = upload({server.url!r}, b'x').start(); task.result()\n"
                "for _ in range(50): display(task)\nlen(task._displays)"
            )
        assert kernel.outputs[cell][-1]["data"]["text/plain"] == "0"

    def test_a_task_that_never_began(self, kernel, server):
        """One that was aborted in the queue took no time, and says none."""
        shown = kernel.run(
            f"from rxupload._task import queue\nqueue.uploads.limit = 1\n"
            f"first, second = (upload({server.url!r}, b'x').start() for _ in range(2))\n"
            "second.abort(); second.ended.wait(); first.abort()\nqueue.uploads.limit = 5\nsecond"
        )
        assert kernel.shown(shown).startswith("aborted \u00b7 upload to")


class TestAbort:
    def test_a_click_while_the_kernel_is_idle(self, kernel, server):
        """A click aborts the upload, and the display says so; a later click does nothing."""
        cell, _request = under_way(kernel, server)
        _, button = kernel.children(cell)
        kernel.click(button)
        kernel.wait(lambda: is_settled(kernel, cell))
        assert kernel.shown(cell).startswith("aborted \u00b7 ")
        kernel.click(button)
        state = kernel.run("print(task.state)")
        assert kernel.text(state) == "aborted\n"
        assert button in kernel.widgets

    def test_a_click_while_another_cell_awaits(self, kernel, server):
        """A click is heard while another cell awaits, as far as the kernel hears messages then."""
        if version < (7, 4):
            pytest.skip("before 7.4, a kernel without subshells hears no message while a cell awaits")
        cell, _request = under_way(kernel, server)
        other = kernel.start("print('waits'); _ = await asyncio.to_thread(task.ended.wait)")
        kernel.wait(lambda: kernel.text(other))
        kernel.click(kernel.children(cell)[1])
        kernel.wait(lambda: is_settled(kernel, cell) and kernel.is_idle(other))
        assert kernel.shown(cell).startswith("aborted")

    def test_a_click_while_a_cell_awaits_the_task(self, kernel, server):
        """The cell that awaits the task gets UploadAborted."""
        if version < (7, 4):
            pytest.skip("before 7.4, a kernel without subshells hears no message while a cell awaits")
        cell, _request = under_way(kernel, server)
        other = kernel.start(
            "try:\n    print('waits'); await task\nexcept rxupload.UploadAborted: print('aborted')"
        )
        kernel.wait(lambda: kernel.text(other))
        kernel.click(kernel.children(cell)[1])
        kernel.wait(lambda: kernel.is_idle(other))
        assert kernel.text(other) == "waits\naborted\n"

    def test_a_click_by_a_subshell(self, kernel, server):
        """A front end may send the click to a subshell, as JupyterLab does from 4.4 on; another thread then aborts."""
        if version < (7,):
            pytest.skip("ipykernel 6 has no subshells")
        subshell = kernel.make_subshell()
        cell, _request = under_way(kernel, server)
        other = kernel.start("print('waits'); _ = await asyncio.to_thread(task.ended.wait)")
        kernel.wait(lambda: kernel.text(other))
        kernel.click(kernel.children(cell)[1], subshell)
        kernel.wait(lambda: is_settled(kernel, cell) and kernel.is_idle(other))
        assert kernel.shown(cell).startswith("aborted")


class TestBatch:
    def test_it_settles_amber_with_the_failures(self, kernel):
        """A running batch has the same display; the end counts files and failures, and is amber."""
        with Server(serve_one) as server:
            cell = kernel.run(
                f"batch = upload_all([upload(url, b'data') for url in ({server.url!r}, {NOBODY!r})]).start()\nbatch"
            )
            kernel.wait(lambda: is_settled(kernel, cell))
        shown = kernel.shown(cell)
        assert shown.startswith("done \u00b7 ")
        assert "2 of 2 files \u00b7 1 failed" in shown
        assert "rgba(255,152,0" in kernel.data(cell)["text/html"]
        summary = kernel.run("batch.result()")
        assert "1 of 2 uploads done" in kernel.data(summary)["text/html"]
        assert "ConnectError" in kernel.data(summary)["text/html"]

    def test_a_click_aborts_it(self, kernel, server):
        """A click aborts all its uploads."""
        cell = kernel.run(
            f"batch = upload_all([upload({server.url!r}, bytes({MIB})) for _ in range(2)]).start()\nbatch"
        )
        requests = [server.next_request() for _ in range(2)]
        kernel.click(kernel.children(cell)[1])
        kernel.wait(lambda: is_settled(kernel, cell))
        assert kernel.shown(cell).startswith("aborted")
        for each in requests:
            each.wait_for_end()


class TestProgressBar:
    def test_it_is_a_display_without_a_button_in_the_cell_that_subscribes(self, kernel, server):
        """The bar is in the cell that subscribes, and not in the one that makes the pipeline; it makes no widget."""
        before = len(kernel.widgets)
        made = kernel.run(
            f"bar = upload({server.url!r}, bytes({32 * MIB})).pipe(operators.progress_bar(desc='beach <1>'))"
        )
        cell = kernel.start("response = rxupload.run(bar)")
        request = server.next_request()
        request.read(8 * MIB)
        kernel.wait(lambda: kernel.outputs[cell] and "MB of 33.6 MB" in kernel.shown(cell))
        assert kernel.shown(cell).endswith(" \u00b7 beach <1>")
        assert "beach &lt;1&gt;" in kernel.data(cell)["text/html"]
        request.read_all()
        request.respond()
        kernel.wait(lambda: kernel.is_idle(cell))
        assert re.fullmatch(
            rf"done 200 OK \u00b7 100% \u00b7 33.6 MB \u00b7 {SPEED} \u00b7 beach <1>", kernel.shown(cell)
        )
        assert kernel.outputs[made] == []
        assert len(kernel.widgets) == before

    @pytest.mark.parametrize(
        ("start", "stop"),
        [
            ("task = asyncio.ensure_future({})", "task.cancel()"),
            ("task = {}.subscribe(on_error=print)", "task.dispose()"),
            ("task = upload_all([{}]).start()", "task.abort()"),
        ],
    )
    def test_a_pipeline_in_the_background(self, kernel, server, start, stop):
        """A pipeline that a cell starts moves after that cell, and another cell aborts it."""
        pipeline = f"upload({server.url!r}, bytes({32 * MIB})).retry(3).pipe(operators.progress_bar())"
        cell = kernel.run(start.format(pipeline))
        request = server.next_request()
        request.read(8 * MIB)
        kernel.wait(lambda: kernel.outputs[cell] and "MB of 33.6 MB" in kernel.shown(cell))
        kernel.run(stop)
        kernel.wait(lambda: kernel.shown(cell).startswith("aborted \u00b7 "))
        request.wait_for_end()

    def test_a_retry_by_a_thread_draws_in_the_same_cell(self, kernel):
        """The bar of a retry is in the cell of the first one, although another cell runs."""

        def refuse_once(connection: Connection) -> None:
            connection.serve(503 if server.connections == 1 else 200, b"", "Connection: close")

        with Server(refuse_once) as server:
            cell = kernel.run(
                "import threading; ended = threading.Event()\n"
                "retrying = operators.retry_backoff(wait_initial=0.2, wait_jitter=0)\n"
                f"pipeline = upload({server.url!r}, b'x').pipe(operators.progress_bar(), retrying)\n"
                "_ = pipeline.subscribe(lambda item: None, print, ended.set)"
            )
            other = kernel.run("_ = await asyncio.to_thread(ended.wait)")
        assert [each["data"]["text/plain"].split(" \u00b7 ")[0] for each in kernel.outputs[cell]] == [
            "done 503 Service Unavailable",
            "done 200 OK",
        ]
        assert kernel.outputs[other] == []

    @pytest.mark.parametrize(
        ("options", "texts"),
        [
            ("leave=False", [""]),
            ("disable=True", []),
            ("ncols=9, colouring='red'", ["done 200 OK \u00b7 100% \u00b7 "]),
        ],
    )
    def test_options_of_tqdm(self, kernel, options, texts):
        """`leave` and `disable` apply, and those for a terminal have no effect."""
        with Server(serve_one) as server:
            cell = kernel.run(
                f"_ = upload({server.url!r}, b'x').pipe(operators.progress_bar({options})).run()"
            )
        shown = [each["data"]["text/plain"] for each in kernel.outputs[cell]]
        assert len(shown) == len(texts)
        assert all(
            found.startswith(text) if text else not found for found, text in zip(shown, texts, strict=True)
        )

    def test_with_a_file_tqdm_writes_to_it(self, kernel):
        """With a `file`, the bar is that of a terminal."""
        with Server(serve_one) as server:
            cell = kernel.run(
                "import io; drawn = io.StringIO()\n"
                f"_ = upload({server.url!r}, b'x').pipe(operators.progress_bar(file=drawn)).run()\n"
                "print('100%' in drawn.getvalue())"
            )
        assert kernel.text(cell) == "True\n"
        assert len(kernel.outputs[cell]) == 1

    def test_it_uses_neither_tqdm_nor_widgets(self, kernel):
        """In a kernel it does without tqdm."""
        cell = kernel.run("import sys; print([name for name in sys.modules if 'tqdm.notebook' in name])")
        assert kernel.text(cell) == "[]\n"


class TestResumed:
    @pytest.fixture
    def url(self, kernel) -> Iterator[str]:
        """The address of a server that has the first 8 MiB of the 32 MiB of `resumed`."""
        with tus_server() as (tus, running):
            tus.then("PATCH", broken_after(8 * MIB))
            url = f"{running.url}files"
            kernel.run(
                "import httpx\nfrom rxupload.resumable import upload_resumable\n"
                f"resumed = upload_resumable({url!r}, bytes({32 * MIB}))\n"
                "try: resumed.run()\nexcept OSError: pass\nexcept Exception as error: print(error)"
            )
            yield url

    def test_a_task_shows_what_was_there_before_and_what_it_sends(self, kernel, url):
        """The display has both amounts, and a grey part as long as what was there."""
        cell = kernel.run("task = resumed.start()\ntask")
        kernel.wait(lambda: is_settled(kernel, cell))
        assert re.fullmatch(
            "done 204 Status \u00b7 100% \u00b7 33.6 MB \u00b7 8.4 MB before, 25.2 MB now \u00b7 "
            rf"{SPEED} \u00b7 upload to {re.escape(url)}",
            kernel.shown(cell),
        )
        assert "90deg,rgba(128,128,128,.3) 25.0%,rgba(76,175,80,.3) 25.0%" in kernel.data(cell)["text/html"]

    def test_so_does_a_bar(self, kernel, url):
        """`progress_bar()` says the same."""
        cell = kernel.run("_ = await resumed.pipe(operators.progress_bar())")
        assert kernel.shown(cell).startswith(
            "done 204 Status \u00b7 100% \u00b7 33.6 MB \u00b7 8.4 MB before, 25.2 MB now"
        )
        assert "rgba(128,128,128,.3) 25.0%" in kernel.data(cell)["text/html"]


class TestCards:
    def test_an_upload_is_a_card(self, kernel):
        """An upload in a cell is a card, without the secrets of its address."""
        cell = kernel.run(
            "upload('http://me:s3cret@upload.test/a?key=s3cret', b'data', form_data={'album': '1'})"
        )
        html = kernel.data(cell)["text/html"]
        assert "<b>POST</b> http://upload.test/a" in html
        assert "with the field album" in html
        assert "s3cret" not in str(kernel.outputs[cell])


@pytest.mark.parametrize("hides", [False, True])
def test_a_saved_notebook_has_the_ends_and_no_widget(hides):
    """What nbclient saves has the end of each display, and no widget's type."""
    with Server(serve_one) as server:
        cells = [
            f"{HIDE_WIDGETS if hides else ''}\nfrom rxupload import upload, upload_all, operators",
            f"task = upload({server.url!r}, b'x').start(); display(task); _ = await task",
            # nbclient hears nothing of a cell that is over
            f"task = upload({NOBODY!r}, b'x').start(); display(task); _ = task.ended.wait()",
            f"batch = upload_all([upload({server.url!r}, b'x')]).start(); display(batch); _ = await batch",
            f"_ = await upload({server.url!r}, b'x').pipe(operators.progress_bar())",
        ]
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(each) for each in cells])
        with kernel_config() as config:
            NotebookClient(notebook, config=config, timeout=120, kernel_name="python3").execute()
    shown = [each.data for cell in notebook.cells[1:] for each in cell.outputs]
    assert [each["text/plain"].split(" \u00b7 ")[0].split(":")[0] for each in shown] == [
        "done 200 OK",
        "failed ConnectError",
        "done",
        "done 200 OK",
    ]
    assert all(each.keys() == {"text/html", "text/plain"} for each in shown)
