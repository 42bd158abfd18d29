"""Watches that the file stays the one whose upload began: before an upload goes on, as it is sent, and at its end."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

from rxupload._errors import SourceChanged
from rxupload._sources import FileRange
from rxupload._transfer import Transfer

from .identity import Checkpoint, Checkpoints, Identity, Judgement, Verify, identify, judge
from .parts import Parts
from .plan import ResumablePlan
from .store import Entry, Slot

_logger = logging.getLogger("rxupload")


def guard_of(parts: Parts, plan: ResumablePlan, slot: Slot, transfer: Transfer) -> Guard:
    """Choose the guard of a source."""
    if parts.file is not None:
        return FileGuard(parts.file, plan.key().path, verify=plan.verify, slot=slot, check=transfer.check)
    if plan.path is not None:
        return Guard()
    return ContentGuard(parts, slot, plan.about.chunk_size or 0)


class Guard:
    """Watches the source of one subscription. This one is of a pipe, and nobody knows what has come out of it."""

    @property
    def identity(self) -> Identity | None:
        """The file as the upload has it; None for what is no file."""
        return None

    def judge(self, entry: Entry) -> bool:  # noqa: ARG002
        """Compare the source with that of a remembered upload. Return whether it may be the same."""
        return False

    def allows(self, offset: int) -> bool:  # noqa: ARG002
        """Whether an upload that was judged may go on where the server has `offset` bytes."""
        return True

    @property
    def is_settled(self) -> bool:
        """Whether all that the server has is known to be of this source. If not, `accepted` settles it."""
        return True

    def accepted(self) -> None:
        """Take note that the server has taken bytes of a part: all that it has is before them, or was just sent."""

    def begin(self) -> None:
        """Take note that a new upload begins."""

    def sends(self, offset: int) -> None:
        """Take note that a part is to be sent, and check that the source is still the same.

        Args:
            offset: Where the part begins.

        Raises:
            SourceChanged: It is not.
        """

    def check(self) -> None:
        """Check that the source is still the same.

        Raises:
            SourceChanged: It is not.
        """

    def arrived(self, position: int) -> None:
        """Take note of how many bytes have arrived."""

    def stop(self) -> None:
        """Store nothing more."""

    def leave(self) -> None:
        """Store what is known of the source at the end of the subscription, and nothing more."""
        self.stop()


class ContentGuard(Guard):
    """Watches what is not a file. What was sent of it is hashed, and it has to begin with that the next time."""

    def __init__(self, parts: Parts, slot: Slot, keep: int) -> None:
        self._parts = parts
        self._slot = slot
        self._keep = keep
        self._has_sent = False

    def judge(self, entry: Entry) -> bool:
        """Whether the source begins with what was sent; see `Guard`."""
        return self._parts.begins_as(entry.checkpoint, self._keep)

    def sends(self, offset: int) -> None:  # noqa: ARG002
        """Store the hash of what was sent, and of the part that is to be sent."""
        self._slot.update(checkpoint=self._parts.mark())
        self._has_sent = True

    def leave(self) -> None:
        """Store the hash of what was read: a part of no fixed size is read after `sends`; see `Guard`."""
        mark = self._parts.mark_of_read()
        if self._has_sent and mark is not None:
            self._slot.update(checkpoint=mark)


class FileGuard(Guard):
    """Watches an open file.

    An upload that goes on with a file whose identity has changed is not settled. The offset that the server tells may
    be stale, and then it has more than is proven. So the entry keeps the identity of the start until the server has
    taken a part there.
    """

    def __init__(
        self,
        file: FileRange,
        path: Path | None,
        *,
        verify: Verify,
        slot: Slot,
        check: Callable[[], object],
    ) -> None:
        """Take note of the file as it is now.

        Args:
            file: What is sent of it.
            path: Where it was opened; None for a file object of the caller's.
            verify: See `judge`.
            slot: Stores the checkpoints.
            check: Raises the reason to stop reading.
        """
        descriptor = file.fileno()
        self._identity = identify(descriptor)
        self._descriptor = descriptor
        self._path = path
        self._start = file.start
        self._verify: Verify = verify
        self._slot = slot
        self._check = check
        self._has_sent = False
        self._judgement: Judgement | None = None  # what the server may have; None for any number of bytes
        self._checkpoints: Checkpoints | None = None

    @property
    def identity(self) -> Identity:
        """The file as the upload has it."""
        return self._identity

    def judge(self, entry: Entry) -> bool:
        """Whether the file may be the one whose upload is remembered; see `Guard`."""
        if entry.identity is None:
            self._tell_of_another("it was written to while it was sent")
            return False
        judgement = judge(
            entry.identity, entry.checkpoint, entry.sent, self._descriptor, self._verify, self._check
        )
        self._identity, self._judgement = judgement.identity, judgement
        if judgement.proven < 0:
            self._tell_of_another(judgement.reason)
            return False
        if judgement.identity == entry.identity:
            self._settle()
        return True

    def allows(self, offset: int) -> bool:
        """Whether the content up to the offset is known to be the same; see `Guard`."""
        position = self._start + offset
        if self._judgement is None or self._judgement.allows(position):
            return True
        self._tell_of_another(
            f"its inode, its mode or its links have changed, the server has {position} bytes, and only "
            f"{self._judgement.proven} are known to be the same"
        )
        return False

    def _tell_of_another(self, reason: str) -> None:
        _logger.info("%s is sent anew: %s", self._path or "The file", reason)

    @property
    def is_settled(self) -> bool:
        """Whether all that the server has is known to be of this file; see `Guard`."""
        return self._judgement is None

    def accepted(self) -> None:
        """Take note that the server has taken bytes of a part; see `Guard`."""
        if not self.is_settled:
            self._slot.update(identity=self._identity)
            self._settle()

    def begin(self) -> None:
        """Begin to make checkpoints."""
        self._settle()

    def _settle(self) -> None:
        self.stop()
        self._judgement = None
        if self._path is not None:
            begun = None if self._slot.entry is None else self._slot.entry.checkpoint
            self._checkpoints = Checkpoints(self._path, self._identity, begun, self._save)

    def _save(self, checkpoint: Checkpoint, sent: int) -> None:
        self._slot.update(checkpoint=checkpoint, sent=sent)

    def arrived(self, position: int) -> None:
        """Take note of how many bytes have arrived."""
        if self._checkpoints is not None:
            self._checkpoints.arrived(position)

    def sends(self, offset: int) -> None:
        """Check that the file is still the same; see `Guard`.

        The server may have lost bytes, which are sent again. They do not count until it has them again.
        """
        self.check()
        position = self._start + offset
        if self._checkpoints is not None:
            self._checkpoints.sends_from(position)
        entry = self._slot.entry
        if entry is not None and entry.sent > position:
            self._slot.update(sent=position)

    def check(self) -> None:
        """Check that the file is still the same; see `Guard`."""
        if self._path is not None:
            self.identity.check(self._descriptor, self._path)
        elif not self.identity.is_of(os.fstat(self._descriptor)):
            raise SourceChanged("The file was changed since the upload started")
        self._has_sent = True  # or is about to

    def stop(self) -> None:
        """Make no more checkpoints."""
        if self._checkpoints is not None:
            self._checkpoints.stop()
            self._checkpoints = None

    def leave(self) -> None:
        """Store that all bytes were sent of an unchanged file, if so.

        If it was written to, it is taken for another one from now on. The server may have bytes that were in it for a
        while. No later look would find that: the content of the start may be put back with its times, as from a backup.

        What sendfile has sent to a server on the same machine may still be pages of the file until that reads them.
        Nothing shows whether they change in this moment, if the content of the start is put back later.
        """
        self.stop()
        if not self._has_sent:
            return
        status = os.fstat(self._descriptor)
        if not self._identity.has_content_of(status):
            self._slot.update(identity=None, checkpoint=None)
        elif self.is_settled and self._identity.is_of(status):
            self._slot.update(sent=self._identity.size)
