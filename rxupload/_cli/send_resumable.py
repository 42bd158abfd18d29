"""Makes the uploads of `rxupload send --resume`, which go on where the server stands."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path

import httpx

from rxupload import Client
from rxupload.resumable import (
    FileStore,
    GoogleResumable,
    IetfResumable,
    ResumableUpload,
    Tus,
    upload_resumable,
)

from .files import Found
from .texts import printable, say
from .values import FormPart

_OPTIONS = {"chunk_size": "--chunk-size", "metadata": "-F"}  # by the argument of `upload_resumable`


def check_resume(args: argparse.Namespace) -> None:
    """Refuse options that have no meaning for a resumable upload, by their own names. Choose the store.

    Raises:
        argparse.ArgumentError: There is one.
    """
    if not args.resume:
        for option, value in (("--chunk-size", args.chunk_size), ("--protocol", args.protocol)):
            if value is not None:
                raise argparse.ArgumentError(None, f"{option} is for --resume; add that, or leave it out")
        return
    for option, is_given, reason in (
        ("-T", args.raw, "sends the bytes alone by itself"),
        ("-X", args.method, "has the methods of its protocol"),
        ("--name", args.name and args.protocol != "ietf", "sends the FILE without a form"),
        ("-L", args.location, "follows no redirects"),
        ("--same-origin", args.same_origin, "follows no redirects"),
    ):
        if is_given:
            raise argparse.ArgumentError(None, f"--resume {reason}, so {option} has no place")
    _check_metadata(args.form)
    if "-" in args.files:
        raise argparse.ArgumentError(None, "--resume reads a FILE again, and standard input (-) has no path")
    args.store = FileStore()


def _check_metadata(parts: list[FormPart]) -> None:
    names: set[str] = set()
    for part in parts:
        if part.is_file:
            raise argparse.ArgumentError(
                None, "--resume sends each FILE by itself, so -F NAME=@PATH has no place"
            )
        if part.content_type is not None:
            raise argparse.ArgumentError(
                None,
                "--resume sends -F as metadata, without types; for a value with ;type= in it, --form-string",
            )
        if part.name in names:
            raise argparse.ArgumentError(None, "--resume sends -F as metadata, where each NAME stands once")
        names.add(part.name)


def check_regular(files: list[Found]) -> None:
    """Refuse what can be read only once, and what has no size. A directory's own error names -r.

    Raises:
        argparse.ArgumentError: There is one.
    """
    for file in files:
        path = Path(file.path)
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise argparse.ArgumentError(
                None, f"--resume reads a FILE again, and {printable(file.path)} is no regular file"
            )


def resumable_upload(
    args: argparse.Namespace,
    file: Found,
    headers: list[tuple[str, str]],
    client: Client | None,
    auth: tuple[str, str] | None,
) -> ResumableUpload:
    """Make the upload of a FILE. Its state is in the user's state folder.

    Raises:
        ValueError: An argument is invalid; the message names the option.
    """
    try:
        return upload_resumable(
            args.url,
            file.path,
            protocol=_protocol(args),
            metadata={part.name: part.value for part in args.form},
            chunk_size=args.chunk_size,
            store=args.store,
            filename=file.filename,
            content_type=args.type,
            headers=headers,
            auth=auth,
            timeout=args.timeout,
            digest=args.digest,
            client=client,
        )
    except ValueError as error:
        argument, colon, reason = str(error).partition(":")
        raise ValueError(f"{_OPTIONS.get(argument, argument)}{colon}{reason}") from error


def _protocol(args: argparse.Namespace) -> Tus | GoogleResumable | IetfResumable:
    if args.protocol == "google":
        return GoogleResumable()
    if args.protocol == "ietf":
        return IetfResumable(form=args.name or ("file" if args.form else None))
    return Tus()


def say_what_goes_on(args: argparse.Namespace, unfinished: Iterable[Found]) -> None:
    """Tell which FILEs the same command goes on with."""
    if args.quiet or not args.resume:
        return
    endpoint = str(httpx.URL(args.url).copy_with(userinfo=b"", query=None, fragment=None))
    with contextlib.suppress(OSError, ValueError):  # of the store; of standard error
        known = {os.path.normcase(each.path) for each in args.store.uploads() if each.endpoint == endpoint}
        for file in unfinished:
            if os.path.normcase(os.path.realpath(file.path)) in known:
                say(f"{printable(file.path)}: the same command goes on with the upload", sys.stderr)
