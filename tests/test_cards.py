"""The cards of uploads and of summaries in a notebook."""

from __future__ import annotations

import builtins
import io
import os
import re
from collections import Counter

import httpx
import pytest

from rxupload import BatchSummary, File, ItemFailed, Upload, upload
from rxupload._cards import amount, described, listed
from rxupload.uploadtask import uploadFile

URL = "http://upload.test/photos"


def texts(html):
    """The texts of each row of the tables, and the lines around them, without tags."""
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", html)]
    around = re.sub(r"<table>.*</table>", "", html)
    return rows, [
        re.sub(r"<[^>]*>", "", line) for line in around.split("</div>") if re.sub(r"<[^>]*>", "", line)
    ]


class TestUpload:
    def test_it_says_what_is_sent_and_where_to(self, tmp_path):
        """The card has the method, the address, each file with field, name, type and size, and the fields."""
        path = tmp_path / "beach.jpg"
        path.write_bytes(bytes(2_600_000))
        up = upload(
            URL,
            [path, File(b"a,b", filename="table.csv", name="table")],
            name="photo",
            form_data={"album": "summer", "year": "2024"},
            method="PUT",
        )
        rows, lines = texts(up._repr_html_())
        assert rows == [
            ["field", "file", "type", "size"],
            ["photo", "beach.jpg", "image/jpeg", "2.6 MB"],
            ["table", "table.csv", "text/csv", "3 bytes"],
        ]
        assert lines == [
            f"PUT {URL}",
            "with the fields album, year",
            "Not started: await it, or call .run() or .start().",
        ]

    @pytest.mark.parametrize(
        ("options", "kind"),
        [
            ({}, "text/plain"),
            ({"content_type": "a/b"}, "a/b"),
            ({"content_type": ""}, ""),
            ({"headers": {"Content-Type": "c/d"}}, "c/d"),
        ],
    )
    def test_a_raw_body_has_no_field(self, tmp_path, options, kind):
        """A raw body is a file, with the type that the request will have."""
        path = tmp_path / "a.txt"
        path.write_bytes(b"abcd")
        rows, _ = texts(upload(URL, path, raw=True, **options)._repr_html_())
        assert rows == [["file", "type", "size"], ["a.txt", kind, "4 bytes"]]

    @pytest.mark.parametrize(
        ("source", "size"),
        [
            (lambda path: path / "missing", "No such file or directory"),
            (lambda path: lambda: iter([b"x"]), "unknown"),
            (lambda path: closed(), "I/O operation on closed file."),
        ],
    )
    def test_a_size_that_cannot_be_told(self, tmp_path, source, size):
        """For a file that is missing or closed, the card says why there is no size; for an iterable, it is unknown."""
        rows, _ = texts(upload_of(source(tmp_path))._repr_html_())
        assert rows[1][-1] == size

    def test_it_opens_no_file(self, tmp_path, monkeypatch):
        """No file is opened or read for a card."""
        path = tmp_path / "a.txt"
        path.write_bytes(b"abcd")

        def refuse(*args, **kwargs):
            raise AssertionError("it opens a file")

        up = upload(URL, [path, File(refuse)])
        up._repr_html_()  # it loads its module
        with monkeypatch.context() as patched:
            for owner, name in ((builtins, "open"), (io, "open"), (os, "open")):
                patched.setattr(owner, name, refuse)
            html = up._repr_html_()
        assert "4 bytes" in html

    def test_it_has_at_most_ten_files_and_fields(self):
        """Of many files and fields, the first ten are shown and the others counted, and only those are measured."""
        fields = {f"field{number}": "" for number in range(12)}
        rows, lines = texts(upload(URL, [b"x"] * 25, form_data=fields)._repr_html_())
        assert len(rows) == 11
        assert lines[1] == "and 15 more files"
        assert lines[2].endswith("field8, field9 and 2 more")

    def test_it_has_no_secret_and_no_element_of_others(self):
        """User, password and query are left out, and so are the values of fields; all texts are escaped."""
        up = upload(
            "http://me:s3cret@upload.test/a?key=s3cret",
            File(b"s3cret", filename="<b>.txt"),
            form_data={"<i>": "s3cret"},
            headers={"Authorization": "s3cret"},
        )
        html = up._repr_html_()
        assert "s3cret" not in html
        assert "<i>" not in html
        assert "&lt;b&gt;.txt" in html


