"""Operators for streams of upload events, for use in `pipe()` together with those of reactivex.

::

    upload(url, "beach.jpg").pipe(retry_backoff(), progress_bar(), raise_for_status())

Each works with any source of the right items. They recognise responses and errors by attribute and class names. So
they also work with httpx2, and with a client of your own.
"""

from .of_type import of_type
from .progress_bar import progress_bar
from .raise_for_status import raise_for_status
from .record import record
from .retry_backoff import Retry, retry_backoff
from .throughput import Throughput, throughput
from .verify_digest import verify_digest

__all__ = [
    "Retry",
    "Throughput",
    "of_type",
    "progress_bar",
    "raise_for_status",
    "record",
    "retry_backoff",
    "throughput",
    "verify_digest",
]
