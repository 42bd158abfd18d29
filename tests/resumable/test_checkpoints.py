"""The hashes of a file's content that an upload saves as it goes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.descriptors import descriptors
from support.scripted_server import PATIENCE
from support.threads import no_thread_left

from rxupload._threads import run_on_thread
from rxupload.resumable import identity as module
from rxupload.resumable.identity import INTERVAL, Checkpoint, Checkpoints, Identity, identify

MIB = 1024 * 1024
SIZE = 40 * MIB + 7


@pytest.fixture(autouse=True)
def _threads_end():
    with no_thread_left():
        yield


@pytest.fixture(autouse=True)
def ends(monkeypatch):
    """For each hash that has begun, an event that is set at its end."""
    found: list[threading.Event] = []

    def run(work: Callable[[], None]) -> None:
        end = threading.Event()
        found.append(end)
        run_on_thread(lambda: (work(), end.set()))

    monkeypatch.setattr(module, "run_on_thread", run)
    return found


def finish(ends: list[threading.Event]) -> None:
    """Wait for the end of all hashes."""
    assert all(end.wait(PATIENCE) for end in ends)


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    path = tmp_path_factory.mktemp("big") / "film.mp4"
    path.write_bytes(b"".join(bytes([each]) * MIB for each in range(40)) + b"the end")
    return path


@pytest.fixture
def path(big, tmp_path):
    """A file that a test may change."""
    copy = tmp_path / "film.mp4"
    copy.write_bytes(big.read_bytes())
    return copy


def identity_of(path: Path) -> Identity:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return identify(descriptor)
    finally:
        os.close(descriptor)


def checkpoint_of(path: Path, offset: int) -> Checkpoint:
    """Compute a checkpoint by its definition."""
    content = path.read_bytes()
    digest = b""
    for start in range(0, offset, MIB):
        digest = hashlib.sha256(digest + content[start : min(start + MIB, offset)]).digest()
    return Checkpoint(offset, digest.hex())


class Running:
    """The checkpoints of an upload, on a clock that stands still until `tick`."""

    def __init__(self, path: Path, begun: Checkpoint | None = None) -> None:
        self.time = 100.0
        self.saved: queue.Queue[tuple[Checkpoint, int]] = queue.Queue()
        self.checkpoints = Checkpoints(path, identity_of(path), begun, self.save, lambda: self.time)

    def save(self, checkpoint: Checkpoint, sent: int) -> None:
        self.saved.put((checkpoint, sent))

    def tick(self, position: int, seconds: float = INTERVAL) -> None:
        self.time += seconds
        self.checkpoints.arrived(position)

    def next(self) -> Checkpoint:
        """The next checkpoint that is saved."""
        return self.next_sent()[0]

    def next_sent(self) -> tuple[Checkpoint, int]:
        """The next one, and how much the server had."""
        return self.saved.get(timeout=PATIENCE)


@pytest.fixture
def reads(monkeypatch):
    """The offsets of all reads."""
    offsets: list[int] = []
    real = module.read_at

    def read_at(descriptor: int, offset: int, count: int) -> bytes:
        offsets.append(offset)
        return real(descriptor, offset, count)

    monkeypatch.setattr(module, "read_at", read_at)
    return offsets


def test_an_upload_of_less_than_five_seconds_hashes_nothing(big, reads, ends):
    """A short upload reads nothing for a checkpoint, and needs no thread."""
    running = Running(big)
    reads.clear()
    running.checkpoints.arrived(0)
    running.tick(SIZE, INTERVAL - 0.001)
    running.checkpoints.stop()
    assert (reads, ends) == ([], [])


def test_a_checkpoint_is_saved_after_five_seconds_and_is_ahead(big):
    """The first checkpoint covers twice as much again as has arrived, and 16 MiB."""
    running = Running(big)
    running.checkpoints.arrived(0)
    running.tick(2 * MIB)
    assert running.next() == checkpoint_of(big, 22 * MIB)


def test_a_checkpoint_goes_no_further_than_the_file(big, ends):
    """The last checkpoint is that of the whole file, whose last block is short. After it, only what was sent grows."""
    running = Running(big)
    running.checkpoints.arrived(0)
    running.tick(20 * MIB)
    assert running.next() == checkpoint_of(big, SIZE)
    finish(ends)
    running.checkpoints.sends_from(30 * MIB)
    running.tick(30 * MIB)
    assert running.next_sent() == (checkpoint_of(big, SIZE), 30 * MIB)


def test_the_chain_goes_on_without_reading_again(big, reads, ends):
    """Each checkpoint continues from the last one, also from one of an earlier run. Nothing is read twice."""
    running = Running(big, checkpoint_of(big, 7 * MIB))
    reads.clear()
    running.checkpoints.arrived(5 * MIB)
    running.tick(5 * MIB)
    assert running.next() == checkpoint_of(big, 21 * MIB)
    finish(ends)
    running.tick(6 * MIB)
    assert running.next() == checkpoint_of(big, 24 * MIB)
    assert reads == [each * MIB for each in range(7, 24)]


def test_nothing_is_hashed_that_the_checkpoint_covers(big, reads):
    """An upload that goes on behind a checkpoint hashes nothing until it comes near it."""
    running = Running(big, checkpoint_of(big, 30 * MIB))
    reads.clear()
    running.checkpoints.arrived(0)
    running.tick(0)
    running.checkpoints.stop()
    assert reads == []


def test_a_long_hash_saves_on_its_way(big, monkeypatch):
    """While a fast upload is hashed, a checkpoint is saved every five seconds."""
    running = Running(big)
    real = module.read_at

    def read_at(descriptor: int, offset: int, count: int) -> bytes:
        running.time += 1.0  # each MiB takes a second
        return real(descriptor, offset, count)

    monkeypatch.setattr(module, "read_at", read_at)
    running.checkpoints.arrived(0)
    running.tick(0)
    assert [running.next().offset // MIB for _ in range(4)] == [5, 10, 15, 16]


def test_a_checkpoint_says_how_much_the_server_had_before_the_file_was_seen_unchanged(big):
    """That is what it has said, and neither what has arrived at its system nor what the hash covers."""
    running = Running(big)
    running.checkpoints.sends_from(MIB)
    running.checkpoints.arrived(0)
    running.tick(2 * MIB)
    assert running.next_sent() == (checkpoint_of(big, 22 * MIB), MIB)


@pytest.mark.parametrize("again", [[], [3 * MIB], [2 * MIB, 30 * MIB]])
def test_what_is_sent_again_does_not_count_as_sent_until_the_file_is_seen_again(
    big, monkeypatch, ends, again
):
    """The server has lost bytes while the file is looked at. Nobody has looked at it since they were sent again."""
    running = Running(big)
    real, first = Checkpoints._check, []

    def check(checkpoints: Checkpoints, descriptor: int) -> None:
        real(checkpoints, descriptor)
        first.append(descriptor)
        if len(first) == 2:  # the one before the first checkpoint is saved
            for position in [MIB, *again]:
                running.checkpoints.sends_from(position)

    monkeypatch.setattr(Checkpoints, "_check", check)
    running.checkpoints.sends_from(3 * MIB)
    running.checkpoints.arrived(0)
    running.tick(3 * MIB)
    assert running.next_sent()[1] == MIB
    finish(ends)
    running.checkpoints.sends_from(31 * MIB)
    running.tick(31 * MIB)
    assert running.next_sent()[1] == 31 * MIB


@pytest.mark.parametrize("moment", ["before", "meanwhile", "at the end"])
def test_what_is_hashed_of_a_changed_file_does_not_count(path, monkeypatch, moment, ends):
    """No checkpoint is saved if the file has changed before, during or after the reading; and none after that."""
    running = Running(path)
    real = module.read_at
    at = {"before": -1, "meanwhile": 8 * MIB, "at the end": 15 * MIB}[moment]

    def read_at(descriptor: int, offset: int, count: int) -> bytes:
        assert moment != "before"
        data = real(descriptor, offset, count)
        if offset == at:
            os.utime(path, ns=(1, 1))
        return data

    monkeypatch.setattr(module, "read_at", read_at)
    if at < 0:
        os.utime(path, ns=(1, 1))
    running.checkpoints.arrived(0)
    running.tick(0)
    finish(ends)
    assert running.saved.empty()
    running.tick(MIB)
    assert len(ends) == 1


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_file_that_is_gone_gets_no_checkpoint(path, big, ends, is_replaced):
    """Another file at the same path is not hashed, and a file that is gone is no error of the checkpoints."""
    running = Running(path)
    path.unlink()
    if is_replaced:
        shutil.copy2(big, path)
    running.checkpoints.arrived(0)
    running.tick(0)
    finish(ends)
    running.tick(0)
    assert running.saved.empty()
    assert len(ends) == 1


@contextlib.contextmanager
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Let each read wait for the second event. The first one tells that a read has begun."""
    reading, may_read = threading.Event(), threading.Event()
    real = module.read_at

    def read_at(descriptor: int, offset: int, count: int) -> bytes:
        reading.set()
        assert may_read.wait(PATIENCE)
        return real(descriptor, offset, count)

    monkeypatch.setattr(module, "read_at", read_at)
    try:
        yield reading, may_read
    finally:
        may_read.set()


