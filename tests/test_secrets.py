"""No secret in any text: errors, their causes and notes, tracebacks, reprs, `fail` data and logs."""

from __future__ import annotations

import contextlib
import io
import logging
import threading
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import httpx
import httpx2
import pytest
import reactivex
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.recording_callbacks import RecordingCallbacks
from support.scripted_server import Server

import rxupload
from rxupload import File, UploadTransport, upload
from rxupload._plan import Plan
from rxupload._redirects import Hop
from rxupload.operators import Retry, raise_for_status, retry_backoff
from rxupload.testing import Connection
from rxupload.uploadtask import uploadFile

WORD = "hunter2"
MARKS = st.sampled_from(
    ["#", "?", "/", "@", ":", "\\", "%", "[", "]", " ", "é", "\n", "\x7f", "&", "=", "", "#?/@"]
)


@pytest.fixture(scope="module")
def busy() -> Iterator[Server]:
    """A server that answers every upload with 503, and closes its connection: it would give up an idle one."""
    with Server(lambda connection: connection.serve(503, b"busy", "Connection: close")) as server:
        yield server


class Texts(logging.Handler):
    """Collects all that a person might read: errors with all that belongs to them, reprs, and the log of all levels.

    With a client of a user's own, the log of its library is not ours.
    """

    def __init__(self, *, has_own_client: bool = False) -> None:
        super().__init__()
        if has_own_client:
            self.addFilter(logging.Filter("rxupload"))
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said += [record.getMessage(), *([str(record.exc_info)] if record.exc_info else [])]

    def add(self, error: BaseException | None) -> None:
        """Add an error, and its causes and contexts, shown or not."""
        while error is not None:
            self.said += [str(error), repr(error), *getattr(error, "__notes__", ())]
            self.said += traceback.format_exception_only(error)
            error = error.__cause__ or error.__context__

    @contextlib.contextmanager
    def of(self) -> Iterator[None]:
        """Collect the log and the error of a block."""
        root = logging.getLogger()
        level = root.level
        root.addHandler(self)
        root.setLevel(logging.DEBUG)
        try:
            yield
        except Exception as error:
            self.add(error)
        finally:
            root.setLevel(level)
            root.removeHandler(self)

    def check(self, *secrets: str) -> None:
        assert self.said
        for secret in secrets:
            assert not [text for text in self.said if secret in text]


def outcome(make: Callable[[], Any]) -> Texts:
    """All that is said of an upload, until its end."""
    texts = Texts()
    with texts.of():
        up = make()
        texts.said.append(repr(up))
        response = rxupload.run(up.pipe(raise_for_status()))
        texts.said.append(repr(response))
    return texts


# The address


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mark=MARKS, more=MARKS, tail=MARKS, is_digit=st.booleans())
def test_no_text_has_a_secret_of_the_address(busy, tmp_path, mark, more, tail, is_digit):
    """A password with any character in it, a token in the query and one in the fragment are in no text."""
    begin = "1" if is_digit else WORD  # after a number, the address with a mark in it is valid
    url = f"http://127.0.0.1:{begin}{mark}{more}{WORD}@127.0.0.1:{busy.port}/photos?token={tail}{WORD}#{WORD}"
    outcome(lambda: upload(url, b"data")).check(WORD)

    recorder = RecordingCallbacks()
    file = tmp_path / "photo.jpg"
    file.write_bytes(b"data")
    texts = Texts()
    with texts.of():
        uploadFile(recorder.object(url, file))
        texts.said += [str(end) for end in recorder.wait().of("fail")] or ["a response"]
    texts.check(WORD)


@pytest.mark.parametrize(
    "url",
    [
        f"http://u:{WORD}#x@h/",
        f"http://u:12#{WORD}@h/",
        f"http://{WORD}#x@h/",
        f"http://{WORD}?x@h/",
        f"http://{WORD}/pa..th#x@h/",
        f"http://u:{WORD}\n@h/",
        f"http://u:{WORD}/x@h/",
        f"http://u:{WORD}:x/@h/",
        f"{WORD}:x-oauth-basic@h/",
        f"http:{WORD}@h/",
        f"{WORD}@h/",
        f"http://{WORD}..x/y@h/",
        f"http://{'x' * 64}{WORD}/y@h/",
        f"http://u:{WORD}@a..h/",
        f"http://u:{WORD}@xn--a/",
        f"http://u:{WORD}@h:99999/",
        f"ftp://u:{WORD}@h/",
    ],
)
def test_a_wrong_address_is_refused_without_a_quote(url):
    """It is a ValueError at the call, whose text and causes do not have the secret."""
    texts = Texts()
    with pytest.raises(ValueError, match=r"^url: ") as caught:
        upload(url, b"data")
    texts.add(caught.value)
    texts.check(WORD)


