"""`rxupload receive` runs a server that stores uploaded files."""

from __future__ import annotations

import argparse
import errno

from .texts import fail

_REASONS = {
    errno.EADDRINUSE: "is in use",
    errno.EACCES: "is not allowed",  # ports below 1024 are for administrators
}


def receive(args: argparse.Namespace) -> int:
    """Run the receiver until Ctrl-C, and return the exit status."""
    from rxupload import receiver  # noqa: PLC0415 - an optional extra

    try:
        receiver.serve(args.host, args.port, args.directory, args.max_size, args.allow_host)
    except ValueError as error:
        raise argparse.ArgumentError(None, str(error)) from error
    except OSError as error:
        if error.filename is None and error.errno in _REASONS:  # an error of the directory has a filename
            port = f"port {args.port} of {args.host}"
            return fail(f"{port} {_REASONS[error.errno]}: choose another with --port (0 finds a free one)")
        raise
    return 0
