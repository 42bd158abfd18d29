"""Signals at every line: a second Ctrl-C, and `abort()` in a signal handler, at any moment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.injection import SCENARIOS

QUICK = ("registers", "aborts")


@pytest.mark.skipif(os.name != "posix", reason="there is no other way to send a signal to one's own process")
@pytest.mark.parametrize("signal", ["SIGINT", "SIGTERM", "SIGUSR1"])
@pytest.mark.parametrize(
    "scenario", [each if each in QUICK else pytest.param(each, marks=pytest.mark.slow) for each in SCENARIOS]
)
def test_no_signal_at_any_line_leaves_a_deadlock(tmp_path, scenario, signal):
    """Ctrl-C, a handler that aborts all tasks, or one that starts others, may come at each line.

    All tasks end, and later uploads succeed.
    """
    if (scenario, signal) == ("runs_in_place_within_subscribe", "SIGINT"):
        pytest.skip(
            "sys.settrace raises between the body of a with statement and __exit__, and CPython itself never does; "
            "an upload in place is the one place where Ctrl-C is not delayed"
        )
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(bytes(3000))
    done = subprocess.run(
        [sys.executable, "-m", "support.injection", scenario, signal, str(photo)],
        capture_output=True,
        text=True,
        timeout=900,
        cwd=Path(__file__).parent,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert int(done.stdout) > 10  # lines
