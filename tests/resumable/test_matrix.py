"""The same uploads to servers of tus that are not ours, and to the receiver. `PEERS` says what each does in its way."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import threading
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from support.command_line import PROCESS_PATIENCE, posix_only
from support.fault_proxy import Fault, cut_after, left_after, pass_on, proxied, silent_after
from support.recording_observer import observe
from support.resumable_uploads import check_passes, observed_run, outcome_of
from support.scripted_server import PATIENCE
from support.tus_peers import PEERS, VERSION, Peer, announced, kept, metadata, offset, stored
from support.uploading_process import uploading

import rxupload
from rxupload import File
from rxupload.operators import retry_backoff
from rxupload.resumable import FileStore, Tus, upload_resumable

MIB = 1 << 20
BEFORE = 1_500_000  # bytes that go before a connection breaks


@dataclass(frozen=True)
class Running:
    """A server that runs."""

    peer: Peer
    url: str
    folder: Path


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """The servers that have been started."""
    with contextlib.ExitStack() as stack:
        yield stack, {}


@pytest.fixture(params=PEERS)
def running(request, servers, tmp_path_factory):
    """A server of each kind; it runs until the end of the module."""
    stack, started = servers
    if request.param not in started:
        peer, folder = PEERS[request.param], tmp_path_factory.mktemp(request.param)
        started[request.param] = Running(peer, stack.enter_context(peer.start(folder)), folder)
    return started[request.param]


@pytest.fixture
def proxy(running):
    """A proxy before the server."""
    with proxied(running.url) as (proxy, url, _):
        yield proxy, f"{url}files"


@pytest.fixture
def name():
    """A filename that no other test has."""
    return f"{secrets.token_hex(8)}.mp4"


def run(up):
    """Run it, check its Progress up to the end, and return its response."""
    observed = observed_run(up, PROCESS_PATIENCE)
    assert observed.progress[-1].percent in {100, None}
    return observed.response


def same(running, url, name, content):
    """Whether the server has stored this content."""
    found = stored(running.folder, url, name)
    return hashlib.sha256(found).digest() == hashlib.sha256(content).digest()


def check_sent(proxy, outcome, content):
    """Check that nothing was sent that the server had, unless it has refused a PATCH because its HEAD was stale."""
    if 409 not in proxy.statuses_of("PATCH"):
        assert outcome.sent_now == len(content) - outcome.resumed_at


def broken(up, proxy, fault: Fault):
    """Let its next PATCH break."""
    proxy.then("PATCH", fault)
    with pytest.raises(httpx.NetworkError):
        run(up)


def test_the_table_says_what_a_server_announces(running):
    """Which checksums there are, whether a length may come later, and whether uploads can be joined."""
    said = announced(running.url)
    assert (running.peer.checksums in said["algorithms"]) == ("checksum" in said["extensions"])
    assert (running.peer.defers is not None) == ("creation-defer-length" in said["extensions"])
    assert running.peer.joins == ("concatenation" in said["extensions"])


@pytest.mark.parametrize("chunk_size", [None, MIB])
def test_a_file_arrives(running, proxy, file, store, content, name, chunk_size):
    """With its metadata, and in chunks with checksums where they are announced."""
    proxy, url = proxy
    up = upload_resumable(
        url, file, filename=name, metadata={"album": "Süd, 2026"}, store=store, chunk_size=chunk_size
    )
    response = run(up)
    assert response.status_code == running.peer.last
    assert outcome_of(response).sent_now == len(content)
    patches = [each for each in proxy.asked if each.method == "PATCH"]
    assert len(patches) == (1 if chunk_size is None else 4)
    algorithm = None if chunk_size is None else running.peer.checksums
    assert {(each.header("Upload-Checksum") or "").split(" ")[0] for each in patches} == {algorithm or ""}
    (created,) = proxy.created
    assert same(running, created, name, content)
    assert metadata(created) == {"album": "Süd, 2026", "filename": name, "filetype": "video/mp4"}


@pytest.mark.parametrize("size", [0, 1000])
def test_a_small_file_arrives(running, proxy, tmp_path, store, name, size):
    """An empty one, and one that goes with the POST."""
    proxy, url = proxy
    path = tmp_path / name
    path.write_bytes(b"x" * size)
    assert run(upload_resumable(url, path, store=store)).status_code == (running.peer.small)
    assert proxy.methods == ["POST"]
    assert stored(running.folder, proxy.created[0], name) == b"x" * size


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("chunk_size", [None, BEFORE])
def test_an_upload_goes_on_after_a_cut_connection(
    running, proxy, file, store, content, name, chunk_size, resets
):
    """From where the server is, so that nothing is sent that it has, and never from the beginning."""
    proxy, url = proxy
    if chunk_size is not None and running.peer.truncates:
        pytest.skip(
            "this server takes back what it has of a chunk that broke, but at any later moment or never"
        )
    up = upload_resumable(url, file, filename=name, store=store, chunk_size=chunk_size)
    if chunk_size is not None:
        proxy.then("PATCH", pass_on)
    broken(up, proxy, cut_after(BEFORE if chunk_size is None else 1000, resets=resets))
    (created,) = proxy.created
    had = offset(created)
    response = run(up)
    outcome = outcome_of(response)
    assert response.status_code == running.peer.last
    assert outcome.resumed_at >= had >= (0 if chunk_size is None else BEFORE)
    check_sent(proxy, outcome, content)
    assert proxy.methods.count("POST") == 1
    assert same(running, created, name, content)


def test_an_upload_goes_on_after_a_head_that_was_stale(running, proxy, file, store, content, name):
    """The server learns of the end of the first PATCH when the second one has come: it refuses that, or takes it."""
    proxy, url = proxy
    up = upload_resumable(url, file, filename=name, store=store)
    broken(up, proxy, left_after(BEFORE))

    def late(connection, proxy):
        proxy.end_held()
        pass_on(connection, proxy)

    proxy.then("PATCH", late)
    response = run(up)
    expected = running.peer.stale or (running.peer.last,)
    assert tuple(proxy.statuses_of("PATCH")) == expected
    assert response.status_code == running.peer.last
    assert same(running, proxy.created[0], name, content)
    check_sent(proxy, outcome_of(response), content)


@pytest.mark.parametrize("running", [name for name in PEERS if PEERS[name].displaced], indirect=True)
def test_a_patch_that_is_displaced_goes_on(running, proxy, file, store, content, name):
    """While it hangs, somebody else asks for the offset. Where that ends it with 204, it goes on at once."""
    proxy, url = proxy
    is_silent = threading.Event()
    proxy.then("PATCH", silent_after(BEFORE, is_silent))
    up = upload_resumable(url, file, filename=name, store=store)
    observed, _ = observe(up)
    assert is_silent.wait(PROCESS_PATIENCE)
    had = offset(proxy.created[0])
    observed.wait(PROCESS_PATIENCE)
    check_passes(observed.progress)
    if running.peer.displaced == "204":
        assert proxy.statuses_of("PATCH") == [204, running.peer.last]
        assert proxy.methods == ["POST", "PATCH", "PATCH"]
        assert observed.response.status_code == running.peer.last
    else:
        assert isinstance(observed.error, httpx.NetworkError)
        assert run(up).status_code == running.peer.last
    assert int(proxy.asked[-1].header("Upload-Offset")) == had <= BEFORE
    assert same(running, proxy.created[0], name, content)


@posix_only
def test_an_upload_goes_on_after_a_kill(running, proxy, tmp_path, file, content):
    """The process is killed in the middle of a PATCH, and the next one finds the upload in its FileStore."""
    proxy, url = proxy
    folder, file = tmp_path / "state", file.rename(tmp_path / f"{secrets.token_hex(8)}.mp4")
    has_begun, is_over = threading.Event(), threading.Event()

    def kill(connection, proxy):
        assert has_begun.wait(PROCESS_PATIENCE)
        cut_after(BEFORE, first=process.kill)(connection, proxy)
        is_over.set()

    proxy.then("PATCH", kill)
    with uploading(url, file, folder) as process:
        has_begun.set()
        assert is_over.wait(PROCESS_PATIENCE)
        process.wait(PROCESS_PATIENCE)
    (created,) = proxy.created
    had = offset(created)
    response = run(upload_resumable(url, file, store=FileStore(folder)))
    outcome = outcome_of(response)
    assert outcome.resumed_at >= had
    check_sent(proxy, outcome, content)
    assert proxy.methods[:4] == ["POST", "PATCH", "HEAD", "PATCH"]
    assert proxy.methods.count("POST") == 1
    assert same(running, created, file.name, content)
    assert not list(folder.glob("*.json"))


@pytest.mark.parametrize("parallel", [1, 3])
def test_nothing_is_left_after_a_discard(running, proxy, tmp_path, file, name, parallel):
    """Neither on the server nor in the FileStore."""
    proxy, url = proxy
    before, state = kept(running.folder), tmp_path / "state"
    up = upload_resumable(url, file, filename=name, store=FileStore(state), protocol=Tus(parallel=parallel))
    count = parallel if running.peer.joins else 1
    proxy.then("PATCH", *[cut_after(1000)] * count)
    with pytest.raises(httpx.NetworkError):
        run(up)
    assert kept(running.folder) > before
    assert list(state.iterdir())
    assert len(proxy.created) == count
    assert rxupload.run(up.discard()).status_code == 204
    assert kept(running.folder) == before
    assert not list(state.iterdir())
    assert rxupload.run(up.discard()) is None
    for each in proxy.created:
        assert httpx.head(each, headers=VERSION, timeout=PATIENCE, trust_env=False).status_code in {404, 410}


def test_a_source_of_unknown_size(running, proxy, store, content, name):
    """It arrives where that is announced, and is refused before anything is sent where it is not."""
    proxy, url = proxy
    up = upload_resumable(url, iter([content]), filename=name, store=store, chunk_size=MIB)
    if running.peer.defers is None:
        with pytest.raises(ValueError, match="give the bytes, as in File"):
            run(up)
        assert proxy.methods == []
        known = File(iter([content]), size=len(content))
        up = upload_resumable(url, known, filename=name, store=store, chunk_size=MIB)
        assert run(up).status_code == running.peer.last
    else:
        assert rxupload.run(up).status_code == running.peer.defers
    if running.peer.defers in {None, running.peer.last}:
        assert same(running, proxy.created[0], name, content)


@pytest.mark.parametrize("running", [name for name in PEERS if PEERS[name].defers == 204], indirect=True)
def test_a_source_of_unknown_size_goes_on_in_its_last_part(running, proxy, store, content, name):
    """The server knows the length already from the request that broke, and some refuse to hear it again."""
    proxy, url = proxy
    up = upload_resumable(url, lambda: iter([content]), filename=name, store=store, chunk_size=MIB)
    proxy.then("PATCH", pass_on, pass_on, pass_on)
    broken(up, proxy, cut_after(9))
    assert run(up).status_code == running.peer.last
    assert same(running, proxy.created[0], name, content)


def test_several_connections(running, proxy, file, store, content, name):
    """Where the server joins uploads; each of them breaks and goes on. Elsewhere there is one connection."""
    proxy, url = proxy
    up = upload_resumable(url, file, filename=name, store=store, protocol=Tus(parallel=3))
    count = 3 if running.peer.joins else 1
    proxy.then("PATCH", *[cut_after(MIB // 2)] * count)
    response = rxupload.run(up.pipe(retry_backoff(wait_initial=0, wait_jitter=0)))
    assert response.status_code == (201 if running.peer.joins else running.peer.last)
    assert proxy.methods.count("POST") == (4 if running.peer.joins else 1)
    assert same(running, proxy.created[-1], name, content)


def test_a_part_at_another_offset(running, proxy, file, store, name):
    """What the client does after a 409 does not depend on whether that has an offset."""
    proxy, url = proxy
    broken(upload_resumable(url, file, filename=name, store=store), proxy, cut_after(BEFORE))
    (created,) = proxy.created
    had = offset(created)
    headers = VERSION | {"Upload-Offset": str(had + 1), "Content-Type": "application/offset+octet-stream"}
    response = httpx.patch(created, headers=headers, content=b"x", timeout=PATIENCE, trust_env=False)
    if running.peer.conflict is not None:
        assert response.status_code == running.peer.conflict
        assert offset(created) == had
    else:
        assert response.status_code // 100 == 2
