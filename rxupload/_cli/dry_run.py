"""`rxupload send --dry-run` prints what would be sent."""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
from pathlib import Path
from typing import Any

from .files import Found, address_of
from .texts import address, advice, amount, printable, say
from .values import FormPart


def dry_run(args: argparse.Namespace, files: list[Found]) -> int:
    """Print a line for each FILE, and return 1 if one of them cannot be read."""
    form_files = [part.value for part in args.form if part.is_file]
    status = 0
    for index, file in enumerate(files):
        fault = _fault(file.path, [file.path, *form_files])
        status = 1 if fault else status
        filename = None if args.raw or file.has_form_alone else file.filename or Path(file.path).name
        if file.path == "-" and filename == "-":
            filename = "upload"
        url = address(address_of(args, file))
        if args.json:
            facts = {
                "method": args.method,
                "url": url,
                "filename": filename,
                "size": file.size,
                "error": fault,
            }
            if args.form:
                facts["form"] = [_facts(part) for part in args.form]
            say(json.dumps({"event": "dry-run", "index": index, "file": file.path, **facts}), sys.stdout)
        elif fault:
            say(f"{printable(file.path)}: {fault}", sys.stderr)
        elif not args.quiet:
            say(f"{printable(file.path)}: {args.method} {printable(url)}{_what(file, filename)}", sys.stdout)
            for part in args.form:
                say(f"  -F {printable(part.name)}: {_of(part)}", sys.stdout)
    return status


def _facts(part: FormPart) -> dict[str, Any]:
    """Describe a part of the form for a program, without the value of a field, which may be a secret."""
    size = Found(part.value).size if part.is_file else len(part.value.encode(errors="surrogateescape"))
    return {"name": part.name, "file": part.value if part.is_file else None, "size": size}


def _of(part: FormPart) -> str:
    facts = _facts(part)
    what = "a value" if facts["file"] is None else printable(facts["file"])
    return what if facts["size"] is None else f"{what}, {amount(facts['size'])}"


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
