"""Kills a process at each step of a FileStore: `python -m support.store_kills FOLDER ACTION` prints what is left.

The process forks a child for each step: the child begins in a fresh folder, does the action, and dies of SIGKILL at
that step. A `write` is killed half-way, too. Then the process opens the store again, and prints a line of JSON: the
step, the upload that is stored, and the files that are left after another upload was saved and forgotten. The last line
is that of a child that came to its end.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.stores import entry, take

from rxupload.resumable import locked_files
from rxupload.resumable.file_store import FileStore
from rxupload.resumable.store import Slot

STEPS = ("mkdir", "chmod", "open", "write", "fchmod", "fsync", "close", "replace", "rename", "unlink")

ACTIONS: dict[str, Callable[[Slot], None]] = {
    "save": lambda slot: slot.save(entry(2)),
    "update": lambda slot: slot.update(chunk_size=3),
    "remove": lambda slot: slot.remove(),
    "close": lambda slot: slot.close(),
}


class Killer:
    """Kills this process at one of the steps that it takes."""

    def __init__(self, step: int) -> None:
        self._left = step
        for name in STEPS:
            setattr(os, name, self._wrapped(name, getattr(os, name)))
        locked_files._lock = self._wrapped("lock", locked_files._lock)  # type: ignore[assignment]

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **keywords: Any) -> Any:
            self._step(name)
            if name == "write":
                half = len(args[1]) // 2
                real(args[0], args[1][:half])
                self._step("half a write")
                return half + real(args[0], args[1][half:])
            return real(*args, **keywords)

        return call

    def _step(self, name: str) -> None:
        self._left -= 1
        if self._left < 0:
            print(name, file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)


def act(folder: Path, action: str, step: int) -> None:
    store = FileStore(folder)
    if action == "first save":
        Killer(step)
        take(store).save(entry(2))
        return
    slot = take(store)
    slot.save(entry(1))
    Killer(step)
    ACTIONS[action](slot)


def report(folder: Path, step: int) -> None:
    store = FileStore(folder)
    slot = take(store)
    found = None if slot.entry is None else slot.entry.chunk_size
    assert slot.entry in (None, entry(1), entry(2)) or (found == 3 and slot.entry.url == entry(1).url)
    slot.save(entry(9))
    slot.remove()
    slot.close()
    left = sorted(each.name for each in folder.iterdir())
    print(json.dumps({"step": step, "found": found, "left": left}), flush=True)


def main() -> None:
    base, action = Path(sys.argv[1]), sys.argv[2]
    step = 0
    while True:
        folder = base / str(step)
        child = os.fork()
        if child == 0:
            act(folder, action, step)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        report(folder, step)
        if not os.WIFSIGNALED(status):
            assert status == 0
            return
        assert os.WTERMSIG(status) == signal.SIGKILL
        step += 1


if __name__ == "__main__":
    main()
