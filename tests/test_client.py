"""`rxupload.Client`: httpx's keywords, the environment's proxies, and its lifetime; and the default client."""

from __future__ import annotations

import inspect
import ipaddress
import ssl
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import httpx
import pytest
from support.abort_phases import LARGE
from support.recording_observer import observe
from support.scripted_proxies import http_proxy, socks_proxy
from support.scripted_server import PATIENCE, Server, authority, client_context, header

import rxupload
from rxupload import Client, UploadTransport, upload
from rxupload import _client as client_module
from rxupload._client import DefaultClient
from rxupload.testing import Connection

VARIABLES = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUEST_METHOD"]
CERT_IS_DEPRECATED = pytest.mark.filterwarnings("ignore:`cert=:DeprecationWarning")  # by httpx
NOBODY = "http://127.0.0.1:9/"  # a proxy that does not answer


@pytest.fixture(autouse=True)
def environ(monkeypatch) -> Iterator[Any]:
    """An environment without proxies, and a default client that is made in it."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(client_module, "_client", None)
    yield monkeypatch
    if client_module._client is not None:
        client_module._client.close()


@pytest.fixture(params=[Client, DefaultClient])
def made_in_environment(request) -> Any:
    """Makes either client in the current environment."""
    made: list[Any] = []

    def make() -> Any:
        made.append(request.param())
        return made[-1]

    yield make
    for each in made:
        each.close()


def requested(server_url: str, client: Any, **options: Any) -> int:
    """The status of an upload."""
    observed, _ = observe(upload(server_url, b"data", client=client, **options))
    return observed.wait().response.status_code


# Keywords


def test_its_keywords_are_those_of_httpx():
    """Its keywords are those of httpx.Client, with the same defaults except for the time limits."""
    ours = inspect.signature(Client).parameters
    theirs = inspect.signature(httpx.Client).parameters
    assert list(ours) == list(theirs)
    for name, parameter in theirs.items():
        assert ours[name].kind is parameter.kind
        if name != "timeout":
            assert ours[name].default == parameter.default, name


def test_its_time_limits_are_those_of_the_default_client():
    """The default time limits suit uploads, and `timeout` overrides them."""
    default = DefaultClient()
    with Client() as client, Client(timeout=5) as other, Client(timeout=None) as endless:
        assert (
            client.timeout.as_dict() == default.build_request("POST", "http://a.test/").extensions["timeout"]
        )
        assert client.timeout == httpx.Timeout(connect=30.0, write=60.0, read=600.0, pool=None)
        assert other.timeout == httpx.Timeout(5)
        assert endless.timeout == httpx.Timeout(None)
    default.close()


def test_transport_is_a_type_error():
    """`transport=` is a TypeError that says what to do instead."""
    with pytest.raises(TypeError, match=r"^transport: .* httpx.Client\(transport=...\)"):
        Client(transport=UploadTransport())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"proxy": "ftp://127.0.0.1/"}, ValueError),
        pytest.param({"cert": "no such file"}, OSError, marks=CERT_IS_DEPRECATED),
        ({"no_such": 1}, TypeError),
        ({"mounts": {"upload.test": None}}, ValueError),
        ({"auth": 5}, TypeError),
    ],
)
def test_an_invalid_value_raises_at_once(options, error):
    """As in httpx, an invalid value raises before the first request."""
    with pytest.raises(error):
        Client(**options)


def test_client_settings_apply_to_each_upload():
    """auth, params, headers, cookies, base_url, hooks and the text encoding work as in httpx."""
    seen: list[str] = []
    heads: list[bytes] = []

    def script(connection: Connection) -> None:
        while head := connection.read_head():
            heads.append(head)
            connection.read_body()
            connection.respond(200, b"\xe4", "Set-Cookie: new=2")

    hooks = {
        "request": [lambda request: seen.append(request.method)],
        "response": [lambda response: seen.append(str(response.status_code))],
    }
    with (
        Server(script) as server,
        Client(
            auth=("user", "password"),
            params={"key": "1"},
            headers={"X-Mine": "1"},
            cookies={"old": "1"},
            base_url=f"{server.url}api/",
            event_hooks=hooks,
            default_encoding="latin-1",
        ) as client,
    ):
        response = upload("photos", b"data", client=client).run()
        requested("photos", client)
    assert response.text == "\u00e4"
    assert seen == ["POST", "200"] * 2
    assert heads[0].startswith(b"POST /api/photos?key=1 ")
    assert header(heads[0], b"authorization") == b"Basic dXNlcjpwYXNzd29yZA=="
    assert header(heads[0], b"x-mine") == b"1"
    assert header(heads[0], b"cookie") == b"old=1"
    assert set(header(heads[1], b"cookie").split(b"; ")) == {b"old=1", b"new=2"}


def test_digest_auth_sends_the_body_twice():
    """A digest challenge sends the body twice, as two attempts."""

    def script(connection: Connection) -> None:
        while head := connection.read_head():
            connection.read_body()
            is_known = header(head, b"authorization") is not None
            challenge = 'WWW-Authenticate: Digest realm="r", nonce="n", qop="auth"'
            connection.respond(200 if is_known else 401, b"", challenge)

    with Server(script) as server, Client(auth=httpx.DigestAuth("user", "password")) as client:
        observed, _ = observe(upload(server.url, b"data", client=client))
        response = observed.wait().response
    assert [each.status_code for each in (*response.history, response)] == [401, 200]
    assert [item.attempt for item in observed.progress if item.sent == item.total] == [1, 2]


def test_limits_bound_the_connections():
    """With max_connections=1 there is one connection for all uploads."""
    with (
        Server(lambda connection: [connection.serve() for _ in range(4)]) as server,
        Client(limits=httpx.Limits(max_connections=1)) as client,
    ):
        runs = [observe(upload(server.url, b"data", client=client))[0] for _ in range(4)]
        assert [each.wait().response.status_code for each in runs] == [200] * 4
        assert server.connections == 1


# TLS


def test_verify_may_be_a_context_or_false():
    """A context and False are accepted; by default an untrusted certificate is refused."""
    with Server(200, tls=True) as server:
        for verify in (client_context(), False):
            with Client(verify=verify) as client:
                assert requested(server.url, client) == 200
        with Client() as client, pytest.raises(httpx.ConnectError, match="certificate"):
            upload(server.url, b"data", client=client).run()
        server.errors.clear()


@CERT_IS_DEPRECATED
def test_cert_is_sent(tmp_path):
    """A client certificate is sent to a server that asks for one."""
    pem = tmp_path / "client.pem"
    authority().issue_cert("client.test").private_key_and_cert_chain_pem.write_to_path(str(pem))
    names: list[Any] = []

    def script(connection: Connection) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority().issue_cert("localhost", "127.0.0.1").configure_cert(context)
        authority().configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
        connection.sock = context.wrap_socket(connection.sock, server_side=True)
        names.append(connection.sock.getpeercert()["subjectAltName"])
        connection.serve()

    with Server(script) as server, Client(verify=client_context(), cert=str(pem)) as client:
        assert requested(server.url.replace("http:", "https:"), client) == 200
    assert names == [(("DNS", "client.test"),)]


def test_http2_needs_its_extra(monkeypatch):
    """Without h2, the error names the extra to install."""
    monkeypatch.setitem(__import__("sys").modules, "h2", None)
    with pytest.raises(ImportError, match=r"rxupload\[http2\]"):
        Client(http2=True)


# Proxies


@pytest.mark.parametrize("kind", ["http", "socks5"])
@pytest.mark.parametrize("tls", [False, True])
def test_proxy_is_used_for_http_and_https(kind, tls):
    """`proxy=` is used for http and https, and overrides the environment."""
    with (
        Server(http_proxy if kind == "http" else socks_proxy) as proxy,
        Server(200, tls=tls) as server,
        Client(proxy=proxy.url.replace("http:", f"{kind}:"), verify=client_context()) as client,
    ):
        assert requested(server.url, client) == 200
        assert proxy.connections == 1


@pytest.mark.parametrize(
    "proxy", [NOBODY, NOBODY.replace("http:", "https:"), NOBODY.replace("http:", "socks5:")]
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_refuses_is_named(proxy, scheme):
    """The error names the proxy, because its address may come from the environment."""
    with Client(proxy=proxy) as client, pytest.raises(httpx.ConnectError) as raised:
        upload(f"{scheme}://host.invalid/", b"hello", client=client).run()
    assert str(raised.value) == "The proxy: 127.0.0.1:9: Connection refused"
    assert raised.value.request.url.host == "host.invalid"
    assert isinstance(raised.value.__cause__, ConnectionRefusedError)


def test_a_proxy_without_valid_tls_is_named():
    """The error of a TLS handshake names the proxy too."""
    with (
        Server(200, tls=True) as proxy,
        Client(proxy=proxy.url) as client,
        pytest.raises(httpx.ConnectError, match=r"The proxy: TLS with .*certificate"),
    ):
        upload("http://host.invalid/", b"hello", client=client).run()


def test_proxy_overrides_no_proxy(environ):
    """With `proxy=`, neither the variables nor NO_PROXY apply, as in httpx."""
    environ.setenv("HTTP_PROXY", NOBODY)
    environ.setenv("NO_PROXY", "*")
    with Server(http_proxy) as proxy, Server(200) as server, Client(proxy=proxy.url) as client:
        assert requested(server.url, client) == 200
        assert proxy.connections == 1


@pytest.mark.parametrize("from_environment", [True, False])
def test_a_mount_overrides_the_proxy(environ, from_environment):
    """A mount overrides the proxy, a mount of None means no proxy, and other URLs are unaffected."""
    asked: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        return httpx.Response(201)

    environ.setenv("ALL_PROXY", NOBODY)
    mounts = {"all://mounted.test": httpx.MockTransport(handle), "all://127.0.0.1": None}
    proxy = None if from_environment else NOBODY
    with Server(200) as server, Client(mounts=mounts, proxy=proxy) as client:
        assert requested("http://mounted.test/", client) == 201
        assert requested(server.url, client) == 200
        with pytest.raises(httpx.ConnectError):
            upload("http://other.test/", b"data", client=client).run()
    assert asked == ["mounted.test"]


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("form", ["{url}", "{host}"])
def test_proxy_variables_are_used(environ, made_in_environment, variable, form):
    """The proxy variables are used, with and without a scheme."""
    with Server(http_proxy) as proxy, Server(200) as server:
        environ.setenv(variable, form.format(url=proxy.url, host=f"127.0.0.1:{proxy.port}"))
        assert requested(server.url, made_in_environment()) == 200
        assert proxy.connections == 1


def test_https_proxy_is_for_https_only(environ):
    """HTTPS_PROXY tunnels https, and does not apply to http."""
    with (
        Server(http_proxy) as proxy,
        Server(200, tls=True) as secure,
        Server(200) as plain,
    ):
        environ.setenv("HTTPS_PROXY", proxy.url)
        with Client(verify=client_context()) as client:
            assert requested(plain.url, client) == 200
            assert proxy.connections == 0
            assert requested(secure.url, client) == 200
            assert proxy.connections == 1


@pytest.mark.parametrize("client_kind", [Client, DefaultClient])
def test_environment_is_read_when_the_client_is_made(environ, client_kind):
    """A later change of the environment has no effect."""
    with Server(200) as server:
        before = client_kind()
        environ.setenv("HTTP_PROXY", NOBODY)
        after = client_kind()
        assert requested(server.url, before) == 200
        environ.delenv("HTTP_PROXY")
        with pytest.raises(httpx.ConnectError):
            upload(server.url, b"data", client=after).run()
        before.close()
        after.close()


def test_without_trust_env_no_variable_is_used(environ):
    """With trust_env=False no variable is used."""
    environ.setenv("ALL_PROXY", NOBODY)
    with Server(200) as server, Client(trust_env=False) as client:
        assert requested(server.url, client) == 200


@pytest.mark.parametrize(
    "no_proxy",
    [
        "*",
        "127.0.0.1",
        "[::1],127.0.0.1",
        "[::1]:80 127.0.0.1",
        "fd00::/8, 127.0.0.0/8",
        "a.test b.test 127.0.0.1",
        " , ,127.0.0.1, ",
        "127.0.0.1:{port}",
        "[::g], 999.0.0.0/8, ://, %, http://[, 127.0.0.1",
        "http://127.0.0.1",
    ],
)
def test_no_proxy_is_an_exception(environ, made_in_environment, no_proxy):
    """An exception applies beside brackets, networks, spaces, ports and nonsense, and never breaks an upload."""
    environ.setenv("ALL_PROXY", NOBODY)
    with Server(200) as server:
        environ.setenv("NO_PROXY", no_proxy.format(port=server.port))
        assert requested(server.url, made_in_environment()) == 200


@pytest.mark.parametrize(
    "no_proxy", ["[::1]", "fd00::/8", "127.0.0.1:1", "[::1]:80, 10.0.0.0/8, a b c", "[", ""]
)
def test_no_proxy_for_other_hosts_keeps_the_proxy(environ, made_in_environment, no_proxy):
    """An exception for other hosts keeps the proxy, and never breaks an upload."""
    environ.setenv("NO_PROXY", no_proxy)
    with Server(http_proxy) as proxy, Server(200) as server:
        environ.setenv("HTTP_PROXY", proxy.url)
        assert requested(server.url, made_in_environment()) == 200
        assert proxy.connections == 1


def test_no_proxy_for_an_ipv6_server(environ, made_in_environment):
    """`[::1]` in NO_PROXY matches that address."""
    environ.setenv("ALL_PROXY", NOBODY)
    environ.setenv("NO_PROXY", "[::1]")
    url = "http://[::1]:1/"
    assert ipaddress.ip_address(httpx.URL(url).host).is_loopback
    with pytest.raises(httpx.ConnectError) as caught:
        upload(url, b"data", client=made_in_environment()).run()
    assert "127.0.0.1" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        "ftp://user:s3cret@proxy.test/",
        "http://user:s3cret@proxy.test:99999999/",
        "http://user:s3cret@",
        "http://user:s3cret@[proxy/",
        "s3cret\x7f",
    ],
)
def test_an_invalid_variable_is_an_error(environ, made_in_environment, value):
    """The error names the variable, and does not show its content."""
    environ.setenv("HTTP_PROXY", value)
    client = made_in_environment()
    with pytest.raises(ValueError, match="HTTP_PROXY is no proxy's URL") as caught:
        upload("http://upload.test/", b"data", client=client).run()
    shown = "".join(traceback.format_exception(caught.value))
    assert "s3cret" not in shown


def test_an_invalid_variable_that_does_not_apply_is_ignored(environ, made_in_environment):
    """An invalid variable for https does not break an upload over http, nor one that NO_PROXY excepts."""
    environ.setenv("HTTPS_PROXY", "ftp://broken/")
    environ.setenv("HTTP_PROXY", "ftp://broken/")
    environ.setenv("NO_PROXY", "127.0.0.1")
    with Server(200) as server:
        assert requested(server.url, made_in_environment()) == 200


# Its lifetime


def test_closing_it_closes_its_connections():
    """Closing closes idle connections, even those to a proxy; after that the client cannot be used."""
    ended = [threading.Event(), threading.Event()]

    def script(connection: Connection) -> None:
        connection.serve()
        if connection.read_head() == b"":
            ended[0].set()

    def proxy_script(connection: Connection) -> None:
        connection.serve()
        if connection.read_head() == b"":
            ended[1].set()

    with Server(script) as server, Server(proxy_script) as proxy:
        with Client() as client:
            assert requested(server.url, client) == 200
            assert not ended[0].is_set()
        assert ended[0].wait(PATIENCE)
        other = Client(proxy=proxy.url)
        assert requested("http://upload.test/", other) == 200
        assert not other.is_closed
        other.close()
        assert ended[1].wait(PATIENCE)
        other.close()
        assert other.is_closed
        with pytest.raises(RuntimeError, match="closed"):
            upload(server.url, b"data", client=client).run()


def test_an_upload_does_not_close_it():
    """The client belongs to the caller, and its uploads share a connection."""
    with Server(lambda connection: [connection.serve() for _ in range(3)]) as server, Client() as client:
        for _ in range(3):
            assert requested(server.url, client) == 200
        assert server.connections == 1


def test_threads_share_it():
    """Simultaneous uploads from many threads each get their own answer."""

    def script(connection: Connection) -> None:
        while head := connection.read_head():
            body = connection.read_body()
            connection.respond(200, header(head, b"x-number") + b" %d" % len(body))

    with Server(script) as server, Client() as client:
        runs = [
            observe(
                upload(server.url, bytes(1000 * number), client=client, headers={"X-Number": str(number)})
            )[0]
            for number in range(32)
        ]
        for number, observed in enumerate(runs):
            name, length = observed.wait().response.text.split()
            assert int(name) == number
            assert int(length) == observed.progress[-1].sent


def test_an_early_answer_is_the_response():
    """An answer that comes before the body is sent is the response, as with `UploadTransport`."""

    def script(connection: Connection) -> None:
        connection.read_head()
        connection.respond(413, b"too large", "Connection: close")

    with Server(script) as server, Client() as client:
        response = upload(server.url, LARGE, client=client).run()
        assert (response.status_code, response.text) == (413, "too large")


def test_it_sends_other_requests_too():
    """It is an httpx.Client, and sends any other request."""
    with Server(lambda connection: connection.serve(200, b"got")) as server, Client() as client:
        assert isinstance(client, httpx.Client)
        assert client.post(server.url, content=b"data").text == "got"


def test_the_default_client_measures_elapsed():
    """`response.elapsed` is set, as in httpx."""
    with Server(200) as server:
        response = upload(server.url, b"data").run()
    assert 0 < response.elapsed.total_seconds() < PATIENCE


def test_the_default_client_logs_no_secret(caplog):
    """The line at INFO contains neither a password nor a query."""
    with Server(200) as server, caplog.at_level("INFO", "rxupload"):
        url = server.url.replace("//", "//user:secret@")
        upload(f"{url}photos?token=secret", b"data").run()
    (line,) = [each.getMessage() for each in caplog.records if each.name == "rxupload"]
    assert line == f"POST {server.url}photos: 200 OK"


def test_idle_connections_are_closed_at_exit(environ):
    """The default client's idle connections, direct or through a proxy, are closed when the process ends."""
    ended: SimpleQueue[str] = SimpleQueue()

    def serve(connection: Connection) -> None:
        connection.serve()
        connection.wait_for_end()
        ended.put("end")

    with Server(serve) as server, Server(serve) as proxy:
        environ.setenv("HTTP_PROXY", proxy.url)
        environ.setenv("NO_PROXY", "127.0.0.1")
        assert upload(server.url, b"data").run().status_code == 200
        assert upload("http://other.test/", b"data").run().status_code == 200
        client_module._close_idle()
        assert [ended.get(timeout=PATIENCE) for _ in range(2)] == ["end"] * 2


def test_it_is_public():
    """Client is a public name, with a docstring that gives the differences from httpx's."""
    assert rxupload.Client is Client
    assert "600 s" in inspect.getdoc(Client)
    assert Path(inspect.getfile(Client)).name == "_client.py"
