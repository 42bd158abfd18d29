"""What is in the file of an unfinished upload, and what becomes of a file that cannot be read."""

from __future__ import annotations

import json
import logging
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.stores import (
    HASH,
    NAME,
    NOW,
    SECRET,
    entry,
    key,
    posix,
    put,
    reread,
    stored,
    take,
)

from rxupload.resumable.file_store import FileStore
from rxupload.resumable.identity import Checkpoint, Identity
from rxupload.resumable.state_file import decoded, encoded
from rxupload.resumable.store import Entry


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def store(folder):
    return FileStore(folder)


def test_the_state_is_json_without_any_secret_but_the_url(store, folder):
    """The file says what it is, and has the values of the entry."""
    identity = Identity(10, 2, 3, 4, HASH)
    made = Entry(SECRET, NOW, NOW + 1, identity, Checkpoint(10, HASH), 5, 65536, {"a": "b"})
    stored(store, made)
    assert json.loads((folder / f"{NAME}.json").read_text()) == {
        "format": 1,
        "name": NAME,
        "protocol": "tus",
        "endpoint": "https://server.test/files",
        "path": str(key().path),
        "entry": {
            "url": SECRET,
            "created": NOW,
            "expires": NOW + 1,
            "identity": {"size": 10, "mtime_ns": 2, "ctime_ns": 3, "inode": 4, "ends": HASH},
            "checkpoint": {"offset": 10, "sha256": HASH},
            "sent": 5,
            "chunk_size": 65536,
            "extra": {"a": "b"},
        },
    }


def whole() -> dict[str, Any]:
    identity = {"size": 10, "mtime_ns": 2, "ctime_ns": 3, "inode": 4, "ends": HASH}
    inner = {"url": SECRET, "created": NOW, "identity": identity, "sent": 0, "extra": {}}
    about = {"name": NAME, "protocol": "tus", "endpoint": "https://server.test", "path": "/a"}
    return {"format": 1, **about, "entry": inner}


def with_value(path: str, value: Any) -> bytes:
    made = whole()
    inner = made
    *folders, name = path.split("/")
    for each in folders:
        inner = inner[each]
    inner[name] = value
    return json.dumps(made).encode()


DAMAGED = {
    "empty": (b"", "not JSON"),
    "truncated": (json.dumps(whole()).encode()[:-9], "not JSON"),
    "not text": (b"\xff\xfe\xff" + SECRET.encode(), "not JSON"),
    "nested": (b"[" * 100_000, "not JSON"),
    "a list": (b"[]", "not the state of an upload"),
    "foreign": (b'{"url": "5ecre7"}', "not the state of an upload"),
    "newer": (with_value("format", 2), "has the format 2"),
    "a word as format": (with_value("format", "5ecre7"), "not the state of an upload"),
    "of another upload": (with_value("name", key(1).name), "state of another upload"),
    "no entry": (with_value("entry", None), "state of another upload"),
    "large": (with_value("entry/extra", {"a": "b" * 1024 * 1024}), "too large"),
    "url": (with_value("entry/url", 1), "no valid 'url'"),
    "created": (with_value("entry/created", None), "no valid 'created'"),
    "NaN": (with_value("entry/created", float("nan")), "no valid 'created'"),
    "infinity": (with_value("entry/created", float("inf")), "no valid 'created'"),
    "true": (with_value("entry/created", True), "no valid 'created'"),
    "huge": (with_value("entry/created", 10**400), "no valid 'created'"),
    "expires": (with_value("entry/expires", "soon"), "no valid 'expires'"),
    "identity": (with_value("entry/identity", "5ecre7"), "no valid 'identity'"),
    "size": (with_value("entry/identity/size", -1), "no valid 'size'"),
    "mtime": (with_value("entry/identity/mtime_ns", 1.5), "no valid 'mtime_ns'"),
    "ends": (with_value("entry/identity/ends", "5ecre7"), "no valid 'ends'"),
    "checkpoint": (with_value("entry/checkpoint", {"offset": 10, "sha256": "x"}), "no valid 'sha256'"),
    "offset": (with_value("entry/checkpoint", {"offset": 11, "sha256": HASH}), "does not fit the file"),
    "block": (with_value("entry/checkpoint", {"offset": 9, "sha256": HASH}), "does not fit the file"),
    "start": (with_value("entry/checkpoint", {"offset": 0, "sha256": HASH}), "does not fit the file"),
    "chunk": (with_value("entry/chunk_size", "5ecre7"), "no valid 'chunk_size'"),
    "extra": (with_value("entry/extra", {"a": 1}), "no valid 'extra'"),
    "no extra": (with_value("entry/extra", None), "no valid 'extra'"),
}


def test_the_example_of_a_state_is_whole(store, folder):
    """What the damaged files are made of can be read."""
    put(folder, json.dumps(whole()).encode())
    assert reread(store).url == SECRET


@pytest.mark.parametrize(("data", "reason"), DAMAGED.values(), ids=DAMAGED)
def test_a_state_that_cannot_be_read_is_none(store, folder, caplog, data, reason):
    """A damaged, foreign or newer file is as none. A warning names the file and the reason, and no secret."""
    path = put(folder, data)
    caplog.set_level(logging.WARNING, "rxupload")
    slot = take(store)
    assert slot.entry is None
    (record,) = caplog.records
    warning = record.getMessage()
    assert str(path) in warning
    assert reason in warning
    assert "5ecre7" not in caplog.text
    slot.save(entry(1))
    slot.close()
    assert reread(store) == entry(1)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
PLACES = [*whole(), *(f"entry/{each}" for each in [*whole()["entry"], "checkpoint", "expires", "chunk_size"])]


@given(place=st.sampled_from(PLACES), value=json_values, cut=st.integers(0, 1000))
def test_no_damage_raises_anything_but_the_reason(place, value, cut):
    """Whatever is in a file, it is the state of an upload, or a ValueError that does not quote it."""
    data = with_value(place, value)[: cut or None]
    reason = ""
    try:
        found = decoded(data, NAME)
    except ValueError as error:
        reason = str(error)
    else:
        assert decoded(encoded(*found), NAME) == found
    assert "5ecre7" not in reason


@posix
@pytest.mark.parametrize("kind", ["a folder", "a pipe"])
def test_what_is_no_file_in_its_place_is_none(store, folder, caplog, kind):
    """A folder or a pipe with the name of a state is as none, and nothing hangs."""
    folder.mkdir(0o700)
    path = folder / f"{NAME}.json"
    path.mkdir() if kind == "a folder" else os.mkfifo(path)
    assert reread(store) is None
    assert str(path) in caplog.text
