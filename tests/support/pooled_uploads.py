"""What a process of a pool does in a test: it has to be importable there."""

from __future__ import annotations

from typing import Any

import httpx2

import rxupload
from rxupload import operators, upload


def checked(url: str, *, library: str = "httpx", **options: Any) -> Any:
    """Upload, and let a status of 400 or more be an error."""
    if library == "httpx2":
        with httpx2.Client(trust_env=False) as client:
            return rxupload.run(upload(url, b"data", client=client).pipe(operators.raise_for_status()))
    return rxupload.run(upload(url, b"data", **options).pipe(operators.raise_for_status()))


def retried(url: str) -> Any:
    """Upload once, with a status that may pass as an error."""
    return rxupload.run(upload(url, b"data").pipe(operators.retry_backoff(attempts=1)))
