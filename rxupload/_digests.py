"""Names hash algorithms, and reads and writes the digest fields of RFC 9530 and other ways to write a digest.

Repr-Digest and Content-Digest are dictionaries of byte sequences, and Want-Repr-Digest is one of numbers (RFC 9530,
section 2 to 4; RFC 9651, section 3.2). A field that is not well-formed says nothing, as RFC 9651, section 4.2, asks.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from typing import Protocol

from ._arguments import wrong_type

_OF_RFC_9530 = {"sha-256": "sha256", "sha-512": "sha512", "md5": "md5", "sha": "sha1"}  # section 7.2

_KEY = r"[a-z*][a-z0-9_\-.*]*"
_BYTES = r":[A-Za-z0-9+/=]*:"
_ITEM = (
    r"(?:-?\d{1,12}\.\d{1,3}|@?-?\d{1,15}|\?[01]|"  # a decimal, an integer or a date, a boolean
    r'%?"(?:[ !#-\[\]-~]|\\["\\])*"|'  # a string
    rf"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*|{_BYTES})"  # a token, a byte sequence
)
_PARAMETERS = rf"(?:; *{_KEY}(?:={_ITEM})?)*"
_INNER_LIST = rf"\( *(?:{_ITEM}{_PARAMETERS}(?: +{_ITEM}{_PARAMETERS})*)? *\)"
_MEMBER = rf"({_KEY})(?:=({_ITEM}|{_INNER_LIST}))?{_PARAMETERS}"
_COMMA = re.compile(r"[ \t]*,[ \t]*(?=[a-z*])")


def check_digest(digest: object) -> str | None:
    """Return hashlib's name of an algorithm, if this Python has it.

    Raises:
        TypeError: It is not a str.
        ValueError: There is no such algorithm, or its digests have no fixed length.
    """
    if digest is None:
        return None
    if not isinstance(digest, str):
        raise wrong_type("digest", 'the name of a hash algorithm, such as "sha256", or None', digest)
    name = hash_name(digest)
    if name is None:
        known = ", ".join(sorted(filter(_has_a_length, hashlib.algorithms_guaranteed)))
        raise ValueError(f"digest: this Python has no hash algorithm {digest!r}; it has {known}")
    if not _has_a_length(name):
        raise ValueError(f"digest: {digest} has digests of any length; choose one of a fixed length")
    return name


def hash_name(name: str) -> str | None:
    """Return hashlib's name of an algorithm, which may be that of RFC 9530 (`sha-256`); None if there is none."""
    lower = name.lower()
    for each in (_OF_RFC_9530.get(lower, lower), lower.replace("-", "_"), lower.replace("-", "")):
        if each in hashlib.algorithms_available:
            try:
                new_hash(each)
            except ValueError:  # OpenSSL lists it, but does not allow it
                continue
            return each
    return None


class Hash(Protocol):
    """A hash of hashlib."""

    @property
    def digest_size(self) -> int: ...
    def update(self, data: bytes | memoryview, /) -> None: ...
    def digest(self) -> bytes: ...
    def hexdigest(self) -> str: ...


def new_hash(name: str) -> Hash:
    """Begin a hash. It finds accidents, and protects nothing: so MD5 is there even where FIPS forbids it."""
    return hashlib.new(name, usedforsecurity=False)


def _has_a_length(name: str) -> bool:
    """Whether this Python has the algorithm, with digests of a fixed length."""
    return hash_name(name) is not None and new_hash(name).digest_size > 0


def field_name(name: str) -> str:
    """Return the name in RFC 9530 of an algorithm of hashlib; its own name if RFC 9530 has none."""
    return next((key for key, value in _OF_RFC_9530.items() if value == name), name)


def digest_of(field: str, name: str) -> bytes | None:
    """Return the digest by one of hashlib's algorithms from a Repr-Digest or Content-Digest; None if it has none."""
    for key, value in dictionary(field).items():
        if re.fullmatch(_BYTES, value) and hash_name(key) == name:
            return _from_base64(value.strip(":"))
    return None


def digest_field(digests: Mapping[str, bytes]) -> str:
    """Write a Repr-Digest or Content-Digest. The keys are hashlib's names."""
    return ", ".join(
        f"{field_name(name)}=:{base64.b64encode(digest).decode()}:" for name, digest in digests.items()
    )


def dictionary(field: str) -> dict[str, str]:
    """Read a dictionary of structured fields (RFC 9651, section 4.2.2): each key with its value, as it is written.

    A key without a value has `?1`. If the text is not well-formed, there are no keys.
    """
    found: dict[str, str] = {}
    text = field.strip(" ")
    position = 0
    pattern = re.compile(_MEMBER, re.ASCII)  # here: it takes 2 ms, and most programs read no digest
    while member := pattern.match(text, position):
        found[member[1]] = member[2] or "?1"
        if member.end() == len(text):
            return found
        comma = _COMMA.match(text, member.end())
        if comma is None:
            break
        position = comma.end()
    return {}


def is_written_as(text: str, digest: bytes) -> bool:
    """Whether a text is this digest in hex, or in base64, which may stand between colons (RFC 9651, section 3.3.5)."""
    stripped = text.strip()
    if stripped.lower() == digest.hex():
        return True
    if len(stripped) > 1 and stripped[0] == stripped[-1] == ":":
        stripped = stripped[1:-1]
    return _from_base64(stripped) == digest


def _from_base64(text: str) -> bytes | None:
    """Decode base64, also that of URLs. The padding may be missing (RFC 9651, section 4.2.7)."""
    standard = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (binascii.Error, ValueError):  # ValueError for other characters than ASCII
        return None
