"""State files whose values somebody has changed: the upload goes on or begins anew, and nothing fails of the damage."""

from __future__ import annotations

import contextlib
import copy
import json
import logging
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import google_server, ietf_server, tus_server

from rxupload._cli import main
from rxupload.resumable import FileStore, GoogleResumable, IetfResumable, Tus, upload_resumable

KIB = 1 << 10
MIB = 1 << 20

SENSELESS: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    1.5,
    "",
    "x",
    "-1",
    "10000000",
    "\0",
    "\ud800",
    "asked",
    [],
    {},
]
SENSELESS += [
    float("nan"),
    float("inf"),
    float("-inf"),
    1e300,
    2**63,
    10**400,
    -(10**18),
    "9" * 5000,
    "5" * 64,
]
SENSELESS += [
    "http://",
    "http://[",
    "http://xn--a/x",
    "ftp://a/b",
    "http://:0/",
    "//a",
    "/files/x",
    "http://a:70000/",
]
SENSELESS += [
    json.loads("[" * 90 + "]" * 90),
    {"url": "http://["},
    '{"url": "x"}',
    "[" * 99_999,
    "null",
    "[]",
]

KINDS = ["tus", "parallel", "google", "ietf"]


class Case:
    """An upload that has stopped half-way.

    Attributes:
        folder: Of the store.
        path: Of the state file.
        state: What that had.
    """

    def __init__(self, folder, up: Callable[[FileStore], Any], has_it: Callable[[], bool]) -> None:
        self.folder = folder
        self._up = up(FileStore(folder))
        self._has_it = has_it
        with pytest.raises(httpx.NetworkError):
            self._up.run()
        (self.path,) = folder.glob("*.json")
        self.state = json.loads(self.path.read_bytes())

    def put(self, state) -> None:
        """Write the state file."""
        self.path.write_text(json.dumps(state), encoding="ascii")

    def goes_on(self) -> bool:
        """Whether the next run succeeds, the server has the file then, and the state is gone."""
        is_success = self._up.run().is_success
        return is_success and self._has_it() and not self.path.exists()


@contextlib.contextmanager
def _case(kind, folder, file):
    content = file.read_bytes()
    with contextlib.ExitStack() as stack:
        protocol, path = Tus(parallel=2 if kind == "parallel" else 1), "files"
        if kind == "google":
            script, server = stack.enter_context(google_server.google_server())
            script.then("PUT", google_server.broken_after(300 * KIB))
            protocol, uploads = GoogleResumable(), script.sessions
        elif kind == "ietf":
            script, server = stack.enter_context(ietf_server.ietf_server())
            script.limits = "min-append-size=1"
            script.then("PATCH", ietf_server.broken_after(300 * KIB))
            protocol, uploads, path = IetfResumable(form="file"), script.uploads, "photos"
        else:
            model = tus_server.Tus(extensions="creation,concatenation" if kind == "parallel" else "")
            script, server = stack.enter_context(tus_server.tus_server(model))
            script.then("PATCH", *[tus_server.broken_after(300 * KIB)] * protocol.parallel)
            script.most = 700 * KIB  # so that the state has a size of chunks
            uploads = script.uploads

        def up(store):
            address = f"{server.url}{path}"
            return upload_resumable(address, file, store=store, protocol=protocol, timeout=120)

        case = Case(folder, up, lambda: any(content in each.content for each in uploads.values()))
        if kind in ("tus", "parallel"):
            script.wait_until_left()  # the other part may have been stopped, and its request is still to be read
        script.answers.clear()
        yield case


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    path = tmp_path_factory.mktemp("films") / "film.mp4"
    path.write_bytes(bytes(range(256)) * (8 * KIB) + b"the end")
    return path


@pytest.fixture(params=KINDS)
def case(request, tmp_path, film):
    """An upload of each kind, on a server that runs."""
    with _case(request.param, tmp_path / "state", film) as case:
        yield case


def places(value: Any) -> list[list[str]]:
    """The paths of all values in an object of JSON."""
    if not isinstance(value, dict):
        return [[]]
    return [[]] * bool(value) + [[name, *path] for name, inner in value.items() for path in places(inner)]


def changed(state, path: list[str], value: Any, *, is_gone: bool = False):
    """A copy of a state with another value at a path."""
    made = copy.deepcopy(state)
    inner = made
    *folders, name = path
    for each in folders:
        inner = inner[each]
    if is_gone:
        del inner[name]
    else:
        inner[name] = value
    return made


