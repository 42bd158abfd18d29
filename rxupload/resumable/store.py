"""Defines what is remembered of an unfinished upload, and the stores that remember it; `MemoryStore` is here.

Who may call what of a `Slot`:

| method              | thread                                      | lock held    |
|---------------------|---------------------------------------------|--------------|
| save, remove, close | the upload's                                | the place's  |
| update              | the upload's, and that of its `Checkpoints` | the place's  |

No function of the caller's, `wait` and `is_stopping` among them, is called under a lock.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import RLock
from typing import Any, Protocol
from weakref import WeakSet

from rxupload._addresses import parse_url, shown
from rxupload._errors import ResumeInUse
from rxupload._wait import Wake

from .identity import Checkpoint, Identity

LONGEST = 30 * 24 * 3600.0  # seconds that an entry is kept
MARGIN = 24 * 3600.0  # seconds that it is kept after it has expired: a clock, or its time zone, may be wrong
NAME_DIGITS = 40  # hex digits of a key's name


@dataclass(frozen=True, slots=True, repr=False)
class Entry:
    """What is remembered of an unfinished upload.

    Attributes:
        url: The upload's own URL, which is a secret: whoever has it can write to the upload.
        created: When the upload began, in seconds since the epoch.
        expires: When the server forgets it, in seconds since the epoch; None if it did not say.
        identity: The file; None for a source that is no file.
        checkpoint: The last hash of its content; None if there is none yet.
        sent: So many bytes, from the file's start, were sent of it for sure: it was seen unchanged after the server had
            said that it has them, or after the last byte had gone.
        chunk_size: The most bytes that the server takes in one request, as far as is known.
        extra: What the protocol needs besides.
    """

    url: str
    created: float
    expires: float | None = None
    identity: Identity | None = None
    checkpoint: Checkpoint | None = None
    sent: int = 0
    chunk_size: int | None = None
    extra: Mapping[str, str] = field(default_factory=dict)

    def is_over(self, now: float) -> bool:
        """Whether it has expired a day ago, or is older than 30 days.

        Until then the server is asked. Only that knows whether it still has the upload.
        """
        return now >= self.created + LONGEST or (self.expires is not None and now >= self.expires + MARGIN)


@dataclass(frozen=True, slots=True)
class Key:
    """Which upload it is: two with the same name go on with each other.

    Attributes:
        name: A hash in hex.
        protocol: The protocol's name.
        endpoint: The endpoint without user, password, query and fragment.
        path: The file's real path; None for a source without one.
    """

    name: str
    protocol: str
    endpoint: str
    path: Path | None


def key_of(
    protocol: str,
    endpoint: str,
    path: str | os.PathLike[str] | None,
    metadata: Mapping[str, Any] | None,
) -> Key:
    """Return the key of an upload.

    A source without a path gets another key at each call, for nothing tells two of them apart.

    Args:
        protocol: The protocol's name.
        endpoint: The URL that creates uploads. Its user and password do not count: they may change meanwhile.
        path: Of the file. Links are followed.
        metadata: What the server is told of the file.
    """
    real = None if path is None else os.path.realpath(path)
    url = str(parse_url(endpoint).copy_with(userinfo=b"", fragment=None))
    pairs = [
        [name, {"hex": value.hex()} if isinstance(value, bytes) else value]
        for name, value in sorted((metadata or {}).items())
    ]
    where = {"without": secrets.token_hex(16)} if real is None else os.path.normcase(real)
    whole = json.dumps([protocol, url, where, pairs])
    name = hashlib.sha256(whole.encode(), usedforsecurity=False).hexdigest()[:NAME_DIGITS]
    return Key(name, protocol, shown(url), None if real is None else Path(real))


class Slot(Protocol):
    """One upload's place in a store, from `Store.open` until `close`. Nobody else has it meanwhile."""

    @property
    def entry(self) -> Entry | None:
        """What is remembered; None for nothing."""
        ...

    def save(self, entry: Entry) -> None:
        """Remember a new upload in place of what was there. It is durable when this returns.

        Raises:
            OSError: It cannot be stored.
            RuntimeError: The slot is closed, or this is a forked child of its process.
        """
        ...

    def update(self, **changes: Any) -> None:
        """Change some attributes of the entry, as `save` does. If the slot is empty or closed, this does nothing."""
        ...

    def remove(self) -> None:
        """Forget the upload. If the slot is empty or closed, this does nothing."""
        ...

    def close(self) -> None:
        """Give the place free. A second call does nothing."""
        ...


