"""Callbacks for a task that record every call."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from support.scripted_server import PATIENCE

ENDS = ("success", "fail")


class RecordingCallbacks:
    """Records every call of a task's callbacks with its thread; overlapping calls are faults."""

    def __init__(self, then: Callable[[str, Any], object] | None = None) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.threads: set[str] = set()
        self.idents: set[int] = set()
        self.faults: list[str] = []
        self._then = then  # called inside each call, after it was recorded
        self._busy = threading.Lock()
        self._news = threading.Condition()

    def object(self, url: str, path: Any, **more: Any) -> dict[str, Any]:
        """OBJECT with the recording callbacks."""
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

    def wait_for(self, predicate: Callable[[RecordingCallbacks], object]) -> RecordingCallbacks:
        """Wait until the recorded calls fulfil the predicate."""
        with self._news:
            assert self._news.wait_for(lambda: predicate(self), PATIENCE), f"told so far: {self.calls}"
        return self

    def wait(self) -> RecordingCallbacks:
        """Wait for complete."""
        self.wait_for(lambda recorder: "complete" in recorder.kinds)
        assert not self.faults
        return self

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.calls]

    def of(self, kind: str) -> list[Any]:
        """The arguments of the calls of this kind."""
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
