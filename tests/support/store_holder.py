"""Holds an upload's place in a FileStore: `python -m support.store_holder FOLDER HOW` prints "held" when it has it.

HOW says what it does besides: "waits" for the end of its input, and closes then; "forks" a child that lives until the
end of the input; "forks and closes" has the child use and close the slot, and waits; "counts" adds one to the chunk
size of the entry, a hundred times, with another opening for each, and prints how often it got the place.
"""

from __future__ import annotations

import os
import sys

from support.stores import entry, take

from rxupload._errors import ResumeInUse
from rxupload.resumable.file_store import FileStore
from rxupload.resumable.store import Slot

ROUNDS = 100


def in_child(slot: Slot) -> None:
    """Do all that a slot may be asked to do. None of it may change what the parent has."""
    slot.update(chunk_size=99)
    slot.remove()
    try:
        slot.save(entry(99))
    except RuntimeError:
        slot.close()
    else:
        os._exit(1)


def count(store: FileStore) -> int:
    gained = 0
    for _ in range(ROUNDS):
        try:
            slot = take(store)
        except ResumeInUse:
            continue
        slot.save(entry(1 + (0 if slot.entry is None else slot.entry.chunk_size or 0)))
        slot.close()
        gained += 1
    return gained


def main() -> None:
    store, how = FileStore(sys.argv[1]), sys.argv[2]
    if how == "counts":
        print("ready", flush=True)
        sys.stdin.read()
        print(count(store), flush=True)
        return
    slot = take(store)
    slot.save(entry(1))
    if how == "forks":
        child = os.fork()
        if child != 0:
            os.waitpid(child, 0)
        print("held", flush=True)  # by the child: now it has closed what it does not hold
        sys.stdin.read()
        os._exit(0)
    elif how == "forks and closes":
        child = os.fork()
        if child == 0:
            in_child(slot)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert status == 0
    print("held", flush=True)
    sys.stdin.read()
    slot.close()


if __name__ == "__main__":
    main()
