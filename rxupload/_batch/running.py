"""Holds one upload of a batch that has begun, and counts the bytes that the batch sends of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from reactivex import Observable
from reactivex.disposable import SingleAssignmentDisposable

from rxupload._events import Progress, UploadEvent
from rxupload._wait import Latch


@dataclass(slots=True, eq=False)
class Running:
    """One upload that has begun."""

    index: int
    upload: Observable[UploadEvent]
    size: int | None  # bytes of its body, as far as they are known before its first Progress
    subscription: SingleAssignmentDisposable = field(default_factory=SingleAssignmentDisposable)
    progress: Progress | None = None
    start: int = 0  # bytes that the server had before: they are not the batch's
    last: object = None  # its last item other than Progress
    is_on_its_way: Latch = field(default_factory=Latch)  # it has sent something, or has ended

    @property
    def total(self) -> int | None:
        """Bytes of its body that the batch sends; None if unknown."""
        if self.progress is None:
            return self.size
        return None if self.progress.total is None else self.progress.total - self.start

    @property
    def sent(self) -> int:
        """Bytes that the batch has sent."""
        return 0 if self.progress is None else self.progress.sent - self.start

    def take(self, progress: Progress) -> None:
        """Take its progress. What an earlier attempt has sent stays the batch's, unless the upload begins anew."""
        self.start = progress.start if self.progress is None else min(self.start, progress.start)
        self.progress = progress
        if progress.sent > progress.start:
            self.is_on_its_way.set()
