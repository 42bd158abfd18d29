"""A TLS alert says why a server closed; its text is in the error, whenever the alert comes."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import re
import ssl
import sys
import time
from typing import Any

import httpx
import pytest
import trustme
from support.scripted_server import PATIENCE, Server, authority

from rxupload import UploadTransport, upload
from rxupload.testing import Connection

RUNS = 20
DELAYS = (0.0, 0.001, 0.005, 0.02)  # seconds that the server waits in the handshake
PAST = {"not_before": dt.datetime(2020, 1, 1), "not_after": dt.datetime(2020, 2, 1)}  # noqa: DTZ001
ALERTS = {
    "no certificate": "alert (certificate required|handshake failure)",  # TLS 1.3, TLS 1.2
    "expired": "alert certificate expired",
    "unknown authority": "alert unknown ca",
}
BODIES = {
    "small": (b"x", {}),
    "large": (bytes(16 << 20), {}),
    "held back": (bytes(1 << 20), {"rate_limit": 1}),
}

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere a reset discards what came before it"
)


def client_context(certificate: str) -> ssl.SSLContext:
    """A client's settings, with a certificate of this kind."""
    context = ssl.create_default_context()
    authority().configure_trust(context)
    if certificate == "expired":
        authority().issue_cert("me@example.org", **PAST).configure_cert(context)
    elif certificate == "unknown authority":
        trustme.CA().issue_cert("me@example.org").configure_cert(context)
    return context


def server_context(version: ssl.TLSVersion) -> ssl.SSLContext:
    """A server's settings, which require a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    authority().configure_trust(context)
    authority().issue_cert("localhost").configure_cert(context)
    return context


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("certificate", ALERTS)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_the_alert_is_the_error(version, certificate, body):
    """In TLS 1.3 the alert may come before, during or after the body; in TLS 1.2 in the handshake."""
    ours, theirs = client_context(certificate), server_context(version)
    delays = itertools.cycle(DELAYS)

    def script(connection: Connection) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = theirs.wrap_bio(incoming, outgoing, server_side=True)
        incoming.write(connection.recv())
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        connection.send(outgoing.read())
        time.sleep(next(delays))
        with pytest.raises(ssl.SSLError, match=r"(?i)certificate"):
            while True:
                with contextlib.suppress(ssl.SSLWantReadError):
                    tls.do_handshake()
                incoming.write(connection.recv())
        connection.send(outgoing.read())

    data, options = BODIES[body]
    arguments: dict[str, Any] = options
    texts = []
    with Server(script) as server:
        for _ in range(RUNS):
            with httpx.Client(transport=UploadTransport(verify=ours), timeout=PATIENCE) as client:
                with pytest.raises((httpx.ConnectError, httpx.ReadError)) as caught:
                    upload(f"https://localhost:{server.port}/", data, client=client, **arguments).run()
                texts.append(str(caught.value))
        assert not server.errors
    assert not [text for text in texts if not re.search(ALERTS[certificate], text)]