class Store(Protocol):
    """Remembers unfinished uploads.

    Attributes:
        needs_path: Whether it takes only sources with a path.
    """

    needs_path: bool

    def open(self, key: Key, wait: Callable[[Wake], None], is_stopping: Callable[[], bool]) -> Slot:
        """Take the place of an upload, with what is remembered there. An entry that is over is none.

        Args:
            key: The upload.
            wait: Blocks until a Wake is set. It is called if the slot's holder in this process is about to close it.
                What it raises comes out of `open`.
            is_stopping: Whether the caller is about to close the slot that it gets. Any thread may ask, also a moment
                after it is closed. Once true, it stays so.

        Raises:
            ResumeInUse: The upload runs already.
            ValueError: The store cannot remember such an upload.
            OSError: The store cannot be read or locked.
        """
        ...


# Places


class Place:
    """An upload's place, which one slot at a time has. Its holder uses the lock to change what is stored.

    Attributes:
        name: The upload.
        is_stopping: Whether `leave` comes soon.
        lock: Held while the entry changes.
        is_lost: Whether this process is a fork of the holder's.
        descriptor: What locks the place for this process, if anything; see `Places.forget`.
        waiters: These wait for `leave`.
    """

    def __init__(self, places: Places, name: Hashable, is_stopping: Callable[[], bool]) -> None:
        self.name = name
        self.is_stopping = is_stopping
        self.lock = RLock()
        self.is_lost = False
        self.descriptor: int | None = None
        self.waiters: list[Wake] = []
        self._places = places

    def leave(self) -> None:
        """Give the place free; see `Places.leave`."""
        self._places.leave(self)


class Places:
    """Who has which place, among the uploads of one process."""

    def __init__(self) -> None:
        # Reentrant, because a signal handler may start an upload while its own thread holds the lock.
        self._lock = RLock()
        self._held: dict[Hashable, Place] = {}

    def take(self, name: Hashable, wait: Callable[[Wake], None], is_stopping: Callable[[], bool]) -> Place:
        """Take a place, or wait until its holder leaves it, if that is stopping.

        Raises:
            ResumeInUse: Its holder is not stopping.
        """
        while True:
            place = self._taken(name, is_stopping)
            if place is not None:
                return place
            holder = self._held.get(name)
            if holder is not None and holder.is_stopping():
                self._wait(holder, wait)
            elif holder is not None and self._held.get(name) is holder:
                raise ResumeInUse("this upload runs already, in another subscription of this process")

    def take_free(self, name: Hashable) -> Place | None:
        """Take a place for a moment, if nobody has it. An upload that comes meanwhile waits."""
        return self._taken(name, lambda: True)

    def _taken(self, name: Hashable, is_stopping: Callable[[], bool]) -> Place | None:
        place = Place(self, name, is_stopping)
        return place if self._held.setdefault(name, place) is place else None

    def _wait(self, place: Place, wait: Callable[[Wake], None]) -> None:
        wake = Wake()
        try:
            with self._lock:
                if self._held.get(place.name) is not place:
                    return
                place.waiters.append(wake)
            wait(wake)
        finally:
            with self._lock:  # no `leave` sets it any more
                if wake in place.waiters:
                    place.waiters.remove(wake)
            wake.close()

    def leave(self, place: Place) -> None:
        """Give a place free, and wake those who wait for it."""
        with self._lock:
            if self._held.get(place.name) is place:
                del self._held[place.name]
            for wake in place.waiters:
                wake.set()
            place.waiters.clear()

    def forget(self) -> None:
        """Start afresh in a forked child: its parent has the places, and a thread of it may have held a lock.

        A lock of a file belongs to the open file that parent and child share. To close the child's descriptor leaves
        the lock with the parent; to unlock it would not.
        """
        for place in self._held.values():
            place.is_lost = True
            place.lock = RLock()
            if place.descriptor is not None:
                os.close(place.descriptor)
                place.descriptor = None
        self._lock = RLock()
        self._held = {}


