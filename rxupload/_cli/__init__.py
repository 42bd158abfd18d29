"""Runs the command line: `rxupload demo`, `rxupload send` and `rxupload receive`.

Responses go to standard output, progress and errors to standard error. The receiver and tqdm are optional extras. Only
the subcommands that use them import them.
"""
# ruff: noqa: T201 - a command prints

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys

import httpx

from .arguments import make_parser
from .texts import fail, sentence


def main(argv: list[str] | None = None) -> int:
    """Run the command with these arguments, or with those of the process. Return the exit status.

    Raises:
        SystemExit: After `--help` and `--version` (status 0), and after wrong usage (status 2).
    """
    _prepare_output()
    args = make_parser().parse_args(argv)
    try:
        status: int = args.run(args)
    except argparse.ArgumentError as error:
        parser: argparse.ArgumentParser = args.parser
        parser.error(str(error))
    except KeyboardInterrupt:
        print("aborted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output has closed it (`| head`). The interpreter's last flush must not fail, too.
        with contextlib.suppress(OSError, ValueError):  # a stream without a descriptor
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
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
