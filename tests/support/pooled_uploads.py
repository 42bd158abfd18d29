"""The work of a process pool in a test, in a module that the processes can import."""

from __future__ import annotations

from typing import Any

import httpx2

import rxupload
from rxupload import operators, upload


def checked(url: str, *, library: str = "httpx", **options: Any) -> Any:
    """Upload, and raise for a status of 400 or more."""
    if library == "httpx2":
        with httpx2.Client(trust_env=False) as client:
            return rxupload.run(upload(url, b"data", client=client).pipe(operators.raise_for_status()))
    return rxupload.run(upload(url, b"data", **options).pipe(operators.raise_for_status()))


def retried(url: str) -> Any:
    """Upload once, and raise for a temporary status."""
    return rxupload.run(upload(url, b"data").pipe(operators.retry_backoff(attempts=1)))