class _Forgets(Protocol):
    def forget(self) -> None: ...


_of_this_process: WeakSet[_Forgets] = WeakSet()


def forget_in_a_fork(each: _Forgets) -> None:
    """Call its `forget` in each forked child, as long as it lives."""
    _of_this_process.add(each)


def _forget() -> None:
    for each in list(_of_this_process):
        each.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


# Slots


class HeldSlot(ABC):
    """What the slots of both stores have in common. A subclass stores, and releases what it holds."""

    def __init__(self, place: Place, entry: Entry | None) -> None:
        self.entry = entry
        self._place = place
        self._is_closed = False

    def save(self, entry: Entry) -> None:
        """See `Slot.save`."""
        with self._place.lock:
            if not self._is_open():
                raise RuntimeError("this upload's place in the store is closed, or another process has it")
            self._store(entry)
            self.entry = entry

    def update(self, **changes: Any) -> None:
        """See `Slot.update`."""
        with self._place.lock:
            if self.entry is None or not self._is_open():
                return
            changed = replace(self.entry, **changes)
            if changed != self.entry:  # to store it may take as long as a part
                self.save(changed)

    def remove(self) -> None:
        """See `Slot.remove`."""
        with self._place.lock:
            if self.entry is not None and self._is_open():
                self._remove()
                self.entry = None

    def close(self) -> None:
        """See `Slot.close`."""
        with self._place.lock:
            if not self._is_open():
                return
            self._is_closed = True
        try:
            self._release()
        finally:
            self._place.leave()

    def _is_open(self) -> bool:
        return not self._is_closed and not self._place.is_lost

    @abstractmethod
    def _store(self, entry: Entry) -> None:
        """Store an entry in place of what was there."""

    @abstractmethod
    def _remove(self) -> None:
        """Forget what is stored."""

    def _release(self) -> None:  # noqa: B027 - the default
        """Release what is held besides the place."""


class MemoryStore:
    """Remembers unfinished uploads until the process ends. Any thread may use it. A forked child begins without any."""

    needs_path = False

    def __init__(self) -> None:
        self._places = Places()
        self._entries: dict[Hashable, Entry] = {}
        forget_in_a_fork(self)

    def open(self, key: Key, wait: Callable[[Wake], None], is_stopping: Callable[[], bool]) -> Slot:
        """See `Store.open`."""
        place = self._places.take(key.name, wait, is_stopping)
        now = time.time()
        # Nothing else looks for what is over. `list` is one step, so no other thread changes the dict meanwhile.
        for name, entry in list(self._entries.items()):
            if entry.is_over(now):
                self._entries.pop(name, None)
        return _MemorySlot(self._entries, place)

    def forget(self) -> None:
        """Forget all uploads, in a forked child. They are the parent's."""
        self._places.forget()
        self._entries = {}


class _MemorySlot(HeldSlot):
    def __init__(self, entries: dict[Hashable, Entry], place: Place) -> None:
        super().__init__(place, entries.get(place.name))
        self._entries = entries

    def _store(self, entry: Entry) -> None:
        self._entries[self._place.name] = entry

    def _remove(self) -> None:
        self._entries.pop(self._place.name, None)
