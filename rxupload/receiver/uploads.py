"""Keeps uploads that come in several requests on disk, so that they go on after the receiver was killed.

Each upload is two hidden files in the directory: its bytes so far, and a small JSON file beside them. The offset is the
length of the first one, so it is right whenever the process is killed. As for forms, nothing is flushed to the disk:
what was written belongs to the system, and a killed receiver loses none of it. After a power failure the offset is what
the file system has kept.

An upload's URL is the key to it. The files are named by a hash of its token, so that a listing of the directory opens
nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, BinaryIO

from .files import claim_name, lock

LIFETIME = 24 * 3600.0  # how many seconds an unfinished upload is kept after its last byte
REMEMBERED = 3600.0  # how many seconds a finished one is known, for a client that missed the last response

_TOKEN = re.compile("[A-Za-z0-9_-]{43}")  # what secrets.token_urlsafe(32) gives
_FILE = re.compile(r"\.([0-9a-f]{32})\.upload(?:\.json(?:\.new)?)?")
_COPIED_AT_ONCE = 2**20
_FIELD = re.compile(r"[\t -~\x80-\xff]*")
_SHA256 = re.compile("[0-9a-f]{64}")


class Unknown(Exception):  # noqa: N818 - it is no fault of ours
    """There is no such upload."""


class Expired(Unknown):
    """There was such an upload, but its time is over."""


class InUse(Exception):  # noqa: N818
    """Another process writes to the upload."""


@dataclasses.dataclass
class Record:
    """What is known of an upload besides its bytes; the JSON file has these.

    Attributes:
        protocol: "tus" or "ietf".
        length: Of the whole upload, in bytes. None if the client has not said it yet.
        filename: As the client named it.
        content_type: As the client said it.
        metadata: The Upload-Metadata of its creation.
        concat: The Upload-Concat of its creation.
        wants_digest: The Want-Repr-Digest of its creation.
        trusted: Where a request began whose checksum is still open. The bytes after that do not count.
        stored_as: The name of the finished file, or "" if it is not kept as one. None until it is finished.
        used_for: The token of the upload that has this partial one's bytes. None until then.
        response: The JSON that was answered when it was finished.
    """

    protocol: str
    length: int | None = None
    filename: str = ""
    content_type: str = ""
    metadata: str = ""
    concat: str = ""
    wants_digest: str = ""
    trusted: int | None = None
    stored_as: str | None = None
    used_for: str | None = None
    response: dict[str, Any] | None = None

    @property
    def is_over(self) -> bool:
        """Whether its file is stored, or its bytes are part of another upload."""
        return self.stored_as is not None or self.used_for is not None

    @property
    def is_partial(self) -> bool:
        """Whether its bytes are a part of another upload, and no file."""
        return self.concat == "partial"

    @property
    def is_final(self) -> bool:
        """Whether it consists of partial uploads."""
        return self.concat.startswith("final")


class Upload:
    """One upload in the directory."""

    def __init__(self, directory: Path, key: str, record: Record, report: Callable[[str], None]) -> None:
        self.directory = directory
        self.key = key  # what its files are named by
        self.record = record
        self._report = report
        self.data = directory / f".{key}.upload"
        self._json = _json_of(self.data)
        self._new = self._json.with_name(f"{self._json.name}.new")

    @property
    def is_over(self) -> bool:
        """Whether nothing can be added, because its file is stored or its bytes are part of another upload."""
        return self.record.is_over

    @property
    def is_whole(self) -> bool:
        """Whether all bytes have arrived."""
        return self.offset == self.record.length

    @property
    def offset(self) -> int:
        """How many bytes are stored and count.

        Raises:
            Unknown: Its bytes are gone.
        """
        if self.is_over:
            return self.record.length or 0
        try:
            size = self.data.stat().st_size
        except FileNotFoundError:
            raise Unknown from None
        return size if self.record.trusted is None else min(size, self.record.trusted)

    @property
    def expires(self) -> float:
        """When it is forgotten, in seconds since the epoch."""
        if self.is_over:
            return self._json.stat().st_mtime + REMEMBERED
        path = self.data if self.data.exists() else self._json
        return path.stat().st_mtime + LIFETIME

    def save(self) -> None:
        """Write the record. A process that is killed meanwhile leaves the old one or the new one."""
        with open(self._new, "w", encoding="utf-8", opener=_private) as stream:
            json.dump(dataclasses.asdict(self.record), stream)
        self._new.replace(self._json)

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        """Lock the bytes while they are renamed. Windows renames no file that is open."""
        with contextlib.nullcontext() if sys.platform == "win32" else self.opened():
            yield

    @contextlib.contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Open the bytes to add to them, at the offset.

        Raises:
            Unknown: Its bytes are gone.
            InUse: Another process adds to them.
        """
        offset = self.offset
        with self.data.open("r+b", buffering=0) as stream:
            try:
                lock(stream)
            except BlockingIOError:
                raise InUse from None
            except OSError:
                pass  # a file system without locks
            if self.offset != offset:  # it has added to them just before
                raise InUse
            stream.truncate(offset)
            stream.seek(offset)
            yield stream

    def trust(self, offset: int | None) -> None:
        """Say that bytes after an offset do not count until their checksum is known; None if all count."""
        if self.record.trusted != offset:
            self.record.trusted = offset
            self.save()

    def keep(self) -> None:
        """Give the file its name in the directory. It may take as long as the file system needs.

        The record has the name first. So whoever finds it after a kill can finish what was begun.
        """
        with self._held():
            path = claim_name(self.directory, self.record.filename)
            self.record.stored_as = path.name
            self.record.trusted = None
            try:
                self.save()
                self.data.replace(path)
            except BaseException:
                self.record.stored_as = None
                path.unlink(missing_ok=True)
                raise
        self._report(f"Received {path.name} ({self.record.length} bytes)")

    def keep_nothing(self) -> None:
        """Finish the upload without a file. What was in it has been taken out."""
        self.record.stored_as = ""
        self.save()
        self.data.unlink()

    def settle(self) -> None:
        """Do what a kill has prevented: store the file of a whole upload."""
        if self.record.stored_as is None:
            if self.record.protocol == "tus" and not self.record.is_partial and self.is_whole:
                self.keep()
        elif not self.record.stored_as:
            self.data.unlink(missing_ok=True)
        elif self.data.exists():
            with contextlib.suppress(InUse, FileNotFoundError), self._held():
                path = self.directory / self.record.stored_as
                if not self.data.exists():
                    pass  # it was being renamed
                elif path.is_symlink() or not path.is_file() or path.stat().st_size:  # not our empty file
                    self.record.stored_as = None
                else:
                    self.data.replace(path)
            if self.record.stored_as is None:
                self.keep()

    def remove(self) -> None:
        """Remove its files, but not a finished one.

        Raises:
            InUse: Another process adds to it.
        """
        if not self.is_over:
            with contextlib.suppress(Unknown), self.opened():
                pass
        self.forget()

    def forget(self) -> None:
        """Remove what is there of its files, but not a finished one."""
        for path in (self._new, self._json, self.data):  # bytes without a record are nobody's
            path.unlink(missing_ok=True)


