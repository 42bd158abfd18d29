"""Whether a file is the one whose upload began: by what the system says of it, and by its content."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rxupload import SourceChanged
from rxupload.resumable.identity import BLOCK, ENDS, Checkpoint, Identity, Judgement, identify, judge

MIB = 1024 * 1024
SIZE = 3 * MIB + 5
CONTENT = bytes(range(256)) * 4096 * 3 + b"12345"


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def identity_of(path: Path) -> Identity:
    with opened(path) as descriptor:
        return identify(descriptor)


def judged(
    path: Path, stored: Identity, checkpoint: Checkpoint | None, verify: str = "fast", sent: int = SIZE
) -> Judgement:
    with opened(path) as descriptor:
        return judge(stored, checkpoint, sent, descriptor, verify)


def checkpoint_of(content: bytes, offset: int) -> Checkpoint:
    """Compute a checkpoint by its definition."""
    digest = b""
    for start in range(0, offset, MIB):
        digest = hashlib.sha256(digest + content[start : min(start + MIB, offset)]).digest()
    return Checkpoint(offset, digest.hex())


def edit(path: Path, position: int, data: bytes = b"!") -> None:
    """Change the content in place, and set the mtime back. The ctime moves on, whatever the clock's resolution is."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(position)
        file.write(data)
    set_back(path, before)


def set_back(path: Path, before: os.stat_result) -> None:
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    while path.stat().st_ctime_ns == before.st_ctime_ns:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.fixture
def path(tmp_path):
    made = tmp_path / "film.mp4"
    made.write_bytes(CONTENT)
    return made


def test_blocks_and_ends_have_the_documented_sizes():
    """The sizes are part of the stored format."""
    assert (BLOCK, ENDS) == (MIB, 64 * 1024)


@pytest.mark.parametrize("size", [0, 1, ENDS - 1, ENDS, ENDS + 1, 2 * ENDS - 1, 2 * ENDS, 2 * ENDS + 1, SIZE])
def test_an_identity_has_the_hash_of_both_ends(tmp_path, size):
    """An identity has size, times and inode, and the SHA-256 of the first and the last 64 KiB."""
    path = tmp_path / "file"
    path.write_bytes(CONTENT[:size])
    status = path.stat()
    ends = CONTENT[:size][:65536] + (CONTENT[:size][-65536:] if size else b"")
    expected = hashlib.sha256(ends).hexdigest()
    assert identity_of(path) == Identity(
        size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, expected
    )


def test_a_file_that_shrinks_while_it_is_identified_has_changed(path, monkeypatch):
    """A file that ends before its size is an error, and no identity."""
    real = os.fstat

    def fstat(descriptor: int) -> os.stat_result:
        status = real(descriptor)
        os.truncate(path, 10)
        return status

    monkeypatch.setattr(os, "fstat", fstat)
    with pytest.raises(SourceChanged, match="ends after"):
        identity_of(path)


def test_an_unchanged_file_is_the_same(path):
    """A file that nobody touched is the same, whatever the server has of it."""
    assert judged(path, identity_of(path), None).allows(SIZE)


def test_a_file_that_grew_is_another(path):
    """A file of another size is another file, also if its mtime is set back."""
    stored = identity_of(path)
    edit(path, SIZE, b"more")
    assert not judged(path, stored, None).allows(0)


def test_a_file_with_another_mtime_is_another(path):
    """A file that was touched is another, also if its content is the same."""
    stored = identity_of(path)
    os.utime(path, ns=(0, stored.mtime_ns + 1))
    assert not judged(path, stored, checkpoint_of(CONTENT, SIZE)).allows(0)


@pytest.mark.parametrize("position", [0, ENDS - 1, SIZE - ENDS, SIZE - 1])
@pytest.mark.parametrize("has_checkpoint", [False, True])
def test_an_edit_at_an_end_that_keeps_size_and_mtime_makes_another_file(path, position, has_checkpoint):
    """A change in the first or last 64 KiB is noticed by their hash, with or without a checkpoint."""
    stored = identity_of(path)
    edit(path, position)
    checkpoint = checkpoint_of(CONTENT, MIB) if has_checkpoint else None
    assert judged(path, stored, checkpoint).proven == -1


