"""Files that change at any moment of uploads that break, stop and are killed at any moment: no success is a mixture."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.changing_files import CHANGES, SIZE, Change, ChangingFile, small_steps
from support.resumable_uploads import outcome_of
from support.scripted_server import PATIENCE
from support.tus_server import Answer, Asked, Gone, Kept, Tus, is_in_place, respond, status, take, tus_server

from rxupload import SourceChanged
from rxupload._client import default_client
from rxupload.resumable import FileStore, MemoryStore, upload_resumable
from rxupload.resumable import Tus as TusProtocol
from rxupload.testing import Connection, RecordingObserver


@dataclass(frozen=True)
class Patch:
    """What happens during a PATCH: some bytes are read, the file changes, and so on, and the end.

    Attributes:
        moves: How many bytes are read, and then a change; None: the state is kept as it is when a process is killed.
        end: What becomes of the connection.
        lost: Bytes that the server loses after it.
    """

    moves: list[tuple[int, Change | None]]
    end: str
    lost: int


ENDS = ["break", "break", "dispose", "right", "right", "partial", "conflict", "unanswered", "fail"]
PATCHES = st.builds(
    Patch,
    moves=st.lists(st.tuples(st.integers(0, 60_000), st.none() | CHANGES), max_size=4),
    end=st.sampled_from(ENDS),
    lost=st.sampled_from([0, 0, 0, 10_000, 70_000]),
)


@dataclass(frozen=True)
class Run:
    """A subscription.

    Attributes:
        patches: What happens during its first PATCHes. The others are right.
        stale: So much less is in the answer to its first HEAD.
        changes: Of the file, before the next one.
        is_killed: Whether the process is killed where a PATCH says so. Then what the script does after that happens to
            the server and the file alone.
    """

    patches: list[Patch]
    stale: int
    changes: list[Change]
    is_killed: bool


RUNS = st.builds(
    Run,
    patches=st.lists(PATCHES, max_size=4),
    stale=st.sampled_from([0, 0, 0, 5000, 50_000]),
    changes=st.lists(CHANGES, max_size=3),
    is_killed=st.booleans(),
)


@st.composite
def detours(draw: st.DrawFn) -> Run:
    """The file is another one while some bytes are read, the process is killed, and the file is put back."""
    before, during = draw(st.integers(0, 60_000)), draw(st.integers(1, 60_000))
    away = Change(draw(st.sampled_from(["edit", "scribble", "regrow"])), draw(st.integers(0, before)))
    first = draw(
        st.lists(st.builds(Patch, st.just([]), st.sampled_from(["right", "partial"]), st.just(0)), max_size=1)
    )
    patch = Patch([(before, away), (during, None)], "break", draw(st.sampled_from([0, 0, 10_000])))
    back = Change(draw(st.sampled_from(["restore", "replace"])), 0)
    return Run([*first, patch], 0, [back], is_killed=draw(st.booleans()))


class Story:
    """One file, one server, one store, and subscriptions one after the other."""

    def __init__(self, folder: Path, tus: Tus, url: str, *, is_object: bool, options: dict[str, Any]) -> None:
        self.file = ChangingFile(folder)
        self._tus = tus
        self._tus.location = self._created
        self._state = folder / "state"
        self._start = 1000 if is_object else 0
        self._stream = self.file.path.open("rb") if is_object else None
        if self._stream is not None:
            self._stream.seek(self._start)
        self._store = MemoryStore() if is_object else FileStore(self._state)
        self._up = upload_resumable(
            url, self._stream or self.file.path, store=self, progress_interval=0, **options
        )
        self._is_over = threading.Event()
        self._has_let_go = threading.Event()
        self._killed: tuple[int, dict[Path, bytes]] | None = None
        self._is_known = False  # whether an upload is remembered of the file as it is
        self.needless = 0  # uploads that were created although such a one was there

    # It is the store of its upload, to see when that has let go.
    needs_path = False

    def open(self, *arguments: Any) -> Any:
        slot: Any = self._store.open(*arguments)
        close = slot.close
        slot.close = lambda: (close(), self._has_let_go.set())
        return slot

    def close(self) -> None:
        """Close the file object."""
        if self._stream is not None:
            self._stream.close()

    def change(self, change: Change) -> None:
        """Change the file."""
        self._is_known = False
        self.file.change(change)

    @property
    def content(self) -> bytes:
        """What the server has after a success."""
        if self._stream is None:
            return self.file.path.read_bytes()
        return os.pread(self._stream.fileno(), SIZE, self._start)

    def run(self, run: Run) -> bool:
        """Subscribe. Return whether it was a success, after which the server has the file as it is."""
        self._tus.answers.clear()
        self._tus.then("PATCH", *map(self._answer, run.patches))
        if run.stale:
            self._tus.then("HEAD", partial(self._answer_stale, run.stale))
        self._killed = None
        self._is_over.clear()
        self._has_let_go.clear()
        observed: RecordingObserver[Any] = RecordingObserver()
        subscription = self._up.subscribe(
            observed.on_next,
            lambda error: (observed.on_error(error), self._is_over.set()),
            lambda: (observed.on_completed(), self._is_over.set()),
        )
        assert self._is_over.wait(PATIENCE)
        subscription.dispose()
        assert self._has_let_go.wait(PATIENCE)
        self._tus.wait_until_left()  # until then the file may still change
        assert isinstance(observed.error, httpx.HTTPError | SourceChanged | None), observed.error
        is_success = observed.is_completed and observed.response.status_code // 100 == 2
        if is_success:
            path = "/" + outcome_of(observed.response).url.split("/", 3)[3]
            assert bytes(self._tus.uploads[path].content) == self.content
            self._is_known = False
        elif run.is_killed and self._killed is not None:
            created, states = self._killed
            self._is_known = self._is_known and created == self._tus.created
            for state, data in states.items():
                state.write_bytes(data)
        return is_success

    # What the server does

    def _created(self, path: str) -> str:
        self.needless += self._is_known
        self._is_known = True
        return path

    def _answer_stale(self, less: int, connection: Connection, asked: Asked, tus: Tus) -> None:
        kept = tus.uploads.get(asked.path)
        if kept is None:
            tus.answer(connection, asked)
        else:
            offset = max(0, len(kept.content) - less)
            respond(connection, 200, f"Upload-Offset: {offset}", f"Upload-Length: {kept.length}")

    def _answer(self, patch: Patch) -> Answer:
        def answer(connection: Connection, asked: Asked, tus: Tus) -> None:
            if not is_in_place(asked, tus):
                tus.answer(connection, asked)
                return
            if patch.end == "conflict":
                status(409)(connection, asked, tus)
                return
            self._act(patch, connection, asked, tus)

        return answer

    def _act(self, patch: Patch, connection: Connection, asked: Asked, tus: Tus) -> None:
        kept = tus.uploads[asked.path]
        before, size = len(kept.content), int(asked.header("Content-Length") or 0)
        for count, change in patch.moves:
            take(connection, asked, kept, min(count, before + size - len(kept.content)))
            if change is not None:
                self.change(change)
            elif self._killed is None:
                states = {each: each.read_bytes() for each in self._state.glob("*.json")}
                self._killed = tus.created, states
        rest = before + size - len(kept.content)
        if patch.end in ("right", "unanswered"):
            take(connection, asked, kept, rest)
        elif patch.end in ("partial", "fail"):
            connection.read(rest)
        self._end(patch, connection, asked, kept, before)

    def _end(self, patch: Patch, connection: Connection, asked: Asked, kept: Kept, before: int) -> None:
        is_right = self._is_intact(asked, bytes(kept.content[before:]))
        if not is_right:
            del kept.content[before:]
        if patch.end == "partial":
            del kept.content[max(0, len(kept.content) - patch.lost) :]
        if patch.end in ("right", "partial", "fail"):
            code = {"fail": 500}.get(patch.end, 204 if is_right else 460)
            respond(connection, code, f"Upload-Offset: {len(kept.content)}")
        if len(kept.content) != kept.length:  # else it was a success
            del kept.content[max(0, len(kept.content) - patch.lost) :]
        if patch.end == "dispose":
            self._is_over.set()
            connection.wait_for_end()
        if patch.end in ("dispose", "break", "unanswered"):
            connection.reset()
            raise Gone

    def _is_intact(self, asked: Asked, data: bytes) -> bool:
        checksum = asked.header("Upload-Checksum")
        digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
        return checksum in (None, f"sha256 {digest}")


@contextlib.contextmanager
def story(options: dict[str, Any], *, is_object: bool) -> Iterator[Story]:
    """A story in a folder of its own, with checkpoints and parts that are small enough for its file."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(small_steps())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        tus, server = stack.enter_context(tus_server(Tus(extensions="concatenation")))
        stack.callback(default_client().close_idle)
        made = Story(folder, tus, f"{server.url}files", is_object=is_object, options=options)
        stack.callback(made.close)
        yield made