@pytest.mark.parametrize(
    "url", [f"http://u:12#{WORD}@h/", f"ftp://u:{WORD}@h/", f"{WORD}:x@h/", f"//{WORD}@xn--a/"]
)
def test_a_wrong_url_object_is_refused_without_a_quote(url):
    """An httpx.URL is refused in the same way."""
    texts = Texts()
    with pytest.raises(ValueError, match=r"^url: ") as caught:
        upload(httpx.URL(url), b"data")
    texts.add(caught.value)
    texts.check(WORD)


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_an_error_status_shows_no_secret_of_the_address(busy, library):
    """The HTTPStatusError of both operators, with its notes, has the address without user, password and query."""
    url = f"http://user:{WORD}@127.0.0.1:{busy.port}/photos?token={WORD}"
    texts = Texts()

    def said(retry: Retry) -> None:
        texts.said.append(repr(retry))

    with library.Client(trust_env=False) as client:
        up = upload(url, b"data", client=client)
        retried = retry_backoff(attempts=2, wait_initial=0, wait_jitter=0, on_retry=said)
        for operator in (raise_for_status(), retried):
            with pytest.raises(library.HTTPStatusError) as caught:
                rxupload.run(up.pipe(operator))
            assert str(caught.value) == f"Server error '503 Service Unavailable' for url '{busy.url}photos'"
            texts.add(caught.value)
    texts.check(WORD)


def test_the_default_client_logs_no_secret_at_any_level(busy):
    """The log at DEBUG has the address, the method and the status, and neither userinfo nor query."""
    texts = outcome(lambda: upload(f"http://u:{WORD}@127.0.0.1:{busy.port}/photos?token={WORD}", b"data"))
    assert any(f"POST {busy.url}photos: 503" in text for text in texts.said)
    texts.check(WORD)


def test_a_redirect_shows_no_secret_of_its_location():
    """Neither the log nor the error of the next request shows what is in a Location."""
    location = f"http://u:{WORD}@127.0.0.1:1/there?token={WORD}#{WORD}"

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.respond(307, b"", f"Location: {location}")

    with Server(script) as server:
        for follow in (True, "same-origin", False):
            texts = outcome(partial(upload, server.url, b"data", follow_redirects=follow))
            texts.check(WORD)


# Headers


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    mark=st.sampled_from(["é", "\n", "\r\nX: y", "\0", "\x7f", "日", "\ud800"]),
    place=st.sampled_from(["begin", "end", "name"]),
    kind=st.sampled_from(["upload", "rxupload", "httpx", "httpx2", "uploadFile", "pairs", "bytes"]),
)
def test_no_text_has_the_value_of_a_header(busy, tmp_path, mark, place, kind):
    """A value that cannot be sent is in no text, and neither is what stands in the place of a name."""
    value = {"begin": f"{mark}Bearer {WORD}", "end": f"Bearer {WORD}{mark}"}.get(place, "x")
    headers: Any = {f"Bearer {WORD}{mark}" if place == "name" else "Authorization": value}
    texts = Texts(has_own_client=kind.startswith("httpx"))
    with texts.of():
        match kind:
            case "uploadFile":
                recorder = RecordingCallbacks()
                file = tmp_path / "photo.jpg"
                file.write_bytes(b"data")
                uploadFile(recorder.object(busy.url, file, header=headers))
                texts.said += [str(end) for end in recorder.wait().of("fail")]
            case "rxupload":
                rxupload.Client(headers=headers).close()
            case "httpx" | "httpx2":
                encoded = [
                    (name.encode("ascii", "replace"), value.encode("utf-8", "replace"))
                    for name, value in headers.items()
                ]
                library = {"httpx": httpx, "httpx2": httpx2}[kind]
                with library.Client(headers=encoded, trust_env=False) as client:
                    upload(busy.url, b"data", client=client).run()
                texts.said.append("sent")
            case "bytes":
                upload(busy.url, b"data", headers=[(b"X", value.encode("utf-8", "replace"))]).run()
                texts.said.append("sent")
            case _:
                upload(busy.url, b"data", headers=list(headers.items()) if kind == "pairs" else headers)
    texts.check(WORD)


def test_the_error_of_a_header_names_it():
    """It names the header, and says what to do."""
    with pytest.raises(
        ValueError, match=r"headers: .* only ASCII, unlike the value of 'X-Token'; .* pass bytes"
    ):
        upload("http://h/", b"data", headers={"X-Fine": "a", "X-Token": "\u00e9"})
    with pytest.raises(ValueError, match="headers: the name of number 2 is not a header name"):
        upload("http://h/", b"data", headers={"X-Fine": "a", "X Token": "b"})


