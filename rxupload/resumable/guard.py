"""Watches that the file stays the one whose upload began: before an upload goes on, as it is sent, and at its end."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from rxupload._errors import SourceChanged

from .identity import Checkpoints, Judgement, Verify, identify, judge
from .store import Entry, Slot


class Guard:
    """Watches one open file for one subscription.

    Attributes:
        identity: The file as the upload has it.
    """

    def __init__(
        self,
        descriptor: int,
        path: Path | None,
        start: int,
        *,
        verify: Verify,
        slot: Slot,
        check: Callable[[], object],
    ) -> None:
        """Take note of the file as it is now.

        Args:
            descriptor: Of the file that is sent.
            path: Where it was opened; None for a file object of the caller's.
            start: Where the upload's first byte is in the file.
            verify: See `judge`.
            slot: Stores the checkpoints.
            check: Raises the reason to stop reading.
        """
        self.identity = identify(descriptor)
        self._descriptor = descriptor
        self._path = path
        self._start = start
        self._verify = verify
        self._slot = slot
        self._check = check
        self._judgement: Judgement | None = None
        self._checkpoints: Checkpoints | None = None

    def judge(self, entry: Entry) -> bool:
        """Compare the file with the one whose upload is remembered. Return whether it may be the same."""
        if entry.identity is None:
            return False
        self._judgement = judge(entry.identity, entry.checkpoint, self._descriptor, self._verify, self._check)
        return self._judgement.proven >= 0

    def allows(self, offset: int) -> bool:
        """Whether an upload that was judged may go on where the server has `offset` bytes. If so, it does."""
        if self._judgement is None:
            return True
        judgement, self._judgement = self._judgement, None
        if not judgement.allows(self._start + offset):
            return False
        self.identity = judgement.identity
        entry = self._slot.entry
        if entry is not None and entry.identity != self.identity:
            self._slot.update(identity=self.identity)
        self.begin(entry)
        return True

    def begin(self, entry: Entry | None = None) -> None:
        """Begin to make checkpoints, after the last one of an upload that goes on."""
        self.stop()
        if self._path is not None:
            begun = None if entry is None else entry.checkpoint
            self._checkpoints = Checkpoints(
                self._path, self.identity, begun, lambda checkpoint: self._slot.update(checkpoint=checkpoint)
            )

    def arrived(self, position: int) -> None:
        """Take note of how many bytes have arrived."""
        if self._checkpoints is not None:
            self._checkpoints.arrived(position)

    def check(self) -> None:
        """Check that the file is still the same.

        Raises:
            SourceChanged: It is not.
        """
        if self._path is not None:
            self.identity.check(self._descriptor, self._path)
        elif not self.identity.is_of(os.fstat(self._descriptor)):
            raise SourceChanged("The file was changed since the upload started")

    def stop(self) -> None:
        """Make no more checkpoints."""
        if self._checkpoints is not None:
            self._checkpoints.stop()
            self._checkpoints = None
