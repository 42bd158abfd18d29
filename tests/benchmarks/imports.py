"""The time of `from rxupload import upload` beside its dependencies: `python tests/benchmarks/imports.py`.

Each import is a whole process of this Python, and they alternate. The ratio is the median of the rounds. The first
round compiles all modules into a folder of the benchmark's own, whatever PYTHONDONTWRITEBYTECODE says, so it is not
counted. The first upload loads what does the work, so it has a row of its own.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial

from rounds import beside, speed, take_turns

OURS, THEIRS, NOTHING = "from rxupload import upload", "import httpx, reactivex", "pass"
FIRST_UPLOAD = f"{OURS}; upload('http://127.0.0.1/', b'')"
GOAL = 1.15


def run(statement: str, compiled: str) -> float:
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": compiled}
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True, env=environment)
    return time.perf_counter() - began


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description="Compare the time of our import with httpx's and reactivex's."
    )
    parser.add_argument("--rounds", type=int, default=25, help="whose median counts (%(default)s)")
    arguments = parser.parse_args()
    statements = (OURS, THEIRS, FIRST_UPLOAD, NOTHING)
    with tempfile.TemporaryDirectory() as compiled:
        turns = {statement: partial(run, statement, compiled) for statement in statements}
        times = take_turns(turns, arguments.rounds)
    print(f"{'process':60}{'ms':>8}   time, of httpx and reactivex")
    for statement in statements:
        ratio = beside(1 / speed(times, statement, THEIRS), GOAL if statement == OURS else None)
        print(f"{statement:60}{statistics.median(times[statement]) * 1000:8.0f}   {ratio}")


if __name__ == "__main__":
    main()
