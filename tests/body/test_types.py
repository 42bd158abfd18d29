"""The media types that a filename stands for: the same on every machine and in every version of Python."""

from __future__ import annotations

import mimetypes
import re
import subprocess
import sys

import pytest

from rxupload._body import guess_content_type
from rxupload._body.types import _TABLE, _TYPES

WORD = "application/vnd.openxmlformats-officedocument."
EXPECTED = {
    "photo.webp": "image/webp",
    "photo.AVIF": "image/avif",
    "photo.heic": "image/heic",
    "photo.heif": "image/heif",
    "photo.jxl": "image/jxl",
    "photo.jpg": "image/jpeg",
    "photo.svg": "image/svg+xml",
    "song.m4a": "audio/mp4",
    "song.flac": "audio/flac",
    "song.opus": "audio/opus",
    "song.ogg": "audio/ogg",
    "song.mp3": "audio/mpeg",
    "film.mp4": "video/mp4",
    "film.mkv": "video/matroska",
    "film.webm": "video/webm",
    "film.m4v": "video/x-m4v",
    "script.mjs": "text/javascript",
    "script.js": "text/javascript",
    "module.wasm": "application/wasm",
    "letter.docx": WORD + "wordprocessingml.document",
    "table.xlsx": WORD + "spreadsheetml.sheet",
    "slides.pptx": WORD + "presentationml.presentation",
    "letter.odt": "application/vnd.oasis.opendocument.text",
    "book.epub": "application/epub+zip",
    "table.parquet": "application/vnd.apache.parquet",
    "table.csv": "text/csv",
    "notes.md": "text/markdown",
    "settings.yaml": "application/yaml",
    "settings.toml": "application/toml",
    "lines.ndjson": "application/x-ndjson",
    "archive.zip": "application/zip",
    "archive.7z": "application/x-7z-compressed",
    "archive.tar.gz": "application/gzip",
    "archive.tgz": "application/gzip",
    "archive.tar.zst": "application/zstd",
    "archive.tar.xz": "application/x-xz",
    "archive.rar": "application/vnd.rar",
    "font.woff2": "font/woff2",
    "scene.glb": "model/gltf-binary",
    "text.txt": "text/plain",
    "page.html": "text/html",
    "data.json": "application/json",
    "data.xml": "text/xml",
    "no suffix": "application/octet-stream",
}


@pytest.fixture(params=["this machine's", "an empty", "a misleading"])
def database(request, monkeypatch):
    """The database of mimetypes, as machines have it: full, empty, or with types that a program has registered."""
    if request.param == "this machine's":
        return
    empty = mimetypes.MimeTypes(filenames=())
    empty.types_map = ({}, {})
    empty.types_map_inv = ({}, {})
    empty.encodings_map, empty.suffix_map = {}, {}
    if request.param == "a misleading":
        for suffix in _TYPES:
            empty.add_type("text/plain", suffix)
    monkeypatch.setattr(mimetypes, "_db", empty)


@pytest.mark.parametrize("filename", EXPECTED)
def test_the_type_of_a_filename(filename, database):
    """The type is right, whatever the machine's database has."""
    assert guess_content_type(filename) == EXPECTED[filename]


def test_a_suffix_that_the_table_does_not_have(monkeypatch):
    """For other suffixes the database of mimetypes decides, so that a program may add its own types."""
    assert guess_content_type("a.of-mine") == "application/octet-stream"
    database = mimetypes.MimeTypes(filenames=())
    database.add_type("application/x-mine", ".of-mine")
    monkeypatch.setattr(mimetypes, "_db", database)
    assert guess_content_type("a.of-mine") == "application/x-mine"


def test_the_table_has_all_types_of_python():
    """The table has every suffix that Python itself knows, but for some that are out of use."""
    code = "import mimetypes; print(*mimetypes.MimeTypes(filenames=()).types_map[1])"
    known = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True).stdout.split()
    assert len(known) > 100
    old = {
        ".ass",
        ".bcpio",
        ".cpio",
        ".csh",
        ".dvi",
        ".etx",
        ".gtar",
        ".hdf",
        ".ief",
        ".latex",
        ".loas",
        ".man",
    }
    old |= {
        ".me",
        ".mif",
        ".movie",
        ".mpa",
        ".ms",
        ".nws",
        ".oda",
        ".ra",
        ".ram",
        ".ras",
        ".rgb",
        ".roff",
        ".rtx",
    }
    old |= {".sgm", ".sgml", ".shar", ".src", ".sv4cpio", ".sv4crc", ".t", ".tcl", ".texi", ".texinfo", ".tr"}
    old |= {".ustar", ".wsdl", ".xbm", ".xpdl", ".xpm", ".xwd"}
    assert set(known) - set(_TYPES) - old == set()


def test_the_table_is_well_formed():
    """Each type has one line and each suffix one type, all in lower case and in order."""
    lines = [line.split() for line in _TABLE.strip().splitlines()]
    kinds = [kind for kind, *_ in lines]
    assert kinds == sorted(set(kinds))
    assert all(re.fullmatch(r"[a-z]+/[a-z0-9.+-]+", kind) for kind in kinds)
    suffixes = [suffix for _, *suffixes in lines for suffix in suffixes]
    assert len(suffixes) == len(set(suffixes)) == len(_TYPES)
    assert all(re.fullmatch(r"[a-z0-9]+", suffix) for suffix in suffixes)
