"""What the tests of resumable uploads share."""

from __future__ import annotations

import hashlib

import pytest

from rxupload.resumable import MemoryStore

CONTENT = hashlib.shake_256(b"resumable").digest((3 << 20) + 17)


@pytest.fixture
def content() -> bytes:
    return CONTENT


@pytest.fixture
def file(tmp_path, content):
    """A file of 3 MiB and 17 bytes."""
    path = tmp_path / "video.mp4"
    path.write_bytes(content)
    return path


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()
