"""What the tests of the command share: the command in this process, servers and a file."""

from __future__ import annotations

import socket
from functools import partial

import pytest
from support.command_line import Recorder, Result
from support.scripted_server import Server
from support.tus_server import tus_server

from rxupload import operators
from rxupload._cli import main, send


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    """A user's environment: buffered output, and none of the colours that argparse adds from Python 3.14 on."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)


@pytest.fixture(autouse=True)
def state(monkeypatch, tmp_path_factory):
    """The folder of unfinished uploads, for this test alone. It is not made yet."""
    folder = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    monkeypatch.setenv("WIN_PD_OVERRIDE_LOCAL_APPDATA", str(folder))
    return folder / "rxupload"


@pytest.fixture
def cli(capsys):
    """Run the command in this process."""

    def run(*args: object) -> Result:
        try:
            status = main([str(arg) for arg in args])
        except SystemExit as stop:
            status = stop.code
        return Result(status, *capsys.readouterr())

    return run


@pytest.fixture
def server():
    recorder = Recorder()
    with Server(recorder) as server:
        recorder.url = server.url
        yield recorder


@pytest.fixture
def tus():
    """A server of tus that follows a script. Its `url` is the endpoint."""
    with tus_server() as (tus, server):
        tus.url = f"{server.url}files"
        yield tus


@pytest.fixture
def stalled():
    """A server that accepts connections and never reads: its address, and the listening socket."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/", listener


@pytest.fixture
def refusing():
    """A URL that refuses connections; its port is taken, so that no other process can listen there."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/"


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "beach.jpg"
    path.write_bytes(b"\xff\xd8 a beach")
    return path


@pytest.fixture
def no_waits(monkeypatch):
    """Retries start at once."""
    at_once = partial(operators.retry_backoff, wait_initial=0, wait_jitter=0)
    monkeypatch.setattr(send, "retry_backoff", at_once)
