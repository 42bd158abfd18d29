"""Defines the bounded buffer between a producer, on its own thread or loop, and the worker that sends."""

from __future__ import annotations

from abc import abstractmethod
from threading import Condition

from .base import Owner
from .pieces import Flow

LIMIT = 1024 * 1024  # bytes that may wait to be sent; a longer item waits alone


class Buffered(Flow):
    """A flow of items that another thread or a loop produces.

    The worker makes, reads and closes it. A subclass puts the items into the buffer, and makes its producer wait.
    """

    def __init__(self, label: str, owner: Owner) -> None:
        self._label = label
        self._owner = owner
        self._changed = Condition()  # guards what follows
        self._has_begun = False  # an item has come, or the end, or the producer has begun
        self._has_ended = False  # further items are dropped
        self._error: BaseException | None = None  # why it has
        self._buffer = bytearray()
        self._items = 0

    # The worker's side

    def wait_for_begin(self) -> None:
        """Wait for the first item, or until the producer has begun. Close it if that fails.

        Raises:
            Exception: The producer's error, or the upload's reason to stop.
        """
        try:
            while not self._has_begun:
                self._owner.wait()
            self._raise_error()
        except BaseException:
            self.close()
            raise

    def read(self, count: int) -> bytes | None:  # noqa: ARG002 - LIMIT bounds the buffer
        """Take the whole buffer.

        Raises:
            Exception: The producer's error, as soon as it has come.
        """
        with self._changed:
            self._raise_error()
            data, self._buffer = self._buffer, bytearray()
            has_ended = self._has_ended
            self._changed.notify_all()  # there is room
        return bytes(data) if data or has_ended else None

    @abstractmethod
    def close(self) -> None:
        """Drop further items, and end the producer."""

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    # The producer's side

    def _bytes_of(self, value: object) -> bytes:
        index, self._items = self._items, self._items + 1
        if isinstance(value, bytes):
            return value
        try:
            return memoryview(value).tobytes()  # type: ignore[arg-type]
        except TypeError:
            kind = type(value).__name__
            raise TypeError(f"{self._label} must give bytes, and its item {index} is {kind}") from None

    def _has_room(self, count: int) -> bool:
        return self._has_ended or not self._buffer or len(self._buffer) + count <= LIMIT

    def _add(self, data: bytes) -> None:
        """Append to the buffer, which has room."""
        with self._changed:
            if not self._has_ended:
                self._buffer += data
                self._begin()

    def _begin(self) -> None:
        with self._changed:
            self._has_begun = True
            self._changed.notify_all()
        self._owner.wake.set()

    def _end(self, error: BaseException | None = None) -> bool:
        """Take nothing more. Return whether this call ended it."""
        with self._changed:
            if self._has_ended:
                return False
            self._has_ended = True
            self._error = error
            self._begin()
        return True

    def _fail(self, error: BaseException) -> bool:
        """End it and the upload with an error. Return whether this call ended it."""
        if is_first := self._end(error):
            self._owner.stop(error)  # the worker may be blocked in a send, while the server does not read
        return is_first
