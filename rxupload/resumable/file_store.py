"""Remembers unfinished uploads in files, one for each, which survive the process and a restart of the machine."""

from __future__ import annotations

import errno
import logging
import os
import stat
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rxupload._errors import ResumeInUse
from rxupload._wait import Wake

from .locked_files import LockedFiles, sync_folder
from .state_file import decoded, encoded
from .store import LONGEST, NAME_DIGITS, Entry, HeldSlot, Key, Place, Places, Slot, forget_in_a_fork

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_SUFFIXES = (".json", ".tmp", ".lock")
_CLEAN_EVERY = 3600.0  # seconds

_logger = logging.getLogger("rxupload")

_places = Places()
forget_in_a_fork(_places)


@dataclass(frozen=True, slots=True)
class StoredUpload:
    """An unfinished upload in a `FileStore`, without its secrets.

    Attributes:
        path: The file's real path.
        protocol: The protocol's name.
        endpoint: The endpoint without user, password, query and fragment.
        created: When it began, in seconds since the epoch.
        expires: When the server forgets it, in seconds since the epoch; None if it did not say.
        size: Of the file when it began, in bytes; None if unknown.
        hashed: Up to here the file's content is hashed, in bytes. It is more than what has arrived, or 0.
    """

    path: Path
    protocol: str
    endpoint: str
    created: float
    expires: float | None
    size: int | None
    hashed: int


class FileStore:
    """Remembers unfinished uploads in a folder. Any threads and processes may use it at the same time.

    A state file has the upload's URL, which is a secret. So the folder is made for its owner alone, with mode 0700, and
    the files have mode 0600. Headers and credentials are not stored.

    An upload is forgotten when it is done or discarded, when the server has forgotten it, a day after the time at which
    the server had announced to do so, and after 30 days. Until then the server is asked, since clocks differ.

    A state file that cannot be read, or that has a value which makes no sense, counts as none, with a warning in the
    log. The next upload begins anew, and replaces it.
    """

    needs_path = True

    def __init__(self, directory: str | os.PathLike[str] | None = None) -> None:
        """Choose the folder. It is made with the first upload.

        Args:
            directory: None for `rxupload` in the user's state folder: `~/.local/state` or XDG_STATE_HOME on Linux,
                `~/Library/Application Support` on macOS, `%LOCALAPPDATA%` on Windows.

        Raises:
            TypeError: The directory is no path.
        """
        if directory is None:
            from platformdirs import user_state_path  # noqa: PLC0415 - most programs do without it

            self._directory = user_state_path("rxupload", appauthor=False)
        elif isinstance(directory, str | os.PathLike) and isinstance(os.fspath(directory), str):
            self._directory = Path(directory).absolute()
        else:
            raise TypeError(f"directory: expected a str, a Path or None, got {type(directory).__name__}")
        self._clean_at = 0.0

    def __repr__(self) -> str:
        return f"FileStore({str(self._directory)!r})"

    def open(self, key: Key, wait: Callable[[Wake], None], is_stopping: Callable[[], bool]) -> Slot:
        """See `Store.open`.

        Raises:
            ResumeInUse: The upload runs already, in this process or in another one.
            ValueError: The source has no path.
            PermissionError: Others may write to the folder, or it is another user's.
            OSError: The folder cannot be made or read, or its file system has no locks.
        """
        if key.path is None:
            raise ValueError(
                "store: a FileStore finds an upload again by the path of its file, and this source has none; "
                "use a MemoryStore"
            )
        self._make()
        if time.monotonic() >= self._clean_at:
            self._clean_at = time.monotonic() + _CLEAN_EVERY
            with suppress(OSError):
                self.clean()
        files = LockedFiles(self._directory, key.name)
        place = _places.take(files.everywhere, wait, is_stopping)
        try:
            files.hold(place)
            found = _read(files, protocol=key.protocol)
            if found is not None and found[1].is_over(time.time()):
                files.remove()
                found = None
        except BaseException:
            _leave(place, files)
            raise
        return _FileSlot(place, files, key, found and found[1])

    def uploads(self) -> list[StoredUpload]:
        """Return the unfinished uploads, the oldest first. Those that run now are among them.

        Raises:
            PermissionError: Others may write to the folder, or it is another user's.
            OSError: The folder cannot be read.
        """
        now = time.time()
        found = [_read(files) for files in self._all()]
        return sorted(
            (_described(*each) for each in found if each is not None and not each[1].is_over(now)),
            key=lambda each: each.created,
        )

    def clean(self) -> list[StoredUpload]:
        """Forget the uploads that have expired a day ago, or are older than 30 days. `open` does so once an hour.

        A file that cannot be read, or that a killed process has left, goes 30 days after its last change. Uploads that
        run now stay.

        Returns:
            The uploads that were forgotten.

        Raises:
            PermissionError: Others may write to the folder, or it is another user's.
            OSError: The folder cannot be read, or a file cannot be removed.
        """
        now = time.time()
        return self._remove(lambda files: _is_over(files, now))

    def forget(self, path: str | os.PathLike[str]) -> list[StoredUpload]:
        """Forget the unfinished uploads of a file, to whatever endpoint. The next upload of it begins anew.

        What the server has of it stays there until it expires; `ResumableUpload.discard()` ends an upload there, too.
        Uploads that run now stay.

        Args:
            path: Of the file, which may be gone. Links are followed.

        Returns:
            The uploads that were forgotten.

        Raises:
            PermissionError: Others may write to the folder, or it is another user's.
            OSError: The folder cannot be read, or a file cannot be removed.
        """
        real = os.path.normcase(os.path.realpath(path))
        return self._remove(lambda files: _is_of(files, real))

    def _remove(self, is_due: Callable[[LockedFiles], bool]) -> list[StoredUpload]:
        removed = [_remove_if(files, is_due) for files in self._all() if is_due(files)]
        return sorted((each for each in removed if each is not None), key=lambda each: each.created)

    def _all(self) -> list[LockedFiles]:
        try:
            self._check()
            names = [Path(each) for each in os.listdir(self._directory)]  # noqa: PTH208 - names are enough
        except FileNotFoundError:
            return []
        keys = {each.stem for each in names if each.suffix in _SUFFIXES}
        return [LockedFiles(self._directory, each) for each in sorted(keys) if _is_name(each)]

    def _make(self) -> None:
        try:
            self._directory.parent.mkdir(parents=True, exist_ok=True)
            self._directory.mkdir(mode=0o700)
        except FileExistsError:
            pass
        else:
            self._directory.chmod(0o700)  # whatever the umask is
            with suppress(PermissionError):  # of a parent that may not be listed
                sync_folder(self._directory.parent)
        self._check()

    def _check(self) -> None:
        """Refuse a folder in which others could put the URL that a file goes to."""
        status = self._directory.stat()
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(self._directory))
        if sys.platform == "win32":
            return
        if status.st_uid != os.geteuid():
            why = "the folder belongs to another user, who could redirect uploads; give FileStore one of your own"
        elif status.st_mode & _OTHERS_WRITE:
            why = "others may write to the folder, and could redirect uploads; chmod 700 it, or give another one"
        else:
            return
        raise PermissionError(errno.EPERM, why, str(self._directory))


