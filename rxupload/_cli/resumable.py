"""`rxupload resumable` shows the unfinished uploads of the user's state folder, and forgets them."""

from __future__ import annotations

import argparse
import json
import os
import sys
from datetime import datetime

from rxupload.resumable import FileStore, StoredUpload

from .texts import amount, printable, say

_HEADS = ("FILE", "TO", "BEGUN", "EXPIRES", "SIZE")


def resumable(args: argparse.Namespace) -> int:
    """List or forget uploads, and return the exit status."""
    if args.action is None:
        raise argparse.ArgumentError(None, "list or clean is required")
    store = FileStore()
    if args.action == "list":
        if args.files:
            raise argparse.ArgumentError(None, "list shows all uploads; leave out FILE")
        return _list(store.uploads(), is_json=args.json)
    return _clean(store, args.files, is_json=args.json)


def _list(uploads: list[StoredUpload], *, is_json: bool) -> int:
    if is_json:
        _print_json(uploads)
    elif uploads:
        _print_table(uploads)
    else:
        say("no unfinished uploads", sys.stderr)
    return 0


def _clean(store: FileStore, files: list[str], *, is_json: bool) -> int:
    """Forget the uploads of the files, or those that are over. Return 1 if a file has none, or one that runs."""
    status = 0
    removed: list[StoredUpload] = []
    for file in files:
        found = store.forget(file)
        removed += found
        running = _of(store.uploads(), file)  # `forget` leaves no others
        for each in running:
            place = printable(each.endpoint)
            say(f"{printable(file)}: the upload to {place} runs, and stays; abort it first", sys.stderr)
        if not found and not running:
            say(f"{printable(file)}: no unfinished upload; `rxupload resumable list` shows all", sys.stderr)
        if running or not found:
            status = 1
    if not files:
        removed = store.clean()
    if is_json:
        _print_json(removed)
        return status
    for each in removed:
        say(f"{printable(str(each.path))}: forgotten, to {printable(each.endpoint)}", sys.stdout)
    if not files and not removed:
        say("nothing to forget", sys.stderr)
    return status


def _of(uploads: list[StoredUpload], file: str) -> list[StoredUpload]:
    real = os.path.normcase(os.path.realpath(file))
    return [each for each in uploads if os.path.normcase(each.path) == real]


def _print_json(uploads: list[StoredUpload]) -> None:
    for each in uploads:
        where = {"path": str(each.path), "endpoint": each.endpoint, "protocol": each.protocol}
        facts = {"created": each.created, "expires": each.expires, "size": each.size}
        say(json.dumps(where | facts), sys.stdout)


def _print_table(uploads: list[StoredUpload]) -> None:
    rows = [_HEADS, *map(_row, uploads)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)]
        say("  ".join([*cells, row[-1].rjust(widths[-1])]), sys.stdout)


def _row(upload: StoredUpload) -> tuple[str, ...]:
    return (
        printable(str(upload.path)),
        printable(upload.endpoint),
        _time(upload.created),
        "?" if upload.expires is None else _time(upload.expires),
        "?" if upload.size is None else amount(upload.size),
    )


def _time(seconds: float) -> str:
    """Write a time of the local clock. A server may have named one that no clock has."""
    try:
        return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")
    except (OverflowError, OSError, ValueError):
        return "?"