@pytest.mark.parametrize("position", [ENDS, MIB - 1, MIB, 2 * MIB - 1])
def test_an_edit_before_the_checkpoint_that_keeps_size_mtime_and_ends_makes_another_file(path, position):
    """A change before the checkpoint is noticed by its hash."""
    stored = identity_of(path)
    edit(path, position)
    assert judged(path, stored, checkpoint_of(CONTENT, 2 * MIB)).proven == -1


def test_an_edit_behind_the_checkpoint_limits_what_the_server_may_have(path):
    """A change behind the checkpoint is unknown: so the server may have no more than the checkpoint covers."""
    stored = identity_of(path)
    edit(path, 2 * MIB)
    judgement = judged(path, stored, checkpoint_of(CONTENT, 2 * MIB))
    assert judgement.allows(2 * MIB)
    assert not judgement.allows(2 * MIB + 1)


def test_an_edit_without_a_checkpoint_limits_what_the_server_may_have_to_the_known_end(path):
    """Without a checkpoint, only the first 64 KiB are known."""
    stored = identity_of(path)
    edit(path, ENDS)
    assert judged(path, stored, None).proven == ENDS


def test_a_short_file_is_known_by_its_ends(tmp_path):
    """A file of at most 128 KiB needs no checkpoint after a chmod, for its ends are all of it."""
    path = tmp_path / "file"
    path.write_bytes(CONTENT[: 2 * ENDS])
    stored = identity_of(path)
    set_back(path, path.stat())
    assert judged(path, stored, None).proven == 2 * ENDS


def change_mode(path: Path) -> Path:
    before = path.stat()
    while path.stat().st_ctime_ns == before.st_ctime_ns:
        path.chmod(0o600)
        path.chmod(0o640)
    return path


def copy(path: Path) -> Path:
    return Path(shutil.copy2(path, path.with_name("copy")))


@pytest.mark.parametrize("change", [change_mode, copy])
def test_a_chmod_or_a_copy_leaves_the_same_file_as_far_as_its_content_is_known(path, change):
    """If only inode and ctime differ, the content decides; and the file's new identity is given, to be stored."""
    stored = identity_of(path)
    path = change(path)
    judgement = judged(path, stored, checkpoint_of(CONTENT, 2 * MIB))
    assert judgement == Judgement(identity_of(path), 2 * MIB)
    assert judgement.identity != stored
    assert judged(path, stored, checkpoint_of(CONTENT, SIZE)).allows(SIZE)


@pytest.mark.parametrize(("sent", "hashed"), [(0, 2 * MIB), (MIB - 1, 2 * MIB), (2 * MIB, MIB), (1000, 0)])
def test_a_file_that_may_have_been_another_one_meanwhile_counts_as_far_as_it_was_seen(path, sent, hashed):
    """The ctime differs. So the content of the start may have been put back, after something else was sent."""
    stored = identity_of(path)
    change_mode(path)
    checkpoint = checkpoint_of(CONTENT, hashed) if hashed else None
    assert judged(path, stored, checkpoint, sent=sent).proven == min(sent, hashed or ENDS)


def test_a_file_whose_ctime_is_the_same_was_not_written_to(path):
    """However little had been sent when it was last seen, all of it was of this file, also after a remount."""
    stored = identity_of(path)
    assert judged(path, stored, None, sent=0).allows(SIZE)
    assert judged(path, replace(stored, inode=1), checkpoint_of(CONTENT, MIB), sent=0).proven == MIB


@pytest.mark.parametrize("other", [{"inode": 1}, {"ctime_ns": 1}, {"inode": 1, "ctime_ns": 1}])
def test_after_a_remount_the_content_decides(path, other):
    """An inode or a ctime that has changed alone makes the content decide."""
    stored = replace(identity_of(path), **other)
    assert judged(path, stored, checkpoint_of(CONTENT, MIB)).proven == MIB
    assert judged(path, stored, checkpoint_of(CONTENT[::-1], MIB)).proven == -1


