"""The receiver: what it stores, answers and refuses, and that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import string
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rxupload import receiver
from rxupload.receiver import form, server

PATIENCE = 10.0
FORM = {"Content-Type": "multipart/form-data; boundary=B"}
CLOSING = b"--B--\r\n"

posix_only = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals, symbolic links or /dev/fd")


def part(disposition, value=b"", *headers):
    """One part of a body with the boundary B."""
    if isinstance(disposition, str):
        disposition = disposition.encode()
    lines = [b"--B", b"Content-Disposition: form-data; " + disposition, *headers, b"", value]
    return b"\r\n".join(lines) + b"\r\n"


def file_part(filename, content=b"", name="file"):
    """A file as a browser sends it (WHATWG HTML, multipart/form-data encoding algorithm)."""
    escaped = filename.replace("\n", "%0A").replace("\r", "%0D").replace('"', "%22")
    return part(f'name="{name}"; filename="{escaped}"', content)


@pytest.fixture
def inbox(tmp_path):
    """The receiver's directory."""
    return tmp_path / "inbox"


@pytest.fixture
def url(inbox):
    """A running receiver with a limit of 4 MiB."""
    with receiver.running(inbox, max_size=2**22) as url:
        yield url


@pytest.fixture
def client():
    """httpx's own client."""
    with httpx.Client(trust_env=False, timeout=PATIENCE) as client:
        yield client


@pytest.fixture
def patient(monkeypatch):
    """Makes receivers read on for an hour after a refusal."""
    monkeypatch.setattr(server, "_LINGER", 3600.0)


@contextlib.contextmanager
def connected(url):
    """A bare connection to the receiver."""
    address = httpx.URL(url)
    with socket.create_connection((address.host, address.port), timeout=PATIENCE) as sock:
        yield sock


def head(**headers):
    """The head of a POST; underscores in header names stand for hyphens."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines = ["POST / HTTP/1.1", "Host: receiver", f"Content-Type: {FORM['Content-Type']}", *lines]
    return "\r\n".join([*lines, "", ""]).encode()


def answer(sock):
    """The status and the JSON from a bare connection."""
    with http.client.HTTPResponse(sock) as response:
        response.begin()
        return response.status, json.loads(response.read())


def has_ended(sock):
    """Whether the receiver has closed the connection, with or without a reset."""
    try:
        return sock.recv(1) == b""
    except ConnectionError:
        return True


def stored(directory):
    """The content of the directory, by name."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture
def has_begun(monkeypatch):
    """Is set once a receiver has written some bytes of a file."""
    has_begun = threading.Event()
    write = form.ReceivedFile.write

    def write_and_tell(file, data):
        write(file, data)
        has_begun.set()

    monkeypatch.setattr(form.ReceivedFile, "write", write_and_tell)
    return has_begun


# What it stores and answers


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("path", ["", "photos/2024?album=summer", "%0A%00/../x"])
def test_files_and_fields_arrive_at_any_path(client, url, inbox, method, path):
    """Every file is stored byte for byte; the answer gives its name, type, size and SHA-256."""
    beach, empty = os.urandom(3_000_000), b""
    response = client.request(
        method,
        url + path,
        data={"album": "summer", "tag": ["sea", "sand"]},
        files=[("photo", ("beach.jpg", beach, "image/jpeg")), ("note", ("empty", empty, "text/plain"))],
    )

    assert response.status_code == 200
    assert response.json() == {
        "fields": {"album": "summer", "tag": ["sea", "sand"]},
        "files": [
            {
                "name": "photo",
                "filename": "beach.jpg",
                "content_type": "image/jpeg",
                "size": 3_000_000,
                "sha256": hashlib.sha256(beach).hexdigest(),
            },
            {
                "name": "note",
                "filename": "empty",
                "content_type": "text/plain",
                "size": 0,
                "sha256": hashlib.sha256(empty).hexdigest(),
            },
        ],
    }
    assert stored(inbox) == {"beach.jpg": beach, "empty": empty}


