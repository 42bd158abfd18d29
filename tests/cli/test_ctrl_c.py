"""Ctrl-C at any moment, start-up and end included, ends the command with status 130 and one line."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from typing import Any

import pytest
from support.command_line import PROCESS_PATIENCE, in_own_process, interrupt, started
from support.scripted_server import Server

import rxupload
from rxupload._cli import send
from rxupload.testing import Connection

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")

# Like the script that pip installs. Ctrl-C may be ignored in the process that runs the tests (`pytest &`).
START = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
def interrupt():
    os.kill(os.getpid(), signal.SIGINT)
{inject}
from rxupload._cli import main
{then}
sys.exit(main())
"""
ON_IMPORT = """
def hook(event, args, left=[True]):
    if left and event == "import" and args[0] == {module!r}:
        left.clear()
        interrupt()
sys.addaudithook(hook)
"""
ON_LINE = """
def trace(frame, event, arg, left=[{line}]):
    left[0] -= event == "line"
    if left[0] < 0:
        sys.settrace(None)
        interrupt()
        return None
    return trace
sys.settrace(trace)
"""
AT_EXIT = """
import atexit
atexit.register(interrupt)
"""
ON_WRITE = """
class Interrupting:
    def __init__(self, stream):
        self._stream = stream
    def __getattr__(self, name):
        return getattr(self._stream, name)
    def write(self, text):
        if "usage" in text:
            interrupt()
        return self._stream.write(text)
sys.stdout = Interrupting(sys.stdout)
"""
ABORTED = (130, "", "aborted\n")


def start(*args: str, inject: str = "", then: str = "") -> list[str]:
    return [sys.executable, "-c", START.format(inject=inject, then=then), *args]


@pytest.mark.parametrize(
    "module",
    [
        "rxupload._cli.command",
        "argparse",
        "httpx",
        "ssl",
        "reactivex",
        "rxupload._plan",
        "rxupload._cli.send",
    ],
)
def test_ctrl_c_while_modules_are_loaded(module):
    """Not one of them may be loaded before the command is ready for Ctrl-C."""
    args = start("send", "http://127.0.0.1:1/", __file__, inject=ON_IMPORT.format(module=module))
    assert in_own_process(args) == ABORTED


@pytest.mark.parametrize("line", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 100, 1_000, 5_000, 20_000])
def test_ctrl_c_at_any_line(line):
    """From the `try` of main() on, which is its first line, Ctrl-C is one line of output, whatever runs."""
    args = start("send", "http://127.0.0.1:1/", __file__, "-q", then=ON_LINE.format(line=line))
    assert in_own_process(args) == ABORTED


def test_ctrl_c_while_modules_are_loaded_for_python_m():
    """`python -m rxupload` is as ready for Ctrl-C as the script."""
    run = "import runpy; runpy.run_module('rxupload', run_name='__main__', alter_sys=True)"
    code = START.format(inject=ON_IMPORT.format(module="httpx"), then="").partition("from rxupload")[0] + run
    assert in_own_process([sys.executable, "-c", code, "send", "http://127.0.0.1:1/", __file__]) == ABORTED


def test_little_is_loaded_before_main_can_catch_ctrl_c():
    """The entry loads no module of ours but itself and the package's, and few of Python's."""
    code = """
import re, signal, sys
before = set(sys.modules)
from rxupload._cli import main
print(*sorted(set(sys.modules) - before))
"""
    loaded = in_own_process([sys.executable, "-c", code]).out.split()
    assert {name for name in loaded if name.startswith("rxupload")} == {"rxupload", "rxupload._cli"}
    assert set(loaded) <= {
        "rxupload",
        "rxupload._cli",
        "contextlib",
        "collections.abc",
        "types",
        "__future__",
    }


def test_ctrl_c_while_the_interpreter_ends():
    """After the command has ended, Ctrl-C adds no traceback."""
    result = in_own_process(start("--version", inject=AT_EXIT))
    assert (result.status, result.err) == (130, "aborted\n")
    assert result.out.startswith("rxupload ")


def test_ctrl_c_while_help_is_printed():
    """A command that is about to leave by SystemExit is aborted, too."""
    result = in_own_process(start("--help", inject=ON_WRITE))
    assert (result.status, result.err) == (130, "aborted\n")


@pytest.mark.parametrize("times", [2, 3, 5])
def test_ctrl_c_more_than_once(times, tmp_path):
    """More of them end the process no later, and add no traceback; the shell sees 130 either way."""
    has_begun = threading.Event()

    def script(connection: Connection) -> None:
        connection.read_head()
        has_begun.set()
        connection.wait_for_end()

    with Server(script) as server, started("send", server.url, __file__, "-q") as process:
        assert has_begun.wait(PROCESS_PATIENCE)
        for _ in range(times):
            process.send_signal(signal.SIGINT)
        assert process.wait(PROCESS_PATIENCE) in (130, -signal.SIGINT)
        assert process.stderr.read() in ("aborted\n", "")
        assert process.stdout.read() == ""


