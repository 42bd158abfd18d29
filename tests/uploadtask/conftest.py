"""Fixtures for the tests of tasks: files, a server, and the settings of a fresh process."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.stepped_server import SteppedServer
from support.threads import no_thread_left

from rxupload import uploadtask
from rxupload.uploadtask import arguments

MIB = 1 << 20


@pytest.fixture(autouse=True)
def fresh_settings(monkeypatch):
    """Settings of a fresh process; no thread is left after a test."""
    monkeypatch.delenv("RXUPLOAD_INTERNAL_ROOT", raising=False)
    monkeypatch.setattr(arguments, "_internal_root", None)
    with no_thread_left():
        yield
    uploadtask.configure(max_concurrent=5)


@pytest.fixture
def photo(tmp_path) -> Path:
    """A small file."""
    path = tmp_path / "beach.jpg"
    path.write_bytes(b"photo" * 1000)
    return path


@pytest.fixture
def film(tmp_path) -> Path:
    """A file that is larger than the system's buffers."""
    path = tmp_path / "film.mp4"
    with path.open("wb") as file:
        file.truncate(24 * MIB)
    return path


@pytest.fixture
def server():
    """A server that the test moves step by step."""
    with SteppedServer() as server:
        yield server


# Rule 15


@pytest.fixture
def internal(tmp_path) -> Path:
    """A root with its folders, and a file outside them."""
    root = tmp_path / "root"
    for folder in ("cache", "files", "mass", "tmp"):
        (root / folder / "sub").mkdir(parents=True)
        (root / folder / "sub" / "a.txt").write_text(folder)
    (tmp_path / "secret").write_text("secret")
    return root
