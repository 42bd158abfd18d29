"""A server with requests that take each step when the test says so."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from support.scripted_server import PATIENCE, Server, header

from rxupload.testing import Connection


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
        """Run the steps on the server's thread."""
        while (step := self._steps.get(timeout=6 * PATIENCE)) is not None:
            try:
                self._done.put(step())
            except OSError as error:
                self._done.put(error)

    @property
    def received(self) -> int:
        """The number of body bytes that were read."""
        return self._connection.received

    def _do(self, step: Callable[[], object]) -> Any:
        self._steps.put(step)
        return self._done.get(timeout=PATIENCE)

    def read(self, count: int) -> int:
        """Read this many bytes of the body, or what is left of it; return their number."""
        return self._do(lambda: self._connection.read(count))

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

    def close(self) -> None:
        """Close the connection."""
        self._steps.put(None)


class SteppedServer(Server):
    """A server with requests that the test takes step by step."""

    def __init__(self, **options: Any) -> None:
        self.requests: SimpleQueue[Stepper] = SimpleQueue()
        self._steppers: list[Stepper] = []
        self._is_over = False
        super().__init__(self._serve, receive_buffer=1 << 16, **options)

    def _serve(self, connection: Connection) -> None:
        head = connection.read_head()
        if head:
            stepper = Stepper(head, connection)
            self._steppers.append(stepper)
            self.requests.put(stepper)
            if not self._is_over:
                stepper.run()

    def next_request(self, timeout: float = PATIENCE) -> Stepper:
        """Wait for the next request's head."""
        return self.requests.get(timeout=timeout)

    def __exit__(self, *args: object) -> None:
        self._is_over = True
        for stepper in list(self._steppers):
            stepper.close()
        super().__exit__(*args)
