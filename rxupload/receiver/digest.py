"""Answers `Want-Repr-Digest` with the digest of the file that was stored (RFC 9530, section 4)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rxupload._digests import dictionary, digest_field

_ASKED_FOR = re.compile("[1-9]|10")  # how much the client wants it; 0 means not at all


def digest_headers(want: str, files: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the headers of a response that say the digest of its one file, if SHA-256 is asked for.

    Args:
        want: The request's `Want-Repr-Digest`, or "".
        files: The files of the report. If there is not exactly one, a digest would not say which it is of.
    """
    if len(files) != 1 or not is_wanted(want):
        return {}
    return {"Repr-Digest": digest_field({"sha256": bytes.fromhex(files[0]["sha256"])})}


def is_wanted(want: str) -> bool:
    """Return whether a `Want-Repr-Digest` asks for SHA-256."""
    return bool(_ASKED_FOR.fullmatch(dictionary(want).get("sha-256", "")))


def sha256_of(path: Path) -> str:
    """Read a file, and return its SHA-256 in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
