"""A running receiver, and a client that is not ours."""

from __future__ import annotations

import threading

import httpx
import pytest
from support.forms import PATIENCE
from support.tus import TusClient

from rxupload import receiver
from rxupload.receiver import appending, files, server


@pytest.fixture
def inbox(tmp_path):
    """The receiver's directory."""
    return tmp_path / "inbox"


@pytest.fixture
def url(inbox):
    """A running receiver with a limit of 4 MiB."""
    with receiver.running(inbox, max_size=2**22) as url:
        yield url


@pytest.fixture
def client():
    """httpx's own client."""
    with httpx.Client(trust_env=False, timeout=PATIENCE) as client:
        yield client


@pytest.fixture
def patient(monkeypatch):
    """Makes receivers read on for an hour after a refusal."""
    monkeypatch.setattr(server, "_LINGER", 3600.0)


@pytest.fixture
def has_begun(monkeypatch):
    """Is set once a receiver has written some bytes of a file."""
    has_begun = threading.Event()
    write = files.ReceivedFile.write

    def write_and_tell(file, data):
        write(file, data)
        has_begun.set()

    monkeypatch.setattr(files.ReceivedFile, "write", write_and_tell)
    return has_begun


@pytest.fixture
def tus(client, url):
    """A client of tus."""
    return TusClient(client, url)


@pytest.fixture
def is_stored(monkeypatch):
    """Is set once a receiver of this process has stored bytes of a resumable upload."""
    is_stored = threading.Event()
    write_all = appending.write_all

    def write_and_tell(stream, data):
        write_all(stream, data)
        is_stored.set()

    monkeypatch.setattr(appending, "write_all", write_and_tell)
    return is_stored
