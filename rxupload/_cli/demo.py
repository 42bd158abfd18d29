"""`rxupload demo` uploads to its own receiver, and compares what arrived."""
# ruff: noqa: T201 - a command prints

from __future__ import annotations

import argparse
import hashlib
import os
import tempfile
import time
from pathlib import Path
from typing import cast

import httpx
from reactivex import operators as ops

from rxupload import ItemProgress, Progress, UploadEvent, UploadTransport, run, upload

from . import values
from .bars import choose_report
from .demo_resumable import LEAST, go_on_after_a_kill
from .reports import Style
from .texts import amount, fail, printable, status

_SIZE = 256 << 20  # bytes


def demo(args: argparse.Namespace) -> int:
    """Upload a file to the demo's own receiver, compare the SHA-256 sums, and return the exit status."""
    try:
        from rxupload import receiver  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        raise ImportError('the demo needs an extra: pip install "rxupload[demo]"') from error

    args.file = None if args.file is None else values.checked("FILE", values.file, args.file)
    if args.file is not None and args.size is not None:
        raise argparse.ArgumentError(None, "--size is for random bytes; leave it out, or FILE")
    size = _SIZE if args.size is None else args.size
    if args.resume and (size if args.file is None else Path(args.file).stat().st_size) < LEAST:
        raise argparse.ArgumentError(None, "--resume needs 1 MiB or more; less goes with one request")
    with tempfile.TemporaryDirectory(prefix="rxupload-", ignore_cleanup_errors=True) as directory:
        if args.file is None:
            path = Path(directory, "random.bin")
            print(f"File      {path}, {amount(size)} of random bytes, removed at the end")
            sha256 = _write_random(path, size)
        else:
            path = Path(args.file)
            with path.open("rb") as file:
                print(f"File      {printable(args.file)}, {amount(path.stat().st_size)}")
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        with receiver.running(inbox := Path(directory, "inbox")) as url:
            print(f"Receiver  {url}")
            if args.resume:
                return go_on_after_a_kill(url, path, sha256, inbox, Path(directory, "state"))
            return _upload_and_compare(url, path, sha256)


def _write_random(path: Path, size: int) -> str:
    """Write `size` random bytes, and return their SHA-256."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        while size > 0:
            piece = os.urandom(min(size, 1 << 20))
            digest.update(piece)
            size -= file.write(piece)
    return digest.hexdigest()


def _upload_and_compare(url: str, path: Path, sha256: str) -> int:
    """Upload the file, and print the result. Return 0 if the received file has this SHA-256."""
    started = time.perf_counter()
    # With `transport=`, httpx ignores the proxy variables: a proxy could not reach a receiver on this machine.
    with (
        httpx.Client(transport=UploadTransport(), timeout=60) as client,
        choose_report([str(path)], Style()) as report,
    ):
        source = upload(url, path, client=client)

        def show(event: UploadEvent) -> None:
            if isinstance(event, Progress):
                report.show(ItemProgress(0, source, event))

        response = cast("httpx.Response", run(source.pipe(ops.do_action(show))))
    seconds = time.perf_counter() - started
    if not response.is_success:
        return fail(f"the receiver answered {status(response)}: {response.text[:1000]}")
    rate = amount(path.stat().st_size / seconds)
    print(f"Response  {status(response)} after {seconds:.2f} s, {rate}/s")
    received = response.json()["files"][0]["sha256"]
    print(f"SHA-256   {sha256} sent")
    print(f"          {received} received")
    if received != sha256:
        return fail("the receiver got other bytes than were sent")
    print("OK        every byte has arrived")
    return 0