class _FileSlot(HeldSlot):
    def __init__(self, place: Place, files: LockedFiles, key: Key, entry: Entry | None) -> None:
        super().__init__(place, entry)
        self._files = files
        self._key = key

    def _store(self, entry: Entry) -> None:
        self._files.write(encoded(self._key, entry))

    def _remove(self) -> None:
        self._files.remove()

    def _release(self) -> None:
        self._files.release(self._place)


def _is_name(text: str) -> bool:
    return len(text) == NAME_DIGITS and set(text) <= set("0123456789abcdef")


def _read(
    files: LockedFiles, level: int = logging.WARNING, protocol: str | None = None
) -> tuple[Key, Entry] | None:
    try:
        data = files.read()
        return None if data is None else decoded(data, files.name, protocol)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        _logger.log(level, "the state of an upload is ignored: %s: %s", files.state, reason)
        return None


def _is_over(files: LockedFiles, now: float) -> bool:
    found = _read(files, logging.DEBUG)
    return found[1].is_over(now) if found is not None else now >= files.changed() + LONGEST


def _is_of(files: LockedFiles, path: str) -> bool:
    found = _read(files, logging.DEBUG)
    return found is not None and os.path.normcase(str(found[0].path)) == path


def _remove_if(files: LockedFiles, is_due: Callable[[LockedFiles], bool]) -> StoredUpload | None:
    """Remove the files if they are due and nobody has them. Return the upload that they were of, if it is known."""
    place = _places.take_free(files.everywhere)
    if place is None:
        return None
    try:
        files.hold(place)
        if not is_due(files):  # under the lock
            return None
        found = _read(files, logging.DEBUG)
        files.remove()
    except ResumeInUse:
        return None
    finally:
        _leave(place, files)
    return None if found is None else _described(*found)


def _leave(place: Place, files: LockedFiles) -> None:
    try:
        files.release(place)
    finally:
        place.leave()


def _described(key: Key, entry: Entry) -> StoredUpload:
    assert key.path is not None
    return StoredUpload(
        path=key.path,
        protocol=key.protocol,
        endpoint=key.endpoint,
        created=entry.created,
        expires=entry.expires,
        size=None if entry.identity is None else entry.identity.size,
        hashed=0 if entry.checkpoint is None else entry.checkpoint.offset,
    )
