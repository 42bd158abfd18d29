"""A first upload while no descriptor is free: it fails, and breaks none of the later ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# In each child the first upload imports what it needs, with this many free descriptors. Then all of them are free.
SCRIPT = """
import os, resource, sys, traceback
sys.path.insert(0, {tests!r})
from pathlib import Path
from support.scripted_proxies import http_proxy, socks_proxy
from support.scripted_server import Server, client_context, server_context
import rxupload
from rxupload import upload

KIND = {kind!r}
FILE = {tests!r} + "/conftest.py"
COUNTS = [*range(7), 15]

def serve(connection):
    while head := connection.read_head():
        connection.read_body()
        connection.respond(200, b"{{}}", "Content-Type: application/json; charset=utf-8")

def client():
    if KIND == "http2":
        return rxupload.Client(verify=client_context(), http2=True, trust_env=False)
    if "https" in KIND and "proxy" not in KIND:
        return rxupload.Client(verify=client_context(), trust_env=False)
    if "proxy" in KIND:
        scheme = "socks5" if "SOCKS" in KIND else "http"
        return rxupload.Client(verify=client_context(), trust_env=False, proxy=f"{{scheme}}://localhost:{{proxy.port}}")
    return None

def once():
    if KIND == "uploadFile":
        from rxupload.uploadtask import uploadFile
        return uploadFile(url=url, filePath=FILE, name="file").result(20)["statusCode"]
    made = client()
    try:
        return upload(url, FILE, filename="b\\u00fccher.jpeg", client=made).run().status_code
    finally:
        if made is not None:
            made.close()

def child(count):
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    taken = []
    try:
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass
    for _ in range(count):
        os.close(taken.pop())
    try:
        once()
        first = 0
    except Exception:
        first = 1
    for each in taken:
        os.close(each)
    assert once() == 200
    return first

tls = "https" in KIND or KIND == "http2"
client_context(), server_context()
with Server(serve, tls=tls) as server, Server(socks_proxy if "SOCKS" in KIND else http_proxy) as proxy:
    url = f"http{{'s' if tls else ''}}://{{'127.0.0.1' if 'address' in KIND else 'localhost'}}:{{server.port}}/"
    failed = []
    for count in COUNTS:
        pid = os.fork()
        if not pid:
            try:
                code = child(count)
            except BaseException:
                traceback.print_exc()
                code = 2
            os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert code in (0, 1), (count, code)
        failed.append(code)
    assert failed[0] == 1, "no descriptor was needed"
    assert failed[-1] == 0, "the first upload never succeeded"
    server.errors.clear()
    proxy.errors.clear()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of descriptors, and no fork")
@pytest.mark.parametrize(
    "kind",
    [
        "http",
        "https",
        "https to an address",
        "http2",
        "a proxy",
        "a proxy for https",
        "a SOCKS proxy",
        "a SOCKS proxy for https",
        "uploadFile",
    ],
)
def test_an_upload_without_free_descriptors_breaks_no_later_one(kind):
    """With 0 to 6 free descriptors the first upload may fail. The second one, with enough of them, succeeds."""
    script = SCRIPT.format(tests=str(Path(__file__).parents[1]), kind=kind)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
