"""Random orders of what a caller, the callbacks and the server do, against a model of the callbacks."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.recording_callbacks import RecordingCallbacks
from support.scripted_server import PATIENCE
from support.stepped_server import SteppedServer, Stepper
from support.threads import no_thread_left

from rxupload import Progress, UploadAborted, uploadtask
from rxupload.uploadtask import UploadTask, uploadFile

MIB = 1 << 20
LIMIT = 2
SIZES = (0, 3000, 6 * MIB)  # bytes of the files; the last is larger than the system's buffers


class CallbackError(Exception):
    """Raised by callbacks."""


@dataclass(eq=False)
class Listener:
    """A progress listener: what it got, and what it does then."""

    raises: bool
    aborts: bool
    model: Model
    calls: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, res: dict[str, Any]) -> None:
        self.calls.append(res)
        self.model.note_event(res["totalBytesSent"])
        if self.aborts:
            self.model.abort_from_inside()
        if self.raises:
            raise CallbackError

    @property
    def sent(self) -> list[int]:
        return [res["totalBytesSent"] for res in self.calls]


class Model:
    """One task, and what is known about it."""

    def __init__(self, raises: bool, aborts_in: str | None) -> None:
        self.recorder = RecordingCallbacks(self._then)
        self.raises = raises
        self.aborts_in = aborts_in
        self.task: UploadTask
        self.request: Stepper | None = None
        self.listeners: list[Listener] = []
        self.removed: list[Listener] = []
        self.events: list[int] = []  # the byte counts of the progress events, each once
        self.events_at_abort: int | None = None
        self.was_aborted = False
        self.status: int | None = None  # the status of the server's answer
        self.was_reset = False
        self.whole = False  # the server has read the whole body
        self._lock = threading.Lock()
        self._news = threading.Condition()
        self._arrived = 0
        self._made = threading.Event()

    def start(self, url: str, path: Path) -> None:
        self.task = uploadFile(self.recorder.object(url, path, timeout=0))
        self._made.set()
        self.task.onHeadersReceived(self.recorder.headers)
        self.task.events.subscribe(self._on_item, self._on_end)

    def _then(self, kind: str, value: Any) -> None:
        self._made.wait(PATIENCE)
        if kind == self.aborts_in:
            self.abort_from_inside()
        if self.raises:
            raise CallbackError

    def _on_item(self, item: Any) -> None:
        with self._news:
            if isinstance(item, Progress):
                self._arrived = item.sent
                self._news.notify_all()

    def _on_end(self, error: Exception) -> None:
        with self._news:
            self._news.notify_all()

    def wait_for_progress(self, sent: int) -> None:
        """Wait until `task.events` has reported this many bytes; a listener may abort before."""
        with self._news:
            assert self._news.wait_for(
                lambda: self._arrived >= sent or self.task.state not in ("uploading", "waiting"), PATIENCE
            )

    def note_event(self, sent: int) -> None:
        with self._lock:
            if sent not in self.events:
                self.events.append(sent)

    def abort_from_inside(self) -> None:
        """After an abort in a callback there is no event."""
        self._abort(allowed=0)

    def abort_from_outside(self) -> None:
        """After an abort from elsewhere, one event whose delivery had begun may finish."""
        self._abort(allowed=1)

    def _abort(self, allowed: int) -> None:
        had_ended = self.task.state in ("done", "failed", "aborted")
        self.task.abort()
        with self._lock:
            if self.task.state == "aborted" and not had_ended and not self.was_aborted:
                self.was_aborted = True
                self.events_at_abort = len(self.events) + allowed

    @property
    def has_ended(self) -> bool:
        return "complete" in self.recorder.kinds

    def check_end(self) -> None:
        """Exactly one of success and fail comes, then one complete, and both fit what happened."""
        kinds = self.recorder.wait().kinds
        ends = [kind for kind in kinds if kind in ("success", "fail")]
        assert len(ends) == 1, kinds
        assert kinds[-1] == "complete", kinds
        assert kinds.count("complete") == 1, kinds
        assert kinds[-2] == ends[0], kinds
        assert kinds.count("headers") <= 1, kinds
        if self.task.state == "aborted":
            assert self.was_aborted
            assert self.recorder.of("fail") == [("user cancel request", 1002)]
            with pytest.raises(UploadAborted):
                self.task.result(PATIENCE)
        elif ends == ["success"]:
            assert self.task.state == "done"
            assert self.recorder.res["statusCode"] == self.status
            assert kinds[0] == "headers"
            assert self.task.result(PATIENCE)["statusCode"] == self.status
        else:
            assert self.task.state == "failed"
            assert self.was_reset
            assert self.recorder.code == 300
        if self.events_at_abort is not None:
            assert len(self.events) <= self.events_at_abort
        for listener in self.listeners + self.removed:
            sent = listener.sent
            assert all(earlier < later for earlier, later in pairwise(sent)), sent
        if ends == ["success"] and self.whole:
            for listener in self.listeners:
                assert listener.calls, "a listener that stayed was told nothing"
                assert listener.calls[-1]["progress"] == 100


TASKS = 4
picks = st.integers(0, TASKS - 1)  # one of the tasks or listeners for a step
listeners = st.tuples(st.booleans(), st.sampled_from([False, False, False, True]))  # raises, aborts


class Uploads(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        uploadtask.configure(max_concurrent=LIMIT)
        self.stack = ExitStack()
        self.stack.callback(uploadtask.configure, max_concurrent=5)
        self.folder = Path(self.stack.enter_context(TemporaryDirectory()))
        self.stack.enter_context(no_thread_left())
        self.server = self.stack.enter_context(SteppedServer())
        self.all: list[Model] = []
        for size in SIZES:
            with (self.folder / str(size)).open("wb") as file:
                file.truncate(size)

    # The caller

    @precondition(lambda self: len(self.all) < TASKS)
    @rule(
        size=st.sampled_from([*SIZES, SIZES[-1]]),
        raises=st.booleans(),
        aborts_in=st.sampled_from([None, None, None, "headers", "success", "complete"]),
        first=st.lists(listeners, max_size=2),
    )
    def create(self, size: int, raises: bool, aborts_in: str | None, first: list[tuple[bool, bool]]) -> None:
        model = Model(raises, aborts_in)
        self.all.append(model)
        model.start(f"{self.server.url}{len(self.all) - 1}", self.folder / str(size))
        for listener in first:
            self.listen(model, *listener)

    def listen(self, model: Model, raises: bool, aborts: bool) -> None:
        listener = Listener(raises, aborts, model)
        is_late = model.has_ended and model.task.state == "done" and model.whole
        model.listeners.append(listener)
        model.task.onProgressUpdate(listener)
        if is_late:
            assert [res["progress"] for res in listener.calls] == [100]

    @precondition(lambda self: self.all)
    @rule(pick=picks, listener=listeners)
    def listen_to_one(self, pick: int, listener: tuple[bool, bool]) -> None:
        self.listen(self.all[pick % len(self.all)], *listener)

    @precondition(lambda self: self.listened())
    @rule(pick=picks, which=picks)
    def listen_again(self, pick: int, which: int) -> None:
        model = self.listened()[pick % len(self.listened())]
        model.task.onProgressUpdate(model.listeners[which % len(model.listeners)])

    @precondition(lambda self: self.listened())
    @rule(pick=picks, which=picks)
    def unlisten(self, pick: int, which: int) -> None:
        model = self.listened()[pick % len(self.listened())]
        listener = model.listeners.pop(which % len(model.listeners))
        model.task.offProgressUpdate(listener)
        model.removed.append(listener)

    @precondition(lambda self: self.listened())
    @rule(pick=picks)
    def unlisten_all(self, pick: int) -> None:
        model = self.listened()[pick % len(self.listened())]
        model.task.offProgressUpdate()
        model.removed += model.listeners
        model.listeners = []

    @precondition(lambda self: self.all)
    @rule(pick=picks, elsewhere=st.booleans())
    def abort(self, pick: int, elsewhere: bool) -> None:
        model = self.all[pick % len(self.all)]
        if elsewhere:
            thread = threading.Thread(target=model.abort_from_outside)
            thread.start()
            thread.join()
        else:
            model.abort_from_outside()

    # The server; it stalls while none of these steps runs

    @precondition(lambda self: self.all)
    @rule(pick=picks)
    def accept(self, pick: int) -> None:
        self.under_way(pick)

    @precondition(lambda self: self.all)
    @rule(pick=picks, count=st.sampled_from([1, MIB, 2 * MIB]))
    def read(self, pick: int, count: int) -> None:
        """The bytes that the server has read have arrived, and the next event reports them."""
        model = self.under_way(pick)
        if model is not None:
            request = model.request
            request.read(count)
            model.wait_for_progress(request.received)

    @precondition(lambda self: self.all)
    @rule(pick=picks, early=st.booleans())
    def answer(self, pick: int, early: bool) -> None:
        model = self.under_way(pick)
        if model is not None:
            request = model.request
            if not early:
                request.read_all()
                model.whole = True
            model.status = 413 if early else 200
            request.respond(model.status)
            model.check_end()

    @precondition(lambda self: self.all)
    @rule(pick=picks)
    def fail(self, pick: int) -> None:
        model = self.under_way(pick)
        if model is not None:
            request = model.request
            model.was_reset = True
            request.reset()
            model.check_end()

    def listened(self) -> list[Model]:
        return [model for model in self.all if model.listeners]

    def under_way(self, pick: int) -> Model | None:
        """A running task with its request at the server; None if none runs, or if it was aborted before."""
        candidates = [
            model
            for model in self.all
            if model.task.state in ("uploading", "waiting") and model.status is None and not model.was_reset
        ]
        if not candidates:
            return None
        model = candidates[pick % len(candidates)]
        while model.request is None and not model.has_ended:
            with contextlib.suppress(queue.Empty):  # it may be aborted before that
                request = self.server.requests.get(timeout=0.05)
                self.all[int(request.path[1:])].request = request
        return model if model.request is not None else None

    @invariant()
    def a_few_run_and_the_others_wait(self) -> None:
        """The tasks that have begun are older than the waiting ones.

        A task whose turn has come is "queued" until its thread runs. So few up to one that has begun have not ended.
        The newest is looked at first: the older ones have begun before it, and may only end meanwhile.
        """
        states = [model.task.state for model in reversed(self.all)][::-1]
        begun = [n for n, state in enumerate(states) if state in ("uploading", "waiting")]
        up_to_the_newest = states[: max(begun, default=-1) + 1]
        assert sum(state in ("queued", "uploading", "waiting") for state in up_to_the_newest) <= LIMIT

    def teardown(self) -> None:
        with self.stack:
            for model in self.all:
                if not model.has_ended:
                    model.abort_from_outside()
            for model in self.all:
                model.check_end()
            calls = self.calls()
        assert self.calls() == calls, "an event after the end"

    def calls(self) -> list[tuple[int, int]]:
        return [(len(model.recorder.calls), len(model.events)) for model in self.all]


logging.getLogger("rxupload").addFilter(
    lambda record: not record.exc_info or record.exc_info[0] is not CallbackError
)

TestUploads = Uploads.TestCase
TestUploads.settings = settings(max_examples=100, stateful_step_count=30)
