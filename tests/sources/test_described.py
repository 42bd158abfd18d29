"""The names that file objects have of their own."""

from __future__ import annotations

import bz2
import gzip
import lzma
from contextlib import closing

import pytest
from support.owner import FakeOwner
from support.pieces import read_all

from rxupload import upload
from rxupload._sources import make_source

URL = "http://server.test"


def read(source):
    with closing(make_source(source).open(FakeOwner())) as reader:
        return read_all(reader)


@pytest.mark.parametrize(
    ("module", "name", "expected"),
    [
        (gzip, "data.csv.gz", "data.csv"),
        (gzip, "DATA.CSV.GZ", "DATA.CSV"),
        (gzip, "archive.tgz", "archive.tar"),
        (gzip, "plain", "plain"),
        (bz2, "data.csv.bz2", "data.csv"),
        (lzma, "data.csv.xz", "data.csv"),
        (lzma, "data.csv.lzma", "data.csv"),
    ],
)
def test_the_filename_of_what_decompresses(module, name, expected, tmp_path):
    """What decompresses gives plain bytes, so that the filename has no suffix of the compression."""
    path = tmp_path / name
    with module.open(path, "wb") as file:
        file.write(b"content")
    with module.open(path) as file:
        source = make_source(file)
        assert source.default_filename == expected
        assert read(file) == b"content"
    with path.open("rb") as file:
        assert make_source(file).default_filename == name


def test_a_file_object_opened_by_bytes(tmp_path):
    """A file object that was opened by a path of bytes has its filename."""
    path = tmp_path / "a.jpg"
    path.write_bytes(b"a")
    with open(str(path).encode(), "rb") as file:  # noqa: PTH123
        assert "a.jpg" in repr(upload(URL, file))


def test_the_underscore_name_of_pythons_that_the_library_uses(tmp_path):
    """Before Python 3.13, BZ2File and LZMAFile have their file only in `_fp`; `described` relies on that name."""
    for module in (bz2, lzma):
        with module.open(tmp_path / "a", "wb") as file:
            assert hasattr(file, "name") or file._fp.name == str(tmp_path / "a")