def check(runs: list[Run], options: dict[str, Any], *, is_object: bool) -> None:
    """Run, and then until a success."""
    with story(options, is_object=is_object) as told:
        is_success = False
        for each in runs:
            is_success = told.run(each)
            for change in each.changes:
                told.change(change)
            if is_success:
                break
        for _ in range(3):
            is_success = is_success or told.run(Run([], 0, [], is_killed=False))
        assert is_success
        # Of several parts, each is created.
        assert told.needless == 0 or options["protocol"].parallel > 1


any_stories = given(
    runs=st.lists(RUNS | detours(), min_size=1, max_size=4),
    chunk_size=st.sampled_from([None, None, 1 << 15, 50_000]),
    verify=st.sampled_from(["fast", "content"]),
    kind=st.sampled_from(["path", "path", "path", "path", "object", "checksum", "parallel"]),
)


def tell(runs: list[Run], chunk_size: int | None, verify: str, kind: str) -> None:
    """Check a story of a path, of a file object, of parts with checksums, or of several connections."""
    if kind == "checksum":
        chunk_size = chunk_size or 40_000
    made = TusProtocol("sha256" if kind == "checksum" else None, parallel=3 if kind == "parallel" else 1)
    check(runs, {"chunk_size": chunk_size, "verify": verify, "protocol": made}, is_object=kind == "object")


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@any_stories
def test_no_success_is_a_mixture(runs, chunk_size, verify, kind):
    """Whatever happens when, the server has the file as it is at the end, and unchanged files are never sent anew."""
    tell(runs, chunk_size, verify, kind)


@pytest.mark.slow
@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@any_stories
def test_no_success_of_many_is_a_mixture(runs, chunk_size, verify, kind):
    """The same, for as long as it takes to find the rare ones."""
    tell(runs, chunk_size, verify, kind)