@pytest.mark.parametrize(
    ("disposition", "expected"),
    [
        (b'name="file"; filename="b.txt"', ("file", "b.txt")),
        ('name="bild"; filename="Überstrand 海滩 🏖.jpg"', ("bild", "Überstrand 海滩 🏖.jpg")),
        (b'name="%22a%22%0D%0A"; filename="%22b%22%20%0d.txt"', ('"a"\r\n', '"b"%20%0d.txt')),
        (rb'name="a\"; filename="C:\b\\c\"', ("a\\", "C:\\b\\\\c\\")),
        (b'name="a; filename=x"; filename="b;c=d"', ("a; filename=x", "b;c=d")),
        (b"name=file; filename=b.txt; filename*=utf-8''c.txt", ("file", "b.txt")),
        (b'Name = "file" ;FILENAME="b.txt"', ("file", "b.txt")),
        (b'name="\xff"; filename="\xe9.txt"', ("\ufffd", "\ufffd.txt")),
        (b'name=""; filename=""', ("", "")),
    ],
)
def test_names_are_decoded_as_browsers_encode_them(client, url, disposition, expected):
    """Names are UTF-8; only %22, %0D and %0A are decoded, and filename* is ignored (RFC 7578, section 4.2)."""
    response = client.post(url, content=part(disposition) + CLOSING, headers=FORM)

    (file,) = response.json()["files"]
    assert (file["name"], file["filename"], file["content_type"]) == (*expected, None)


def test_field_values_are_text(client, url):
    """A value is UTF-8 text with its line ends; bytes that are not UTF-8 become U+FFFD."""
    body = part('name="a"', "é\r\n\0%22".encode()) + part('name="b"', b"\xff") + part('name="c"') + CLOSING

    response = client.post(url, content=body, headers=FORM)

    assert response.json() == {"fields": {"a": "é\r\n\0%22", "b": "\ufffd", "c": ""}, "files": []}


def test_a_form_without_parts_is_an_empty_answer(client, url):
    """A closing boundary alone is a valid form without fields and files."""
    response = client.post(url, content=CLOSING, headers=FORM)

    assert (response.status_code, response.json()) == (200, {"fields": {}, "files": []})