class Uploads:
    """The uploads in a directory.

    Args:
        directory: Where they and the finished files are.
        report: Called with a line for each upload that is finished.
    """

    def __init__(self, directory: Path, report: Callable[[str], None]) -> None:
        self._directory = directory
        self.report = report

    def create(self, record: Record) -> tuple[str, Upload]:
        """Begin an upload without bytes. Return its token, and itself."""
        token = secrets.token_urlsafe(32)
        upload = Upload(self._directory, key_of(token), record, self.report)
        try:
            upload.save()
            upload.data.open("xb").close()
        except OSError:
            upload.forget()
            raise
        return token, upload

    def find(self, token: str) -> Upload:
        """Return the upload with this token.

        Raises:
            Expired: Its time is over.
            Unknown: There is none.
        """
        if not _TOKEN.fullmatch(token):
            raise Unknown
        upload = self._read(key_of(token))
        if upload.expires <= time.time():
            raise Expired
        upload.settle()
        return upload

    def tidy(self, busy: AbstractSet[str] = frozenset()) -> float | None:
        """Remove what has expired, and finish what a kill has interrupted.

        Args:
            busy: The keys of uploads that requests are at. They stay.

        Returns:
            In how many seconds the next upload expires. None if there is none.
        """
        found: dict[str, list[Path]] = {}
        with contextlib.suppress(OSError):  # a directory to write in, but not to list
            for path in self._directory.iterdir():
                if match := _FILE.fullmatch(path.name):
                    found.setdefault(match[1], []).append(path)
        now = time.time()
        seconds = [LIFETIME] * any(key in busy for key in found)
        for key in found.keys() - busy:
            with contextlib.suppress(OSError, InUse):  # another user's, or another process is at it
                try:
                    upload = self._read(key)
                    if upload.expires > now:
                        upload.settle()
                        seconds.append(upload.expires - now)
                    else:
                        upload.remove()
                except Unknown:  # a kill came between its two files
                    for path in found[key]:
                        if path.stat().st_mtime + LIFETIME <= now:
                            path.unlink(missing_ok=True)
        return min(seconds, default=None)

    def _read(self, key: str) -> Upload:
        try:
            text = _json_of(self._directory / f".{key}.upload").read_text(encoding="utf-8")
            return Upload(self._directory, key, _checked(Record(**json.loads(text))), self.report)
        except (FileNotFoundError, ValueError, TypeError, RecursionError):
            raise Unknown from None