# Proxies

PROXIES = [
    f"http://u:{WORD}#x@127.0.0.1:1/",
    f"http://127.0.0.1:1#{WORD}@h/",
    f"http://127.0.0.1:1/{WORD}@h/",
    f"http://127.0.0.1:1?{WORD}@h/",
    f"http://{WORD}#x@h/",
    f"http://{WORD}/x@h/",
    f"http://u:{WORD}\n@h/",
    f"{WORD}:x@h:80",
    f"nonsense://u:{WORD}@h",
    f"http://u:{WORD}@h:port",
    f"http://u:{WORD}@a..h",
    f"http://u:{WORD}@xn--a/",
    f"socks4://u:{WORD}@h",
    f"http://u:{WORD}@127.0.0.1:1",
    f"socks5://u:{WORD}@127.0.0.1:1",
]


@pytest.mark.parametrize("number", range(len(PROXIES)))
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY", "proxy"])
def test_no_text_has_the_password_of_a_proxy(monkeypatch, number, variable):
    """The text of a wrong proxy, or of one that refuses, shows no part of its password."""
    proxy = PROXIES[number]
    for name in ("HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    if variable.isupper():
        monkeypatch.setenv(variable, proxy)
    texts = Texts()
    with texts.of():
        options: dict[str, Any] = {"proxy": proxy} if variable == "proxy" else {}
        with rxupload.Client(**options) as client:
            upload("http://upload.test/photos", b"data", client=client).run()
    texts.check(WORD)
    assert not any(each in text for text in texts.said for each in ("127.0.0.1:1#", "127.0.0.1:1/"))


@pytest.mark.parametrize("number", range(10))
def test_the_transport_refuses_a_wrong_proxy_without_a_quote(number):
    """`UploadTransport` raises a ValueError that names the argument, with no cause that quotes it."""
    texts = Texts()
    with pytest.raises(ValueError, match=r"^proxy: expected the URL of a proxy") as caught:
        UploadTransport(proxy=PROXIES[number])
    texts.add(caught.value)
    texts.check(WORD)


@pytest.mark.parametrize("number", range(1, 4))
def test_a_wrong_proxy_object_is_refused(number):
    """A Proxy of httpx is refused in the same way."""
    with pytest.raises(ValueError, match=r"^proxy: expected the URL of a proxy"):
        UploadTransport(proxy=httpx.Proxy(PROXIES[number]))


# Contents


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (b"hunter2", "<bytes of 7 bytes>"),
        (bytearray(b"hunter2"), "<bytearray of 7 bytes>"),
        (memoryview(b"hunter2"), "<memoryview of 7 bytes>"),
        ([b"hunter2"], "<list>"),
        ((b"hunter2",), "<tuple>"),
        (iter([b"hunter2"]), "<list_iterator>"),
        (io.BytesIO(b"hunter2"), "<BytesIO>"),
        (partial(iter, [b"hunter2"]), "<partial>"),
        (reactivex.of(b"hunter2"), "<Observable>"),
        ("beach.jpg", "'beach.jpg'"),
    ],
)
def test_the_repr_of_a_file_shows_no_contents(source, text):
    """It shows a path, the size of bytes, and the type of anything else."""
    assert repr(File(source)) == f"File({text})"
    assert repr(File(source, "photo", size=7)) == f"File({text}, name='photo', size=7)"


def test_no_repr_shows_fields_or_headers():
    """Neither an upload, its plan nor a hop shows them, nor the events of a batch."""
    up = upload(
        f"http://u:{WORD}@h/?{WORD}",
        b"hunter2",
        headers={"X": WORD},
        form_data={"password": WORD, "b": [WORD]},
    )
    plans = [value for value in vars(up).values() if isinstance(value, Plan)]
    assert plans
    hop = Hop(f"http://u:{WORD}@h/", "POST", [(b"X", WORD.encode())])
    event = rxupload.ItemFailed(0, up, ValueError("x"))
    for each in (up, *plans, hop, event, plans[0].body, *plans[0].body.parts):
        assert WORD not in repr(each)


def test_the_log_of_other_threads_is_collected():
    """The collector of these tests hears a thread of an upload."""
    texts = Texts()
    with texts.of():
        thread = threading.Thread(target=logging.getLogger("rxupload").debug, args=["heard"])
        thread.start()
        thread.join()
    assert "heard" in texts.said
