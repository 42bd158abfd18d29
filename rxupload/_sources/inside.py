"""`Inside`, a path that was checked to lie in a folder, and that is opened without following any link.

Somebody may put a symbolic link into its place after the check. Then it is not opened.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path

_REPLACED = "a symbolic link has taken its place"


class Inside(os.PathLike[str]):
    """A file in a folder. It may not exist, but no symbolic link leads out of the folder."""

    def __init__(self, folder: str | os.PathLike[str], path: str) -> None:
        """Resolve all links once.

        Raises:
            ValueError: The path leads out of the folder.
        """
        base = os.path.realpath(folder)
        self._path = os.path.realpath(os.path.join(base, path))  # noqa: PTH118 - Path would drop a slash at the end
        if not Path(self._path).is_relative_to(base):
            raise ValueError(f"{path} leads out of {base}")

    def __fspath__(self) -> str:
        return self._path

    def open(self, flags: int) -> int:
        """Open the path that was checked. Return the descriptor.

        Raises:
            PermissionError: A symbolic link has taken the place of the file, or of a folder on the way.
            OSError: It cannot be opened.
        """
        return _open(self._path, flags)


if sys.platform == "win32":
    import ctypes
    import msvcrt

    def _open(path: str, flags: int) -> int:
        """Open it, and ask the system what was opened: Windows cannot open a path one folder at a time."""
        descriptor = os.open(path, flags)
        try:
            if os.path.normcase(_final_path(descriptor)) != os.path.normcase(path):
                raise PermissionError(errno.EACCES, _REPLACED, path)  # noqa: TRY301
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _final_path(descriptor: int) -> str:
        handle = ctypes.c_void_p(msvcrt.get_osfhandle(descriptor))
        buffer = ctypes.create_unicode_buffer(1 << 15)  # the longest path of Windows
        if not ctypes.windll.kernel32.GetFinalPathNameByHandleW(handle, buffer, len(buffer), 0):
            raise ctypes.WinError()
        final = buffer.value.removeprefix("\\\\?\\")
        return "\\\\" + final.removeprefix("UNC\\") if final.startswith("UNC\\") else final

else:
    # A folder on the way need not be readable, only searchable.
    _FOLDER = getattr(os, "O_PATH", getattr(os, "O_SEARCH", os.O_RDONLY)) | os.O_DIRECTORY | os.O_CLOEXEC

    def _open(path: str, flags: int) -> int:
        """Open it one folder at a time, from the root on. A resolved path has no links, so none is followed."""
        root, *folders, name = Path(path).parts
        parent = os.open(root, _FOLDER)
        try:
            for folder in folders:
                child = _open_at(parent, folder, _FOLDER, path)
                os.close(parent)
                parent = child
            return _open_at(parent, name, flags, path)
        finally:
            os.close(parent)

    def _open_at(parent: int, name: str, flags: int, path: str) -> int:
        try:
            return os.open(name, flags | os.O_NOFOLLOW, dir_fd=parent)
        except OSError as error:
            if _is_link(parent, name):
                raise PermissionError(errno.EACCES, _REPLACED, path) from None
            raise OSError(error.errno, error.strerror, path) from None

    def _is_link(parent: int, name: str) -> bool:
        try:
            return stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
        except OSError:
            return False
