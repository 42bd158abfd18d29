"""Tells whether a file is still the one whose upload began, by what the system says of it and by its content.

What the server has must be the beginning of the file that is sent now. Three things can show that:

1. Size, times, inode and ends of the file are those of the start. Then the file was not written to.
2. Only the inode or the ctime differs, as after a remount, a copy or a chmod. Then the content decides: it is known up
   to the last checkpoint, and the server may have no more than that. If the ctime differs, the file may also have been
   another one for a while, and its content was put back. So the server may have no more than it had when the file was
   last seen unchanged.
3. All else is another file.

A checkpoint is a hash of the content from the start of the file. It is a chain, so that a later run goes on from it
without reading the file again: `digest(n + 1) = SHA-256(digest(n) + block(n))`, with blocks of 1 MiB and an empty first
digest. A hash of hashlib cannot be stored half-way.

Some edits between the ends of a file are noticed only with `verify="content"`: those that set the mtime back, on
Windows, where Python reads no ctime; those within one tick of the file system's clock, which on FAT is 2 s; and those
through a memory map, for which a system notes the time once until it has written the page to the disk.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Literal, TypeAlias

from rxupload._digests import new_hash
from rxupload._errors import SourceChanged
from rxupload._sources.pieces import read_at
from rxupload._threads import run_on_thread

Verify: TypeAlias = Literal["fast", "content"]

ENDS = 64 * 1024  # bytes at each end of a file that are hashed at once
BLOCK = 1024 * 1024  # bytes; a stored checkpoint depends on it
INTERVAL = 5.0  # seconds between two checkpoints; a shorter upload has none
_LEAST_AHEAD = 16 * BLOCK  # bytes that are hashed before they are sent

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)

_logger = logging.getLogger("rxupload")


@dataclass(frozen=True, slots=True)
class Identity:
    """A file at one moment.

    Attributes:
        size: In bytes.
        mtime_ns: When its content changed last, in nanoseconds since the epoch.
        ctime_ns: When its content, mode or links changed last, in nanoseconds since the epoch.
        inode: Its number in the file system.
        ends: The SHA-256, in hex, of its first 64 KiB and its last 64 KiB, one after the other.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    ends: str

    def check(self, descriptor: int, path: Path) -> None:
        """Check that an upload still sends this file. It takes two system calls.

        Args:
            descriptor: Of the file that is sent.
            path: Where the file was opened.

        Raises:
            SourceChanged: The file has other times or another size, or the path leads to another file or to none.
            OSError: The system tells nothing of the file.
        """
        found = os.fstat(descriptor)
        if not self.is_of(found):
            raise SourceChanged(f"{path}: it was changed since the upload started")
        try:
            here = os.stat(path)  # noqa: PTH116 - a Path costs ten times as much
        except FileNotFoundError:
            raise SourceChanged(f"{path}: it was removed since the upload started") from None
        if not os.path.samestat(found, here):
            raise SourceChanged(f"{path}: it was replaced by another file since the upload started")

    def is_of(self, status: os.stat_result) -> bool:
        """Whether the system says this of a file."""
        return _numbers(status) == (self.size, self.mtime_ns, self.ctime_ns, self.inode)

    def has_content_of(self, status: os.stat_result) -> bool:
        """Whether the system says that a file was not written to. A chmod may have come."""
        return (status.st_size, status.st_mtime_ns) == (self.size, self.mtime_ns)


