"""Stores the files of uploads in a directory: hidden until their upload is whole, then under safe names."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

_HIDDEN = re.compile(r"\.([0-9a-f]{32})(?:-[0-9]+)?\.part")
_MAX_NAME_BYTES = 200  # file systems allow 255: this leaves room for a number

if sys.platform == "win32":

    def lock(_stream: BinaryIO) -> None:
        """Do nothing: Windows removes no file that is open."""

    def remove_unlocked(path: Path) -> None:
        """Remove the file, if no process has it open."""
        path.unlink(missing_ok=True)

else:
    import fcntl

    def lock(stream: BinaryIO) -> None:
        """Lock the file for this descriptor and its duplicates.

        Raises:
            BlockingIOError: Another descriptor has the lock.
            OSError: The file system has no locks.
        """
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def remove_unlocked(path: Path) -> None:
        """Remove the file, if no process has locked it."""
        with contextlib.suppress(FileNotFoundError), path.open("r+b") as stream:
            lock(stream)
            path.unlink()


class ReceivedFiles:
    """The files of one upload. Their hidden names share a random token.

    The first file keeps its hidden name the longest. Until then it is locked, which says that the upload is alive. The
    lock ends with the process, and needs one descriptor for all files.
    """

    def __init__(self, directory: Path) -> None:
        self.list: list[ReceivedFile] = []  # in the order in which they came
        self._directory = directory
        self._token = ""
        self._held: int | None = None  # a descriptor of the first file

    def create(self, name: str, filename: str, content_type: str | None) -> ReceivedFile:
        """Create the next file of the upload."""
        while True:
            file = ReceivedFile(name, filename, content_type, self._next_path())
            self.list.append(file)
            if len(self.list) > 1 or self._hold(file):
                return file
            self.list.pop().close()  # a receiver that starts has taken it for a leftover

    def keep(self) -> None:
        """Rename each file to the first free name in the directory."""
        if self.list:
            first, *others = self.list
            first.claim(self._directory)
            for file in others:
                file.keep(self._directory)
            if sys.platform == "win32":
                # Windows renames no file that is open. A receiver that starts in between fails this upload with a 500.
                self._release()
            first.keep(self._directory)
            self._release()

    def discard(self) -> None:
        """Close and remove the files."""
        try:
            for file in self.list[1:]:
                file.discard()
        finally:
            self._release()
        for file in self.list[:1]:
            file.discard()

    def _next_path(self) -> Path:
        if self.list:
            return self._directory / f".{self._token}-{len(self.list)}.part"
        self._token = secrets.token_hex(16)
        return _first_path(self._directory, self._token)

    def _hold(self, first: ReceivedFile) -> bool:
        """Lock the first file. Return whether it is still there."""
        try:
            lock(first.stream)
        except BlockingIOError:
            return False
        except OSError:
            pass  # a file system without locks: no receiver removes anything
        if not first.path.exists():
            return False
        self._held = os.dup(first.stream.fileno())
        return True

    def _release(self) -> None:
        if self._held is not None:
            os.close(self._held)
            self._held = None


def _first_path(directory: Path, token: str) -> Path:
    return directory / f".{token}.part"


def remove_leftovers(directory: Path) -> None:
    """Remove the hidden files of uploads whose process was killed. Those of running uploads stay."""
    hidden: dict[str, list[Path]] = {}
    with contextlib.suppress(PermissionError):  # a directory to write in, but not to list
        for path in directory.iterdir():
            if (match := _HIDDEN.fullmatch(path.name)) and path.is_file() and not path.is_symlink():
                hidden.setdefault(match[1], []).append(path)
    for token, paths in hidden.items():
        with contextlib.suppress(OSError):  # locked, or another user's
            remove_unlocked(_first_path(directory, token))
            for path in paths:
                path.unlink(missing_ok=True)


class ReceivedFile:
    """One file of an upload. It has a hidden temporary name until `keep`."""

    def __init__(self, name: str, filename: str, content_type: str | None, path: Path) -> None:
        self.name = name
        self.filename = filename
        self.content_type = content_type
        self.size = 0
        self.path = path
        self._claimed: Path | None = None  # an empty file in place of this one
        self._sha256 = hashlib.sha256()
        self.stream = path.open("xb", buffering=0)

    def write(self, data: memoryview) -> None:
        """Write the next piece."""
        self.size += len(data)
        self._sha256.update(data)
        while data:
            data = data[self.stream.write(data) :]

    def close(self) -> None:
        """Close the file."""
        self.stream.close()

    def claim(self, directory: Path) -> Path:
        """Take the first free name in the directory, if it has none yet."""
        if self._claimed is None:
            self._claimed = claim_name(directory, self.filename)
        return self._claimed

    def keep(self, directory: Path) -> None:
        """Rename the file to the name that it has claimed."""
        self.path = self.path.replace(self.claim(directory))

    def discard(self) -> None:
        """Close and remove the file."""
        self.close()
        self.path.unlink(missing_ok=True)
        if self._claimed is not None:
            self._claimed.unlink(missing_ok=True)

    def as_json(self) -> dict[str, Any]:
        """Return the file's facts, for the response."""
        return {
            "name": self.name,
            "filename": self.filename,
            "content_type": self.content_type,
            "size": self.size,
            "sha256": self._sha256.hexdigest(),
        }


def claim_name(directory: Path, filename: str) -> Path:
    """Create an empty file with the first free name that is like this one, and safe.

    Exclusive creation works even without hard links.
    """
    name = _harmless(filename)
    stem, suffix = Path(name).stem, Path(name).suffix

    def numbered(number: int) -> Path:
        return directory / (f"{stem} ({number}){suffix}" if number else name)

    number = 0
    while True:
        path = numbered(number)
        try:
            path.open("xb").close()
        except FileExistsError:
            number = _next_free(number, lambda number: os.path.lexists(numbered(number)))
        else:
            return path


def _next_free(taken: int, is_taken: Callable[[int], bool]) -> int:
    """Return a free number above one that is taken, in logarithmic time. The number below it is taken.

    The steps up are random, so that nobody can lay files in their way.
    """
    free = taken + 1
    while is_taken(free):
        taken, free = free, 2 * free + secrets.randbelow(free)
    while free - taken > 1:
        middle = (taken + free) // 2
        if is_taken(middle):
            taken = middle
        else:
            free = middle
    return free


_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\.|$)", re.IGNORECASE)


def _harmless(filename: str) -> str:
    """Return a name that every file system accepts and treats as an ordinary file."""
    base = re.split(r"[/\\]", filename)[-1]
    name = "".join("_" if char in '<>:"|?*' or not char.isprintable() else char for char in base).strip(". ")
    if len(name.encode()) > _MAX_NAME_BYTES:
        suffix = Path(name).suffix.encode()[:20]
        stem = name.encode()[: _MAX_NAME_BYTES - len(suffix)]
        name = (stem + suffix).decode(errors="ignore").rstrip(". ")
    return f"_{name}" if _RESERVED.match(name) else name or "upload"
