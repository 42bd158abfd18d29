"""Starts the command, and ends it with one line on Ctrl-C, from its first moment to its last.

It imports next to nothing, because a Ctrl-C before the first line of `main` ends with Python's traceback.
"""

import contextlib
import os
import signal
import sys

_ABORTED = 130  # the status that a shell reports for Ctrl-C


def main(argv: list[str] | None = None) -> int:
    """Run the command with these arguments, or with those of the process. Return the exit status.

    For the process, Ctrl-C ends it at once while modules are loaded and after the command has ended. Between them it
    raises KeyboardInterrupt, so that uploads are aborted. A second one then ends the process at once, too.

    Raises:
        SystemExit: After `--help` and `--version` (status 0), and after wrong usage (status 2).
    """
    try:
        # A shell starts `rxupload ... &` with Ctrl-C ignored, and then it has to stay ignored.
        is_ours = argv is None and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        try:
            if is_ours:
                signal.signal(signal.SIGINT, _end_at_once)
            from .command import run_command  # noqa: PLC0415 - it loads nearly all modules

            if is_ours:
                signal.signal(signal.SIGINT, signal.default_int_handler)
            return run_command(argv)
        finally:
            if is_ours:
                signal.signal(signal.SIGINT, _end_at_once)
    except KeyboardInterrupt:
        if argv is None:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        _say_aborted()
        return _ABORTED


def _end_at_once(*_: object) -> None:
    # Nothing is open then. KeyboardInterrupt would get lost where Python ignores errors, or come with a traceback.
    _say_aborted()
    os._exit(_ABORTED)


def _say_aborted() -> None:
    if sys.stderr is None:  # print() would take standard output instead
        return
    # A RuntimeError comes if a signal interrupts a print().
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        print("aborted", file=sys.stderr, flush=True)  # noqa: T201 - a command prints
