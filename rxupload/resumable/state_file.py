"""Writes an unfinished upload as JSON, and reads it: the content of a file of `FileStore`.

The file may have been damaged, or written by another program or another version. So each value is checked. No error
quotes one, because the upload's URL is a secret.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

from .google import GoogleResumable
from .identity import Checkpoint, Identity
from .ietf import IetfResumable
from .store import Entry, Key
from .tus import Tus
from .values import Values, is_whole_number, read_json

FORMAT = 1
_PROTOCOLS = {each.name: each for each in (Tus, GoogleResumable, IetfResumable)}


def encoded(key: Key, entry: Entry) -> bytes:
    """Return the content of a state file."""
    about = {"name": key.name, "protocol": key.protocol, "endpoint": key.endpoint, "path": str(key.path)}
    values = {**asdict(replace(entry, extra={})), "extra": dict(entry.extra)}
    return json.dumps({"format": FORMAT, **about, "entry": values}, indent=1).encode()


def decoded(data: bytes, name: str, protocol: str | None = None) -> tuple[Key, Entry]:
    """Return the upload of a state file. What it returns, `encoded` may have written.

    Args:
        data: Its content.
        name: The name of the upload's key.
        protocol: The name of its protocol; None for any.

    Raises:
        ValueError: It is damaged, of another program, or of a newer version; the message says which.
    """
    whole = read_json(data)
    format_ = whole.get("format") if isinstance(whole, dict) else None
    if not is_whole_number(format_):
        raise ValueError("it is not the state of an upload")
    if format_ != FORMAT:
        raise ValueError(f"it has the format {format_}, and this version of rxupload reads {FORMAT}")
    file = Values(whole)
    entry = file.inner("entry")
    is_other = file.text("name") != name or protocol not in (None, file.text("protocol"))
    if is_other or entry is None:
        raise ValueError("it is the state of another upload")
    identity = _identity(entry.inner("identity"))
    key = Key(name, file.text("protocol"), file.text("endpoint"), Path(file.text("path")))
    found = Entry(
        url=entry.address("url"),
        created=entry.seconds("created"),
        expires=entry.seconds("expires") if entry.has("expires") else None,
        identity=identity,
        checkpoint=_checkpoint(entry.inner("checkpoint"), identity),
        sent=_sent(entry.size("sent"), identity),
        chunk_size=entry.size("chunk_size", 1) if entry.has("chunk_size") else None,
        extra=entry.texts("extra"),
    )
    kind = _PROTOCOLS.get(key.protocol)
    if kind is None or not kind.understands(found):
        raise ValueError("it has values that its protocol does not know")
    return key, found


def _identity(found: Values | None) -> Identity | None:
    if found is None:
        return None
    return Identity(
        found.size("size"),
        found.whole_number("mtime_ns"),
        found.whole_number("ctime_ns"),
        found.count("inode"),
        found.hash("ends"),
    )


def _checkpoint(found: Values | None, identity: Identity | None) -> Checkpoint | None:
    if found is None:
        return None
    checkpoint = Checkpoint(found.count("offset"), found.hash("sha256"))
    if identity is None or not checkpoint.is_within(identity.size):
        raise ValueError("its checkpoint does not fit the file")
    return checkpoint


def _sent(sent: int, identity: Identity | None) -> int:
    if identity is not None and sent > identity.size:
        raise ValueError("more of the file was sent than it has")
    return sent
