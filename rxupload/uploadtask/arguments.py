"""Defines and checks the arguments of `uploadFile`."""

from __future__ import annotations

import difflib
import math
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict, cast

import httpx
from reactivex import abc

from rxupload._addresses import HINT, readable_url, shown
from rxupload._arguments import (
    NO_LOOP,
    as_float,
    check_client,
    check_content_type,
    check_headers,
    check_name,
    if_swapped,
    is_async,
    wrong_type,
)
from rxupload._cards import short
from rxupload._client import HTTPClient, default_client
from rxupload._schedulers import runs_coroutines
from rxupload._sources import Inside
from rxupload._task import UploadResult
from rxupload._upload import Upload, upload

DEFAULT_TIMEOUT = 20_000  # milliseconds
_internal_root: Path | None = None


class UploadFileObject(TypedDict):
    """The type of OBJECT, the argument of `uploadFile`."""

    url: str
    filePath: str
    name: str
    header: NotRequired[Mapping[str, str | int | float] | None]
    formData: NotRequired[Mapping[str, str | int | float | bool | None] | None]
    timeout: NotRequired[float | None]
    success: NotRequired[Callable[[UploadResult], object] | None]
    fail: NotRequired[Callable[[str, int], object] | None]
    complete: NotRequired[Callable[[], object] | None]


class UploadFileOptions(TypedDict, total=False):
    """Further keywords of `uploadFile`, which the original API does not have."""

    fileName: str | None
    contentType: str | None
    client: httpx.Client | HTTPClient | None
    scheduler: abc.SchedulerBase | None
    followRedirects: bool | Literal["same-origin"] | None


class Keywords(UploadFileObject, UploadFileOptions):
    """All keywords of `uploadFile`."""


_KEYS = sorted(Keywords.__required_keys__ | Keywords.__optional_keys__)


_CLOSE = 0.8  # one slip of the pen in five letters


def _simplified(key: str) -> str:
    return key.lower().replace("_", "").replace("-", "")


_SIMPLE_KEYS = {_simplified(key): key for key in _KEYS}


def warn_of_unknown_keys(given: Mapping[Any, object]) -> None:
    """Warn about each unknown key, and name a similar known one, if there is one."""
    for key in given:
        if key not in _KEYS:
            near = difflib.get_close_matches(_simplified(str(key)), _SIMPLE_KEYS, n=1, cutoff=_CLOSE)
            hint = f"; did you mean {_SIMPLE_KEYS[near[0]]!r}?" if near else ""
            warnings.warn(f"uploadFile: unknown key {key!r}{hint}", stacklevel=3)


def upload_of(given: Mapping[Any, Any]) -> Upload:
    """Check the arguments in their order, and return the upload."""
    url = _check_url(given)
    path, own_name = _check_path(given)
    name = check_name("name", _required(given, "name"))
    headers = _check_header(given.get("header"))
    fields = _check_form_data(given.get("formData"))
    timeout = _check_timeout(given.get("timeout"))
    for key in ("success", "fail", "complete"):
        if given.get(key) is not None and not callable(given[key]):
            raise wrong_type(key, "a function", given[key])
        if is_async(given.get(key)) and not runs_coroutines(scheduler_or_none(given)):
            raise TypeError(f"{key}: {NO_LOOP}")
    if (filename := given.get("fileName")) is not None:
        check_name("fileName", filename)
    if (content_type := given.get("contentType")) is not None:
        check_content_type(content_type, "contentType")
    if (client := given.get("client")) is not None:
        check_client(client)
    if given.get("scheduler") is not scheduler_or_none(given):
        raise wrong_type("scheduler", "a scheduler, such as AsyncIOScheduler", given["scheduler"])
    follow = _check_follow(given.get("followRedirects"))
    return upload(
        url,
        path,
        name,
        filename=filename or own_name,
        content_type=content_type,
        form_data=fields,
        headers=headers,
        timeout=timeout,
        follow_redirects=follow,
        client=client or _DefaultClient(),
    )


class _DefaultClient:
    """The default client without its own time limits, so that `timeout` is the only limit."""

    follow_redirects = True
    max_redirects = 20

    def build_request(
        self, method: str, url: Any, *, content: Any = None, headers: Any = None
    ) -> httpx.Request:
        request = default_client().build_request(method, url, content=content, headers=headers)
        request.extensions["timeout"] = httpx.Timeout(None).as_dict()
        return request

    def send(self, request: Any, **options: Any) -> httpx.Response:
        return default_client().send(request, **options)


def set_internal_root(root: str | os.PathLike[str]) -> None:
    """Set the folder that contains the folders of `internal://`."""
    global _internal_root  # noqa: PLW0603
    _internal_root = Path(root)


