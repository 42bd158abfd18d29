"""A server's charset decides nothing but text: `response.text`, `data` of `uploadFile`, and what the command prints."""

from __future__ import annotations

import codecs
import contextlib
import encodings
import io
import json
import pkgutil
from typing import Any

import httpx
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.scripted_server import PATIENCE, Server

import rxupload
from rxupload import upload
from rxupload._charset import settle_charset
from rxupload._cli import main
from rxupload.testing import Connection
from rxupload.uploadtask import uploadFile

WORD = "gr\u00fcn"
NO_CHARSETS = [
    "hex",
    "base64",
    "zlib",
    "bz2",
    "rot13",
    "rot-13",
    "uu",
    "quopri",
    "quoted-printable",
    "idna",
    "punycode",
    "undefined",
    "unicode_escape",
    "unicode-escape",
    "raw_unicode_escape",
    "utf-7",
    "charmap",
    "mbcs",
    "oem",
    "palmos",
    "string-escape",
    "cp9999",
    "iso8859_99",
    "no-such",
    "aliases",
    "../utf-8",
    "utf-8 hex",
    "",
    "a" * 50_000,
]
CHARSETS = [
    ("utf-8", "utf-8"),
    ('"UTF-8"', "utf-8"),
    ("'utf8'", "utf-8"),
    ("utf-8-sig", "utf-8-sig"),
    ("ISO-8859-1", "latin-1"),
    ("ISO_8859-1:1987", "latin-1"),
    ("latin1", "latin-1"),
    ("windows-1252", "cp1252"),
    ("cp437", "cp437"),
    ("macintosh", "mac_roman"),
    ("utf-16", "utf-16"),
    ("utf-16le", "utf-16-le"),
    ("UTF-16BE", "utf-16-be"),
    ("utf-32", "utf-32"),
    ("gb18030", "gb18030"),
    ("iso-8859-15; boundary=x", "iso8859-15"),
]


def response_of(content_type: str, content: bytes, library: Any = httpx, **options: Any) -> Any:
    made = library.Response(200, headers={"Content-Type": content_type}, content=content, **options)
    settle_charset(made)
    return made


def answering(content_type: str, content: bytes) -> Server:
    def script(connection: Connection) -> None:
        while connection.read_head():
            connection.read_body()
            connection.respond(200, content, f"Content-Type: {content_type}")

    return Server(script)


@pytest.mark.parametrize("library", [httpx, httpx2])
@pytest.mark.parametrize("number", range(len(NO_CHARSETS)))
def test_what_is_no_charset_is_utf_8(library, number):
    """The text is read as UTF-8, with U+FFFD for what is none."""
    content = WORD.encode() + b"\xff \\x41 +AEE- 68656c6c6f"
    response = response_of(f"text/plain; charset={NO_CHARSETS[number]}", content, library)
    assert response.text == f"{WORD}\ufffd \\x41 +AEE- 68656c6c6f"


@pytest.mark.parametrize("library", [httpx, httpx2])
@pytest.mark.parametrize(("name", "codec"), CHARSETS)
def test_a_charset_is_followed(library, name, codec):
    """Common names of charsets, in any case and in quotes, are Python's codecs."""
    assert response_of(f"text/plain; Charset = {name}", WORD.encode(codec), library).text == WORD


@pytest.mark.parametrize(
    ("charset", "content", "text"),
    [
        ("utf-16", "\u00e4".encode("utf-16-le"), "\u00e4"),
        ("utf-16", b"\xfe\xff" + "\u00e4".encode("utf-16-be"), "\u00e4"),
        ("utf-16", b"", ""),
        ("utf-16", b"\xe4", "\ufffd"),
        ("utf-32", "\u00e4".encode("utf-32-le"), "\u00e4"),
        ("ascii", b"a\xe4", "a\ufffd"),
    ],
)
def test_a_charset_without_its_marks_is_no_error(charset, content, text):
    """Without a byte order mark, UTF-16 and UTF-32 are little-endian, as in browsers."""
    assert response_of(f"text/plain; charset={charset}", content).text == text


@pytest.mark.parametrize(
    "header", ["charset*=utf-8''hex", "charset*0=he; charset*1=x", "xcharset=hex", "a=charset"]
)
def test_odd_parameters_are_utf_8(header):
    """Parameters in the form of RFC 2231, and others that only look like a charset, decide nothing."""
    assert response_of(f"text/plain; {header}", WORD.encode()).text == WORD