def closed() -> io.BytesIO:
    file = io.BytesIO(b"x")
    file.name = "a.txt"
    return file


def upload_of(source) -> Upload:
    up = upload(URL, source)
    if isinstance(source, io.BytesIO):
        source.close()
    return up


def summary(failures: int) -> BatchSummary:
    errors = [
        ItemFailed(
            index, upload(URL, b"x", filename=f"{index}.txt"), httpx.ConnectError(f"<no route {index}>")
        )
        for index in range(failures)
    ]
    return BatchSummary(3, failures, Counter({201: 2, 200: 1}), errors, 1_500_000, 2.25)


class TestSummary:
    def test_one_line(self):
        """Without a failure there is one line."""
        assert texts(summary(0)._repr_html_()) == (
            [],
            ["3 of 3 uploads done \u00b7 1.5 MB in 2.2 s \u00b7 status 200: 1, 201: 2"],
        )

    def test_at_most_ten_failures(self):
        """A table has the first ten failures, and a line the number of the others."""
        rows, lines = texts(summary(12)._repr_html_())
        assert rows[:2] == [
            ["index", "upload", "error"],
            ["0", f"&lt;Upload POST {URL} 0.txt&gt;", "ConnectError: &lt;no route 0&gt;"],
        ]
        assert len(rows) == 11
        assert lines == [
            "3 of 15 uploads done \u00b7 12 failed \u00b7 1.5 MB in 2.2 s \u00b7 status 200: 1, 201: 2",
            "and 2 more in .errors",
        ]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (2_600_000, "2.6 MB"),
        (1_000_000_000, "1.0 GB"),
    ],
)
def test_amount(size, text):
    """Bytes are told in units of 1000."""
    assert amount(size) == text


def test_an_error_is_told_without_secrets():
    """Addresses in the text of an error are shown without secrets."""
    assert described(OSError("http://u:s3cret@h/a?s3cret")) == "OSError: http://h/a"


def test_an_error_that_cannot_be_read_has_its_type():
    """If the text of an error raises, its type is told, and the card of a batch is drawn."""

    class OddError(Exception):
        def __str__(self):
            raise ValueError

    assert described(OddError()) == "OddError"
    summary = BatchSummary(0, 1, Counter(), [ItemFailed(0, upload(URL, b"x"), OddError())], 0, 1.0)
    assert '<td style="text-align:left">OddError</td>' in summary._repr_html_()


HOSTILE = "a\x1b[2J\u202e\n" + "x" * 1_000_000 + ".txt"


@pytest.mark.parametrize("raw", [False, True])
def test_a_hostile_name_spoils_no_text(raw):
    """A repr, a card and what a task is called have no control characters, and not all of a very long name."""
    up = upload(URL, HOSTILE if raw else File(b"x", filename=HOSTILE), raw=raw)
    task = up.start()
    task.abort()
    failed = uploadFile(url=URL, filePath=HOSTILE, name="file")
    failed.abort()
    for text in (repr(up), up._repr_html_(), repr(task), repr(failed)):
        assert "a\ufffd[2J\ufffd x" in text
        assert text.isprintable()
        assert len(text) < 2000


def test_many_names_are_not_all_listed():
    """The repr of a request with very many files has the first, and how many more there are."""
    names = [str(number) for number in range(1000)]
    assert listed(names) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 990 more"
    assert repr(upload(URL, [File(b"", filename=each) for each in names])).endswith("9 and 990 more>")
