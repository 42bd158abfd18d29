"""Entries, keys and slots for the tests of stores."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import strategies as st

from rxupload._wait import Wake
from rxupload.resumable.file_store import FileStore
from rxupload.resumable.identity import BLOCK, Checkpoint, Identity
from rxupload.resumable.places import LEAST, with_place
from rxupload.resumable.store import Entry, Key, Slot, Store

NOW = 4_000_000_000.0  # later than the clock of any machine that runs the tests
SECRET = "https://server.test/files/5ecre7"

times = st.floats(min_value=NOW, max_value=NOW * 2, allow_nan=False)
numbers = st.integers(min_value=-(2**63), max_value=2**63)
hashes = st.binary(min_size=32, max_size=32).map(bytes.hex)
addresses = st.text(st.characters(codec="ascii", categories=["L", "N"])).map(lambda path: f"{SECRET}/{path}")


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    """Any entry of tus that is not over."""
    identity, checkpoint, sent = None, None, 0
    if draw(st.booleans()):
        size = draw(st.integers(0, 2**50))
        identity = Identity(size, draw(numbers), draw(numbers), draw(st.integers(0, 2**64)), draw(hashes))
        sent = draw(st.integers(0, size))
        if size and draw(st.booleans()):
            blocks = draw(st.integers(0, size // BLOCK))
            checkpoint = Checkpoint(blocks * BLOCK or size, draw(hashes))
    made = Entry(
        url=draw(addresses),
        created=draw(times),
        expires=draw(st.none() | times),
        identity=identity,
        checkpoint=checkpoint,
        sent=sent,
        chunk_size=draw(st.none() | st.integers(1, 2**50)),
    )
    most = 20 if identity is None else min(20, identity.size // LEAST)
    if most < 2 or not draw(st.booleans()):
        return made
    count, extra = draw(st.integers(2, most)), {}
    for number in draw(st.sets(st.integers(0, count - 1), min_size=1)):
        extra = with_place(extra, count, number, made)
    return replace(made, extra=extra)


def key(number: int = 0) -> Key:
    """One of many keys."""
    path = Path(f"/films/{number}.mp4").absolute()
    return Key(f"{number:040x}", "tus", "https://server.test/files", path)


def entry(number: int = 0) -> Entry:
    """One of many entries."""
    return Entry(f"{SECRET}/{number}", NOW, chunk_size=number or None)


def take(store: Store, number: int = 0) -> Slot:
    """Open a slot whose holder is not stopping. It never waits."""
    return store.open(key(number), no_wait, lambda: False)


def no_wait(_wake: Wake) -> None:
    """Fail, because nobody is about to close."""
    raise AssertionError("it waits")


NAME = key().name
HASH = "ab" * 32

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes and no owners by number")


def stored(store: FileStore, made: Entry, number: int = 0) -> None:
    """Store an entry."""
    slot = take(store, number)
    slot.save(made)
    slot.close()


def reread(store: FileStore, number: int = 0) -> Entry | None:
    """Return what is stored."""
    slot = take(store, number)
    slot.close()
    return slot.entry


def names(folder: Path) -> list[str]:
    """Return the names of the files in a folder."""
    return sorted(each.name for each in folder.iterdir())


def put(folder: Path, data: bytes, age: float = 0) -> Path:
    """Write a state file that changed so many seconds ago."""
    folder.mkdir(0o700, exist_ok=True)
    path = folder / f"{NAME}.json"
    path.write_bytes(data)
    os.utime(path, (time.time() - age,) * 2)
    return path
