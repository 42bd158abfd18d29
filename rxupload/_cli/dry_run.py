"""`rxupload send --dry-run` prints what would be sent."""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
from pathlib import Path

from .files import Found
from .texts import address, advice, amount, printable, say


def dry_run(args: argparse.Namespace, files: list[Found]) -> int:
    """Print a line for each FILE, and return 1 if one of them cannot be read."""
    method = args.method or ("PUT" if args.raw else "POST")
    url = address(args.url)
    form_files = [part.value for part in args.form if part.is_file]
    status = 0
    for index, file in enumerate(files):
        fault = _fault(file.path, [file.path, *form_files])
        status = 1 if fault else status
        filename = None if args.raw or file.has_form_alone else file.filename or Path(file.path).name
        if file.path == "-" and filename == "-":
            filename = "upload"
        if args.json:
            facts = {"method": method, "url": url, "filename": filename, "size": file.size, "error": fault}
            say(json.dumps({"event": "dry-run", "index": index, "file": file.path, **facts}), sys.stdout)
        elif fault:
            say(f"{printable(file.path)}: {fault}", sys.stderr)
        elif not args.quiet:
            say(f"{printable(file.path)}: {method} {printable(url)}{_what(file, filename)}", sys.stdout)
    return status


def _what(file: Found, filename: str | None) -> str:
    name = "" if filename is None else f" as {printable(filename)}"
    return name if file.size is None else f"{name}, {amount(file.size)}"


def _fault(file: str, paths: list[str]) -> str | None:
    """Say why FILE, or another file of its form, cannot be read."""
    try:
        for path in paths:
            _check_readable(path)
    except OSError as error:
        return advice(error, file)
    return None


def _check_readable(file: str) -> None:
    """Open the file. Do not open a pipe: that would wait for its writer."""
    path = Path(file)
    if file == "-":
        return
    if path.is_file() or path.is_dir() or not path.exists():
        with path.open("rb"):
            pass
    elif not os.access(path, os.R_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), file)
