"""The time of `from rxupload import upload` beside its dependencies: `python tests/benchmarks/imports.py`.

Each import is a whole process of this Python, and they alternate. The ratio is the median of the rounds. The first
round may have to compile, so it is not counted.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from functools import partial

from rounds import beside, speed, take_turns

OURS, THEIRS, NOTHING = "from rxupload import upload", "import httpx, reactivex", "pass"
GOAL = 1.15


def run(statement: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - began


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description="Compare the time of our import with httpx's and reactivex's."
    )
    parser.add_argument("--rounds", type=int, default=25, help="whose median counts (%(default)s)")
    arguments = parser.parse_args()
    statements = (OURS, THEIRS, NOTHING)
    times = take_turns({statement: partial(run, statement) for statement in statements}, arguments.rounds)
    print(f"{'process':28}{'ms':>8}   time, of httpx and reactivex")
    for statement in statements:
        ratio = beside(1 / speed(times, statement, THEIRS), GOAL if statement == OURS else None)
        print(f"{statement:28}{statistics.median(times[statement]) * 1000:8.0f}   {ratio}")


if __name__ == "__main__":
    main()