def test_every_content_arrives(client, url, inbox):
    """Content that looks like boundaries or line ends arrives unchanged, however the body is cut."""
    fragments = st.sampled_from([b"\r", b"\n", b"\r\n", b"--", b"\r\n--", b"\r\n--A", b"--B--", b"\0", b"x"])
    contents = st.lists(fragments | st.binary(max_size=20), max_size=12).map(b"".join)

    @settings(max_examples=60, deadline=None)
    @given(
        content=contents.filter(lambda content: b"\r\n--B" not in b"\r\n" + content + b"\r\n"),
        sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    )
    def check(content, sizes):
        body = file_part("content", content) + CLOSING
        pieces = [body[start : start + sizes[0]] for start in range(0, len(body), sizes[0])]
        (file,) = client.post(url, content=iter(pieces), headers=FORM).json()["files"]
        assert (file["size"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        (path,) = inbox.iterdir()
        assert path.read_bytes() == content
        path.unlink()

    check()


def test_a_browser_gets_a_page_to_upload_from(client, url):
    """GET answers with a page that has a multipart/form-data form; HEAD answers the same without the page."""
    page = client.get(url)

    assert page.status_code == 200
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert '<form method="post" enctype="multipart/form-data">' in page.text
    assert client.head(url).headers["Content-Length"] == str(len(page.content))


def test_every_answer_has_a_date(client, url):
    """A server with a clock sends Date (RFC 9110, section 6.6.1)."""
    answers = [client.get(url), client.post(url, content=CLOSING, headers=FORM), client.delete(url)]

    assert all("Date" in response.headers for response in answers)


# Where files are stored


@pytest.mark.parametrize(
    ("filename", "name"),
    [
        ("beach.jpg", "beach.jpg"),
        ("Überstrand 海滩 🏖.jpg", "Überstrand 海滩 🏖.jpg"),
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("C:\\Users\\me\\beach.jpg", "beach.jpg"),
        ("..\\..\\beach.jpg", "beach.jpg"),
        ("photos/", "upload"),
        ("", "upload"),
        ("..", "upload"),
        (".bashrc", "bashrc"),
        ("beach.jpg. .", "beach.jpg"),
        ("a\0b\r\n\x7f.txt", "a_b___.txt"),
        ("beach\u202egpj.exe", "beach_gpj.exe"),
        ("beach.jpg:stream", "beach.jpg_stream"),
        ('<a>"b"|c?*', "_a__b__c__"),
        ("NUL", "_NUL"),
        ("con.tar.gz", "_con.tar.gz"),
        ("LPT¹ .txt", "_LPT¹ .txt"),
        ("console.txt", "console.txt"),
        ("x" * 300 + ".jpeg", "x" * 195 + ".jpeg"),
        ("海" * 100 + ".jpg", "海" * 65 + ".jpg"),
        ("x" * 300 + "." + "y" * 50, "x" * 180 + "." + "y" * 19),
        ("x" * 300 + ". long suffix with spaces", "x" * 180 + ". long suffix with s"),
        ("x" * 300 + ". long suffix with  spaces", "x" * 180 + ". long suffix with"),
    ],
)
def test_a_file_is_stored_under_a_harmless_name(client, url, inbox, filename, name):
    """Only the base name is used, without parts that a system or a terminal could misread."""
    client.post(url, content=file_part(filename) + CLOSING, headers=FORM)

    assert list(stored(inbox)) == [name]


def test_no_filename_leaves_the_directory(client, url, inbox):
    """Any filename gives one new file in the directory with a portable name, as the answer says."""
    fragments = [
        "/",
        "\\",
        "..",
        ".",
        "~",
        ":",
        "\0",
        "\r\n",
        " ",
        '"',
        "%",
        "%22",
        "CON",
        "nul",
        "com1",
        "C:",
    ]
    characters = st.characters(exclude_categories=["Cs"])
    filenames = st.lists(st.sampled_from(fragments) | st.text(characters, max_size=100), max_size=8).map(
        "".join
    )
    forbidden = {*string.printable[-5:], *map(chr, range(32)), *'<>:"/\\|?*'}

    @settings(max_examples=150, deadline=None)
    @given(filename=filenames)
    def check(filename):
        response = client.post(url, content=file_part(filename, b"content") + CLOSING, headers=FORM)
        (file,) = response.json()["files"]
        assert file["filename"] == filename.replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")
        assert list(inbox.parent.iterdir()) == [inbox]
        (path,) = inbox.iterdir()
        assert path.is_file()
        assert path.read_bytes() == b"content"
        assert not forbidden & set(path.name)
        assert path.name[0] != "."
        assert path.name[-1] not in ". "
        assert len(path.name.encode()) <= 255
        assert path.stem.partition(".")[0].strip().upper() not in {"CON", "PRN", "AUX", "NUL", "COM1", "LPT1"}
        path.unlink()

    check()


def test_a_file_never_replaces_another(client, url, inbox):
    """A repeated name gets a number before its suffix, even within one upload."""
    inbox.joinpath("beach (1).jpg").write_bytes(b"mine")
    body = file_part("beach.jpg", b"1") + file_part("beach.jpg", b"2") + file_part("README", b"3") + CLOSING

    client.post(url, content=body, headers=FORM)
    client.post(url, content=file_part("README", b"4") + CLOSING, headers=FORM)

    assert stored(inbox) == {
        "beach.jpg": b"1",
        "beach (1).jpg": b"mine",
        "beach (2).jpg": b"2",
        "README": b"3",
        "README (1)": b"4",
    }


def test_concurrent_uploads_of_one_name_are_all_stored(url, inbox):
    """Simultaneous uploads never get the same name."""
    count = 8
    together = threading.Barrier(count)

    def send(number):
        with connected(url) as sock:
            body = file_part("beach.jpg", b"%d" % number) + CLOSING
            sock.sendall(head(Content_Length=len(body)) + body[:-1])
            together.wait(PATIENCE)
            sock.sendall(body[-1:])
            return answer(sock)[0]

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        assert set(pool.map(send, range(count))) == {200}
    files = stored(inbox)
    assert set(files) == {"beach.jpg"} | {f"beach ({number}).jpg" for number in range(1, count)}
    assert set(files.values()) == {b"%d" % number for number in range(count)}


@posix_only
def test_a_symbolic_link_is_not_followed(client, url, inbox, tmp_path):
    """A link in the directory counts as a taken name, even if it is broken."""
    outside = tmp_path / "outside"
    inbox.joinpath("beach.jpg").symlink_to(outside)

    client.post(url, content=file_part("beach.jpg", b"content") + CLOSING, headers=FORM)

    assert not outside.exists()
    assert inbox.joinpath("beach (1).jpg").read_bytes() == b"content"


@posix_only
def test_a_file_has_the_permissions_of_any_new_file(client, url, inbox):
    """The umask decides, as for any file of the user."""
    inbox.joinpath("ordinary").touch()

    client.post(url, content=file_part("uploaded") + CLOSING, headers=FORM)

    assert inbox.joinpath("uploaded").stat().st_mode == inbox.joinpath("ordinary").stat().st_mode


# What it refuses


@pytest.mark.parametrize(
    ("headers", "rest", "error"),
    [
        ({"Content-Type": "application/json"}, CLOSING, "Content-Type"),
        ({"Content-Type": "multipart/form-data"}, CLOSING, "Content-Type"),
        ({"Content-Type": "multipart/form-data; boundary="}, CLOSING, "Content-Type"),
        ({"Content-Type": "multipart/form-data; boundary=" + "B" * 300}, CLOSING, "oundary"),
        ({"Content-Type": "multipart/form-data; boundary=C"}, CLOSING, "boundary"),
        ({}, CLOSING, "Content-Type"),
        (FORM, b"", "closing boundary"),
        (FORM, file_part("half")[:-2], "closing boundary"),
        (FORM, b"--B\r\nno colon\r\n\r\n\r\n" + CLOSING, "invalid character"),
        (FORM, b"--B\r\nContent-Type: text/plain\r\n\r\n\r\n" + CLOSING, "no name"),
        (FORM, part('filename="beach.jpg"') + CLOSING, "no name"),
        (FORM, part('name="a"', b"", *[b"X: y"] * 100) + CLOSING, "header count"),
        (FORM, part('name="' + "a" * 10_000 + '"') + CLOSING, "header size"),
        (FORM, part('name="a"') * 1000 + CLOSING, "more than 1000 parts"),
        (
            FORM,
            part('name="a"', bytes(2**19)) * 2 + part('name="a"', b"!") + CLOSING,
            "more than 1048576 bytes",
        ),
    ],
)
def test_a_malformed_body_is_a_400(client, url, inbox, headers, rest, error):
    """The answer says what is wrong, and the files before it are deleted."""
    response = client.post(url, content=file_part("before", b"content") + rest, headers=headers)

    assert response.status_code == 400
    assert error in response.json()["error"]
    assert stored(inbox) == {}


def test_a_body_at_the_limits_is_taken(client, url, inbox):
    """1000 parts and 1 MiB of fields are accepted."""
    files = [file_part(f"{number}") for number in range(999)]
    body = part('name="a"', bytes(2**20)) + b"".join(files) + CLOSING

    assert client.post(url, content=body, headers=FORM).status_code == 200
    assert len(stored(inbox)) == len(files)


def test_another_method_is_a_405(client, url):
    """The answer lists the allowed methods."""
    response = client.patch(url, content=CLOSING, headers=FORM)

    assert response.status_code == 405
    assert response.headers["Allow"] == "GET, HEAD, POST, PUT"
    assert "POST" in response.json()["error"]


def test_a_body_of_exactly_the_limit_is_taken(client, inbox):
    """The limit is for the whole body, and a body of exactly that size is accepted."""
    body = file_part("content", b"content") + CLOSING
    with receiver.running(inbox, max_size=len(body)) as url:
        taken = client.post(url, content=body, headers=FORM)
        refused = client.post(url, content=body + b"!", headers=FORM)

    assert (taken.status_code, refused.status_code) == (200, 413)
    assert list(stored(inbox)) == ["content"]


def test_a_body_that_announces_too_much_is_a_413_at_once(url, inbox, patient):
    """The answer comes during the body, and the client may continue until it reads it."""
    body = file_part("content", bytes(2**22)) + CLOSING
    with connected(url) as sock:
        sock.sendall(head(Content_Length=len(body)) + body[:100])
        status, content = answer(sock)
        sock.sendall(body[100:-1])

    assert (status, content) == (413, {"error": "The body is longer than 4194304 bytes."})
    assert stored(inbox) == {}


def test_a_client_that_expects_continue_gets_its_413_first(url):
    """With Expect: 100-continue the only answer is the 413 (RFC 9110, section 10.1.1)."""
    with connected(url) as sock:
        sock.sendall(head(Content_Length=2**40, Expect="100-continue"))

        assert sock.recv(13) == b"HTTP/1.1 413 "


def test_a_body_without_a_length_is_a_413_when_it_crosses_the_limit(url, inbox):
    """What was stored before is deleted."""
    body = file_part("content", bytes(2**22))
    with connected(url) as sock:
        sock.sendall(head(Transfer_Encoding="chunked") + b"%x\r\n" % len(body) + body)
        status, _ = answer(sock)

    assert status == 413
    assert stored(inbox) == {}


def test_a_refused_connection_is_closed(url, monkeypatch):
    """The receiver closes the connection even if the client does not."""
    monkeypatch.setattr(server, "_LINGER", 0.0)
    with connected(url) as sock:
        sock.sendall(head(Content_Length=2**40))

        with http.client.HTTPResponse(sock) as response:
            response.begin()
            response.read()
        assert (response.status, response.headers["Connection"]) == (413, "close")
        assert has_ended(sock)


def test_a_client_that_sends_everything_first_gets_its_413(client, url, patient):
    """The rest of the body is read, so that no reset destroys the answer."""
    body = file_part("content", bytes(2**24)) + CLOSING

    assert client.post(url, content=body, headers=FORM).status_code == 413


# Interrupted uploads


def test_a_client_that_goes_away_leaves_nothing(inbox, has_begun):
    """The file is on disk under a hidden name while it arrives, and is deleted when the client leaves."""
    with receiver.running(inbox) as url, connected(url) as sock:
        sock.sendall(head(Content_Length=1000) + file_part("content", b"some") + file_part("next")[:-2])
        assert has_begun.wait(PATIENCE)
        assert all(name.startswith(".") for name in stored(inbox))
        assert b"some" in stored(inbox).values()

    assert stored(inbox) == {}


def test_stopping_ends_a_stalled_upload(inbox, has_begun):
    """Leaving the block does not wait for clients, and deletes their uploads."""
    with contextlib.ExitStack() as stack:
        with receiver.running(inbox) as url:
            sock = stack.enter_context(connected(url))
            sock.sendall(head(Content_Length=1000) + file_part("content", b"some")[:-2])
            assert has_begun.wait(PATIENCE)
            assert len(stored(inbox)) == 1

        assert stored(inbox) == {}
        assert has_ended(sock)


def test_stopping_waits_for_the_storing_of_a_complete_upload(inbox, monkeypatch):
    """A body that has arrived completely is stored: its file has its name when the block ends."""
    storing, stopping = threading.Event(), threading.Event()
    keep = form.ReceivedFile.keep

    def keep_later(file, directory):
        storing.set()
        assert stopping.wait(PATIENCE)
        keep(file, directory)

    monkeypatch.setattr(form.ReceivedFile, "keep", keep_later)
    body = file_part("content", b"some") + CLOSING
    with contextlib.ExitStack() as stack:
        with receiver.running(inbox) as url:
            sock = stack.enter_context(connected(url))
            sock.sendall(head(Content_Length=len(body)) + body)
            assert storing.wait(PATIENCE)
            watch = threading.Thread(target=lambda: has_ended(sock) and stopping.set())
            stack.callback(watch.join)
            watch.start()

        assert stored(inbox) == {"content": b"some"}


def test_stopping_does_not_wait_for_a_refused_client(inbox, patient):
    """A client that still sends after its 413 does not delay the end."""
    with contextlib.ExitStack() as stack:
        with receiver.running(inbox, max_size=1) as url:
            sock = stack.enter_context(connected(url))
            sock.sendall(head(Content_Length=1000))
            assert answer(sock)[0] == 413

        assert has_ended(sock)


def test_a_full_disk_is_a_500(client, url, inbox, monkeypatch):
    """The answer says why, and every part of the upload is deleted, even files with their final name."""
    keep = form.ReceivedFile.keep

    def keep_the_first(file, directory):
        if file.filename == "second":
            raise OSError(28, "No space left on device")
        keep(file, directory)

    monkeypatch.setattr(form.ReceivedFile, "keep", keep_the_first)
    response = client.post(url, content=file_part("first") + file_part("second") + CLOSING, headers=FORM)

    assert response.status_code == 500
    assert "No space left on device" in response.json()["error"]
    assert stored(inbox) == {}


def test_a_deleted_directory_is_a_500(client, url, inbox):
    """The receiver survives, and says what is missing."""
    shutil.rmtree(inbox)

    response = client.post(url, content=file_part("content") + CLOSING, headers=FORM)

    assert response.status_code == 500
    assert os.strerror(2) in response.json()["error"]


# running()


def test_without_a_directory_a_temporary_one_is_used(client, has_begun, tmp_path, monkeypatch):
    """Files go to a temporary directory, which is removed in the end with its content."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with receiver.running() as url:
        client.post(url, content=file_part("content", b"some") + CLOSING, headers=FORM)
        (directory,) = tmp_path.iterdir()
        assert stored(directory) == {"content": b"some"}

    assert list(tmp_path.iterdir()) == []


def test_a_missing_directory_is_created(tmp_path):
    """Its parents are created too; existing files stay."""
    directory = tmp_path / "a" / "b"
    for _ in range(2):
        with receiver.running(str(directory)):
            directory.joinpath("mine").touch()

    assert list(stored(directory)) == ["mine"]


def test_a_file_in_place_of_the_directory_is_an_error(tmp_path):
    """running() raises it on entry, and leaves nothing running."""
    path = tmp_path / "file"
    path.touch()
    threads = threading.active_count()

    with pytest.raises(NotADirectoryError), receiver.running(path):
        pass
    assert threading.active_count() == threads


def test_it_listens_on_loopback_only(url):
    """The URL is a loopback address with a port, and other addresses do not answer."""
    address = httpx.URL(url)

    assert (address.scheme, address.host, address.path) == ("http", "127.0.0.1", "/")
    if sys.platform == "linux":  # all of 127/8 is this machine
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", address.port), timeout=PATIENCE)


def test_several_run_side_by_side(client):
    """Each has its own port and directory."""
    body = file_part("content") + CLOSING
    with receiver.running() as first, receiver.running() as second:
        assert first != second
        assert client.post(first, content=body, headers=FORM).status_code == 200
        assert client.post(second, content=body, headers=FORM).status_code == 200


def test_it_runs_inside_a_running_loop():
    """In asyncio, and in a Jupyter kernel, the loop stays free for the client."""

    async def send():
        with receiver.running() as url:
            async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as client:
                return await client.post(url, content=file_part("content") + CLOSING, headers=FORM)

    assert asyncio.run(send()).status_code == 200


def test_it_runs_on_a_worker_thread(client):
    """It needs neither the main thread nor signals."""

    def send():
        with receiver.running() as url:
            return client.post(url, content=file_part("content") + CLOSING, headers=FORM)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert pool.submit(send).result(PATIENCE).status_code == 200


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_in_the_block_passes_through(error):
    """The receiver stops, and the caller's exception is raised."""
    threads = threading.active_count()

    with pytest.raises(error, match="mine"), receiver.running():
        raise error("mine")
    assert threading.active_count() == threads


def descriptors():
    """The number of this process's open descriptors."""
    return len(list(Path("/dev/fd").iterdir()))


@posix_only
def test_nothing_stays_open(inbox, has_begun):
    """After the block no new thread, socket or file is left, whether connections were idle, finished or stalled."""
    with receiver.running(inbox):  # opens what stays open after the first use
        pass
    gc.collect()
    before, threads_before = descriptors(), set(threading.enumerate())

    with contextlib.ExitStack() as stack:
        with receiver.running(inbox) as url:
            idle, finished, stuck = (stack.enter_context(connected(url)) for _ in range(3))
            finished.sendall(head(Content_Length=len(CLOSING)) + CLOSING)
            assert answer(finished)[0] == 200
            stuck.sendall(head(Content_Length=1000) + file_part("content", b"some")[:-2])
            assert has_begun.wait(PATIENCE)
        assert all(map(has_ended, (idle, finished, stuck)))
    gc.collect()

    assert descriptors() == before
    # An idle thread of an earlier upload may end meanwhile.
    assert set(threading.enumerate()) <= threads_before


def test_stopping_closes_a_connection_that_is_being_accepted():
    """A client that connects during the stop is closed like any other."""
    for _ in range(20):
        with contextlib.ExitStack() as stack:
            with receiver.running() as url:
                clients = [stack.enter_context(connected(url)) for _ in range(20)]
            assert all(map(has_ended, clients))
        gc.collect()  # a lost socket is a ResourceWarning


def test_it_prints_nothing(client, capfd):
    """Starting, uploading, refusing and stopping write nothing to the standard streams."""
    with receiver.running(max_size=1000) as url:
        client.get(url)
        client.post(url, content=file_part("content") + CLOSING, headers=FORM)
        client.post(url, content=bytes(2000), headers=FORM)

    assert capfd.readouterr() == ("", "")


# serve()


@contextlib.contextmanager
def served(arguments, setup="pass"):
    """Run `serve()` in a separate process; return the URL that it printed first."""
    code = f"import signal; {setup}; from rxupload import receiver; receiver.serve({arguments})"
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=os.environ | {"PYTHONUTF8": "1"},
    ) as process:
        try:
            line = process.stdout.readline()
            yield process, line.partition(" at ")[2].partition(" into ")[0]
        finally:
            process.kill()


CTRL_C_WORKS = "signal.signal(signal.SIGINT, signal.default_int_handler)"
CTRL_C_IGNORED = "signal.signal(signal.SIGINT, signal.SIG_IGN)"  # as for a background job of a shell


@posix_only
@pytest.mark.parametrize(
    ("setup", "ending"),
    [(CTRL_C_WORKS, signal.SIGINT), (CTRL_C_WORKS, signal.SIGTERM), (CTRL_C_IGNORED, signal.SIGTERM)],
)
def test_serve_prints_its_uploads_until_it_is_stopped(client, inbox, setup, ending):
    """It prints the URL, then a line for each upload; Ctrl-C and SIGTERM end it quietly with success."""
    body = file_part("../海滩.jpg", b"content") + CLOSING
    with served(f"port=0, directory={os.fspath(inbox)!r}, max_size=1000", setup) as (process, url):
        statuses = [
            client.post(url, content=content, headers=FORM).status_code
            for content in (body, body, CLOSING, body * 2, b"\r\n--B?", bytes(2000))
        ]
        process.send_signal(ending)
        out, err = process.communicate(timeout=PATIENCE)

    assert statuses == [200, 200, 200, 200, 400, 413]
    assert out.splitlines() == [
        "Received 海滩.jpg (7 bytes)",
        "Received 海滩 (1).jpg (7 bytes)",
        "Received no files",
        "Received 海滩 (2).jpg (7 bytes)",
        "Refused: 400 Did not find CR at end of boundary (5)",
        "Refused: 413 The body is longer than 1000 bytes.",
    ]
    assert (process.returncode, err) == (0, "")
    assert set(stored(inbox)) == {"海滩.jpg", "海滩 (1).jpg", "海滩 (2).jpg"}


@posix_only
def test_serve_prints_any_filename_in_any_encoding(client, inbox):
    """A terminal with an encoding that lacks a character does not fail the upload."""
    setup = "import sys; sys.stdout.reconfigure(encoding='ascii')"
    with served(f"port=0, directory={os.fspath(inbox)!r}", setup) as (process, url):
        assert client.post(url, content=file_part("é") + CLOSING, headers=FORM).status_code == 200
        assert process.stdout.readline() == "Received \\xe9 (0 bytes)\n"


def test_serve_listens_on_the_given_address(client, inbox):
    """An IPv6 address works, and is in brackets in the URL."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with served(f"'::1', 0, {os.fspath(inbox)!r}") as (_, url):
        assert url.startswith("http://[::1]:")
        assert client.get(url).status_code == 200


def test_a_taken_port_is_an_error(url, inbox):
    """The error is raised at once, so that the command can print it."""
    with pytest.raises(OSError, match=r"."):
        receiver.serve(port=httpx.URL(url).port, directory=inbox)


# The extra


@pytest.mark.parametrize("missing", ["uvicorn", "starlette", "python_multipart"])
def test_without_the_extra_the_import_says_what_to_install(missing):
    """The error names the extra instead of an unknown package."""
    code = f"import sys; sys.modules[{missing!r}] = None; import rxupload.receiver"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False)

    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("ImportError: ")
    assert 'pip install "rxupload[receiver]"' in result.stderr


def test_the_public_names():
    """These two are the public names."""
    assert receiver.__all__ == ["running", "serve"]
    assert Path(receiver.__file__).parent.name == "receiver"
