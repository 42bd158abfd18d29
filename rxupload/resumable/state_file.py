"""Writes an unfinished upload as JSON, and reads it: the content of a file of `FileStore`.

The file may have been damaged, or written by another program or another version. So each value is checked. No error
quotes one, because the upload's URL is a secret.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from .identity import Checkpoint, Identity
from .store import Entry, Key

FORMAT = 1
_LATEST = 1e12  # seconds since the epoch; NaN and Infinity, which Python reads from JSON, are not less
_HASH = re.compile(r"[0-9a-f]{64}")


def encoded(key: Key, entry: Entry) -> bytes:
    """Return the content of a state file."""
    about = {"name": key.name, "protocol": key.protocol, "endpoint": key.endpoint, "path": str(key.path)}
    values = {**asdict(replace(entry, extra={})), "extra": dict(entry.extra)}
    return json.dumps({"format": FORMAT, **about, "entry": values}, indent=1).encode()


def decoded(data: bytes, name: str) -> tuple[Key, Entry]:
    """Return the upload of a state file.

    Args:
        data: Its content.
        name: The name of the upload's key.

    Raises:
        ValueError: It is damaged, of another program, or of a newer version; the message says which.
    """
    try:
        whole = json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None
    format_ = whole.get("format") if isinstance(whole, dict) else None
    if not _is_int(format_):
        raise ValueError("it is not the state of an upload")
    if format_ != FORMAT:
        raise ValueError(f"it has the format {format_}, and this version of rxupload reads {FORMAT}")
    file = _Values(whole)
    entry = file.inner("entry")
    if file.text("name") != name or entry is None:
        raise ValueError("it is the state of another upload")
    identity = _identity(entry.inner("identity"))
    key = Key(name, file.text("protocol"), file.text("endpoint"), Path(file.text("path")))
    return key, Entry(
        url=entry.text("url"),
        created=entry.seconds("created"),
        expires=entry.seconds("expires") if entry.has("expires") else None,
        identity=identity,
        checkpoint=_checkpoint(entry.inner("checkpoint"), identity),
        sent=entry.count("sent"),
        chunk_size=entry.count("chunk_size") if entry.has("chunk_size") else None,
        extra=entry.texts("extra"),
    )


def _identity(found: _Values | None) -> Identity | None:
    if found is None:
        return None
    return Identity(
        found.count("size"),
        found.whole_number("mtime_ns"),
        found.whole_number("ctime_ns"),
        found.count("inode"),
        found.hash("ends"),
    )


def _checkpoint(found: _Values | None, identity: Identity | None) -> Checkpoint | None:
    if found is None:
        return None
    checkpoint = Checkpoint(found.count("offset"), found.hash("sha256"))
    if identity is None or not checkpoint.is_within(identity.size):
        raise ValueError("its checkpoint does not fit the file")
    return checkpoint


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


class _Values:
    """An object of JSON, whose values are checked as they are taken."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def has(self, name: str) -> bool:
        return self._values.get(name) is not None

    def text(self, name: str) -> str:
        value: str = self._checked(name, isinstance(self._values.get(name), str))
        return value

    def whole_number(self, name: str) -> int:
        value: int = self._checked(name, _is_int(self._values.get(name)))
        return value

    def count(self, name: str) -> int:
        value: int = self._checked(name, self.whole_number(name) >= 0)
        return value

    def seconds(self, name: str) -> float:
        value = self._values.get(name)
        is_fit = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LATEST
        return float(self._checked(name, is_fit))

    def hash(self, name: str) -> str:
        value: str = self._checked(name, _HASH.fullmatch(self.text(name)) is not None)
        return value

    def inner(self, name: str) -> _Values | None:
        if not self.has(name):
            return None
        return _Values(self._checked(name, isinstance(self._values[name], dict)))

    def texts(self, name: str) -> dict[str, str]:
        found = self._values.get(name)
        is_fit = isinstance(found, dict) and all(isinstance(each, str) for each in found.values())
        return dict(self._checked(name, is_fit))

    def _checked(self, name: str, is_fit: bool) -> Any:  # noqa: FBT001
        if not is_fit:
            raise ValueError(f"it has no valid {name!r}")
        return self._values[name]
