"""A FileStore, its killed processes, and several processes that use it at the same time."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.stores import NOW, entry, key, no_wait, take

from rxupload._errors import ResumeInUse
from rxupload.resumable.file_store import FileStore
from rxupload.resumable.store import MemoryStore

TESTS = Path(__file__).parents[1]
NAME = key().name
AGES = 60  # seconds for a process that may be slow to start

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither SIGKILL nor fork")


def command(module: str, *args: str) -> list[str]:
    return [sys.executable, "-m", f"support.{module}", *args]


@contextlib.contextmanager
def holder(folder: Path, how: str) -> Iterator[subprocess.Popen[str]]:
    """Start a process that holds the place of the upload until its input ends or it is killed."""
    process = subprocess.Popen(
        command("store_holder", str(folder), how),
        cwd=TESTS,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() in ("held\n", "ready\n")
        yield process
    finally:
        process.kill()
        process.stdin.close()
        process.wait(AGES)
        process.stdout.close()


# Kills

EXPECTED = {
    "first save": (None, 2),
    "save": (1, 2),
    "update": (1, 3),
    "remove": (1, None),
    "close": (1, 1),
}


@pytest.mark.parametrize("action", EXPECTED)
def test_a_kill_at_any_step_leaves_the_old_state_or_the_new_one(tmp_path, action):
    """Between any two steps, and in mid-write, the state is whole, the lock is free, and nothing stays."""
    done = subprocess.run(
        command("store_kills", str(tmp_path), action), cwd=TESTS, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    steps = [json.loads(line) for line in done.stdout.splitlines()]
    old, new = EXPECTED[action]
    found = [each["found"] for each in steps]
    changes = found.index(new)
    assert found == [old] * changes + [new] * (len(found) - changes)
    assert all(each["left"] == [] for each in steps)
    assert ("half a write" in done.stderr) == (action in ("first save", "save", "update"))


# Two processes


def test_two_processes_cannot_have_the_same_upload(tmp_path):
    """The second process is told so. When the first one has closed its slot, it finds what that has stored."""
    store = FileStore(tmp_path / "state")
    with holder(tmp_path / "state", "waits") as process:
        with pytest.raises(ResumeInUse, match="in another process"):
            take(store)
        take(store, 1).close()
        assert [each.created for each in store.uploads()] == [NOW]
        assert store.clean() == []
        process.stdin.close()
        process.wait(AGES)
        slot = take(store)
        assert slot.entry == entry(1)
        slot.close()


def test_a_killed_process_frees_its_upload(tmp_path):
    """The place is free as soon as the process is dead, and the state is there."""
    with holder(tmp_path / "state", "waits") as process:
        process.kill()
        process.wait(AGES)
        slot = take(FileStore(tmp_path / "state"))
        assert slot.entry == entry(1)
        slot.close()
    assert [each.name for each in (tmp_path / "state").iterdir()] == [f"{NAME}.json"]


def test_a_forked_child_does_not_hold_the_upload_of_a_killed_process(tmp_path):
    """A lock of flock belongs to the open file, which a forked child shares. So the child closes it."""
    with holder(tmp_path / "state", "forks") as process:
        process.kill()
        process.wait(AGES)
        take(FileStore(tmp_path / "state")).close()  # the child lives until its input ends


def test_a_forked_child_leaves_the_upload_to_its_parent(tmp_path):
    """Whatever the child does with the slot that it has inherited, the parent keeps the place and the state."""
    store = FileStore(tmp_path / "state")
    with holder(tmp_path / "state", "forks and closes"):
        with pytest.raises(ResumeInUse):
            take(store)
        assert (tmp_path / "state" / f"{NAME}.lock").exists()
        assert len(store.uploads()) == 1


def test_many_processes_take_turns(tmp_path):
    """Lock files are made and removed all the time, and never do two processes have the place together."""
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(holder(tmp_path / "state", "counts")) for _ in range(3)]
        for process in processes:
            process.stdin.close()
        gained = [int(process.stdout.readline()) for process in processes]
    slot = take(FileStore(tmp_path / "state"))
    assert slot.entry.chunk_size == sum(gained)
    slot.close()
    assert [each.name for each in (tmp_path / "state").iterdir()] == [f"{NAME}.json"]


def test_a_forked_child_of_a_memory_store_begins_without_uploads(tmp_path):
    """The parent's uploads are the parent's: the child neither waits for them nor goes on with them."""
    code = (
        "import os\n"
        "from support.stores import entry, take\n"
        "from rxupload.resumable.store import MemoryStore\n"
        "store = MemoryStore()\n"
        "slot = take(store)\n"
        "slot.save(entry(1))\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    slot.remove()\n"
        "    slot.close()\n"
        "    os._exit(take(store).entry is not None)\n"
        "print(os.waitpid(child, 0)[1], slot.entry == entry(1))\n"
        "slot.close()\n"
        "print(take(store).entry == entry(1))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=TESTS, capture_output=True, text=True, timeout=AGES
    )
    assert (done.stdout.split(), done.stderr) == (["0", "True", "True"], "")


def test_a_store_that_is_gone_is_no_burden_for_a_fork():
    """A MemoryStore is forgotten with its last user."""
    import gc
    import weakref

    store = MemoryStore()
    store.open(key(), no_wait, lambda: False).close()
    gone = weakref.ref(store)
    del store
    gc.collect()
    assert gone() is None


def test_a_fork_waits_until_a_lock_file_that_opens_is_known(tmp_path):
    """A fork in the instant after the opening of a lock file would leave it open in the child, and so locked."""
    code = (
        "import os, sys, threading\n"
        "from pathlib import Path\n"
        "from support.stores import NAME, entry, take\n"
        "from rxupload.resumable.file_store import FileStore\n"
        "folder = Path(sys.argv[1])\n"
        "opened, forks = threading.Event(), threading.Event()\n"
        "os.register_at_fork(before=forks.set)\n"  # before the hook of the library, which was registered first
        "real = os.open\n"
        "def slow(path, *args):\n"
        "    descriptor = real(path, *args)\n"
        "    if str(path).endswith('.lock'):\n"
        "        opened.set()\n"
        "        forks.wait()\n"
        "    return descriptor\n"
        "os.open = slow\n"
        "thread = threading.Thread(target=take, args=[FileStore(folder)])\n"
        "thread.start()\n"
        "opened.wait()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    lock = os.stat(folder / f'{NAME}.lock')\n"
        "    numbers = [int(each.name) for each in Path('/dev/fd').iterdir()]\n"
        "    found = [each for each in numbers if os.path.exists(f'/dev/fd/{each}')]\n"
        "    os._exit(any(os.path.samestat(os.stat(each), lock) for each in found))\n"
        "print(os.waitpid(child, 0)[1])\n"
        "thread.join()\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "state")],
        cwd=TESTS,
        capture_output=True,
        text=True,
        timeout=AGES,
    )
    assert (done.stdout, done.stderr) == ("0\n", "")
