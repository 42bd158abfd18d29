"""Runs the command line: `rxupload demo`, `send`, `receive` and `resumable`.

Responses go to standard output, progress and errors to standard error. The receiver and tqdm are optional extras. Only
the subcommands that use them import them.
"""

from __future__ import annotations

import argparse
import io
import sys

import httpx

from .arguments import make_parser
from .texts import fail, finish, sentence


def run_command(argv: list[str] | None) -> int:
    """Run the command with these arguments, or with those of the process. Return the exit status.

    Raises:
        SystemExit: After `--help` and `--version` (status 0), and after wrong usage (status 2).
        KeyboardInterrupt: Ctrl-C. The uploads are aborted.
    """
    _prepare_output()
    try:
        args = make_parser().parse_args(argv)
        return _run(args) or finish()
    finally:
        finish()


def _run(args: argparse.Namespace) -> int:
    try:
        status: int = args.run(args)
    except argparse.ArgumentError as error:
        parser: argparse.ArgumentParser = args.parser
        parser.error(str(error))
    except BrokenPipeError:  # the reader of our output has closed it (`| head`)
        return 1
    except ImportError as error:
        return fail(str(error))
    except (OSError, ValueError, httpx.HTTPError, httpx.InvalidURL) as error:
        where = getattr(error, "filename", None)
        return fail(f"{where}: {sentence(error)}" if where else sentence(error))
    return status


def _prepare_output() -> None:
    """Print each line at once, and escape characters that the console's code page lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace", line_buffering=True)