def test_content_is_compared_although_nothing_else_has_changed(path):
    """`verify="content"` finds a change that the system does not report, and `verify="fast"` does not look for one."""
    stored = identity_of(path)
    wrong = checkpoint_of(CONTENT[::-1], MIB)
    assert judged(path, stored, wrong, "fast").allows(SIZE)
    assert judged(path, stored, wrong, "content").proven == -1
    assert judged(path, stored, checkpoint_of(CONTENT, MIB), "content").allows(SIZE)
    assert judged(path, stored, None, "content").allows(SIZE)


def test_comparing_the_content_can_be_given_up(path):
    """The comparison of a long file ends when the upload ends: `check` is called before each MiB."""
    calls = []

    def check() -> None:
        calls.append(None)
        if len(calls) == 2:
            raise KeyError

    with opened(path) as descriptor, pytest.raises(KeyError):
        judge(identity_of(path), checkpoint_of(CONTENT, SIZE), SIZE, descriptor, "content", check)


def test_a_file_that_changes_during_the_comparison_is_an_error(path):
    """A comparison counts only if the file was the same all the time."""
    stored = identity_of(path)
    with opened(path) as descriptor, pytest.raises(SourceChanged, match="while it is compared"):
        judge(
            stored,
            checkpoint_of(CONTENT, MIB),
            SIZE,
            descriptor,
            "content",
            lambda: os.utime(path, ns=(1, 1)),
        )


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.integers(1, SIZE),
    position=st.integers(0, SIZE - 1),
    hashed=st.integers(0, 4),
    verify=st.sampled_from(["fast", "content"]),
    is_copy=st.booleans(),
)
def test_what_goes_on_is_never_a_mixture(tmp_path, size, position, hashed, verify, is_copy):
    """If one byte has changed, the upload may go on only where the server has nothing of the changed part."""
    path = tmp_path / "file"
    path.write_bytes(CONTENT[:size])
    stored = identity_of(path)
    position %= size
    offset = min(hashed * MIB, size)
    checkpoint = checkpoint_of(CONTENT[:size], offset) if offset else None
    edit(path, position, bytes([CONTENT[position] ^ 1]))
    judgement = judged(copy(path) if is_copy else path, stored, checkpoint, verify)
    assert not judgement.allows(position + 1)


# While the upload runs


def test_an_unchanged_file_passes_the_check(path):
    """A file that nobody touched passes, also by a link to it."""
    link = path.with_name("link")
    link.symlink_to(path)
    with opened(link) as descriptor:
        identify(descriptor).check(descriptor, link)


def written(path: Path) -> None:
    edit(path, MIB)


def moved_over(path: Path) -> None:
    copy(path).rename(path)


def grown(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


@pytest.mark.parametrize("change", [written, moved_over, grown, Path.unlink, change_mode])
def test_a_change_while_the_upload_runs_is_an_error(path, change):
    """An edit, another file in its place, more bytes, a removal and a chmod are all noticed."""
    with opened(path) as descriptor:
        identity = identify(descriptor)
        change(path)
        with pytest.raises(SourceChanged, match=r"film\.mp4: it was (changed|replaced|removed)"):
            identity.check(descriptor, path)


@pytest.mark.parametrize(("change", "word"), [(moved_over, "replaced"), (Path.unlink, "removed")])
def test_the_path_counts_also_if_the_open_file_is_the_same(path, change, word, monkeypatch):
    """A file system that changes no ctime when a link goes does not hide that the path leads elsewhere."""
    with opened(path) as descriptor:
        identity = identify(descriptor)
        change(path)
        status = os.fstat(descriptor)
        with pytest.raises(SourceChanged, match=f"it was {word}"):
            replace(identity, ctime_ns=status.st_ctime_ns).check(descriptor, path)
