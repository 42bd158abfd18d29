"""`rxupload receive` runs a server that stores uploaded files."""

from __future__ import annotations

import argparse


def receive(args: argparse.Namespace) -> int:
    """Run the receiver until Ctrl-C, and return the exit status."""
    from rxupload import receiver  # noqa: PLC0415 - an optional extra

    receiver.serve(args.host, args.port, args.directory, args.max_size)
    return 0
