"""Remembers unfinished uploads: what is remembered, and the store that holds it for the life of the process."""

# ruff: noqa: SLF001

from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from rxupload._errors import ResumeInUse
from rxupload._wait import Wake


@dataclass(frozen=True, slots=True)
class Key:
    """Names an upload in a store.

    Attributes:
        name: In hex.
        protocol: The protocol's name.
        endpoint: The endpoint's address without secrets.
        path: The file; None if the source has no path.
    """

    name: str
    protocol: str
    endpoint: str
    path: Path | None


def key_of(
    protocol: str, endpoint: str, path: Path | None, metadata: Mapping[str, str | bytes] | None
) -> Key:
    """Return the key of an upload. Without a path, each call returns another one."""
    text = repr((protocol, endpoint, path or uuid.uuid4(), sorted((metadata or {}).items())))
    return Key(hashlib.sha256(text.encode()).hexdigest(), protocol, "", path)


@dataclass(frozen=True, slots=True, repr=False)
class Entry:
    """What is remembered of an unfinished upload."""

    url: str
    created: float
    expires: float | None = None
    identity: Any = None
    checkpoint: Any = None
    chunk_size: int | None = None
    extra: Mapping[str, str] = field(default_factory=dict)


class Slot(Protocol):
    """The entry of one upload, held by one subscription."""

    @property
    def entry(self) -> Entry | None:
        """What is remembered."""
        ...

    def save(self, entry: Entry) -> None:
        """Remember a new upload."""

    def update(self, **changes: Any) -> None:
        """Change the entry, if there still is one."""

    def remove(self) -> None:
        """Forget the upload."""

    def close(self) -> None:
        """Let another subscription have it."""


class Store(Protocol):
    """Holds the entries of unfinished uploads."""

    needs_path: bool

    def open(self, key: Key, wait: Callable[[Wake], None], is_stopping: Callable[[], bool]) -> Slot:
        """Take the slot of an upload."""
        ...


class MemoryStore:
    """Holds the entries for the life of the process."""

    needs_path = False

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}
        self._holders: dict[str, _Slot] = {}

    def open(self, key: Key, wait: Callable[[Wake], None], is_stopping: Callable[[], bool]) -> Slot:
        """Take the slot of an upload."""
        while True:
            with self._lock:
                holder = self._holders.get(key.name)
                if holder is None:
                    self._holders[key.name] = slot = _Slot(self, key.name, is_stopping)
                    return slot
                if not holder.is_stopping():
                    raise ResumeInUse("The same upload is running already")
                wake = Wake()
                holder.waiting.append(wake)
            try:
                wait(wake)
            finally:
                with self._lock:
                    wake.close()


class _Slot:
    def __init__(self, store: MemoryStore, name: str, is_stopping: Callable[[], bool]) -> None:
        self._store = store
        self._name = name
        self.is_stopping = is_stopping
        self.waiting: list[Wake] = []

    @property
    def entry(self) -> Entry | None:
        return self._store._entries.get(self._name)

    def save(self, entry: Entry) -> None:
        self._store._entries[self._name] = entry

    def update(self, **changes: Any) -> None:
        if (entry := self.entry) is not None:
            self.save(replace(entry, **changes))

    def remove(self) -> None:
        self._store._entries.pop(self._name, None)

    def close(self) -> None:
        with self._store._lock:
            if self._store._holders.get(self._name) is self:
                del self._store._holders[self._name]
            for wake in self.waiting:
                wake.set()
