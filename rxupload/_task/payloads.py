"""What the callbacks of a task are told: the payloads, made of Progress and of a response."""

from __future__ import annotations

from typing import TypedDict

import httpx

from rxupload._events import Progress


class UploadResult(TypedDict):
    """What `success` is called with, and what `UploadTask.result()` returns: the server's response.

    `url` is the address that answered, the last one after redirects; without a user, a password and a fragment, as
    browsers have it.
    """

    statusCode: int
    data: str
    headers: dict[str, str | list[str]]
    url: str


class ProgressUpdate(TypedDict):
    """What progress listeners are called with. Bytes are those of the whole request body."""

    progress: int
    totalBytesSent: int
    totalBytesExpectedToSend: int


class HeadersUpdate(TypedDict):
    """What headers listeners are called with."""

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
        "data": _text(response),
        "headers": _headers(response),
        "url": _url(response),
    }


def _url(response: httpx.Response) -> str:
    try:
        return str(response.url.copy_with(userinfo=b"", fragment=None))
    except RuntimeError:  # it was made by hand, and has no request
        return ""


def _headers(response: httpx.Response) -> dict[str, str | list[str]]:
    """As the server spelled them; a list where one came several times."""
    encoding = response.headers.encoding
    values: dict[str, list[str]] = {}
    spellings: dict[bytes, str] = {}
    for raw, value in response.headers.raw:
        key = spellings.setdefault(raw.lower(), raw.decode(encoding))
        values.setdefault(key, []).append(value.decode(encoding))
    return {key: each[0] if len(each) == 1 else each for key, each in values.items()}


def _text(response: httpx.Response) -> str:
    # Not response.text: it may raise for a charset that Python has a codec for, but which is none of text ("hex").
    try:
        text = response.content.decode(response.charset_encoding or "utf-8", "replace")
    except (LookupError, ValueError):
        text = response.content.decode("utf-8", "replace")
    return text.removeprefix("\ufeff")