@pytest.mark.parametrize("begun", [0, 40 * MIB])
def test_the_end_of_an_upload_does_not_wait_for_a_read(big, monkeypatch, ends, begun):
    """`stop` returns while the disk hangs, and nothing is saved after it, also if that was the last read."""
    running = Running(big, checkpoint_of(big, begun) if begun else None)
    with slow_disk(monkeypatch) as (reading, may_read):
        running.checkpoints.arrived(begun)
        running.tick(begun)
        assert reading.wait(PATIENCE)
        running.checkpoints.stop()
        may_read.set()
        finish(ends)
    assert running.saved.empty()


def test_a_slow_hash_is_not_started_twice(big, monkeypatch, ends):
    """While a hash is not done, no second one begins, and the upload does not wait."""
    running = Running(big)
    with slow_disk(monkeypatch) as (reading, may_read):
        running.checkpoints.arrived(0)
        running.tick(0)
        assert reading.wait(PATIENCE)
        running.tick(MIB)
        running.tick(2 * MIB)
        assert len(ends) == 1
        may_read.set()
    finish(ends)
    assert [running.next().offset, running.next().offset] == [MIB, 16 * MIB]
    assert running.saved.empty()


def test_a_checkpoint_that_cannot_be_saved_ends_no_upload(big, ends):
    """A full disk costs the checkpoints, and nothing else."""
    running = Running(big)
    calls = []

    def save(checkpoint: Checkpoint, sent: int) -> None:
        calls.append((checkpoint, sent))
        raise OSError(28, "No space left on device")

    running.checkpoints._save = save
    running.checkpoints.arrived(0)
    running.tick(0)
    finish(ends)
    running.tick(MIB)
    finish(ends)
    assert len(calls) == 1


def test_no_descriptor_stays_open(big, ends):
    """Each hash closes the file again."""
    before = descriptors()
    running = Running(big)
    running.checkpoints.arrived(0)
    running.tick(0)
    running.next()
    finish(ends)
    assert descriptors() <= before
