"""Bodies of multipart/form-data, and bare connections to send them over to a receiver."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import socket

import httpx
import pytest

PATIENCE = 10.0
FORM = {"Content-Type": "multipart/form-data; boundary=B"}
CLOSING = b"--B--\r\n"

posix_only = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals, symbolic links or /dev/fd")


def part(disposition, value=b"", *headers):
    """One part of a body with the boundary B."""
    if isinstance(disposition, str):
        disposition = disposition.encode()
    lines = [b"--B", b"Content-Disposition: form-data; " + disposition, *headers, b"", value]
    return b"\r\n".join(lines) + b"\r\n"


def file_part(filename, content=b"", name="file"):
    """A file as a browser sends it (WHATWG HTML, multipart/form-data encoding algorithm)."""
    escaped = filename.replace("\n", "%0A").replace("\r", "%0D").replace('"', "%22")
    return part(f'name="{name}"; filename="{escaped}"', content)


@contextlib.contextmanager
def connected(url):
    """A bare connection to the receiver."""
    address = httpx.URL(url)
    with socket.create_connection((address.host, address.port), timeout=PATIENCE) as sock:
        yield sock


def head(**headers):
    """The head of a POST; underscores in header names stand for hyphens."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines = ["POST / HTTP/1.1", "Host: localhost", f"Content-Type: {FORM['Content-Type']}", *lines]
    return "\r\n".join([*lines, "", ""]).encode()


def answer(sock):
    """The status and the JSON from a bare connection."""
    with http.client.HTTPResponse(sock) as response:
        response.begin()
        return response.status, json.loads(response.read())


def has_ended(sock):
    """Whether the receiver has closed the connection, with or without a reset."""
    try:
        return sock.recv(1) == b""
    except ConnectionError:
        return True


def stored(directory):
    """The content of the directory, by name."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def filename_in(body: bytes) -> bytes:
    """The filename of the file in a multipart body."""
    return re.search(rb'filename="(.*?)"', body)[1]
