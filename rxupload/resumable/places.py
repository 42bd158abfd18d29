"""The uploads of a file's parts, as `Entry.extra` of the whole has them: a text for each, and their number."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from .store import Entry
from .values import Values, read_json

LEAST = 1024 * 1024  # bytes of a part

_COUNT = "parts"
_PART = "part "
_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")


def count_in(entry: Entry) -> int:
    """Return how many uploads an entry stands for."""
    return int(entry.extra.get(_COUNT, "1"))


def place_in(entry: Entry, number: int) -> Entry | None:
    """Return the entry of a part; None if there is none yet."""
    text = entry.extra.get(f"{_PART}{number}")
    return None if text is None else _read(text, entry.created)


def with_place(extra: Mapping[str, str], count: int, number: int, entry: Entry) -> dict[str, str]:
    """Return what an entry of `count` parts has besides, with the entry of one of them."""
    text = json.dumps({"url": entry.url, "expires": entry.expires, "chunk_size": entry.chunk_size})
    return {**extra, _COUNT: str(count), f"{_PART}{number}": text}


def addresses_of(entry: Entry) -> list[str]:
    """Return the addresses of all uploads that an entry stands for."""
    found = [_read(text, 0).url for name, text in entry.extra.items() if name.startswith(_PART)]
    return found or [entry.url]


def are_places(entry: Entry) -> bool:
    """Whether what an entry has besides are such texts, or nothing. They may be of another program."""
    extra = dict(entry.extra)
    if not extra:
        return True
    count = extra.pop(_COUNT, "")
    if not _NUMBER.fullmatch(count) or int(count) < 2:  # noqa: PLR2004
        return False
    if entry.identity is not None and int(count) > entry.identity.size // LEAST:
        return False
    numbers = [name.removeprefix(_PART) for name in extra if name.startswith(_PART)]
    if len(numbers) < len(extra) or not all(_NUMBER.fullmatch(each) for each in numbers):
        return False
    try:
        return all(_read(text, 0) for text in extra.values()) and all(
            int(each) < int(count) for each in numbers
        )
    except ValueError:
        return False


def _read(text: str, created: float) -> Entry:
    found = read_json(text)
    if not isinstance(found, dict):
        raise ValueError("it is not the state of an upload")  # noqa: TRY004 - of the text, not of an argument
    part = Values(found)
    return Entry(
        url=part.address("url"),
        created=created,
        expires=part.seconds("expires") if part.has("expires") else None,
        chunk_size=part.size("chunk_size", 1) if part.has("chunk_size") else None,
    )