def test_ctrl_c_that_is_ignored_stays_ignored(tmp_path):
    """`rxupload send ... &` in a script has Ctrl-C ignored by the shell, and goes on."""
    has_begun, taken = threading.Event(), threading.Event()

    def script(connection: Connection) -> None:
        connection.read_head()
        connection.read_body()
        assert has_begun.wait(PROCESS_PATIENCE)
        process.send_signal(signal.SIGINT)
        connection.respond(200, b"stored")
        taken.set()

    with Server(script) as server:
        args = [sys.executable, "-m", "rxupload", "send", server.url, __file__, "-q"]
        ignoring = (
            "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); "
            "os.execv(sys.argv[1], sys.argv[1:])"
        )
        with subprocess.Popen([sys.executable, "-c", ignoring, *args], stderr=subprocess.PIPE) as process:
            has_begun.set()
            assert process.wait(PROCESS_PATIENCE) == 0
            assert process.stderr.read() == b""
    assert taken.is_set()


def test_ctrl_c_during_the_question_for_a_password():
    """The terminal is put back, and nothing is sent."""
    import pty
    import termios

    code = "import os, sys; os.open(sys.argv[1], os.O_RDWR); os.execv(sys.argv[2], sys.argv[2:])"
    main_end, terminal = pty.openpty()
    before = termios.tcgetattr(terminal)
    asking = start("send", "http://127.0.0.1:1/", __file__, "-u", "a")
    args = [sys.executable, "-c", code, os.ttyname(terminal), *asking]
    streams = {"stdin": terminal, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(args, start_new_session=True, **streams) as process:
        drawn = b""
        while b"Password of a: " not in drawn:
            drawn += os.read(main_end, 1 << 16)
        os.write(main_end, b"\x03")  # as the key does
        assert process.wait(PROCESS_PATIENCE) == 130
        assert (process.stdout.read(), process.stderr.read()) == (b"", b"aborted\n")
        assert termios.tcgetattr(terminal) == before
    os.close(terminal)
    os.close(main_end)


# While it runs


def test_ctrl_c_aborts_and_says_so(stalled, tmp_path):
    """Ctrl-C during a stalled upload ends the command at once with status 130."""
    url, listener = stalled
    file = tmp_path / "large.bin"
    with file.open("wb") as sparse:
        sparse.truncate(1 << 30)
    with started("send", url, file, "--json") as process:
        assert json.loads(process.stdout.readline())["sent"] == 0
        result = interrupt(process)

    assert result.status == 130
    assert result.err == "aborted\n"
    assert "response" not in result.out
    connection, _ = listener.accept()
    with connection, contextlib.suppress(ConnectionResetError):
        while connection.recv(1 << 20):
            pass


def test_ctrl_c_prints_what_was_sent(tmp_path):
    """Ctrl-C among several FILEs prints how many the server has, and which ones it refused."""
    files = [tmp_path / name for name in ("taken", "refused", "held")]
    for file in files:
        file.write_text(file.name)

    def receive(connection: Connection) -> None:
        while connection.read_head():
            body = connection.read_body()
            if b"held" in body:
                connection.wait_for_end()
                return
            connection.respond(500 if b"refused" in body else 200)

    with Server(receive) as server, started("send", server.url, *files, "--concurrency", 1) as process:
        while "refused: 500" not in (line := process.stdout.readline()):
            assert line
        result = interrupt(process)

    assert (result.status, result.err.splitlines()[-3:]) == (
        130,
        ["1 of 3 files sent", f"failed: {files[1]}", "aborted"],
    )


def test_ctrl_c_after_the_summary(cli, server, photo, monkeypatch):
    """Ctrl-C while the command ends adds nothing to the summary."""

    def interrupted(source: Any) -> Any:
        rxupload.run(source)
        raise KeyboardInterrupt

    monkeypatch.setattr(send, "run", interrupted)
    result = cli("send", server.url, photo, photo)
    assert result.status == 130
    assert result.err.count("files sent") == 1
    assert result.err.endswith("\naborted\n")


def test_ctrl_c_while_standard_input_is_silent():
    """Ctrl-C ends the command even during the wait for standard input."""
    has_begun = threading.Event()

    def receive(connection: Connection) -> None:
        connection.read_head()
        connection.read(1 << 19)
        has_begun.set()
        connection.wait_for_end()

    with Server(receive) as server, started("send", server.url, "-", stdin=subprocess.PIPE) as process:
        process.stdin.write("x" * (1 << 20))
        process.stdin.flush()
        assert has_begun.wait(PROCESS_PATIENCE)
        result = interrupt(process)

    assert (result.status, result.err) == (130, "aborted\n")


def test_ctrl_c_ends_the_wait_for_a_retry(server, photo):
    """Ctrl-C ends the command during the wait for a retry as well."""
    server.answer = lambda _: (503, b"", "Retry-After: 30")
    with started("send", server.url, photo, "--retries", 1) as process:
        while "attempt 1 of 2" not in (line := process.stderr.readline()):
            assert line
        result = interrupt(process)

    assert result == (130, "", "aborted\n")
