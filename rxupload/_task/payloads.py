"""Makes the arguments of a task's callbacks from Progress and from a response."""

from __future__ import annotations

from typing import TypedDict

import httpx

from rxupload._events import Progress


class UploadResult(TypedDict):
    """The server's response, as the argument of `success` and the result of `UploadTask.result()`.

    `url` is the address that answered, after redirects. As in browsers, it has no user, password or fragment.
    """

    statusCode: int
    data: str
    headers: dict[str, str | list[str]]
    url: str


class ProgressUpdate(TypedDict):
    """The argument of progress listeners. The bytes are those of the whole request body."""

    progress: int
    totalBytesSent: int
    totalBytesExpectedToSend: int


class HeadersUpdate(TypedDict):
    """The argument of headers listeners."""

    headers: dict[str, str | list[str]]


def progress_update(item: Progress) -> ProgressUpdate:
    return {
        "progress": item.percent or 0,
        "totalBytesSent": item.sent,
        "totalBytesExpectedToSend": item.total or 0,
    }


def headers_update(response: httpx.Response) -> HeadersUpdate:
    return {"headers": _headers(response)}


def upload_result(response: httpx.Response) -> UploadResult:
    return {
        "statusCode": response.status_code,
        "data": response.text.removeprefix("\ufeff"),
        "headers": _headers(response),
        "url": _url(response),
    }


def _url(response: httpx.Response) -> str:
    try:
        return str(response.url.copy_with(userinfo=b"", fragment=None))
    except RuntimeError:  # a response made by hand has no request
        return ""


def _headers(response: httpx.Response) -> dict[str, str | list[str]]:
    """Return the headers as the server spelled them. A repeated header has a list of its values."""
    encoding = response.headers.encoding
    values: dict[str, list[str]] = {}
    spellings: dict[bytes, str] = {}
    for raw, value in response.headers.raw:
        key = spellings.setdefault(raw.lower(), raw.decode(encoding))
        values.setdefault(key, []).append(value.decode(encoding))
    return {key: each[0] if len(each) == 1 else each for key, each in values.items()}
