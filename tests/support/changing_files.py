"""A file that changes in ways that size, mtime or content do not show."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from hypothesis import strategies as st

from rxupload.resumable import identity, parallel, protocol

SIZE = 150_000
CONTENT = hashlib.shake_256(b"changing").digest(SIZE)
PLACES = st.integers(0, SIZE)


class ChangingFile:
    """A file with its first content, or with one that differs in a few places."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "file.bin"
        self.path.write_bytes(CONTENT)
        self._first = self.path.stat()
        self._probe = folder / "probe"

    def change(self, how: Change) -> None:
        """Change it. The clock of the file system has moved on since the last change."""
        last = self.path.stat().st_ctime_ns
        while True:
            self._probe.write_bytes(b"")
            if self._probe.stat().st_ctime_ns > last:
                break
        getattr(self, how.kind)(how.place)

    def edit(self, place: int) -> None:
        """Write over some bytes, and leave the time as it was: an upload cannot see it by size and mtime."""
        before = self.path.stat()
        self.scribble(place)
        self._put_back(before)

    def scribble(self, place: int) -> None:
        """Write over some bytes."""
        with self.path.open("r+b") as stream:
            stream.seek(place)
            stream.write(bytes(min(20_000, SIZE - place)))

    def restore(self, _: int) -> None:
        """Write the first content over it, with its time, as from a backup."""
        with self.path.open("r+b") as stream:
            stream.write(CONTENT)
        self._put_back(self._first)

    def replace(self, _: int) -> None:
        """Put a copy of the first file, with its time, in its place."""
        self._replace(CONTENT, self._first)

    def replace_by_another(self, place: int) -> None:
        """Put another file, with the time of this one, in its place."""
        before = self.path.stat()
        self._replace(CONTENT[:place] + bytes(SIZE - place), before)

    def regrow(self, place: int) -> None:
        """Cut it, and write the rest again, with its time."""
        before, content = self.path.stat(), self.path.read_bytes()
        os.truncate(self.path, place)
        self.path.write_bytes(content)
        self._put_back(before)

    def chmod(self, place: int) -> None:
        """Change its mode."""
        self.path.chmod(0o600 if place % 2 else 0o644)

    def touch(self, _: int) -> None:
        """Change its times."""
        self.path.touch()

    def _replace(self, content: bytes, times: os.stat_result) -> None:
        other = self.path.with_name("other")
        other.write_bytes(content)
        os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
        other.replace(self.path)

    def _put_back(self, times: os.stat_result) -> None:
        os.utime(self.path, ns=(times.st_atime_ns, times.st_mtime_ns))


@dataclass(frozen=True)
class Change:
    """A change of the file."""

    kind: str
    place: int


KINDS = ["edit", "scribble", "restore", "replace", "replace_by_another", "regrow", "chmod", "touch"]
CHANGES = st.builds(Change, st.sampled_from([*KINDS, "edit", "restore", "restore"]), PLACES)


@contextlib.contextmanager
def small_steps(shortest: int = 1 << 14) -> Iterator[None]:
    """Make checkpoints, and the shortest part, small enough for the file. A checkpoint is made before each Progress."""
    constants = {"BLOCK": 1 << 15, "_LEAST_AHEAD": 1 << 15, "ENDS": 1 << 10, "INTERVAL": 0.0}
    with (
        mock.patch.multiple(identity, run_on_thread=lambda run: run(), **constants),
        mock.patch.object(protocol, "SLICE", shortest),
        mock.patch.object(parallel, "LEAST", 1 << 14),
    ):
        yield
