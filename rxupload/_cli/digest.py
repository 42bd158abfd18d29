"""Compares the digest of each FILE with the server's, for `rxupload send --digest`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import reactivex
from reactivex import Observable
from reactivex.scheduler import ImmediateScheduler

from rxupload import UploadEvent, run
from rxupload.operators import verify_digest

_FIELDS = {"sha256": "sha-256", "sha512": "sha-512"}  # RFC 9530, section 7.2: those that are not broken


def wanted(algorithm: str) -> list[tuple[str, str]]:
    """Return the header that asks the server for its digest of the FILE (RFC 9530, section 4)."""
    field = _FIELDS.get(algorithm.lower().replace("-", ""))
    return [] if field is None else [("Want-Repr-Digest", f"{field}=1")]


def digests(response: httpx.Response) -> list[str | None]:
    """Return the digests of the files of an upload, in hex; None for each if not all of the body was sent."""
    facts: dict[str, Any] = response.extensions.get("rxupload", {})
    return list(facts.get("digests", ()))


def compare_digest(
    confirm: Callable[[], object],
) -> Callable[[Observable[UploadEvent]], Observable[UploadEvent]]:
    """Compare the digest with the server's, if the server sends one, and call `confirm` if they are equal."""

    def received(response: httpx.Response) -> list[str]:
        try:
            run(reactivex.just(response).pipe(verify_digest()), ImmediateScheduler())
        except ValueError:  # the server has sent no digest of the FILE: there is nothing to compare
            pass
        else:
            confirm()
        return [digest or "" for digest in digests(response)]

    return verify_digest(received)
