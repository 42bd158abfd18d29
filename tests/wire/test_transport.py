"""The transport over real sockets: abort, early answers, proxies, reuse, HTTP/2, and the default client."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import httpx
import httpx2
import pytest
from reactivex.disposable import SerialDisposable
from reactivex.scheduler import NewThreadScheduler
from reactivex.scheduler.eventloop import AsyncIOScheduler
from support.abort_phases import CASES, LARGE, abort, joinable, start
from support.held_clock import HeldClock
from support.recording_observer import check_grammar, observe
from support.scripted_proxies import http_proxy, socks_proxy, tls_http_proxy
from support.scripted_server import PATIENCE, Server, client_context, header, unanswered_port

import rxupload
from rxupload import File, Progress, UploadTransport, upload
from rxupload import _client as client_module
from rxupload._wire.connection import Connection as WireConnection
from rxupload.testing import Connection, RecordingObserver

MIB = 1 << 20
NOT_ON_WINDOWS = pytest.mark.skipif(
    sys.platform == "win32", reason="the system's buffers and resets differ there"
)

both = pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
new_and_reused = pytest.mark.parametrize("reused", [False, True], ids=["new", "reused"])


@pytest.fixture
def fresh_default_client(monkeypatch):
    """A default client for this test only."""
    monkeypatch.setattr(client_module, "_client", None)
    yield
    if client_module._client is not None:
        client_module._client.close()


class TestAbort:
    @NOT_ON_WINDOWS
    @pytest.mark.parametrize(
        ("phase", "tls", "reused"),
        CASES,
        ids=[f"{p.name}-{'https' if t else 'http'}-{'reused' if r else 'new'}" for p, t, r in CASES],
    )
    def test_every_phase_can_be_aborted(self, phase, tls, reused):
        """Disposing closes the connection, ends the worker, sends no notification, and leaves the client usable."""
        abort(phase, tls=tls, reused=reused)

    @NOT_ON_WINDOWS
    @both
    def test_it_takes_effect_while_the_observer_is_busy(self, client, tls):
        """In a stalled send the server sees the end at once, even while the observer blocks the worker."""
        held, go_on, ended = threading.Event(), threading.Event(), threading.Event()

        def script(connection: Connection) -> None:
            connection.read_head()
            connection.read(1)
            assert held.wait(PATIENCE)
            connection.wait_for_reset()
            ended.set()

        def hold(item: Any) -> None:
            if item.sent:
                held.set()
                assert go_on.wait(PATIENCE)

        with Server(script, tls=tls) as server:
            observed, subscription = observe(
                upload(server.url, LARGE, client=client, progress_interval=0), hold
            )
            assert held.wait(PATIENCE)
            subscription.dispose()
            assert ended.wait(PATIENCE)
            go_on.set()
        assert not observed.ended

    @NOT_ON_WINDOWS
    def test_a_closed_loop_aborts_a_stalled_send(self, client):
        """A loop that closes aborts the upload, even if no notification is due."""
        ended = threading.Event()

        def script(connection: Connection) -> None:
            connection.read_head()
            connection.wait_for_reset()
            ended.set()

        async def main(url: str) -> RecordingObserver:
            scheduler = AsyncIOScheduler(asyncio.get_running_loop())
            begun = asyncio.Event()
            observed, _ = observe(
                upload(url, LARGE, client=client), lambda _: begun.set(), scheduler=scheduler
            )
            await begun.wait()
            return observed

        with Server(script) as server:
            observed = asyncio.run(main(server.url))
            assert ended.wait(PATIENCE)
        assert not observed.ended

    def test_it_ends_the_wait_between_retries(self, client):
        """An abort ends the wait between the attempts of `retries=`."""
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
            with httpx.Client(transport=UploadTransport(retries=100)) as retrying:
                running = start(upload(url, b"x", client=retrying))
                threading.Event().wait(0.05)  # almost certainly between two attempts
                running.subscription.dispose()
                running.join()
        assert not running.observed.ended

    def test_an_unanswered_connect_ends_with_a_timeout(self, client):
        """A connect without an answer is a ConnectTimeout, or ends with the limit of the whole upload."""
        client.timeout = httpx.Timeout(None, connect=0.1)
        with unanswered_port() as port:
            url = f"http://127.0.0.1:{port}/"
            with pytest.raises(httpx.ConnectTimeout, match=rf"No connection to 127.0.0.1:{port} for 0.1 s"):
                upload(url, b"x", client=client).run()
            client.timeout = httpx.Timeout(None)
            with pytest.raises(rxupload.UploadTimeout):
                upload(url, b"x", client=client, timeout=0.1).run()

    @NOT_ON_WINDOWS
    def test_the_limit_of_the_whole_upload_ends_a_stalled_send(self, client, monkeypatch):
        """timeout= ends an upload that the server does not read, and gives the bytes sent so far."""

        def stall(connection: Connection) -> None:
            connection.read_head()
            connection.read(1)
            clock.release()
            connection.wait_for_reset()

        clock = HeldClock(monkeypatch)
        with (
            Server(stall) as server,
            pytest.raises(rxupload.UploadTimeout, match=r"within 0.2 s; \d+ of \d+ bytes"),
        ):
            upload(server.url, LARGE, client=client, timeout=0.2).run()


def early(connection: Connection, after: str) -> None:
    """Answer at 1 MiB of the body, and then treat the rest as `after` says."""
    connection.read_head()
    connection.read(MIB)
    connection.respond(413, b"too large")
    treat_the_rest(connection, after)


def treat_the_rest(connection: Connection, after: str) -> None:
    if after == "reads":
        connection.read(1 << 40)
    elif after == "stops":
        connection.wait_for_reset()
    elif after == "resets":
        connection.reset()
    else:
        assert after == "closes"


@NOT_ON_WINDOWS
class TestEarlyAnswer:
    @both
    @new_and_reused
    @pytest.mark.parametrize("chunked", [False, True], ids=["sized", "chunked"])
    @pytest.mark.parametrize("after", ["reads", "stops", "closes", "resets"])
    def test_it_is_delivered(self, client, tls, reused, chunked, after):
        """A 413 that comes during the body is the response, and at most 8 MiB are sent in vain."""
        answered: list[Connection] = []

        def script(connection: Connection) -> None:
            if reused:
                connection.serve()
            answered.append(connection)
            early(connection, after)

        taken = 0

        def pieces() -> Any:
            nonlocal taken
            for _ in range(256):
                taken += MIB
                yield bytes(MIB)

        with Server(script, tls=tls) as server:
            if reused:
                upload(server.url, b"first", client=client).run()
            source = File(pieces, size=None if chunked else 256 * MIB)
            observed, _ = observe(upload(server.url, source, client=client))
            response = observed.wait().response
            assert server.connections == 1
        assert response.status_code == 413
        assert response.text == "too large"
        check_grammar(observed.items, completed=True)
        assert observed.progress[-1].sent < 9 * MIB
        assert taken <= 9 * MIB
        assert answered[0].received <= 9 * MIB

    @both
    def test_it_is_noticed_while_the_send_is_blocked(self, client, tls):
        """The answer is noticed at once, even while the server reads nothing and the send is blocked."""
        blocked = threading.Event()

        def script(connection: Connection) -> None:
            connection.read_head()
            assert blocked.wait(PATIENCE)
            connection.respond(507, b"full")
            connection.wait_for_reset()

        with Server(script, tls=tls) as server:
            running = start(upload(server.url, LARGE, client=client, progress_interval=0))
            count = -1
            while count != len(running.observed.items):
                count = len(running.observed.items)
                threading.Event().wait(0.1)  # until nothing moves any more
            blocked.set()
            assert running.observed.wait().response.text == "full"

    @both
    def test_an_informational_answer_is_not_final(self, client, tls):
        """1xx answers do not stop the upload, however many come."""
        bodies: list[bytes] = []

        def script(connection: Connection) -> None:
            connection.read_head()
            connection.send(
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 1"
            )
            connection.send(b"02 Processing\r\n\r\n")
            bodies.append(connection.read_body())
            connection.respond(201)

        with Server(script, tls=tls) as server:
            observed, _ = observe(upload(server.url, LARGE, client=client))
            assert observed.wait().response.status_code == 201
        assert len(bodies[0]) > len(LARGE)
        assert observed.progress[-1].percent == 100

    @both
    def test_after_a_success_the_body_is_finished(self, client, tls):
        """After an early 2xx the whole body is sent, and the connection is reused."""
        bodies: list[bytes] = []

        def script(connection: Connection) -> None:
            connection.read_head()
            connection.respond(202, b"queued")
            bodies.append(connection.read_body())
            connection.serve()

        with Server(script, tls=tls) as server:
            observed, _ = observe(upload(server.url, LARGE, client=client))
            assert observed.wait().response.text == "queued"
            assert upload(server.url, b"next", client=client).run().status_code == 200
            assert server.connections == 1
        assert len(bodies[0]) > len(LARGE)
        assert observed.progress[-1].percent == 100

    @both
    @pytest.mark.parametrize("after", ["closes", "resets", "stops"])
    def test_a_success_is_delivered_even_if_the_body_cannot_be_finished(self, client, tls, after):
        """An early 2xx is the response, even if the server then takes no more of the body."""
        client.timeout = httpx.Timeout(None, write=0.2)
        has_answered = threading.Event()

        def script(connection: Connection) -> None:
            connection.read_head()
            connection.respond(202, b"enough")
            has_answered.set()
            treat_the_rest(connection, after)

        def pieces() -> Any:
            yield b"the beginning"
            assert has_answered.wait(PATIENCE)  # so that a slow server is no stall
            yield LARGE

        with Server(script, tls=tls) as server:
            observed, _ = observe(upload(server.url, pieces, client=client))
            response = observed.wait().response
        assert response.status_code == 202
        assert response.text == "enough"

    def test_its_connection_is_not_reused(self, client):
        """A connection with a request that was cut short is closed; the next upload gets another."""

        def script(connection: Connection) -> None:
            if server.connections == 1:
                early(connection, "reads")
            else:
                connection.serve()

        with Server(script) as server:
            assert upload(server.url, LARGE, client=client).run().status_code == 413
            assert upload(server.url, b"next", client=client).run().status_code == 200
            assert server.connections == 2

    @both
    def test_redirect_before_the_body(self, client, tls):
        """An early 307 is followed with the whole body from its start."""
        bodies: list[bytes] = []

        def script(connection: Connection) -> None:
            head = connection.read_head()
            if b"POST / " in head:
                connection.read(MIB)
                connection.respond(307, b"", "Location: /there")
                connection.wait_for_end()
            else:
                bodies.append(connection.read_body())
                connection.respond()

        with Server(script, tls=tls) as server:
            observed, _ = observe(upload(server.url, LARGE, client=client, follow_redirects=True))
            assert observed.wait().response.status_code == 200
        assert len(bodies[0]) == observed.progress[-1].sent == observed.progress[-1].total
        assert observed.progress[-1].attempt == 2
        check_grammar(observed.items, completed=True)


class TestReuse:
    @both
    def test_uploads_in_sequence_share_a_connection(self, client, tls):
        """Uploads one after the other share a connection."""
        with Server(lambda connection: [connection.serve() for _ in range(3)], tls=tls) as server:
            for _ in range(3):
                assert upload(server.url, LARGE[:MIB], client=client).run().status_code == 200
            assert server.connections == 1

    @both
    def test_a_connection_closed_while_idle_is_replaced(self, client, tls):
        """A connection that the server closed while idle fails no upload: another one is made."""
        go_on = threading.Event()
        closed = threading.Event()

        def script(connection: Connection) -> None:
            connection.serve()
            if server.connections == 1:
                assert go_on.wait(PATIENCE)
                connection.sock.close()
                closed.set()

        with Server(script, tls=tls) as server:
            up = upload(server.url, lambda: iter([b"data"]), client=client)
            assert up.run().status_code == 200
            go_on.set()
            assert closed.wait(PATIENCE)
            assert up.run().status_code == 200
            assert server.connections == 2

    def test_a_close_after_the_pools_look_is_noticed(self, client, monkeypatch):
        """If the server closes after the pool gives the connection out, the exchange notices before its first byte."""
        closing, closed = threading.Event(), threading.Event()

        def script(connection: Connection) -> None:
            connection.serve()
            if server.connections == 1:
                assert closing.wait(PATIENCE)
                connection.sock.close()
                closed.set()

        look = WireConnection.is_readable

        def let_it_close_and_look(connection: WireConnection) -> bool:
            closing.set()
            assert closed.wait(PATIENCE)
            return look(connection)

        with Server(script) as server:
            assert upload(server.url, b"first", client=client).run().status_code == 200
            monkeypatch.setattr(WireConnection, "is_readable", let_it_close_and_look)
            observed, _ = observe(upload(server.url, iter([b"once"]), client=client))
            assert observed.wait().response.status_code == 200
            assert closed.is_set()
            assert server.connections == 2
            assert [item.attempt for item in observed.progress] == [1, 1]


class TestExpectContinue:
    @pytest.fixture(autouse=True)
    def patience(self, monkeypatch):
        """A slow server is no silent one."""
        monkeypatch.setattr("rxupload._wire.exchange.CONTINUE_SECONDS", PATIENCE)

    @both
    def test_the_body_waits_for_the_100(self, client, tls):
        """The body waits for the server's 100."""
        before: list[bytes] = []

        def script(connection: Connection) -> None:
            head = connection.read_head()
            before.append(connection._buffered)
            assert header(head, b"expect") == b"100-continue"
            connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            connection.read_body()
            connection.respond(201)

        with Server(script, tls=tls) as server:
            observed, _ = observe(upload(server.url, LARGE, client=client, expect_continue=True))
            assert observed.wait().response.status_code == 201
        assert before == [b""]
        assert observed.progress[-1].percent == 100

    @both
    def test_a_refusal_saves_the_body(self, client, tls):
        """A status of 300 or more is the response, and no byte of the body is sent."""
        rest: SimpleQueue[int] = SimpleQueue()

        def script(connection: Connection) -> None:
            connection.read_head()
            connection.respond(401)
            rest.put(connection.read(1))

        with Server(script, tls=tls) as server:
            observed, _ = observe(upload(server.url, LARGE, client=client, expect_continue=True))
            assert observed.wait().response.status_code == 401
            assert rest.get(timeout=PATIENCE) == 0
        assert observed.progress == [Progress(0, observed.progress[0].total)]

    def test_after_a_417_the_request_is_repeated(self, client):
        """After a 417 the request is repeated without the expectation."""
        heads: list[bytes] = []

        def script(connection: Connection) -> None:
            heads.append(connection.read_head())
            if header(heads[-1], b"expect"):
                connection.respond(417)
            else:
                connection.read_body()
                connection.respond(200)

        with Server(script) as server:
            observed, _ = observe(upload(server.url, LARGE, client=client, expect_continue=True))
            assert observed.wait().response.status_code == 200
        assert [header(head, b"expect") for head in heads] == [b"100-continue", None]
        check_grammar(observed.items, completed=True)

    def test_a_silent_server_gets_the_body_after_a_second(self, client, monkeypatch):
        """A server that does not answer the expectation gets the body after a second at most."""
        monkeypatch.setattr("rxupload._wire.exchange.CONTINUE_SECONDS", 0.1)
        with Server(200) as server:
            response = upload(server.url, b"data", client=client, expect_continue=True).run()
        assert response.status_code == 200

    def test_an_abort_ends_the_wait_for_the_100(self, client):
        """An abort ends the wait for the 100, and no body is sent."""
        asked = threading.Event()
        rest: SimpleQueue[int] = SimpleQueue()

        def script(connection: Connection) -> None:
            connection.read_head()
            asked.set()
            rest.put(connection.read(1))

        with Server(script) as server:
            running = start(upload(server.url, LARGE, client=client, expect_continue=True))
            assert asked.wait(PATIENCE)
            running.subscription.dispose()
            running.join()
            assert rest.get(timeout=PATIENCE) == 0

    def test_a_plain_client_does_not_wait(self):
        """A plain client sends the header and does not wait."""
        with Server(200) as server, httpx.Client(trust_env=False) as plain:
            assert upload(server.url, b"data", client=plain, expect_continue=True).run().status_code == 200