def test_without_a_charset_the_default_of_the_client_applies():
    """A client's own `default_encoding` is used as long as the server names nothing."""
    response = response_of("text/plain", WORD.encode("latin-1"), default_encoding="latin-1")
    assert response.text == WORD
    response = response_of("text/plain; charset=hex", WORD.encode(), default_encoding="latin-1")
    assert response.text == WORD


def test_a_text_that_a_hook_has_taken_is_kept():
    """If an event hook has read the text before, nothing fails."""
    with answering("text/plain; charset=latin-1", WORD.encode("latin-1")) as server:
        hooks: Any = {"response": [lambda response: response.read() and response.text]}
        with rxupload.Client(event_hooks=hooks, trust_env=False) as client:
            assert upload(server.url, b"data", client=client).run().text == WORD


@given(st.text(max_size=30), st.binary(max_size=60))
def test_no_content_type_makes_reading_the_text_fail(charset, content):
    """Whatever the server names, the text is a str that can be encoded."""
    content_type = f"text/plain; charset={charset}".encode("utf-8", "replace")
    made = httpx.Response(200, headers=[(b"Content-Type", content_type)], content=content)
    settle_charset(made)
    made.text.encode()


def codecs_of_python() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(encodings.__path__))


@pytest.mark.parametrize("name", codecs_of_python())
def test_every_codec_of_python_is_a_charset_or_utf_8(name):
    """Each decoder that may run gives text of any bytes, never raises, and makes at most one character of a byte."""
    content = bytes(range(256)) * 3 + b"+2AA- \\x41 a-b- ~{ \x1b$B!!"
    for spelling in (name, name.replace("_", "-").upper()):
        text = response_of(f"text/plain; charset={spelling}", content).text
        assert 0 < len(text) <= len(content)
        text.encode()


def test_no_decoder_is_slower_than_linear(monkeypatch):
    """Each body is decoded once, by a decoder that is written in C or is a table.

    punycode, which inserts each character into a list, and idna, which calls it for each label, are never used. By
    measurement, all others take twice the time for twice the size.
    """
    used: list[str] = []
    lookup = codecs.getincrementaldecoder
    monkeypatch.setattr(codecs, "getincrementaldecoder", lambda name: used.append(name) or lookup(name))
    names = codecs_of_python()
    for name in names:
        assert response_of(f"text/plain; charset={name}", b"a-").text
    assert len(used) == len(names)
    assert not {codecs.lookup(name).name for name in used} & {"idna", "punycode", "utf-7", "unicode_escape"}


# Each door


@pytest.mark.parametrize(
    "charset", ["hex", "zlib", "idna", "punycode", "undefined", "utf-7", "utf-16", "no-such"]
)
def test_every_door_reads_the_same_text(charset, tmp_path, capsys):
    """The response of `run`, `data` of `uploadFile`, and what `send` prints have the same text."""
    content = "\u00e4 +2AA- a-".encode("utf-16-le" if charset == "utf-16" else "utf-8")
    text = "\u00e4 +2AA- a-"
    file = tmp_path / "photo.jpg"
    file.write_bytes(b"data")
    with answering(f"text/plain; charset={charset}", content) as server:
        for client in (None, httpx.Client(trust_env=False), httpx2.Client(trust_env=False)):
            with client or contextlib.nullcontext():
                assert upload(server.url, b"data", client=client).run().text == text
        task = uploadFile(url=server.url, filePath=str(file), name="file")
        assert task.result(PATIENCE)["data"] == text
        assert main(["send", server.url, str(file), str(file), "-v"]) == 0
        assert capsys.readouterr().out.count(f"\n{text}\n") == 2
        assert main(["send", server.url, str(file), "--json"]) == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [line["body"] for line in lines if line["event"] == "response"] == [text]


def test_the_demo_prints_the_text_of_an_error(monkeypatch, capsys, tmp_path):
    """A receiver that answers the demo with an error and a wrong charset is reported with its text."""
    file = tmp_path / "photo.jpg"
    file.write_bytes(b"data")

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.respond(500, b"broken", "Content-Type: text/plain; charset=hex")

    with Server(script) as server:
        monkeypatch.setattr("rxupload.receiver.running", lambda _: contextlib.nullcontext(server.url))
        assert main(["demo", str(file)]) == 1
    assert "500 Internal Server Error: broken" in capsys.readouterr().err


def test_the_stream_of_a_body_is_not_read_twice():
    """Settling the charset does not read the body anew."""
    response = httpx.Response(
        200, headers={"Content-Type": "text/plain; charset=hex"}, content=io.BytesIO(b"ab")
    )
    response.read()
    settle_charset(response)
    assert response.text == "ab"