def identify(descriptor: int) -> Identity:
    """Return the identity of an open file. It reads at most 128 KiB.

    Raises:
        SourceChanged: The file changes meanwhile.
        OSError: The file cannot be read.
    """
    before = os.fstat(descriptor)
    size = before.st_size
    ends = new_hash("sha256")
    ends.update(_read_all(descriptor, 0, min(ENDS, size)))
    ends.update(_read_all(descriptor, max(0, size - ENDS), min(ENDS, size)))
    _check_same(descriptor, before)
    return Identity(*_numbers(before), ends.hexdigest())


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is known of a file whose upload began earlier.

    Attributes:
        identity: The file as it is now. It is to be stored if the upload goes on.
        proven: So many bytes from the start are those that were sent of the earlier file; negative: it is another file.
        reason: Why it is another file.
    """

    identity: Identity
    proven: int
    reason: str = ""

    def allows(self, offset: int) -> bool:
        """Whether the upload may go on where the server has `offset` bytes."""
        return offset <= self.proven


def judge(
    stored: Identity,
    checkpoint: Checkpoint | None,
    sent: int,
    descriptor: int,
    verify: Verify,
    check: Callable[[], object] = lambda: None,
) -> Judgement:
    """Compare an open file with what is stored of it.

    Args:
        stored: The file when its upload began.
        checkpoint: The last one; None if there is none.
        sent: So many bytes from the start were of this file for sure; see `Entry`.
        descriptor: Of the file as it is now.
        verify: "content" compares the content up to the checkpoint in any case, "fast" only if the inode or the ctime
            has changed.
        check: Called before each MiB that is read for that. It raises to give up.

    Raises:
        SourceChanged: The file changes meanwhile.
        OSError: The file cannot be read.
    """
    before = os.fstat(descriptor)
    found = identify(descriptor)
    if found.size != stored.size:
        return Judgement(found, -1, "it has another size than at the start of the upload")
    if found.mtime_ns != stored.mtime_ns:
        return Judgement(found, -1, "it was written to, or touched, since the start of the upload")
    if found.ends != stored.ends:
        return Judgement(found, -1, "its first or its last 64 KiB are not those of the start of the upload")
    # The ends are known. A short file has nothing between them.
    known = found.size if found == stored or found.size <= 2 * ENDS else ENDS
    if checkpoint is not None and (found != stored or verify == "content"):
        if not _begins_as(descriptor, checkpoint, check):
            return Judgement(found, -1, "its content is not that of the start of the upload")
        known = max(known, checkpoint.offset)
    _check_same(descriptor, before)
    return Judgement(found, known if found.ctime_ns == stored.ctime_ns else min(known, sent))


# Checkpoints


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The hash of a file's content from its start.

    Attributes:
        offset: How many bytes are hashed: whole MiB, or the file to its end.
        sha256: The last digest of the chain, in hex.
    """

    offset: int
    sha256: str

    def is_within(self, size: int) -> bool:
        """Whether a file of this size can have it."""
        return 0 < self.offset <= size and (self.offset % BLOCK == 0 or self.offset == size)


_START = Checkpoint(0, "")


def _next(descriptor: int, last: Checkpoint, size: int) -> Checkpoint:
    """Hash the next block, which ends at `size` at the latest."""
    block = _read_all(descriptor, last.offset, min(BLOCK, size - last.offset))
    chained = new_hash("sha256")
    chained.update(bytes.fromhex(last.sha256))
    chained.update(block)
    return Checkpoint(last.offset + len(block), chained.hexdigest())


def _begins_as(descriptor: int, checkpoint: Checkpoint, check: Callable[[], object]) -> bool:
    reached = _START
    while reached.offset < checkpoint.offset:
        check()
        reached = _next(descriptor, reached, checkpoint.offset)
    return reached == checkpoint


