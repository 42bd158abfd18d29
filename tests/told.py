"""What the callbacks of a task are told, and servers that do as a test says, step by step."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

from servers import PATIENCE, Connection, Server, header

ENDS = ("success", "fail")


class Told:
    """Notes every call of a task's callbacks, with its thread; overlapping ones, and disorder, are faults."""

    def __init__(self, then: Callable[[str, Any], object] | None = None) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.threads: set[str] = set()
        self.idents: set[int] = set()
        self.faults: list[str] = []
        self._then = then  # done inside each call, after it was noted
        self._busy = threading.Lock()
        self._news = threading.Condition()

    def object(self, url: str, path: Any, **more: Any) -> dict[str, Any]:
        """OBJECT, with callbacks that note."""
        return {
            "url": url,
            "filePath": str(path),
            "name": "photo",
            "success": self.success,
            "fail": self.fail,
            "complete": self.complete,
            **more,
        }

    def success(self, res: Any) -> None:
        self._note("success", res)

    def fail(self, data: Any, code: Any) -> None:
        self._note("fail", (data, code))

    def complete(self, *args: Any) -> None:
        self._note("complete", args)

    def progress(self, res: Any) -> None:
        self._note("progress", res)

    def headers(self, res: Any) -> None:
        self._note("headers", res)

    def _note(self, kind: str, value: Any) -> None:
        if not self._busy.acquire(blocking=False):
            self.faults.append("callbacks overlap")
            self._busy.acquire()
        try:
            self.threads.add(threading.current_thread().name)
            self.idents.add(threading.get_ident())
            with self._news:
                self.calls.append((kind, value))
                self._news.notify_all()
            if self._then is not None:
                self._then(kind, value)
        finally:
            self._busy.release()

    def wait_for(self, predicate: Callable[[Told], object]) -> Told:
        """Wait until what was told fulfils it."""
        with self._news:
            assert self._news.wait_for(lambda: predicate(self), PATIENCE), f"told so far: {self.calls}"
        return self

    def wait(self) -> Told:
        """Wait for complete."""
        self.wait_for(lambda told: "complete" in told.kinds)
        assert not self.faults
        return self

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.calls]

    def of(self, kind: str) -> list[Any]:
        """What the calls of this kind were given."""
        return [value for each, value in self.calls if each == kind]

    @property
    def sent(self) -> list[int]:
        return [res["totalBytesSent"] for res in self.of("progress")]

    @property
    def code(self) -> int:
        (end,) = self.of("fail")
        return end[1]

    @property
    def res(self) -> dict[str, Any]:
        (end,) = self.of("success")
        return end


class Stepper:
    """A request at a server that takes each step when the test says so."""

    def __init__(self, head: bytes, connection: Connection) -> None:
        self.head = head
        self.path = head.split(b" ")[1].decode()
        self.total = int(header(head, b"content-length") or 0)
        self._connection = connection
        self._steps: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._done: SimpleQueue[object] = SimpleQueue()

    def run(self) -> None:
        """On the server's thread."""
        while (step := self._steps.get(timeout=6 * PATIENCE)) is not None:
            try:
                self._done.put(step())
            except OSError as error:
                self._done.put(error)

    @property
    def received(self) -> int:
        """The bytes of the body that were read."""
        return self._connection.received

    def _do(self, step: Callable[[], object]) -> Any:
        self._steps.put(step)
        return self._done.get(timeout=PATIENCE)

    def read(self, count: int) -> int:
        """Read so many bytes of the body, or what is left of it; how many those were."""
        return self._do(lambda: self._connection.read(min(count, self.total - self._connection.received)))

    def read_all(self) -> None:
        """Read the rest of the body."""
        self.read(self.total)

    def respond(self, status: int = 200, body: bytes = b"", *headers: str) -> None:
        self._do(lambda: self._connection.respond(status, body, "Connection: close", *headers))

    def reset(self) -> None:
        self._do(self._connection.reset)

    def wait_for_end(self) -> float:
        """Wait until the client has gone."""
        return self._do(self._connection.wait_for_end)

    def leave(self) -> None:
        """Close the connection."""
        self._steps.put(None)


class SteppedServer(Server):
    """A server whose requests the test takes step by step."""

    def __init__(self, **options: Any) -> None:
        self.requests: SimpleQueue[Stepper] = SimpleQueue()
        self._steppers: list[Stepper] = []
        super().__init__(self._serve, receive_buffer=1 << 16, **options)

    def _serve(self, connection: Connection) -> None:
        head = connection.read_head()
        if head:
            stepper = Stepper(head, connection)
            self._steppers.append(stepper)
            self.requests.put(stepper)
            if not self._closing:
                stepper.run()

    def next_request(self) -> Stepper:
        """Wait for the next request's head."""
        return self.requests.get(timeout=PATIENCE)

    def __exit__(self, *args: object) -> None:
        self._closing = True
        for stepper in list(self._steppers):
            stepper.leave()
        super().__exit__(*args)


@contextlib.contextmanager
def no_thread_left() -> Iterator[None]:
    """Check that the threads which a block started come to their end."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE)
        assert not thread.is_alive(), f"{thread} is left over"
