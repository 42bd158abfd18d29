"""A plain client of tus, which sends one request at a time and keeps no state."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import re

import httpx
from support.forms import PATIENCE, connected

BYTES = {"Content-Type": "application/offset+octet-stream"}


class TusClient:
    """Sends the requests of tus to a receiver."""

    def __init__(self, client, url):
        self._client = client
        self.url = httpx.URL(url)
        self.endpoint = self.url.join("/files")

    def request(self, method, url, content=b"", **headers):
        """Send a request. An underscore in the name of a header stands for a hyphen, and None leaves it out."""
        named = {"Tus-Resumable": "1.0.0"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        sent = {name: str(value) for name, value in named.items() if value is not None}
        return self._client.request(method, self.url.join(url), content=content, headers=sent)

    def post(self, content=b"", url="/files", **headers):
        """Create an upload."""
        return self.request("POST", url, content, **headers)

    def created(self, length=None, content=b"", **headers):
        """Create an upload, and return its URL."""
        known = {"Upload_Defer_Length": 1} if length is None else {"Upload_Length": length}
        response = self.post(content, **known | (BYTES_OF if content else {}) | headers)
        assert response.status_code == 201, response.text
        return self.url.join(response.headers["Location"])

    def patch(self, url, offset, content=b"", **headers):
        """Add bytes to an upload."""
        return self.request("PATCH", url, content, Upload_Offset=offset, **BYTES_OF | headers)

    def head(self, url, **headers):
        """Ask for the state of an upload."""
        return self.request("HEAD", url, **headers)

    def offset(self, url):
        """The offset of an upload."""
        return int(self.head(url).headers["Upload-Offset"])

    def delete(self, url):
        """End an upload."""
        return self.request("DELETE", url)


BYTES_OF = {"Content_Type": BYTES["Content-Type"]}


def metadata(**values):
    """Upload-Metadata with these values."""
    return ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in values.items())


def named(filename, **values):
    """The headers that name the file."""
    return {"Upload_Metadata": metadata(filename=filename, **values)}


@contextlib.contextmanager
def patching(url, offset, length, *, method="PATCH", **headers):
    """A connection over which the head of a request with bytes has gone; the bytes are the caller's."""
    fields = {
        "Host": f"127.0.0.1:{url.port}",
        "Tus-Resumable": "1.0.0",
        "Content-Length": length,
        "Upload-Offset": offset,
        **BYTES,
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = [f"{method} {url.path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    with connected(url) as sock:
        sock.sendall("\r\n".join([*lines, "", ""]).encode())
        yield sock


@contextlib.contextmanager
def hanging(url, is_stored, offset=0, content=b"01234", **headers):
    """A PATCH that has sent some bytes, and sends no more."""
    with patching(url, offset, 100 - offset, **headers) as sock:
        sock.sendall(content)
        assert is_stored.wait(PATIENCE)
        is_stored.clear()
        yield sock


def answered(sock, method="PATCH"):
    """The status, the headers and the JSON from a bare connection."""
    with http.client.HTTPResponse(sock, method=method) as response:
        response.begin()
        body = response.read()
        return response.status, response.headers, json.loads(body) if body else None


def finished(inbox):
    """The content of the directory without hidden files, by name."""
    return {path.name: path.read_bytes() for path in inbox.iterdir() if not path.name.startswith(".")}


def hidden(inbox, suffix=""):
    """The receiver's own files in the directory."""
    found = [path for path in inbox.iterdir() if path.name.startswith(".")]
    return sorted(path for path in found if path.name.endswith(suffix))


def is_token(location):
    """Whether it is a URL that nobody can guess."""
    return bool(re.fullmatch(r"/files/[A-Za-z0-9_-]{43}", location))
