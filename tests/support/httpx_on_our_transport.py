"""A pytest plugin (`-p support.httpx_on_our_transport`) that gives httpx's clients an `UploadTransport`."""

from __future__ import annotations

import httpx
import httpx._client

import rxupload

httpx.HTTPTransport = httpx._client.HTTPTransport = rxupload.UploadTransport
