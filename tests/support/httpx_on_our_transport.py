"""A pytest plugin (`-p support.httpx_on_our_transport`): clients of httpx get `UploadTransport` for their own."""

from __future__ import annotations

import httpx
import httpx._client

import rxupload

httpx.HTTPTransport = httpx._client.HTTPTransport = rxupload.UploadTransport
