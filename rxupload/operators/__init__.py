"""Operators for streams of upload events, to be used in `pipe()` with those of reactivex.

::

    upload(url, "beach.jpg").pipe(retry_backoff(), progress_bar(), raise_for_status())

Each works with any source of the right items. What they know of an httpx response or error they know by its names, so
the responses and errors of httpx2, and of a client of your own, are as good.
"""

from .of_type import of_type
from .progress_bar import progress_bar
from .raise_for_status import raise_for_status
from .retry_backoff import Retry, retry_backoff
from .throughput import Throughput, throughput

__all__ = [
    "Retry",
    "Throughput",
    "of_type",
    "progress_bar",
    "raise_for_status",
    "retry_backoff",
    "throughput",
]
