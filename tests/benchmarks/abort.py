"""The time until the server sees an abort, in each phase of an upload: `python tests/benchmarks/abort.py [rounds]`."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from support.abort_phases import CASES, abort


def main(rounds: int = 20) -> None:
    """Print a table, in milliseconds."""
    print(f"{'phase':26}{'scheme':8}{'connection':12}{'median ms':>10}{'worst ms':>10}   of {rounds}")
    for phase, tls, reused in CASES:
        times = [abort(phase, tls=tls, reused=reused) * 1000 for _ in range(rounds)]
        scheme, connection = "https" if tls else "http", "reused" if reused else "new"
        print(f"{phase.name:26}{scheme:8}{connection:12}{statistics.median(times):10.2f}{max(times):10.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