class TestProxies:
    @both
    def test_uploads_go_through_an_http_proxy(self, tls):
        """Uploads go through an HTTP proxy: forwarded for http, tunnelled for https."""
        with (
            Server(http_proxy) as proxy,
            Server(200, tls=tls) as server,
            httpx.Client(transport=UploadTransport(proxy=proxy.url, verify=client_context())) as client,
        ):
            observed, _ = observe(upload(server.url, LARGE, client=client))
            assert observed.wait().response.status_code == 200
            assert proxy.connections == server.connections == 1
            assert observed.progress[-1].percent == 100

    @both
    def test_uploads_go_through_a_socks_proxy(self, tls):
        """Uploads go through a SOCKS 5 proxy."""
        with (
            Server(socks_proxy) as proxy,
            Server(200, tls=tls) as server,
            httpx.Client(
                transport=UploadTransport(proxy=f"socks5://127.0.0.1:{proxy.port}", verify=client_context())
            ) as client,
        ):
            observed, _ = observe(upload(server.url, LARGE, client=client))
            assert observed.wait().response.status_code == 200
            assert proxy.connections == 1

    def test_https_goes_through_a_tls_proxy(self):
        """https goes through a proxy that itself uses TLS."""
        with (
            Server(tls_http_proxy, tls=True) as proxy,
            Server(200, tls=True) as server,
            httpx.Client(
                transport=UploadTransport(
                    proxy=httpx.Proxy(proxy.url, ssl_context=client_context()), verify=client_context()
                )
            ) as client,
        ):
            observed, _ = observe(upload(server.url, LARGE[: 4 * MIB], client=client))
            assert observed.wait().response.status_code == 200
            assert observed.progress[-1].percent == 100

    @NOT_ON_WINDOWS
    @pytest.mark.parametrize("kind", ["forward", "tunnel", "socks", "tls in tls"])
    def test_an_abort_through_a_proxy_ends_a_stalled_send(self, kind):
        """An abort through a proxy ends a stalled send, and the next upload succeeds."""
        script = {"socks": socks_proxy, "tls in tls": tls_http_proxy}.get(kind, http_proxy)
        stalled = threading.Event()
        ended = threading.Event()

        def serve(connection: Connection) -> None:
            if server.connections > 1:
                connection.serve()
                return
            connection.read_head()
            stalled.set()
            assert ended.wait(PATIENCE)

        with (
            Server(script, tls=kind == "tls in tls") as proxy,
            Server(serve, tls=kind != "forward") as server,
        ):
            address = proxy.url.replace("http:", "socks5:") if kind == "socks" else proxy.url
            chosen = httpx.Proxy(address, ssl_context=client_context() if kind == "tls in tls" else None)
            transport = UploadTransport(proxy=chosen, verify=client_context())
            with httpx.Client(transport=transport, timeout=None) as client:
                running = start(upload(server.url, LARGE, client=client))
                assert stalled.wait(PATIENCE)
                running.subscription.dispose()
                running.join()
                ended.set()
                assert not running.observed.ended
                assert upload(server.url, b"next", client=client).run().status_code == 200

    @pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
    def test_the_default_client_reads_the_environment(self, variable, monkeypatch, fresh_default_client):
        """The default client honours the proxy variables."""
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.lower(), raising=False)
        with Server(http_proxy) as proxy, Server(200) as server:
            monkeypatch.setenv(variable, proxy.url)
            assert upload(server.url, b"data").run().status_code == 200
            assert proxy.connections == 1

    def test_https_proxy_is_for_https_only(self, monkeypatch, fresh_default_client):
        """HTTPS_PROXY is for https only."""
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9/")
        monkeypatch.delenv("HTTP_PROXY", raising=False)
        monkeypatch.delenv("ALL_PROXY", raising=False)
        with Server(200) as server:
            assert upload(server.url, b"data").run().status_code == 200
            with pytest.raises(httpx.ConnectError):
                upload(server.url.replace("http:", "https:"), b"data").run()

    def test_no_proxy_is_an_exception(self, monkeypatch, fresh_default_client):
        """NO_PROXY is an exception from the other variables."""
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9/")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        with Server(200) as server:
            assert upload(server.url, b"data").run().status_code == 200