def _check_url(given: Mapping[Any, object]) -> str:
    url = _required(given, "url")
    swapped = if_swapped(url, given.get("filePath"), "filePath")
    if not isinstance(url, str):
        raise TypeError(f"{wrong_type('url', 'a str', url)}{swapped}")
    check_name("url", url)
    parsed = readable_url(url)
    if parsed is None:
        raise ValueError(f"url: it cannot be read; {HINT}{swapped}")
    if parsed.scheme not in ("http", "https") or not parsed.raw_host:
        raise ValueError(f"url: must begin with http:// or https:// and a host{swapped}")
    return url


def _check_path(given: Mapping[Any, object]) -> tuple[str | Inside, str | None]:
    """Return the path, and for an `internal://` path also the file's own name."""
    path = check_name("filePath", _required(given, "filePath"))
    if "\0" in path:
        raise ValueError("filePath: there is a NUL character in it")
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        raise ValueError("filePath: there is a lone surrogate in it") from None
    if not path.startswith("internal://"):
        return path, None
    folder, _, rest = path.removeprefix("internal://").partition("/")
    if folder not in ("cache", "files", "mass", "tmp"):
        raise ValueError(f"filePath: {path} is not in internal://cache, files, mass or tmp")
    root = _internal_root or os.environ.get("RXUPLOAD_INTERNAL_ROOT")
    if not root:
        raise ValueError(
            f"filePath: {path} has no root: set one with uploadtask.configure(internal_root=...) or with the "
            "environment variable RXUPLOAD_INTERNAL_ROOT"
        )
    try:
        inside = Inside(Path(root, folder), rest)
    except ValueError:
        raise ValueError(f"filePath: {path} leads out of internal://{folder}") from None
    return inside, Path(rest).name or None


def _check_header(header: object) -> list[tuple[bytes, bytes]]:
    if header is None:
        return []
    if not isinstance(header, Mapping):
        raise wrong_type("header", "a dict", header)
    for key, value in header.items():
        if not isinstance(key, str):
            raise wrong_type("header: a key", "a str", key)
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise wrong_type(f"header[{key!r}]", "a str or a number", value)
    return check_headers({key: str(value) for key, value in header.items()})


def _check_form_data(form_data: object) -> dict[str, str | int | float | bool]:
    if form_data is None:
        return {}
    if not isinstance(form_data, Mapping):
        raise wrong_type("formData", "a dict", form_data)
    for key, value in form_data.items():
        if not isinstance(key, str):
            raise wrong_type("formData: a key", "a str", key)
        if not isinstance(value, str | int | float | None):
            raise wrong_type(f"formData[{key!r}]", "a str, int, float or bool", value)
    return {key: value for key, value in form_data.items() if value is not None}


def _check_timeout(timeout: Any) -> float | None:
    """Return the timeout in seconds; None for no limit."""
    if timeout is None:
        timeout = DEFAULT_TIMEOUT
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise wrong_type("timeout", "a number of milliseconds", timeout)
    milliseconds = as_float(timeout)
    if math.isnan(milliseconds) or milliseconds < 0:
        raise ValueError(f"timeout: must be 0 or more milliseconds; got {milliseconds:g}")
    return milliseconds / 1000 if 0 < milliseconds < math.inf else None


def _check_follow(follow: Any) -> bool | Literal["same-origin"]:
    if follow is None:
        return True
    if not isinstance(follow, bool | str):
        raise wrong_type("followRedirects", 'True, False or "same-origin"', follow)
    if isinstance(follow, str) and follow != "same-origin":
        raise ValueError(f'followRedirects: must be True, False or "same-origin", not {follow!r}')
    return cast('bool | Literal["same-origin"]', follow)


def _required(given: Mapping[Any, object], key: str) -> object:
    if given.get(key) is None:
        raise TypeError(f"{key}: it is required")
    return given[key]


def function_or_none(given: Mapping[Any, Any], key: str) -> Any:
    """Return the function under this key; None if there is none, or if it is asynchronous and has no loop."""
    function = given.get(key)
    if not callable(function) or (is_async(function) and not runs_coroutines(scheduler_or_none(given))):
        return None
    return function


def about(given: Mapping[Any, Any]) -> str:
    """Return the file and the address for people. An address that is refused is not shown: it may hold a secret."""
    path = given.get("filePath")
    try:
        address = shown(_check_url(given))
    except (TypeError, ValueError):
        address = "an invalid address"
    return f"{short(path) if isinstance(path, str) and path else 'no file'} to {address}"


def scheduler_or_none(given: Mapping[Any, Any]) -> abc.SchedulerBase | None:
    """Return the given scheduler; None if there is none."""
    scheduler = given.get("scheduler")
    return scheduler if isinstance(scheduler, abc.SchedulerBase) else None
