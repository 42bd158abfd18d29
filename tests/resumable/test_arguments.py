"""Wrong arguments of `upload_resumable` and `Tus`: an error at the call that names the argument, without a secret."""

from __future__ import annotations

import io
from pathlib import Path

import httpx
import pytest

from rxupload import Field, File, upload
from rxupload.resumable import FileStore, MemoryStore, Tus, upload_resumable

URL = "http://127.0.0.1:1/files"
WORD = "hunter2"


@pytest.mark.parametrize(
    ("error", "argument", "options"),
    [
        (ValueError, "url", {"url": "ftp://h/"}),
        (TypeError, "url", {"url": 1}),
        (TypeError, "file", {"file": ["a", "b"]}),
        (TypeError, "file", {"file": Field("a", name="b")}),
        (TypeError, "file", {"file": upload(URL, b"")}),
        (TypeError, "file", {"file": 1}),
        (ValueError, "file: name", {"file": File("a", name="b")}),
        (ValueError, "file: headers", {"file": File("a", headers={"a": "b"})}),
        (TypeError, "protocol", {"protocol": "tus"}),
        (TypeError, "protocol", {"protocol": Tus}),
        (TypeError, "store", {"store": "folder"}),
        (TypeError, "store", {"store": MemoryStore}),
        (ValueError, "store", {"file": b"data", "store": FileStore()}),
        (ValueError, "store", {"file": io.BytesIO(b"data"), "store": FileStore()}),
        (TypeError, "metadata", {"metadata": "a"}),
        (TypeError, "metadata", {"metadata": {1: "a"}}),
        (ValueError, "metadata", {"metadata": {"a b": "c"}}),
        (ValueError, "metadata", {"metadata": {"": "c"}}),
        (ValueError, "metadata", {"metadata": {"ä": "c"}}),
        (TypeError, "chunk_size", {"chunk_size": 1.5}),
        (TypeError, "chunk_size", {"chunk_size": True}),
        (ValueError, "chunk_size", {"chunk_size": 0}),
        (ValueError, "chunk_size", {"file": iter([b""])}),
        (ValueError, "chunk_size", {"protocol": Tus(checksum="sha1")}),
        (TypeError, "filename", {"filename": 1}),
        (ValueError, "filename", {"filename": ""}),
        (TypeError, "content_type", {"content_type": 1}),
        (ValueError, "content_type", {"content_type": "a\r\nb"}),
        (ValueError, "headers", {"headers": {"X": f"{WORD}\n"}}),
        (TypeError, "headers", {"headers": 1}),
        (TypeError, "auth", {"auth": (WORD,)}),
        (ValueError, "timeout", {"timeout": 0}),
        (ValueError, "progress_interval", {"progress_interval": -1}),
        (ValueError, "rate_limit", {"rate_limit": 0}),
        (TypeError, "pause", {"pause": True}),
        (ValueError, "digest", {"digest": "crc"}),
        (ValueError, "verify", {"verify": "size"}),
        (TypeError, "client", {"client": httpx.AsyncClient()}),
    ],
)
def test_a_wrong_argument_is_an_error_at_the_call(error, argument, options):
    """It names the argument."""
    given = {"url": URL, "file": "a.txt"} | options
    with pytest.raises(error, match=rf"^{argument}\b") as caught:
        upload_resumable(given.pop("url"), given.pop("file"), **given)
    assert WORD not in str(caught.value)


@pytest.mark.parametrize("url", ["video.mp4", Path("video.mp4")])
def test_swapped_arguments_are_told_as_such(url):
    """If the file is a URL and the URL is none, the error says that they look swapped."""
    with pytest.raises((TypeError, ValueError), match=r"^url: .*; url and file look swapped: file is a URL$"):
        upload_resumable(url, URL)


@pytest.mark.parametrize(
    ("error", "options"),
    [
        (ValueError, {"checksum": "md5"}),
        (ValueError, {"parallel": 0}),
        (TypeError, {"parallel": 1.0}),
        (TypeError, {"parallel": True}),
    ],
)
def test_a_wrong_argument_of_tus_is_an_error(error, options):
    """It names the argument."""
    with pytest.raises(error, match=rf"^{next(iter(options))}: "):
        Tus(**options)


def test_the_repr_names_the_file_and_the_endpoint():
    """It has neither user, password nor query."""
    up = upload_resumable(f"http://u:{WORD}@h/files?{WORD}", "a/video.mp4", metadata={"a": WORD})
    assert repr(up) == "<ResumableUpload POST http://h/files video.mp4>"
