"""Uploads in any order of interruptions, against a model: what ends well is the file, whole, and nothing is in vain."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any

import httpx
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.recording_observer import RecordingObserver, observe
from support.resumable_uploads import check_passes, outcome_of
from support.scripted_server import PATIENCE, Server
from support.tus_server import Tus, broken_after, is_in_place, partial, respond, status, take

from rxupload._client import default_client
from rxupload.operators import retry_backoff
from rxupload.resumable import FileStore, MemoryStore, ResumableUpload, upload_resumable
from rxupload.resumable import Tus as TusProtocol

SIZE = 300_000
OFFSETS = st.integers(0, SIZE)


def version(number: int) -> bytes:
    """A content of the file."""
    return hashlib.shake_256(bytes([number])).digest(SIZE)


class Uploads(RuleBasedStateMachine):
    """One file, one store, one server. Each rule is an event, and `begin`, `finish` and `discard` subscribe.

    The model: which version of the file the remembered upload is of (`begun`), and how much of it the server has.
    """

    @initialize(
        in_files=st.booleans(),
        chunk_size=st.sampled_from([None, 1 << 16, 100_000]),
        parallel=st.sampled_from([1, 1, 1, 2]),
        extensions=st.sampled_from(["", "checksum", "checksum,concatenation,creation-with-upload"]),
    )
    def start(self, in_files: bool, chunk_size: int | None, parallel: int, extensions: str) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.file = self.folder / "file.bin"
        self.number = 0
        self.file.write_bytes(version(0))
        self.store: Any = FileStore(self.folder / "state") if in_files else MemoryStore()
        self.tus = Tus(extensions=extensions, algorithms="sha1,sha256")
        self.server = Server(self.tus).__enter__()
        self.options: dict[str, Any] = {"chunk_size": chunk_size, "protocol": TusProtocol(parallel=parallel)}
        self.successes = 0

    def teardown(self) -> None:
        if hasattr(self, "server"):
            default_client().close_idle()
            self.server.__exit__(None, None, None)
            shutil.rmtree(self.folder)

    def upload(self, **options: Any) -> ResumableUpload:
        """The same upload, by another object each time."""
        return upload_resumable(
            f"{self.server.url}files", self.file, store=self.store, **self.options, **options
        )

    def run(self, source: Any) -> RecordingObserver:
        observed, _ = observe(source)
        observed.wait()
        check_passes(observed.progress)
        return observed

    def check(self, observed: RecordingObserver) -> None:
        """Check the end of a subscription: a success means that the server has the file as it is now."""
        if not observed.is_completed:
            assert isinstance(observed.error, httpx.HTTPError), observed.error
            return
        response = observed.items[-1]
        outcome = outcome_of(response)
        if response.status_code // 100 != 2:
            return
        path = "/" + outcome.url.split("/", 3)[3]
        assert bytes(self.tus.uploads[path].content) == version(self.number)
        assert observed.progress[-1].percent == 100
        self.successes += 1

    # What a user does

    @rule()
    def subscribe(self) -> None:
        """Subscribe, and take the end as it comes."""
        self.check(self.run(self.upload()))

    @rule(count=OFFSETS)
    def dispose(self, count: int) -> None:
        """Dispose as soon as so many bytes have arrived, or at the end."""
        reached = threading.Event()
        observed = RecordingObserver(
            lambda item: reached.set() if getattr(item, "sent", SIZE) >= count else None
        )
        subscription = self.upload(progress_interval=0).subscribe(
            observed.on_next,
            lambda error: (observed.on_error(error), reached.set()),
            lambda: (observed.on_completed(), reached.set()),
        )
        assert reached.wait(PATIENCE)
        subscription.dispose()
        # This one waits until the disposed one has let go, and ends it on both sides.
        if not observed.ended:
            self.check(self.run(self.upload()))

    @rule()
    def discard(self) -> None:
        """Discard: if the server answers, it has nothing of the file that could be continued."""
        observed = self.run(self.upload().discard())
        if observed.is_completed and observed.items[-1] is not None and not self.tus.is_down:
            assert observed.items[-1].status_code in {204, 404, 423, 500, 503}

    @rule(number=st.integers(0, 3))
    def write(self, number: int) -> None:
        """Write another content, or the same one, into the file."""
        self.number = number
        self.file.write_bytes(version(number))

    @rule(chunk_size=st.sampled_from([None, 1 << 16, 1 << 20]))
    def choose_chunks(self, chunk_size: int | None) -> None:
        """Go on with another size of chunks."""
        self.options["chunk_size"] = chunk_size

    # What happens to the server

    @rule(count=OFFSETS, kept=OFFSETS, resets=st.booleans())
    def break_connection(self, count: int, kept: int, resets: bool) -> None:
        """One of the next requests breaks after so many bytes, of which so many are kept."""
        self.tus.then("PATCH", broken_after(count, kept=min(count, kept), resets=resets))

    @rule(count=OFFSETS)
    def take_less(self, count: int) -> None:
        """One of the next requests is answered with a lesser offset."""
        self.tus.then("PATCH", partial(count))

    @rule(method=st.sampled_from(["POST", "HEAD", "PATCH", "DELETE"]), code=st.sampled_from([423, 500, 503]))
    def refuse(self, method: str, code: int) -> None:
        """One of the next requests is refused for now."""
        self.tus.then(method, code)

    @rule(code=st.sampled_from([409, 460]))
    def confuse(self, code: int) -> None:
        """One of the next parts is refused, and sent again."""
        self.tus.then("PATCH", code)

    @rule(code=st.sampled_from([403, 404, 410]))
    def deny(self, code: int) -> None:
        """One of the next HEADs says that there is no such upload."""
        self.tus.then("HEAD", code)

    @rule()
    def lose_the_response(self) -> None:
        """The server takes a part, and the connection ends before the response."""

        def answer(connection: Any, asked: Any, tus: Tus) -> None:
            if is_in_place(asked, tus):
                take(connection, asked, tus.uploads[asked.path])
            connection.sock.close()
            raise ConnectionAbortedError

        self.tus.then("PATCH", answer)

    @rule()
    def answer_stale(self) -> None:
        """One of the next HEADs has an earlier offset."""

        def answer(connection: Any, asked: Any, tus: Tus) -> None:
            kept = tus.uploads.get(asked.path)
            if kept is None:
                status(404)(connection, asked, tus)
            else:
                length = f"Upload-Length: {kept.length}"
                respond(connection, 200, f"Upload-Offset: {len(kept.content) // 2}", length)

        self.tus.then("HEAD", answer)

    @rule()
    def forget(self) -> None:
        """The server loses all uploads: they have expired, or its disk is new."""
        self.tus.uploads.clear()

    @rule(is_down=st.booleans())
    def go_down_or_up(self, is_down: bool) -> None:
        """The server goes down, or comes back, with its uploads."""
        self.tus.is_down = is_down
        default_client().close_idle()

    @rule(most=st.sampled_from([None, 1 << 16, 1 << 17]))
    def limit(self, most: int | None) -> None:
        """A proxy limits the size of a request, or no longer."""
        self.tus.most = most

    # The end

    @precondition(lambda self: hasattr(self, "server"))
    @rule()
    def finish(self) -> None:
        """With a server that is well, `retry_backoff` brings each upload to its end."""
        self.tus.is_down = False
        self.tus.most = None
        before = self.successes
        source = self.upload().pipe(retry_backoff(attempts=60, wait_initial=0, wait_jitter=0))
        for _ in range(30):  # an answer of the script may be one that is not tried again
            self.check(self.run(source))
            if self.successes > before:
                break
        assert self.successes > before

    @invariant()
    def no_upload_has_too_much(self) -> None:
        """No upload on the server has more than its length."""
        if hasattr(self, "tus"):
            for kept in self.tus.uploads.values():
                assert kept.length is None or len(kept.content) <= kept.length


TestUploads = Uploads.TestCase
TestUploads.settings = settings(
    max_examples=25,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
