"""Defines the library's own exceptions.

All other errors of an upload keep their original type: httpx's, or the system's.

    Exception
    ├── httpx.HTTPError
    │   └── httpx.RequestError
    │       ├── RedirectRefused
    │       ├── ResponseTooLarge
    │       └── httpx.TransportError
    │           └── httpx.TimeoutException
    │               └── UploadTimeout
    ├── OSError
    │   └── SourceChanged
    ├── DigestMismatch
    ├── ResumeInUse
    └── UploadAborted
"""

from __future__ import annotations

from collections.abc import Sequence

import httpx


class UploadTimeout(httpx.TimeoutException):
    """The upload as a whole took longer than its `timeout`.

    The limits of a single connect, write or read are httpx's own: `httpx.ConnectTimeout`,
    `httpx.WriteTimeout` and `httpx.ReadTimeout`.
    """


class SourceChanged(OSError):  # noqa: N818 (named as the event is)
    """A source has another length than expected.

    Raised when a file shrinks while it is read, when another file has replaced one of several before its turn, and when
    a source gives more or fewer bytes than its declared size. A change in place is not noticed, nor are appended bytes.
    The server may have received a part of the body.
    """


class UploadAborted(Exception):  # noqa: N818 (named as the event is)
    """A running task was aborted, so it has no result."""


class DigestMismatch(Exception):  # noqa: N818 (named as the event is)
    """The server has other bytes than were sent, or other files. See `operators.verify_digest`.

    Attributes:
        algorithm: The name of the hash algorithm, such as "sha256".
        expected: The digest of each file as it was sent, in hex; None for each if the body was not sent whole.
        received: What the server said, for each file, as it wrote it.
    """

    def __init__(
        self, message: str, algorithm: str, expected: Sequence[str | None], received: Sequence[str]
    ) -> None:
        super().__init__(message, algorithm, expected, received)  # pickle makes it anew from these
        self.algorithm = algorithm
        self.expected = list(expected)
        self.received = list(received)

    def __str__(self) -> str:
        return str(self.args[0])


class ResumeInUse(Exception):  # noqa: N818 (named as the event is)
    """A resumable upload runs already: in another subscription, or in another process. It can be tried again later."""


class ResponseTooLarge(httpx.RequestError):
    """The decoded response has more bytes than `max_response_size`.

    The server has received the upload, or as much of it as it wanted. Another attempt would get the same response.
    """


class RedirectRefused(httpx.RequestError):
    """The server redirected the upload to an address that the library refuses.

    Raised for a redirect from https to http, and with `follow_redirects="same-origin"` for one to another origin.
    """