DAMAGES = {
    "a URL that is none": (["entry", "url"], "http://["),
    "a URL of another kind": (["entry", "url"], "ftp://server.test/file"),
    "a relative URL": (["entry", "url"], "/files/secret0"),
    "a host that IDNA refuses": (["entry", "url"], "http://xn--a/files/secret0"),
    "a port that none has": (["entry", "url"], "http://127.0.0.1:70000/files/secret0"),
    "a word as the number of parts": (["entry", "extra", "parts"], "abc"),
    "a million parts": (["entry", "extra", "parts"], "1000000"),
    "fewer parts than none": (["entry", "extra", "parts"], "-1"),
    "one part": (["entry", "extra", "parts"], "1"),
    "a part that is no JSON": (["entry", "extra", "part 0"], "{"),
    "a part that is deep": (["entry", "extra", "part 0"], "[" * 100_000),
    "a part that is a list": (["entry", "extra", "part 0"], "[]"),
    "a part without a URL": (["entry", "extra", "part 0"], "{}"),
    "a part with a wrong URL": (["entry", "extra", "part 0"], '{"url": "http://["}'),
    "a part beyond the last": (["entry", "extra", "part 9"], '{"url": "http://127.0.0.1/"}'),
    "a word as a limit": (["entry", "extra", "min-append-size"], "x"),
    "a state that none has": (["entry", "extra", "complete"], "x"),
    "a boundary that none has": (["entry", "extra", "boundary"], "x\r\ny"),
    "an unknown name": (["entry", "extra", "x"], "y"),
    "a chunk of nothing": (["entry", "chunk_size"], 0),
    "a chunk of less than nothing": (["entry", "chunk_size"], -1),
    "a chunk of truth": (["entry", "chunk_size"], True),
    "a chunk that is no number": (["entry", "chunk_size"], float("nan")),
    "a chunk that nothing can have": (["entry", "chunk_size"], 10**400),
    "a file that nothing can have": (["entry", "identity", "size"], 10**400),
    "a beginning that is no number": (["entry", "created"], float("nan")),
    "an end that is no number": (["entry", "expires"], float("nan")),
    "an end that never comes": (["entry", "expires"], float("inf")),
    "an end that is a word": (["entry", "expires"], "tomorrow"),
    "more sent than there is": (["entry", "sent"], 2**40),
    "less sent than nothing": (["entry", "sent"], -1),
    "another protocol": (["protocol"], "smtp"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_upload_with_a_senseless_value_begins_anew(case, caplog, damage):
    """A warning says what is wrong, without the upload's address, and the state is replaced."""
    caplog.set_level(logging.WARNING, "rxupload")
    case.put(changed(case.state, *DAMAGES[damage]))
    assert case.goes_on()
    (warning,) = [each.getMessage() for each in caplog.records if "is ignored" in each.getMessage()]
    assert str(case.path) in warning
    assert "secret" not in warning


@pytest.mark.parametrize("case", ["google"], indirect=True)
def test_a_chunk_that_the_protocol_does_not_take_is_not_remembered(case, caplog):
    """A part of Google's protocol is a multiple of 256 KiB."""
    case.put(changed(case.state, ["entry", "chunk_size"], 1000))
    assert case.goes_on()
    assert "is ignored" in caplog.text


@pytest.mark.parametrize("protocol", ["tus", "google", "ietf"])
def test_an_upload_of_another_protocol_is_not_gone_on_with(case, protocol):
    """The values of one would be senseless to another."""
    case.put(changed(case.state, ["protocol"], protocol))
    assert case.goes_on()


anything = st.sampled_from(SENSELESS) | st.text(max_size=20) | st.integers() | st.floats()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(data=st.data())
def test_no_change_of_a_state_makes_an_upload_fail(case, capsys, monkeypatch, data):
    """Whatever two values are, the command lists and cleans, and then the upload succeeds."""
    state = case.state
    for _ in range(2):
        path = data.draw(st.sampled_from([each for each in places(state) if each]))
        if path[-1] == "extra":
            path = [
                *path,
                data.draw(st.sampled_from(["parts", "part 0", "min-append-size", "complete", "boundary"])),
            ]
        is_gone = path[-1] not in {"parts", "part 0", "min-append-size"} and data.draw(st.booleans())
        with contextlib.suppress(KeyError, TypeError):
            state = changed(state, path, data.draw(anything), is_gone=is_gone)
    monkeypatch.setenv("XDG_STATE_HOME", str(case.folder.parent))
    link = case.folder.parent / "rxupload"
    if not link.exists():
        link.symlink_to(case.folder)
    for action in (["list"], ["list", "--json"], ["clean"]):
        case.put(state)
        assert main(["resumable", *action]) == 0
        assert "secret" not in "".join(capsys.readouterr())
    case.put(state)
    try:
        assert case.goes_on()
    except ValueError as error:  # documented: a server may say that
        assert "the server takes at least" in str(error)  # noqa: PT017
    case.put(case.state)


@pytest.mark.parametrize("case", ["tus"], indirect=True)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(noise=st.binary(max_size=40), at=st.integers(0, 700), length=st.integers(0, 40))
def test_no_noise_in_a_state_makes_an_upload_fail(case, noise, at, length):
    """Some bytes of the file are others. A host that has become another one is an error of the network."""
    data = json.dumps(case.state).encode()
    case.path.write_bytes(data[:at] + noise + data[at + length :])
    with contextlib.suppress(httpx.NetworkError, httpx.RemoteProtocolError):
        assert case.goes_on()
    case.put(case.state)
