"""The options of `rxupload send` for passwords, TLS and proxies."""

from __future__ import annotations

import base64
import contextlib
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator

import pytest
import trustme
from support.command_line import PROCESS_PATIENCE, command, in_own_process, posix_only
from support.scripted_server import Server, header

from rxupload.testing import Connection

# -u

# Makes a terminal that of the session, and becomes the command.
AT_TERMINAL = "import os, sys; os.open(sys.argv[1], os.O_RDWR); os.execv(sys.argv[2], sys.argv[2:])"


def test_u_is_basic_authentication(cli, server, photo):
    """-u USER:PASSWORD sends both; the password may have colons, or be empty."""
    for user in ("anna:pass:word", "anna:"):
        assert cli("send", server.url, photo, "-u", user).status == 0
        head, _ = server.requests.pop()
        assert header(head, b"authorization") == b"Basic " + base64.b64encode(user.encode())


@posix_only
def test_a_password_that_is_left_out_is_asked_for(server, photo):
    """-u USER asks on the terminal without an echo. No other process can see the password, and FILE - stays whole."""
    import pty

    listed: list[str] = []

    def answer(_: int) -> tuple[int, bytes]:
        ps = subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True)
        listed.extend(line for line in ps.stdout.splitlines() if "-u anna" in line)
        return 200, b"stored"

    server.answer = answer
    main_end, terminal = pty.openpty()
    args = [
        sys.executable,
        "-c",
        AT_TERMINAL,
        os.ttyname(terminal),
        *command("send", server.url, "-", "-u", "anna"),
    ]
    streams = {"stdin": subprocess.PIPE, "stdout": terminal, "stderr": terminal}
    with subprocess.Popen(args, start_new_session=True, **streams) as process:
        os.close(terminal)
        process.stdin.write(b"the file")
        process.stdin.close()
        drawn = b""
        while b"Password of anna: " not in drawn:
            drawn += os.read(main_end, 1 << 16)
        os.write(main_end, b"hunter2\n")
        with contextlib.suppress(OSError):  # Linux ends a terminal that no process has open with EIO
            while data := os.read(main_end, 1 << 16):
                drawn += data
        assert process.wait(PROCESS_PATIENCE) == 0
    os.close(main_end)

    ((head, body),) = server.requests
    assert header(head, b"authorization") == b"Basic " + base64.b64encode(b"anna:hunter2")
    assert b"\r\n\r\nthe file\r\n" in body
    assert listed
    assert "hunter2" not in "".join(listed) + drawn.decode()


def test_without_a_terminal_no_password_is_read(server):
    """Where there is no terminal, standard input is not read for the password: it may be the file."""
    options = {"start_new_session": True} if os.name == "posix" else {}
    result = in_own_process(command("send", server.url, "-", "-u", "anna"), input=b"the file", **options)
    assert result.status == 2
    assert "-u: no password, and no terminal to ask for it" in result.err
    assert not server.requests


# TLS and proxies


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@contextlib.contextmanager
def asking_for_a_certificate(authority: trustme.CA, names: list[str]) -> Iterator[Server]:
    """A TLS server that refuses clients without a certificate, and keeps the names in theirs."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED

    def script(connection: Connection) -> None:
        names.extend(value for _, value in connection.sock.getpeercert().get("subjectAltName", ()))
        connection.serve()

    with Server(script, tls=context) as server:
        yield server


@pytest.mark.parametrize("is_apart", [True, False])
def test_cacert_cert_and_key_are_used(cli, authority, photo, tmp_path, is_apart):
    """--cacert is trusted, and --cert with --key, or with the key in it, is sent."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    own = authority.issue_cert("anna@example.org")
    own.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    own.private_key_pem.write_to_path(tmp_path / "key.pem")
    own.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    cert = ["--cert", tmp_path / "cert.pem", "--key", tmp_path / "key.pem"]
    names: list[str] = []
    with asking_for_a_certificate(authority, names) as server:
        options = cert if is_apart else ["--cert", tmp_path / "both.pem"]
        accepted = cli("send", server.url, photo, "--cacert", tmp_path / "ca.pem", *options)
        refused = cli("send", server.url, photo, *options)

    assert (accepted.status, names) == (0, ["anna@example.org"])
    assert (refused.status, "certificate verify failed" in refused.err) == (1, True)


def test_a_key_of_another_certificate_is_named(cli, authority, photo, tmp_path):
    """A key that does not belong to the certificate is an error before anything is sent."""
    authority.issue_cert("a@b.c").cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    authority.issue_cert("d@e.f").private_key_pem.write_to_path(tmp_path / "key.pem")
    args = ["--cert", tmp_path / "cert.pem", "--key", tmp_path / "key.pem"]
    result = cli("send", "https://localhost:1/", photo, *args)
    assert result.status == 2
    assert result.err.splitlines()[-1].endswith(
        "--cert and --key: the key does not belong to the certificate"
    )


def test_k_accepts_any_certificate(cli, photo):
    """-k is --insecure."""
    with Server(200, tls=True) as server:
        assert cli("send", server.url, photo).status == 1
        assert cli("send", server.url, photo, "-k").status == 0


def test_https_to_a_plain_port_says_what_to_try(cli, photo):
    """The error has the port, and the address of plain http."""

    def script(connection: Connection) -> None:
        connection.recv()
        connection.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with Server(script) as server:
        result = cli("send", server.url.replace("http", "https"), photo)
        assert f"plain http: http://127.0.0.1:{server.port}/" in result.err


@pytest.mark.parametrize("scheme", ["http://", ""])
def test_proxy_is_the_way(cli, server, photo, scheme, monkeypatch):
    """--proxy takes the place of the environment's, also for a local address; a scheme may be left out."""
    monkeypatch.setenv("NO_PROXY", "*")
    seen: list[bytes] = []

    def forward(connection: Connection) -> None:
        head = connection.read_head()
        connection.read_body()
        seen.append(head)
        connection.respond(200, b"by the proxy")

    with Server(forward) as proxy:
        result = cli("send", server.url, photo, "--proxy", f"{scheme}u:p@127.0.0.1:{proxy.port}")
    assert (result.status, result.out) == (0, "by the proxy")
    assert seen[0].startswith(b"POST " + server.url.encode())
    assert header(seen[0], b"proxy-authorization") == b"Basic " + base64.b64encode(b"u:p")


def test_no_cookies_are_kept(cli, photo):
    """A client for TLS or a proxy sends no cookies that a server has set, like the default one."""
    heads: list[bytes] = []

    def script(connection: Connection) -> None:
        while head := connection.read_head():
            connection.read_body()
            heads.append(head)
            connection.respond(200, b"", "Set-Cookie: a=b")

    with Server(script, tls=True) as server:
        assert cli("send", server.url, photo, photo, "-k", "--concurrency", 1).status == 0
    assert [header(head, b"cookie") for head in heads] == [None, None]
