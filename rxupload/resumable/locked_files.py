"""The files of one upload in a `FileStore`: locked while the upload runs, and written so that a kill damages nothing.

A new state is written to a temporary file, which is synced and then renamed, and the folder is synced. So a kill at any
moment leaves the old state or the new one, whole. The temporary file has always the same name: kills leave no heap of
them.

The system frees the lock when the process ends in any way. The lock file is removed under the lock. Whoever locks it
after that finds that its path leads elsewhere or nowhere, and opens the new one.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import RLock

from rxupload._errors import ResumeInUse

from .store import Place

_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_LARGEST = 1024 * 1024  # bytes of a state file, at most
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)  # of a file system that cannot sync a folder

if sys.platform == "win32":
    import msvcrt

    _IN_USE = (errno.EACCES, errno.EDEADLK)

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

    def _unlock(descriptor: int, path: Path) -> None:
        """Unlock, close and remove. Windows removes no file that another process has open."""
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
        os.close(descriptor)
        with suppress(OSError):
            path.unlink()

    def sync_folder(_directory: Path) -> None:
        """Do nothing: Windows has no such step."""

else:
    import fcntl

    _IN_USE = (errno.EWOULDBLOCK, errno.EACCES)

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(descriptor: int, path: Path) -> None:
        """Remove, unlock and close. Closing does not unlock if a child that is about to exec shares the open file."""
        try:
            with suppress(OSError):
                if _is_at(descriptor, path):
                    path.unlink()
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        finally:
            os.close(descriptor)

    def sync_folder(directory: Path) -> None:
        """Make the names in a folder durable."""
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in _NO_SYNC:
                raise
        finally:
            os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


_opening = RLock()  # held from the opening of a lock file until its place knows the descriptor


def _allow_opening() -> None:
    global _opening  # noqa: PLW0603
    _opening = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _opening.acquire(),  # noqa: PLW0108 - a fork replaces it
        after_in_parent=lambda: _opening.release(),  # noqa: PLW0108
        after_in_child=_allow_opening,
    )


class LockedFiles:
    """The files of one upload. Only the holder of their lock writes them.

    Attributes:
        name: The upload's key.
        everywhere: The same for all stores of the process that have these files.
        state: The state file.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self.name = name
        self.everywhere = os.path.realpath(directory / name)
        self.state = directory / f"{name}.json"
        self._directory = directory
        self._temporary = directory / f"{name}.tmp"
        self._lock = directory / f"{name}.lock"

    def hold(self, place: Place) -> None:
        """Lock the files for this process.

        Args:
            place: It gets the descriptor of the lock file, for a forked child to close.

        Raises:
            ResumeInUse: Another process has locked them.
            OSError: The lock file cannot be made, or the file system has no locks.
        """
        while True:
            with _opening:
                place.descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | _FLAGS, 0o600)
            try:
                _lock(place.descriptor)
            except OSError as error:
                _close(place)
                if error.errno in _IN_USE:
                    raise ResumeInUse("this upload runs already, in another process") from None
                why = (
                    f"the folder's file system has no locks ({error.strerror}); give FileStore a local folder"
                )
                raise OSError(error.errno, why, str(self._directory)) from error
            if _is_at(place.descriptor, self._lock):
                return
            _close(place)  # its holder has removed it

    def release(self, place: Place) -> None:
        """Unlock the files, if the place has the lock."""
        descriptor, place.descriptor = place.descriptor, None
        if descriptor is not None:
            _unlock(descriptor, self._lock)

    def write(self, data: bytes) -> None:
        """Replace the state. It is durable when this returns.

        Raises:
            OSError: It cannot be stored, for instance because the disk is full. The error has the path of the state.
        """
        try:
            with _removed_on_failure(self._temporary):
                _write(self._temporary, data)
                os.replace(self._temporary, self.state)  # noqa: PTH105 - as the other calls of the system
            sync_folder(self._directory)
        except OSError as error:
            why = f"the state of the upload cannot be stored: {error.strerror}"
            raise OSError(error.errno, why, str(self.state)) from error

    def read(self) -> bytes | None:
        """Return the state; None if there is none.

        Raises:
            ValueError: It is too large.
            OSError: It cannot be read.
        """
        try:
            descriptor = os.open(self.state, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _FLAGS)
        except FileNotFoundError:
            return None
        with open(descriptor, "rb") as stream:  # noqa: PTH123 - it is open
            data = stream.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise ValueError("it is too large")
        return data

    def remove(self) -> None:
        """Remove the state, and what a killed process has left."""
        self.state.unlink(missing_ok=True)
        self._temporary.unlink(missing_ok=True)

    def changed(self) -> float:
        """When the state changed last, in seconds since the epoch; that of the lock file, if there is nothing else."""
        for files in ([self.state, self._temporary], [self._lock]):
            if times := [each.lstat().st_mtime for each in files if os.path.lexists(each)]:
                return max(times)
        return 0.0


def _close(place: Place) -> None:
    descriptor, place.descriptor = place.descriptor, None
    if descriptor is not None:
        os.close(descriptor)


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _FLAGS, 0o600)
    try:
        if sys.platform != "win32":
            os.fchmod(descriptor, 0o600)  # whatever the umask is
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _removed_on_failure(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise
