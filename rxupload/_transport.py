"""`UploadTransport`: abort at any moment, the server's early answer, and progress that tells the truth.

It is httpx's own transport on a network backend of ours (`_network`).
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator
from typing import Any

import httpcore
import httpx

from ._network import Backend, Stream
from ._transfer import Transfer

_DEFAULT_LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20)  # httpx's own


class UploadTransport(httpx.HTTPTransport):
    """An httpx transport that knows of uploads, for a client of your own.

    ::

        client = httpx.Client(transport=rxupload.UploadTransport(verify=context), auth=("user", "password"))
        upload(url, "beach.jpg", client=client)

    The default client uses it already. With it, disposing an upload closes the connection at once whatever it is doing;
    an answer of 300 or more that comes before the body is sent ends the sending and is the response;
    `Progress.sent` counts bytes that the server's system has acknowledged (Linux, macOS); and `httpx.WriteTimeout`
    means that no byte moved for that long. Requests that are no uploads go through it as through httpx's own.

    With `http2=True`, where the server agrees, uploads share a connection: `sent` counts what was handed over, an abort
    takes effect at the next piece, and an early answer is seen only when httpcore looks. Several uploads at the same
    time over one such connection can stall each other until `httpx.ReadTimeout`: httpcore's wait for flow control loses
    updates between threads (github.com/pydantic/httpx2/issues/1133). HTTP/1.1, the default, has none of this.

    The keywords are those of `httpx.HTTPTransport`. A client with `transport=` ignores the proxy environment variables:
    give `proxy` here.
    """

    def __init__(
        self,
        verify: ssl.SSLContext | str | bool = True,  # noqa: FBT001, FBT002 - as in httpx
        cert: Any = None,
        trust_env: bool = True,  # noqa: FBT001, FBT002
        http1: bool = True,  # noqa: FBT001, FBT002
        http2: bool = False,  # noqa: FBT001, FBT002
        limits: httpx.Limits = _DEFAULT_LIMITS,
        proxy: httpx.Proxy | httpx.URL | str | None = None,
        uds: str | None = None,
        local_address: str | None = None,
        retries: int = 0,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> None:
        super().__init__(
            verify=verify,
            cert=cert,
            trust_env=trust_env,
            http1=http1,
            http2=http2,
            limits=limits,
            proxy=proxy,
            uds=uds,
            local_address=local_address,
            retries=retries,
            socket_options=socket_options,
        )
        # httpcore's pools take it as an argument, which httpx's transport does not hand on.
        self._pool._network_backend = Backend(multiplexed=http2 and not http1)  # noqa: SLF001

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and return its response, whose body is still to be read."""
        if (transfer := Transfer.current()) is not None:
            transfer.body = None  # of the request before, that a redirect or an early answer broke off
        response = super().handle_request(request)
        stream = response.extensions.get("network_stream")
        if isinstance(stream, Stream) and isinstance(response.stream, httpx.SyncByteStream):
            response.stream = _ResponseBody(response.stream, stream)
        return response


class _ResponseBody(httpx.SyncByteStream):
    """A response's body, which lets go of the connection before that returns to the pool."""

    def __init__(self, body: httpx.SyncByteStream, stream: Stream) -> None:
        self._body = body
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._body
        except httpx.RemoteProtocolError as error:
            if not self._stream.has_ended:
                raise
            raise httpx.ReadError("The server closed the connection before the response was whole") from error

    def close(self) -> None:
        self._stream.finish_request()
        self._body.close()
