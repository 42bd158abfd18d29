"""Mistakes that are refused at the call: file objects at their end, requests' tuples, arrays without bytes."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import re
import tempfile

import numpy as np
import pytest
from support.owner import FakeOwner
from support.pieces import read_all

from rxupload import File, upload
from rxupload._sources import make_source

URL = "http://server.test"
AT_ITS_END = "is a file object that stands at its end, so that nothing would be sent; seek(0)?"


def read(source):
    with contextlib.closing(make_source(source).open(FakeOwner())) as reader:
        return read_all(reader)


@contextlib.contextmanager
def written(kind, tmp_path):
    """A file object that was just written to."""
    makers = {
        "memory": io.BytesIO,
        "spooled": tempfile.SpooledTemporaryFile,
        "temporary": tempfile.TemporaryFile,
        "named": tempfile.NamedTemporaryFile,
        "file": lambda: (tmp_path / "a").open("wb+"),
        "unbuffered": lambda: (tmp_path / "a").open("wb+", buffering=0),
    }
    with makers[kind]() as file:
        file.write(b"content")
        yield file


@pytest.mark.parametrize("kind", ["memory", "spooled", "temporary", "named", "file", "unbuffered"])
def test_a_file_object_at_its_end_is_refused(kind, tmp_path):
    """A file object that was just written is a ValueError at the call, which names the argument; it does not move."""
    with written(kind, tmp_path) as file:
        with pytest.raises(ValueError, match=re.escape(f"file {AT_ITS_END}")):
            upload(URL, file)
        with pytest.raises(ValueError, match=re.escape(f"file[1] {AT_ITS_END}")):
            upload(URL, [b"a", File(file)])
        assert file.tell() == 7
        file.seek(0)
        assert read(file) == b"content"


@pytest.mark.parametrize("kind", ["memory", "spooled", "temporary", "file", "unbuffered"])
@pytest.mark.parametrize("position", [0, 3, 6])
def test_a_file_object_before_its_end_is_sent(kind, position, tmp_path):
    """One that stands elsewhere is sent from there, and the look at it does not move it."""
    with written(kind, tmp_path) as file:
        file.seek(position)
        upload(URL, file)
        assert file.tell() == position
        assert read(file) == b"content"[position:]


def test_an_empty_file_object_is_sent():
    """An empty file object stands at its start, and is sent."""
    assert read(io.BytesIO()) == b""


def test_a_file_object_beyond_its_end_is_refused():
    """One that stands beyond its end would send nothing either."""
    file = io.BytesIO(b"content")
    file.seek(20)
    with pytest.raises(ValueError, match=re.escape(AT_ITS_END)):
        upload(URL, file)


def test_a_function_that_returns_a_file_object_at_its_end():
    """What a function returns is looked at when it is opened."""

    def function():
        file = io.BytesIO()
        file.write(b"content")
        return file

    with pytest.raises(ValueError, match=re.escape(f"what the function returned {AT_ITS_END}")):
        make_source(function).open(FakeOwner())


def test_the_look_does_not_decompress_everything(tmp_path, monkeypatch):
    """In the middle of a compressed file, the look reads a byte and does not seek to the end."""
    path = tmp_path / "a.gz"
    with gzip.open(path, "wb") as file:
        file.write(bytes(1 << 20))
    with gzip.open(path) as file:
        file.read(10)
        seeks = []
        seek = file.seek
        monkeypatch.setattr(file, "seek", lambda *args: seeks.append(args) or seek(*args))
        upload(URL, file)
        assert not [args for args in seeks if os.SEEK_END in args[1:]]
        assert file.tell() == 10
        file.read()
        with pytest.raises(ValueError, match=re.escape(AT_ITS_END)):
            upload(URL, file)


# Tuples


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (("a.jpg", io.BytesIO(b"a"), "image/jpeg"), "filename='a.jpg', content_type='image/jpeg'"),
        (("a.jpg", b"a", "image/jpeg"), "filename='a.jpg', content_type='image/jpeg'"),
        (
            ("a.txt", b"a", "text/plain; charset=utf-8"),
            "filename='a.txt', content_type='text/plain; charset=utf-8'",
        ),
        (("a.jpg", b"a", "image/jpeg", {"X": "y"}), "filename='a.jpg', content_type='image/jpeg'"),
        (("a.jpg", b"a", None, {"X": "y"}), "filename='a.jpg'"),
        ((None, b"a", "image/jpeg"), "content_type='image/jpeg'"),
        ((None, b"a"), ""),
    ],
)
def test_the_tuple_of_requests_is_refused(given, shown):
    """requests' (filename, file, type) is a TypeError that says how a File says the same."""
    shown = f", {shown}" if shown else ""
    message = re.escape(f": a tuple means several files; for a name and a type give File(source{shown})")
    with pytest.raises(TypeError, match="file" + message):
        upload(URL, given)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (("a.jpg", io.BytesIO(b"a"), "image/jpeg"), "filename='a.jpg', content_type='image/jpeg'"),
        (("a.jpg", b"a", "image/jpeg", {"X": "y"}), "filename='a.jpg', content_type='image/jpeg'"),
        (("photo", b"a"), "name='photo'"),
        (("photo", ("a.jpg", b"a")), "name='photo', filename='a.jpg'"),
        (
            ("photo", ("a.jpg", b"a", "image/jpeg")),
            "name='photo', filename='a.jpg', content_type='image/jpeg'",
        ),
    ],
)
def test_a_tuple_of_requests_in_a_list_is_refused(given, shown):
    """In a list, requests' tuple may begin with the name of the form field."""
    message = re.escape(f": a tuple means several files; for a name and a type give File(source, {shown})")
    with pytest.raises(TypeError, match=re.escape("file[0]") + message):
        upload(URL, [given])
    with pytest.raises(TypeError, match=re.escape("file[1]") + message):
        upload(URL, [b"a", File(given)])