class Checkpoints:
    """Hashes the content of a file during its upload, every five seconds, on one of the library's threads.

    It reads the file itself, by a descriptor of its own, so that the upload may use sendfile. It is ahead of what has
    arrived: otherwise the server would have more than the last checkpoint whenever an upload breaks, and after a copy
    or a chmod it could never go on. What it reads early, the upload finds in the system's cache. With each checkpoint,
    it looks at the file and stores how much the server had said to have by then. What only the system of the server had
    acknowledged does not count: on the same machine, that may still be pages of the file, which change with it.

    A file that cannot be read any more, or that has changed, gets no further checkpoints. It is the upload's part to
    report that.
    """

    def __init__(
        self,
        path: Path,
        identity: Identity,
        begun: Checkpoint | None,
        save: Callable[[Checkpoint, int], object],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin an upload. Nothing is read yet.

        Args:
            path: Of the file.
            identity: The file when the upload began.
            begun: The last checkpoint of an upload that goes on; None for a new one.
            save: Stores a checkpoint, and how many bytes the server had when the file was last seen unchanged. It is
                called on a thread of the library, one call after the other.
            now: The time in seconds.
        """
        self._path = path
        self._identity = identity
        self._last = begun or _START
        self._save = save
        self._now = now
        self._due = now() + INTERVAL
        self._had = 0  # bytes of the file that the server has
        self._least_had = 0  # the least since the file was about to be seen again
        self._was_due_at: int | None = None  # the position when it was due last
        self._is_busy = False
        self._is_over = not identity.size  # there is nothing to hash
        self._saving = Lock()

    def arrived(self, position: int) -> None:
        """Take note of how far the upload is, and start to hash if it is time. It does not block.

        Only the upload's thread may call this, as often as it likes.

        Args:
            position: The bytes of the file, from its start, of which the server may have some.
        """
        if self._was_due_at is None:
            self._was_due_at = position
        if self._is_over or self._is_busy or self._now() < self._due:
            return
        ahead = 2 * (position - self._was_due_at) + _LEAST_AHEAD
        self._was_due_at = position
        self._due = self._now() + INTERVAL
        target = min(position + ahead, self._identity.size)
        self._is_busy = True
        try:
            run_on_thread(lambda: self._run(target))
        except RuntimeError:  # the interpreter shuts down
            self._is_over = True

    def sends_from(self, position: int) -> None:
        """Take note that the server has so many bytes of the file, and that those after them are about to be sent.

        It may have lost some. Only the upload's thread may call this. It waits for a save that has begun.
        """
        with self._saving:
            self._had = position
            self._least_had = min(self._least_had, position)

    def stop(self) -> None:
        """Hash no further, and save nothing any more. It waits for no reading, but for a save that has begun."""
        with self._saving:
            self._is_over = True

    def _run(self, target: int) -> None:
        try:
            self._hash(target)
        except OSError as error:  # SourceChanged among them
            self._is_over = True
            _logger.debug("no further checkpoints of %s: %s", self._path, error)
        finally:
            self._is_busy = False

    def _hash(self, target: int) -> None:
        descriptor = os.open(self._path, _FLAGS)
        try:
            self._check(descriptor)
            reached, is_done = self._last, False
            save_at = self._now() + INTERVAL
            while not is_done and not self._is_over:
                if reached.offset < target:
                    reached = _next(descriptor, reached, self._identity.size)
                is_done = reached.offset >= target
                if is_done or self._now() >= save_at:
                    with self._saving:
                        self._least_had = self._had
                    self._check(descriptor)  # so that it counts only if the file was the same all the time
                    self._keep(reached)
                    save_at = self._now() + INTERVAL
        finally:
            os.close(descriptor)

    def _check(self, descriptor: int) -> None:
        if not self._identity.is_of(os.fstat(descriptor)):
            raise SourceChanged(f"{self._path}: it was changed since the upload started")

    def _keep(self, reached: Checkpoint) -> None:
        with self._saving:
            if not self._is_over:
                self._save(reached, self._least_had)
                self._last = reached


# Reading


def _numbers(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _check_same(descriptor: int, before: os.stat_result) -> None:
    if _numbers(os.fstat(descriptor)) != _numbers(before):
        raise SourceChanged("the file changes while it is compared with the one whose upload began")


def _read_all(descriptor: int, offset: int, count: int) -> bytes:
    data = read_at(descriptor, offset, count)
    while len(data) < count:
        more = read_at(descriptor, offset + len(data), count - len(data))
        if not more:
            raise SourceChanged(f"the file ends after {offset + len(data)} bytes, and had more")
        data += more
    return data
