"""The callback API over real sockets, each rule with its number: the form, headers, paths, redirects."""

from __future__ import annotations

import asyncio
import json
import threading

import httpx
import pytest
from reactivex.scheduler.eventloop import AsyncIOScheduler
from support.recording_callbacks import RecordingCallbacks
from support.recording_observer import observe
from support.running_tasks import MIB, start, under_way
from support.scripted_server import PATIENCE, Server, client_context, header
from support.stepped_server import SteppedServer

from rxupload import Progress, RedirectRefused, UploadAborted, UploadTimeout, receiver, upload, uploadtask
from rxupload.testing import Connection
from rxupload.uploadtask import UploadTask, uploadFile

# Rules 11 and 12


def test_rule_11_form_data(photo):
    """str, int, float and bool are sent, None is omitted, the empty str is kept; fields come before the file."""
    form_data = {"s": "\u00fc", "i": 5, "f": 1.5, "yes": True, "no": False, "none": None, "empty": ""}
    with receiver.running() as url:
        result = uploadFile(RecordingCallbacks().object(url, photo, formData=form_data)).result(PATIENCE)
    fields = json.loads(result["data"])["fields"]
    assert fields == {"s": "\u00fc", "i": "5", "f": "1.5", "yes": "true", "no": "false", "empty": ""}


def test_rule_12_header(photo, server):
    """Values are str or numbers; the body keeps its own Content-Type."""
    recorder = RecordingCallbacks()
    given = {"X-Text": "a", "X-Int": 5, "X-Float": 1.5, "content-type": "text/plain"}
    start(recorder, server.url, photo, header=given)
    request = server.next_request()
    assert header(request.head, b"x-text") == b"a"
    assert header(request.head, b"x-int") == b"5"
    assert header(request.head, b"x-float") == b"1.5"
    assert header(request.head, b"content-type").startswith(b"multipart/form-data; boundary=")
    request.read_all()
    request.respond()
    recorder.wait()


def test_file_name_and_content_type(photo):
    """`fileName` and `contentType` replace what the path gives."""
    with receiver.running() as url:
        task = uploadFile(
            RecordingCallbacks().object(url, photo), fileName="\u2605.png", contentType="image/x"
        )
        (file,) = json.loads(task.result(PATIENCE)["data"])["files"]
    assert (file["filename"], file["content_type"], file["size"]) == ("\u2605.png", "image/x", 5000)


# Rules 13 and 14


def test_rule_13_headers(photo):
    """Keys have the server's spelling; a header that comes several times is a list, in any spelling."""

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.respond(200, b"", "X-MiXed: 1", "Set-Cookie: a=1", "set-cookie: b=2", "Set-Cookie: c=3")

    recorder = RecordingCallbacks()
    with Server(script) as server:
        start(recorder, server.url, photo)
        recorder.wait()
    headers = {"Content-Length": "0", "X-MiXed": "1", "Set-Cookie": ["a=1", "b=2", "c=3"]}
    assert recorder.res["headers"] == headers
    assert recorder.of("headers") == [{"headers": headers}]


@pytest.mark.parametrize(
    ("content_type", "body", "data"),
    [
        ("", b"", ""),
        ("", "\u00e4".encode(), "\u00e4"),
        ("", b"a\xff", "a\ufffd"),
        ("text/plain; charset=iso-8859-1", b"\xe4", "\u00e4"),
        ("text/plain; charset=utf-16", "\u00e4".encode("utf-16"), "\u00e4"),
        ("text/plain; charset=no-such", "\u00e4".encode(), "\u00e4"),
        ("text/plain; charset=hex", b"\xe4", "\ufffd"),
        ("text/plain; charset=undefined", b"a", "a"),
        ("application/json", b"\xef\xbb\xbf{}", "{}"),
    ],
)
def test_rule_14_data(photo, content_type, body, data):
    """The data is always a str, by the charset or else UTF-8 with replacement; one leading BOM is dropped."""

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.respond(200, body, *[f"Content-Type: {content_type}"] * bool(content_type))

    with Server(script) as server:
        assert uploadFile(RecordingCallbacks().object(server.url, photo)).result(PATIENCE)["data"] == data


