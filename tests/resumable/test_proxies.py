"""Proxies and bad lines before the receiver, and before servers that name absolute addresses."""

from __future__ import annotations

import logging
import threading

import pytest
from reactivex import operators as ops
from support.command_line import PROCESS_PATIENCE
from support.fault_proxy import (
    at_most,
    buffering,
    cut_after,
    pass_on,
    proxied,
    refusing,
    renaming,
    silent_after,
)
from support.resumable_uploads import outcome_of
from support.resumable_uploads import run as response_of
from support.scripted_server import client_context
from support.tus import finished, hidden
from support.tus_peers import PEERS, stored

import rxupload
from rxupload import RedirectRefused, UploadTimeout
from rxupload.operators import raise_for_status, retry_backoff
from rxupload.receiver import running
from rxupload.resumable import Tus, upload_resumable

MIB = 1 << 20


@pytest.fixture
def inbox(tmp_path):
    return tmp_path / "received"


@pytest.fixture
def receiver(inbox):
    """The address of a receiver."""
    with running(inbox) as url:
        yield url


@pytest.fixture
def proxy(receiver):
    """A proxy before the receiver, and the endpoint behind it."""
    with proxied(receiver) as (proxy, url, _):
        yield proxy, f"{url}files"


def run(up):
    """Run it with the patience of other processes, and return its response."""
    return response_of(up, PROCESS_PATIENCE)


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("parallel", [1, 3])
def test_a_line_that_breaks_again_and_again(proxy, inbox, file, store, content, resets, parallel):
    """Truncated or reset in each request. `retry_backoff` brings it to its end, and nothing is sent from the start."""
    proxy, url = proxy
    proxy.then("PATCH", *[cut_after(200_000, resets=resets)] * 12)
    up = upload_resumable(url, file, store=store, protocol=Tus(parallel=parallel))
    response = rxupload.run(
        up.pipe(retry_backoff(attempts=20, wait_initial=0, wait_jitter=0), raise_for_status())
    )
    assert finished(inbox) == {"video.mp4": content}
    assert proxy.methods.count("POST") == (1 if parallel == 1 else 4)
    outcome = outcome_of(response)
    rest = len(content) - outcome.resumed_at
    # Where one part fails, the others are disposed. What the proxy has of them may come after the next HEAD.
    assert outcome.sent_now == rest if parallel == 1 else outcome.sent_now >= rest


def test_silence_ends_with_the_time_limit(proxy, inbox, file, store, content):
    """Nothing more goes through the line. What had arrived by then stays, and the next subscription goes on there."""
    proxy, url = proxy
    is_silent = threading.Event()
    proxy.then("PATCH", silent_after(MIB, is_silent))
    up = upload_resumable(url, file, timeout=2, store=store)
    errors = []
    response = rxupload.run(
        up.pipe(ops.do_action(on_error=errors.append), ops.retry(30))
    )  # on a slow machine
    assert is_silent.is_set()
    assert {type(each) for each in errors} == {UploadTimeout}
    assert outcome_of(response).resumed_at > 0
    assert outcome_of(response).sent_now == len(content) - outcome_of(response).resumed_at
    assert finished(inbox) == {"video.mp4": content}


@pytest.mark.parametrize("status", [405, 501])
def test_a_proxy_that_knows_no_patch(proxy, inbox, file, store, content, status):
    """The bytes go with POST and X-HTTP-Method-Override, also after a cut connection."""
    proxy, url = proxy
    proxy.always = refusing("PATCH", status)
    proxy.then("POST", pass_on, cut_after(MIB))
    up = upload_resumable(url, file, store=store)
    response = rxupload.run(up.pipe(retry_backoff(wait_initial=0, wait_jitter=0)))
    assert response.status_code == 204
    assert outcome_of(response).resumed_at == MIB
    assert finished(inbox) == {"video.mp4": content}
    overridden = [each for each in proxy.asked if each.header("X-HTTP-Method-Override") == "PATCH"]
    assert [each.header("Upload-Offset") for each in overridden] == ["0", str(MIB)]


def test_a_proxy_that_refuses_long_bodies(proxy, inbox, file, store, content):
    """413 above so many bytes, before the body is read: the parts are halved until they go through."""
    proxy, url = proxy
    proxy.always = at_most(MIB)
    assert run(upload_resumable(url, file, store=store)).status_code == 204
    assert finished(inbox) == {"video.mp4": content}
    sizes = [int(each.header("Content-Length")) for each in proxy.asked if each.method == "PATCH"]
    half = (len(content) // 2) // 2
    assert sizes[:3] == [len(content), len(content) // 2, half]
    assert sum(sizes[2:]) == len(content)


def test_a_proxy_that_buffers(proxy, inbox, file, store, content, caplog):
    """It passes nothing on when the client breaks off: the offset stays 0, and the log says why that may be."""
    proxy, url = proxy
    arrived = threading.Event()

    def buffers_and_cuts(connection, _proxy):
        connection.read(2 * MIB)
        arrived.set()

    proxy.always = buffering
    proxy.then("PATCH", buffers_and_cuts)
    up = upload_resumable(url, file, store=store, progress_interval=0)
    with caplog.at_level(logging.WARNING, "rxupload"):
        response = rxupload.run(up.pipe(retry_backoff(wait_initial=0, wait_jitter=0)))
    assert arrived.is_set()
    assert outcome_of(response).resumed_at == 0
    assert finished(inbox) == {"video.mp4": content}
    assert "its offset is still 0. A proxy before it may buffer" in caplog.text


@pytest.mark.parametrize("scheme", [b"http", b"https"])
def test_a_proxy_that_rewrites_the_location(receiver, inbox, file, store, content, scheme):
    """To http, behind TLS: it is refused before a byte of the file goes. To https it is followed."""
    with (
        proxied(receiver, tls=True) as (proxy, url, server),
        rxupload.Client(verify=client_context()) as client,
    ):
        address = f"{scheme.decode()}://{server.host}:{server.port}/files/"
        proxy.always = renaming(b"/files/", address.encode())
        up = upload_resumable(f"{url}files", file, store=store, client=client)
        if scheme == b"https":
            assert run(up).status_code == 204
            assert finished(inbox) == {"video.mp4": content}
        else:
            with pytest.raises(RedirectRefused, match="X-Forwarded-Proto"):
                run(up)
            assert proxy.methods == ["POST"]
            assert finished(inbox) == {}
            assert hidden(inbox, ".upload") == [] or not any(
                each.stat().st_size for each in hidden(inbox, ".upload")
            )


def test_a_server_behind_a_proxy_that_ends_tls(tmp_path, file, store, content):
    """It names an http address, which is refused. Once the proxy says X-Forwarded-Proto, it names an https one."""
    peer, folder = PEERS["tus-node-server"], tmp_path / "uploads"
    folder.mkdir()
    with peer.start(folder) as behind, rxupload.Client(verify=client_context()) as client:
        with proxied(behind, tls=True) as (proxy, url, _):
            with pytest.raises(RedirectRefused, match="X-Forwarded-Proto"):
                run(upload_resumable(f"{url}files", file, store=store, client=client))
            assert proxy.methods == ["POST"]
        with proxied(behind, "X-Forwarded-Proto: https", tls=True) as (proxy, url, _):
            up = upload_resumable(f"{url}files", file, store=store, client=client)
            assert run(up).status_code == peer.last
            assert stored(folder, proxy.created[0], "video.mp4") == content
