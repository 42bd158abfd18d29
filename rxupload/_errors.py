"""The exceptions of the library's own.

Everything else an upload can end with keeps the type that its origin gave it: httpx's, or the system's.

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
    └── UploadAborted
"""

from __future__ import annotations

import httpx


class UploadTimeout(httpx.TimeoutException):
    """The upload as a whole took longer than its `timeout`.

    The limits of a single connect, write or read are httpx's own: `httpx.ConnectTimeout`,
    `httpx.WriteTimeout` and `httpx.ReadTimeout`.
    """


class SourceChanged(OSError):  # noqa: N818 (named as the event is)
    """What was read is not as long as its size said.

    Raised when a file shrinks while it is read, when one of several files is another one by the time its turn comes,
    and when a source gives more or fewer bytes than the size declared for it. What is written over in place, or is
    appended, is not noticed. The server may have received a part of the body.
    """


class UploadAborted(Exception):  # noqa: N818 (named as the event is)
    """A running task was aborted, so it has no result."""


class ResponseTooLarge(httpx.RequestError):
    """The response has more bytes, decoded, than `max_response_size`.

    The server has received the upload, or as much of it as it wanted. Trying again would bring the same response.
    """


class RedirectRefused(httpx.RequestError):
    """The server redirects the upload to where it must not go.

    Raised for a redirect from https to http, and for one to another origin with `follow_redirects="same-origin"`.
    """