class TestDefaultClient:
    def test_threads_share_it(self):
        """Threads that first use it at the same time get the same client."""
        barrier = threading.Barrier(8)
        seen: list[client_module.DefaultClient] = []

        def get() -> None:
            barrier.wait()
            seen.append(client_module.default_client())

        threads = [threading.Thread(target=get) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(map(id, seen))) == 1
        assert isinstance(seen[0], client_module.DefaultClient)

    def test_it_stores_no_cookies(self, fresh_default_client):
        """A cookie that one server sets is not sent by the next upload."""
        heads: list[bytes] = []

        def script(connection: Connection) -> None:
            for _ in range(2):
                heads.append(connection.read_head())
                connection.read_body()
                connection.respond(200, b"", "Set-Cookie: a=b")

        with Server(script) as server:
            upload(server.url, b"data").run()
            upload(server.url, b"data").run()
        assert header(heads[1], b"cookie") is None

    def test_it_follows_no_redirects(self, fresh_default_client):
        """Like httpx, it follows no redirects by default."""

        def script(connection: Connection) -> None:
            connection.read_request()
            connection.respond(302, b"", "Location: /there")

        with Server(script) as server:
            assert upload(server.url, b"data").run().status_code == 302

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
    def test_a_forked_child_makes_its_own(self):
        """A forked child does not use its parent's connections."""
        script = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from support.scripted_server import Server