@pytest.mark.parametrize("folder", ["cache", "files", "mass", "tmp"])
@pytest.mark.parametrize("configured", [True, False])
def test_rule_15_internal(internal, folder, configured, monkeypatch):
    """An internal path lies under the root, which is set by configure or the environment."""
    if configured:
        uploadtask.configure(internal_root=internal)
    else:
        monkeypatch.setenv("RXUPLOAD_INTERNAL_ROOT", str(internal))
    with receiver.running() as url:
        task = uploadFile(RecordingCallbacks().object(url, f"internal://{folder}/sub/../sub/a.txt"))
        (file,) = json.loads(task.result(PATIENCE)["data"])["files"]
    assert (file["filename"], file["size"]) == ("a.txt", len(folder))


def test_rule_15_no_root():
    """Without a root, the message says how to set one."""
    recorder = RecordingCallbacks()
    uploadFile(recorder.object("http://127.0.0.1:9/", "internal://mass/a.txt"))
    assert recorder.wait().code == 202
    (data, _), *_ = recorder.of("fail")
    assert "configure(internal_root=" in data
    assert "RXUPLOAD_INTERNAL_ROOT" in data


@pytest.mark.parametrize(
    "path",
    [
        "internal://mass/../../secret",
        "internal://mass/../cache/sub/a.txt",
        "internal://mass//etc/hosts",
        "internal://other/a.txt",
        "internal://",
        "internal://mass/sub",
        "internal://mass",
        "internal://mass/link",
        "internal://mass/folder/secret",
    ],
)
def test_rule_15_a_path_outside_is_refused(internal, path):
    """A path that leaves its folder is refused, even through a symbolic link; so is a directory."""
    if "link" in path or "folder" in path:
        try:
            (internal / "mass/link").symlink_to(internal.parent / "secret")
            (internal / "mass/folder").symlink_to(internal.parent)
        except OSError:
            pytest.skip("this system makes no symbolic links for us")
    uploadtask.configure(internal_root=internal)
    recorder = RecordingCallbacks()
    uploadFile(recorder.object("http://127.0.0.1:9/", path))
    assert recorder.wait().code == 202
    assert recorder.of("fail")[0][0].startswith("filePath")


def test_rule_15_a_link_inside_is_followed(internal):
    """A symbolic link that stays in its folder is followed, and keeps its name."""
    try:
        (internal / "mass/link.txt").symlink_to(internal / "mass/sub/a.txt")
    except OSError:
        pytest.skip("this system makes no symbolic links for us")
    uploadtask.configure(internal_root=internal)
    with receiver.running() as url:
        task = uploadFile(RecordingCallbacks().object(url, "internal://mass/link.txt"))
        (file,) = json.loads(task.result(PATIENCE)["data"])["files"]
    assert (file["filename"], file["size"]) == ("link.txt", 4)


def test_rule_15_a_directory_is_refused(tmp_path):
    """An ordinary path to a directory is a wrong argument too."""
    recorder = RecordingCallbacks()
    uploadFile(recorder.object("http://127.0.0.1:9/", tmp_path))
    assert recorder.wait().code == 202
    assert str(tmp_path) in recorder.of("fail")[0][0]


# Rule 16


