"""Operators for streams of upload events, for use in `pipe()` together with those of reactivex.

::

    upload(url, "beach.jpg").pipe(retry_backoff(), progress_bar(), raise_for_status())

Each works with any source of the right items. They recognise responses and errors by attribute and class names. So
they also work with httpx2, and with a client of your own.

What to know about reactivex itself:

- A pipeline's own `run()` is reactivex's: after Ctrl-C, the upload continues. `rxupload.run(pipeline)` aborts it.
- A pipeline has no `start()`, but a batch of one has: `upload_all([pipeline]).start()` is a running task. On a loop, as
  in a notebook, so is `asyncio.ensure_future(pipeline)`, which gives the response.
- `retry(3)` means three attempts with no wait between them. `retry_backoff()` waits, and knows what to retry.
- A pipeline that is awaited must end on the loop, or the loop does not wake. From another thread, end it by
  `loop.call_soon_threadsafe(subject.on_next, True)`.
- Without `on_error`, an error is only a traceback of the thread that it came on.
- `throttle_first` may drop the last item, which is the response. Set `progress_interval` of `upload()` instead, or use
  `sample`, which keeps it.
- `share()`, and `replay()` with `ref_count()`, upload again for a subscriber who comes after the end. Let everybody
  subscribe to `publish()`, and connect then.
- `merge(max_concurrent=...)` can drop an inner source under contention (reactivex 6.1). Use `upload_all`.
- For a type checker, the result of a pipeline is any of its events. With `of_type(httpx.Response)` or
  `of_type(BatchSummary)` at its end, it is that one.
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