from rxupload.testing import Connection
from rxupload import upload
with Server(lambda connection: [connection.serve() for _ in range(3)]) as server:
    up = upload(server.url, b"data")
    assert up.run().status_code == 200
    pid = os.fork()
    if pid == 0:
        os._exit(0 if up.run().status_code == 200 else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert up.run().status_code == 200
    print(server.connections)
"""
        done = subprocess.run(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout == "2\n", done.stderr

    def test_it_is_closed_at_exit(self):
        """A script that has uploaded ends without a warning about an open socket."""
        script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from support.scripted_server import Server
from rxupload.testing import Connection
from rxupload import upload
with Server(200) as server:
    upload(server.url, b"data").run()
"""
        done = subprocess.run(
            [sys.executable, "-W", "error", "-X", "dev", "-c", script],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, "")


class TestOtherClients:
    @pytest.mark.parametrize("module", [httpx, httpx2])
    @both
    def test_plain_clients_upload(self, module, tls):
        """A plain httpx.Client and an httpx2.Client upload; progress counts the bytes handed over."""
        with (
            Server(200, tls=tls) as server,
            module.Client(verify=client_context(), trust_env=False) as plain,
        ):
            observed, _ = observe(upload(server.url, LARGE, client=plain, progress_interval=0))
            observed.wait()
            assert observed.items[-1].status_code == 200
        assert observed.progress[-1].percent == 100
        assert [item.sent for item in observed.progress] == sorted({item.sent for item in observed.progress})

    @pytest.mark.parametrize("module", [httpx, httpx2])
    def test_an_abort_takes_effect_at_the_next_piece(self, module):
        """Disposing an upload through a plain client takes effect at the next piece of the body."""
        with (
            Server(lambda connection: connection.read(1 << 40)) as server,
            module.Client(trust_env=False) as plain,
        ):
            piece = threading.Event()

            def endless() -> Any:
                while True:
                    piece.set()
                    yield bytes(MIB)

            running = start(upload(server.url, endless, client=plain))
            assert piece.wait(PATIENCE)
            running.subscription.dispose()
            running.join()
            assert not running.observed.ended

    def test_an_abort_takes_effect_at_the_next_piece_of_the_response(self):
        """Disposing an upload with an endless response ends it at the next piece of the response."""
        going = threading.Event()

        def script(connection: Connection) -> None:
            connection.read_request()
            connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                connection.send(bytes(1000))
                going.set()

        with Server(script) as server, httpx.Client(trust_env=False) as plain:
            running = start(upload(server.url, b"data", client=plain))
            assert going.wait(PATIENCE)
            running.subscription.dispose()
            running.join()
            server.errors.clear()

    def test_other_requests_go_through_the_transport(self, client):
        """Other requests go through an UploadTransport as through httpx's own."""

        def script(connection: Connection) -> None:
            connection.serve(200, b"one")
            connection.read_head()
            connection.respond(200, b"two")

        with Server(script) as server:
            assert client.post(server.url, content=b"x" * MIB).text == "one"
            assert client.get(server.url).text == "two"
            assert server.connections == 1

    def test_an_observers_own_request_is_separate(self, client):
        """A request that an observer sends through the same client is not part of the upload, even after a dispose."""
        answers: list[str] = []
        subscription, is_there = SerialDisposable(), threading.Event()

        def script(connection: Connection) -> None:
            while head := connection.read_head():
                if b"GET" in head:
                    connection.respond(200, b"got")
                else:
                    connection.read_body()
                    connection.respond(200)

        def on_next(item: Any) -> None:
            assert is_there.wait(PATIENCE)
            answers.append(client.get(server.url).text)
            if item.sent:
                subscription.dispose()
                answers.append(client.get(server.url).text)

        with Server(script) as server:
            observed = RecordingObserver(on_next)
            up = upload(server.url, b"data", client=client, progress_interval=0)
            threads: list[threading.Thread] = []
            subscription.disposable = up.subscribe(observed, scheduler=NewThreadScheduler(joinable(threads)))
            is_there.set()
            threads[0].join(PATIENCE)
        assert answers == ["got"] * 3
        assert not observed.faults
        assert not observed.ended

    @pytest.mark.skipif(sys.platform == "win32", reason="no Unix sockets in Python there")
    def test_uploads_go_over_a_unix_socket(self):
        """Uploads go over a Unix socket; progress counts the bytes handed over."""
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
            path = f"{folder}/s"
            listener.bind(path)
            listener.listen()

            def serve() -> None:
                sock, _ = listener.accept()
                with sock:
                    Connection(sock).serve()

            thread = threading.Thread(target=serve)
            thread.start()
            with httpx.Client(transport=UploadTransport(uds=path)) as client:
                observed, _ = observe(upload("http://socket/", LARGE, client=client))
                assert observed.wait().response.status_code == 200
            thread.join()
        assert observed.progress[-1].percent == 100

    def test_the_keywords_are_those_of_httpx(self):
        """UploadTransport takes the keywords of httpx.HTTPTransport, in the same order."""
        import inspect

        ours = list(inspect.signature(UploadTransport).parameters)
        assert ours == list(inspect.signature(httpx.HTTPTransport).parameters)

    def test_local_address_and_socket_options_are_used(self):
        """The connection uses the given local address and socket options."""
        peers: list[Any] = []

        def script(connection: Connection) -> None:
            peers.append(connection.sock.getpeername())
            connection.serve()

        options = [(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)]
        with (
            Server(script) as server,
            httpx.Client(
                transport=UploadTransport(local_address="127.0.0.1", socket_options=options)
            ) as client,
        ):
            assert upload(server.url, LARGE, client=client).run().status_code == 200
        assert peers[0][0] == "127.0.0.1"

    def test_an_untrusted_certificate_is_a_connect_error(self):
        """An untrusted certificate is a ConnectError that says so, with nothing sent."""
        with (
            Server(200, tls=True) as server,
            httpx.Client(transport=UploadTransport()) as client,
        ):
            with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
                upload(server.url, b"data", client=client).run()
            server.errors.clear()
