"""`rxupload send` uploads FILEs to a URL."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from pathlib import Path
from typing import BinaryIO, cast

from reactivex import Observable
from reactivex import operators as ops

from rxupload import (
    BatchEvent,
    BatchSummary,
    Client,
    Field,
    File,
    ItemDone,
    ItemFailed,
    Upload,
    UploadEvent,
    run,
    upload,
    upload_all,
)
from rxupload.operators import retry_backoff
from rxupload.resumable import ResumeInUse

from . import values
from .bars import choose_report
from .client import ask_for_password, make_client
from .digest import compare_digest, wanted
from .dry_run import dry_run
from .files import Found, address_of, ends_with_slash, find_files
from .reports import JsonLines, Report, Style
from .send_resumable import check_regular, check_resume, resumable_upload, say_what_goes_on


def send(args: argparse.Namespace) -> int:
    """Upload each FILE, and return the exit status."""
    _check(args)
    files = find_files(args)
    if args.resume:
        check_regular(files)
    _check_output(args.output, files)
    if args.raw and len(files) > 1 and not ends_with_slash(args.url):
        raise argparse.ArgumentError(
            None,
            f"-T would send {len(files)} FILEs to one address; end the URL with / to add the name of each",
        )
    with make_client(args) as client:
        auth = None if args.dry_run else ask_for_password(args.user)
        uploads = _uploads(args, files, client, auth)
        if args.dry_run:
            return dry_run(args, files)
        unfinished = dict(enumerate(files))
        with _choose_report(args, files) as report:
            sources = [_pipeline(args, index, each, files, report) for index, each in enumerate(uploads)]
            batch = upload_all(sources, concurrency=args.concurrency, rate_limit=args.limit_rate)

            def show(event: BatchEvent) -> None:
                match event:
                    case ItemDone(index) | ItemFailed(index, _, ResumeInUse()):
                        del unfinished[index]
                report.show(event)

            try:
                summary = cast("BatchSummary", run(batch.pipe(ops.do_action(show))))
            except KeyboardInterrupt:
                report.aborted()
                say_what_goes_on(args, list(unfinished.values()))
                raise
        say_what_goes_on(args, unfinished.values())
    if report.lost is not None:
        raise report.lost
    return 1 if summary.failed else 0


def _check(args: argparse.Namespace) -> None:
    """Check the positional arguments, and refuse options that do not go together, by their own names."""
    if args.url is None:
        raise argparse.ArgumentError(None, "a URL is required, and a FILE")
    args.url = values.checked("URL", values.url, args.url)
    args.files = [values.checked("FILE", values.file, file) for file in args.files]
    args.output = None if args.output == "-" else args.output  # standard output, as without -o
    check_resume(args)
    if args.method is None:
        args.method = "PUT" if args.raw else "POST"
    if args.json and args.quiet:
        raise argparse.ArgumentError(None, "--json prints each event, and -q none; leave out one")
    if args.raw:
        for option, value in (("-F", args.form), ("--name", args.name), ("--filename", args.filename)):
            if value:
                raise argparse.ArgumentError(
                    None, f"-T sends the FILE without a form, so {option} has no place"
                )


def _check_output(output: str | None, files: list[Found]) -> None:
    if output is None:
        return
    path = Path(output)
    reason = None
    if len(files) > 1:
        reason = f"it takes the response to a single FILE, and there are {len(files)}"
    elif path.is_dir():
        reason = "it is a directory"
    elif not path.parent.is_dir():
        reason = "its directory does not exist"
    elif path.is_file() and Path(files[0].path).is_file() and path.samefile(files[0].path):
        reason = "it is the FILE to send"
    if reason:
        raise argparse.ArgumentError(None, f"-o: {reason}")


def _choose_report(args: argparse.Namespace, files: list[Found]) -> Report:
    is_one = len(files) == 1 and not args.recursive and not args.files_from
    style = Style(
        is_one=is_one,
        output=args.output,
        is_verbose=args.verbose,
        is_quiet=args.quiet,
        is_resumable=args.resume,
    )
    paths = [file.path for file in files]
    return JsonLines(paths, style) if args.json else choose_report(paths, style)


def _uploads(
    args: argparse.Namespace, files: list[Found], client: Client | None, auth: tuple[str, str] | None
) -> list[Upload]:
    """Make an upload of each FILE. Invalid arguments end the command here, before anything is sent."""
    try:
        return [_upload(args, file, client, auth) for file in files]
    except (TypeError, ValueError) as error:
        raise argparse.ArgumentError(None, str(error)) from error


def _upload(
    args: argparse.Namespace, file: Found, client: Client | None, auth: tuple[str, str] | None
) -> Upload:
    if args.resume:
        return resumable_upload(args, file, _headers(args), client, auth)
    parts = _parts(args, file)
    return upload(
        address_of(args, file),
        parts if args.form else cast("File", parts[0]),  # errors then do not count the files
        "file" if args.name is None else args.name,
        raw=args.raw,
        headers=_headers(args),
        method=args.method,
        digest=args.digest,
        timeout=args.timeout,
        follow_redirects="same-origin" if args.same_origin else args.location,
        auth=auth,
        client=client,
    )


def _parts(args: argparse.Namespace, file: Found) -> list[File | Field]:
    """Return the parts of a form: those of -F in their order, and then the FILE."""
    parts: list[File | Field] = []
    for part in args.form:
        if part.is_file:
            parts.append(File(_source(part.value), part.name, part.filename, part.content_type))
        else:
            parts.append(Field(part.value, part.content_type, name=part.name))
    if not file.has_form_alone:
        filename = None if args.raw else file.filename
        parts.append(File(_source(file.path), filename=filename, content_type=args.type))
    return parts


def _headers(args: argparse.Namespace) -> list[tuple[str, str]]:
    headers: list[tuple[str, str]] = args.header
    if args.digest is None or any(name.lower() == "want-repr-digest" for name, _ in headers):
        return headers
    return [*headers, *wanted(args.digest)]


def _pipeline(
    args: argparse.Namespace, index: int, upload: Upload, files: list[Found], report: Report
) -> Observable[UploadEvent]:
    """Add --digest and --retries to an upload. Report each failed attempt that will be followed by another."""
    source: Observable[UploadEvent] = upload
    if args.digest is not None:
        source = source.pipe(compare_digest(lambda: report.confirm(index)))
    sent = [files[index].path, *(part.value for part in args.form if part.is_file)]
    if not args.retries or not all(map(_can_be_read_again, sent)):
        return source
    attempts = 1 + args.retries
    most = None if args.resume else attempts  # each one that gets further allows as many again
    return source.pipe(
        retry_backoff(attempts=attempts, on_retry=lambda retry: report.again(index, retry, most))
    )


def _can_be_read_again(file: str) -> bool:
    # Only a file can be read again. For anything else, the error of the second pass would hide the first error.
    with contextlib.suppress(OSError):
        return file != "-" and Path(file).is_file()
    return False


def _source(file: str) -> str | BinaryIO:
    if file != "-":
        return file
    if sys.stdin is None:
        raise argparse.ArgumentError(None, "standard input (-) is closed")
    # Unbuffered: with a buffer, the interpreter crashes on its lock if it ends (Ctrl-C) while a thread is reading.
    return os.fdopen(sys.stdin.fileno(), "rb", buffering=0, closefd=False)