def test_rule_16_progress_never_falls_over_a_redirect(film, server):
    """A 307 sends the body again; progress waits until the second pass has overtaken the first."""
    recorder, late = RecordingCallbacks(), RecordingCallbacks()
    task = start(recorder, server.url, film)
    observed, _ = observe(task.events)
    passes = RecordingCallbacks()
    task.events.subscribe(lambda item: passes.headers(item.attempt) if isinstance(item, Progress) else None)
    under_way(server, recorder).respond(307, b"", "Location: /again")
    second = server.next_request()
    assert second.path == "/again"
    passes.wait_for(lambda passes: 2 in passes.of("headers"))
    before = recorder.sent[-1]
    second.read(before // 2)
    task.onProgressUpdate(late.progress)  # while the second pass is behind
    late.wait_for(lambda late: late.sent == [before])
    second.read_all()
    second.respond(201)
    assert recorder.wait().res["statusCode"] == 201
    assert all(earlier < later for earlier, later in zip(recorder.sent, recorder.sent[1:], strict=False))
    assert recorder.of("progress")[-1]["progress"] == 100
    assert late.sent == recorder.sent[-len(late.sent) :]
    assert {item.attempt for item in observed.wait().progress} == {1, 2}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_rule_16_redirect_after_the_whole_body(photo, status):
    """100 is reported once, the last response counts, and 301, 307 and 308 send the body again."""

    def script(connection: Connection) -> None:
        head = connection.read_head()
        body = connection.read_body() if header(head, b"content-length") else b""
        again = head.split(b" ")[1] == b"/again"
        connection.respond(
            200 if again else status, str(len(body)).encode(), "Location: /again", "Connection: close"
        )

    recorder = RecordingCallbacks()
    with Server(script) as server:
        start(recorder, server.url, photo)
        assert recorder.wait().res["data"] == (str(recorder.sent[-1]) if status in (301, 307, 308) else "0")
    assert [res["progress"] for res in recorder.of("progress")].count(100) == 1


@pytest.mark.parametrize("count", [20, 21])
def test_rule_16_at_most_twenty_redirects(photo, count):
    """20 redirects are followed; the 21st fails with code 200."""

    def script(connection: Connection) -> None:
        head = connection.read_head()
        number = int(head.split(b" ")[1][1:])
        if length := header(head, b"content-length"):
            connection.read(int(length))
        connection.respond(
            303 if number < count else 200, b"", f"Location: /{number + 1}", "Connection: close"
        )

    recorder = RecordingCallbacks()
    with Server(script) as server:
        start(recorder, server.url + "0", photo)
        recorder.wait()
    if count == 20:
        assert recorder.res["statusCode"] == 200
    else:
        assert recorder.code == 200
        assert "redirect" in recorder.of("fail")[0][0]


@pytest.mark.parametrize("follow", [True, None, "same-origin"])
def test_rule_16_url_is_the_address_that_answered(photo, follow):
    """The URL is that of a same-origin redirect, with its query, but without user, password and fragment."""

    def script(connection: Connection) -> None:
        head = connection.read_head()
        connection.read_body()
        again = b"/again" in head
        connection.respond(200 if again else 308, b"", "Location: /again?id=5#part", "Connection: close")

    recorder = RecordingCallbacks()
    with Server(script) as server:
        url = server.url.replace("http://", "http://user:password@")
        task = start(recorder, url, photo, followRedirects=follow)
        assert recorder.wait().res["url"] == f"{server.url}again?id=5"
        assert task.result()["url"] == f"{server.url}again?id=5"


def test_rule_16_redirects_may_be_off(photo):
    """With False, the redirect is the response, and the URL is the first one."""

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.respond(307, b"", "Location: /again")

    with Server(script) as server:
        result = uploadFile(RecordingCallbacks().object(server.url, photo), followRedirects=False).result(
            PATIENCE
        )
    assert (result["statusCode"], result["url"]) == (307, server.url)
    assert result["headers"]["Location"] == "/again"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_rule_16_a_redirect_is_refused(photo, scheme):
    """Another origin under "same-origin", and https to http always, fail with code 200 and show no secret."""

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.respond(307, b"", "Location: http://user:secret@other.test/there?token=secret")

    recorder = RecordingCallbacks()
    with (
        Server(script, tls=scheme == "https") as server,
        httpx.Client(verify=client_context(), trust_env=False) as client,
    ):
        follow = "same-origin" if scheme == "http" else True
        task = start(recorder, server.url, photo, followRedirects=follow, client=client)
        assert recorder.wait().code == 200
        with pytest.raises(RedirectRefused):
            task.result()
    (data, _), *_ = recorder.of("fail")
    assert "http://other.test/there" in data
    assert "secret" not in data


def test_rule_16_start_keeps_the_uploads_settings(photo):
    """`Upload.start()` keeps the upload's redirect setting and time limit."""
    with Server(lambda connection: connection.serve(307)) as server:
        task = upload(server.url, photo).start()
        assert isinstance(task, UploadTask)
        assert task.result(PATIENCE)["statusCode"] == 307
    with SteppedServer() as server, pytest.raises(UploadTimeout):
        upload(server.url, photo, timeout=0.1).start().result(PATIENCE)


def test_start_gives_a_task_with_listeners_and_abort(film, server):
    """A task from `Upload.start()` has listeners, abort, await and the loop, like one from uploadFile."""

    async def main() -> None:
        recorder = RecordingCallbacks()
        task = upload(server.url, film).start(scheduler=AsyncIOScheduler(asyncio.get_running_loop()))
        task.onProgressUpdate(recorder.progress)
        request = await asyncio.to_thread(server.next_request)
        await asyncio.to_thread(request.read, 2 * MIB)
        await asyncio.to_thread(recorder.wait_for, lambda recorder: recorder.calls)
        assert task.state == "uploading"
        task.abort()
        with pytest.raises(UploadAborted):
            await task
        assert recorder.idents == {threading.get_ident()}

    asyncio.run(main())