def test_the_short_tuple_of_requests(tmp_path):
    """A name and the file object of that name are requests' tuple, which would send the file twice."""
    path = tmp_path / "a.jpg"
    path.write_bytes(b"a")
    with path.open("rb") as file:
        with pytest.raises(TypeError, match=re.escape("give File(source, filename='a.jpg')")):
            upload(URL, ("a.jpg", file))
        assert upload(URL, ("b.jpg", file))


@pytest.mark.parametrize(
    "files",
    [
        ("a.jpg", "b.jpg"),
        ("a.jpg", "b.jpg", "image/c.jpg"),
        (b"a", b"b"),
        ("a.jpg", io.BytesIO(b"b")),
        ("a.jpg", io.BytesIO(b"b"), "folder/c.jpg"),
        ("a.jpg", b"b", "c.jpg"),
    ],
)
def test_a_tuple_of_files_is_several_files(files):
    """A tuple of paths, bytes and file objects is still several files."""
    assert repr(upload(URL, files)).count(" ") >= len(files)


def test_the_dict_of_requests_is_refused():
    """requests' dict is a TypeError that says where the field's name goes."""
    with pytest.raises(TypeError, match="not dict; the name of the form field is `name`"):
        upload(URL, {"file": b"a"})


# Arrays


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(3, "datetime64[s]"),
        np.zeros(3, "timedelta64[ms]"),
        np.array([None, "a"]),
        np.array([("a", None)], dtype=[("a", "U2"), ("b", object)]),
    ],
    ids=lambda array: str(array.dtype),
)
def test_an_array_without_bytes_is_refused(array):
    """An array that has no bytes to read is a TypeError at the call, with the argument and the dtype."""
    message = f"is an ndarray of {array.dtype}, which cannot be read as bytes; save it to an io.BytesIO"
    with pytest.raises(TypeError, match=re.escape(f"file {message}")):
        upload(URL, array)
    with pytest.raises(TypeError, match=re.escape(f"file[1] {message}")):
        upload(URL, [b"a", array])


def test_an_array_that_is_not_contiguous_is_refused():
    """A view with gaps is a ValueError that names the argument."""
    with pytest.raises(
        ValueError, match=re.escape("file[1] must be contiguous in memory; upload bytes(file[1])")
    ):
        upload(URL, [b"a", np.zeros((3, 3))[:, 1]])


def test_an_array_among_items_is_refused():
    """An array without bytes among the items of an iterable is a TypeError with its index."""
    with pytest.raises(TypeError, match="the iterable must give bytes, and its item 0 is ndarray"):
        read([np.zeros(3, "datetime64[s]")])


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=">i4").reshape(2, 3),
        np.arange(3, dtype=np.complex128),
        np.array(["a", "bc"]),
        np.array([(1, 2.0)], dtype=[("O", "i4"), ("b", "f8")]),
        np.zeros((0, 3)),
        np.array(5),
        np.array([True, False]),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_other_arrays_are_sent_as_their_bytes(array):
    """Any other array is sent as its bytes, whatever its type and shape."""
    assert read(array) == array.tobytes()