def join(upload: Upload, parts: Sequence[Upload], is_wanted: Callable[[], bool]) -> bool:
    """Copy the bytes of the parts into an upload, in their order. It may take as long as the disk needs.

    Returns:
        Whether it was wanted to the end.
    """
    with upload.opened() as target:
        for part in parts:
            with part.data.open("rb") as source:
                while is_wanted() and (data := source.read(_COPIED_AT_ONCE)):
                    write_all(target, data)
    return is_wanted()


def _checked(record: Record) -> Record:
    """Return a record that was read. Its file may be damaged, or somebody else's.

    Raises:
        ValueError: A value is not what `save` writes, so that it could not be sent, or not be the name of a file.
    """
    texts = [record.protocol, record.filename, record.content_type, record.wants_digest]
    texts += [each for each in (record.stored_as, record.used_for) if each is not None]
    headers = [record.metadata, record.concat]
    numbers = [each for each in (record.length, record.trusted) if each is not None]
    if (
        not all(isinstance(each, str) for each in (*texts, *headers))
        or not all(is_sendable(each) for each in headers)
        or not all(type(each) is int and 0 <= each < 2**63 for each in numbers)
        or not (record.stored_as is None or _is_name(record.stored_as))
        or not (record.response is None or _is_report(record.response))
        or (
            record.is_over and record.protocol == "ietf" and record.response is None
        )  # it is made before the end
    ):
        raise ValueError("this is no record of an upload")
    return record


def is_sendable(text: str) -> bool:
    """Whether a header may have the text, as starlette decodes it (RFC 9110, section 5.5)."""
    return bool(_FIELD.fullmatch(text))


def _is_name(text: str) -> bool:
    """Whether a file of the directory may be named so; "" is none."""
    is_inside = not re.search(r"[/\\]|^\.\.?$", text)
    return is_inside and text.isprintable() and len(text.encode()) <= 255  # noqa: PLR2004 - bytes


def _is_report(response: Any) -> bool:
    """Whether it is the JSON of a finished upload. What JSON cannot have is a ValueError."""
    json.dumps(response, ensure_ascii=False, allow_nan=False).encode()
    files = response.get("files") if isinstance(response, dict) else None
    return isinstance(files, list) and all(
        isinstance(each, dict) and isinstance(each.get("sha256"), str) and _SHA256.fullmatch(each["sha256"])
        for each in files
    )


def write_all(stream: BinaryIO, data: bytes) -> None:
    """Write all of the data. An unbuffered stream may take a part of it only."""
    view = memoryview(data)
    while view:
        view = view[stream.write(view) :]


def key_of(token: str) -> str:
    """Return what the files of the upload with this token are named by."""
    return hashlib.sha256(token.encode()).hexdigest()[:32]


def _json_of(data: Path) -> Path:
    return data.with_name(f"{data.name}.json")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)  # it may have the token of another upload
