"""`rxupload send` uploads FILEs to a URL."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import BinaryIO, cast

import httpx
from reactivex import Observable
from reactivex import operators as ops

from rxupload import BatchSummary, Client, Upload, UploadEvent, run, upload, upload_all
from rxupload.operators import Retry, retry_backoff

from .bars import choose_report
from .reports import JsonLines, Report


def send(args: argparse.Namespace) -> int:
    """Upload each FILE, and return the exit status."""
    with _client(args) as client:
        uploads = _uploads(args, client)
        with JsonLines(args.files) if args.json else choose_report(args.files) as report:
            sources = [_retried(args, index, each, report) for index, each in enumerate(uploads)]
            batch = upload_all(sources, concurrency=args.concurrency, rate_limit=args.limit_rate)
            try:
                summary = cast("BatchSummary", run(batch.pipe(ops.do_action(report.show))))
            except KeyboardInterrupt:
                report.aborted()
                raise
    if report.lost is not None:
        raise report.lost
    return 1 if summary.failed else 0


def _uploads(args: argparse.Namespace, client: httpx.Client | None) -> list[Upload]:
    """Make an upload of each FILE. Invalid arguments end the command here, before anything is sent."""
    if args.files.count("-") > 1:
        raise argparse.ArgumentError(None, "standard input (-) can be sent only once")
    try:
        return [_upload(args, file, client) for file in args.files]
    except (TypeError, ValueError) as error:
        raise argparse.ArgumentError(None, str(error)) from error


def _upload(args: argparse.Namespace, file: str, client: httpx.Client | None) -> Upload:
    form: dict[str, list[str]] = {}
    for key, value in args.form:
        form.setdefault(key, []).append(value)
    return upload(
        args.url,
        _standard_input() if file == "-" else file,
        args.name,
        form_data=form,
        headers=args.header,
        timeout=args.timeout,
        follow_redirects="same-origin" if args.same_origin else args.location,
        client=client,
    )


def _retried(args: argparse.Namespace, index: int, source: Upload, report: Report) -> Observable[UploadEvent]:
    """Add --retries to an upload. Report each failed attempt that will be followed by another."""
    if not args.retries or not _can_be_read_again(args.files[index]):
        return source
    attempts = 1 + args.retries

    def tell(retry: Retry) -> None:
        report.again(index, retry.error, f"attempt {retry.attempt} of {attempts}")

    return source.pipe(retry_backoff(attempts=attempts, on_retry=tell))


def _can_be_read_again(file: str) -> bool:
    # Only a file can be read again. For anything else, the error of the second pass would hide the first error.
    with contextlib.suppress(OSError):
        return file != "-" and Path(file).is_file()
    return False


def _client(args: argparse.Namespace) -> contextlib.AbstractContextManager[Client | None]:
    """Return a client for --insecure; otherwise None, for the default client."""
    return Client(verify=False) if args.insecure else contextlib.nullcontext()


def _standard_input() -> BinaryIO:
    # Unbuffered: with a buffer, the interpreter crashes on its lock if it ends (Ctrl-C) while a thread is reading.
    return open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)
